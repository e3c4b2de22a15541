//! Has keyd sign what goes out (DKIM). The keys are there; what of a message is signed is found here.
//!
//! A message is signed when it is about to go out and not when it is queued: a key that was retired meanwhile signs nothing, and mail is
//! taken while keyd is away. While keyd does not answer, mail that is to be signed waits, for without its signature it would be taken
//! for forged.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::channel::{CallError, Client};
use dkim::{Extract, Signable};
use ipc::signing::{
    MAX_FIELDS, MAX_PIECE, Order, SigningAnswer, SigningEdge, SigningRequest, Waiting,
};
use ipc::{Context, Refusal};
use tokio::sync::OnceCell;
use tracing::{debug, warn};

use crate::attempt::Finding;
use crate::clock;
use crate::desk::Desk;
use crate::letter::Head;
use crate::queue::{Message, QueueId};

/// How long keyd may take; it is started again in a moment when it has died.
const PATIENCE: Duration = Duration::from_secs(10);
const CHUNK: usize = 64 * 1024;
/// Signatures kept for the other destinations of their messages.
const MAX_KEPT: usize = 256;
/// Seconds for which one is.
const KEPT: i64 = 600;

/// The channel to keyd.
#[derive(Debug)]
pub struct Signer {
    keyd: Client<SigningEdge>,
    numbers: AtomicU64,
    recent: Mutex<VecDeque<Recent>>,
}

/// The signature of a message, being made or made.
#[derive(Debug, Clone)]
struct Recent {
    id: QueueId,
    since: i64,
    head: Arc<OnceCell<Head>>,
}

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
enum NotSigned {
    #[error("{0}")]
    Disk(#[from] io::Error),
    #[error("keyd: {0}")]
    Call(#[from] CallError),
}

impl Signer {
    /// Will ask over this socket file; connects when something is to be signed.
    #[must_use]
    pub fn new(keyd: PathBuf) -> Self {
        Self {
            keyd: Client::new(keyd),
            numbers: AtomicU64::new(0),
            recent: Mutex::default(),
        }
    }

    /// What is to be put on top of a message: a signature by each key of each domain it is to be signed for, or nothing.
    ///
    /// # Errors
    /// A finding for its recipients: it cannot be signed now.
    pub async fn sign(&self, desk: &Desk, id: QueueId, message: &Message) -> Result<Head, Finding> {
        if message.header.sign.is_empty() {
            return Ok(Head::default());
        }
        let head = self.recent(id);
        let signed = head.get_or_try_init(|| self.make(desk, id, message));
        signed.await.cloned().map_err(|error| {
            warn!(%error, "a message that is to be signed waits");
            let text = format!("the message cannot be signed now ({error})");
            Finding::ours("4.3.0", text)
        })
    }

    /// Where the signature of a message is kept while its round lasts, so that each destination gets the same one.
    fn recent(&self, id: QueueId) -> Arc<OnceCell<Head>> {
        let now = clock::now();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|one| (one.since..one.since + KEPT).contains(&now));
        if let Some(known) = recent.iter().find(|one| one.id == id) {
            return Arc::clone(&known.head);
        }
        if recent.len() >= MAX_KEPT {
            recent.pop_front();
        }
        let made = Recent {
            id,
            since: now,
            head: Arc::default(),
        };
        recent.push_back(made.clone());
        made.head
    }

    async fn make(&self, desk: &Desk, id: QueueId, message: &Message) -> Result<Head, NotSigned> {
        let read = desk.with_queue(move |queue| extract(&queue.body(id)?));
        let Some(signable) = read.await? else {
            return Ok(Head::default());
        };
        let mut head = String::new();
        for domain in &message.header.sign {
            match self.ask(domain, &signable).await {
                Ok(fields) => head.push_str(&fields),
                // It will be the same the next time.
                Err(CallError::Refused(refusal)) if !refusal.is_temporary() => {
                    warn!(domain, %refusal, "keyd does not sign a message: it goes out without a signature of this domain");
                }
                Err(error) => return Err(error.into()),
            }
        }
        debug!(octets = head.len(), "signed");
        Ok(head.into_bytes().into())
    }

    async fn ask(&self, domain: &str, signable: &Signable) -> Result<String, CallError> {
        if signable.fields.len() > MAX_FIELDS {
            return Err(Refusal::MessageTooLarge.into());
        }
        let mut pieces = signable.fields.chunks(MAX_PIECE).collect::<Vec<_>>();
        let last = pieces.pop().unwrap_or_default();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let order = Order {
            domain: domain.to_owned(),
            kept: (!pieces.is_empty()).then_some(number),
            fields: last.to_vec(),
            body_hash: signable.body_hash,
        };
        let answered = if pieces.is_empty() {
            let request = SigningRequest::Sign(order);
            self.keyd.ask(Context::default(), PATIENCE, request).await?
        } else {
            // The pieces are kept for their own connection only.
            let link = self.keyd.pinned(PATIENCE).await?;
            for piece in pieces {
                let piece = piece.to_vec();
                let request = SigningRequest::Keep { number, piece };
                let kept = link.call(Context::default(), PATIENCE, request).await?;
                match kept.answer {
                    SigningAnswer::Kept => {}
                    answer => return Err(nonsense(&answer)),
                }
            }
            let request = SigningRequest::Sign(order);
            link.call(Context::default(), PATIENCE, request).await?
        };
        match answered.answer {
            SigningAnswer::Signed { fields } => Ok(fields),
            answer => Err(nonsense(&answer)),
        }
    }

    /// All keys whose records are to be looked for.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn waiting(&self) -> Result<Vec<Waiting>, CallError> {
        let mut all: Vec<Waiting> = Vec::new();
        loop {
            let after = all.last().map(|last| last.name.clone());
            let request = SigningRequest::ListWaiting { after };
            let asked = self.keyd.ask(Context::default(), PATIENCE, request);
            match asked.await?.answer {
                SigningAnswer::Waiting { keys, more } => {
                    let is_end = !more || keys.is_empty();
                    all.extend(keys);
                    if is_end {
                        return Ok(all);
                    }
                }
                answer => return Err(nonsense(&answer)),
            }
        }
    }

    /// The record of this name is in DNS.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn note_seen(&self, name: String) -> Result<(), CallError> {
        let request = SigningRequest::NoteSeen { name };
        let asked = self.keyd.ask(Context::default(), PATIENCE, request);
        match asked.await?.answer {
            SigningAnswer::Noted => Ok(()),
            answer => Err(nonsense(&answer)),
        }
    }
}

/// What of a message is signed; `None` if nothing can be.
fn extract(mut body: &File) -> io::Result<Option<Signable>> {
    let (mut extract, mut piece) = (Extract::default(), vec![0; CHUNK]);
    loop {
        match body.read(&mut piece)? {
            0 => break,
            count => extract.feed(piece.get(..count).unwrap_or_default()),
        }
    }
    let found = extract.end();
    let found =
        found.inspect_err(|error| warn!(%error, "a message cannot be signed: it goes out without"));
    Ok(found.ok())
}

fn nonsense(answer: &SigningAnswer) -> CallError {
    warn!(?answer, "bug: an answer to another question");
    CallError::Unavailable
}
