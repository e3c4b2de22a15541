//! SELECT, EXAMINE, CLOSE and UNSELECT.

use daemon::channel::CallError;
use imap::response::{Code, Kind};
use imap::sync::{Awareness, Resync};
use ipc::Refusal;
use ipc::acl::Rights;

use super::{Desk, Session, list, notify, out_of_place};
use crate::view::View;
use crate::wire::Close;
use crate::words::Tagged;

/// Which mailbox is meant.
pub(super) struct Name {
    /// Its name as it is kept.
    pub(super) mailbox: String,
    /// As the client wrote it, if that is not the same.
    pub(super) asked: Option<String>,
}

// RFC 3501 §6.3.1: the old mailbox is left first, so a SELECT that fails leaves nothing selected.
pub(super) async fn select(
    session: &mut Session,
    tag: &str,
    Name { mailbox, asked }: Name,
    read_only: bool,
    resync: Option<Resync>,
) -> Result<Tagged, Close> {
    // RFC 7162 §3.2.5.
    if resync.is_some() && session.awareness < Awareness::QResync {
        session.count_mistake()?;
        return Ok(Tagged::bad(tag, "ENABLE QRESYNC first"));
    }
    if session.view.take().is_some() {
        // RFC 7162 §3.2.11.
        let text = "the mailbox before is closed";
        session.wire.say(Kind::Ok, Some(&Code::Closed), text);
    }
    let Some(user) = &session.user else {
        return Ok(out_of_place(tag));
    };
    // A mailbox of millions of messages that has lost its index takes minutes.
    let selecting = user.mail.select(mailbox.clone(), read_only);
    let off = user.mail.off;
    let selected = match off.has("INPROGRESS") {
        true => selecting.await,
        false => session.wire.wait_for(tag, selecting).await?,
    };
    let selection = match selected {
        Ok(selection) => selection,
        Err(error) => return Ok(Tagged::refused(tag, &error)),
    };
    let mut view = View::new(mailbox.clone(), selection);
    view.awareness = session.awareness;
    view.dialect = session.dialect;
    view.wanted = notify::wanted(session.wishes.as_deref());
    view.introduce(off, &mut session.wire.out);
    // RFC 9051 §6.3.2.
    if session.dialect.rev2 {
        let names = (mailbox.as_str(), asked.as_deref());
        let told = list::tell_one(user, &mut session.wire, session.dialect, names);
        if let Err(error) = told.await {
            return Ok(Tagged::refused(tag, &error));
        }
    }
    if let Some(resync) = &resync {
        let mut desk = Desk {
            wire: &mut session.wire,
            user,
            view: &mut view,
        };
        if let Err(error) = desk.resync(resync).await? {
            // The client has been told of a mailbox that it does not get.
            return Ok(Tagged::refused(tag, &error));
        }
    }
    let code = if view.read_only {
        Code::ReadOnly
    } else {
        Code::ReadWrite
    };
    session.view = Some(view);
    Ok(Tagged::ok_with(tag, &code, "selected"))
}

// RFC 3501 §6.4.2: CLOSE removes what is marked \Deleted and does not say so.
pub(super) async fn close(session: &mut Session, tag: &str) -> Result<Tagged, Close> {
    if let (Some(user), Some(view)) = (&session.user, &session.view)
        && !view.read_only
        && view.rights.has(Rights::EXPUNGE)
        && let Err(error) = user.mail.expunge(None).await
        // RFC 4314 §4: who may not expunge any more closes it all the same.
        && error != CallError::Refused(Refusal::NoRight)
    {
        return Ok(Tagged::refused(tag, &error));
    }
    unselect(session, tag).await
}

// RFC 3691 §2.
pub(super) async fn unselect(session: &mut Session, tag: &str) -> Result<Tagged, Close> {
    let Some(user) = &session.user else {
        return Ok(out_of_place(tag));
    };
    let outcome = user.mail.unselect().await;
    session.view = None;
    Ok(match outcome {
        Ok(()) => Tagged::ok(tag, "closed"),
        Err(error) => Tagged::refused(tag, &error),
    })
}
