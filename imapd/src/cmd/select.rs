//! SELECT, EXAMINE, CLOSE and UNSELECT.

use imap::response::Code;

use super::{Session, out_of_place};
use crate::view::View;
use crate::wire::Close;
use crate::words::Tagged;

// RFC 3501 §6.3.1: the old mailbox is left first, so a SELECT that fails leaves nothing selected.
pub(super) async fn select(
    session: &mut Session,
    tag: &str,
    mailbox: String,
    read_only: bool,
) -> Result<Tagged, Close> {
    session.view = None;
    let Some(user) = &session.user else {
        return Ok(out_of_place(tag));
    };
    // A mailbox of millions of messages that has lost its index takes minutes.
    let selecting = user.mail.select(mailbox.clone(), read_only);
    let selection = match session.wire.wait_for(tag, selecting).await? {
        Ok(selection) => selection,
        Err(error) => return Ok(Tagged::refused(tag, &error)),
    };
    let view = View::new(mailbox, selection);
    view.introduce(&mut session.wire.out);
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
        && let Err(error) = user.mail.expunge(None).await
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
