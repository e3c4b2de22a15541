//! LIST and LSUB.

use std::collections::BTreeMap;

use imap::command::List;
use imap::flag::Use;
use imap::mailbox::{DELIMITER, matches};
use imap::write;
use ipc::session::{MailboxInfo, SpecialUse};

use super::{Session, out_of_place};
use crate::wire::Close;
use crate::words::Tagged;

pub(super) async fn list(session: &mut Session, tag: &str, list: &List) -> Result<Tagged, Close> {
    let Some(user) = &session.user else {
        return Ok(out_of_place(tag));
    };
    // RFC 3501 §6.3.8: an empty pattern asks for the delimiter.
    if list.pattern.is_empty() {
        write::list("LIST", &["\\Noselect"], "", &mut session.wire.out);
        return Ok(Tagged::ok(tag, "that is all"));
    }
    let mut mailboxes = match user.mail.list().await {
        Ok(mailboxes) => mailboxes,
        Err(error) => return Ok(Tagged::refused(tag, &error)),
    };
    mailboxes.retain(|mailbox| mailbox.exists);
    let pattern = format!("{}{}", list.reference, list.pattern);
    for (name, mailbox) in matching(&pattern, &mailboxes).await {
        let special_use = mailbox.and_then(|mailbox| mailbox.special_use);
        if special_use.is_some() || !list.special_use_only {
            write::list("LIST", &attributes(mailbox), name, &mut session.wire.out);
            session.wire.flush_if_full().await?;
        }
    }
    Ok(Tagged::ok(tag, "that is all"))
}

pub(super) async fn lsub(
    session: &mut Session,
    tag: &str,
    reference: &str,
    pattern: &str,
) -> Result<Tagged, Close> {
    let Some(user) = &session.user else {
        return Ok(out_of_place(tag));
    };
    let mut mailboxes = match user.mail.list().await {
        Ok(mailboxes) => mailboxes,
        Err(error) => return Ok(Tagged::refused(tag, &error)),
    };
    mailboxes.retain(|mailbox| mailbox.subscribed);
    let is_level = pattern.ends_with('%');
    let pattern = format!("{reference}{pattern}");
    for (name, mailbox) in matching(&pattern, &mailboxes).await {
        // RFC 3501 §6.3.9: a name that is not subscribed to is shown, as \Noselect, only where % stops above one that is.
        if mailbox.is_some() || is_level {
            let attributes: &[&str] = if mailbox.is_some_and(|mailbox| mailbox.exists) {
                &[]
            } else {
                &["\\Noselect"]
            };
            write::list("LSUB", attributes, name, &mut session.wire.out);
            session.wire.flush_if_full().await?;
        }
    }
    Ok(Tagged::ok(tag, "that is all"))
}

/// The names that match, ordered. A long pattern is work for a long name, so others get their turn between names.
async fn matching<'a>(
    pattern: &str,
    mailboxes: &'a [MailboxInfo],
) -> Vec<(&'a str, Option<&'a MailboxInfo>)> {
    let mut found = Vec::new();
    for (name, mailbox) in with_parents(mailboxes) {
        if matches(pattern, name) {
            found.push((name, mailbox));
        }
        tokio::task::yield_now().await;
    }
    found
}

/// All names, ordered, and those above them that are no mailboxes.
// RFC 3501 §6.3.8: such levels of the hierarchy are listed with \Noselect.
fn with_parents(mailboxes: &[MailboxInfo]) -> BTreeMap<&str, Option<&MailboxInfo>> {
    let mut all = BTreeMap::new();
    for mailbox in mailboxes {
        for (at, _) in mailbox.name.match_indices(DELIMITER) {
            if let Some(parent) = mailbox.name.get(..at) {
                all.entry(parent).or_insert(None);
            }
        }
        all.insert(mailbox.name.as_str(), Some(mailbox));
    }
    all
}

// RFC 3348 §3, CHILDREN; RFC 6154 §2, special uses.
fn attributes(mailbox: Option<&MailboxInfo>) -> Vec<&'static str> {
    let Some(mailbox) = mailbox else {
        return vec!["\\Noselect", "\\HasChildren"];
    };
    let mut attributes = vec![if mailbox.has_children {
        "\\HasChildren"
    } else {
        "\\HasNoChildren"
    }];
    attributes.extend(mailbox.special_use.map(|special_use| {
        match special_use {
            SpecialUse::Archive => Use::Archive,
            SpecialUse::Drafts => Use::Drafts,
            SpecialUse::Junk => Use::Junk,
            SpecialUse::Sent => Use::Sent,
            SpecialUse::Trash => Use::Trash,
        }
        .as_str()
    }));
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn others_get_their_turn_between_names() {
        let mailbox = |name: &str| MailboxInfo {
            name: name.into(),
            exists: true,
            subscribed: true,
            special_use: None,
            has_children: false,
        };
        let mailboxes = [mailbox("a/b"), mailbox("c")];
        let mut matching = pin!(matching("%", &mailboxes));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(matching.as_mut().poll(&mut context).is_pending());
        }
        let Poll::Ready(found) = matching.as_mut().poll(&mut context) else {
            panic!("still at work");
        };
        let found: Vec<_> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(found, ["a", "c"]);
    }
}
