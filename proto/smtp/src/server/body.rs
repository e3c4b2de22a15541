//! The body of one message on its way in: unstuffed, measured, and completed where a client may
//! leave something out.

use alloc::string::String;
use alloc::vec::Vec;

use super::header::HeaderWatch;
use super::{Config, Role, Summary, words};
use crate::data::Receiver;
use crate::date::Timestamp;
use crate::reply::Reply;

/// How many octets may arrive for nothing before we hang up on the client, beyond the size limit.
const GRACE: u64 = 1024 * 1024;
/// The deadline is renewed whenever so many octets have arrived.
const RENEWAL: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Body {
    receiver: Receiver,
    header: HeaderWatch,
    /// Added before the end of the header where the client left it out.
    date: Option<String>,
    message_id: Option<String>,
    /// Invariant: at most `limit` while there is no refusal.
    size: u64,
    limit: u64,
    arrived: u64,
    refusal: Option<Reply>,
}

/// What came of feeding a piece.
pub(super) struct Fed {
    /// Octets used.
    pub(super) used: usize,
    /// What is to be given out.
    pub(super) out: Vec<u8>,
    /// How it stands.
    pub(super) progress: Progress,
    /// Enough arrived to give the client more time.
    pub(super) renew: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// More is to come.
    More,
    /// The message ended.
    Ended,
    /// The client sends on and on although the message was refused.
    Overrun,
}

impl Body {
    pub(super) fn new(config: &Config, id: &str, now: Timestamp) -> Self {
        // RFC 6409 §8: a submission server may add Date and Message-ID; a relay may not.
        let completes = config.role == Role::Submission;
        let message_id = alloc::format!("Message-ID: <{id}@{}>\r\n", config.hostname);
        Self {
            receiver: Receiver::new(config.max_text_line),
            header: HeaderWatch::new(),
            date: completes.then(|| alloc::format!("Date: {now}\r\n")),
            message_id: completes.then_some(message_id),
            size: 0,
            limit: config.max_message_size,
            arrived: 0,
            refusal: None,
        }
    }

    pub(super) fn feed(&mut self, input: &[u8]) -> Fed {
        let mut out = Vec::with_capacity(input.len());
        let (used, ended) = self.receiver.feed(input, &mut out);
        let before = self.arrived / RENEWAL;
        self.arrived += used as u64;
        if self.refusal.is_none() {
            let fits = self.limit - self.size;
            self.size += out.len() as u64;
            // What does not fit is not looked at, so the first of several faults is always the
            // same, however the bytes were split.
            out.truncate(usize::try_from(fits).unwrap_or(usize::MAX));
            let end = self.header.feed(&out);
            self.complete(&mut out, end, ended);
            self.refusal = self.judge();
        }
        if self.refusal.is_some() {
            out.clear();
        }
        let overrun = self.refusal.is_some() && self.arrived > self.limit.saturating_add(GRACE);
        Fed {
            used,
            out,
            progress: match (ended, overrun) {
                (true, _) => Progress::Ended,
                (false, true) => Progress::Overrun,
                (false, false) => Progress::More,
            },
            renew: self.arrived / RENEWAL > before,
        }
    }

    // Puts the missing fields at the end of the header.
    fn complete(&mut self, out: &mut Vec<u8>, header_end: Option<usize>, ended: bool) {
        let at = match header_end {
            Some(at) => at,
            // The message is nothing but a header.
            None if ended && self.header.is_open() => out.len(),
            None => return,
        };
        let date = self.date.take().filter(|_| !self.header.has_date());
        let message_id = self
            .message_id
            .take()
            .filter(|_| !self.header.has_message_id());
        let fields = [date, message_id].into_iter().flatten().collect::<String>();
        out.splice(at..at, fields.into_bytes());
    }

    fn judge(&self) -> Option<Reply> {
        if let Some(fault) = self.header.fault() {
            return Some(words::bad_header(fault));
        }
        if self.size > self.limit {
            return Some(words::too_large(self.limit));
        }
        // The receiver gives nothing out after a fault, so this one came after all of the above.
        self.receiver.fault().map(words::bad_data)
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// What the body turned out to be, or why it is refused.
    pub(super) fn finish(self) -> Result<Summary, Reply> {
        match self.refusal {
            Some(reply) => Err(reply),
            None => Ok(Summary {
                author: self.header.author(),
                size: self.size,
                eight_bit: self.receiver.is_eight_bit(),
            }),
        }
    }
}
