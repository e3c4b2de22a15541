//! What a client can ask for.

use alloc::string::String;
use alloc::vec::Vec;

use crate::acl::Acl;
use crate::append::{Replaced, Step};
use crate::body::{Partial, Section};
use crate::esearch::{Return, Window};
use crate::flag::{Flag, Use};
use crate::metadata;
use crate::multisearch::MultiSearch;
use crate::notify::Notify;
use crate::sasl::Credentials;
use crate::search::Key;
use crate::sequence::SequenceSet;
use crate::sort::Criterion;
use crate::sync::{ChangedSince, Extension, Resync};
use crate::thread::Algorithm;

/// A command with the tag its answer will carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Chosen by the client; printable ASCII.
    pub tag: String,
    /// What it wants.
    pub command: Command,
}

/// How messages are numbered in a command and its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// By their place in the mailbox.
    Sequence,
    /// By UID (the command began with `UID`).
    Uid,
}

/// The commands of RFC 3501 and of the extensions in [`crate::capability`]. Mailbox names are UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// CAPABILITY
    Capability,
    /// NOOP
    Noop,
    /// LOGOUT
    Logout,
    /// ID (RFC 2971); what the client says of itself is not kept.
    Id,
    /// STARTTLS
    StartTls,
    /// LOGIN
    Login(Credentials),
    /// AUTHENTICATE, with the initial response of SASL-IR (RFC 4959).
    Authenticate {
        /// In upper case.
        mechanism: String,
        /// In base64; empty for `=`.
        initial: Option<Vec<u8>>,
    },
    /// COMPRESS DEFLATE (RFC 4978)
    Compress,
    /// UNAUTHENTICATE (RFC 8437)
    Unauthenticate,
    /// ENABLE (RFC 5161), with those that are known.
    Enable(Vec<Extension>),
    /// NAMESPACE (RFC 2342)
    Namespace,
    /// SELECT and EXAMINE
    Select {
        /// Which.
        mailbox: String,
        /// As the client wrote it, if that is not in Normalization Form C.
        asked: Option<String>,
        /// EXAMINE.
        read_only: bool,
        /// `(CONDSTORE)` (RFC 7162 §3.1.8)
        condstore: bool,
        /// `(QRESYNC (…))`
        resync: Option<Resync>,
    },
    /// CREATE, with the use of CREATE-SPECIAL-USE (RFC 6154)
    Create {
        /// Which; a trailing delimiter is removed.
        mailbox: String,
        /// As the client wrote it, if that is not in Normalization Form C.
        asked: Option<String>,
        /// What for.
        special_use: Option<Use>,
    },
    /// DELETE
    Delete(String),
    /// RENAME
    Rename {
        /// Old name.
        from: String,
        /// New name.
        to: String,
    },
    /// SUBSCRIBE
    Subscribe(String),
    /// UNSUBSCRIBE
    Unsubscribe(String),
    /// LIST
    List(List),
    /// LSUB
    Lsub {
        /// Goes before the pattern.
        reference: String,
        /// With `*` and `%`.
        pattern: String,
    },
    /// STATUS
    Status {
        /// Which.
        mailbox: String,
        /// What of it, in the order asked.
        items: Vec<StatusItem>,
    },
    /// GETQUOTA (RFC 9208), of a quota root
    GetQuota(String),
    /// GETQUOTAROOT, of a mailbox, which need not exist
    GetQuotaRoot(String),
    /// SETQUOTA; refused whatever it says
    SetQuota,
    /// GETMETADATA (RFC 5464)
    GetMetadata(metadata::Get),
    /// SETMETADATA
    SetMetadata(metadata::Set),
    /// SETACL, DELETEACL, GETACL, LISTRIGHTS and MYRIGHTS (RFC 4314)
    Acl(Acl),
    /// CHECK
    Check,
    /// CLOSE
    Close,
    /// UNSELECT (RFC 3691)
    Unselect,
    /// EXPUNGE, and UID EXPUNGE (RFC 4315) with a set
    Expunge(Option<SequenceSet>),
    /// SEARCH
    Search {
        /// How results are numbered.
        by: Numbering,
        /// `RETURN (…)`, if given.
        results: Option<Return>,
        /// CHARSET, if given.
        charset: Option<String>,
        /// What is looked for.
        key: Key,
    },
    /// UIDBATCHES (RFC 10022)
    UidBatches {
        /// How many messages a batch has.
        size: u32,
        /// Which batches, counted from that with the largest UIDs; all if absent. May be the wrong way round.
        batches: Option<(u32, u32)>,
    },
    /// ESEARCH (RFC 7377)
    MultiSearch(MultiSearch),
    /// CANCELUPDATE (RFC 5267 §4.3.5), with the tags of searches
    CancelUpdate(Vec<String>),
    /// SORT (RFC 5256 §3)
    Sort {
        /// How results are numbered.
        by: Numbering,
        /// `RETURN (…)`, if given (RFC 5267 §3).
        results: Option<Return>,
        /// In which order; each key once.
        criteria: Vec<Criterion>,
        /// CHARSET
        charset: String,
        /// What is looked for.
        key: Key,
    },
    /// THREAD (RFC 5256 §3)
    Thread {
        /// How results are numbered.
        by: Numbering,
        /// What belongs together.
        algorithm: Algorithm,
        /// CHARSET
        charset: String,
        /// What is looked for.
        key: Key,
    },
    /// FETCH
    Fetch {
        /// What the set counts.
        by: Numbering,
        /// Which.
        set: SequenceSet,
        /// What of them.
        items: Vec<FetchItem>,
        /// `(CHANGEDSINCE …)`
        changed_since: Option<ChangedSince>,
        /// `(PARTIAL …)`: only some of them (RFC 9394 §3.3).
        partial: Option<Window>,
    },
    /// STORE
    Store {
        /// What the set counts.
        by: Numbering,
        /// Which.
        set: SequenceSet,
        /// `(UNCHANGEDSINCE …)`: others are left alone (RFC 7162 §3.1.3).
        unchanged_since: Option<u64>,
        /// How flags change.
        mode: StoreMode,
        /// `.SILENT`
        silent: bool,
        /// These flags.
        flags: Vec<Flag>,
    },
    /// COPY
    Copy {
        /// What the set counts.
        by: Numbering,
        /// Which.
        set: SequenceSet,
        /// To which mailbox.
        to: String,
    },
    /// MOVE (RFC 6851)
    Move {
        /// What the set counts.
        by: Numbering,
        /// Which.
        set: SequenceSet,
        /// To which mailbox.
        to: String,
    },
    /// IDLE (RFC 2177)
    Idle,
    /// APPEND and REPLACE of messages that are put together of nothing but what URLs name (RFC 4469); all others come in pieces.
    Append {
        /// The message that goes (RFC 8508).
        replaces: Option<Replaced>,
        /// To which mailbox.
        mailbox: String,
        /// What is to be done.
        steps: Vec<Step>,
    },
    /// NOTIFY (RFC 5465)
    Notify(Notify),
}

/// LIST (RFC 5258), in its plain form too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// Goes before each pattern.
    pub reference: String,
    /// With `*` and `%`; a name that matches one of them is meant. Only one, and empty, asks for the delimiter.
    pub patterns: Vec<String>,
    /// Which of the names.
    pub selection: Selection,
    /// What is told beside the names.
    pub told: Told,
    /// Whether there were options, or several patterns: such an answer says more of names that are no mailboxes.
    pub is_extended: bool,
}

/// Which names LIST is about. (REMOTE is ignored: there are none.)
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Selection {
    /// SUBSCRIBED: only those subscribed to, whether there are such mailboxes or not.
    pub subscribed: bool,
    /// SPECIAL-USE: only mailboxes with a use (RFC 6154 §5.2).
    pub special_use: bool,
    /// RECURSIVEMATCH: also those below which there is one that would be selected, but does not match the patterns.
    pub recursive: bool,
}

/// What LIST tells beside names. CHILDREN and SPECIAL-USE are told always.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// SUBSCRIBED
    pub subscribed: bool,
    /// STATUS (RFC 5819), of mailboxes that can be selected.
    pub status: Vec<StatusItem>,
    /// METADATA (RFC 9590): these entries, of mailboxes that are there.
    pub metadata: Vec<String>,
    /// MYRIGHTS (RFC 8440), of mailboxes that are there.
    pub rights: bool,
}

/// An item of STATUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusItem {
    /// MESSAGES
    Messages,
    /// RECENT
    Recent,
    /// UIDNEXT
    UidNext,
    /// UIDVALIDITY
    UidValidity,
    /// UNSEEN
    Unseen,
    /// HIGHESTMODSEQ (RFC 7162 §3.1.7)
    HighestModSeq,
    /// SIZE (RFC 8438)
    Size,
    /// DELETED (RFC 9051 §6.3.11)
    Deleted,
    /// DELETED-STORAGE (RFC 9208 §4.1.4)
    DeletedStorage,
    /// MAILBOXID (RFC 8474 §4.3)
    MailboxId,
    /// APPENDLIMIT (RFC 7889 §4)
    AppendLimit,
}

/// The value of an item of STATUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusValue {
    /// A number.
    Number(u64),
    /// An id that never changes (RFC 8474).
    Id(u128),
}

/// An item of FETCH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchItem {
    /// ENVELOPE
    Envelope,
    /// FLAGS
    Flags,
    /// INTERNALDATE
    InternalDate,
    /// RFC822.SIZE
    Size,
    /// UID
    Uid,
    /// MODSEQ (RFC 7162 §3.1.4.2)
    ModSeq,
    /// EMAILID (RFC 8474 §5.1)
    EmailId,
    /// THREADID (RFC 8474 §5.2)
    ThreadId,
    /// SAVEDATE (RFC 8514 §4.2)
    SaveDate,
    /// PREVIEW (RFC 8970 §3)
    Preview {
        /// `(LAZY)`: only if it need not be worked out.
        lazy: bool,
    },
    /// BODY without a section
    Body,
    /// BODYSTRUCTURE
    BodyStructure,
    /// BODY[…], BODY.PEEK[…], RFC822, RFC822.HEADER, RFC822.TEXT
    Section {
        /// The name under which it is answered.
        name: SectionName,
        /// Which part.
        section: Section,
        /// Which bytes of it.
        partial: Option<Partial>,
        /// Whether it leaves `\Seen` alone.
        peek: bool,
    },
    /// BINARY[…], BINARY.PEEK[…]: the content of a part, its transfer encoding undone (RFC 3516 §4.2).
    Binary {
        /// Which part; empty for the message itself.
        part: Vec<u32>,
        /// Which bytes of its content.
        partial: Option<Partial>,
        /// Whether it leaves `\Seen` alone.
        peek: bool,
    },
    /// BINARY.SIZE[…]: how many bytes that content has.
    BinarySize {
        /// Which part.
        part: Vec<u32>,
    },
}

impl FetchItem {
    /// Whether a message of which it is shown has been read.
    // RFC 3501 §6.4.5, RFC 3516 §4.2.
    #[must_use]
    pub const fn marks_seen(&self) -> bool {
        matches!(
            self,
            Self::Section { peek: false, .. } | Self::Binary { peek: false, .. }
        )
    }
}

/// How a section was asked for, and so is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionName {
    /// `BODY[…]`
    Body,
    /// `RFC822`
    Rfc822,
    /// `RFC822.HEADER`
    Rfc822Header,
    /// `RFC822.TEXT`
    Rfc822Text,
}

/// How STORE changes flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreMode {
    /// `FLAGS`
    Replace,
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
}

impl Command {
    /// The name, for logs and answers.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Capability => "CAPABILITY",
            Self::Noop => "NOOP",
            Self::Logout => "LOGOUT",
            Self::Id => "ID",
            Self::StartTls => "STARTTLS",
            Self::Login(_) => "LOGIN",
            Self::Authenticate { .. } => "AUTHENTICATE",
            Self::Compress => "COMPRESS",
            Self::Unauthenticate => "UNAUTHENTICATE",
            Self::Enable(_) => "ENABLE",
            Self::Namespace => "NAMESPACE",
            Self::Select {
                read_only: false, ..
            } => "SELECT",
            Self::Select { .. } => "EXAMINE",
            Self::Create { .. } => "CREATE",
            Self::Delete(_) => "DELETE",
            Self::Rename { .. } => "RENAME",
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::Unsubscribe(_) => "UNSUBSCRIBE",
            Self::List(_) => "LIST",
            Self::Lsub { .. } => "LSUB",
            Self::Status { .. } => "STATUS",
            Self::GetQuota(_) => "GETQUOTA",
            Self::GetQuotaRoot(_) => "GETQUOTAROOT",
            Self::SetQuota => "SETQUOTA",
            Self::GetMetadata(_) => "GETMETADATA",
            Self::SetMetadata(_) => "SETMETADATA",
            Self::Acl(acl) => acl.name(),
            Self::Check => "CHECK",
            Self::Close => "CLOSE",
            Self::Unselect => "UNSELECT",
            Self::Expunge(_) => "EXPUNGE",
            Self::Search { .. } => "SEARCH",
            Self::UidBatches { .. } => "UIDBATCHES",
            Self::Sort { .. } => "SORT",
            Self::Thread { .. } => "THREAD",
            Self::Fetch { .. } => "FETCH",
            Self::Store { .. } => "STORE",
            Self::Copy { .. } => "COPY",
            Self::Move { .. } => "MOVE",
            Self::Idle => "IDLE",
            Self::Append { replaces: None, .. } => "APPEND",
            Self::Append { .. } => "REPLACE",
            Self::Notify(_) => "NOTIFY",
            Self::MultiSearch(_) => "ESEARCH",
            Self::CancelUpdate(_) => "CANCELUPDATE",
        }
    }
}
