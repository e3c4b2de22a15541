//! What a client is told of changes.

/// Which changes of the selected mailbox a client hears of unasked (RFC 5465 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// That messages come and go.
    pub messages: bool,
    /// That flags change.
    pub flags: bool,
}

impl Wanted {
    /// All of them.
    pub const ALL: Self = Self {
        messages: true,
        flags: true,
    };
    /// None.
    pub const NOTHING: Self = Self {
        messages: false,
        flags: false,
    };
}

/// Whether the client may be told that messages are gone.
// RFC 3501 §7.4.1: not while no command is in progress, nor while responding to FETCH, STORE or SEARCH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expunges {
    /// Yes.
    Allowed,
    /// Yes, and of new ones too, whether it wants to hear of such changes or not: it asked for this one.
    Due,
    /// Not now.
    Held,
}
