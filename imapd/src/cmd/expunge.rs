//! EXPUNGE and UID EXPUNGE.

use imap::command::Numbering;
use imap::sequence::SequenceSet;
use ipc::session::RANGES_PER_FRAME;

use super::limit::{self, Cut};
use super::{Desk, Session, desk, is_read_only, out_of_place};
use crate::pages::Unpicked;
use crate::words::Tagged;

// The messages that are gone are told with the answer: their events came before deliverd's.
pub(super) async fn expunge(session: &mut Session, tag: &str, set: Option<&SequenceSet>) -> Tagged {
    let Some(mut desk) = desk(session) else {
        return out_of_place(tag);
    };
    if desk.view.read_only {
        return is_read_only(tag);
    }
    let Some(set) = set else {
        return match desk.user.mail.expunge(None).await {
            Ok(()) => desk.done(tag, "expunged").await,
            Err(error) => Tagged::refused(tag, &error),
        };
    };
    let (uids, cut) = match uids(&mut desk, set).await {
        Ok(found) => found,
        Err(unpicked) => return unpicked.tagged(tag),
    };
    for page in uids.chunks(RANGES_PER_FRAME) {
        if let Err(error) = desk.user.mail.expunge(Some(page.to_vec())).await {
            return Tagged::refused(tag, &error);
        }
    }
    let tagged = desk.done(tag, "expunged").await;
    limit::told(cut, tagged, desk.wire)
}

// RFC 9738 §3.1: UID EXPUNGE has a limit, EXPUNGE and CLOSE have none. What is not marked \Deleted counts, too: it was looked at.
async fn uids(
    desk: &mut Desk<'_>,
    set: &SequenceSet,
) -> Result<(Vec<(u32, u32)>, Option<Cut>), Unpicked> {
    let mut places = desk.pick(Numbering::Uid, set).await?;
    let cut = desk.cut(&mut places, desk.user.limits.any).await?;
    Ok((desk.uid_ranges(&places).await?, cut))
}
