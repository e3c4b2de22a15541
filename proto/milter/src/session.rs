//! The machine: one transaction with one filter, over a connection of its own.
//!
//! ```text
//! let (mut session, offer) = Session::begin(limit);
//! write the offer; read and feed until session.is_agreed()
//! for each event {
//!     match session.tell(event, macros)? {
//!         None        => it is not interested
//!         Some(bytes) => write them; while session.is_waiting() { read, session.feed(bytes)? }
//!     }
//!     session.take_verdict()
//! }
//! write session.leave()
//! ```

use alloc::string::String;
use alloc::vec::Vec;

use crate::command::{self, Event};
use crate::fault::Fault;
use crate::frame::{self, Reader};
use crate::reply::{Change, Reply, Verdict};
use crate::terms::{self, Terms, step};

/// Changes one filter may make to one message.
const MAX_CHANGES: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The answer to the offer is due.
    Offered,
    /// Nothing is due.
    Idle,
    /// An answer is due.
    Waiting,
    /// An answer is due, and changes may come before it.
    Ending,
    /// The filter has decided and hears no more.
    Done,
}

/// One transaction with one filter.
#[derive(Debug)]
pub struct Session {
    state: State,
    reader: Reader,
    terms: Terms,
    verdict: Verdict,
    changes: Vec<Change>,
    /// Octets that its changes may still have.
    room: usize,
    /// It has seen enough of the body.
    skips: bool,
    /// It was told of a sender, so there is something to give up.
    has_message: bool,
}

impl Session {
    /// A session with a filter whose changes may have `limit` octets, and what to say first.
    #[must_use]
    pub fn begin(limit: usize) -> (Self, Vec<u8>) {
        let session = Self {
            state: State::Offered,
            reader: Reader::default(),
            terms: Terms::default(),
            verdict: Verdict::Continue,
            changes: Vec::new(),
            room: limit,
            skips: false,
            has_message: false,
        };
        (session, terms::offer())
    }

    /// Whether the terms are known, and events can be told.
    #[must_use]
    pub fn is_agreed(&self) -> bool {
        self.state != State::Offered
    }

    /// Whether an answer is due.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Offered | State::Waiting | State::Ending)
    }

    /// Whether values of fields have the white space behind the colon, in what the filter writes, too.
    #[must_use]
    pub fn keeps_leading_space(&self) -> bool {
        self.terms.has(step::LEADING_SPACE)
    }

    /// What to write so that the filter learns of an event; `None` when it does not want to know. `macros` are names as
    /// Sendmail has them, `i` or `{auth_type}`, with their values.
    ///
    /// # Errors
    /// [`Fault::LongField`].
    pub fn tell(
        &mut self,
        event: Event<'_>,
        macros: &[(&str, String)],
    ) -> Result<Option<Vec<u8>>, Fault> {
        let (unheard, unanswered) = event.steps();
        let is_skipped = self.skips && matches!(event, Event::Body(_));
        let is_unheard = unheard != 0 && self.terms.has(unheard);
        if self.state != State::Idle || is_skipped || is_unheard {
            return Ok(None);
        }
        let mut out = Vec::new();
        event.write(&mut out, macros, &self.terms)?;
        self.has_message |= matches!(event, Event::Mail(..));
        self.verdict = Verdict::Continue;
        self.state = match event {
            Event::End => State::Ending,
            _ if unanswered != 0 && self.terms.has(unanswered) => State::Idle,
            _ => State::Waiting,
        };
        Ok(Some(out))
    }

    /// Takes what the filter sent.
    ///
    /// # Errors
    /// A [`Fault`]; the session is of no use after it.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.reader.push(bytes);
        while self.is_waiting() {
            let Some(packet) = self.reader.take()? else {
                return Ok(());
            };
            if self.state == State::Offered {
                self.terms = Terms::parse(&packet)?;
                self.state = State::Idle;
            } else {
                self.hear(Reply::parse(&packet)?, packet.kind)?;
            }
        }
        // Nobody asked.
        match self.reader.is_empty() {
            true => Ok(()),
            false => Err(Fault::Unexpected(
                self.reader.take()?.map_or(0, |packet| packet.kind),
            )),
        }
    }

    fn hear(&mut self, reply: Reply, kind: u8) -> Result<(), Fault> {
        match reply {
            Reply::Progress => {}
            Reply::Skip if self.terms.has(step::SKIP) && self.state == State::Waiting => {
                self.skips = true;
                self.state = State::Idle;
            }
            Reply::Skip => return Err(Fault::Unexpected(kind)),
            Reply::Change(change) if self.state == State::Ending => self.note(change, kind)?,
            Reply::Change(_) => return Err(Fault::Unexpected(kind)),
            Reply::Verdict(verdict) => {
                self.state = match verdict {
                    Verdict::Accept | Verdict::Discard => State::Done,
                    _ if self.state == State::Ending => State::Done,
                    _ => State::Idle,
                };
                self.verdict = verdict;
            }
        }
        Ok(())
    }

    fn note(&mut self, change: Change, kind: u8) -> Result<(), Fault> {
        if !self.terms.may(change.action()) {
            return Err(Fault::NotAgreed(kind));
        }
        let size = match &change {
            Change::AddHeader(field)
            | Change::InsertHeader(_, field)
            | Change::ChangeHeader(_, field) => field.name.len() + field.value.len(),
            Change::Sender(address)
            | Change::AddRecipient(address)
            | Change::DeleteRecipient(address) => address.len(),
            Change::Body(piece) => piece.len(),
        };
        self.room = self.room.checked_sub(size).ok_or(Fault::TooMuch)?;
        if self.changes.len() >= MAX_CHANGES {
            return Err(Fault::TooMuch);
        }
        self.changes.push(change);
        Ok(())
    }

    /// What the filter said to the last event; [`Verdict::Continue`] where it was silent.
    pub fn take_verdict(&mut self) -> Verdict {
        core::mem::replace(&mut self.verdict, Verdict::Continue)
    }

    /// What the filter wants changed; complete once it has answered [`Event::End`].
    pub fn take_changes(&mut self) -> Vec<Change> {
        core::mem::take(&mut self.changes)
    }

    /// What to say before hanging up.
    #[must_use]
    pub fn leave(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.has_message && self.state != State::Done {
            frame::put(&mut out, command::ABORT, &[]);
        }
        frame::put(&mut out, command::QUIT, &[]);
        out
    }
}
