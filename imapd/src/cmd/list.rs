//! LIST and LSUB.

use std::collections::{BTreeMap, BTreeSet};

use daemon::channel::CallError;
use imap::capability::Off;
use imap::command::{List, Selection, StatusItem};
use imap::dialect::Dialect;
use imap::flag::Use;
use imap::mailbox::{DELIMITER, matches};
use imap::sync::Awareness;
use imap::write::{self, Listed};
use ipc::session::{MailboxInfo, SpecialUse};
use tracing::debug;

use super::acl::of_ipc;
use super::{Session, metadata, out_of_place, status};
use crate::session::User;
use crate::wire::{Close, Wire};
use crate::words::Tagged;

pub(super) async fn list(session: &mut Session, tag: &str, list: &List) -> Result<Tagged, Close> {
    if list.told.status.contains(&StatusItem::HighestModSeq) {
        session.learn(Awareness::CondStore);
    }
    let Some(user) = &session.user else {
        return Ok(out_of_place(tag));
    };
    // RFC 3501 §6.3.8: an empty pattern asks for the delimiter.
    if matches!(list.patterns.as_slice(), [pattern] if pattern.is_empty()) {
        let listed = Listed {
            attributes: &["\\Noselect"],
            ..Listed::default()
        };
        write::list("LIST", &listed, session.dialect, &mut session.wire.out);
        return Ok(Tagged::ok(tag, "that is all"));
    }
    let mut mailboxes = match user.mail.list().await {
        Ok(mailboxes) => mailboxes,
        Err(error) => return Ok(Tagged::refused(tag, &error)),
    };
    mailboxes.retain(|mailbox| mailbox.exists || list.selection.subscribed);
    let patterns = list.patterns.iter();
    let patterns: Vec<String> = patterns
        .map(|pattern| format!("{}{pattern}", list.reference))
        .collect();
    let found = matching(&patterns, &mailboxes).await;
    let above = match list.selection.recursive {
        true => above_selected(&mailboxes, &found, list.selection),
        false => BTreeSet::new(),
    };
    let tells = Tells {
        missing: list.is_extended || session.dialect.rev2,
        subscribed: list.selection.subscribed || list.told.subscribed || session.dialect.rev2,
    };
    for (name, mailbox) in found {
        let below: &[&str] = match (above.contains(name), list.selection.subscribed) {
            (false, _) => &[],
            (true, true) => &["SUBSCRIBED"],
            (true, false) => &["SPECIAL-USE"],
        };
        if !is_selected(list.selection, mailbox) && below.is_empty() {
            continue;
        }
        let listed = Listed {
            attributes: &attributes(mailbox, tells, user.mail.off),
            name,
            below,
            old_name: None,
        };
        write::list("LIST", &listed, session.dialect, &mut session.wire.out);
        // RFC 5819 §2: what cannot be selected has none; what is gone meanwhile has none any more.
        let is_there = mailbox.is_some_and(|mailbox| mailbox.exists);
        if is_there && !list.told.status.is_empty() {
            let limit = session.house.append_limit;
            match status::look(user, limit, name, &list.told.status).await {
                Ok(found) => {
                    let out = &mut session.wire.out;
                    status::tell(name, &list.told.status, &found, session.dialect, out);
                }
                Err(CallError::Refused(refusal)) => debug!(%refusal, "no status in a listing"),
                Err(error) => return Ok(Tagged::refused(tag, &error)),
            }
        }
        // RFC 8440 §3.
        if list.told.rights
            && let Some(mailbox) = mailbox.filter(|mailbox| mailbox.exists)
        {
            let out = &mut session.wire.out;
            imap::acl::write_my_rights(name, of_ipc(mailbox.rights), session.dialect, out);
        }
        if is_there && !list.told.metadata.is_empty() {
            let wanted = &list.told.metadata;
            match user.mail.annotations(Some(name.to_owned())).await {
                Ok(known) => {
                    let out = &mut session.wire.out;
                    metadata::tell_listed(name, wanted, &known, session.dialect, out);
                }
                Err(CallError::Refused(refusal)) => debug!(%refusal, "no metadata in a listing"),
                Err(error) => return Ok(Tagged::refused(tag, &error)),
            }
        }
        session.wire.flush_if_full().await?;
    }
    Ok(Tagged::ok(tag, "that is all"))
}

/// Whether LIST is about a name. Without a wish it is about levels that are no mailboxes, too.
fn is_selected(selection: Selection, mailbox: Option<&MailboxInfo>) -> bool {
    let Some(mailbox) = mailbox else {
        return !selection.subscribed && !selection.special_use;
    };
    (mailbox.subscribed || !selection.subscribed)
        && (mailbox.special_use.is_some() || !selection.special_use)
}

/// The names above mailboxes that are selected and were not found.
// RFC 5258 §3.5.
fn above_selected<'a>(
    mailboxes: &'a [MailboxInfo],
    found: &[(&str, Option<&MailboxInfo>)],
    selection: Selection,
) -> BTreeSet<&'a str> {
    let found: BTreeSet<&str> = found.iter().map(|(name, _)| *name).collect();
    let hidden = mailboxes.iter().filter(|mailbox| {
        is_selected(selection, Some(*mailbox)) && !found.contains(mailbox.name.as_str())
    });
    hidden
        .flat_map(|mailbox| levels_above(&mailbox.name))
        .collect()
}

fn levels_above(name: &str) -> impl Iterator<Item = &str> {
    let ends = name.match_indices(DELIMITER);
    ends.filter_map(|(at, _)| name.get(..at))
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
    let patterns = [format!("{reference}{pattern}")];
    for (name, mailbox) in matching(&patterns, &mailboxes).await {
        // RFC 3501 §6.3.9: a name that is not subscribed to is shown, as \Noselect, only where % stops above one that is.
        if mailbox.is_some() || is_level {
            let attributes: &[&str] = if mailbox.is_some_and(|mailbox| mailbox.exists) {
                &[]
            } else {
                &["\\Noselect"]
            };
            let listed = Listed {
                attributes,
                name,
                ..Listed::default()
            };
            write::list("LSUB", &listed, session.dialect, &mut session.wire.out);
            session.wire.flush_if_full().await?;
        }
    }
    Ok(Tagged::ok(tag, "that is all"))
}

/// The names that match, ordered. A long pattern is work for a long name, so others get their turn between names.
async fn matching<'a>(
    patterns: &[String],
    mailboxes: &'a [MailboxInfo],
) -> Vec<(&'a str, Option<&'a MailboxInfo>)> {
    let mut found = Vec::new();
    for (name, mailbox) in with_parents(mailboxes) {
        if patterns.iter().any(|pattern| matches(pattern, name)) {
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
        for parent in levels_above(&mailbox.name) {
            all.entry(parent).or_insert(None);
        }
        all.insert(mailbox.name.as_str(), Some(mailbox));
    }
    all
}

/// Tells of one mailbox, and under which other name the client knows it.
// RFC 9051 §6.3.2, §6.3.4, §6.3.9.7.
pub(super) async fn tell_one(
    user: &User,
    wire: &mut Wire,
    dialect: Dialect,
    (name, old_name): (&str, Option<&str>),
) -> Result<(), CallError> {
    // It may be gone again.
    let mailbox = user.mail.describe(name.to_owned()).await?;
    tell_described(user, wire, dialect, &mailbox, old_name);
    Ok(())
}

fn tell_described(
    user: &User,
    wire: &mut Wire,
    dialect: Dialect,
    mailbox: &MailboxInfo,
    old_name: Option<&str>,
) {
    let tells = Tells {
        missing: true,
        subscribed: true,
    };
    let listed = Listed {
        attributes: &attributes(Some(mailbox), tells, user.mail.off),
        name: &mailbox.name,
        old_name,
        ..Listed::default()
    };
    write::list("LIST", &listed, dialect, &mut wire.out);
}

/// Tells of a mailbox that has another name now, and of those below it, which were renamed with it.
// RFC 9051 §6.3.9.7.
pub(super) async fn tell_renamed(
    user: &User,
    wire: &mut Wire,
    dialect: Dialect,
    (from, to): (&str, &str),
) -> Result<(), CallError> {
    tell_one(user, wire, dialect, (to, Some(from))).await?;
    let below = user.mail.list_below(to).await?;
    for mailbox in below.iter().filter(|mailbox| mailbox.exists) {
        let rest = mailbox.name.get(to.len()..).unwrap_or_default();
        let old_name = format!("{from}{rest}");
        tell_described(user, wire, dialect, mailbox, Some(&old_name));
    }
    Ok(())
}

/// Which attributes are told that plain clients of RFC 3501 do not hear.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tells {
    /// `\NonExistent` of names that are no mailboxes.
    pub(super) missing: bool,
    /// `\Subscribed`
    pub(super) subscribed: bool,
}

// RFC 3348 §3, CHILDREN; RFC 6154 §2, special uses; RFC 5258 §3, \NonExistent implies \Noselect.
pub(super) fn attributes(
    mailbox: Option<&MailboxInfo>,
    tells: Tells,
    off: Off,
) -> Vec<&'static str> {
    let missing = match tells.missing {
        true => "\\NonExistent",
        false => "\\Noselect",
    };
    let Some(mailbox) = mailbox else {
        return match off.has("CHILDREN") {
            true => vec![missing],
            false => vec![missing, "\\HasChildren"],
        };
    };
    let mut attributes = Vec::new();
    if !mailbox.exists {
        attributes.push(missing);
    }
    if !off.has("CHILDREN") {
        attributes.push(if mailbox.has_children {
            "\\HasChildren"
        } else {
            "\\HasNoChildren"
        });
    }
    // RFC 5258 §3.1: whoever asks for subscriptions hears which they are.
    if mailbox.subscribed && tells.subscribed {
        attributes.push("\\Subscribed");
    }
    let special_use = mailbox.special_use.filter(|_| !off.has("SPECIAL-USE"));
    attributes.extend(special_use.map(|special_use| {
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
            rights: ipc::acl::Rights::ALL,
        };
        let mailboxes = [mailbox("a/b"), mailbox("c")];
        let patterns = ["%".to_owned()];
        let mut matching = pin!(matching(&patterns, &mailboxes));
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
