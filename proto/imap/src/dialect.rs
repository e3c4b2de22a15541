//! What a client has switched on with ENABLE that changes how both sides write things.

/// How a client speaks. Nothing is ever switched off again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dialect {
    /// UTF8=ACCEPT (RFC 6855 §3).
    pub utf8: bool,
    /// IMAP4rev2 (RFC 9051).
    pub rev2: bool,
    /// UIDONLY (RFC 9586): neither side names messages by their place.
    pub uid_only: bool,
}

impl Dialect {
    /// What clients speak that have switched nothing on.
    pub const REV1: Self = Self {
        utf8: false,
        rev2: false,
        uid_only: false,
    };

    /// Whether names of mailboxes are written in UTF-8, not in modified UTF-7.
    // RFC 6855 §3; RFC 9051 §5.1.
    #[must_use]
    pub const fn has_utf8_names(self) -> bool {
        self.utf8 || self.rev2
    }
}
