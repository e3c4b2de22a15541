//! Several messages appended together: all or none.

use super::*;
use crate::store::journal::Event;

fn message(flags: u8, keywords: &[&str], internal_date: i64) -> NewMessage {
    NewMessage {
        flags,
        keywords: keywords.iter().map(|word| (*word).to_owned()).collect(),
        size: 0,
        internal_date,
    }
}

impl World {
    fn parked(&self, bytes: &[u8], message: NewMessage) -> Parked {
        self.incoming(bytes).park(message).unwrap()
    }

    fn append_together(&self, messages: Vec<Parked>) -> Result<Vec<u32>, Refusal> {
        let appended = self.store().append_together(&self.inbox(), messages);
        appended.map(|(_, uids)| uids)
    }

    fn two(&self) -> Vec<Parked> {
        vec![
            self.parked(b"one", message(flag::SEEN, &["work"], 5)),
            self.parked(&[b'x'; 300_000], message(0, &["home"], 6)),
        ]
    }
}

#[test]
fn messages_come_together_each_with_its_own_flags_keywords_and_date_and_outlive_a_crash() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    assert_eq!(world.append_together(world.two()), Ok(vec![2, 3]));
    for crashes in [false, true] {
        if crashes {
            world.crash();
        }
        let found = world.records("INBOX").split_off(1);
        let found = found
            .iter()
            .map(|it| (it.uid, it.flags, it.size, it.internal_date, it.keywords));
        let expected = [(2, flag::SEEN, 3, 5, 1), (3, 0, 300_000, 6, 2)];
        let found: Vec<_> = found.collect();
        // Which bit a keyword has is not kept.
        assert_eq!(found.len(), 2);
        for (found, expected) in found.iter().zip(expected) {
            let (uid, flags, size, date, keywords) = *found;
            assert_eq!(
                (uid, flags, size, date),
                (expected.0, expected.1, expected.2, expected.3)
            );
            assert_eq!(keywords.count_ones(), 1);
        }
    }
    assert_eq!(files(&world.root().join(".incoming")), [""; 0]);
}

#[test]
fn t1_a_crash_before_all_have_their_names_leaves_none() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    let inbox = world.inbox();
    let parked = world.two();
    let shared = &world.store().shared;
    let permit = shared.journal.admit(1, 4096).unwrap();
    let place = inbox.with(|state| Ok(inbox.place(state))).unwrap();
    let uids = vec![(2, 3)];
    let sequence = permit.tell(&Event::Removed { place, uids }).unwrap();
    shared.journal.commit(sequence).unwrap();
    let source = world.root().join(".incoming").join(parked[0].place().1);
    std::fs::hard_link(source, world.path("INBOX/0000/00000002_S.eml")).unwrap();
    drop((permit, inbox));
    std::mem::forget(parked);
    world.crash();
    assert_eq!(world.uids("INBOX"), [1]);
    // Nor does another message ever get what their UIDs were.
    assert_eq!(world.append("INBOX", b"y", 0, &[]), 4);
    world.crash();
    assert_eq!(world.uids("INBOX"), [1, 4]);
}

#[test]
fn what_is_refused_leaves_nothing_and_harms_nobody_after_it() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    let many: Vec<String> = (0..70).map(|n| format!("word{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let bad = vec![
        world.parked(b"one", message(0, &[], 5)),
        world.parked(b"two", message(0, &many, 5)),
    ];
    assert_eq!(world.append_together(bad), Err(Refusal::TooManyKeywords));
    assert_eq!(world.uids("INBOX"), [1]);
    // A large one is in no journal: it must not have a UID that is said to be gone.
    let uid = world.append("INBOX", &[b'x'; 300_000], 0, &[]);
    world.crash();
    assert_eq!(world.uids("INBOX"), [1, uid]);
    assert_eq!(files(&world.path("INBOX/0000")).len(), 2);
}

#[test]
fn none_comes_where_there_is_room_for_some() {
    let world = world();
    let limits = ipc::quota::Limits {
        messages: 0,
        bytes: 200_000,
    };
    world
        .store()
        .ledger()
        .set_user(&owner("alice"), limits, Totals::default());
    assert_eq!(world.append_together(world.two()), Err(Refusal::OverQuota));
    assert_eq!(world.uids("INBOX"), [0; 0]);
    let small = vec![
        world.parked(b"one", message(0, &[], 5)),
        world.parked(b"two", message(0, &[], 5)),
    ];
    assert_eq!(world.append_together(small), Ok(vec![1, 2]));
    assert_eq!(
        world.inbox().totals().unwrap(),
        Totals {
            messages: 2,
            bytes: 6
        }
    );
    world.store().ledger().check();
}

#[test]
fn files_made_by_hand_keep_their_names_and_bytes() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    std::fs::write(world.path("INBOX/0000/00000003_F.eml"), "by hand").unwrap();
    let uids = world.append_together(world.two()).unwrap();
    assert!(uids.iter().all(|uid| *uid > 3), "{uids:?}");
    world.crash();
    let by_hand = std::fs::read(world.path("INBOX/0000/00000003_F.eml")).unwrap();
    assert_eq!(by_hand, b"by hand");
    assert_eq!(world.uids("INBOX"), [vec![1, 3], uids].concat());
}
