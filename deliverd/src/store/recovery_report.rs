//! `.journal/last-recovery.json`: what the last recovery did, for the operator. It may be deleted at any time.

use std::io;

use ipc::tools::{Recovered, Recovery};
use serde::{Deserialize, Serialize};

use super::disk::Dir;
use crate::clock;

/// File name in the directory of the journal.
const FILE: &str = "last-recovery.json";
/// How many of the things it did are told one by one.
const TOLD: usize = 100;

/// What became of a message or a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Deed {
    /// The file was missing and was written again.
    Restored,
    /// The file was incomplete and was written again.
    Replaced,
    /// A file with the name of a message was something else and got another name.
    SetAside,
    /// The mailbox is no longer there.
    NoMailbox,
}

/// What a recovery did: all of it in numbers, the first of it one by one.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    time: i64,
    mailboxes: u64,
    messages: u64,
    restored: u64,
    replaced: u64,
    set_aside: u64,
    lost_mailboxes: u64,
    first: Vec<Told>,
    /// The mailbox that is being worked on.
    #[serde(skip)]
    at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    path: String,
    uid: u32,
    what: Deed,
}

impl Report {
    /// Begins with a mailbox the journal has something about.
    pub(super) fn enter(&mut self, path: &str, messages: usize) {
        path.clone_into(&mut self.at);
        self.mailboxes += 1;
        self.messages += messages as u64;
    }

    /// Notes what was done; `uid` is 0 for a mailbox.
    pub(super) fn note(&mut self, uid: u32, what: Deed) {
        *match what {
            Deed::Restored => &mut self.restored,
            Deed::Replaced => &mut self.replaced,
            Deed::SetAside => &mut self.set_aside,
            Deed::NoMailbox => &mut self.lost_mailboxes,
        } += 1;
        if self.first.len() < TOLD {
            let path = self.at.clone();
            self.first.push(Told { path, uid, what });
        }
    }

    /// Messages that were written again.
    pub(super) fn written(&self) -> u64 {
        self.restored + self.replaced
    }

    /// Writes the file.
    pub(super) fn write(&mut self, journal: &Dir) -> io::Result<()> {
        self.time = clock::seconds();
        journal.write_small(FILE, &serde_json::to_vec(self)?)
    }

    /// Reads the file; `None` if it is missing or damaged.
    pub(super) fn read(journal: &Dir) -> io::Result<Option<Self>> {
        let bytes = journal.read_small(FILE)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// It in numbers.
    pub(super) const fn summary(&self) -> Recovery {
        Recovery {
            time: self.time,
            mailboxes: self.mailboxes,
            messages: self.messages,
            restored: self.restored,
            replaced: self.replaced,
            set_aside: self.set_aside,
            lost_mailboxes: self.lost_mailboxes,
        }
    }

    /// The first things it did.
    pub(super) fn told(self) -> impl Iterator<Item = Recovered> {
        self.first.into_iter().take(TOLD).map(|told| Recovered {
            path: told.path,
            uid: told.uid,
            what: match told.what {
                Deed::Restored => "restored",
                Deed::Replaced => "replaced",
                Deed::SetAside => "set-aside",
                Deed::NoMailbox => "no-mailbox",
            }
            .to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_bounded_and_survives_the_round_trip() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::root(temp.path()).unwrap();
        assert!(Report::read(&dir).unwrap().is_none());
        let mut report = Report::default();
        report.enter("domains/a/users/b/mailboxes/INBOX", 500);
        (1..=500).for_each(|uid| report.note(uid, Deed::Restored));
        report.write(&dir).unwrap();
        let read = Report::read(&dir).unwrap().unwrap();
        let summary = read.summary();
        assert_eq!((summary.mailboxes, summary.messages), (1, 500));
        assert_eq!((summary.restored, summary.replaced), (500, 0));
        let told: Vec<_> = read.told().collect();
        assert_eq!((told.len(), told[99].uid), (TOLD, 100));
        assert_eq!(told[0].what, "restored");
        std::fs::write(temp.path().join(FILE), "{").unwrap();
        assert!(Report::read(&dir).unwrap().is_none());
    }
}
