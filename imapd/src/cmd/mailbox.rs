//! CREATE, DELETE, RENAME, SUBSCRIBE and UNSUBSCRIBE.

use daemon::channel::CallError;
use imap::flag::Use;
use imap::response::Code;
use ipc::Refusal;
use ipc::session::SpecialUse;
use tracing::debug;

use super::select::Name;
use super::{Session, desk, list, out_of_place};
use crate::view::Fate;
use crate::words::Tagged;

pub(super) async fn create(
    session: &mut Session,
    tag: &str,
    Name { mailbox, asked }: Name,
    special_use: Option<Use>,
) -> Tagged {
    let Some(user) = &session.user else {
        return out_of_place(tag);
    };
    let wanted = special_use.map(to_ipc);
    match user.mail.create(mailbox.clone(), wanted).await {
        // RFC 8474 §4.1. If it is gone again, or cannot be asked for, it was made all the same.
        Ok(()) => {
            // RFC 9051 §6.3.4.
            if let Some(asked) = asked.filter(|_| session.dialect.rev2) {
                let names = (mailbox.as_str(), Some(asked.as_str()));
                let told = list::tell_one(user, &mut session.wire, session.dialect, names);
                if let Err(error) = told.await {
                    debug!(%error, "cannot tell the name of a new mailbox");
                }
            }
            if user.mail.off.has("OBJECTID") {
                return Tagged::ok(tag, "created");
            }
            match user.mail.status(mailbox).await {
                Ok(status) => Tagged::ok_with(tag, &Code::MailboxId(status.mailbox_id), "created"),
                Err(error) => {
                    debug!(%error, "cannot tell the id of a new mailbox");
                    Tagged::ok(tag, "created")
                }
            }
        }
        // RFC 6154 §3: USEATTR says that it is the use that cannot be had.
        Err(CallError::Refused(Refusal::NotPermitted)) if wanted.is_some() => Tagged::no(
            tag,
            Some(&Code::UseAttribute),
            "another mailbox has that use",
        ),
        Err(error) => Tagged::refused(tag, &error),
    }
}

pub(super) async fn delete(session: &mut Session, tag: &str, name: String) -> Tagged {
    let Some(user) = &session.user else {
        return out_of_place(tag);
    };
    let outcome = user.mail.delete(name).await;
    leave_if_gone(session);
    finish(tag, outcome, "deleted")
}

pub(super) async fn rename(session: &mut Session, tag: &str, from: String, to: String) -> Tagged {
    let Some(user) = &session.user else {
        return out_of_place(tag);
    };
    let outcome = user.mail.rename(from.clone(), to.clone()).await;
    // RFC 9051 §6.3.9.7. INBOX stays what it is: its messages have moved.
    if outcome.is_ok() && session.dialect.rev2 && from != "INBOX" {
        let names = (from.as_str(), to.as_str());
        let told = list::tell_renamed(user, &mut session.wire, session.dialect, names);
        if let Err(error) = told.await {
            debug!(%error, "cannot tell the new name of a mailbox");
        }
    }
    leave_if_gone(session);
    finish(tag, outcome, "renamed")
}

// Whoever deletes or renames the mailbox it has selected knows that it is selected no more.
fn leave_if_gone(session: &mut Session) {
    let Some(mut desk) = desk(session) else {
        return;
    };
    desk.note_events();
    if desk.view.fate() == Fate::Gone {
        session.view = None;
    }
}

pub(super) async fn subscribe(
    session: &Session,
    tag: &str,
    name: String,
    subscribed: bool,
) -> Tagged {
    let Some(user) = &session.user else {
        return out_of_place(tag);
    };
    let text = if subscribed {
        "subscribed"
    } else {
        "unsubscribed"
    };
    finish(tag, user.mail.subscribe(name, subscribed).await, text)
}

fn finish(tag: &str, outcome: Result<(), CallError>, text: &str) -> Tagged {
    match outcome {
        Ok(()) => Tagged::ok(tag, text),
        Err(error) => Tagged::refused(tag, &error),
    }
}

const fn to_ipc(special_use: Use) -> SpecialUse {
    match special_use {
        Use::Archive => SpecialUse::Archive,
        Use::Drafts => SpecialUse::Drafts,
        Use::Junk => SpecialUse::Junk,
        Use::Sent => SpecialUse::Sent,
        Use::Trash => SpecialUse::Trash,
    }
}
