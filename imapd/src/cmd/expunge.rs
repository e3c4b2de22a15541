//! EXPUNGE and UID EXPUNGE.

use imap::command::Numbering;
use imap::sequence::SequenceSet;
use ipc::session::RANGES_PER_FRAME;

use super::{Session, is_read_only, out_of_place};
use crate::words::Tagged;

// The messages that are gone are told with the answer: their events came before deliverd's.
pub(super) async fn expunge(session: &Session, tag: &str, set: Option<&SequenceSet>) -> Tagged {
    let (Some(user), Some(view)) = (&session.user, &session.view) else {
        return out_of_place(tag);
    };
    if view.read_only {
        return is_read_only(tag);
    }
    let Some(set) = set else {
        return match user.mail.expunge(None).await {
            Ok(()) => Tagged::ok(tag, "expunged"),
            Err(error) => Tagged::refused(tag, &error),
        };
    };
    let places = view.pick(Numbering::Uid, set).unwrap_or_default();
    for page in view.uid_ranges(&places).chunks(RANGES_PER_FRAME) {
        if let Err(error) = user.mail.expunge(Some(page.to_vec())).await {
            return Tagged::refused(tag, &error);
        }
    }
    Tagged::ok(tag, "expunged")
}
