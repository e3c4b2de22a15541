//! Quota: whatever happens at once, no limit is exceeded at any moment, and what is counted is what the files are.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use ipc::quota::Limits;

use super::super::dice::Dice;
use super::super::quota::{self, Hold, Tally};
use super::*;

const THREADS: u64 = 6;
const STEPS: usize = 120;
const TENANT: &str = "tenant";
const DOMAINS: [&str; 2] = ["example.test", "other.test"];

fn users() -> [Owner; 3] {
    let other = Owner {
        local: "carol".into(),
        domain: DOMAINS[1].into(),
    };
    [owner("alice"), owner("bob"), other]
}

fn at_most(messages: u64, bytes: u64) -> Limits {
    Limits { messages, bytes }
}

/// What the files of a user are.
fn on_disk(world: &World, owner: &Owner) -> Totals {
    let user = format!("domains/{}/users/{}/mailboxes", owner.domain, owner.local);
    let mut sum = Totals::default();
    let mut waiting = vec![world.root().join(user)];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|end| end == "eml") {
                sum = sum.plus(Totals::message(path.metadata().unwrap().len()));
            }
        }
    }
    sum
}

/// Memory says what the files are, and nothing is set aside any more.
fn verify(world: &World) {
    let (store, ledger) = (world.store(), world.store().ledger());
    let mut sum = Totals::default();
    for user in users() {
        let counted = store.user(&user).unwrap().totals().unwrap();
        assert_eq!(counted, on_disk(world, &user), "{user:?}");
        sum = sum.plus(counted);
    }
    ledger.check();
    assert_eq!(ledger.tenant_usage(TENANT), (sum.into(), 2));
    let rest = Totals {
        messages: 1,
        bytes: TENANT_BYTES - sum.bytes,
    };
    let [alice, bob, carol] = users();
    for user in [&alice, &bob, &carol] {
        ledger.limit_user(user, at_most(0, 0));
    }
    ledger.set_domain(DOMAINS[0], at_most(0, 0));
    ledger.set_tenant(TENANT, at_most(0, TENANT_BYTES));
    let whole = store.hold(std::slice::from_ref(&carol), rest);
    assert!(whole.is_ok(), "something is still set aside");
    assert_eq!(
        store.hold(&[alice], Totals::message(1)).map(|_| ()),
        Err(Refusal::OverQuota)
    );
}

const TENANT_BYTES: u64 = 100_000;

fn limited() -> World {
    let world = world();
    let ledger = world.store().ledger();
    ledger.set_tenant(TENANT, at_most(70, TENANT_BYTES));
    for domain in DOMAINS {
        ledger.set_domain(domain, at_most(0, 0));
        ledger.assign_domain(domain, Some(TENANT));
    }
    ledger.set_domain(DOMAINS[0], at_most(50, 80_000));
    let [alice, bob, carol] = users();
    ledger.set_user(&alice, at_most(30, 50_000), Totals::default());
    ledger.set_user(&bob, at_most(0, 0), Totals::default());
    ledger.set_user(&carol, at_most(0, 60_000), Totals::default());
    world
}

/// Does one of the things that change what is stored. True if a limit was in the way.
fn step(world: &World, dice: &mut Dice) -> bool {
    let store = world.store();
    let [alice, bob, carol] = users();
    let user = dice.choose(&[alice.clone(), bob.clone(), carol.clone()]);
    let names = ["INBOX", "Archive", "Sent", "Made"];
    let (from, to) = (dice.choose(&names), dice.choose(&names));
    let mailbox = |text| store.user(&user).unwrap().mailbox(&name(text));
    let size = if dice.once_in(20) {
        BUFFER + dice.below(2000)
    } else {
        dice.below(4000)
    };
    let bytes = vec![b'x'; size];
    let uids = vec![(1, u32::try_from(dice.below(300)).unwrap())];
    let done = match dice.below(10) {
        0 | 1 => store.deliver(world.incoming(&bytes), &[user]),
        2 => store.deliver(world.incoming(&bytes), &[carol, alice, bob]),
        3 | 4 => mailbox(to).and_then(|mailbox| {
            let incoming = world.incoming(&bytes);
            store
                .append(incoming, &mailbox, NewMessage::default())
                .map(|_| ())
        }),
        5 => mailbox(from).and_then(|source| {
            let few = vec![(1, u32::try_from(dice.below(40)).unwrap())];
            source.copy(&few, &mailbox(to)?).map(|_| ())
        }),
        6 => mailbox(from).and_then(|source| source.move_to(&uids, &mailbox(to)?).map(|_| ())),
        7 => mailbox(from).and_then(|mailbox| {
            mailbox.store_flags(&uids, &order(FlagChange::Add, flag::DELETED, &[]))?;
            mailbox.expunge(None)
        }),
        8 => {
            let user = store.user(&user).unwrap();
            match dice.below(4) {
                0 => user.create_mailbox(&name("Made"), None),
                1 => user.delete_mailbox(&name("Made")),
                2 => user.rename_mailbox(&name("Made"), &name("Renamed")),
                _ => user.rename_mailbox(&name("Renamed"), &name("Made")),
            }
        }
        // Room that comes to nothing.
        _ => store
            .hold(&[carol, bob], Totals::message(size as u64))
            .map(drop),
    };
    match done {
        Err(Refusal::OverQuota) => true,
        Ok(()) | Err(Refusal::NoSuchMailbox | Refusal::MailboxExists) => false,
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn no_limit_is_exceeded_at_any_moment_whatever_happens_at_once() {
    let mut world = limited();
    let (is_over, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let (world, is_over, refused) = (&world, &is_over, &refused);
        let watcher = scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                world.store().ledger().check();
            }
        });
        let clients: Vec<_> = (0..THREADS)
            .map(|seed| {
                scope.spawn(move || {
                    let mut dice = Dice::new(seed);
                    for _ in 0..STEPS {
                        if step(world, &mut dice) {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        let clients: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        watcher.join().unwrap();
        clients.into_iter().for_each(Result::unwrap);
    });
    let refused = refused.into_inner();
    assert!(refused > 20, "only {refused} were refused");
    verify(&world);
    world.crash();
    for user in users() {
        let counted = world.store().user(&user).unwrap().totals().unwrap();
        assert_eq!(counted, on_disk(&world, &user), "{user:?}");
    }
}

#[test]
fn who_stores_all_that_is_allowed_can_move_it_and_no_moment_shows_more_or_less() {
    let world = world();
    for _ in 0..20 {
        world.append("INBOX", b"12345", 0, &[]);
    }
    let user = world.user();
    user.count().unwrap();
    let ledger = world.store().ledger();
    ledger.limit_user(&owner("alice"), at_most(20, 100));
    let (full, is_over) = (user.member().figures().0, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (world, user, is_over) = (&world, &user, &is_over);
        let watcher = scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(user.member().figures().0, full);
            }
        });
        let sender = scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let hold = world.store().hold(&[owner("alice")], Totals::message(1));
                assert_eq!(hold.map(drop), Err(Refusal::OverQuota));
            }
        });
        let all = vec![(1, u32::MAX)];
        for _ in 0..40 {
            for (from, to) in [("INBOX", "Archive"), ("Archive", "INBOX")] {
                world
                    .mailbox(from)
                    .move_to(&all, &world.mailbox(to))
                    .unwrap();
            }
        }
        // RFC 9051 §6.3.6: it moves them too.
        user.rename_mailbox(&name("INBOX"), &name("Old")).unwrap();
        user.rename_mailbox(&name("Old"), &name("Older")).unwrap();
        is_over.store(true, Ordering::Relaxed);
        watcher.join().unwrap();
        sender.join().unwrap();
    });
    assert_eq!(world.uids("Older").len(), 20);
    let copied = world
        .mailbox("Older")
        .copy(&vec![(1, 1)], &world.mailbox("Older"));
    assert_eq!(copied, Err(Refusal::OverQuota));
    user.delete_mailbox(&name("Older")).unwrap();
    assert_eq!(user.member().figures().0, Totals::default());
    world.append("INBOX", &[b'x'; 100], 0, &[]);
}

#[test]
fn what_was_known_before_the_start_counts_until_the_mailboxes_are_counted() {
    let mut world = world();
    world.append("INBOX", b"12345", 0, &[]);
    for _ in 0..2 {
        world.append("Sent", b"12345", 0, &[]);
    }
    world.restart();
    let alice = owner("alice");
    let ledger = Arc::clone(world.store().ledger());
    let known = Totals {
        messages: 7,
        bytes: 70,
    };
    ledger.set_user(&alice, at_most(0, 0), known);
    let figures = || ledger.member(&alice).unwrap().figures().0;
    let moved = |messages, bytes| Totals { messages, bytes };
    // Nobody limits alice: the other mailboxes are not read for this.
    world.append("INBOX", b"1", 0, &[]);
    assert_eq!(figures(), moved(8, 71));
    assert!(!world.mailbox("Sent").is_loaded());
    // One that nobody has read yet is counted before it goes, and stays what it is under another name.
    world.user().delete_mailbox(&name("Sent")).unwrap();
    assert_eq!(figures(), moved(6, 61));
    world
        .user()
        .rename_mailbox(&name("Junk"), &name("Spam"))
        .unwrap();
    ledger.set_domain(&alice.domain, at_most(0, 1000));
    world
        .store()
        .hold(std::slice::from_ref(&alice), Totals::message(1))
        .unwrap();
    assert_eq!(figures(), moved(2, 6));
    assert_eq!(ledger.domain_usage(&alice.domain), moved(2, 6).into());
    assert_eq!(ledger.stale(9), [(alice.clone(), moved(2, 6))]);
    assert_eq!(ledger.stale(9), []);
    world.append("Spam", b"1", 0, &[]);
    let stale = ledger.stale(9);
    assert_eq!(stale, [(alice, moved(3, 7))]);
    ledger.still_stale(stale.clone());
    assert_eq!(ledger.stale(9), stale);
}

#[test]
fn a_user_who_was_only_counted_leaves_memory_and_one_in_use_stays() {
    let world = world();
    world.append("INBOX", b"12345", 0, &[]);
    world.store().shared.empty_journal();
    let alice = owner("alice");
    let is_there = || world.store().opened(&alice).is_some();
    let five = world.user().totals().unwrap();
    let (user, inbox) = (world.user(), world.inbox());
    world.store().let_go(&alice);
    drop(user);
    world.store().let_go(&alice);
    assert!(is_there(), "its INBOX is in use");
    drop(inbox);
    world.store().let_go(&alice);
    assert!(!is_there());
    assert_eq!(
        world.store().ledger().domain_usage("example.test"),
        five.into()
    );
    world.append("INBOX", b"12345", 0, &[]);
    let ten = Totals {
        messages: 2,
        bytes: 10,
    };
    assert_eq!(
        world.store().ledger().domain_usage("example.test"),
        ten.into()
    );
    assert_eq!(world.user().totals().unwrap(), ten);
    assert_eq!(on_disk(&world, &alice), ten);
}

#[test]
fn files_put_in_and_taken_out_by_hand_count_when_they_are_found() {
    let world = world();
    world.append("INBOX", b"12345", 0, &[]);
    let user = world.user();
    user.count().unwrap();
    let shard = world.path("INBOX/0000");
    std::fs::write(shard.join("hello.eml"), "1234567").unwrap();
    world.uids("INBOX");
    let figures = || user.member().figures().0;
    assert_eq!((figures().messages, figures().bytes), (2, 12));
    std::fs::remove_file(shard.join("00000001_.eml")).unwrap();
    world.uids("INBOX");
    assert_eq!((figures().messages, figures().bytes), (1, 7));
}

#[test]
fn a_delivery_that_fails_leaves_nothing_used_and_nothing_set_aside() {
    let world = world();
    let ledger = world.store().ledger();
    for local in ["alice", "bob"] {
        ledger.set_user(&owner(local), at_most(1, 0), Totals::default());
        world.store().user(&owner(local)).unwrap();
    }
    world.inbox().status().unwrap();
    let (shard, away) = (world.path("INBOX/0000"), world.path("INBOX/away"));
    for size in [1, BUFFER + 1] {
        std::fs::rename(&shard, &away).unwrap();
        let delivered = world
            .store()
            .deliver(world.incoming(&vec![b'x'; size]), &[owner("alice")]);
        assert_eq!(delivered, Err(Refusal::StorageFault));
        std::fs::rename(&away, &shard).unwrap();
        assert_eq!(world.user().totals().unwrap(), Totals::default());
        let both = [owner("alice"), owner("bob")];
        assert!(world.store().hold(&both, Totals::message(1)).is_ok());
    }
}

/// A mailbox as the ledger sees it.
struct Box {
    tally: Tally,
    now: Totals,
}

#[test]
fn sums_stay_sums_whatever_is_entered_assigned_held_used_and_removed() {
    for seed in 0..40 {
        let (ledger, mut dice) = (Arc::new(Ledger::default()), Dice::new(seed));
        let owner = |number: usize| Owner {
            local: format!("u{}", number % 4),
            domain: format!("d{}", number / 4),
        };
        let mut boxes: Vec<Box> = Vec::new();
        let mut holds: Vec<Hold> = Vec::new();
        for _ in 0..400 {
            let user = owner(dice.below(12));
            let amount = Totals {
                messages: dice.below(3) as u64,
                bytes: dice.below(100) as u64,
            };
            // Never less than before, or it would be exceeded rightly.
            let limits = at_most(0, 0);
            let tenant = dice.choose(&[None, Some("t0"), Some("t1")]);
            match dice.below(12) {
                0 => ledger.set_user(&user, limits, amount),
                1 if dice.once_in(3) => {
                    ledger.remove_user(&user);
                }
                2 => {
                    ledger.set_tenant(tenant.unwrap_or("t0"), limits);
                    ledger.assign_domain(&user.domain, tenant);
                }
                3 => {
                    if let Some(tenant) = tenant {
                        ledger.set_tenant(tenant, limits);
                    }
                }
                4 => ledger.join(&user).set_exact(),
                5 => boxes.push(Box {
                    tally: Tally::new(ledger.join(&user)),
                    now: Totals::default(),
                }),
                6 | 7 => {
                    let members = [ledger.join(&user), ledger.join(&owner(dice.below(12)))];
                    let held = holds.split_off(holds.len().saturating_sub(dice.below(3)));
                    holds.extend(quota::reserve(held, &members, amount).unwrap_or_default());
                }
                8 => drop(holds.pop()),
                9 | 10 if !boxes.is_empty() => {
                    let at = dice.below(boxes.len());
                    let one = &mut boxes[at];
                    let held = one.tally.hold(amount);
                    let granted = held.map_or(Totals::default(), |mut hold| hold.give(amount));
                    one.now = if dice.once_in(2) {
                        one.now.plus(amount)
                    } else {
                        amount
                    };
                    one.tally.settle(one.tally.change(one.now, granted), None);
                }
                11 if !boxes.is_empty() => {
                    boxes.swap_remove(dice.below(boxes.len())).tally.leave();
                }
                _ => {}
            }
            ledger.check();
        }
        drop(holds);
        ledger.check();
    }
}

#[test]
fn a_domain_is_limited_by_its_own_limits_and_by_its_tenants() {
    let world = world();
    let ledger = world.store().ledger();
    let limits = Limits {
        messages: 0,
        bytes: 1,
    };
    for domain in ["free.test", "own.test", "tenants.test"] {
        ledger.set_domain(domain, Limits::default());
    }
    assert!(ledger.limited_domains().is_empty());
    ledger.set_domain("own.test", limits);
    ledger.set_tenant("tenant", limits);
    ledger.assign_domain("tenants.test", Some("tenant"));
    let mut limited = ledger.limited_domains();
    limited.sort();
    assert_eq!(limited, ["own.test", "tenants.test"]);
}
