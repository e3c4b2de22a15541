//! All relayd may ask of others: deliverd, to put a report into the INBOX of its addressee, what an account may send, and whose a domain
//! is.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use daemon::channel::{Answered, CallError, Client, Link};
use ipc::Context;
use ipc::budget::OwnBudgets;
use ipc::delivery::{
    DeliveryAnswer, DeliveryRequest, Destination, MessageHandle, RECIPIENTS_PER_FRAME,
};
use ipc::relay::{DeliveryEdge, RelayAnswer, RelayRequest};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tracing::{debug, warn};

/// How long an answer may take; a report that cannot be brought now is brought later.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a client waits to hear what it may send.
const BUDGET_PATIENCE: Duration = Duration::from_secs(5);
/// How long a message may take to be read by deliverd.
const WRITE_PATIENCE: Duration = Duration::from_mins(2);

/// Where mail for an address goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// The domain is one of ours; aliases are expanded.
    Ours {
        /// Users here.
        local: Vec<String>,
        /// Addresses elsewhere that an alias names.
        remote: Vec<String>,
    },
    /// The domain is not one of ours.
    Foreign,
}

/// The channel to deliverd. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ask(Client<DeliveryEdge>);

impl Ask {
    /// Will ask over this socket file; connects when something is to be asked.
    #[must_use]
    pub fn new(deliverd: PathBuf) -> Self {
        Self(Client::new(deliverd))
    }

    /// Where does mail of `size` octets for `address` go?
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn resolve(&self, address: &str, size: u64) -> Result<Route, CallError> {
        let request = DeliveryRequest::ResolveRecipient {
            address: address.to_owned(),
            size,
            // A report has one addressee: whether it fits then shows at the commit.
            transaction: 0,
        };
        let request = RelayRequest::Delivery(request);
        let asked = self.0.ask(Context::default(), PATIENCE, request).await?;
        match delivery(asked)?.answer {
            DeliveryAnswer::RecipientResolved { local, remote } => {
                Ok(Route::Ours { local, remote })
            }
            // Where we are only a backup, the domain's own servers are asked.
            DeliveryAnswer::RecipientForeign | DeliveryAnswer::RecipientRelayed => {
                Ok(Route::Foreign)
            }
            answer => Err(nonsense(&answer)),
        }
    }

    /// What may an account send, as far as the operator has said so?
    ///
    /// # Errors
    /// [`ipc::Refusal::NoSuchUser`]; otherwise a [`CallError`].
    pub async fn budgets(&self, account: &str) -> Result<OwnBudgets, CallError> {
        let request = RelayRequest::ShowBudgets {
            account: account.to_owned(),
        };
        let asked = self.0.ask(Context::default(), BUDGET_PATIENCE, request);
        match asked.await?.answer {
            RelayAnswer::Budgets(budgets) => Ok(budgets),
            answer @ (RelayAnswer::Delivery(_) | RelayAnswer::Tenant(_)) => Err(nonsense(&answer)),
        }
    }

    /// Which tenant does a domain belong to, if it does to one?
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn tenant(&self, domain: &str) -> Result<Option<String>, CallError> {
        let request = RelayRequest::ShowTenant {
            domain: domain.to_owned(),
        };
        let asked = self.0.ask(Context::default(), BUDGET_PATIENCE, request);
        match asked.await?.answer {
            RelayAnswer::Tenant(tenant) => Ok(tenant),
            answer @ (RelayAnswer::Delivery(_) | RelayAnswer::Budgets(_)) => Err(nonsense(&answer)),
        }
    }

    /// Puts a message of `size` octets into the INBOX of local users; durable when this returns `Ok`.
    ///
    /// # Errors
    /// [`CallError`]; unless deliverd died while it answered, nothing was delivered.
    pub async fn deliver(
        &self,
        recipients: &[String],
        message: impl AsyncRead + Unpin,
        size: u64,
    ) -> Result<(), CallError> {
        // The handle of a message is good on its own connection only.
        let link = self.0.pinned(PATIENCE).await?;
        let call = |request| call(&link, request);
        let Answered { answer, fds } =
            call(DeliveryRequest::OpenMessage { transaction: 0 }).await?;
        let DeliveryAnswer::MessageOpened(handle) = answer else {
            return Err(nonsense(&answer));
        };
        let filled = fill(&link, handle, fds, recipients, message).await;
        if filled.is_err() {
            // deliverd forgets what is never committed, but only after a while, and only so many may be open at once.
            if let Err(error) = call(DeliveryRequest::AbortMessage { message: handle }).await {
                debug!(%error, "a report that failed cannot be aborted");
            }
        }
        filled?;
        let request = DeliveryRequest::CommitMessage {
            message: handle,
            size,
            head: Vec::new(),
        };
        match call(request).await?.answer {
            DeliveryAnswer::MessageDelivered => Ok(()),
            answer => Err(nonsense(&answer)),
        }
    }
}

/// Gives an opened message its recipients and its bytes.
async fn fill(
    link: &Link<DeliveryEdge>,
    handle: MessageHandle,
    fds: Vec<OwnedFd>,
    recipients: &[String],
    mut message: impl AsyncRead + Unpin,
) -> Result<(), CallError> {
    let mut stream = only_stream(fds)?;
    for page in recipients.chunks(RECIPIENTS_PER_FRAME) {
        let request = DeliveryRequest::AddRecipients {
            message: handle,
            recipients: page.to_vec(),
            destination: Destination::Inbox,
        };
        match call(link, request).await?.answer {
            DeliveryAnswer::RecipientsAdded => {}
            answer => return Err(nonsense(&answer)),
        }
    }
    let writing = async {
        tokio::io::copy(&mut message, &mut stream).await?;
        stream.shutdown().await
    };
    if !matches!(timeout(WRITE_PATIENCE, writing).await, Ok(Ok(()))) {
        warn!("the stream of a message broke");
        return Err(CallError::Unavailable);
    }
    Ok(())
}

async fn call(
    link: &Link<DeliveryEdge>,
    request: DeliveryRequest,
) -> Result<Answered<DeliveryAnswer>, CallError> {
    let request = RelayRequest::Delivery(request);
    delivery(link.call(Context::default(), PATIENCE, request).await?)
}

fn delivery(answered: Answered<RelayAnswer>) -> Result<Answered<DeliveryAnswer>, CallError> {
    match answered.answer {
        RelayAnswer::Delivery(answer) => Ok(Answered::with(answer, answered.fds)),
        answer @ (RelayAnswer::Budgets(_) | RelayAnswer::Tenant(_)) => Err(nonsense(&answer)),
    }
}

fn only_stream(fds: Vec<OwnedFd>) -> Result<UnixStream, CallError> {
    let Ok([fd]) = <[OwnedFd; 1]>::try_from(fds) else {
        warn!("bug: deliverd opened a message without its one stream");
        return Err(CallError::Unavailable);
    };
    let stream = std::os::unix::net::UnixStream::from(fd);
    let watched = stream
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(stream));
    watched.map_err(|error| {
        warn!(%error, "cannot use the stream of a message");
        CallError::Unavailable
    })
}

fn nonsense(answer: &impl std::fmt::Debug) -> CallError {
    warn!(?answer, "bug: an answer to another question");
    CallError::Unavailable
}
