//! Why a daemon does not do what it was asked.

use crate::frame::{Decode, Encode};

/// A reason not to do what was asked. Only the process that speaks to the user turns it into words and codes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Refusal {
    /// The domain is ours, the local part is neither a user nor an alias.
    #[error("no such user")]
    NoSuchUser,
    /// The domain is not one of ours.
    #[error("no such domain")]
    NoSuchDomain,
    /// Unknown user or wrong password; never says which.
    #[error("wrong user name or password")]
    BadCredentials {
        /// Seconds after which the client is told, so that guessing is slow.
        wait: u8,
    },
    /// Too many failed logins from this network; try later.
    #[error("too many failed logins, try again later")]
    TooManyFailures,
    /// The envelope sender is not the authenticated identity or one of its aliases.
    #[error("sender address does not belong to the authenticated user")]
    SenderNotAllowed,
    /// The mailbox's or user's quota is used up.
    #[error("quota exceeded")]
    OverQuota,
    /// The message is larger than is taken.
    #[error("message too large")]
    MessageTooLarge,
    /// More recipients than one message may have, or an alias that expands too far.
    #[error("too many recipients")]
    TooManyRecipients,
    /// The disk is full.
    #[error("out of disk space")]
    DiskFull,
    /// As much is in quarantine as may be.
    #[error("the quarantine is full")]
    QuarantineFull,
    /// The disk or database failed; details are in the answerer's log.
    #[error("storage failure, see the daemon's log")]
    StorageFault,
    /// The answerer has as much to do as it takes on; try later.
    #[error("busy, try again later")]
    Busy,
    /// The answerer is about to stop.
    #[error("shutting down")]
    ShuttingDown,
    /// The deadline passed before the work was done; nothing was acknowledged.
    #[error("deadline passed")]
    DeadlinePassed,
    /// No mailbox of that name.
    #[error("no such mailbox")]
    NoSuchMailbox,
    /// A mailbox of that name exists.
    #[error("mailbox already exists")]
    MailboxExists,
    /// The mailbox name is not acceptable (empty, too long, control characters, empty level).
    #[error("invalid mailbox name")]
    InvalidMailboxName,
    /// The operation cannot be done on this mailbox (deleting or renaming away INBOX, for example).
    #[error("not permitted on this mailbox")]
    NotPermitted,
    /// Its owner has not given the user the right to do this with the mailbox (RFC 4314).
    #[error("you have not the right to do this with the mailbox")]
    NoRight,
    /// The mailbox was selected read-only.
    #[error("mailbox is read-only")]
    ReadOnly,
    /// No mailbox is selected on this mail session.
    #[error("no mailbox selected")]
    NothingSelected,
    /// The mailbox holds as many different keywords as it can.
    #[error("too many keywords in this mailbox")]
    TooManyKeywords,
    /// The handle of an opened message is unknown, committed, aborted or timed out.
    #[error("unknown or expired message handle")]
    UnknownHandle,
    /// The stream carried another number of bytes than the commit says.
    #[error("message body incomplete")]
    SizeMismatch,
    /// An operator's order names something that is there already.
    #[error("already exists")]
    Exists,
    /// An operator's order names something that is not there.
    #[error("not found")]
    NotFound,
    /// An argument cannot be accepted; the text says which and why, in words an admin can act on.
    #[error("{0}")]
    Invalid(String),
    /// Outbound mail is switched off in the configuration.
    #[error("relaying is disabled")]
    RelayDisabled,
}

impl Refusal {
    /// Whether the same request may well succeed later (SMTP 4yz, RFC 5321 §4.2.1).
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::OverQuota
            | Self::TooManyFailures
            | Self::DiskFull
            | Self::QuarantineFull
            | Self::StorageFault
            | Self::Busy
            | Self::ShuttingDown
            | Self::DeadlinePassed
            | Self::UnknownHandle
            | Self::SizeMismatch => true,
            Self::NoSuchUser
            | Self::NoSuchDomain
            | Self::BadCredentials { .. }
            | Self::SenderNotAllowed
            | Self::MessageTooLarge
            | Self::TooManyRecipients
            | Self::NoSuchMailbox
            | Self::MailboxExists
            | Self::InvalidMailboxName
            | Self::NotPermitted
            | Self::NoRight
            | Self::ReadOnly
            | Self::NothingSelected
            | Self::TooManyKeywords
            | Self::Exists
            | Self::NotFound
            | Self::Invalid(_)
            | Self::RelayDisabled => false,
        }
    }
}
