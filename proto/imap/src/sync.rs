//! What clients say who were here before and want to hear only what changed since: CONDSTORE and QRESYNC (RFC 7162).

use crate::sequence::SequenceSet;

/// No modification sequence is larger (RFC 7162 §7: 63 bits).
pub const MAX_MODSEQ: u64 = i64::MAX.unsigned_abs();

/// What ENABLE can switch on (RFC 5161); other names are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    /// CONDSTORE
    CondStore,
    /// QRESYNC
    QResync,
    /// UTF8=ACCEPT (RFC 6855)
    Utf8Accept,
    /// IMAP4rev2 (RFC 9051 §6.3.1)
    Rev2,
    /// UIDONLY (RFC 9586)
    UidOnly,
}

/// How much of RFC 7162 a client has shown to know. Never less later in the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Awareness {
    /// Nothing: it hears of sequence numbers and flags.
    #[default]
    Plain,
    /// With flags that changed it hears MODSEQ (§3.1).
    CondStore,
    /// The same, and always UIDs: of messages that are gone, too (§3.2).
    QResync,
}

/// What a client of SELECT knows from its last visit (RFC 7162 §3.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resync {
    /// UIDVALIDITY; if it is another one now, nothing of the rest counts.
    pub uid_validity: u32,
    /// All changes up to this one are known.
    pub modseq: u64,
    /// The UIDs it knows; all below UIDNEXT if absent.
    pub known: Option<SequenceSet>,
    /// It says which sequence numbers some of them had.
    pub names_numbers: bool,
}

/// FETCH only of what changed (RFC 7162 §3.1.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangedSince {
    /// Since this modification sequence.
    pub modseq: u64,
    /// Also which of the messages asked for are gone since then (§3.2.6).
    pub vanished: bool,
}
