//! The store's tools, a part of the operator's edge to deliverd: walks over the store in pieces.
//!
//! rmailctl asks for one piece after the other, each time behind the place where the last one ended. So deliverd keeps nothing
//! for it, work ends when nobody asks any more, and goes on from any place. What a piece found comes as [`Row`]s in a sealed
//! memory file beside the answer.

use crate::frame::{self, Decode, Encode, FrameError};
use crate::session::UidRanges;

/// What of the store is meant.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Scope {
    /// All of it.
    Everything,
    /// All users of a domain.
    Domain(String),
    /// A user, by address.
    User(String),
    /// One mailbox.
    Mailbox {
        /// Address of its user.
        user: String,
        /// Its name, as IMAP clients see it in UTF-8.
        name: String,
    },
}

/// What is done at each place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Work {
    /// Tell deviations; nothing is changed.
    Check,
    /// Tell deviations and mend what can be mended without deleting mail.
    Repair,
    /// Drop caches and read them anew from the files.
    Rebuild,
    /// Drop the text that is kept for searching.
    DropText,
    /// Count messages and bytes.
    Measure,
    /// Read every message again and tell its hash.
    Hash,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Seen {
    /// Directories of users.
    pub users: u64,
    /// Directories of mailboxes.
    pub mailboxes: u64,
    /// Files of messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that were expunged and can be had back, from [`Work::Measure`].
    pub expunged_messages: u64,
    /// Their bytes.
    pub expunged_bytes: u64,
}

/// What is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Kind {
    /// Something the store has no use for.
    UnknownEntry,
    /// A link, FIFO, socket, device or directory where that has no place.
    NotAFile,
    /// A directory that no domain, user or mailbox is encoded as.
    BadName,
    /// A mailbox made by hand while its user was in use: nobody sees it yet.
    NotListed,
    /// A `.eml` file whose name is no message's.
    StrayFile,
    /// A second file, or name, of one UID.
    DuplicateUid,
    /// A message in the shard of other UIDs.
    WrongShard,
    /// `status.json` does not know of the newest messages yet. After a crash that is so until the mailbox is used.
    UidNext,
    /// The UIDs of a mailbox are nearly used up.
    UidLimit,
    /// No `status.json`.
    StatusMissing,
    /// `status.json` cannot be read.
    StatusDamaged,
    /// No `account.json`.
    AccountFileMissing,
    /// `account.json` cannot be read.
    AccountFileDamaged,
    /// No UIDVALIDITY, or that of another mailbox of the user.
    UidValidity,
    /// Keywords of a message that is gone. Removals leave them until the file is next written.
    KeywordLine,
    /// A file of keywords with lines that cannot be read.
    KeywordsDamaged,
    /// Ids of a message that is gone, or of another mailbox: copied by hand, or it lost its `status.json`. They mean nothing and
    /// stay until the file is next written.
    IdsLine,
    /// A file of ids with lines that cannot be read.
    IdsDamaged,
    /// Permissions that are too wide or too narrow.
    Mode,
    /// It belongs to another user than the store.
    Owner,
    /// A message without a byte.
    EmptyFile,
    /// Half made or half removed when deliverd or its machine stopped.
    Leftover,
    /// Mail of a user that was removed; it is kept until somebody deletes it.
    RemovedUser,
    /// Mail of a user that has no account.
    NoAccount,
    /// A user without a directory.
    NoDirectory,
    /// More names in a directory than it can need.
    Crowded,
    /// A cache that is not one.
    Cache,
    /// The disk does not give it.
    Unreadable,
}

impl Kind {
    /// How it is written for people and programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::UnknownEntry => "unknown-entry",
            Self::NotAFile => "not-a-file",
            Self::BadName => "bad-name",
            Self::NotListed => "not-listed",
            Self::StrayFile => "stray-file",
            Self::DuplicateUid => "duplicate-uid",
            Self::WrongShard => "wrong-shard",
            Self::UidNext => "uid-next",
            Self::UidLimit => "uid-limit",
            Self::StatusMissing => "status-missing",
            Self::StatusDamaged => "status-damaged",
            Self::AccountFileMissing => "account-file-missing",
            Self::AccountFileDamaged => "account-file-damaged",
            Self::UidValidity => "uidvalidity",
            Self::KeywordLine => "keyword-line",
            Self::KeywordsDamaged => "keywords-damaged",
            Self::IdsLine => "ids-line",
            Self::IdsDamaged => "ids-damaged",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::EmptyFile => "empty-file",
            Self::Leftover => "leftover",
            Self::RemovedUser => "removed-user",
            Self::NoAccount => "no-account",
            Self::NoDirectory => "no-directory",
            Self::Crowded => "crowded",
            Self::Cache => "cache",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether the store comes to it by itself in good order: worth knowing, but no damage.
    #[must_use]
    pub const fn is_note(self) -> bool {
        matches!(
            self,
            Self::UidNext | Self::KeywordLine | Self::IdsLine | Self::RemovedUser
        )
    }
}

/// What a repair does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Remedy {
    /// Nothing: a person has to decide.
    ByHand,
    /// The message gets a new UID at the end, as a file made by hand does.
    NewUid,
    /// The name too many is removed; the message keeps the other one.
    DropName,
    /// The file is written anew from what is known.
    Rewrite,
    /// The mailbox gets a UIDVALIDITY of its own.
    NewUidValidity,
    /// The permissions are set.
    SetMode,
    /// It is moved to `.aside/` in the store.
    MoveAside,
    /// The directory gets the name its text is encoded as.
    Rename,
    /// The mailbox is shown.
    Show,
    /// It is removed; no mail is in it.
    Remove,
    /// It is made.
    Make,
}

impl Remedy {
    /// What it does, in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::ByHand => "left as it is",
            Self::NewUid => "gets a new UID",
            Self::DropName => "the name too many is removed",
            Self::Rewrite => "is written anew",
            Self::NewUidValidity => "gets a UIDVALIDITY of its own",
            Self::SetMode => "permissions are set",
            Self::MoveAside => "is moved to .aside/",
            Self::Rename => "gets its proper name",
            Self::Show => "is shown to its user",
            Self::Remove => "is removed",
            Self::Make => "is made",
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// It was looked for only.
    Found,
    /// It is mended.
    Mended,
    /// It is still there.
    Remains,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Deviation {
    /// Where, below the mail store; characters that are not printable are escaped.
    pub path: String,
    /// What.
    pub kind: Kind,
    /// More about it, in words; may be empty.
    pub detail: String,
    /// What a repair does.
    pub remedy: Remedy,
    /// What was done.
    pub outcome: Outcome,
}

/// What a mailbox takes. One that is large is told in several rows, to be added up.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MailboxSize {
    /// Domain, user and mailbox as their directories are named, `example.com/alice/INBOX`.
    pub mailbox: String,
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of its caches.
    pub cache_bytes: u64,
}

/// A message that was read again.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MessageHash {
    /// As in [`MailboxSize`].
    pub mailbox: String,
    /// UIDVALIDITY of the mailbox, 0 if it is not known.
    pub uid_validity: u32,
    /// UID; messages of a mailbox come in the order of their UIDs.
    pub uid: u32,
    /// Bytes that were read.
    pub size: u64,
    /// SHA-256 of them, or why it could not be read.
    pub hash: Result<[u8; 32], String>,
}

/// What the last recovery did with a message or mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Recovered {
    /// The mailbox, below the mail store.
    pub path: String,
    /// UID of the message, 0 for a mailbox.
    pub uid: u32,
    /// What became of it, in a word: `restored`, `replaced`, `set-aside`, `no-mailbox`.
    pub what: String,
}

/// What the last recovery did, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Recovery {
    /// When, in Unix seconds.
    pub time: i64,
    /// Mailboxes the journal had something about.
    pub mailboxes: u64,
    /// Messages it had something about.
    pub messages: u64,
    /// Messages whose files were missing and were written again.
    pub restored: u64,
    /// Messages whose files were incomplete and were written again.
    pub replaced: u64,
    /// Files that had a message's name, were something else, and got another one.
    pub set_aside: u64,
    /// Mailboxes that are no longer there.
    pub lost_mailboxes: u64,
}

/// Which of a user's expunged messages are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct ExpungedRange {
    /// Those that were in this mailbox, by the name it had, as IMAP clients see it in UTF-8.
    pub mailbox: Option<String>,
    /// Those that were removed on this day or later, in UTC, `2026-11-27`.
    pub since: Option<String>,
    /// Those that had these UIDs.
    pub uids: Option<UidRanges>,
}

/// A message that was expunged and can be had back.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ExpungedMessage {
    /// Day of its removal, in UTC, `2026-11-27`.
    pub day: String,
    /// Mailbox it was in, by the name it had.
    pub mailbox: String,
    /// UIDVALIDITY of that mailbox.
    pub uid_validity: u32,
    /// UID it had there.
    pub uid: u32,
    /// Whether it went with the mailbox.
    pub with_mailbox: bool,
    /// Bytes.
    pub size: u64,
    /// INTERNALDATE, Unix seconds.
    pub internal_date: i64,
    /// Bits of [`crate::snapshot::flag`].
    pub flags: u8,
    /// Keywords.
    pub keywords: Vec<String>,
}

/// How the journal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct JournalState {
    /// Its files.
    pub files: u32,
    /// Their bytes in all.
    pub bytes: u64,
    /// Bytes that may still be written before one of them is needed again.
    pub room: u64,
    /// Records since those that are on disk where they belong; one of them may only say so.
    pub records: u64,
    /// Milliseconds since the first of them was written, 0 if there is none.
    pub age_ms: u64,
    /// Whether it takes nothing any more, because the disk failed.
    pub is_closed: bool,
}

/// A line of what a piece of a walk tells.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Row {
    /// From [`Work::Check`] and [`Work::Repair`], and from all others where something cannot be read.
    Deviation(Deviation),
    /// From [`Work::Measure`].
    Size(MailboxSize),
    /// From [`Work::Hash`].
    Hash(MessageHash),
    /// What the last recovery did.
    Recovered(Recovered),
    /// A message that can be had back.
    Expunged(ExpungedMessage),
}

/// Rows as the bytes of a memory file: each a frame behind its length.
///
/// # Errors
/// When a row does not fit into a frame.
pub fn pack<T: Encode>(rows: &[T]) -> Result<Vec<u8>, FrameError> {
    let mut packed = Vec::new();
    for row in rows {
        let bytes = frame::encode(row)?;
        let length = u32::try_from(bytes.len()).map_err(|_| FrameError::TooLong)?;
        packed.extend_from_slice(&length.to_le_bytes());
        packed.extend_from_slice(&bytes);
    }
    Ok(packed)
}

/// Reads what [`pack`] made.
///
/// # Errors
/// [`FrameError::Malformed`] for anything else.
pub fn unpack<T: Decode<()>>(mut packed: &[u8]) -> Result<Vec<T>, FrameError> {
    let mut rows = Vec::new();
    while let Some((length, rest)) = packed.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (bytes, rest) = rest.split_at_checked(length).ok_or(FrameError::Malformed)?;
        rows.push(frame::decode(bytes)?);
        packed = rest;
    }
    if packed.is_empty() {
        Ok(rows)
    } else {
        Err(FrameError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        vec![
            Row::Size(MailboxSize {
                mailbox: "a.test/alice/INBOX".into(),
                messages: 1,
                bytes: 2,
                cache_bytes: 3,
            }),
            Row::Hash(MessageHash {
                mailbox: "a.test/alice/INBOX".into(),
                uid_validity: 7,
                uid: 1,
                size: 2,
                hash: Err("no".into()),
            }),
        ]
    }

    #[test]
    fn rows_survive_the_round_trip() {
        assert_eq!(unpack(&pack(&rows()).unwrap()), Ok(rows()));
        assert_eq!(unpack::<Row>(&[]), Ok(Vec::new()));
    }

    #[test]
    fn rows_that_are_cut_off_anywhere_are_refused() {
        let packed = pack(&rows()).unwrap();
        let first = pack(&rows()[..1]).unwrap().len();
        for end in (1..packed.len()).filter(|end| *end != first) {
            assert_eq!(
                unpack::<Row>(&packed[..end]),
                Err(FrameError::Malformed),
                "{end}"
            );
        }
    }
}
