//! A message on its way into deliverd's store or relayd's queue.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use daemon::channel::{Answered, CallError, Link};
use ipc::Context;
use ipc::delivery::{
    DeliveryAnswer, DeliveryRequest, Destination, MessageHandle, RECIPIENTS_PER_FRAME,
};
use ipc::queue::{self, Quarantine, QueueAnswer, QueueEdge, QueueRequest, Recipient};
use ipc::smtp::{SmtpAnswer, SmtpEdge, SmtpRequest};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::ask::{NONSENSE, Problem};
use crate::explain::rehearsal::Rehearsal;

/// How long recipients may take to be noted.
const NOTE_PATIENCE: Duration = Duration::from_secs(20);
/// How long a piece of the body may take to be read by the other daemon.
const WRITE_PATIENCE: Duration = Duration::from_mins(1);
/// How long a message may take to become durable. RFC 5321 §4.5.3.2.6 lets clients wait ten minutes
/// for our reply, so it must come well before.
pub(crate) const COMMIT_PATIENCE: Duration = Duration::from_mins(3);
const ABORT_PATIENCE: Duration = Duration::from_secs(10);

/// Who keeps the message, and the one connection that knows its handle: after a restart the other
/// daemon may give the same handle to another session.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Deliverd(Arc<Link<SmtpEdge>>),
    Relayd(Arc<Link<QueueEdge>>),
    /// It is only found out what would become of it.
    Nobody(Arc<Rehearsal>),
}

/// An open message. Dropped without a commit, it tells the other daemon to forget it.
#[derive(Debug)]
pub struct Outlet {
    target: Target,
    handle: MessageHandle,
    context: Context,
    /// `None` to nobody.
    stream: Option<UnixStream>,
    /// Octets of the message so far, whether they could be carried over or not.
    size: u64,
    broken: bool,
    committed: bool,
}

impl Outlet {
    pub(crate) fn new(
        target: Target,
        handle: MessageHandle,
        fds: Vec<OwnedFd>,
        context: Context,
    ) -> Result<Self, Problem> {
        let mut fds = fds.into_iter();
        let (Some(fd), None) = (fds.next(), fds.next()) else {
            return Err(NONSENSE);
        };
        let stream = watch(fd).map_err(|error| {
            warn!(%error, "cannot use the stream of a message");
            Problem::Unavailable("the stream of the message cannot be used")
        })?;
        let (size, broken, committed) = (0, false, false);
        Ok(Self {
            target,
            handle,
            context,
            stream: Some(stream),
            size,
            broken,
            committed,
        })
    }

    /// A message that is not carried over, and of which nobody has to be told.
    pub(crate) fn to_nobody(rehearsal: Rehearsal, context: Context) -> Self {
        Self {
            target: Target::Nobody(Arc::new(rehearsal)),
            handle: MessageHandle(0),
            context,
            stream: None,
            size: 0,
            broken: false,
            committed: true,
        }
    }

    /// Names users here who find it in that mailbox, to deliverd.
    ///
    /// # Errors
    /// A [`Problem`].
    pub async fn add_recipients(
        &self,
        recipients: &[String],
        destination: Destination,
    ) -> Result<(), Problem> {
        let link = match &self.target {
            Target::Deliverd(link) => link,
            Target::Nobody(rehearsal) => {
                rehearsal.keep(recipients, destination);
                return Ok(());
            }
            Target::Relayd(_) => return Err(NONSENSE),
        };
        for page in recipients.chunks(RECIPIENTS_PER_FRAME) {
            let request = DeliveryRequest::AddRecipients {
                message: self.handle,
                recipients: page.to_vec(),
                destination,
            };
            match tell(link, self.context, NOTE_PATIENCE, request).await? {
                DeliveryAnswer::RecipientsAdded => {}
                _ => return Err(NONSENSE),
            }
        }
        Ok(())
    }

    /// Names recipients to relayd.
    ///
    /// # Errors
    /// A [`Problem`].
    pub async fn add_queue_recipients(&self, recipients: &[Recipient]) -> Result<(), Problem> {
        let link = match &self.target {
            Target::Relayd(link) => link,
            Target::Nobody(rehearsal) => {
                rehearsal.add(recipients);
                return Ok(());
            }
            Target::Deliverd(_) => return Err(NONSENSE),
        };
        for page in recipients.chunks(queue::RECIPIENTS_PER_FRAME) {
            let request = QueueRequest::AddRecipients {
                message: self.handle,
                recipients: page.to_vec(),
            };
            match link
                .call(self.context, NOTE_PATIENCE, request)
                .await?
                .answer
            {
                QueueAnswer::RecipientsAdded => {}
                _ => return Err(NONSENSE),
            }
        }
        Ok(())
    }

    /// Carries a piece of the body over; waits while the other daemon is busy. A failure shows at
    /// the commit.
    pub async fn write(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        let Some(stream) = self.stream.as_mut().filter(|_| !self.broken) else {
            return;
        };
        match timeout(WRITE_PATIENCE, stream.write_all(bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.break_down(&error),
            Err(_) => self.break_down(&io::ErrorKind::TimedOut.into()),
        }
    }

    fn break_down(&mut self, error: &io::Error) {
        warn!(%error, size = self.size, "the stream of a message broke");
        self.broken = true;
    }

    /// Returns when the message is durable, with `head` in front of it.
    ///
    /// # Errors
    /// A [`Problem`]; the message is not there then, unless the other daemon died while it answered.
    pub async fn commit(self, head: Vec<u8>) -> Result<(), Problem> {
        self.commit_to(head, None).await
    }

    /// The same; relayd keeps it in quarantine if that is said.
    pub(crate) async fn commit_to(
        mut self,
        head: Vec<u8>,
        quarantine: Option<Quarantine>,
    ) -> Result<(), Problem> {
        let ended = match &mut self.stream {
            Some(stream) => stream.shutdown().await,
            None => Ok(()),
        };
        if let Err(error) = ended {
            self.break_down(&error);
        }
        // Also asked when the stream broke: only the other daemon knows why it stopped reading.
        // Invariant: what did not arrive is counted in `size`, so half a message is never taken.
        self.committed = true;
        let (context, message, size) = (self.context, self.handle, self.size);
        match &self.target {
            Target::Deliverd(link) => {
                let request = DeliveryRequest::CommitMessage {
                    message,
                    size,
                    head,
                };
                match tell(link, context, COMMIT_PATIENCE, request).await? {
                    DeliveryAnswer::MessageDelivered => Ok(()),
                    _ => Err(NONSENSE),
                }
            }
            Target::Nobody(rehearsal) => rehearsal.commit(context, quarantine).await,
            Target::Relayd(link) => {
                let request = QueueRequest::CommitMessage {
                    message,
                    size,
                    head,
                    quarantine,
                };
                match link.call(context, COMMIT_PATIENCE, request).await?.answer {
                    QueueAnswer::MessageQueued { queue_id } => {
                        debug!(queue_id, "queued");
                        Ok(())
                    }
                    _ => Err(NONSENSE),
                }
            }
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        // Without a runtime the process ends, which closes the connection and says the same.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(forget(self.target.clone(), self.context, self.handle));
        }
    }
}

async fn forget(target: Target, context: Context, message: MessageHandle) {
    let answer = match &target {
        Target::Deliverd(link) => {
            let request = DeliveryRequest::AbortMessage { message };
            tell(link, context, ABORT_PATIENCE, request).await.map(drop)
        }
        Target::Relayd(link) => {
            let request = QueueRequest::AbortMessage { message };
            link.call(context, ABORT_PATIENCE, request).await.map(drop)
        }
        Target::Nobody(_) => Ok(()),
    };
    // A daemon that does not answer has lost the message, or loses it when the handle expires.
    if let Err(error) = answer {
        debug!(%error, "abort not answered");
    }
}

pub(crate) async fn tell(
    link: &Link<SmtpEdge>,
    context: Context,
    patience: Duration,
    request: DeliveryRequest,
) -> Result<DeliveryAnswer, CallError> {
    let request = SmtpRequest::Delivery(request);
    let Answered { answer, .. } = link.call(context, patience, request).await?;
    match answer {
        SmtpAnswer::Delivery(answer) => Ok(answer),
        SmtpAnswer::Authenticated { .. }
        | SmtpAnswer::LoginChallenged(_)
        | SmtpAnswer::LoginAbandoned
        | SmtpAnswer::SenderAllowed
        | SmtpAnswer::SenderRewritten { .. } => Err(CallError::Unavailable),
    }
}

fn watch(fd: OwnedFd) -> io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(fd);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
