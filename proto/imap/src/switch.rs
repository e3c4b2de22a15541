//! Which extensions a command is of: where one of them is switched off, the command is unknown.

use alloc::vec::Vec;

use crate::append::Step;
use crate::capability::Off;
use crate::command::{Command, FetchItem, List, StatusItem};
use crate::esearch::Return;
use crate::metadata::{Get, Set};
use crate::notify::{Group, Notify};
use crate::search::Key;
use crate::sequence::SequenceSet;
use crate::sort::{Criterion, SortKey};
use crate::sync::Extension;
use crate::thread::Algorithm;

/// What a command needs that is off. What ENABLE names is not looked at: names it does not know are ignored (RFC 5161 §3.1).
#[must_use]
pub fn missing(command: &Command, off: Off) -> Option<&'static str> {
    if off.is_nothing() {
        return None;
    }
    let mut needs = Needs(Vec::new());
    needs.command(command);
    needs.0.into_iter().find(|name| off.has(name))
}

/// What some steps of an APPEND need that is off.
#[must_use]
pub fn missing_in_append(steps: &[Step], off: Off) -> Option<&'static str> {
    let mut needs = Needs(Vec::new());
    needs.steps(steps);
    needs.0.into_iter().find(|name| off.has(name))
}

/// The name of what ENABLE switches on.
#[must_use]
pub const fn name(extension: Extension) -> &'static str {
    match extension {
        Extension::CondStore => "CONDSTORE",
        Extension::QResync => "QRESYNC",
        Extension::Utf8Accept => "UTF8=ACCEPT",
        Extension::Rev2 => "IMAP4rev2",
        Extension::UidOnly => "UIDONLY",
    }
}

struct Needs(Vec<&'static str>);

impl Needs {
    fn on(&mut self, condition: bool, name: &'static str) {
        if condition {
            self.0.push(name);
        }
    }

    fn command(&mut self, command: &Command) {
        match command {
            Command::Capability
            | Command::Noop
            | Command::Logout
            | Command::StartTls
            | Command::Login(_)
            | Command::Authenticate { .. }
            | Command::Delete(_)
            | Command::Rename { .. }
            | Command::Subscribe(_)
            | Command::Unsubscribe(_)
            | Command::Lsub { .. }
            | Command::Check
            | Command::Close
            | Command::Expunge(None) => {}
            Command::Id => self.0.push("ID"),
            Command::Compress => self.0.push("COMPRESS=DEFLATE"),
            Command::Unauthenticate => self.0.push("UNAUTHENTICATE"),
            Command::Enable(_) => self.0.push("ENABLE"),
            Command::Namespace => self.0.push("NAMESPACE"),
            Command::Select {
                condstore, resync, ..
            } => {
                self.on(*condstore, "CONDSTORE");
                self.on(resync.is_some(), "QRESYNC");
            }
            Command::Create { special_use, .. } => {
                self.on(special_use.is_some(), "CREATE-SPECIAL-USE");
            }
            Command::List(list) => self.list(list),
            Command::Status { items, .. } => self.status(items),
            Command::GetQuota(_) | Command::GetQuotaRoot(_) | Command::SetQuota => {
                self.0.push("QUOTA");
            }
            Command::Acl(_) => self.0.push("ACL"),
            Command::GetMetadata(Get { mailbox, .. })
            | Command::SetMetadata(Set { mailbox, .. }) => {
                self.0.push("METADATA");
                self.on(mailbox.is_empty(), "METADATA-SERVER");
            }
            Command::Unselect => self.0.push("UNSELECT"),
            Command::UidBatches { .. } => self.0.push("UIDBATCHES"),
            Command::Expunge(Some(set)) => {
                self.0.push("UIDPLUS");
                self.set(set);
            }
            Command::Search { results, key, .. } => {
                self.results(results.as_ref(), "ESEARCH", "CONTEXT=SEARCH");
                self.key(key);
            }
            Command::MultiSearch(search) => {
                self.0.push("MULTISEARCH");
                self.results(search.results.as_ref(), "ESEARCH", "CONTEXT=SEARCH");
                self.key(&search.key);
            }
            Command::CancelUpdate(_) => self.0.push("CONTEXT=SEARCH"),
            Command::Sort {
                results,
                criteria,
                key,
                ..
            } => {
                self.0.push("SORT");
                let is_display =
                    |one: &Criterion| matches!(one.key, SortKey::DisplayFrom | SortKey::DisplayTo);
                self.on(criteria.iter().any(is_display), "SORT=DISPLAY");
                self.results(results.as_ref(), "ESORT", "CONTEXT=SORT");
                self.key(key);
            }
            Command::Thread { algorithm, key, .. } => {
                self.0.push(match algorithm {
                    Algorithm::OrderedSubject => "THREAD=ORDEREDSUBJECT",
                    Algorithm::References => "THREAD=REFERENCES",
                    Algorithm::Refs => "THREAD=REFS",
                });
                self.key(key);
            }
            Command::Fetch {
                set,
                items,
                changed_since,
                partial,
                ..
            } => {
                self.set(set);
                for item in items {
                    self.fetch_item(item);
                }
                self.on(changed_since.is_some(), "CONDSTORE");
                self.on(changed_since.is_some_and(|since| since.vanished), "QRESYNC");
                self.on(partial.is_some(), "PARTIAL");
            }
            Command::Store {
                set,
                unchanged_since,
                ..
            } => {
                self.set(set);
                self.on(unchanged_since.is_some(), "CONDSTORE");
            }
            Command::Copy { set, .. } => self.set(set),
            Command::Move { set, .. } => {
                self.0.push("MOVE");
                self.set(set);
            }
            Command::Idle => self.0.push("IDLE"),
            Command::Notify(notify) => self.notify(notify),
            Command::Append {
                replaces, steps, ..
            } => {
                self.on(replaces.is_some(), "REPLACE");
                self.steps(steps);
            }
        }
    }

    fn notify(&mut self, notify: &Notify) {
        self.0.push("NOTIFY");
        let Notify::Set { groups, .. } = notify else {
            return;
        };
        for Group { events, .. } in groups {
            for item in &events.fetch {
                self.fetch_item(item);
            }
            self.on(events.annotations, "METADATA");
            self.on(events.server_annotations, "METADATA-SERVER");
        }
    }

    fn list(&mut self, list: &List) {
        self.on(list.is_extended, "LIST-EXTENDED");
        self.on(list.selection.special_use, "SPECIAL-USE");
        self.on(!list.told.status.is_empty(), "LIST-STATUS");
        self.on(!list.told.metadata.is_empty(), "LIST-METADATA");
        self.on(list.told.rights, "LIST-MYRIGHTS");
        self.status(&list.told.status);
    }

    fn status(&mut self, items: &[StatusItem]) {
        for item in items {
            match item {
                StatusItem::Messages
                | StatusItem::Recent
                | StatusItem::UidNext
                | StatusItem::UidValidity
                | StatusItem::Unseen
                | StatusItem::Deleted => {}
                StatusItem::HighestModSeq => self.0.push("CONDSTORE"),
                StatusItem::Size => self.0.push("STATUS=SIZE"),
                StatusItem::DeletedStorage => self.0.push("QUOTA=RES-STORAGE"),
                StatusItem::MailboxId => self.0.push("OBJECTID"),
                StatusItem::AppendLimit => self.0.push("APPENDLIMIT"),
            }
        }
    }

    fn steps(&mut self, steps: &[Step]) {
        self.on(steps.contains(&Step::Catenate), "CATENATE");
        let is_next = |pair: &[Step]| matches!(pair, [Step::End, Step::Begin { .. }]);
        self.on(steps.windows(2).any(is_next), "MULTIAPPEND");
    }

    fn fetch_item(&mut self, item: &FetchItem) {
        match item {
            FetchItem::Envelope
            | FetchItem::Flags
            | FetchItem::InternalDate
            | FetchItem::Size
            | FetchItem::Uid
            | FetchItem::Body
            | FetchItem::BodyStructure
            | FetchItem::Section { .. } => {}
            FetchItem::ModSeq => self.0.push("CONDSTORE"),
            FetchItem::EmailId | FetchItem::ThreadId => self.0.push("OBJECTID"),
            FetchItem::SaveDate => self.0.push("SAVEDATE"),
            FetchItem::Preview { .. } => self.0.push("PREVIEW"),
            FetchItem::Binary { .. } | FetchItem::BinarySize { .. } => self.0.push("BINARY"),
        }
    }

    fn results(&mut self, results: Option<&Return>, name: &'static str, contexts: &'static str) {
        if let Some(results) = results {
            self.0.push(name);
            self.on(results.context || results.update, contexts);
            self.on(results.save, "SEARCHRES");
            self.on(results.partial.is_some(), "PARTIAL");
        }
    }

    fn set(&mut self, set: &SequenceSet) {
        self.on(*set == SequenceSet::Saved, "SEARCHRES");
    }

    fn key(&mut self, key: &Key) {
        match key {
            Key::All
            | Key::Flag(_)
            | Key::Recent
            | Key::Received(..)
            | Key::Sent(..)
            | Key::Larger(_)
            | Key::Smaller(_)
            | Key::Header { .. }
            | Key::Body(_)
            | Key::Text(_) => {}
            Key::Sequence(set) | Key::Uid(set) => self.set(set),
            Key::Saved(..) => self.0.push("SAVEDATE"),
            Key::EmailId(_) | Key::ThreadId(_) => self.0.push("OBJECTID"),
            Key::Older(_) | Key::Younger(_) => self.0.push("WITHIN"),
            Key::ModSeq(_) => self.0.push("CONDSTORE"),
            Key::UidAfter(_) | Key::UidBefore(_) => self.0.push("MESSAGELIMIT"),
            Key::Fuzzy(key) => {
                self.0.push("SEARCH=FUZZY");
                self.key(key);
            }
            Key::Not(key) => self.key(key),
            Key::Or(a, b) => {
                self.key(a);
                self.key(b);
            }
            Key::And(keys) => keys.iter().for_each(|key| self.key(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    /// What each extension adds to the grammar.
    const COMMANDS: &[(&str, &str)] = &[
        ("ID", "ID NIL"),
        ("ENABLE", "ENABLE QRESYNC"),
        ("NAMESPACE", "NAMESPACE"),
        ("IDLE", "IDLE"),
        ("NOTIFY", "NOTIFY NONE"),
        (
            "PREVIEW",
            "NOTIFY SET (SELECTED (MESSAGENEW (PREVIEW) MESSAGEEXPUNGE))",
        ),
        ("METADATA", "NOTIFY SET (PERSONAL (MAILBOXMETADATACHANGE))"),
        (
            "METADATA-SERVER",
            "NOTIFY SET (PERSONAL (SERVERMETADATACHANGE))",
        ),
        ("UNSELECT", "UNSELECT"),
        ("UIDPLUS", "UID EXPUNGE 1"),
        ("MOVE", "UID MOVE 1 a"),
        ("SPECIAL-USE", "LIST (SPECIAL-USE) \"\" *"),
        ("CREATE-SPECIAL-USE", "CREATE a (USE (\\Sent))"),
        ("LIST-EXTENDED", "LIST \"\" (a b)"),
        ("LIST-STATUS", "LIST \"\" * RETURN (STATUS (UNSEEN))"),
        ("STATUS=SIZE", "STATUS a (SIZE)"),
        ("STATUS=SIZE", "LIST \"\" * RETURN (STATUS (SIZE))"),
        ("ACL", "SETACL a b l"),
        ("ACL", "DELETEACL a b"),
        ("ACL", "GETACL a"),
        ("ACL", "LISTRIGHTS a b"),
        ("ACL", "MYRIGHTS a"),
        ("LIST-MYRIGHTS", "LIST \"\" * RETURN (MYRIGHTS)"),
        ("QUOTA", "GETQUOTA \"\""),
        ("QUOTA", "GETQUOTAROOT a"),
        ("QUOTA", "SETQUOTA a ()"),
        ("QUOTA=RES-STORAGE", "STATUS a (DELETED-STORAGE)"),
        ("METADATA", "GETMETADATA a /shared/comment"),
        ("METADATA", "SETMETADATA a (/shared/comment NIL)"),
        ("METADATA-SERVER", "GETMETADATA \"\" /shared/comment"),
        ("METADATA-SERVER", "SETMETADATA \"\" (/private/comment NIL)"),
        (
            "LIST-METADATA",
            "LIST \"\" * RETURN (METADATA (/shared/comment))",
        ),
        ("OBJECTID", "STATUS a (MAILBOXID)"),
        ("OBJECTID", "FETCH 1 EMAILID"),
        ("OBJECTID", "SEARCH NOT EMAILID a"),
        ("SAVEDATE", "FETCH 1 SAVEDATE"),
        ("SAVEDATE", "SEARCH OR ALL SAVEDON 1-Jan-2020"),
        ("BINARY", "FETCH 1 BINARY[1]"),
        ("BINARY", "FETCH 1 BINARY.SIZE[1]"),
        ("CONDSTORE", "SELECT a (CONDSTORE)"),
        ("CONDSTORE", "STORE 1 (UNCHANGEDSINCE 1) FLAGS ()"),
        ("CONDSTORE", "FETCH 1 MODSEQ"),
        ("CONDSTORE", "FETCH 1 FLAGS (CHANGEDSINCE 1)"),
        ("CONDSTORE", "SEARCH (ALL MODSEQ 1)"),
        ("CONDSTORE", "STATUS a (HIGHESTMODSEQ)"),
        ("QRESYNC", "SELECT a (QRESYNC (1 1))"),
        ("QRESYNC", "UID FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)"),
        ("ESEARCH", "SEARCH RETURN () ALL"),
        ("SEARCHRES", "SEARCH RETURN (SAVE) ALL"),
        ("SEARCHRES", "UID COPY $ a"),
        ("SEARCHRES", "STORE $ FLAGS ()"),
        ("SEARCHRES", "SEARCH UID $"),
        ("WITHIN", "SEARCH YOUNGER 1"),
        ("UIDBATCHES", "UIDBATCHES 500"),
        ("MESSAGELIMIT", "UID SEARCH UIDAFTER 1"),
        ("MESSAGELIMIT", "UID SEARCH NOT (UIDBEFORE 1)"),
        ("PARTIAL", "SEARCH RETURN (PARTIAL 1:2) ALL"),
        ("PARTIAL", "UID FETCH 1 FLAGS (PARTIAL 1:2)"),
        ("CONTEXT=SEARCH", "SEARCH RETURN (CONTEXT COUNT) ALL"),
        ("CONTEXT=SEARCH", "UID SEARCH RETURN (UPDATE) ALL"),
        ("CONTEXT=SEARCH", "CANCELUPDATE \"a\""),
        ("CONTEXT=SEARCH", "ESEARCH IN (inboxes) RETURN (UPDATE) ALL"),
        ("MULTISEARCH", "ESEARCH ALL"),
        ("SEARCH=FUZZY", "SEARCH NOT FUZZY SUBJECT x"),
        ("WITHIN", "SEARCH FUZZY YOUNGER 1"),
        ("SEARCHRES", "ESEARCH RETURN (SAVE) ALL"),
        ("WITHIN", "ESEARCH IN (inboxes) YOUNGER 1"),
        ("CONTEXT=SORT", "SORT RETURN (UPDATE) (DATE) UTF-8 ALL"),
        ("SORT", "SORT (DATE) UTF-8 ALL"),
        ("SORT=DISPLAY", "SORT (DISPLAYFROM) UTF-8 ALL"),
        ("ESORT", "SORT RETURN (MIN) (DATE) UTF-8 ALL"),
        ("THREAD=ORDEREDSUBJECT", "THREAD ORDEREDSUBJECT UTF-8 ALL"),
        ("THREAD=REFERENCES", "THREAD REFERENCES UTF-8 ALL"),
        ("THREAD=REFS", "UID THREAD REFS UTF-8 ALL"),
        ("COMPRESS=DEFLATE", "COMPRESS DEFLATE"),
        ("UNAUTHENTICATE", "UNAUTHENTICATE"),
        ("APPENDLIMIT", "STATUS a (APPENDLIMIT)"),
        ("MULTIAPPEND", "APPEND a CATENATE (URL b) CATENATE (URL c)"),
        ("CATENATE", "APPEND a CATENATE (URL b)"),
        ("REPLACE", "REPLACE 1 a CATENATE (URL b)"),
        ("PREVIEW", "FETCH 1 PREVIEW"),
    ];

    /// What adds only to answers, or is asked for with ENABLE.
    const SILENT: [&str; 10] = [
        "RIGHTS=kxte",
        "I18NLEVEL=1",
        "IMAP4rev2",
        "UTF8=ACCEPT",
        "CHILDREN",
        "INPROGRESS",
        "QUOTA=RES-MESSAGE",
        "QUOTA=RES-MAILBOX",
        "SAVELIMIT",
        "UIDONLY",
    ];

    #[test]
    fn every_extension_that_is_off_takes_its_commands_along_and_no_others() {
        for (name, text) in COMMANDS {
            let line = alloc::format!("a {text}");
            let command = parse::request(line.as_bytes()).expect(text).command;
            assert_eq!(missing(&command, Off::default()), None, "{text}");
            let off = Off::of([*name]);
            assert!(missing(&command, off).is_some(), "{text} without {name}");
            for other in crate::capability::all_switchable() {
                let off = Off::of([other]);
                if let Some(found) = missing(&command, off) {
                    assert!(off.has(found), "{text} without {other}");
                }
            }
        }
        for plain in [
            "SELECT a",
            "LIST \"\" *",
            "FETCH 1 (FLAGS UID)",
            "STATUS a (UNSEEN)",
            "EXPUNGE",
        ] {
            let line = alloc::format!("a {plain}");
            let command = parse::request(line.as_bytes()).expect(plain).command;
            let all = Off::of(crate::capability::all_switchable());
            assert_eq!(missing(&command, all), None, "{plain}");
        }
    }

    #[test]
    fn every_extension_that_can_be_switched_off_is_in_the_table() {
        for name in crate::capability::all_switchable() {
            let is_command = COMMANDS.iter().any(|(known, _)| *known == name);
            assert!(is_command != SILENT.contains(&name), "{name}");
        }
    }
}
