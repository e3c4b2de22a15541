//! Everything smtpd may ask of others: deliverd about users and local mail, relayd to queue mail
//! for other servers.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::channel::{Answered, CallError, Client, Link};
use ipc::delivery::{DeliveryAnswer, DeliveryRequest, Destination};
use ipc::explain::Fact;
use ipc::greylist::{Acquaintance, Triple};
use ipc::login::{Challenge, LoginRequest};
use ipc::observation::Observation;
use ipc::queue::{QueueAnswer, QueueEdge, QueueRequest};
use ipc::smtp::{SmtpAnswer, SmtpEdge, SmtpRequest};
use ipc::{Context, Edge, Refusal};
use smtp::auth::Secret;
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::explain::notes::{Granted, Notes};
use crate::explain::rehearsal::Rehearsal;
use crate::outlet::{COMMIT_PATIENCE, Outlet, Target, tell};

/// How long an answer may take, with the time a restarted daemon needs to come back.
const PATIENCE: Duration = Duration::from_secs(20);
/// A password is worth a quarter of a second of computing, and others may be before us.
const LOGIN_PATIENCE: Duration = Duration::from_secs(30);
/// Mail is taken unasked after that, and each recipient of it waits as long.
const GREETING_PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// Why an answer is not the one hoped for.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The other daemon says no.
    #[error("{0}")]
    Refused(Refusal),
    /// The other daemon could not be asked, or what it said makes no sense.
    #[error("{0}")]
    Unavailable(&'static str),
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(refusal) => Self::Refused(refusal),
            CallError::Unavailable => Self::Unavailable("the other daemon does not answer"),
        }
    }
}

/// An answer to another question than was asked.
pub(crate) const NONSENSE: Problem = Problem::Unavailable("bug: an answer to another question");

/// What comes of a message of a login.
#[derive(Debug)]
pub enum Step {
    /// The login goes on.
    Challenged(Challenge),
    /// This account has logged in.
    Admitted(String),
}

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
    /// We are a backup for the domain: its mail goes out to its better servers.
    Relayed,
    /// The domain is not one of ours.
    Foreign,
}

/// The channels to those who are asked.
#[derive(Debug, Clone)]
pub struct Ask {
    deliverd: Arc<Client<SmtpEdge>>,
    pub(crate) relayd: Arc<Client<QueueEdge>>,
    patience: Duration,
    /// Where it is noted what is found, if nothing that is asked is to have an effect.
    notes: Option<Arc<Notes>>,
}

impl Ask {
    /// Will ask over these socket files; connects when something is to be asked.
    #[must_use]
    pub fn new(deliverd: PathBuf, relayd: PathBuf) -> Self {
        Self {
            deliverd: Arc::new(Client::new(deliverd)),
            relayd: Arc::new(Client::new(relayd)),
            patience: PATIENCE,
            notes: None,
        }
    }

    /// The same for mail that nobody brings: the same questions, but in a form that changes nothing for anybody, and messages
    /// that nobody keeps. What is found goes into `notes`.
    pub(crate) fn rehearsing(&self, notes: &Arc<Notes>) -> Self {
        let notes = Some(Arc::clone(notes));
        Self {
            notes,
            ..self.clone()
        }
    }

    /// Whether nothing is to come of what is asked.
    pub(crate) fn rehearses(&self) -> bool {
        self.notes.is_some()
    }

    /// Whether filters are told of mail.
    pub(crate) fn asks_filters(&self) -> bool {
        self.notes.as_ref().is_none_or(|notes| notes.asks_filters)
    }

    /// Notes a fact, and the key of the configuration or the command of rmailctl that has it so. Costs nothing otherwise.
    pub(crate) fn note(&self, key: &str, text: impl FnOnce() -> String) {
        if let Some(notes) = &self.notes {
            notes.add(Fact {
                text: text(),
                key: key.to_owned(),
            });
        }
    }

    /// Notes where the mail of a recipient goes.
    pub(crate) fn note_granted(&self, granted: impl FnOnce() -> Granted) {
        if let Some(notes) = &self.notes {
            notes.grant(granted());
        }
    }

    /// The same, but waiting no longer than `patience` for a daemon that is away.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Whose password is this? Returns the account.
    ///
    /// # Errors
    /// [`Refusal::BadCredentials`] for a wrong one; otherwise a [`Problem`].
    pub async fn authenticate(
        &self,
        context: Context,
        user: &str,
        password: &Secret,
        client: IpAddr,
    ) -> Result<String, Problem> {
        let credentials = ipc::smtp::Credentials {
            user: user.to_owned(),
            password: ipc::Secret::new(password.expose().as_bytes()),
            client: client.to_canonical().to_string(),
        };
        // A login has an effect (failures are counted), so it is asked once only.
        let request = SmtpRequest::Authenticate(credentials);
        match self
            .deliverd
            .call(context, LOGIN_PATIENCE, request)
            .await?
            .answer
        {
            SmtpAnswer::Authenticated { account } => Ok(account),
            SmtpAnswer::LoginChallenged(_)
            | SmtpAnswer::LoginAbandoned
            | SmtpAnswer::SenderAllowed
            | SmtpAnswer::SenderRewritten { .. }
            | SmtpAnswer::Delivery(_) => Err(NONSENSE),
        }
    }

    /// Who is it who logs in under this name with the right password? Returns the account; nothing comes of it.
    ///
    /// # Errors
    /// [`Refusal::NoSuchUser`], [`Refusal::TooManyFailures`]; otherwise a [`Problem`].
    pub(crate) async fn find_account(
        &self,
        context: Context,
        user: &str,
        client: IpAddr,
    ) -> Result<String, Problem> {
        let request = SmtpRequest::FindAccount {
            user: user.to_owned(),
            client: client.to_canonical().to_string(),
        };
        let answered = self.deliverd.ask(context, self.patience, request).await?;
        match answered.answer {
            SmtpAnswer::Authenticated { account } => Ok(account),
            SmtpAnswer::LoginChallenged(_)
            | SmtpAnswer::LoginAbandoned
            | SmtpAnswer::SenderAllowed
            | SmtpAnswer::SenderRewritten { .. }
            | SmtpAnswer::Delivery(_) => Err(NONSENSE),
        }
    }

    /// Carries a message of a login in several messages.
    ///
    /// # Errors
    /// [`Refusal::BadCredentials`], [`Refusal::Invalid`] for what is no such message; otherwise a [`Problem`].
    pub async fn log_in(&self, context: Context, request: LoginRequest) -> Result<Step, Problem> {
        let request = SmtpRequest::Login(request);
        match self
            .deliverd
            .call(context, LOGIN_PATIENCE, request)
            .await?
            .answer
        {
            SmtpAnswer::LoginChallenged(challenge) => Ok(Step::Challenged(challenge)),
            SmtpAnswer::Authenticated { account } => Ok(Step::Admitted(account)),
            SmtpAnswer::LoginAbandoned
            | SmtpAnswer::SenderAllowed
            | SmtpAnswer::SenderRewritten { .. }
            | SmtpAnswer::Delivery(_) => Err(NONSENSE),
        }
    }

    /// Has a login forgotten that the client gave up. deliverd forgets it by itself after a while.
    pub async fn abandon_login(&self, context: Context, exchange: u64) {
        let request = SmtpRequest::Login(LoginRequest::Abandon { exchange });
        if let Err(error) = self.deliverd.call(context, self.patience, request).await {
            debug!(%error, "the end of a login was not heard");
        }
    }

    /// May `account` send as `sender`?
    ///
    /// # Errors
    /// [`Refusal::SenderNotAllowed`] if not; otherwise a [`Problem`].
    pub async fn check_sender(
        &self,
        context: Context,
        account: &str,
        sender: &str,
    ) -> Result<(), Problem> {
        let (account, sender) = (account.to_owned(), sender.to_owned());
        let request = SmtpRequest::CheckSender { account, sender };
        match self
            .deliverd
            .ask(context, self.patience, request)
            .await?
            .answer
        {
            SmtpAnswer::SenderAllowed => Ok(()),
            SmtpAnswer::Authenticated { .. }
            | SmtpAnswer::LoginChallenged(_)
            | SmtpAnswer::LoginAbandoned
            | SmtpAnswer::SenderRewritten { .. }
            | SmtpAnswer::Delivery(_) => Err(NONSENSE),
        }
    }

    /// Under which address is a message of `sender` passed on?
    ///
    /// # Errors
    /// A [`Problem`].
    pub async fn rewrite_sender(&self, context: Context, sender: &str) -> Result<String, Problem> {
        let request = SmtpRequest::RewriteSender {
            sender: sender.to_owned(),
        };
        match self
            .deliverd
            .ask(context, self.patience, request)
            .await?
            .answer
        {
            SmtpAnswer::SenderRewritten { sender } => Ok(sender),
            SmtpAnswer::Authenticated { .. }
            | SmtpAnswer::LoginChallenged(_)
            | SmtpAnswer::LoginAbandoned
            | SmtpAnswer::SenderAllowed
            | SmtpAnswer::Delivery(_) => Err(NONSENSE),
        }
    }

    /// Where does mail of `size` octets (0 if unknown) for `address` go? For users here, room is set aside in the name of
    /// `transaction`.
    ///
    /// # Errors
    /// [`Refusal::NoSuchUser`], [`Refusal::OverQuota`]; otherwise a [`Problem`].
    pub async fn resolve(
        &self,
        context: Context,
        address: &str,
        size: u64,
        transaction: u64,
    ) -> Result<Route, Problem> {
        let address = address.to_owned();
        let request = match &self.notes {
            None => DeliveryRequest::ResolveRecipient {
                address,
                size,
                transaction,
            },
            Some(notes) => DeliveryRequest::ForeseeRecipient {
                address,
                size,
                beside: notes.beside(),
            },
        };
        let request = SmtpRequest::Delivery(request);
        match self
            .deliverd
            .ask(context, self.patience, request)
            .await?
            .answer
        {
            SmtpAnswer::Delivery(DeliveryAnswer::RecipientResolved { local, remote }) => {
                Ok(Route::Ours { local, remote })
            }
            SmtpAnswer::Delivery(DeliveryAnswer::RecipientRelayed) => Ok(Route::Relayed),
            SmtpAnswer::Delivery(DeliveryAnswer::RecipientForeign) => Ok(Route::Foreign),
            SmtpAnswer::Delivery(_)
            | SmtpAnswer::Authenticated { .. }
            | SmtpAnswer::LoginChallenged(_)
            | SmtpAnswer::LoginAbandoned
            | SmtpAnswer::SenderRewritten { .. }
            | SmtpAnswer::SenderAllowed => Err(NONSENSE),
        }
    }

    /// Frees the room set aside for a transaction that came to nothing. deliverd frees it by itself after a while.
    pub async fn end_transaction(&self, context: Context, transaction: u64) {
        if self.rehearses() {
            return;
        }
        let request = DeliveryRequest::EndTransaction { transaction };
        let request = SmtpRequest::Delivery(request);
        if let Err(error) = self.deliverd.call(context, self.patience, request).await {
            debug!(%error, "the end of a transaction was not heard");
        }
    }

    /// Begins a message for users here, with the room set aside for `transaction`.
    ///
    /// # Errors
    /// A [`Problem`].
    pub async fn open_local(&self, context: Context, transaction: u64) -> Result<Outlet, Problem> {
        if let Some(notes) = &self.notes {
            let rehearsal = Rehearsal::local(Arc::clone(notes));
            return Ok(Outlet::to_nobody(rehearsal, context));
        }
        let request = DeliveryRequest::OpenMessage { transaction };
        let request = SmtpRequest::Delivery(request);
        let (link, Answered { answer, fds }) =
            open(&self.deliverd, self.patience, context, request).await?;
        let SmtpAnswer::Delivery(DeliveryAnswer::MessageOpened(handle)) = answer else {
            return Err(NONSENSE);
        };
        Outlet::new(Target::Deliverd(link), handle, fds, context)
    }

    /// A whole message for users here who find it in their INBOX or in the mailbox for junk, with the room set aside for
    /// `transaction`. Returns when it is durable.
    ///
    /// # Errors
    /// A [`Problem`]; the message is not there then, unless deliverd died while it answered.
    pub async fn deliver(
        &self,
        context: Context,
        transaction: u64,
        recipients: Vec<String>,
        junk: Vec<String>,
        bytes: Vec<u8>,
    ) -> Result<(), Problem> {
        if let Some(notes) = &self.notes {
            notes.keep(&recipients, Destination::Inbox);
            notes.keep(&junk, Destination::Junk);
            return Ok(());
        }
        let request = DeliveryRequest::DeliverMessage {
            transaction,
            recipients,
            junk,
            bytes,
        };
        let link = self.deliverd.pinned(self.patience).await?;
        match tell(&link, context, COMMIT_PATIENCE, request).await? {
            DeliveryAnswer::MessageDelivered => Ok(()),
            _ => Err(NONSENSE),
        }
    }

    /// Is this mail known, or to be put off once? Waits at most [`GREETING_PATIENCE`].
    ///
    /// # Errors
    /// A [`Problem`].
    pub async fn greet(&self, context: Context, triple: Triple) -> Result<Acquaintance, Problem> {
        let patience = self.patience.min(GREETING_PATIENCE);
        let request = match self.rehearses() {
            true => QueueRequest::Recall(triple),
            false => QueueRequest::Greet(triple),
        };
        match self.relayd.ask(context, patience, request).await?.answer {
            QueueAnswer::Greeted(acquaintance) => Ok(acquaintance),
            QueueAnswer::MessageOpened(_)
            | QueueAnswer::RecipientsAdded
            | QueueAnswer::MessageQueued { .. }
            | QueueAnswer::MessageAborted
            | QueueAnswer::LookedUp(_)
            | QueueAnswer::Foreseen { .. }
            | QueueAnswer::FilterConnected
            | QueueAnswer::Noted => Err(NONSENSE),
        }
    }

    /// What DMARC came to for a message, for the reports about it. Nothing is reported of mail that nobody brings.
    ///
    /// # Errors
    /// A [`Problem`]; then it is not reported, or it was counted and relayd's disk failed.
    pub async fn report(
        &self,
        context: Context,
        within: Duration,
        observation: Observation,
    ) -> Result<(), Problem> {
        if self.rehearses() {
            return Ok(());
        }
        let request = QueueRequest::Note(Box::new(observation));
        // Counted when it is heard, so it is said once only.
        match self.relayd.call(context, within, request).await?.answer {
            QueueAnswer::Noted => Ok(()),
            QueueAnswer::MessageOpened(_)
            | QueueAnswer::RecipientsAdded
            | QueueAnswer::MessageQueued { .. }
            | QueueAnswer::MessageAborted
            | QueueAnswer::LookedUp(_)
            | QueueAnswer::Foreseen { .. }
            | QueueAnswer::FilterConnected
            | QueueAnswer::Greeted(_) => Err(NONSENSE),
        }
    }

    /// Why would such a message for these be held? At most [`ipc::queue::FORESEEN`] of them; nothing comes of it.
    ///
    /// # Errors
    /// As the message would be refused; otherwise a [`Problem`].
    pub(crate) async fn foresee(
        &self,
        context: Context,
        envelope: ipc::queue::Envelope,
        recipients: Vec<String>,
    ) -> Result<Option<String>, Problem> {
        let request = QueueRequest::Foresee {
            envelope,
            recipients,
        };
        let answered = self.relayd.ask(context, self.patience, request).await?;
        match answered.answer {
            QueueAnswer::Foreseen { hold } => Ok(hold),
            QueueAnswer::MessageOpened(_)
            | QueueAnswer::RecipientsAdded
            | QueueAnswer::MessageQueued { .. }
            | QueueAnswer::MessageAborted
            | QueueAnswer::LookedUp(_)
            | QueueAnswer::Greeted(_)
            | QueueAnswer::FilterConnected
            | QueueAnswer::Noted => Err(NONSENSE),
        }
    }

    /// Begins a message for other servers.
    ///
    /// # Errors
    /// [`Refusal::RelayDisabled`]; otherwise a [`Problem`].
    pub async fn open_queue(
        &self,
        context: Context,
        envelope: ipc::queue::Envelope,
    ) -> Result<Outlet, Problem> {
        if let Some(notes) = &self.notes {
            self.foresee(context, envelope.clone(), Vec::new()).await?;
            let rehearsal = Rehearsal::queued(self.clone(), Arc::clone(notes), envelope);
            return Ok(Outlet::to_nobody(rehearsal, context));
        }
        let request = QueueRequest::OpenMessage(envelope);
        let (link, Answered { answer, fds }) =
            open(&self.relayd, self.patience, context, request).await?;
        let QueueAnswer::MessageOpened(handle) = answer else {
            return Err(NONSENSE);
        };
        Outlet::new(Target::Relayd(link), handle, fds, context)
    }

    /// A connection to the filter of that name, which relayd makes.
    ///
    /// # Errors
    /// A [`Problem`].
    pub async fn connect_filter(
        &self,
        context: Context,
        within: Duration,
        filter: &str,
    ) -> Result<OwnedFd, Problem> {
        let filter = filter.to_owned();
        let request = QueueRequest::ConnectFilter { filter };
        let Answered { answer, mut fds } = self.relayd.ask(context, within, request).await?;
        match (answer, fds.pop(), fds.as_slice()) {
            (QueueAnswer::FilterConnected, Some(fd), []) => Ok(fd),
            _ => Err(NONSENSE),
        }
    }
}

// Opening has no effect before the commit, so it is asked again when the other daemon died over it.
// Returns the one connection on which the message lives.
async fn open<E: Edge>(
    client: &Client<E>,
    patience: Duration,
    context: Context,
    request: E::Request,
) -> Result<(Arc<Link<E>>, Answered<E::Answer>), Problem>
where
    E::Request: Clone,
{
    let end = Instant::now() + patience;
    let left = || end.saturating_duration_since(Instant::now());
    loop {
        let link = client.pinned(left()).await?;
        match link.call(context, left(), request.clone()).await {
            Ok(answered) => return Ok((link, answered)),
            Err(CallError::Unavailable) if left() > PAUSE => sleep(PAUSE).await,
            Err(error) => return Err(error.into()),
        }
    }
}
