//! `BDAT` (RFC 3030): a message in counted chunks, whose octets are never read as commands, whatever is wrong with them.

use alloc::boxed::Box;

use super::body::{Body, GRACE, Pace, Transfer};
use super::dialog::{CloseAfter, opened};
use super::{Answer, Pending, Question, Server, State, words};
use crate::reply::Reply;

/// What a `BDAT` says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Announced {
    size: u64,
    last: bool,
}

/// A chunk that is arriving.
#[derive(Debug)]
pub(super) struct Chunk {
    announced: Announced,
    /// Octets still to come.
    left: u64,
    fate: Fate,
}

/// What becomes of a chunk.
#[derive(Debug)]
enum Fate {
    /// It is a piece of this message.
    Taken(Box<Body>),
    /// Its octets have to come all the same before they can be refused with this.
    Dropped(Reply, Pace),
}

impl Chunk {
    /// The message it is a piece of.
    pub(super) fn body(&self) -> Option<&Body> {
        match &self.fate {
            Fate::Taken(body) => Some(body),
            Fate::Dropped(..) => None,
        }
    }
}

impl Server {
    pub(super) fn obey_bdat(&mut self, size: u64, last: bool) {
        let announced = Announced { size, last };
        let arrived = self
            .between_chunks
            .as_ref()
            .map_or(0, |body| body.arrived());
        // More than anybody would send in good faith is not even read.
        let most = self.config.max_message_size.saturating_add(GRACE);
        if arrived.saturating_add(size) > most {
            let reply = words::too_large(self.config.max_message_size);
            return self.say_goodbye(&reply);
        }
        let refusal = match (&self.transaction, self.between_chunks.take()) {
            (None, _) => "say MAIL first",
            (Some(envelope), _) if envelope.recipients.is_empty() => "no valid recipients",
            (Some(_), Some(body)) => return self.expect_chunk(announced, Fate::Taken(body)),
            (Some(envelope), None) => {
                let question = Question::Open(envelope.clone());
                return self.ask(question, Pending::OpenForChunk(announced));
            }
        };
        self.drop_chunk(announced, words::out_of_order(refusal));
    }

    pub(super) fn hear_opening_for_chunk(&mut self, announced: Announced, answer: Answer) {
        match opened(answer) {
            Ok((id, now)) => {
                let body = self.transaction.as_ref().map(|envelope| envelope.mail.body);
                let transfer = body.map_or(Transfer::Data, Transfer::Chunks);
                let body = self.begin_body(transfer, id, now);
                self.expect_chunk(announced, Fate::Taken(Box::new(body)));
            }
            Err(reply) => {
                self.transaction = None;
                self.drop_chunk(announced, reply);
            }
        }
    }

    // RFC 3030 §2: the octets of a refused chunk are read, too.
    fn drop_chunk(&mut self, announced: Announced, reply: Reply) {
        let pace = Pace::new(&self.config);
        self.expect_chunk(announced, Fate::Dropped(reply, pace));
    }

    fn expect_chunk(&mut self, announced: Announced, fate: Fate) {
        self.allow_window();
        let left = announced.size;
        self.state = State::ExpectChunk(Chunk {
            announced,
            left,
            fate,
        });
        if left == 0 {
            self.receive_chunk(&[]);
        }
    }

    pub(super) fn receive_chunk(&mut self, bytes: &[u8]) -> usize {
        let State::ExpectChunk(mut chunk) =
            core::mem::replace(&mut self.state, State::ExpectCommand)
        else {
            return 0;
        };
        let most = usize::try_from(chunk.left).unwrap_or(usize::MAX);
        let piece = bytes.get(..most).unwrap_or(bytes);
        chunk.left -= piece.len() as u64;
        let is_whole = chunk.left == 0;
        let is_last = chunk.announced.last && is_whole;
        match &mut chunk.fate {
            Fate::Dropped(_, pace) => {
                if pace.count(piece.len()) && !is_whole {
                    self.allow_window();
                }
            }
            Fate::Taken(body) => {
                self.take_piece(body, piece, is_last);
            }
        }
        match is_whole {
            true => self.end_chunk(chunk),
            false => self.state = State::ExpectChunk(chunk),
        }
        piece.len()
    }

    fn end_chunk(&mut self, chunk: Chunk) {
        let Announced { size, last } = chunk.announced;
        match chunk.fate {
            Fate::Dropped(reply, _) => self.say_idle(&reply),
            Fate::Taken(body) if last => self.end_body(*body, CloseAfter::No),
            Fate::Taken(body) if body.is_refused() => {
                // RFC 3030 §2: what still comes of this message is refused as out of order.
                self.transaction = None;
                if let Err(reply) = body.finish() {
                    self.say_idle(&reply);
                }
            }
            Fate::Taken(body) => {
                self.between_chunks = Some(body);
                match size {
                    0 => self.say_idle(&words::chunk_taken(size)),
                    _ => self.say(&words::chunk_taken(size)),
                }
            }
        }
    }
}
