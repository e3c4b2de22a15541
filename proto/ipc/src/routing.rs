//! How the addresses of a domain are read, and the steps from an address to whoever gets its mail.

use crate::control::AliasKind;
use crate::frame::{Decode, Encode};

/// How many steps one page of a trace holds at most.
pub const STEPS_PER_FRAME: usize = 8;

/// What we are for a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Duty {
    /// Its mail stays here: with its users, or where its aliases lead.
    Final,
    /// We take its mail for anybody and pass it on to its better mail servers (RFC 5321 §5.1).
    BackupForAnybody,
    /// The same, only for whom an alias names and for its postmaster.
    BackupForListed,
}

/// How the addresses of a domain are read.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AddressRules {
    /// What separates a name from a tag that does not count: `alice+news`. Empty if tags are no tags.
    pub separator: String,
    /// Whether `a.lice` is somebody else than `alice`.
    pub dots_matter: bool,
    /// Whether `Alice` is another address than `alice`. Names of users are in small letters all the same.
    pub case_matters: bool,
    /// What we are for the domain.
    pub duty: Duty,
}

/// What of it shall change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct RulesChange {
    /// One of `+ - _ = # ~`, or empty for none.
    pub separator: Option<String>,
    /// Whether dots matter.
    pub dots_matter: Option<bool>,
    /// Whether letter case matters; it ends mattering only where no alias and no grant has capital letters.
    pub case_matters: Option<bool>,
    /// What we are; refused for a domain with users, if they could not get mail any more.
    pub duty: Option<Duty>,
}

/// One address on the way, and what is found for it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TraceStep {
    /// How many steps lead here.
    pub depth: u32,
    /// The address.
    pub address: String,
    /// What becomes of its mail.
    pub found: Found,
}

/// What is found for an address.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Found {
    /// The user of this canonical address gets the mail.
    User(String),
    /// An alias leads on.
    Alias {
        /// How it matched.
        kind: AliasKind,
        /// What matched.
        pattern: String,
        /// Where it leads, captures filled in.
        targets: Vec<String>,
    },
    /// A mailbox every domain must take mail for (RFC 5321 §4.5.1, RFC 2142 §4) and that is neither user nor alias; this address
    /// stands in for it.
    Role(String),
    /// A sender's address that was rewritten here when a message was passed on; this was it before.
    Rewritten(String),
    /// Another server has the domain: the mail goes out.
    Elsewhere,
    /// We are a backup for the domain: the mail goes out to its better servers.
    Backup,
    /// It was met before on this way, and is not followed again.
    Loop,
    /// No user, no alias.
    Nobody,
    /// An alias makes an address of it that is none.
    NoAddress,
    /// More stand behind one another, or side by side, than are followed.
    TooFar,
}
