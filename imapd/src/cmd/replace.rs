//! REPLACE and UID REPLACE (RFC 8508): what is not APPEND about them.

use imap::append::{Head, Replaced};
use imap::command::Numbering;
use imap::response::Code;
use imap::sequence::SequenceSet;
use imap::sync::Awareness;

use super::{Session, desk, is_read_only, out_of_place};
use crate::view::Expunges;
use crate::wire::Close;
use crate::words::Tagged;

/// The UID of the message that is to be replaced, if one is. Looked for before anything of the new one is read.
pub(super) async fn pick(session: &mut Session, head: &Head) -> Result<Option<u32>, Tagged> {
    let Some(Replaced { by, number }) = head.replaces else {
        return Ok(None);
    };
    let tag = head.tag.as_str();
    let Some(mut desk) = desk(session) else {
        return Err(out_of_place(tag));
    };
    if desk.view.read_only {
        return Err(is_read_only(tag));
    }
    let set = SequenceSet::Named(vec![(number, number)]);
    let picked = match desk.pick(by, &set).await {
        Ok(places) => desk.exact_uid_ranges(&places).await.map_err(Into::into),
        Err(unpicked) => Err(unpicked),
    };
    let uids = picked.map_err(|unpicked| unpicked.tagged(tag))?;
    let uid = uids.as_slice().first().map(|(uid, _)| *uid);
    // RFC 8508 §3: NO where the message cannot be removed.
    let missing = || {
        let text = match by {
            Numbering::Sequence => "the message is gone",
            Numbering::Uid => "there is no message with this UID",
        };
        Tagged::no(tag, Some(&Code::NonExistent), text)
    };
    uid.map(Some).ok_or_else(missing)
}

/// Tells that the new message is there, then that the old one is gone, and what else there is to be told.
pub(super) async fn conclude(session: &mut Session, tag: &str) -> Result<Tagged, Close> {
    session.note_events()?;
    // RFC 7162 §3.2.7: who knows QRESYNC hears both with the answer, and up to where it knows everything.
    if session.awareness < Awareness::QResync {
        session.tell(Expunges::Held).await?;
    }
    Ok(match desk(session) {
        Some(desk) => desk.done(tag, "replaced").await,
        None => out_of_place(tag),
    })
}
