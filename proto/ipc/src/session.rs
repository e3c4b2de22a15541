//! The mail session: one connected descriptor that is one account. Its requests never name an account but as the owner of a mailbox
//! whose name begins with [`crate::acl::OTHER_USERS`]; what may be done with that, deliverd looks up for each request anew.
//!
//! Calls are answered in order. Events about the selected mailbox come on the same descriptor, before the answer of the
//! call that caused them, so the holder has always seen a change when it sees the answer. A holder that reads too slowly
//! gets [`SessionEvent::Resync`] instead of a growing queue, and selects again.

use crate::acl::{AclEntry, Rights, RightsChange};
use crate::cache::{CacheKind, NewEntry};
use crate::delivery::MessageHandle;
use crate::edge::Edge;
use crate::frame::{Decode, Encode, MAX_FRAME};
use crate::metadata::{Annotation, AnnotationChange};
use crate::quota::{Limits, Usage};
use crate::snapshot::{Record, ShardCount};

/// How many mailboxes one page of a listing holds at most.
pub const MAILBOXES_PER_FRAME: usize = 16;
/// How many messages one `OpenMessages` may ask for (the kernel passes at most 253 descriptors).
pub const MESSAGES_PER_FRAME: usize = 64;
/// How many UID ranges one request or answer may carry; larger sets are split by the asker.
pub const RANGES_PER_FRAME: usize = 1000;
/// How many ranges of messages say beside them of what others had changed before.
pub const OVERTAKEN_PER_FRAME: usize = 256;
/// How many records one event carries at most.
pub const RECORDS_PER_FRAME: usize = 400;
/// How many messages one list of ids holds at most.
pub const IDS_PER_FRAME: usize = 300;
/// How many happenings one list of them holds at most.
pub const HAPPENINGS_PER_FRAME: usize = 32;
/// How many different keywords a mailbox can hold.
pub const MAX_KEYWORDS: usize = 64;
/// Longest keyword in bytes.
pub const MAX_KEYWORD_LEN: usize = 100;
/// How many shards one answer to `Select` names at most; a larger table comes in a descriptor.
pub const SHARDS_IN_FRAME: usize = 500;
/// How many shards one `ReadPages` may ask for.
pub const PAGES_PER_READ: usize = 8;
/// How many messages are appended together at most.
pub const APPENDS_TOGETHER: usize = 500;
/// How many bytes the keywords of all of them may have.
pub const KEYWORDS_TOGETHER: usize = 64 * 1024;
/// Longest mailbox name in bytes of UTF-8.
pub const MAX_MAILBOX_NAME: usize = 200;

/// What stands around the message, the name and the keywords of an `Append` in its frame, generously, and before each text.
const AROUND_APPEND: usize = 128;
const LENGTH: usize = 8;

/// Whether a message of `size` bytes can be appended in one piece.
#[must_use]
pub fn append_fits_in_frame(mailbox: &str, keywords: &[String], size: usize) -> bool {
    let keywords = keywords.iter().map(|one| LENGTH + one.len());
    keywords
        .fold(AROUND_APPEND + mailbox.len(), usize::saturating_add)
        .saturating_add(size)
        <= MAX_FRAME
}

/// Inclusive UID ranges, ascending and disjoint.
pub type UidRanges = Vec<(u32, u32)>;

/// What a mailbox is for (RFC 6154 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum SpecialUse {
    /// `\Archive`
    Archive,
    /// `\Drafts`
    Drafts,
    /// `\Junk`
    Junk,
    /// `\Sent`
    Sent,
    /// `\Trash`
    Trash,
}

/// How STORE changes flags (RFC 9051 §6.4.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum FlagChange {
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
    /// `FLAGS`
    Replace,
}

/// Orders of the holder of a mail session.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SessionRequest {
    /// One page of the account's mailboxes (and names only subscribed to), ordered by name.
    ListMailboxes {
        /// Names up to this one were seen; `None` for the first page.
        after: Option<String>,
    },
    /// One mailbox, or one name that is only subscribed to; a name that is neither is told as one that is not there.
    DescribeMailbox {
        /// Full name.
        name: String,
    },
    /// One page of the mailboxes of others that the account may see, ordered by name.
    ListShared {
        /// [`SessionAnswer::SharedMailboxes`] said so; `None` for the first page.
        after: Option<String>,
    },
    /// The access control list of a mailbox, without its owner.
    ReadAcl {
        /// Full name.
        mailbox: String,
    },
    /// Change an entry of it. Refused with `OverQuota` where there would be too many.
    ChangeAcl {
        /// Full name.
        mailbox: String,
        /// An address, a local part in the owner's domain, or [`crate::acl::ANYONE`]; with `-` in front to take rights away.
        identifier: String,
        /// How.
        change: RightsChange,
    },
    /// Which rights somebody has always, and could be given.
    ListRights {
        /// Full name.
        mailbox: String,
        /// As in [`SessionRequest::ChangeAcl`].
        identifier: String,
    },
    /// Which rights the account itself has.
    MyRights {
        /// Full name.
        mailbox: String,
    },
    /// Make a mailbox (UTF-8 name, `/` between levels). Missing parents are made too.
    CreateMailbox {
        /// Full name.
        name: String,
        /// RFC 6154 use, if the creator wants one.
        special_use: Option<SpecialUse>,
    },
    /// Remove a mailbox and its messages; children stay.
    DeleteMailbox {
        /// Full name.
        name: String,
    },
    /// Rename a mailbox and its children. Renaming INBOX moves its messages (RFC 9051 §6.3.6).
    RenameMailbox {
        /// Old name.
        from: String,
        /// New name.
        to: String,
    },
    /// Subscribe or unsubscribe a name.
    Subscribe {
        /// Full name; need not exist to be unsubscribed.
        name: String,
        /// True to subscribe.
        subscribed: bool,
    },
    /// Counters of a mailbox.
    Status {
        /// Full name.
        name: String,
    },
    /// Make this the selected mailbox, instead of the one before. Answered with what its messages add up to; events start from
    /// exactly there.
    Select {
        /// Full name.
        name: String,
        /// EXAMINE: nothing may be changed through this selection.
        read_only: bool,
    },
    /// Nothing is selected any more; no more events.
    Unselect,
    /// The messages of some shards of the selected mailbox as they are now. All that happened to them before was told before the
    /// answer; what happens afterwards may be told before it, too.
    ReadPages {
        /// At most [`PAGES_PER_READ`].
        shards: Vec<u32>,
    },
    /// Read-only descriptors of messages of the selected mailbox, at most [`MESSAGES_PER_FRAME`].
    OpenMessages {
        /// UIDs.
        uids: Vec<u32>,
    },
    /// A read-only descriptor of a message of any mailbox of the account. Answered like `OpenMessages`.
    OpenNamed {
        /// Full name.
        mailbox: String,
        /// If the mailbox has another, the message is not there.
        uid_validity: Option<u32>,
        /// UID.
        uid: u32,
    },
    /// Read-only descriptors of what is kept for readers of the selected mailbox, at most [`crate::cache::SHARDS_PER_FRAME`].
    OpenCache {
        /// What is wanted.
        kind: CacheKind,
        /// Of which shards.
        shards: Vec<u32>,
    },
    /// Give what was worked out about messages of the selected mailbox, to be kept for its readers. Answered with the stream to
    /// write exactly these entries into, one after the other. What becomes of them is not told: readers can do without. Refused
    /// with `NotPermitted` where the operator does not want them kept.
    FillCache {
        /// What it is.
        kind: CacheKind,
        /// At most [`crate::cache::ENTRIES_PER_FILL`], of at most [`crate::cache::MAX_FILL`] bytes in all.
        entries: Vec<NewEntry>,
    },
    /// Change flags of messages of the selected mailbox. UIDs that are gone are skipped.
    StoreFlags {
        /// Which.
        uids: UidRanges,
        /// How.
        change: FlagChange,
        /// System flags, bits of [`crate::snapshot::flag`].
        flags: u8,
        /// Keywords by name.
        keywords: Vec<String>,
        /// Leave messages alone that changed since this modification sequence (RFC 7162 §3.1.3). At most
        /// [`RANGES_PER_FRAME`] messages then.
        unchanged_since: Option<u64>,
        /// All changes up to this modification sequence were heard of when this was asked for.
        heard: u64,
    },
    /// Which messages of the selected mailbox are gone since a modification sequence (RFC 7162 §3.2.10), a page of ranges.
    ListRemoved {
        /// The modification sequence.
        since: u64,
        /// UIDs up to this one were seen; 0 for the first page.
        after: u32,
    },
    /// When messages of the selected mailbox came into it (RFC 8514), at most [`RANGES_PER_FRAME`] of them.
    ListSaveDates {
        /// Which.
        uids: UidRanges,
    },
    /// What messages of the selected mailbox are known by for ever, at most [`IDS_PER_FRAME`] of them.
    ListIds {
        /// Which.
        uids: UidRanges,
    },
    /// Remove messages that carry `\Deleted`: all, or those among `uids` (RFC 4315 §2.1).
    Expunge {
        /// `None` for all.
        uids: Option<UidRanges>,
    },
    /// Copy messages of the selected mailbox to another one. All or nothing.
    Copy {
        /// Which.
        uids: UidRanges,
        /// Name of the target.
        to: String,
    },
    /// Move messages of the selected mailbox to another one (RFC 6851).
    Move {
        /// Which.
        uids: UidRanges,
        /// Name of the target.
        to: String,
    },
    /// Append a message in one piece: make it durable and visible. For what [`append_fits_in_frame`].
    Append {
        /// Name of the target.
        mailbox: String,
        /// The message.
        bytes: Vec<u8>,
        /// System flags, bits of [`crate::snapshot::flag`].
        flags: u8,
        /// Keywords by name.
        keywords: Vec<String>,
        /// INTERNALDATE in Unix seconds; now if absent.
        internal_date: Option<i64>,
    },
    /// Begin an APPEND. Answered with the stream to write the message into, as in [`crate::delivery`].
    OpenAppend {
        /// Name of the target.
        mailbox: String,
        /// Size the client announced; refused at once if over quota or too large.
        size: u64,
    },
    /// More bytes than were announced will come for an opened message; refused at once if over quota or too large.
    ExtendAppend {
        /// From [`SessionAnswer::AppendOpened`].
        message: MessageHandle,
        /// How many there will be in all.
        size: u64,
    },
    /// All bytes were written and the stream shut down: keep the message, to be made durable with others. At most
    /// [`APPENDS_TOGETHER`], with keywords of at most [`KEYWORDS_TOGETHER`] bytes in all, and all for one mailbox.
    KeepAppend {
        /// From [`SessionAnswer::AppendOpened`].
        message: MessageHandle,
        /// Bytes written into the stream.
        size: u64,
        /// System flags, bits of [`crate::snapshot::flag`].
        flags: u8,
        /// Keywords by name.
        keywords: Vec<String>,
        /// INTERNALDATE in Unix seconds; now if absent.
        internal_date: Option<i64>,
    },
    /// Make the messages that are kept durable and visible: all or, whatever happens, none.
    CommitKept,
    /// Forget the messages that are kept.
    ForgetKept,
    /// All bytes were written and the stream shut down: make the message durable and visible.
    CommitAppend {
        /// From [`SessionAnswer::AppendOpened`].
        message: MessageHandle,
        /// Bytes written into the stream.
        size: u64,
        /// System flags, bits of [`crate::snapshot::flag`].
        flags: u8,
        /// Keywords by name.
        keywords: Vec<String>,
        /// INTERNALDATE in Unix seconds; now if absent.
        internal_date: Option<i64>,
        /// The message of the selected mailbox that goes when this one is there (RFC 8508). If it is not there, nothing is done.
        replaces: Option<u32>,
    },
    /// Forget the message.
    AbortAppend {
        /// From [`SessionAnswer::AppendOpened`].
        message: MessageHandle,
    },
    /// Bytes of the messages of a mailbox that carry `\Deleted`.
    DeletedSize {
        /// Full name.
        name: String,
    },
    /// The annotations of a mailbox.
    ReadAnnotations {
        /// Full name; `None` for those of the account itself.
        mailbox: Option<String>,
    },
    /// Change annotations, all or none. Refused with `OverQuota` where there would be too many.
    ChangeAnnotations {
        /// Full name; `None` for those of the account itself, which are all private.
        mailbox: Option<String>,
        /// In this order; at most [`crate::metadata::MAX_ENTRIES`].
        changes: Vec<AnnotationChange>,
    },
    /// How much the account stores and may store.
    Quota,
    /// Watch all mailboxes of the account, selected or not, or do so no more. [`SessionEvent::Happened`] says when there is something
    /// to ask for. Watching anew forgets what was not asked for yet.
    Watch {
        /// Whether to watch.
        wanted: bool,
    },
    /// What happened to the mailboxes that are watched, a page of it; each is told once.
    ListHappenings,
    /// Open another mail session of this account, to look into other mailboxes while one is selected. One at a time: `Busy` while there
    /// is one. It can open none itself.
    OpenBeside,
}

/// What was done to messages of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Touch {
    /// Some came.
    pub new: bool,
    /// Some went.
    pub gone: bool,
    /// Flags or keywords changed.
    pub flags: bool,
}

impl Touch {
    /// Nothing.
    pub const NOTHING: Self = Self {
        new: false,
        gone: false,
        flags: false,
    };

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            new: self.new || other.new,
            gone: self.gone || other.gone,
            flags: self.flags || other.flags,
        }
    }
}

/// What happened to a mailbox, or to a name.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum What {
    /// To its messages.
    Messages(Touch),
    /// It was made.
    Created,
    /// It is gone.
    Deleted,
    /// It had this name before.
    RenamedFrom(String),
    /// It was subscribed to, or is not any more.
    Subscribed,
    /// This annotation of it was written or removed; of the account, if the mailbox has no name.
    Annotated(String),
}

/// Something that happened to a mailbox that is watched.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Happening {
    /// The mailbox as it is now.
    pub mailbox: MailboxInfo,
    /// What happened.
    pub what: What,
}

/// A line of a mailbox listing.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MailboxInfo {
    /// Full name, UTF-8, `/` between levels.
    pub name: String,
    /// False for a name that is only subscribed to.
    pub exists: bool,
    /// Whether the user subscribed to it.
    pub subscribed: bool,
    /// RFC 6154 use.
    pub special_use: Option<SpecialUse>,
    /// Whether mailboxes exist below it.
    pub has_children: bool,
    /// What may be done with it.
    pub rights: Rights,
}

/// Counters of a mailbox (RFC 9051 §6.3.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct MailboxStatus {
    /// MESSAGES
    pub messages: u32,
    /// UNSEEN: messages without `\Seen`.
    pub unseen: u32,
    /// DELETED: messages with `\Deleted`.
    pub deleted: u32,
    /// SIZE: sum of sizes in bytes.
    pub size: u64,
    /// UIDNEXT
    pub uid_next: u32,
    /// UIDVALIDITY
    pub uid_validity: u32,
    /// HIGHESTMODSEQ
    pub highest_modseq: u64,
    /// MAILBOXID (RFC 8474 §4.1): never changes, and no other mailbox ever has it.
    pub mailbox_id: u128,
}

/// What a message is known by. Neither follows from its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct MessageIds {
    /// UID
    pub uid: u32,
    /// Stays with the message through MOVE and RENAME, and no other message of the account ever has it: a copy has its own.
    pub id: u128,
    /// EMAILID (RFC 8474 §5.1): the same for a message and its copies.
    pub email_id: u128,
}

/// What deliverd answers to a [`SessionRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SessionAnswer {
    /// A page of the listing.
    Mailboxes {
        /// Ordered by name.
        mailboxes: Vec<MailboxInfo>,
        /// Ask again with `after` = the last name.
        more: bool,
    },
    /// Comes with one descriptor: a connected packet socket that speaks this, bound to the same account.
    BesideOpened,
    /// A page of the mailboxes of others.
    SharedMailboxes {
        /// Ordered by name; there may be none although there are more.
        mailboxes: Vec<MailboxInfo>,
        /// To be asked with for the next page, if there is one.
        next: Option<String>,
    },
    /// An access control list.
    Acl {
        /// Who may do everything.
        owner: String,
        /// At most [`crate::acl::MAX_ENTRIES`], ordered by identifier.
        entries: Vec<AclEntry>,
    },
    /// Rights.
    Rights {
        /// Those that are there always.
        given: Rights,
        /// Those that could be given.
        possible: Rights,
    },
    /// Made, removed, renamed, subscribed, annotated, unselected or aborted.
    Done,
    /// Counters.
    Status(MailboxStatus),
    /// Selected; its messages are read with `ReadPages`. Comes with no descriptor, or with one: lines of
    /// [`crate::snapshot::LINE_LEN`] bytes for all shards, if there are more than [`SHARDS_IN_FRAME`].
    Selected {
        /// Counters at the moment of the selection. All its messages have UIDs below `uid_next`, and all that come later have not.
        status: MailboxStatus,
        /// The number of the first message without `\Seen`, counted from 1; 0 if there is none.
        first_unseen: u32,
        /// The keyword table.
        keywords: Vec<String>,
        /// Whether changes are refused.
        read_only: bool,
        /// What may be done with it.
        rights: Rights,
        /// The shards that have messages, ascending; none if they come in a descriptor.
        shards: Vec<ShardCount>,
    },
    /// Comes with one descriptor: records of [`crate::snapshot::RECORD_LEN`] bytes, ascending by UID.
    PagesRead {
        /// The shards asked for, in that order, with how many messages they have now. None at all for a shard that is not there.
        shards: Vec<ShardCount>,
    },
    /// Comes with one read-only descriptor per UID listed, in this order. UIDs that are gone are left out.
    MessagesOpened {
        /// The UIDs that were opened.
        uids: Vec<u32>,
    },
    /// Comes with one read-only descriptor per shard listed, in this order. Shards of which nothing is kept are left out.
    CachesOpened {
        /// The shards that were opened.
        shards: Vec<u32>,
        /// Whether entries of this kind are kept at all for this account. If not, none need be given.
        is_kept: bool,
    },
    /// Comes with one descriptor, a connected stream socket.
    CacheAwaited,
    /// Done; the events were sent before this answer.
    FlagsStored {
        /// Messages that had changed since `unchanged_since` and were left alone.
        modified: UidRanges,
        /// In these at most [`OVERTAKEN_PER_FRAME`] ranges are all messages that others had changed since `heard` before this change. There may
        /// be more in them.
        overtaken: UidRanges,
    },
    /// A page of what is gone.
    RemovedListed {
        /// Ascending.
        uids: UidRanges,
        /// Ask again with `after` = the last UID.
        more: bool,
        /// False if not all removals since then are remembered: whatever is not there may be gone since.
        complete: bool,
    },
    /// UIDs with Unix seconds, ascending. Those for which it is not known, or which are gone, are left out.
    SaveDatesListed(Vec<(u32, u32)>),
    /// Ascending by UID. Those that are gone are left out.
    IdsListed(Vec<MessageIds>),
    /// Done; the events were sent before this answer.
    Expunged,
    /// Copied or moved: the k-th source UID became the k-th target UID (RFC 4315 §3).
    Copied {
        /// UIDVALIDITY of the target.
        uid_validity: u32,
        /// Source UIDs that existed.
        source: UidRanges,
        /// Target UIDs.
        target: UidRanges,
    },
    /// Comes with one descriptor, a connected stream socket.
    AppendOpened(MessageHandle),
    /// Durable and visible.
    Appended {
        /// UIDVALIDITY of the mailbox.
        uid_validity: u32,
        /// UID of the new message.
        uid: u32,
    },
    /// All of them, ordered by name.
    Annotations(Vec<Annotation>),
    /// Bytes.
    DeletedSize(u64),
    /// The messages that were kept are durable and visible.
    KeptAppended {
        /// UIDVALIDITY of the mailbox.
        uid_validity: u32,
        /// Their UIDs, in their order.
        uids: UidRanges,
    },
    /// What happened, in this order.
    HappeningsListed {
        /// At most [`HAPPENINGS_PER_FRAME`].
        happenings: Vec<Happening>,
        /// There is more to ask for.
        more: bool,
        /// Too much had happened that was not asked for: nothing is known of it.
        lost: bool,
    },
    /// The account's own figures; those of its domain and tenant are nobody's but the operator's.
    Quota {
        /// Stored now.
        usage: Usage,
        /// May be stored.
        limits: Limits,
        /// Mailboxes there are now.
        mailboxes: u32,
        /// Mailboxes there may be.
        max_mailboxes: u32,
    },
}

/// What deliverd tells about the selected mailbox, and that something happened to others.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SessionEvent {
    /// The keyword table is now this; sent before any record that uses a new bit.
    Keywords(Vec<String>),
    /// New messages, ascending by UID, all above the ones known.
    Added(Vec<Record>),
    /// Messages whose flags, keywords or modseq changed, in their new state.
    Changed(Vec<Record>),
    /// Messages that are gone.
    Removed(UidRanges),
    /// Events were dropped because the holder read too slowly: select again and compare.
    Resync,
    /// The selected mailbox was deleted or renamed, or may not be read any more; nothing is selected any more.
    Gone,
    /// What may be done with the selected mailbox is now this.
    Rights(Rights),
    /// Something happened to mailboxes that are watched: ask with [`SessionRequest::ListHappenings`]. Not said again until then.
    Happened,
}

/// The holder of a mail session asks deliverd.
#[derive(Debug)]
pub struct SessionEdge;

impl Edge for SessionEdge {
    type Request = SessionRequest;
    type Answer = SessionAnswer;
    type Event = SessionEvent;
    const NAME: &'static str = "session";
    const ORDERED: bool = true;

    fn lost() -> Option<SessionEvent> {
        Some(SessionEvent::Resync)
    }
}

#[cfg(test)]
mod tests;
