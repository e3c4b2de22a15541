//! What messages are known by: through whatever happens to them, their mailboxes and the caches.

use ipc::session::{IDS_PER_FRAME, MessageIds};

use super::*;

/// UID, id and EMAILID of all messages of a mailbox.
fn ids(world: &World, mailbox: &str) -> Vec<MessageIds> {
    world.mailbox(mailbox).ids(&feed::all()).unwrap()
}

fn only(world: &World, mailbox: &str) -> (u128, u128) {
    let [ids] = ids(world, mailbox)[..] else {
        panic!("not one message is in {mailbox}");
    };
    (ids.id, ids.email_id)
}

fn transfer(world: &World, from: &str, to: &str, moves: bool) -> Transfer {
    let (source, target) = (world.mailbox(from), world.mailbox(to));
    let transfer = if moves {
        source.move_to(&feed::all(), &target)
    } else {
        source.copy(&feed::all(), &target)
    };
    transfer.unwrap()
}

fn text(world: &World, path: &str) -> String {
    std::fs::read_to_string(world.path(path)).unwrap()
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let copy = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &copy);
        } else {
            std::fs::copy(entry.path(), copy).unwrap();
        }
    }
}

#[test]
fn what_stays_where_it_came_needs_no_file() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    world.append("INBOX", &vec![b'x'; 1 << 18], 0, &["work"]);
    let before = ids(&world, "INBOX");
    assert_eq!(before.iter().map(|ids| ids.uid).collect::<Vec<_>>(), [1, 2]);
    assert_ne!(before[0].id, before[1].id);
    assert!(before.iter().all(|ids| ids.id == ids.email_id));
    world.restart();
    assert_eq!(ids(&world, "INBOX"), before);
    assert!(!world.path("INBOX/.ids").exists());
}

#[test]
fn a_message_is_known_by_the_same_wherever_it_goes_and_whatever_happens() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &["work"]);
    let first = only(&world, "INBOX");
    let mut from = "INBOX";
    for to in ["Archive", "Trash", "INBOX", "INBOX", "Archive"] {
        transfer(&world, from, to, true);
        assert_eq!(only(&world, to), first, "in memory, {to}");
        let flags = order(FlagChange::Replace, flag::SEEN, &[]);
        world.mailbox(to).store_flags(&feed::all(), &flags).unwrap();
        world.crash();
        assert_eq!(only(&world, to), first, "after a crash, {to}");
        world.restart();
        assert_eq!(only(&world, to), first, "after a clean stop, {to}");
        assert_eq!(world.records(to)[0].flags, flag::SEEN);
        world.store = None;
        for mailbox in ["INBOX", "Archive", "Trash"] {
            let _ = std::fs::remove_dir_all(world.path(mailbox).join(".cache"));
        }
        std::fs::remove_dir_all(world.root().join(".journal")).unwrap();
        world.crash();
        assert_eq!(only(&world, to), first, "without caches, {to}");
        from = to;
    }
    world
        .user()
        .rename_mailbox(&name("Archive"), &name("a/b"))
        .unwrap();
    assert_eq!(only(&world, "a/b"), first);
    world.crash();
    assert_eq!(only(&world, "a/b"), first);
}

#[test]
fn a_rename_after_a_move_leaves_the_ids_when_the_process_is_killed() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    let first = only(&world, "INBOX");
    transfer(&world, "INBOX", "Archive", true);
    world
        .user()
        .rename_mailbox(&name("Archive"), &name("b"))
        .unwrap();
    world.append("b", b"y", 0, &[]);
    world.crash();
    let now = ids(&world, "b");
    assert_eq!((now[0].id, now[0].email_id), first);
    assert_ne!(now[1].id, first.0);
    world
        .user()
        .rename_mailbox(&name("INBOX"), &name("c"))
        .unwrap();
    world.append("INBOX", b"z", 0, &[]);
    let before = only(&world, "INBOX");
    world
        .user()
        .rename_mailbox(&name("INBOX"), &name("d"))
        .unwrap();
    assert_eq!(only(&world, "d"), before);
    world.crash();
    assert_eq!(only(&world, "d"), before);
}

#[test]
fn a_copy_is_another_message_with_the_same_email_id() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    let first = only(&world, "INBOX");
    transfer(&world, "INBOX", "Archive", false);
    transfer(&world, "Archive", "Archive", false);
    transfer(&world, "INBOX", "Trash", true);
    transfer(&world, "Archive", "Junk", true);
    let all = |world: &World| -> Vec<(u128, u128)> {
        let mailboxes = ["INBOX", "Archive", "Trash", "Junk"];
        let all = mailboxes.into_iter().flat_map(|name| ids(world, name));
        all.map(|ids| (ids.id, ids.email_id)).collect()
    };
    let known = all(&world);
    assert_eq!((known.len(), known[0]), (3, first));
    let different: std::collections::BTreeSet<u128> = known.iter().map(|(id, _)| *id).collect();
    assert_eq!(different.len(), 3);
    assert!(known.iter().all(|(_, email_id)| *email_id == first.1));
    world.crash();
    assert_eq!(all(&world), known);
    world.restart();
    assert_eq!(all(&world), known);
}

#[test]
fn lines_of_messages_that_are_gone_go_with_the_next_write_and_the_file_with_the_last_message() {
    let mut world = world();
    for _ in 0..3 {
        world.append("INBOX", b"x", 0, &[]);
    }
    transfer(&world, "INBOX", "Trash", true);
    world.restart();
    assert_eq!(text(&world, "Trash/.ids/0000").lines().count(), 1 + 3);
    let expunge = |world: &World, uid| {
        let trash = world.mailbox("Trash");
        let deleted = order(FlagChange::Add, flag::DELETED, &[]);
        trash.store_flags(&vec![(uid, uid)], &deleted).unwrap();
        trash.expunge(None).unwrap();
    };
    expunge(&world, 1);
    world.append("INBOX", b"x", 0, &[]);
    transfer(&world, "INBOX", "Trash", true);
    expunge(&world, 3);
    let before = ids(&world, "Trash");
    world.restart();
    let lines: Vec<String> = text(&world, "Trash/.ids/0000")
        .lines()
        .skip(1)
        .map(|line| line[..8].to_owned())
        .collect();
    assert_eq!(lines, ["00000002", "00000004"]);
    assert_eq!(ids(&world, "Trash"), before);
    expunge(&world, 2);
    assert!(world.path("Trash/.ids/0000").exists());
    expunge(&world, 4);
    assert!(!world.path("Trash/.ids/0000").exists());
    world.crash();
    assert!(ids(&world, "Trash").is_empty());
    assert_eq!(world.append("Trash", b"x", 0, &[]), 5);
}

/// A crash in a MOVE, before the record: the target has its names already.
#[test]
fn a_message_that_was_not_moved_to_its_end_is_another_one_in_the_target() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    let first = only(&world, "INBOX");
    std::fs::hard_link(
        world.path("INBOX/0000/00000001_.eml"),
        world.path("Trash/0000/00000001_.eml"),
    )
    .unwrap();
    world.crash();
    assert_eq!(only(&world, "INBOX"), first);
    assert_ne!(only(&world, "Trash").0, first.0);
}

#[test]
fn a_line_without_a_message_does_not_stick_to_the_next_one() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    transfer(&world, "INBOX", "Archive", true);
    world.restart();
    let path = world.path("Archive/.ids/0000");
    let line = text(&world, "Archive/.ids/0000");
    std::fs::write(&path, line.replace("00000001 ", "00000007 ")).unwrap();
    world.crash();
    assert_eq!(world.append("Archive", b"y", 0, &[]), 8);
    let known = ids(&world, "Archive");
    assert!(known.iter().all(|ids| ids.id == ids.email_id), "{known:?}");
}

#[test]
fn in_a_mailbox_that_was_copied_by_hand_or_lost_its_status_messages_get_other_ids() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    transfer(&world, "INBOX", "Archive", true);
    world.append("Archive", b"y", 0, &[]);
    let before = ids(&world, "Archive");
    world.restart();
    world.store = None;
    copy_tree(&world.path("Archive"), &world.path("Copy"));
    world.crash();
    let mut all = ids(&world, "Archive");
    all.extend(ids(&world, "Copy"));
    // Which of them is the copy, nothing says.
    assert!(before.iter().all(|ids| all.contains(ids)), "{all:?}");
    let different: std::collections::BTreeSet<u128> = all.iter().map(|ids| ids.id).collect();
    assert_eq!(different.len(), 4, "{all:?}");
    world.restart();
    world.store = None;
    for mailbox in ["Archive", "Copy"] {
        std::fs::remove_file(world.path(mailbox).join("status.json")).unwrap();
    }
    world.crash();
    let mut now = ids(&world, "Archive");
    now.extend(ids(&world, "Copy"));
    assert_eq!(now.len(), 4);
    assert!(
        now.iter().all(|ids| !different.contains(&ids.id)),
        "{now:?}"
    );
}

#[test]
fn a_file_moved_by_hand_is_another_message() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    let first = only(&world, "INBOX");
    world.restart();
    world.store = None;
    std::fs::rename(
        world.path("INBOX/0000/00000001_.eml"),
        world.path("Archive/0000/00000001_.eml"),
    )
    .unwrap();
    world.crash();
    let moved = only(&world, "Archive");
    assert!(moved.0 != first.0 && moved.1 != first.1);
}

#[test]
fn a_mailbox_that_cannot_be_written_keeps_its_ids_beside_the_journal() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    world.append("INBOX", b"y", 0, &[]);
    world
        .mailbox("INBOX")
        .copy(&vec![(2, 2)], &world.mailbox("Sent"))
        .unwrap();
    let before = ids(&world, "INBOX");
    std::fs::write(world.path("Archive/.ids"), "in the way").unwrap();
    transfer(&world, "INBOX", "Archive", true);
    let shared = &world.store().shared;
    assert!(shared.empty_journal());
    assert!(shared.is_apart("domains/example.test/users/alice/"));
    world.store = None;
    std::fs::remove_file(world.path("Archive/.ids")).unwrap();
    world.crash();
    let now = ids(&world, "Archive");
    let pairs =
        |all: &[MessageIds]| -> Vec<_> { all.iter().map(|ids| (ids.id, ids.email_id)).collect() };
    assert_eq!(pairs(&now), pairs(&before));
    assert!(!world.root().join(".journal/apart").exists());
}

#[test]
fn a_mailbox_whose_ids_cannot_be_read_is_read_all_the_same() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    transfer(&world, "INBOX", "Archive", true);
    world.restart();
    std::fs::remove_file(world.path("Archive/.ids/0000")).unwrap();
    std::fs::create_dir(world.path("Archive/.ids/0000")).unwrap();
    world.crash();
    assert_eq!(world.append("Archive", b"y", 0, &[]), 2);
    assert_eq!(read(&world.mailbox("Archive"), 1), b"x");
    let archive = world.mailbox("Archive");
    assert_eq!(archive.ids(&feed::all()), Err(Refusal::StorageFault));
    // What it is known by must not get lost on the way.
    assert_eq!(
        archive.move_to(&feed::all(), &world.inbox()),
        Err(Refusal::StorageFault)
    );
    assert_eq!(world.uids("Archive"), [1, 2]);
}

#[test]
fn many_messages_are_moved_in_pieces_and_copied_at_once() {
    const MANY: u32 = 8_100;
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    world.restart();
    world.store = None;
    for uid in 2..=MANY {
        let shard = world.path(&format!("INBOX/{:04}", uid / 1000));
        if uid % 1000 == 0 {
            std::fs::create_dir(&shard).unwrap();
        }
        let first = world.path("INBOX/0000/00000001_.eml");
        std::fs::hard_link(first, shard.join(format!("{uid:08}_.eml"))).unwrap();
    }
    world.crash();
    let all = |world: &World, mailbox: &str| -> Vec<MessageIds> {
        let mailbox = world.mailbox(mailbox);
        let page = u32::try_from(IDS_PER_FRAME).unwrap();
        let pages = (0..=MANY / page).map(|number| vec![(number * page, number * page + page - 1)]);
        pages.flat_map(|page| mailbox.ids(&page).unwrap()).collect()
    };
    let before = all(&world, "INBOX");
    assert_eq!(before.len(), MANY as usize);
    let copied = transfer(&world, "INBOX", "Junk", false);
    let moved = transfer(&world, "INBOX", "Archive", true);
    let uids: Vec<u32> = (1..=MANY).collect();
    assert_eq!((&moved.source, &moved.target), (&uids, &uids));
    assert_eq!(copied.target, uids);
    assert!(world.uids("INBOX").is_empty());
    assert_eq!(all(&world, "Archive"), before);
    world.crash();
    assert_eq!(all(&world, "Archive"), before);
    let copies = all(&world, "Junk");
    let pairs = before.iter().zip(&copies);
    assert!(
        pairs
            .clone()
            .all(|(a, b)| a.email_id == b.email_id && a.id != b.id)
    );
    assert_eq!(copies.len(), before.len());
}
