//! A keyd that signs with a field of its own, which is no signature.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use daemon::channel::{Answered, Events, Service, serve};
use daemon::stop::{self, StopSender};
use ipc::signing::{SigningAnswer, SigningEdge, SigningRequest, Waiting};
use ipc::{Call, Refusal};
use sys::packet::PacketListener;

/// What was asked of it, and what it says.
#[derive(Default)]
pub(crate) struct Book {
    /// Domains that have a key.
    pub(crate) domains: HashSet<String>,
    /// Domain, fields and hash of each order.
    pub(crate) orders: Vec<(String, Vec<u8>, [u8; 32])>,
    /// What it says instead of signing.
    pub(crate) refusal: Option<Refusal>,
    /// Keys that wait.
    pub(crate) waiting: Vec<Waiting>,
    /// Those whose records were seen.
    pub(crate) seen: Vec<String>,
    pieces: HashMap<u64, Vec<u8>>,
}

/// Ends with its test.
pub(crate) struct Keyd {
    pub(crate) book: Arc<Mutex<Book>>,
    _stop: StopSender,
}

struct Clerk(Arc<Mutex<Book>>);

impl Keyd {
    pub(crate) fn start(socket: &Path) -> Self {
        let book = Arc::<Mutex<Book>>::default();
        let (sender, stop) = stop::channel();
        let listener = PacketListener::bind(socket).unwrap();
        tokio::spawn(serve(listener, Arc::new(Clerk(Arc::clone(&book))), stop));
        Self {
            book,
            _stop: sender,
        }
    }

    /// This domain has a key from now on.
    pub(crate) fn give_key(&self, domain: &str) {
        self.book.lock().unwrap().domains.insert(domain.into());
    }
}

impl Service<SigningEdge> for Clerk {
    type Peer = ();

    fn open(&self, _events: Events<SigningEdge>) {}

    async fn answer(
        &self,
        _peer: Arc<()>,
        call: Call<SigningRequest>,
    ) -> Result<Answered<SigningAnswer>, Refusal> {
        let mut book = self.0.lock().unwrap();
        let answer = match call.request {
            SigningRequest::Keep { number, piece } => {
                book.pieces.entry(number).or_default().extend(piece);
                SigningAnswer::Kept
            }
            SigningRequest::Sign(order) => {
                if let Some(refusal) = &book.refusal {
                    return Err(refusal.clone());
                }
                let mut fields = match order.kept {
                    Some(number) => book.pieces.remove(&number).unwrap(),
                    None => Vec::new(),
                };
                fields.extend(order.fields);
                let domain = order.domain;
                let signed = match book.domains.contains(&domain) {
                    true => format!("X-Signed: {domain}\r\n"),
                    false => String::new(),
                };
                book.orders.push((domain, fields, order.body_hash));
                SigningAnswer::Signed { fields: signed }
            }
            SigningRequest::ListWaiting { .. } => SigningAnswer::Waiting {
                keys: book.waiting.clone(),
                more: false,
            },
            SigningRequest::NoteSeen { name } => {
                book.waiting.retain(|key| key.name != name);
                book.seen.push(name);
                SigningAnswer::Noted
            }
        };
        Ok(Answered::plain(answer))
    }
}
