//! Many clients of one mailbox at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Builder;

use ipc::session::{FlagChange, SessionEvent};
use ipc::snapshot::{Record, flag};

use super::super::power_cut::ledger::{Message, Place};
use super::super::power_cut::letter;
use super::super::power_cut::survey::{self, owner_of};
use super::super::power_cut::verdict::Findings;
use super::super::{FlagOrder, Listener, Mailbox, Store};

/// Clients that bring a message each.
const WRITERS: u64 = 2_000;
const READERS: usize = 3;
/// All they need is here.
const STACK: usize = 256 << 10;
/// Messages whose flags change together.
const TOGETHER: u32 = 40;
/// The mailbox all of them use.
const MAILBOX: usize = 0;

/// Hears the UIDs that are added, in order.
#[derive(Default)]
struct Ear(Mutex<Vec<u32>>);

impl Listener for Ear {
    fn tell(&self, event: SessionEvent) -> bool {
        if let SessionEvent::Added(records) = event {
            self.0
                .lock()
                .unwrap()
                .extend(records.iter().map(|record| record.uid));
        }
        true
    }
}

impl Ear {
    fn heard(&self) -> Vec<u32> {
        self.0.lock().unwrap().clone()
    }
}

fn message(number: u64) -> Message {
    Message::new(number, 0, BTreeSet::new())
}

/// A number whose message is small, for each writer another one.
fn number_of(writer: u64) -> u64 {
    let numbers = (1..).map(|at| at << 32 | writer);
    numbers
        .into_iter()
        .find(|number| letter::bytes_of(*number).len() < 2_500)
        .unwrap()
}

fn findings(store: &Store) -> Findings {
    survey::findings_in(store, MAILBOX..MAILBOX + 1).unwrap()
}

#[test]
fn two_thousand_clients_at_once_bring_their_messages_into_one_mailbox() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let mailbox = survey::mailbox(&store, MAILBOX).unwrap();
    let ear = Arc::new(Ear::default());
    mailbox
        .select(Arc::clone(&ear) as Arc<dyn Listener>)
        .unwrap();
    let told = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, told) = (&store, &told);
            let work = move || {
                let number = number_of(writer);
                // Every other one is told its UID.
                let uid = if writer % 2 == 0 {
                    Some(survey::append(store, MAILBOX, &message(number)).unwrap())
                } else {
                    let incoming = survey::incoming(store, number).unwrap();
                    store.deliver(incoming, &[owner_of(0)]).unwrap();
                    None
                };
                told.lock().unwrap().insert(number, uid);
            };
            Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, work)
                .unwrap();
        }
    });
    let heard = ear.heard();
    assert!(
        heard
            .iter()
            .copied()
            .eq(1..=heard.len().try_into().unwrap()),
        "heard out of order"
    );
    let told = told.into_inner().unwrap();
    let mut store = store;
    for when in ["while it runs", "after a crash"] {
        let found = findings(&store);
        let uids: Vec<u32> = found.keys().map(|place| place.uid).collect();
        assert_eq!(uids, heard, "{when}");
        let by_number: BTreeMap<u64, u32> = found
            .iter()
            .map(|(place, found)| (found.number.unwrap(), place.uid))
            .collect();
        assert_eq!(by_number.len(), told.len(), "{when}");
        for (number, uid) in &told {
            let there = by_number[number];
            assert_eq!(uid.unwrap_or(there), there, "{when}: message {number:x}");
        }
        drop(store);
        store = Store::open(directory.path()).unwrap();
    }
}

/// The messages of a mailbox as one reader sees them.
fn snapshot(mailbox: &Arc<Mailbox>) -> Vec<Record> {
    let selected = mailbox.select(Arc::new(Ear::default())).unwrap();
    mailbox.unselect(selected.selection);
    mailbox.records().unwrap()
}

/// What a reader sees must be whole: all flags of one change or none, no gaps, and each message readable to the end.
fn look(store: &Store, mailbox: &Arc<Mailbox>) -> usize {
    let records = snapshot(mailbox);
    let uids: Vec<u32> = records.iter().map(|record| record.uid).collect();
    let last = uids.len().try_into().unwrap();
    assert!(
        uids.iter().copied().eq(1..=last),
        "messages are missing: {uids:?}"
    );
    let flags: BTreeSet<(u8, bool)> = records
        .iter()
        .filter(|record| record.uid <= TOGETHER)
        .map(|record| (record.flags, record.keywords != 0))
        .collect();
    assert_eq!(flags.len(), 1, "half of a change: {flags:?}");
    let found = findings(store);
    for uid in uids {
        let place = Place {
            mailbox: MAILBOX,
            uid,
        };
        assert!(found[&place].number.is_some(), "message {uid} is not whole");
    }
    records.len()
}

#[test]
fn readers_see_only_whole_states_while_others_write() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    for writer in 0..u64::from(TOGETHER) {
        survey::append(&store, MAILBOX, &message(number_of(writer))).unwrap();
    }
    let mailbox = survey::mailbox(&store, MAILBOX).unwrap();
    let is_over = AtomicBool::new(false);
    let looks = std::thread::scope(|scope| {
        let (store, mailbox, is_over) = (&store, &mailbox, &is_over);
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                scope.spawn(move || {
                    let (mut seen, mut looks) = (0, 0);
                    while !is_over.load(Ordering::Relaxed) {
                        let now = look(store, mailbox);
                        assert!(now >= seen, "{now} messages after {seen}");
                        (seen, looks) = (now, looks + 1);
                    }
                    looks
                })
            })
            .collect();
        let writers: Vec<_> = (1..=4)
            .map(|writer| {
                scope.spawn(move || {
                    for at in 0..60 {
                        let number = number_of(writer << 16 | at);
                        survey::append(store, MAILBOX, &message(number)).unwrap();
                    }
                })
            })
            .collect();
        for round in 0..60 {
            let order = FlagOrder {
                change: FlagChange::Replace,
                flags: [flag::SEEN, flag::FLAGGED | flag::DRAFT][round % 2],
                keywords: if round % 3 == 0 {
                    vec!["work".into()]
                } else {
                    Vec::new()
                },
                unchanged_since: None,
                heard: u64::MAX,
            };
            mailbox.store_flags(&vec![(1, TOGETHER)], &order).unwrap();
        }
        let written: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        written.into_iter().for_each(Result::unwrap);
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .sum::<usize>()
    });
    assert!(looks >= READERS, "{looks}");
    assert_eq!(look(&store, &mailbox), TOGETHER as usize + 4 * 60);
}
