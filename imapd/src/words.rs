//! What the client is told: tagged answers, and deliverd's refusals in IMAP's words.

use daemon::channel::CallError;
use imap::response::{self, Code, Kind};
use ipc::Refusal;

/// The last line of an answer.
#[derive(Debug)]
pub(crate) struct Tagged {
    line: Vec<u8>,
    /// Where a code can be put: behind an OK that has none.
    room: Option<usize>,
}

impl Tagged {
    pub(crate) fn ok(tag: &str, text: &str) -> Self {
        Self::new(tag, Kind::Ok, None, text)
    }

    pub(crate) fn ok_with(tag: &str, code: &Code<'_>, text: &str) -> Self {
        Self::new(tag, Kind::Ok, Some(code), text)
    }

    pub(crate) fn no(tag: &str, code: Option<&Code<'_>>, text: &str) -> Self {
        Self::new(tag, Kind::No, code, text)
    }

    pub(crate) fn bad(tag: &str, text: &str) -> Self {
        Self::new(tag, Kind::Bad, None, text)
    }

    pub(crate) fn bad_with(tag: &str, code: &Code<'_>, text: &str) -> Self {
        Self::new(tag, Kind::Bad, Some(code), text)
    }

    /// deliverd says no, or nothing.
    pub(crate) fn refused(tag: &str, error: &CallError) -> Self {
        match error {
            CallError::Refused(refusal) => {
                Self::no(tag, code(refusal).as_ref(), &refusal.to_string())
            }
            CallError::Unavailable => Self::no(
                tag,
                Some(&Code::Unavailable),
                "the store does not answer, try again",
            ),
        }
    }

    /// The same where the target mailbox may be missing.
    // RFC 3501 §6.3.11, §6.4.7: TRYCREATE tells the client that CREATE would help.
    pub(crate) fn refused_target(tag: &str, error: &CallError) -> Self {
        match error {
            CallError::Refused(Refusal::NoSuchMailbox) => {
                Self::no(tag, Some(&Code::TryCreate), "no such mailbox")
            }
            error => Self::refused(tag, error),
        }
    }

    fn new(tag: &str, kind: Kind, code: Option<&Code<'_>>, text: &str) -> Self {
        let mut line = Vec::new();
        response::tagged(tag, kind, code, text, &mut line);
        let room = (kind == Kind::Ok && code.is_none()).then_some(tag.len() + " OK ".len());
        Self { line, room }
    }

    /// Has it say this for programs. Whether it does: it may be no OK, or say something else.
    pub(crate) fn add_code(&mut self, code: &Code<'_>) -> bool {
        let Some(at) = self.room.take() else {
            return false;
        };
        let mut written = b"[".to_vec();
        code.write(&mut written);
        written.extend_from_slice(b"] ");
        self.line.splice(at..at, written);
        true
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.line
    }
}

// RFC 5530 §3.
const fn code(refusal: &Refusal) -> Option<Code<'static>> {
    Some(match refusal {
        Refusal::BadCredentials { .. } => Code::AuthenticationFailed,
        Refusal::OverQuota => Code::OverQuota,
        Refusal::MessageTooLarge => Code::TooBig,
        Refusal::TooManyFailures | Refusal::TooManyRecipients | Refusal::TooManyKeywords => {
            Code::Limit
        }
        Refusal::DiskFull
        | Refusal::QuarantineFull
        | Refusal::StorageFault
        | Refusal::Busy
        | Refusal::ShuttingDown
        | Refusal::DeadlinePassed
        | Refusal::UnknownHandle
        | Refusal::SizeMismatch => Code::Unavailable,
        Refusal::NoSuchMailbox | Refusal::NotFound => Code::NonExistent,
        Refusal::MailboxExists | Refusal::Exists => Code::AlreadyExists,
        Refusal::InvalidMailboxName | Refusal::NotPermitted => Code::Cannot,
        Refusal::NoRight => Code::NoPerm,
        Refusal::ReadOnly => Code::ReadOnly,
        Refusal::NothingSelected => Code::ServerBug,
        Refusal::NoSuchUser
        | Refusal::NoSuchDomain
        | Refusal::SenderNotAllowed
        | Refusal::Invalid(_)
        | Refusal::RelayDisabled => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_codes_and_words() {
        let said = |refusal| Tagged::refused("a", &CallError::Refused(refusal)).line;
        assert_eq!(
            said(Refusal::OverQuota),
            b"a NO [OVERQUOTA] quota exceeded\r\n"
        );
        assert_eq!(said(Refusal::Invalid("x\r\ny".into())), b"a NO x??y\r\n");
        let target = Tagged::refused_target("a", &CallError::Refused(Refusal::NoSuchMailbox));
        assert_eq!(target.line, b"a NO [TRYCREATE] no such mailbox\r\n");
    }

    #[test]
    fn a_code_is_added_only_to_an_ok_without_one() {
        let mut plain = Tagged::ok("a1", "done");
        assert!(plain.add_code(&Code::Limit));
        assert!(!plain.add_code(&Code::Limit));
        assert_eq!(plain.line, b"a1 OK [LIMIT] done\r\n");
        assert!(!Tagged::ok_with("a", &Code::ReadOnly, "x").add_code(&Code::Limit));
        assert!(!Tagged::bad("a", "x").add_code(&Code::Limit));
    }
}
