//! `rmailctl explain`: what would become of mail, told by the rules that are in force.
//!
//! A session is played with a client of our own ([`play`]): the same machine, the same [`crate::desk`], the same session code as for
//! everybody. What differs is whom the desk asks: an [`crate::ask::Ask`] that rehearses puts its questions in a form that changes
//! nothing for anybody, notes what it finds ([`notes`]), and hands messages to nobody ([`rehearsal`]); and the pass of the client is an
//! onlooker's, which counts nowhere ([`crate::guard`]). Filters, which may learn from what they see, are named, and asked only if that is
//! wanted.

pub(crate) mod facts;
mod findings;
mod keys;
mod letter;
pub(crate) mod notes;
mod play;
pub(crate) mod rehearsal;
mod tale;

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use daemon::channel::{Answered, Events, Service};
use daemon::{Stop, session_id};
use ipc::explain::{
    Case, ExplainAnswer, ExplainEdge, ExplainRequest, MAX_PARAMETERS, MAX_RECIPIENTS,
};
use ipc::{Call, Refusal};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::port::Port;

/// How many are explained at once: each costs as much as a session.
const AT_ONCE: usize = 2;
/// How long one may take in all.
const PATIENCE: Duration = Duration::from_mins(5);
/// Octets of an address or a name (RFC 5321 §4.5.3.1, with room for UTF-8).
const MAX_NAME: usize = 320;

/// A listener that mail may come to.
#[derive(Debug)]
pub struct Listener {
    /// The name under which its socket is handed over.
    pub name: &'static str,
    /// What it does with connections.
    pub port: Arc<Port>,
    /// The key that switches it on.
    pub switch: &'static str,
    /// It is on.
    pub is_on: bool,
}

/// Answers the operator.
#[derive(Debug)]
pub struct Explainer {
    listeners: Vec<Arc<Listener>>,
    room: Arc<Semaphore>,
    patience: Duration,
    stop: Stop,
}

impl Explainer {
    /// For mail to these listeners.
    #[must_use]
    pub fn new(listeners: Vec<Listener>, stop: Stop) -> Self {
        Self {
            listeners: listeners.into_iter().map(Arc::new).collect(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
            patience: PATIENCE,
            stop,
        }
    }

    /// The same, but one may take only so long.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    fn begin(&self, case: Case) -> Result<OwnedFd, Refusal> {
        check(&case)?;
        let client = case.client.parse::<IpAddr>();
        let client = client
            .map_err(|_| Refusal::Invalid(format!("\"{}\" is no IP address", case.client)))?
            .to_canonical();
        let listener = self.listeners.iter().find(|one| one.name == case.listener);
        let listener = listener.ok_or_else(|| {
            let names: Vec<_> = self.listeners.iter().map(|one| one.name).collect();
            Refusal::Invalid(format!(
                "there is no listener \"{}\", but {}",
                case.listener,
                names.join(", ")
            ))
        })?;
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            return Err(Refusal::Busy);
        };
        let (ours, theirs) = pair().map_err(|error| {
            warn!(%error, "cannot make a stream for an explanation");
            Refusal::Busy
        })?;
        let (listener, stop) = (Arc::clone(listener), self.stop.clone());
        let patience = self.patience;
        tokio::spawn(async move {
            let _permit = permit;
            let session = session_id::next();
            info!(listener = listener.name, %client, "explaining to the operator");
            let played = play::explain(&listener, &case, client, session, ours, &stop);
            match timeout(patience, played).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "an explanation ended early"),
                Err(_) => warn!("an explanation took too long and was given up"),
            }
        });
        Ok(theirs)
    }
}

impl Service<ExplainEdge> for Explainer {
    type Peer = ();

    fn open(&self, _events: Events<ExplainEdge>) {}

    async fn answer(
        &self,
        _peer: Arc<()>,
        call: Call<ExplainRequest>,
    ) -> Result<Answered<ExplainAnswer>, Refusal> {
        match call.request {
            ExplainRequest::Explain(case) => {
                let stream = self.begin(case)?;
                Ok(Answered::with(
                    ExplainAnswer::ExplanationBegun,
                    vec![stream],
                ))
            }
        }
    }
}

// What is said becomes commands: there must be no line end in it.
fn check(case: &Case) -> Result<(), Refusal> {
    if case.recipients.is_empty() || case.recipients.len() > MAX_RECIPIENTS {
        return Err(Refusal::Invalid(format!(
            "name 1 to {MAX_RECIPIENTS} recipients"
        )));
    }
    let named = [&case.hello, &case.sender].into_iter();
    let named = named.chain(&case.recipients).chain(&case.user);
    let named = named.map(|text| (text, MAX_NAME));
    let parameters = [&case.mail_parameters, &case.rcpt_parameters];
    for (text, most) in named.chain(parameters.map(|text| (text, MAX_PARAMETERS))) {
        if text.len() > most || text.chars().any(char::is_control) {
            let text = format!("{text:?} is longer than {most} octets or has control characters");
            return Err(Refusal::Invalid(notes::shown(&text)));
        }
    }
    Ok(())
}

fn pair() -> std::io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}
