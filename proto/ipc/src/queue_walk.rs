//! What the operator sees of relayd's queue: walks over it in pieces, one message in all its detail, and what became of mail.
//!
//! Rows come in a sealed memory file, each a frame behind its length; see [`crate::tools::unpack`].

use crate::frame::{Decode, Encode};

/// How a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum QueueState {
    /// It was not tried yet.
    New,
    /// Its sender wants it to wait (RFC 4865), and it still does.
    Scheduled,
    /// It was tried, and is tried again.
    Deferred,
    /// It is held until the operator releases it.
    Held,
    /// It came into quarantine, and is held for some days.
    Quarantined,
    /// Nobody waits for it any more but its sender, who is to be told.
    Reporting,
}

impl QueueState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::New,
        Self::Scheduled,
        Self::Deferred,
        Self::Held,
        Self::Quarantined,
        Self::Reporting,
    ];

    /// Its name on the command line and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Scheduled => "scheduled",
            Self::Deferred => "deferred",
            Self::Held => "held",
            Self::Quarantined => "quarantined",
            Self::Reporting => "reporting",
        }
    }
}

/// Which messages; all that is given must be so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct QueueFilter {
    /// The reverse-path: an address, a domain (`@example.org`), or empty for the null reverse-path. Without case.
    pub sender: Option<String>,
    /// The same of a recipient that is not done.
    pub recipient: Option<String>,
    /// A recipient that is not done is to be reached there: a domain, or the name of a server that the operator chose.
    pub destination: Option<String>,
    /// Whose it is.
    pub tenant: Option<String>,
    /// Who submitted it. Without case.
    pub account: Option<String>,
    /// How it stands.
    pub state: Option<QueueState>,
    /// It is in the queue for so many seconds or longer.
    pub older: Option<u64>,
    /// It is in the queue for less than so many seconds.
    pub younger: Option<u64>,
    /// It has so many octets or more.
    pub larger: Option<u64>,
    /// It has less than so many octets.
    pub smaller: Option<u64>,
}

/// What is wanted of each message of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum QueueView {
    /// A [`QueueRow::Message`], and a [`QueueRow::Recipient`] for each of its first recipients that are not done.
    Messages,
    /// Its id alone: [`QueueRow::Id`].
    Ids,
    /// A [`QueueRow::Sum`] for all in the piece that go to one place from one sender.
    Sums,
}

/// Whose mail it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum QueueParty {
    /// A tenant's.
    Tenant(String),
    /// A domain's that belongs to no tenant.
    Domain(String),
    /// Nobody's in particular.
    Nobody,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum QueueRow {
    /// A message.
    Message(MessageRow),
    /// A recipient of the message before it.
    Recipient(RecipientRow),
    /// The id of a message.
    Id(String),
    /// What goes to one place.
    Sum(SumRow),
    /// Octets of the header of the message before it.
    Header(Vec<u8>),
    /// Something that happened.
    Event(EventRow),
}

/// A message as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MessageRow {
    /// Queue id.
    pub queue_id: String,
    /// MAIL FROM; empty for the null reverse-path.
    pub reverse_path: String,
    /// Who submitted it.
    pub account: Option<String>,
    /// Whose it is.
    pub party: QueueParty,
    /// How it stands.
    pub state: QueueState,
    /// Somebody works on it at this moment.
    pub is_in_work: bool,
    /// Octets.
    pub size: u64,
    /// Unix seconds it was queued.
    pub queued: i64,
    /// Unix seconds of the next attempt; `None` if it is held, or nobody waits.
    pub next: Option<i64>,
    /// Why it is held, if it is; cut to 200 octets.
    pub hold: Option<String>,
    /// Where the operator wants it to go instead of its recipients' servers.
    pub route: Option<String>,
    /// What else its sender wants, as MAIL has it; cut to 500 octets.
    pub parameters: String,
    /// How many recipients it has.
    pub recipients: u32,
    /// How many of them are not done.
    pub waiting: u32,
}

/// Where a recipient stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum RecipientState {
    /// It is tried then, Unix seconds.
    Waiting(i64),
    /// It has the message.
    Delivered,
    /// It was given up.
    Failed,
    /// It has the message or was given up, and its sender knows all that it is to know.
    Over,
}

/// A recipient.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RecipientRow {
    /// Its address.
    pub address: String,
    /// Where it stands.
    pub state: RecipientState,
    /// Attempts so far.
    pub attempts: u32,
    /// The last reply or fault; empty before the first attempt.
    pub reply: String,
    /// RFC 3463 status of it.
    pub status: String,
    /// Who said that, if a server was spoken to.
    pub host: Option<String>,
    /// What its sender wants for it, as RCPT has it; cut to 500 octets.
    pub parameters: String,
}

/// What goes from one sender to one place.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SumRow {
    /// Whose it is.
    pub party: QueueParty,
    /// Where to: a domain, `here`, or a server that the operator chose.
    pub destination: String,
    /// Messages for it.
    pub messages: u64,
    /// Their octets.
    pub bytes: u64,
    /// How many of them somebody works on.
    pub in_work: u64,
    /// How many of them were tried, and are tried again.
    pub deferred: u64,
    /// How many of them are held.
    pub held: u64,
    /// When the oldest of them was queued, Unix seconds.
    pub oldest: i64,
    /// The last reply or fault, of any of them; cut to 200 octets.
    pub reply: String,
}

/// What happened to a message.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum QueueEvent {
    /// It came.
    Queued {
        /// Who submitted it.
        account: Option<String>,
        /// Octets.
        size: u64,
        /// How many recipients.
        recipients: u32,
    },
    /// An attempt for a recipient was over.
    Tried {
        /// The recipient.
        recipient: String,
        /// What came of it.
        outcome: TriedOutcome,
        /// RFC 3463 status.
        status: String,
        /// The reply or fault.
        reply: String,
        /// Who said that, if a server was spoken to.
        host: Option<String>,
    },
    /// Nothing is left to be done, and it is in the queue no more.
    Done,
    /// The operator took it out.
    Removed,
    /// It was in quarantine for too long.
    Expired,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum TriedOutcome {
    /// The recipient, or the next server, has it.
    Delivered,
    /// It is tried again.
    Deferred,
    /// It was given up.
    Failed,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EventRow {
    /// Unix seconds.
    pub at: i64,
    /// Queue id.
    pub queue_id: String,
    /// MAIL FROM; empty for the null reverse-path.
    pub reverse_path: String,
    /// What.
    pub event: QueueEvent,
}

/// A place in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct HistoryPlace {
    /// The file, by when it begins.
    pub file: i64,
    /// Octets of it before the place.
    pub offset: u64,
}
