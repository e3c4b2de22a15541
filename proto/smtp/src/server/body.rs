//! The body of one message on its way in: unstuffed, measured, and completed where a client may
//! leave something out.

use alloc::string::String;
use alloc::vec::Vec;

use super::blind::BlindCopies;
use super::header::HeaderWatch;
use super::{Config, Role, Summary, words};
use crate::command::BodyType;
use crate::data::Receiver;
use crate::date::Timestamp;
use crate::reply::Reply;

/// How many octets may arrive for nothing before we hang up on the client, beyond the size limit.
pub(super) const GRACE: u64 = 1024 * 1024;

/// How the octets of a message come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transfer {
    /// Behind `DATA`, up to a dot.
    Data,
    /// Behind `BDAT`, counted.
    Chunks(BodyType),
}

/// Whether a client is fast enough to deserve more time.
#[derive(Debug)]
pub(super) struct Pace {
    arrived: u64,
    /// So many octets renew the deadline.
    renewal: u64,
}

impl Pace {
    pub(super) fn new(config: &Config) -> Self {
        let renewal = config
            .min_data_rate
            .saturating_mul(config.data_window.as_secs());
        Self {
            arrived: 0,
            renewal: renewal.max(1),
        }
    }

    /// Counts what arrived; true when that renews the deadline.
    pub(super) fn count(&mut self, octets: usize) -> bool {
        let before = self.arrived / self.renewal;
        self.arrived += octets as u64;
        self.arrived / self.renewal > before
    }
}

#[derive(Debug)]
pub(super) struct Body {
    receiver: Receiver,
    header: HeaderWatch,
    /// Takes blind copies out where a client may leave them in.
    blind: Option<BlindCopies>,
    /// Added before the end of the header where the client left it out.
    date: Option<String>,
    message_id: Option<String>,
    /// Invariant: at most `limit` while there is no refusal.
    size: u64,
    limit: u64,
    pace: Pace,
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
    pub(super) fn new(config: &Config, transfer: Transfer, id: &str, now: Timestamp) -> Self {
        let (max_line, stray) = (config.max_text_line, config.stray_line_ends);
        // RFC 6409 §8: a submission server may add Date and Message-ID; a relay may not.
        let completes = config.role == Role::Submission;
        let message_id = alloc::format!("Message-ID: <{id}@{}>\r\n", config.hostname);
        Self {
            receiver: match transfer {
                Transfer::Data => Receiver::new(max_line, stray),
                Transfer::Chunks(body) => {
                    Receiver::of_chunks(max_line, stray, body == BodyType::Binary)
                }
            },
            header: HeaderWatch::new(config.header),
            blind: completes.then(BlindCopies::new),
            date: completes.then(|| alloc::format!("Date: {now}\r\n")),
            message_id: completes.then_some(message_id),
            size: 0,
            limit: config.max_message_size,
            pace: Pace::new(config),
            refusal: None,
        }
    }

    /// Takes a piece; `is_last` when it is the end of the last chunk.
    pub(super) fn feed(&mut self, input: &[u8], is_last: bool) -> Fed {
        let mut out = Vec::with_capacity(input.len());
        let (used, ended) = self.receiver.feed(input, &mut out);
        if is_last {
            self.receiver.finish(&mut out);
        }
        let ended = ended || is_last;
        let renew = self.pace.count(used);
        if self.refusal.is_none() {
            let fits = self.limit - self.size;
            self.size += out.len() as u64;
            // What does not fit is not looked at, so the first of several faults is always the
            // same, however the bytes were split.
            out.truncate(usize::try_from(fits).unwrap_or(usize::MAX));
            if let Some(blind) = &mut self.blind {
                out = blind.feed(&out);
                if ended {
                    blind.finish(&mut out);
                }
            }
            let end = self.header.feed(&out);
            self.complete(&mut out, end, ended);
            self.refusal = self.judge();
        }
        if self.refusal.is_some() {
            out.clear();
        }
        let too_much = self.limit.saturating_add(GRACE);
        let overrun = self.refusal.is_some() && self.pace.arrived > too_much;
        Fed {
            used,
            out,
            progress: match (ended, overrun) {
                (true, _) => Progress::Ended,
                (false, true) => Progress::Overrun,
                (false, false) => Progress::More,
            },
            renew,
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

    /// Octets that came of it, taken or not.
    pub(super) fn arrived(&self) -> u64 {
        self.pace.arrived
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// What the body turned out to be, or why it is refused.
    pub(super) fn finish(self) -> Result<Summary, Reply> {
        match self.refusal {
            Some(reply) => Err(reply),
            None => {
                let (author, agents) = self.header.writers();
                Ok(Summary {
                    author,
                    agents,
                    size: self.size,
                    eight_bit: self.receiver.is_eight_bit(),
                })
            }
        }
    }
}
