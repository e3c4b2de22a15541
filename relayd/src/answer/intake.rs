//! What smtpd may ask: to take a message for other servers into the queue, and to look something up in DNS.
//!
//! smtpd talks to the world and may have been taken over by it, so everything it says is parsed and bounded again.

use std::collections::HashMap;
use std::io::{self, Seek};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use daemon::channel::{Answered, CallError, Events, Service};
use ipc::delivery::{MAX_HEAD, MessageHandle};
use ipc::queue::{
    Envelope, FORESEEN, MAX_REASON, Quarantine, QueueAnswer, QueueEdge, QueueRequest,
    RECIPIENTS_PER_FRAME, Recipient, Standing,
};
use ipc::{Call, Refusal};
use mail::address::{Address, Domain, ReversePath};
use smtp::parameter::{MailParameters, RcptParameters};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};
use tracing::warn;

use super::authorship;
use super::filters::Filters;
use super::lookup::LookUps;
use super::till::Till;
use super::welcome::Welcome;
use crate::aggregate::dmarc::Dmarc;
use crate::aggregate::register::Register;
use crate::ask::Ask;
use crate::clock;
use crate::desk::{self, Desk};
use crate::queue::journal::{self, Header, Particular, Quarantined, VERSION};
use crate::queue::{Draft, Queue, QueueId};
use crate::tls_required;
use crate::turns::Party;

/// Messages one channel may have open at once.
const MAX_OPEN: usize = 1024;
/// An open message nobody says anything about is forgotten.
const IDLE: Duration = Duration::from_mins(10);
const CHUNK: usize = 64 * 1024;
/// RFC 5321 §4.5.3.1: local part and domain, with room for UTF-8.
const MAX_ACCOUNT: usize = 512;

/// Takes messages in.
#[derive(Debug)]
pub struct Intake {
    /// Where they go.
    pub desk: Arc<Desk>,
    /// Who knows whose domains are.
    pub ask: Ask,
    /// Whether mail is taken at all.
    pub enabled: bool,
    /// Octets a message may have.
    pub max_size: u64,
    /// Recipients a message may have, and as many again that have it already.
    pub max_recipients: usize,
    /// Where accounts pay.
    pub till: Arc<Till>,
    /// Who is put off.
    pub welcome: Welcome,
    /// What is to be reported to domains.
    pub register: Arc<Register<Dmarc>>,
    /// Who asks DNS.
    pub look_ups: LookUps,
    /// The filters smtpd may be connected to.
    pub filters: Filters,
}

/// The messages one channel has open.
#[derive(Debug, Default)]
pub struct Counter(Arc<Mutex<Drawer>>);

#[derive(Debug, Default)]
struct Drawer {
    last: u64,
    open: HashMap<MessageHandle, Incoming>,
}

/// A message on its way in. Dropping it stops its reader and leaves nothing on disk.
#[derive(Debug)]
struct Incoming {
    envelope: Envelope,
    recipients: Vec<Recipient>,
    reader: Reader,
    touched: Touched,
}

/// When something was last heard of a message: an order, or bytes of its body.
#[derive(Debug, Clone)]
struct Touched(Arc<Mutex<Instant>>);

impl Touched {
    fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn again(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn is_idle(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
            >= IDLE
    }
}

/// Ends the task when it is dropped.
#[derive(Debug)]
struct Reader(JoinHandle<io::Result<(Draft, u64)>>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Service<QueueEdge> for Intake {
    type Peer = Counter;

    fn open(&self, _events: Events<QueueEdge>) -> Counter {
        let counter = Counter::default();
        tokio::spawn(sweep(Arc::downgrade(&counter.0)));
        counter
    }

    async fn answer(
        &self,
        peer: Arc<Counter>,
        call: Call<QueueRequest>,
    ) -> Result<Answered<QueueAnswer>, Refusal> {
        match call.request {
            QueueRequest::OpenMessage(envelope) => {
                let (handle, stream) = self.open_message(&peer, envelope).await?;
                Ok(Answered::with(
                    QueueAnswer::MessageOpened(handle),
                    vec![stream],
                ))
            }
            QueueRequest::AddRecipients {
                message,
                recipients,
            } => {
                self.add_recipients(&peer, message, &recipients)?;
                Ok(Answered::plain(QueueAnswer::RecipientsAdded))
            }
            QueueRequest::CommitMessage {
                message,
                size,
                head,
                quarantine,
            } => {
                let commit = self.commit(&peer, message, size, head, quarantine);
                let queue_id = commit.await?.to_string();
                Ok(Answered::plain(QueueAnswer::MessageQueued { queue_id }))
            }
            QueueRequest::AbortMessage { message } => {
                peer.lock()
                    .open
                    .remove(&message)
                    .ok_or(Refusal::UnknownHandle)?;
                Ok(Answered::plain(QueueAnswer::MessageAborted))
            }
            QueueRequest::Greet(triple) => {
                let acquaintance = self.welcome.greet(&triple).await;
                Ok(Answered::plain(QueueAnswer::Greeted(acquaintance)))
            }
            QueueRequest::Note(observation) => {
                self.register.note(*observation).await?;
                Ok(Answered::plain(QueueAnswer::Noted))
            }
            QueueRequest::Recall(triple) => {
                let acquaintance = self.welcome.recall(&triple).await;
                Ok(Answered::plain(QueueAnswer::Greeted(acquaintance)))
            }
            QueueRequest::Foresee {
                envelope,
                recipients,
            } => {
                let hold = self.foresee(&envelope, &recipients).await?;
                Ok(Answered::plain(QueueAnswer::Foreseen { hold }))
            }
            QueueRequest::LookUp(question) => {
                let found = self.look_ups.look_up(&question).await?;
                Ok(Answered::plain(QueueAnswer::LookedUp(found)))
            }
            QueueRequest::ConnectFilter { filter } => {
                let stream = self.filters.connect(&filter).await?;
                Ok(Answered::with(QueueAnswer::FilterConnected, vec![stream]))
            }
        }
    }
}

impl Intake {
    async fn open_message(
        &self,
        peer: &Counter,
        envelope: Envelope,
    ) -> Result<(MessageHandle, OwnedFd), Refusal> {
        if !self.enabled {
            return Err(Refusal::RelayDisabled);
        }
        check(&envelope)?;
        let draft = self.desk.with_queue(|queue| queue.draft()).await;
        let draft = draft.map_err(|error| desk::fault(&error, "begin a message"))?;
        let (ours, theirs) = pair().map_err(|error| desk::fault(&error, "make a stream"))?;
        let touched = Touched::now();
        let reader = Reader(tokio::spawn(fill(
            draft,
            ours,
            self.max_size,
            touched.clone(),
        )));
        let incoming = Incoming {
            envelope,
            recipients: Vec::new(),
            reader,
            touched,
        };
        Ok((peer.lock().put(incoming)?, theirs))
    }

    async fn foresee(
        &self,
        envelope: &Envelope,
        recipients: &[String],
    ) -> Result<Option<String>, Refusal> {
        if !self.enabled {
            return Err(Refusal::RelayDisabled);
        }
        check(envelope)?;
        if recipients.len() > FORESEEN.min(self.max_recipients) {
            return Err(Refusal::TooManyRecipients);
        }
        match &envelope.account {
            Some(account) => self.till.foresee(account, recipients).await,
            None => Ok(None),
        }
    }

    fn add_recipients(
        &self,
        peer: &Counter,
        handle: MessageHandle,
        recipients: &[Recipient],
    ) -> Result<(), Refusal> {
        if recipients.len() > RECIPIENTS_PER_FRAME {
            return Err(Refusal::TooManyRecipients);
        }
        let recipients = recipients
            .iter()
            .map(parse)
            .collect::<Result<Vec<_>, _>>()?;
        let mut drawer = peer.lock();
        let incoming = drawer.open.get_mut(&handle).ok_or(Refusal::UnknownHandle)?;
        incoming.touched.again();
        for recipient in recipients {
            let waits =
                |one: &Recipient| matches!(one.standing, Standing::Waiting | Standing::Here);
            let alike = incoming.recipients.iter();
            let mut alike = alike.filter(|one| waits(one) == waits(&recipient));
            if alike.clone().any(|one| one.address == recipient.address) {
                continue;
            }
            // What is refused is not kept either, or it would be committed.
            if alike.nth(self.max_recipients.saturating_sub(1)).is_some() {
                return Err(Refusal::TooManyRecipients);
            }
            incoming.recipients.push(recipient);
        }
        Ok(())
    }

    async fn commit(
        &self,
        peer: &Counter,
        handle: MessageHandle,
        size: u64,
        head: Vec<u8>,
        quarantine: Option<Quarantine>,
    ) -> Result<QueueId, Refusal> {
        quarantine.as_ref().map_or(Ok(()), doubt)?;
        let mut incoming = peer
            .lock()
            .open
            .remove(&handle)
            .ok_or(Refusal::UnknownHandle)?;
        let whole = size.saturating_add(head.len() as u64);
        if whole > self.max_size || head.len() > MAX_HEAD {
            return Err(Refusal::MessageTooLarge);
        }
        if incoming.recipients.is_empty() {
            return Err(Refusal::Invalid("a message without recipients".into()));
        }
        // Ends with the stream; if that never ends, the call's deadline drops all of this.
        let read = (&mut incoming.reader.0)
            .await
            .unwrap_or_else(|panic| Err(io::Error::other(panic)));
        let (mut draft, written) = read.map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => Refusal::MessageTooLarge,
            _ => desk::fault(&error, "write a message"),
        })?;
        if written != size {
            return Err(Refusal::SizeMismatch);
        }
        if !head.is_empty() {
            let put = move |queue: &Queue| queue.put_in_front(&draft, &head);
            let put = self.desk.with_queue(put).await;
            draft = put.map_err(|error| desk::fault(&error, "write a message"))?;
        }
        let quarantined = match &quarantine {
            Some(quarantine) => Some(Quarantined {
                onward: quarantine.onward.clone(),
                tenant: self.tenant(&quarantine.domain).await?,
            }),
            None => None,
        };
        let hold = match (&quarantine, &incoming.envelope.account) {
            (Some(quarantine), _) => Some(quarantine.reason.clone()),
            (None, Some(account)) => {
                let sent = incoming.recipients.iter();
                let sent = sent.filter(|one| one.standing == Standing::Waiting);
                let addresses: Vec<String> = sent.map(|one| one.address.clone()).collect();
                self.till.charge(account, &addresses).await?
            }
            (None, None) => None,
        };
        let party = match &incoming.envelope.account {
            Some(account) => self.till.party(account).await?,
            None => Party::Nobody,
        };
        let envelope = incoming.envelope.clone();
        let look = move |_: &Queue| Ok((look(&envelope, &draft)?, draft));
        let looked = self.desk.with_queue(look).await;
        let (seen, draft) = looked.map_err(|error| desk::fault(&error, "read a message"))?;
        let sign = match &incoming.envelope.account {
            Some(account) => authorship::domains(&self.ask, account, &party, &seen.authors).await?,
            None => Vec::new(),
        };
        let id = QueueId::generate().map_err(|error| desk::fault(&error, "make a queue id"))?;
        let (recipients, particulars) = split(std::mem::take(&mut incoming.recipients));
        let header = Header {
            version: VERSION,
            queued: clock::now(),
            size: whole,
            reverse_path: incoming.envelope.reverse_path.clone(),
            account: incoming.envelope.account.clone(),
            party,
            smtp_utf8: incoming.envelope.smtp_utf8,
            eight_bit: incoming.envelope.eight_bit,
            hold,
            quarantine: quarantined,
            recipients,
            parameters: incoming.envelope.parameters.clone(),
            tls_waived: seen.tls_waived,
            sign,
            particulars,
        };
        if let Some(reason) = &header.hold {
            warn!(%id, account = header.account, reason, "held; rmailctl queue release lets it go");
        }
        self.desk.enqueue(id, draft, header.versioned()).await?;
        Ok(id)
    }

    async fn tenant(&self, domain: &str) -> Result<Option<String>, Refusal> {
        self.ask.tenant(domain).await.map_err(|error| match error {
            CallError::Refused(refusal) => refusal,
            CallError::Unavailable => {
                warn!(domain, "deliverd does not say whose the domain is, so mail for its quarantine is put off");
                Refusal::Busy
            }
        })
    }
}

/// What is to be known of a header.
#[derive(Debug, Default)]
struct Seen {
    /// It waives what recipients demand of TLS.
    tls_waived: bool,
    /// Whom it names as authors, if that is clear; only looked for if somebody submitted it.
    authors: Vec<Address>,
}

fn look(envelope: &Envelope, draft: &Draft) -> io::Result<Seen> {
    let parameters = MailParameters::parse(&envelope.parameters).unwrap_or_default();
    let is_ours = envelope.account.is_some();
    if parameters.require_tls && !is_ours {
        return Ok(Seen::default());
    }
    let mut file = draft.file();
    file.rewind()?;
    let header = tls_required::read_header(file)?;
    let authors = is_ours.then(|| dkim::authors(&header)).flatten();
    Ok(Seen {
        // RFC 8689 §4.1: REQUIRETLS goes before it.
        tls_waived: !parameters.require_tls && tls_required::is_waived(&header),
        authors: authors.unwrap_or_default(),
    })
}

impl Counter {
    fn lock(&self) -> MutexGuard<'_, Drawer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drawer {
    fn put(&mut self, incoming: Incoming) -> Result<MessageHandle, Refusal> {
        if self.open.len() >= MAX_OPEN {
            return Err(Refusal::Busy);
        }
        self.last += 1;
        let handle = MessageHandle(self.last);
        self.open.insert(handle, incoming);
        Ok(handle)
    }
}

fn doubt(quarantine: &Quarantine) -> Result<(), Refusal> {
    let Quarantine {
        reason,
        onward,
        domain,
    } = quarantine;
    if Domain::parse(domain).is_err() {
        return Err(Refusal::Invalid(
            "the domain of a quarantine is none".into(),
        ));
    }
    if reason.is_empty() || reason.len() > MAX_REASON || reason.chars().any(char::is_control) {
        return Err(Refusal::Invalid(
            "the reason of a quarantine is none".into(),
        ));
    }
    let onward = onward.as_ref().map(|path| ReversePath::parse(path));
    onward
        .transpose()
        .map(drop)
        .map_err(|error| Refusal::Invalid(format!("a reverse-path onward is no address: {error}")))
}

fn check(envelope: &Envelope) -> Result<(), Refusal> {
    ReversePath::parse(&envelope.reverse_path)
        .map_err(|error| Refusal::Invalid(format!("the reverse-path is no address: {error}")))?;
    MailParameters::parse(&envelope.parameters)
        .map_err(|error| Refusal::Invalid(format!("bad parameters of a message: {error:?}")))?;
    match &envelope.account {
        Some(account) if account.len() > MAX_ACCOUNT || account.chars().any(char::is_control) => {
            Err(Refusal::Invalid("the account is no user name".into()))
        }
        _ => Ok(()),
    }
}

/// A recipient in the form in which it is kept.
fn parse(recipient: &Recipient) -> Result<Recipient, Refusal> {
    let address = Address::parse(&recipient.address)
        .map_err(|error| Refusal::Invalid(format!("a recipient is no address: {error}")))?;
    let parameters = RcptParameters::parse(&recipient.parameters)
        .map_err(|error| Refusal::Invalid(format!("bad parameters of a recipient: {error:?}")))?;
    Ok(Recipient {
        address: address.to_string(),
        parameters: parameters.to_string(),
        standing: recipient.standing,
    })
}

/// The addresses, and what is to be known of those that are not like most.
fn split(recipients: Vec<Recipient>) -> (Vec<String>, Vec<Particular>) {
    let mut particulars = Vec::new();
    for (recipient, place) in recipients.iter().zip(0..) {
        if !recipient.parameters.is_empty() || recipient.standing != Standing::Waiting {
            particulars.push(Particular {
                recipient: place,
                parameters: recipient.parameters.clone(),
                standing: match recipient.standing {
                    Standing::Waiting => journal::Standing::Waiting,
                    Standing::Here => journal::Standing::Here,
                    Standing::Delivered => journal::Standing::Delivered,
                    Standing::Expanded => journal::Standing::Expanded,
                },
            });
        }
    }
    let addresses = recipients.into_iter().map(|one| one.address).collect();
    (addresses, particulars)
}

fn pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

/// Writes what comes over the stream into the file, one bounded piece after the other.
async fn fill(
    draft: Draft,
    mut stream: UnixStream,
    max_size: u64,
    touched: Touched,
) -> io::Result<(Draft, u64)> {
    let mut file = tokio::fs::File::from_std(draft.file().try_clone()?);
    let mut piece = vec![0; CHUNK];
    let mut size = 0;
    loop {
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            break;
        }
        touched.again();
        size += count as u64;
        if size > max_size {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        file.write_all(&piece[..count]).await?;
    }
    file.flush().await?;
    Ok((draft, size))
}

/// Forgets messages nobody says anything about, as long as the channel lives.
async fn sweep(drawer: Weak<Mutex<Drawer>>) {
    let mut beat = interval(Duration::from_mins(1));
    loop {
        beat.tick().await;
        let Some(drawer) = drawer.upgrade() else {
            return;
        };
        let mut drawer = drawer.lock().unwrap_or_else(PoisonError::into_inner);
        drawer.open.retain(|handle, incoming| {
            let keep = !incoming.touched.is_idle();
            if !keep {
                warn!(
                    handle = handle.0,
                    "an open message nobody committed is forgotten"
                );
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming() -> Incoming {
        Incoming {
            envelope: Envelope {
                reverse_path: String::new(),
                account: None,
                smtp_utf8: false,
                eight_bit: false,
                parameters: String::new(),
            },
            recipients: Vec::new(),
            reader: Reader(tokio::spawn(std::future::pending())),
            touched: Touched::now(),
        }
    }

    #[tokio::test]
    async fn so_many_messages_are_open_at_once_on_a_channel_and_no_more() {
        let mut drawer = Drawer::default();
        let first = drawer.put(incoming()).unwrap();
        for _ in 1..MAX_OPEN {
            drawer.put(incoming()).unwrap();
        }
        assert_eq!(drawer.put(incoming()), Err(Refusal::Busy));
        drawer.open.remove(&first);
        assert!(drawer.put(incoming()).is_ok());
    }
}
