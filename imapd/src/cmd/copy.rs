//! COPY and MOVE.

use imap::command::Numbering;
use imap::response::{Code, Kind};
use imap::sequence::{Ranges, SequenceSet};
use ipc::session::RANGES_PER_FRAME;

use super::limit::{self, Cut};
use super::{Desk, Session, desk, is_read_only, out_of_place};
use crate::ask::Copied;
use crate::pages::Unpicked;
use crate::wire::Close;
use crate::words::Tagged;

/// Half of what deliverd answers with: some of the messages may be gone meanwhile, and the rest be in more ranges.
const RANGES_AT_ONCE: usize = RANGES_PER_FRAME / 2;

// RFC 3501 §6.4.7: all or nothing. (deviation) A set of more than some hundred separate ranges is copied in pages, and a page
// that fails leaves those before it copied.
pub(super) async fn copy(
    session: &mut Session,
    tag: &str,
    by: Numbering,
    set: &SequenceSet,
    to: String,
) -> Result<Tagged, Close> {
    let Some(mut desk) = desk(session) else {
        return Ok(out_of_place(tag));
    };
    let most = desk.user.limits.saving;
    let uids = match uids(&mut desk, by, set, most).await {
        // RFC 9738 §3.1: all or nothing.
        Ok((_, Some(cut))) => return Ok(cut.refused(tag)),
        Ok((uids, None)) => uids,
        Err(unpicked) => return Ok(unpicked.tagged(tag)),
    };
    let mut all = Copied::default();
    for page in uids.as_slice().chunks(RANGES_AT_ONCE) {
        let copying = desk.user.mail.copy(page.to_vec(), to.clone());
        match desk.wire.wait_for(tag, copying).await? {
            Ok(copied) => join(&mut all, copied),
            Err(error) => return Ok(Tagged::refused_target(tag, &error)),
        }
    }
    if all.source.is_empty() {
        return Ok(Tagged::ok(tag, "there was nothing to copy"));
    }
    if desk.user.mail.off.has("UIDPLUS") {
        return Ok(Tagged::ok(tag, "copied"));
    }
    Ok(Tagged::ok_with(tag, &code(&all), "copied"))
}

// RFC 6851 §3.3: COPYUID comes in an untagged OK, before the messages are said to be gone.
pub(super) async fn move_to(
    session: &mut Session,
    tag: &str,
    by: Numbering,
    set: &SequenceSet,
    to: String,
) -> Result<Tagged, Close> {
    let Some(mut desk) = desk(session) else {
        return Ok(out_of_place(tag));
    };
    if desk.view.read_only {
        return Ok(is_read_only(tag));
    }
    let most = desk.user.limits.any;
    let (uids, cut) = match uids(&mut desk, by, set, most).await {
        Ok(uids) => uids,
        Err(unpicked) => return Ok(unpicked.tagged(tag)),
    };
    let mut is_any = false;
    for page in uids.as_slice().chunks(RANGES_AT_ONCE) {
        let moving = desk.user.mail.move_to(page.to_vec(), to.clone());
        match desk.wire.wait_for(tag, moving).await? {
            Ok(moved) if moved.source.is_empty() => {}
            Ok(moved) => {
                is_any = true;
                if !desk.user.mail.off.has("UIDPLUS") {
                    desk.wire.say(Kind::Ok, Some(&code(&moved)), "moved");
                }
                desk.note_events();
            }
            Err(error) => return Ok(Tagged::refused_target(tag, &error)),
        }
    }
    let tagged = match is_any {
        true => desk.done(tag, "moved").await,
        false => Tagged::ok(tag, "there was nothing to move"),
    };
    Ok(limit::told(cut, tagged, desk.wire))
}

async fn uids(
    desk: &mut Desk<'_>,
    by: Numbering,
    set: &SequenceSet,
    most: Option<u32>,
) -> Result<(Ranges, Option<Cut>), Unpicked> {
    let mut places = desk.pick(by, set).await?;
    let cut = desk.cut(&mut places, most).await?;
    Ok((desk.exact_uid_ranges(&places).await?, cut))
}

const fn code(copied: &Copied) -> Code<'_> {
    Code::CopyUid {
        uid_validity: copied.uid_validity,
        source: copied.source.as_slice(),
        target: copied.target.as_slice(),
    }
}

fn join(all: &mut Copied, more: Copied) {
    all.uid_validity = more.uid_validity;
    all.source.extend(more.source);
    all.target.extend(more.target);
}
