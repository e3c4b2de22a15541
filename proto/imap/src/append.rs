//! APPEND and REPLACE (RFC 8508): messages, each of them a literal (RFC 3502) or put together of literals and of what URLs name (RFC 4469).

use alloc::string::String;
use alloc::vec::Vec;

use crate::command::Numbering;
use crate::flag::Flag;
use crate::sequence::Number;

/// The head of an APPEND, or of a REPLACE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Chosen by the client.
    pub tag: String,
    /// The message that goes when the new one is there.
    pub replaces: Option<Replaced>,
    /// To which mailbox.
    pub mailbox: String,
}

/// A message of the selected mailbox, and how it is numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced {
    /// By what.
    pub by: Numbering,
    /// Its number.
    pub number: Number,
}

/// What is to be done next in an APPEND.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A message begins.
    Begin {
        /// With these flags.
        flags: Vec<Flag>,
        /// INTERNALDATE in Unix seconds.
        internal_date: Option<i64>,
    },
    /// It is put together of parts.
    Catenate,
    /// It goes on with what this URL names.
    Url(String),
    /// It goes on with the literal that follows.
    Literal,
    /// The same, which has to be a literal8: its header may be UTF-8 (RFC 6855 §4).
    Utf8Literal,
    /// It is complete.
    End,
}
