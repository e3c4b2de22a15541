//! Which command may be given when.

use crate::append::{Head, Replaced};
use crate::command::Command;

/// How far a connection has come.
// RFC 3501 §3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody has logged in.
    NotAuthenticated,
    /// Somebody has.
    Authenticated,
    /// A mailbox is selected.
    Selected,
}

/// In which states a command is welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Welcome {
    Always,
    BeforeLogin,
    AfterLogin,
    Selected,
}

/// Whether `command` may be given in `state`.
///
/// # Errors
/// The words that tell the client what to do first.
pub const fn check(command: &Command, state: State) -> Result<(), &'static str> {
    check_welcome(welcome(command), state)
}

/// Whether an APPEND, or a REPLACE, may be given in `state`.
///
/// # Errors
/// The words that tell the client what to do first.
pub const fn check_append(head: &Head, state: State) -> Result<(), &'static str> {
    check_welcome(welcome_to_append(head.replaces.as_ref()), state)
}

const fn welcome_to_append(replaces: Option<&Replaced>) -> Welcome {
    match replaces {
        Some(_) => Welcome::Selected,
        None => Welcome::AfterLogin,
    }
}

const fn check_welcome(welcome: Welcome, state: State) -> Result<(), &'static str> {
    match (welcome, state) {
        (Welcome::Always, _)
        | (Welcome::BeforeLogin, State::NotAuthenticated)
        | (Welcome::AfterLogin, State::Authenticated | State::Selected)
        | (Welcome::Selected, State::Selected) => Ok(()),
        (Welcome::BeforeLogin, _) => Err("you are logged in already"),
        (Welcome::AfterLogin | Welcome::Selected, State::NotAuthenticated) => Err("log in first"),
        (Welcome::Selected, State::Authenticated) => Err("select a mailbox first"),
    }
}

// RFC 3501 §6.1–6.4, with the extensions' own words on where they belong.
const fn welcome(command: &Command) -> Welcome {
    match command {
        Command::Capability | Command::Noop | Command::Logout | Command::Id => Welcome::Always,
        Command::StartTls | Command::Login(_) | Command::Authenticate { .. } => {
            Welcome::BeforeLogin
        }
        Command::Compress
        | Command::Unauthenticate
        | Command::Enable(_)
        | Command::Namespace
        | Command::Select { .. }
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
        | Command::Acl(_)
        | Command::Notify(_)
        | Command::Idle => Welcome::AfterLogin,
        Command::Append { replaces, .. } => welcome_to_append(replaces.as_ref()),
        // RFC 7377 §2.1.
        Command::MultiSearch(search) if !search.needs_selected => Welcome::AfterLogin,
        Command::MultiSearch(_)
        | Command::Check
        | Command::Close
        | Command::Unselect
        | Command::Expunge(_)
        | Command::Search { .. }
        | Command::UidBatches { .. }
        | Command::CancelUpdate(_)
        | Command::Sort { .. }
        | Command::Thread { .. }
        | Command::Fetch { .. }
        | Command::Store { .. }
        | Command::Copy { .. }
        | Command::Move { .. } => Welcome::Selected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::parse;

    const ALWAYS: [bool; 3] = [true, true, true];
    const BEFORE: [bool; 3] = [true, false, false];
    const AFTER: [bool; 3] = [false, true, true];
    const SELECTED: [bool; 3] = [false, false, true];

    /// Every command, and whether it is welcome before login, after it, with a mailbox selected.
    const TABLE: [(&str, [bool; 3]); 79] = [
        ("CAPABILITY", ALWAYS),
        ("NOOP", ALWAYS),
        ("LOGOUT", ALWAYS),
        ("ID NIL", ALWAYS),
        ("STARTTLS", BEFORE),
        ("LOGIN a b", BEFORE),
        ("AUTHENTICATE PLAIN", BEFORE),
        ("AUTHENTICATE PLAIN =", BEFORE),
        ("COMPRESS DEFLATE", AFTER),
        ("UNAUTHENTICATE", AFTER),
        ("ENABLE X", AFTER),
        ("ENABLE QRESYNC", AFTER),
        ("ENABLE UIDONLY", AFTER),
        ("SELECT a (CONDSTORE)", AFTER),
        ("EXAMINE a (QRESYNC (1 1))", AFTER),
        ("NAMESPACE", AFTER),
        ("SELECT a", AFTER),
        ("EXAMINE a", AFTER),
        ("CREATE a", AFTER),
        ("DELETE a", AFTER),
        ("RENAME a b", AFTER),
        ("SUBSCRIBE a", AFTER),
        ("UNSUBSCRIBE a", AFTER),
        ("LIST \"\" *", AFTER),
        ("LSUB \"\" *", AFTER),
        ("STATUS a (UNSEEN)", AFTER),
        ("STATUS a (DELETED DELETED-STORAGE)", AFTER),
        ("GETQUOTA \"\"", AFTER),
        ("GETQUOTAROOT a", AFTER),
        ("SETQUOTA \"\" (STORAGE 1)", AFTER),
        ("GETMETADATA \"\" /shared/comment", AFTER),
        ("SETMETADATA a (/private/comment NIL)", AFTER),
        ("LIST \"\" * RETURN (METADATA (/shared/comment))", AFTER),
        ("LIST \"\" * RETURN (MYRIGHTS)", AFTER),
        ("SETACL a b lr", AFTER),
        ("DELETEACL a b", AFTER),
        ("GETACL a", AFTER),
        ("LISTRIGHTS a b", AFTER),
        ("MYRIGHTS a", AFTER),
        ("IDLE", AFTER),
        ("NOTIFY NONE", AFTER),
        ("NOTIFY SET (personal NONE)", AFTER),
        ("CHECK", SELECTED),
        ("CLOSE", SELECTED),
        ("UNSELECT", SELECTED),
        ("EXPUNGE", SELECTED),
        ("SEARCH ALL", SELECTED),
        ("UIDBATCHES 500", SELECTED),
        ("UIDBATCHES 500 2:3", SELECTED),
        ("SEARCH RETURN (UPDATE COUNT) ALL", SELECTED),
        ("CANCELUPDATE \"a\"", SELECTED),
        ("ESEARCH IN (personal) ALL", AFTER),
        ("ESEARCH ALL", SELECTED),
        ("ESEARCH IN (inboxes selected) ALL", SELECTED),
        ("ESEARCH IN (inboxes) RETURN (UPDATE) ALL", SELECTED),
        ("SORT (DATE) UTF-8 ALL", SELECTED),
        ("SORT RETURN (MIN) (DATE) UTF-8 ALL", SELECTED),
        ("THREAD REFERENCES UTF-8 ALL", SELECTED),
        ("UID SORT (REVERSE SIZE) UTF-8 ALL", SELECTED),
        ("UID THREAD REFS UTF-8 ALL", SELECTED),
        ("FETCH 1 ALL", SELECTED),
        ("STORE 1 FLAGS ()", SELECTED),
        ("STORE 1 (UNCHANGEDSINCE 1) FLAGS ()", SELECTED),
        ("SEARCH MODSEQ 1", SELECTED),
        ("UID FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)", SELECTED),
        ("COPY 1 a", SELECTED),
        ("MOVE 1 a", SELECTED),
        ("UID EXPUNGE 1", SELECTED),
        ("UID SEARCH ALL", SELECTED),
        ("UID FETCH 1 FAST", SELECTED),
        ("UID STORE 1 +FLAGS.SILENT \\Seen", SELECTED),
        ("UID COPY 1 a", SELECTED),
        ("UID MOVE 1 a", SELECTED),
        ("APPEND a ", AFTER),
        ("APPEND a CATENATE (URL /a/;UID=1)", AFTER),
        ("REPLACE 1 a ", SELECTED),
        ("UID REPLACE 1 a ", SELECTED),
        ("REPLACE 1 a CATENATE (URL /a/;UID=1)", SELECTED),
        ("UID REPLACE * a CATENATE (URL /a/;UID=1)", SELECTED),
    ];

    #[test]
    fn every_command_is_welcome_in_exactly_the_states_the_table_says() {
        let states = [
            State::NotAuthenticated,
            State::Authenticated,
            State::Selected,
        ];
        for (text, expected) in TABLE {
            let found = states.map(|state| match text {
                text if text.ends_with(' ') => {
                    let line = alloc::format!("a {text}");
                    let (head, ..) =
                        parse::append::begin(Dialect::REV1, line.as_bytes()).expect(text);
                    check_append(&head, state).is_ok()
                }
                text => {
                    let line = alloc::format!("a {text}");
                    let request = parse::request(line.as_bytes()).expect(text);
                    check(&request.command, state).is_ok()
                }
            });
            assert_eq!(found, expected, "{text}");
        }
    }
}
