//! What is in memory, and what leaves it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::store::user::User;
use crate::store::users::Users;

/// A store in which users of two mailboxes' worth may be in memory.
fn small_world(mailboxes: usize) -> World {
    let mut world = world();
    if let Some(store) = &mut world.store {
        store.users = Users::with_budget(mailboxes);
    }
    world
}

fn owners(count: usize) -> Vec<Owner> {
    (0..count)
        .map(|number| owner(&format!("u{number}")))
        .collect()
}

fn deliver(world: &World, to: &Owner) {
    let delivered = world
        .store()
        .deliver(world.incoming(b"12345"), std::slice::from_ref(to));
    delivered.unwrap();
    // Who waits for the journal to be emptied is in use.
    world.store().shared.empty_journal();
}

fn inbox(world: &World, owner: &Owner) -> Arc<Mailbox> {
    let user = world.store().user(owner).unwrap();
    user.mailbox(&MailboxName::inbox()).unwrap()
}

/// Mailboxes of alice, none of them in memory, and what they share: so many records may be in memory.
fn boxes(world: &World, records: usize) -> (Arc<super::super::chores::Shared>, [Arc<Mailbox>; 5]) {
    let shared = Arc::new(super::super::chores::Shared::new(
        super::super::disk::Dir::root(&world.root()).unwrap(),
        super::super::cache::Cache::new(records),
        Arc::clone(&world.store().shared.nursery),
        (Arc::clone(&world.store().shared.journal), Arc::default()),
        super::super::expunged::Attic::new(RETENTION),
        true,
        false,
    ));
    world.user();
    let boxes = ["INBOX", "Sent", "Trash", "Junk", "Archive"].map(|mailbox| {
        let path = format!("domains/example.test/users/alice/mailboxes/{mailbox}");
        let tally = super::super::quota::Tally::new(shared.ledger.join(&owner("alice")));
        Mailbox::new(Arc::clone(&shared), path, tally, Arc::default())
    });
    (shared, boxes)
}

#[test]
fn users_that_nobody_uses_leave_memory_and_come_back_as_they_were() {
    let world = small_world(30);
    let owners = owners(20);
    for owner in &owners {
        deliver(&world, owner);
    }
    // Each has six.
    assert!(
        world.store().users.len() <= 6,
        "{}",
        world.store().users.len()
    );
    for owner in &owners {
        deliver(&world, owner);
        let status = inbox(&world, owner).status().unwrap();
        assert_eq!((status.messages, status.uid_next), (2, 3));
    }
    let used = world.store().ledger().domain_usage("example.test");
    assert_eq!((used.messages, used.bytes), (40, 200));
}

#[test]
fn a_user_in_use_stays_in_memory_and_is_never_there_twice() {
    let world = small_world(12);
    let owners = owners(20);
    let held = inbox(&world, &owners[0]);
    let session = world.store().user(&owners[1]).unwrap();
    held.select(Arc::new(Silent)).unwrap();
    for owner in &owners[2..] {
        deliver(&world, owner);
    }
    world.store().let_go(&owners[1]);
    assert!(Arc::ptr_eq(&held, &inbox(&world, &owners[0])));
    assert!(Arc::ptr_eq(
        &session,
        &world.store().user(&owners[1]).unwrap()
    ));
}

#[test]
fn a_user_many_ask_for_is_opened_once() {
    let world = world();
    let opened = AtomicUsize::new(0);
    let open = || {
        opened.fetch_add(1, Ordering::Relaxed);
        std::thread::yield_now();
        let shared = &world.store().shared;
        let users = shared.root.make_path("domains/example.test/users").unwrap();
        User::create(&users, "carol")?;
        let member = shared.ledger.join(&owner("carol"));
        User::open(shared, "domains/example.test/users/carol".into(), member)
    };
    let users = Users::with_budget(100);
    let found: Vec<Arc<User>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| users.get(&owner("carol"), open).unwrap()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(opened.load(Ordering::Relaxed), 1);
    assert!(found.iter().all(|user| Arc::ptr_eq(user, &found[0])));
}

#[test]
fn a_user_that_cannot_be_opened_can_be_tried_again() {
    let world = world();
    let users = Users::with_budget(100);
    let failed = users.get(&owner("carol"), || Err(Refusal::StorageFault));
    assert_eq!(failed.err(), Some(Refusal::StorageFault));
    assert!(users.opened(&owner("carol")).is_none());
    let open = || {
        let shared = &world.store().shared;
        let member = shared.ledger.join(&owner("alice"));
        User::open(shared, "domains/example.test/users/alice".into(), member)
    };
    world.user();
    assert!(users.get(&owner("carol"), open).is_ok());
}

#[test]
fn nobody_is_opened_while_somebody_must_not_be_disturbed() {
    let users = Users::with_budget(100);
    let (is_opening, is_quiet) = (AtomicBool::new(false), AtomicBool::new(false));
    let open = || {
        is_opening.store(true, Ordering::SeqCst);
        for _ in 0..20 {
            assert!(!is_quiet.load(Ordering::SeqCst));
            std::thread::yield_now();
        }
        is_opening.store(false, Ordering::SeqCst);
        Err(Refusal::StorageFault)
    };
    let work = || {
        is_quiet.store(true, Ordering::SeqCst);
        for _ in 0..20 {
            assert!(!is_opening.load(Ordering::SeqCst));
            std::thread::yield_now();
        }
        is_quiet.store(false, Ordering::SeqCst);
    };
    let carol = owner("carol");
    std::thread::scope(|scope| {
        scope.spawn(|| (0..200).for_each(|_| assert!(users.get(&carol, open).is_err())));
        scope.spawn(|| (0..200).for_each(|_| users.undisturbed(work)));
        scope.spawn(|| (0..200).for_each(|_| assert!(users.unless_opened(&carol, work).is_some())));
    });
}

#[test]
fn a_large_mailbox_leaves_memory_once_it_is_closed() {
    let world = world();
    let (shared, boxes) = boxes(&world, 100);
    // More than may be there, and all in use.
    let selections: Vec<_> = boxes[..4]
        .iter()
        .map(|mailbox| mailbox.select(Arc::new(Silent)).unwrap().selection)
        .collect();
    shared.cache.trim();
    assert!(boxes[..4].iter().all(Mailbox::is_loaded));
    for (mailbox, selection) in boxes.iter().zip(selections) {
        mailbox.unselect(selection);
    }
    shared.cache.trim();
    let loaded: Vec<bool> = boxes.iter().map(Mailbox::is_loaded).collect();
    assert_eq!(loaded, [false, false, true, true, false]);
    assert_eq!(shared.cache.mailboxes().len(), 2);
}

#[test]
fn a_mailbox_larger_than_all_that_may_be_in_memory_does_not_drive_the_others_out() {
    let world = world();
    let (shared, boxes) = boxes(&world, 2000);
    boxes[0].select(Arc::new(Silent)).unwrap();
    for mailbox in &boxes[1..] {
        mailbox.status().unwrap();
    }
    shared.cache.weigh(&boxes[0], Some(5000));
    shared.cache.trim();
    assert!(boxes.iter().all(Mailbox::is_loaded));
    shared.cache.weigh(&boxes[1], Some(600));
    shared.cache.trim();
    let loaded: Vec<bool> = boxes.iter().map(Mailbox::is_loaded).collect();
    assert_eq!(loaded, [true, false, true, true, true]);
}

#[test]
fn a_list_of_many_names_comes_in_pages_without_gaps() {
    let world = world();
    let user = world.user();
    let mut names: BTreeSet<String> = ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"]
        .map(str::to_owned)
        .into();
    // In the end these are more than three pages.
    for number in 0..13 {
        let (made, wished) = (format!("a{number:02}"), format!("a{number:02}-wished"));
        // Behind all names that are subscribed to.
        let last = ["y", "z"].map(|front| format!("{front}{number:02}"));
        for mailbox in last.iter().chain([&made]) {
            user.create_mailbox(&name(mailbox), None).unwrap();
        }
        user.subscribe(&name(&wished), true).unwrap();
        names.extend(last);
        names.extend([made, wished]);
        let mut found = Vec::new();
        let mut more = true;
        while more {
            let after = found.last().cloned();
            let (page, goes_on) = user.list(after.as_deref()).unwrap();
            assert!(!page.is_empty());
            found.extend(page.into_iter().map(|mailbox| mailbox.name));
            more = goes_on;
        }
        assert!(found.iter().eq(&names), "{found:?}");
    }
    let (page, _) = user.list(Some("Sen")).unwrap();
    assert_eq!(page[0].special_use, Some(ipc::session::SpecialUse::Sent));
}

#[test]
fn a_selected_mailbox_stays_in_memory_when_others_leave() {
    let world = world();
    let known = &world.store().shared;
    let shared = Arc::new(super::chores::Shared::new(
        super::disk::Dir::root(&world.root()).unwrap(),
        super::cache::Cache::new(100),
        Arc::clone(&known.nursery),
        (Arc::clone(&known.journal), Arc::default()),
        Attic::new(RETENTION),
        true,
        false,
    ));
    world.user();
    let path = |mailbox: &str| format!("domains/example.test/users/alice/mailboxes/{mailbox}");
    let boxes: Vec<_> = ["INBOX", "Sent", "Trash", "Junk"]
        .map(|mailbox| {
            let tally = super::super::quota::Tally::new(shared.ledger.join(&owner("alice")));
            Mailbox::new(Arc::clone(&shared), path(mailbox), tally, Arc::default())
        })
        .into();
    boxes[0].select(Arc::new(Silent)).unwrap();
    for mailbox in &boxes[1..] {
        mailbox.status().unwrap();
    }
    shared.cache.trim();
    let loaded: Vec<bool> = boxes.iter().map(|mailbox| mailbox.is_loaded()).collect();
    assert_eq!(loaded, [true, false, false, true]);
}
