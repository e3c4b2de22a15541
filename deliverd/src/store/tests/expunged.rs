//! What is expunged is kept, for as long and as far as it shall be, and comes back.

use ipc::quota::Limits;
use ipc::session::SpecialUse;
use ipc::tools::{ExpungedMessage, ExpungedRange, Row};

use super::super::expunged::{Day, Purge};
use super::super::message_file;
use super::*;

/// Where alice's expunged messages are.
fn kept(world: &World) -> PathBuf {
    world
        .root()
        .join("domains/example.test/users/alice/.expunged")
}

/// All files below a directory, by their paths there.
pub(super) fn tree(path: &Path) -> Vec<String> {
    let (mut found, mut waiting) = (Vec::new(), vec![path.to_owned()]);
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let inner = entry.unwrap().path();
            if inner.is_dir() {
                waiting.push(inner);
            } else {
                let inner = inner.strip_prefix(path).unwrap();
                found.push(inner.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// What is kept, without the day and without UIDVALIDITY: mailbox, and what there is below it.
pub(super) fn all_kept(world: &World) -> Vec<String> {
    let below = |path: String| {
        let parts: Vec<&str> = path.splitn(4, '/').collect();
        let deleted = if parts[2].ends_with(".deleted") {
            "-"
        } else {
            ""
        };
        format!("{}{deleted}/{}", parts[1], parts[3])
    };
    let mut all: Vec<String> = tree(&kept(world)).into_iter().map(below).collect();
    all.sort();
    all
}

/// Marks messages of a mailbox and expunges them.
pub(super) fn expunge(world: &World, mailbox: &str, uids: &[u32]) {
    let mailbox = world.mailbox(mailbox);
    let uids = ranges(uids);
    let deleted = order(FlagChange::Add, flag::DELETED, &[]);
    mailbox.store_flags(&uids, &deleted).unwrap();
    mailbox.expunge(Some(&uids)).unwrap();
}

fn range(mailbox: Option<&str>, since: Option<&str>, uids: Option<&[u32]>) -> ExpungedRange {
    ExpungedRange {
        mailbox: mailbox.map(str::to_owned),
        since: since.map(str::to_owned),
        uids: uids.map(ranges),
    }
}

/// Gives back; how many messages that were.
fn undelete(world: &World, range: &ExpungedRange) -> Result<u64, Refusal> {
    let wanted = Wanted::read(range).unwrap();
    let (mut after, mut messages) = (None, 0);
    loop {
        let restored = world
            .store()
            .undelete(&owner("alice"), &wanted, after.as_deref())?;
        messages += restored.messages;
        after = restored.after;
        if after.is_none() {
            return Ok(messages);
        }
    }
}

pub(super) fn undelete_all(world: &World) -> u64 {
    undelete(world, &ExpungedRange::default()).unwrap()
}

fn listed(world: &World, range: &ExpungedRange) -> Vec<ExpungedMessage> {
    let wanted = Wanted::read(range).unwrap();
    let (rows, after) = world
        .store()
        .expunged(&owner("alice"), &wanted, None)
        .unwrap();
    assert_eq!(after, None);
    let message = |row| match row {
        Row::Expunged(message) => message,
        row => panic!("{row:?}"),
    };
    rows.into_iter().map(message).collect()
}

/// The same store with something else kept.
fn reopen(world: &mut World, retention: Retention) {
    world.store().save();
    world.store = None;
    world.store = Some(Store::open_with(world.temp.path(), retention).unwrap());
}

/// Makes the removals of today those of another day.
fn age(world: &World, days: u32) -> Day {
    let (today, then) = (Day::today(), Day::today().before(days));
    let path = |day: Day| kept(world).join(day.to_string());
    std::fs::rename(path(today), path(then)).unwrap();
    then
}

fn sweep(world: &World) {
    Purge::new(&world.store().shared)
        .sweep(Day::today())
        .unwrap();
}

#[test]
fn an_expunged_message_comes_back_as_it_was_under_a_new_uid() {
    let world = world();
    for text in ["one", "two"] {
        let flags = flag::SEEN | flag::FLAGGED;
        world.append("INBOX", text.as_bytes(), flags, &["work", "$Forwarded"]);
    }
    let uid_validity = world.inbox().status().unwrap().uid_validity;
    expunge(&world, "INBOX", &[1]);
    assert_eq!(
        all_kept(&world),
        ["INBOX/.keywords/0000", "INBOX/0000/00000001_FST.eml"]
    );
    let message = &listed(&world, &ExpungedRange::default())[0];
    assert_eq!((message.uid, message.uid_validity), (1, uid_validity));
    assert_eq!((message.size, message.internal_date), (3, 1_000_000_000));
    assert_eq!(message.keywords, ["work", "$Forwarded"]);
    assert_eq!(message.flags, flag::SEEN | flag::FLAGGED | flag::DELETED);
    assert!(!message.with_mailbox && message.mailbox == "INBOX");
    let diary = Arc::new(Diary::default());
    let inbox = world.inbox();
    let _selected = inbox.select(Arc::clone(&diary) as Arc<_>).unwrap();
    assert_eq!(undelete_all(&world), 1);
    let heard = diary.events();
    assert!(matches!(&heard[..], [SessionEvent::Added(_)]), "{heard:?}");
    let records = world.records("INBOX");
    let [_, back] = &records[..] else {
        panic!("{records:?}")
    };
    assert_eq!((back.uid, back.flags), (3, flag::SEEN | flag::FLAGGED));
    assert_eq!((back.keywords, back.internal_date), (3, 1_000_000_000));
    assert_eq!(read(&inbox, 3), b"one");
    assert_eq!(all_kept(&world), ["INBOX/.keywords/0000"]);
    assert_eq!(undelete_all(&world), 0, "once is enough");
    assert_eq!(world.user().totals().unwrap().messages, 2);
}

#[test]
fn only_what_is_asked_for_comes_back() {
    let world = world();
    for mailbox in ["INBOX", "Sent"] {
        (0..3).for_each(|_| _ = world.append(mailbox, b"x", 0, &[]));
        expunge(&world, mailbox, &[1, 2, 3]);
    }
    let [yesterday, today] = [1, 0].map(|days| Day::today().before(days).to_string());
    let count = |range| listed(&world, &range).len();
    assert_eq!(count(range(Some("inbox"), None, Some(&[1, 3, 9]))), 2);
    assert_eq!(count(range(Some("Sent"), Some(&today), None)), 3);
    assert_eq!(count(range(None, Some(&yesterday), None)), 6);
    assert_eq!(count(range(Some("Junk"), None, None)), 0);
    let wrong = Wanted::read(&range(None, Some("today"), None));
    assert!(matches!(wrong, Err(Refusal::Invalid(_))));
    age(&world, 2);
    assert_eq!(count(range(None, Some(&yesterday), None)), 0);
    let some = range(Some("INBOX"), None, Some(&[2]));
    assert_eq!(undelete(&world, &some), Ok(1));
    assert_eq!(
        (world.uids("INBOX"), world.uids("Sent").len()),
        (vec![4], 0)
    );
    assert_eq!(count(ExpungedRange::default()), 5);
}

#[test]
fn what_moves_away_is_not_kept_and_a_deleted_mailbox_is_with_all_that_was_in_it() {
    let world = world();
    // From now on it is known how much is kept, and more may be.
    world.inbox().expunge(None).unwrap();
    world.append("INBOX", b"moved", 0, &[]);
    world
        .inbox()
        .move_to(&vec![(1, 1)], &world.mailbox("Junk"))
        .unwrap();
    assert_eq!(all_kept(&world), [""; 0]);
    world.append("Junk", b"second", flag::SEEN, &["work"]);
    world.append("Junk", b"third", 0, &[]);
    expunge(&world, "Junk", &[3]);
    std::fs::create_dir_all(world.path("Junk/.cache/text")).unwrap();
    std::fs::write(world.path("Junk/.cache/text/0000"), "secret").unwrap();
    let before = world.mailbox("Junk").status().unwrap();
    world.user().delete_mailbox(&name("Junk")).unwrap();
    let expected = [
        "Junk-/.ids/0000",
        "Junk-/.keywords/0000",
        "Junk-/0000/00000001_.eml",
        "Junk-/0000/00000002_S.eml",
        "Junk-/status.json",
        "Junk/0000/00000003_T.eml",
    ];
    assert_eq!(all_kept(&world), expected);
    assert_eq!(
        files(&world.path("")),
        ["Archive", "Drafts", "INBOX", "Sent", "Trash"]
    );
    assert_eq!(world.user().totals().unwrap().messages, 0);
    assert_eq!(listed(&world, &ExpungedRange::default()).len(), 3);
    assert_eq!(undelete_all(&world), 3);
    let junk = world.mailbox("Junk");
    assert!(junk.status().unwrap().uid_validity > before.uid_validity);
    assert_eq!(junk.special_use(), Ok(Some(SpecialUse::Junk)));
    let texts: Vec<_> = world
        .uids("Junk")
        .iter()
        .map(|uid| read(&junk, *uid))
        .collect();
    assert_eq!(texts, [&b"third"[..], b"moved", b"second"]);
    assert_eq!(world.records("Junk")[2].keywords, 1);
    // An empty one leaves nothing.
    world.user().create_mailbox(&name("a"), None).unwrap();
    world.user().delete_mailbox(&name("a")).unwrap();
    assert!(!all_kept(&world).iter().any(|path| path.starts_with('a')));
}

#[test]
fn a_mailbox_that_was_renamed_gets_back_what_was_its_own() {
    let world = world();
    world.user().create_mailbox(&name("a"), None).unwrap();
    world.append("a", b"x", 0, &[]);
    expunge(&world, "a", &[1]);
    world.user().rename_mailbox(&name("a"), &name("b")).unwrap();
    world.user().create_mailbox(&name("a"), None).unwrap();
    assert_eq!(undelete_all(&world), 1);
    assert_eq!((world.uids("a").len(), world.uids("b")), (0, vec![2]));
}

#[test]
fn what_does_not_fit_into_the_quota_stays_where_it_is() {
    let world = world();
    let ledger = world.store().ledger();
    for _ in 0..4 {
        world.append("INBOX", b"12345", 0, &[]);
    }
    world.append("Sent", b"12345", 0, &[]);
    expunge(&world, "INBOX", &[1, 2, 3]);
    let limits = Limits {
        messages: 4,
        bytes: 0,
    };
    ledger.limit_user(&owner("alice"), limits);
    let refused = undelete(&world, &ExpungedRange::default());
    let Err(Refusal::Invalid(text)) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        text.contains("over quota: the 3 messages (15 bytes) removed from INBOX"),
        "{text}"
    );
    assert_eq!((world.uids("INBOX"), all_kept(&world).len()), (vec![4], 3));
    ledger.check();
    expunge(&world, "Sent", &[1]);
    assert_eq!(undelete(&world, &range(Some("INBOX"), None, None)), Ok(3));
    // A batch before one that does not fit is told, and then why it does not go on.
    expunge(&world, "INBOX", &[5]);
    let refused = undelete(&world, &ExpungedRange::default());
    assert!(
        matches!(&refused, Err(Refusal::Invalid(text)) if text.contains("Sent")),
        "{refused:?}"
    );
    assert_eq!(world.uids("INBOX").len(), 4);
    ledger.check();
}

#[test]
fn nothing_is_kept_when_that_is_switched_off_or_the_disk_is_short_of_room() {
    let mut world = world();
    for (days, min_free_percent) in [(0, 0), (7, 101)] {
        let retention = Retention {
            days,
            min_free_percent,
            ..RETENTION
        };
        reopen(&mut world, retention);
        let uid = world.append("INBOX", b"x", 0, &[]);
        world.append("Junk", b"x", 0, &[]);
        expunge(&world, "INBOX", &[uid]);
        world.user().delete_mailbox(&name("Junk")).unwrap();
        world.user().create_mailbox(&name("Junk"), None).unwrap();
        assert_eq!(all_kept(&world), [""; 0]);
        assert_eq!(files(&world.path("INBOX/0000")), [""; 0]);
    }
}

#[test]
fn a_user_keeps_no_more_than_is_allowed_and_the_oldest_day_makes_room() {
    let mut world = world();
    // Each message counts as 4096 bytes more than it has.
    let retention = Retention {
        bytes: 3 * 4106,
        ..RETENTION
    };
    reopen(&mut world, retention);
    for _ in 0..9 {
        world.append("INBOX", b"0123456789", 0, &[]);
    }
    expunge(&world, "INBOX", &[1, 2]);
    expunge(&world, "INBOX", &[3, 4]);
    let first = ["INBOX/0000/00000001_T.eml", "INBOX/0000/00000002_T.eml"];
    assert_eq!(all_kept(&world), first, "those are gone for good");
    assert_eq!(world.uids("INBOX"), [5, 6, 7, 8, 9]);
    let empty_full = |world: &World| {
        let mut purge = Purge::new(&world.store().shared);
        purge.empty_full(Day::today()).unwrap();
    };
    empty_full(&world);
    assert_eq!(all_kept(&world), first, "what was expunged today stays");
    // After another start it is counted again.
    reopen(&mut world, retention);
    expunge(&world, "INBOX", &[5]);
    age(&world, 1);
    expunge(&world, "INBOX", &[6]);
    empty_full(&world);
    // The store's own thread may have been quicker to take this on.
    let has_days = || std::fs::read_dir(kept(&world)).is_ok_and(|mut days| days.next().is_some());
    while has_days() {
        std::thread::yield_now();
    }
    expunge(&world, "INBOX", &[7, 8, 9]);
    assert_eq!(all_kept(&world).len(), 3);
    // A domain's limit counts too, and what is given back makes room.
    let limits = Limits {
        messages: 0,
        bytes: 2 * 4106,
    };
    world.store().ledger().set_domain("example.test", limits);
    assert_eq!(undelete_all(&world), 3);
    for uid in world.uids("INBOX") {
        expunge(&world, "INBOX", &[uid]);
    }
    assert_eq!(all_kept(&world).len(), 2);
}

#[test]
fn what_is_older_than_it_has_to_be_goes_and_nothing_else() {
    let world = world();
    for _ in 0..2 {
        world.append("INBOX", b"x", 0, &["work"]);
    }
    world.append("Junk", b"x", 0, &[]);
    world.user().delete_mailbox(&name("Junk")).unwrap();
    expunge(&world, "INBOX", &[1]);
    age(&world, 7);
    sweep(&world);
    assert_eq!(all_kept(&world).len(), 4, "it is kept for 7 days");
    let day = Day::today().before(7).to_string();
    let older = Day::today().before(8).to_string();
    std::fs::rename(kept(&world).join(&day), kept(&world).join(older)).unwrap();
    std::fs::create_dir_all(kept(&world).join("mine/INBOX")).unwrap();
    expunge(&world, "INBOX", &[2]);
    sweep(&world);
    assert_eq!(
        files(&kept(&world)),
        [Day::today().to_string(), "mine".into()]
    );
    let rest = ["INBOX/.keywords/0000", "INBOX/0000/00000002_T.eml"];
    assert_eq!(all_kept(&world), rest);
    // What went is not counted any more: there is room for just as much as is left.
    let member = world.store().ledger().join(&owner("alice"));
    let left = 1 << 20;
    assert!(!member.keep(left - 4096, left) && member.keep(left - 4096 - 1 - 14, left));
}

#[test]
fn a_disk_that_is_short_of_room_gets_it_from_the_oldest_days_of_all() {
    let mut world = world();
    for local in ["alice", "bob"] {
        let inbox = world.store().user(&owner(local)).unwrap();
        let inbox = inbox.mailbox(&MailboxName::inbox()).unwrap();
        let message = NewMessage {
            flags: flag::DELETED,
            ..NewMessage::default()
        };
        world
            .store()
            .append(world.incoming(b"x"), &inbox, message)
            .unwrap();
        inbox.expunge(None).unwrap();
    }
    age(&world, 3);
    let users = world.root().join("domains/example.test/users");
    assert_eq!(tree(&users.join("bob/.expunged")).len(), 1);
    Purge::new(&world.store().shared).relieve().unwrap();
    assert_eq!(all_kept(&world).len(), 1, "there is room");
    let retention = Retention {
        min_free_percent: 101,
        ..RETENTION
    };
    reopen(&mut world, retention);
    for local in ["alice", "bob"] {
        world.store().user(&owner(local)).unwrap();
    }
    Purge::new(&world.store().shared).relieve().unwrap();
    while tree(&users).iter().any(|path| path.contains(".expunged")) {
        // The store's own thread was quicker to take this on.
        std::thread::yield_now();
    }
}

#[test]
fn what_cannot_be_kept_is_removed_and_the_client_hears_of_nothing() {
    let world = world();
    world.append("INBOX", b"x", 0, &["work"]);
    world.append("Junk", b"x", 0, &[]);
    std::fs::write(kept(&world), "in the way").unwrap();
    expunge(&world, "INBOX", &[1]);
    world.user().delete_mailbox(&name("Junk")).unwrap();
    assert_eq!(files(&world.path("INBOX/0000")), [""; 0]);
    assert!(!world.path("Junk").exists());
    assert_eq!(std::fs::read(kept(&world)).unwrap(), b"in the way");
    assert!(
        world
            .store()
            .expunged(&owner("alice"), &Wanted::default(), None)
            .is_err()
    );
}

#[test]
fn a_message_renamed_by_hand_is_kept_under_its_own_name() {
    let world = world();
    world.append("INBOX", b"x", flag::DELETED, &[]);
    let shard = world.path("INBOX/0000");
    std::fs::rename(shard.join("00000001_T.eml"), shard.join("00000001_ST.eml")).unwrap();
    world.inbox().expunge(None).unwrap();
    assert_eq!(all_kept(&world), ["INBOX/0000/00000001_T.eml"]);
    // One whose file somebody removed is not there, and nobody minds.
    world.append("INBOX", b"x", flag::DELETED, &[]);
    std::fs::remove_file(shard.join("00000002_T.eml")).unwrap();
    world.inbox().expunge(None).unwrap();
    assert_eq!(all_kept(&world).len(), 1);
    assert_eq!(undelete_all(&world), 1);
}

#[test]
fn a_message_with_keywords_the_mailbox_has_no_room_for_comes_without_them() {
    let world = world();
    world.append("INBOX", b"x", 0, &["late"]);
    expunge(&world, "INBOX", &[1]);
    let mut world = world;
    std::fs::remove_dir_all(world.path("INBOX/.keywords")).ok();
    world.restart();
    std::fs::remove_dir_all(world.path("INBOX/.cache")).ok();
    world.crash();
    let words: Vec<String> = (0..64).map(|number| format!("k{number}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    world.append("INBOX", b"y", 0, &words);
    assert_eq!(undelete_all(&world), 1);
    let records = world.records("INBOX");
    assert_eq!(
        records.iter().map(|one| one.keywords).collect::<Vec<_>>(),
        [u64::MAX, 0]
    );
}

#[test]
fn a_removed_user_takes_it_along_and_the_next_of_the_name_has_none() {
    let world = world();
    world.append("INBOX", b"x", 0, &[]);
    expunge(&world, "INBOX", &[1]);
    world.store().set_aside(&owner("alice")).unwrap();
    world.user();
    assert!(!kept(&world).exists());
    assert_eq!(undelete_all(&world), 0);
    let users = world.root().join("domains/example.test/users");
    let aside = files(&users)
        .into_iter()
        .find(|name| name.starts_with(".removed-"));
    assert_eq!(tree(&users.join(aside.unwrap()).join(".expunged")).len(), 1);
}

#[test]
fn more_than_a_shard_comes_back_piece_by_piece() {
    let world = world();
    world.append("INBOX", b"x", 0, &[]);
    let shard = world.path("INBOX/0000");
    for uid in 2..2500_u32 {
        let to = world.path(&format!("INBOX/{:04}", message_file::shard_of(uid)));
        std::fs::create_dir_all(&to).unwrap();
        std::fs::hard_link(
            shard.join("00000001_.eml"),
            to.join(message_file::file_name(uid, 0)),
        )
        .unwrap();
    }
    let all: Vec<u32> = (1..2500).collect();
    assert_eq!(world.uids("INBOX"), all);
    expunge(&world, "INBOX", &all);
    assert_eq!(world.uids("INBOX"), [0; 0]);
    assert_eq!(listed(&world, &ExpungedRange::default()).len(), 2499);
    let wanted = Wanted::default();
    let (first, after) = {
        let after = listed(&world, &ExpungedRange::default())[0].day.clone();
        let place = files(&kept(&world).join(&after).join("INBOX"));
        let after = format!("{after}/INBOX/{}/0001", place[0]);
        world
            .store()
            .expunged(&owner("alice"), &wanted, Some(&after))
            .unwrap()
    };
    assert_eq!((first.len(), after), (500, None), "behind the second shard");
    let nowhere = world
        .store()
        .expunged(&owner("alice"), &wanted, Some("../x"));
    assert!(matches!(nowhere, Err(Refusal::Invalid(_))));
    assert_eq!(undelete_all(&world), 2499);
    let back: Vec<u32> = (2500..4999).collect();
    assert_eq!(world.uids("INBOX"), back);
    assert_eq!(all_kept(&world), [""; 0]);
}

#[test]
fn what_somebody_put_unseen_into_a_mailbox_is_kept_when_that_is_deleted() {
    let mut world = world();
    world.append("Junk", b"known", 0, &[]);
    expunge(&world, "Junk", &[1]);
    world.restart();
    let shard = world.path("Junk/0000");
    std::fs::write(shard.join("00000007_.eml"), b"unseen").unwrap();
    std::fs::write(shard.join("hello.eml"), b"unseen, too").unwrap();
    world.user().delete_mailbox(&name("Junk")).unwrap();
    let kept = all_kept(&world);
    for file in ["00000007_.eml", "00000008_.eml"] {
        assert!(kept.contains(&format!("Junk-/0000/{file}")), "{kept:?}");
    }
}
