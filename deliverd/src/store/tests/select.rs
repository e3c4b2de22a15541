//! SELECT costs what the table of shards costs, and what it says fits what is told afterwards.

use super::index::{compared, wide};
use super::*;

#[test]
fn select_reads_no_page_but_that_of_the_first_unseen_message() {
    let mut world = wide(20);
    world
        .inbox()
        .store_flags(
            &vec![(1, 2001)],
            &order(FlagChange::Replace, flag::SEEN, &[]),
        )
        .unwrap();
    world.restart();
    let selected = world.inbox().select(Arc::new(Silent)).unwrap();
    assert_eq!((selected.first_unseen, selected.shards.len()), (4, 20));
    let in_memory = |world: &World| {
        let work = |state: &mut crate::store::mailbox::State| Ok(state.records.in_memory());
        world.inbox().with(work).unwrap()
    };
    compared(&world.inbox());
    assert_eq!(in_memory(&world), 2, "and the newest, to take mail");
    let (counts, bytes) = world.inbox().read_pages(&[7, 5, 4_294_967]).unwrap();
    let counts: Vec<_> = counts.iter().map(|l| (l.shard, l.messages)).collect();
    assert_eq!(counts, [(7, 1), (5, 1), (4_294_967, 0)]);
    let records: Vec<Record> = bytes.as_chunks().0.iter().map(Record::from_bytes).collect();
    assert_eq!((records[0].uid, records[1].uid), (7001, 5001));
    assert_eq!(in_memory(&world), 4);
    world
        .inbox()
        .store_flags(
            &vec![(1, 20_000)],
            &order(FlagChange::Replace, flag::SEEN, &[]),
        )
        .unwrap();
    let selected = world.inbox().select(Arc::new(Silent)).unwrap();
    assert_eq!(selected.first_unseen, 0);
}

#[test]
fn a_page_that_is_lost_after_select_makes_clients_compare() {
    let mut world = wide(20);
    world.restart();
    let diary = Arc::new(Diary::default());
    let listener = Arc::clone(&diary) as Arc<dyn Listener>;
    world.inbox().select(listener).unwrap();
    compared(&world.inbox());
    std::fs::remove_file(world.path("INBOX/.cache/pages")).unwrap();
    std::fs::remove_file(world.path("INBOX/0003/00003001_.eml")).unwrap();
    assert_eq!(diary.events(), []);
    let (counts, _) = world.inbox().read_pages(&[3, 4]).unwrap();
    let counts: Vec<_> = counts.iter().map(|l| (l.shard, l.messages)).collect();
    assert_eq!(counts, [(3, 0), (4, 1)]);
    assert_eq!(diary.events(), [SessionEvent::Resync]);
    let selected = world.inbox().select(Arc::new(Silent)).unwrap();
    assert_eq!((selected.status.messages, selected.shards.len()), (19, 19));
}

#[test]
fn the_table_says_up_to_when_each_shard_changed_and_remembers_it() {
    let mut world = wide(20);
    let modseqs = |world: &World| -> Vec<u64> {
        let selected = world.inbox().select(Arc::new(Silent)).unwrap();
        selected.shards.iter().map(|line| line.modseq).collect()
    };
    let before = modseqs(&world);
    let highest = world.inbox().status().unwrap().highest_modseq;
    assert!(before.iter().all(|modseq| (1..=highest).contains(modseq)));
    let seen = order(FlagChange::Add, flag::SEEN, &[]);
    world
        .inbox()
        .store_flags(&vec![(7001, 7001)], &seen)
        .unwrap();
    let changed = modseqs(&world);
    assert_eq!(changed[7], world.inbox().status().unwrap().highest_modseq);
    assert!(changed[7] > highest);
    let others = |modseqs: &[u64]| [&modseqs[..7], &modseqs[8..]].concat();
    assert_eq!(others(&changed), others(&before));
    world.restart();
    assert_eq!(modseqs(&world), changed);
    // A message that comes counts, and one that goes changes nothing.
    world
        .inbox()
        .store_flags(
            &vec![(9001, 9001)],
            &order(FlagChange::Add, flag::DELETED, &[]),
        )
        .unwrap();
    let marked = modseqs(&world);
    world.inbox().expunge(None).unwrap();
    let gone = modseqs(&world);
    assert_eq!((&gone[..9], &gone[9..]), (&marked[..9], &marked[10..]));
}
