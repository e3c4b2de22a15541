//! What there is to tell the sender of a message about its recipients.

use mail::address::Address;
use smtp::original::OriginalRecipient;

use crate::queue::journal::Standing;
use crate::queue::{Message, Recipient, State};

/// What became of a recipient (RFC 3464 §2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Given up.
    Failed,
    /// Still being tried.
    Delayed,
    /// Handed to a server that does not report.
    Relayed,
    /// In the mailbox.
    Delivered,
    /// Sent on to everybody on a list.
    Expanded,
}

/// One recipient's news.
#[derive(Debug, Clone)]
pub struct News {
    /// What became of it.
    pub action: Action,
    /// The address.
    pub address: Address,
    /// The address the sender knows it by.
    pub original: Option<OriginalRecipient>,
    /// RFC 3463 status.
    pub status: String,
    /// The reply, the fault, or words of ours.
    pub text: String,
    /// A remote server's words.
    pub remote: bool,
    /// The host that was spoken to.
    pub host: Option<String>,
}

impl Action {
    /// The word for it in a report.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Relayed => "relayed",
            Self::Delivered => "delivered",
            Self::Expanded => "expanded",
        }
    }
}

/// All of a message: of those that are over, and of those that wait if it `is_late`.
#[must_use]
pub fn of(message: &Message, is_late: bool) -> Vec<News> {
    let over = message.unreported().map(|(_, recipient)| over(recipient));
    let late = message.unwarned().filter(|_| is_late);
    let late =
        late.map(|(_, recipient)| told(recipient, Action::Delayed, "4.0.0", "not tried yet"));
    over.chain(late).collect()
}

fn over(recipient: &Recipient) -> News {
    match (recipient.state, recipient.standing) {
        (State::Failed, _) => told(recipient, Action::Failed, "5.0.0", "given up"),
        (_, Standing::Waiting) => told(recipient, Action::Relayed, "2.0.0", "handed over"),
        (_, Standing::Delivered | Standing::Here) => {
            told(recipient, Action::Delivered, "2.1.5", "delivered here")
        }
        (_, Standing::Expanded) => told(
            recipient,
            Action::Expanded,
            "2.1.5",
            "sent on to everybody on the list",
        ),
    }
}

// Words of ours stand in where no attempt has brought any.
fn told(recipient: &Recipient, action: Action, status: &str, text: &str) -> News {
    let last = recipient.last.as_ref();
    News {
        action,
        address: recipient.address.clone(),
        original: recipient.parameters.original.clone(),
        status: last.map_or(status, |last| last.status.as_str()).to_owned(),
        text: last.map_or(text, |last| last.text.as_str()).to_owned(),
        remote: last.is_some_and(|last| last.remote),
        host: last.and_then(|last| last.host.clone()),
    }
}
