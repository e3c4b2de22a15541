//! What somebody knows who selected a mailbox and heard all that happened since.

use std::collections::BTreeMap;
use std::sync::Mutex;

use ipc::session::SessionEvent;
use ipc::snapshot::Record;

use super::super::Listener;

/// What a listener knows.
#[derive(Default)]
pub(super) struct View {
    events: Mutex<Vec<SessionEvent>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    records: BTreeMap<u32, Record>,
    keywords: Vec<String>,
    highest_uid: u32,
    is_gone: bool,
}

impl Listener for View {
    fn tell(&self, event: SessionEvent) -> bool {
        self.events.lock().unwrap().push(event);
        true
    }
}

impl View {
    /// Whether it was told anything that it did not listen to.
    pub(super) fn has_heard(&self) -> bool {
        !self.events.lock().unwrap().is_empty()
    }

    /// Begins with what was there when it was selected.
    pub(super) fn begin(&self, records: &[Record], keywords: &[String]) {
        let mut known = self.known.lock().unwrap();
        known.records = records.iter().map(|record| (record.uid, *record)).collect();
        known.keywords = keywords.to_vec();
        known.highest_uid = records.last().map_or(0, |record| record.uid);
    }

    /// Checks what it heard, and that it knows the same as who selects now.
    pub(super) fn must_equal(&self, records: &[Record], keywords: &[String]) {
        let known = self.listen();
        assert!(!known.is_gone, "a mailbox is there and said to be gone");
        let its: Vec<Record> = known.records.values().copied().collect();
        assert_eq!(its, records, "a client knows (left) what is not (right)");
        assert_eq!(known.keywords, keywords);
    }

    pub(super) fn must_be_gone(&self) {
        assert!(
            self.listen().is_gone,
            "a client was not told that its mailbox is gone"
        );
    }

    fn listen(&self) -> std::sync::MutexGuard<'_, Known> {
        let mut known = self.known.lock().unwrap();
        for event in std::mem::take(&mut *self.events.lock().unwrap()) {
            known.hear(event);
        }
        known
    }
}

impl Known {
    fn hear(&mut self, event: SessionEvent) {
        assert!(!self.is_gone, "{event:?} after the end");
        match event {
            SessionEvent::Keywords(names) => {
                assert!(names.starts_with(&self.keywords), "{names:?}");
                self.keywords = names;
            }
            SessionEvent::Added(records) => {
                for record in records {
                    self.check(&record);
                    assert!(record.uid > self.highest_uid, "{record:?} comes too late");
                    self.highest_uid = record.uid;
                    self.records.insert(record.uid, record);
                }
            }
            SessionEvent::Changed(records) => {
                for record in records {
                    self.check(&record);
                    let before = self.records.insert(record.uid, record);
                    let before = before.expect("a message changed that is not there");
                    assert!(
                        record.modseq > before.modseq,
                        "{before:?} became {record:?}"
                    );
                }
            }
            SessionEvent::Removed(ranges) => {
                for uid in ranges.into_iter().flat_map(|(first, last)| first..=last) {
                    let gone = self.records.remove(&uid);
                    assert!(gone.is_some(), "{uid} was removed and was not there");
                }
            }
            SessionEvent::Gone => self.is_gone = true,
            SessionEvent::Resync => panic!("a client must select again for no reason"),
            SessionEvent::Happened | SessionEvent::Rights(_) => {
                panic!("this is not about the selected mailbox")
            }
        }
    }

    fn check(&self, record: &Record) {
        let unknown = record
            .keywords
            .checked_shr(u32::try_from(self.keywords.len()).unwrap());
        assert_eq!(
            unknown.unwrap_or(0),
            0,
            "{record:?} has keywords without names"
        );
    }
}
