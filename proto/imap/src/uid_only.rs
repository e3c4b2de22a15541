//! UIDONLY (RFC 9586): which commands name messages by their place in the mailbox.

use crate::append::{Head, Replaced};
use crate::command::{Command, Numbering};

/// What a client is told that has given up sequence numbers, and names one.
pub const REFUSAL: &str = "there are no message numbers since ENABLE UIDONLY, use UIDs";

/// Whether a command takes sequence numbers, or would be answered with some.
// §3.2, §3.5, §3.7, §3.8. `$` (RFC 5182) names UIDs here.
#[must_use]
pub fn names_numbers(command: &Command) -> bool {
    match command {
        Command::Search { by, key, .. }
        | Command::Sort { by, key, .. }
        | Command::Thread { by, key, .. } => is_sequence(*by) || key.names_sequence(),
        Command::Fetch { by, .. }
        | Command::Store { by, .. }
        | Command::Copy { by, .. }
        | Command::Move { by, .. } => is_sequence(*by),
        Command::Append { replaces, .. } => replaces_by_number(*replaces),
        Command::Select { resync, .. } => {
            resync.as_ref().is_some_and(|resync| resync.names_numbers)
        }
        Command::MultiSearch(search) => search.key.names_sequence(),
        Command::Acl(_)
        | Command::CancelUpdate(_)
        | Command::Capability
        | Command::Noop
        | Command::Logout
        | Command::Id
        | Command::StartTls
        | Command::Login(_)
        | Command::Authenticate { .. }
        | Command::Compress
        | Command::Unauthenticate
        | Command::Enable(_)
        | Command::Namespace
        | Command::Create { .. }
        | Command::Delete(_)
        | Command::Rename { .. }
        | Command::Subscribe(_)
        | Command::Unsubscribe(_)
        | Command::List(_)
        | Command::Lsub { .. }
        | Command::Status { .. }
        | Command::GetQuota(_)
        | Command::GetQuotaRoot(_)
        | Command::SetQuota
        | Command::GetMetadata(_)
        | Command::SetMetadata(_)
        | Command::Check
        | Command::Close
        | Command::Unselect
        | Command::Expunge(_)
        | Command::UidBatches { .. }
        | Command::Idle
        | Command::Notify(_) => false,
    }
}

/// The same of a REPLACE whose message comes behind it.
#[must_use]
pub fn names_number(head: &Head) -> bool {
    replaces_by_number(head.replaces)
}

fn replaces_by_number(replaced: Option<Replaced>) -> bool {
    replaced.is_some_and(|replaced| is_sequence(replaced.by))
}

fn is_sequence(by: Numbering) -> bool {
    by == Numbering::Sequence
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    #[test]
    fn message_numbers_are_found_wherever_they_stand() {
        for text in [
            "FETCH 1 FLAGS",
            "FETCH * FLAGS",
            "FETCH $ FLAGS",
            "STORE 1 FLAGS ()",
            "SEARCH ALL",
            "SEARCH UID 1",
            "SEARCH RETURN () ALL",
            "COPY 1 a",
            "MOVE 1 a",
            "SORT (DATE) UTF-8 ALL",
            "THREAD REFS UTF-8 ALL",
            "UID SEARCH 1:2",
            "UID SEARCH *",
            "UID SEARCH NOT (SEEN 1)",
            "UID SEARCH OR 1 UID 10",
            "UID SORT (DATE) UTF-8 1:2",
            "UID THREAD REFS UTF-8 1",
            "ESEARCH 1:2",
            "ESEARCH IN (personal) NOT 1",
            "REPLACE 1 a CATENATE (URL b)",
            "SELECT a (QRESYNC (1 1 1:9 (1 9)))",
            "EXAMINE a (QRESYNC (1 1 (1 9)))",
        ] {
            let line = alloc::format!("a {text}");
            let command = parse::request(line.as_bytes()).expect(text).command;
            assert!(names_numbers(&command), "{text}");
        }
    }

    #[test]
    fn uids_are_no_message_numbers() {
        for text in [
            "UID FETCH 1:* FLAGS",
            "UID FETCH $ FLAGS",
            "UID STORE 1 FLAGS ()",
            "UID SEARCH UID 1:*",
            "UID SEARCH $",
            "UID COPY 1 a",
            "UID MOVE 1 a",
            "UID SORT (DATE) UTF-8 UID 1",
            "UID THREAD REFS UTF-8 ALL",
            "UID REPLACE * a CATENATE (URL b)",
            "UID EXPUNGE 1",
            "UIDBATCHES 500 1:2",
            "EXPUNGE",
            "SELECT a (QRESYNC (1 1 1:9))",
            "APPEND a CATENATE (URL b)",
        ] {
            let line = alloc::format!("a {text}");
            let command = parse::request(line.as_bytes()).expect(text).command;
            assert!(!names_numbers(&command), "{text}");
        }
    }
}
