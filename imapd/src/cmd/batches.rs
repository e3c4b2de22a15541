//! UIDBATCHES (RFC 10022): ranges of UIDs with so many messages each, for clients that go through a mailbox in pieces.

use std::ops::Range;

use daemon::channel::CallError;
use imap::response::Code;
use imap::write;

use super::{Desk, Session, desk, out_of_place};
use crate::wire::Close;
use crate::words::Tagged;

/// Messages a batch has at least: UIDs of single messages are not to be had this way.
const MIN_SIZE: u32 = 500;
/// Batches that are told at once: five million messages in the smallest ones.
const MAX_BATCHES: usize = 10_000;

pub(super) async fn uid_batches(
    session: &mut Session,
    tag: &str,
    size: u32,
    batches: Option<(u32, u32)>,
) -> Result<Tagged, Close> {
    if size < MIN_SIZE {
        let text = format!("a batch has {MIN_SIZE} messages at least");
        return Ok(Tagged::no(tag, Some(&Code::TooFew), &text));
    }
    let (first, last) = batches.unwrap_or((1, u32::MAX));
    if first > last {
        session.count_mistake()?;
        let text = "batches are counted upwards";
        return Ok(Tagged::bad_with(tag, &Code::ClientBug, text));
    }
    let Some(mut desk) = desk(session) else {
        return Ok(out_of_place(tag));
    };
    // What is got by it is to be used in one command (RFC 9738).
    let most = desk.user.limits.any.unwrap_or(u32::MAX);
    let size = size.min(most) as usize;
    let all = desk.view.len().div_ceil(size);
    let Some(wanted) = wanted(all, first, last) else {
        let text = format!("at most {MAX_BATCHES} batches at once");
        return Ok(Tagged::no(tag, Some(&Code::TooMany), &text));
    };
    Ok(match desk.batches(size, wanted).await {
        Ok(batches) => {
            write::uid_batches(tag, &batches, &mut desk.wire.out);
            Tagged::ok(tag, "batched")
        }
        Err(error) => Tagged::refused(tag, &error),
    })
}

/// Which of all batches are meant; `None` where those are too many.
fn wanted(all: usize, first: u32, last: u32) -> Option<Range<usize>> {
    let wanted = (first as usize).saturating_sub(1).min(all)..(last as usize).min(all);
    (wanted.len() <= MAX_BATCHES).then_some(wanted)
}

impl Desk<'_> {
    /// The largest and the smallest UID of some batches of so many messages, counted from the end. They leave no UID between them out,
    /// and the last one goes down to 1.
    async fn batches(
        &mut self,
        size: usize,
        wanted: Range<usize>,
    ) -> Result<Vec<(u32, u32)>, CallError> {
        let count = self.view.len();
        let mut batches: Vec<(u32, u32)> = Vec::with_capacity(wanted.len());
        for number in wanted {
            let behind = count.saturating_sub(number * size);
            let high = match (batches.last(), number) {
                (Some((_, low)), _) => low.saturating_sub(1),
                (None, 0) => self.last_uid().await?,
                (None, _) => self.uid(behind).await?.saturating_sub(1),
            };
            let low = match behind.saturating_sub(size) {
                0 => 1,
                lowest => self.uid(lowest).await?,
            };
            batches.push((high, low));
        }
        Ok(batches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_batches_are_told_than_a_line_may_have() {
        assert_eq!(wanted(10_000, 1, u32::MAX), Some(0..10_000));
        assert_eq!(wanted(10_001, 1, u32::MAX), None);
        assert_eq!(wanted(30_000, 10_001, 20_000), Some(10_000..20_000));
        assert_eq!(wanted(30_000, 10_001, 20_001), None);
        assert_eq!(wanted(3, 2, u32::MAX), Some(1..3));
        assert_eq!(wanted(3, 4, 5), Some(3..3));
    }
}
