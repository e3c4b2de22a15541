//! Reads NOTIFY (RFC 5465 §8).

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::command::FetchItem;
use crate::notify::{Events, Filter, Group, MAX_GROUPS, MAX_NAMES, Notify};

use super::cursor::{Cursor, Result};
use super::{fetch, is_atom_char, mailbox};

/// Events of one group, read.
#[derive(Default)]
struct Wishes {
    events: Events,
    new: bool,
    expunge: bool,
    /// FlagChange, or AnnotationChange that is not supported.
    changes: bool,
    /// Others than those of messages.
    others: bool,
    unsupported: bool,
}

// RFC 5465 §8: notify = "NOTIFY" SP ("NONE" / "SET" ["" SP "STATUS"] SP event-group *(SP event-group)).
pub(super) fn notify(cursor: &mut Cursor<'_>) -> Result<Notify> {
    let start = cursor.clone();
    match cursor.word("expected SET or NONE")?.as_str() {
        "NONE" => return Ok(Notify::Nothing),
        "SET" => cursor.space()?,
        _ => return start.fail("expected SET or NONE"),
    }
    let status = cursor.accept_word("STATUS ");
    let (mut groups, mut unsupported, mut names) = (Vec::new(), false, 0);
    loop {
        let start = cursor.clone();
        cursor.expect(b'(', "expected (mailboxes events)")?;
        let filter = filter(cursor)?;
        cursor.space()?;
        let wishes = events(cursor)?;
        cursor.expect(b')', "expected )")?;
        let is_selected = matches!(filter, Filter::Selected | Filter::SelectedDelayed);
        check(&wishes, is_selected, &start)?;
        names += match &filter {
            Filter::Subtree(some) | Filter::Mailboxes(some) => some.len(),
            Filter::Selected
            | Filter::SelectedDelayed
            | Filter::Inboxes
            | Filter::Personal
            | Filter::Subscribed => 0,
        };
        unsupported |= wishes.unsupported;
        groups.push(Group {
            filter,
            events: wishes.events,
        });
        if groups.len() > MAX_GROUPS || names > MAX_NAMES {
            return start.fail("that are too many groups or mailboxes");
        }
        if !cursor.accept(b' ') {
            break;
        }
    }
    let selected = groups
        .iter()
        .filter(|group| matches!(group.filter, Filter::Selected | Filter::SelectedDelayed));
    // §6.1, §6.2.
    if selected.count() > 1 {
        return cursor.fail("SELECTED and SELECTED-DELAYED are given once");
    }
    Ok(match unsupported {
        true => Notify::Unsupported,
        false => Notify::Set { status, groups },
    })
}

fn check(wishes: &Wishes, is_selected: bool, start: &Cursor<'_>) -> Result<()> {
    // §5.
    if wishes.new != wishes.expunge || wishes.changes && !wishes.new {
        return start
            .fail("MessageNew and MessageExpunge go together, and FlagChange goes with them");
    }
    // §8: "Only <message-event>s are allowed", and attributes only there.
    if is_selected && wishes.others {
        return start.fail("of the selected mailbox there are events of messages only");
    }
    if !is_selected && !wishes.events.fetch.is_empty() {
        return start.fail("only messages of the selected mailbox can be shown");
    }
    Ok(())
}

fn filter(cursor: &mut Cursor<'_>) -> Result<Filter> {
    let start = cursor.clone();
    Ok(match cursor.word("expected which mailboxes")?.as_str() {
        "SELECTED" => Filter::Selected,
        "SELECTED-DELAYED" => Filter::SelectedDelayed,
        "INBOXES" => Filter::Inboxes,
        "PERSONAL" => Filter::Personal,
        "SUBSCRIBED" => Filter::Subscribed,
        "SUBTREE" => Filter::Subtree(names(cursor)?),
        "MAILBOXES" => Filter::Mailboxes(names(cursor)?),
        _ => return start.fail(
            "mailboxes are selected, selected-delayed, inboxes, personal, subscribed, subtree … and mailboxes …",
        ),
    })
}

// §8: one-or-more-mailbox = mailbox / "(" mailbox *(SP mailbox) ")".
pub(super) fn names(cursor: &mut Cursor<'_>) -> Result<Vec<String>> {
    cursor.space()?;
    if cursor.peek() != Some(b'(') {
        return Ok(vec![mailbox(cursor)?]);
    }
    let names = cursor.list(mailbox)?;
    if names.is_empty() {
        return cursor.fail("expected a mailbox name");
    }
    Ok(names)
}

// §8: events = "(" event *(SP event) ")" / "NONE".
fn events(cursor: &mut Cursor<'_>) -> Result<Wishes> {
    let mut wishes = Wishes::default();
    if cursor.accept_word("NONE") {
        return Ok(wishes);
    }
    let events = cursor.list(|cursor| event(cursor, &mut wishes))?;
    if events.is_empty() {
        return cursor.fail("expected an event");
    }
    Ok(wishes)
}

fn event(cursor: &mut Cursor<'_>, wishes: &mut Wishes) -> Result<()> {
    let name = cursor.take_while(is_atom_char).to_ascii_uppercase();
    match name.as_slice() {
        b"" => return cursor.fail("expected an event"),
        b"MESSAGENEW" => {
            wishes.new = true;
            let mut ahead = cursor.clone();
            if ahead.accept(b' ') && ahead.peek() == Some(b'(') {
                *cursor = ahead;
                wishes.events.fetch = fetch::items(cursor)?;
                wishes.events.fetch.iter_mut().for_each(leave_unseen);
            }
        }
        b"MESSAGEEXPUNGE" => wishes.expunge = true,
        b"FLAGCHANGE" => {
            wishes.changes = true;
            wishes.events.flags = true;
        }
        b"MAILBOXNAME" => {
            wishes.others = true;
            wishes.events.names = true;
        }
        b"SUBSCRIPTIONCHANGE" => {
            wishes.others = true;
            wishes.events.subscriptions = true;
        }
        b"MAILBOXMETADATACHANGE" => {
            wishes.others = true;
            wishes.events.annotations = true;
        }
        b"SERVERMETADATACHANGE" => {
            wishes.others = true;
            wishes.events.server_annotations = true;
        }
        b"ANNOTATIONCHANGE" => {
            wishes.changes = true;
            wishes.unsupported = true;
        }
        // §8, event-ext: any atom.
        _ => wishes.unsupported = true,
    }
    wishes.events.messages = wishes.new && wishes.expunge;
    Ok(())
}

/// Nobody has read what the server shows by itself.
fn leave_unseen(item: &mut FetchItem) {
    if let FetchItem::Section { peek, .. } | FetchItem::Binary { peek, .. } = item {
        *peek = true;
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::command::Command;
    use crate::parse;

    fn read(arguments: &str) -> core::result::Result<Notify, &'static str> {
        let line = format!("a NOTIFY {arguments}");
        match parse::request(line.as_bytes()) {
            Ok(request) => match request.command {
                Command::Notify(notify) => Ok(notify),
                other => Err(other.name()),
            },
            Err(bad) => Err(bad.error.reason),
        }
    }

    #[test]
    fn groups_are_read_in_order() {
        assert_eq!(read("none"), Ok(Notify::Nothing));
        let text = "set status (selected (MessageNew (uid body[header.fields (from to subject)] binary[1]) MessageExpunge)) (subtree (Lists \"a b\") (MessageNew MessageExpunge flagchange MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange)) (mailboxes misc NONE)";
        let Ok(Notify::Set { status, groups }) = read(text) else {
            panic!("{:?}", read(text))
        };
        assert!(status);
        let [selected, lists, misc] = groups.as_slice() else {
            panic!("{groups:?}")
        };
        assert_eq!(selected.filter, Filter::Selected);
        assert!(matches!(
            selected.events.fetch.as_slice(),
            [
                FetchItem::Uid,
                FetchItem::Section { peek: true, .. },
                FetchItem::Binary { peek: true, .. }
            ]
        ));
        let names = vec!["Lists".into(), "a b".into()];
        assert_eq!(lists.filter, Filter::Subtree(names));
        let all = Events {
            messages: true,
            fetch: Vec::new(),
            flags: true,
            names: true,
            subscriptions: true,
            annotations: true,
            server_annotations: true,
        };
        assert_eq!(lists.events, all);
        assert_eq!(misc.filter, Filter::Mailboxes(vec!["misc".into()]));
        assert_eq!(misc.events, Events::default());
    }

    #[test]
    fn events_that_are_not_supported_are_told_from_those_that_make_no_sense() {
        for unsupported in [
            "SET (selected (MessageNew MessageExpunge AnnotationChange))",
            "SET (personal (MessageNew MessageExpunge X-NEW))",
        ] {
            assert_eq!(read(unsupported), Ok(Notify::Unsupported), "{unsupported}");
        }
        for wrong in [
            "SET",
            "SET STATUS",
            "SET ()",
            "SET (personal)",
            "SET (personal ())",
            "SET (personal MessageNew)",
            "SET (personal (MessageNew))",
            "SET (personal (MessageExpunge))",
            "SET (personal (FlagChange))",
            "SET (personal (AnnotationChange))",
            "SET (personal (MessageNew (UID) MessageExpunge))",
            "SET (selected (MailboxName))",
            "SET (selected (MessageNew () MessageExpunge))",
            "SET (selected NONE) (selected-delayed NONE)",
            "SET (subtree () NONE)",
            "SET (subtree NONE)",
            "SET (others NONE)",
            "SET (personal NONE) ",
            "STATUS",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let many = "(mailboxes a NONE) ".repeat(MAX_GROUPS + 1);
        assert!(read(&format!("SET {}", many.trim_end())).is_err());
        let many = "a ".repeat(MAX_NAMES + 1);
        assert!(read(&format!("SET (mailboxes ({}) NONE)", many.trim_end())).is_err());
        let many = "a ".repeat(MAX_NAMES);
        assert!(read(&format!("SET (mailboxes ({}) NONE)", many.trim_end())).is_ok());
    }
}
