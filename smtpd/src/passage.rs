//! Under whose name a message goes out: an alias passes a stranger's mail on under an address of ours (SRS), everything else goes
//! out under the sender it came with.

use smtp::command::Mail;

/// One message goes out in one of these ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// Under the sender it came with.
    AsItIs,
    /// Under an address that stands for the sender.
    Rewritten,
}

impl Passage {
    /// What happens to a message that an alias leads elsewhere.
    pub(crate) fn of_alias(mail: &Mail, account: Option<&str>) -> Self {
        // Who logged in sends as one of us, and a report has no sender.
        match (mail.sender.address(), account) {
            (Some(_), None) => Self::Rewritten,
            (None, _) | (_, Some(_)) => Self::AsItIs,
        }
    }
}
