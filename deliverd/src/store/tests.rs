//! What the store promises, seen from outside: files on disk, events, and what is left after a crash.

use std::path::{Path, PathBuf};
use std::sync::Mutex as StdMutex;

use ipc::session::{FlagChange, SessionEvent};
use ipc::snapshot::{Record, flag};

use super::*;

mod by_hand;
mod check;
mod crash_states;
mod expunged;
mod ids;
mod index;
mod junk;
mod mailboxes;
mod memory;
mod metadata;
mod quota;
mod reader_cache;
mod replace;
mod select;
mod together;
mod transfers;

pub(super) struct World {
    temp: tempfile::TempDir,
    pub(super) store: Option<Store>,
}

pub(super) fn owner(local: &str) -> Owner {
    Owner {
        local: local.into(),
        domain: "example.test".into(),
    }
}

fn name(text: &str) -> MailboxName {
    MailboxName::parse(text).unwrap()
}

/// What tests keep of what is expunged: also on a disk that is nearly full.
pub(super) const RETENTION: Retention = Retention {
    days: 7,
    bytes: 1 << 30,
    min_free_percent: 1,
};

pub(super) fn world() -> World {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path()).unwrap();
    World {
        temp,
        store: Some(store),
    }
}

impl World {
    pub(super) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// As after a crash: memory is lost, nothing is saved.
    fn crash(&mut self) {
        self.store = None;
        self.store = Some(Store::open(self.temp.path()).unwrap());
    }

    /// A clean stop, and a new start.
    fn restart(&mut self) {
        self.store().save();
        self.crash();
    }

    fn user(&self) -> Arc<User> {
        self.store().user(&owner("alice")).unwrap()
    }

    fn mailbox(&self, text: &str) -> Arc<Mailbox> {
        self.user().mailbox(&name(text)).unwrap()
    }

    fn inbox(&self) -> Arc<Mailbox> {
        self.mailbox("INBOX")
    }

    fn root(&self) -> PathBuf {
        self.temp.path().join("mailstore")
    }

    fn path(&self, mailbox: &str) -> PathBuf {
        self.root()
            .join("domains/example.test/users/alice/mailboxes")
            .join(mailbox)
    }

    fn incoming(&self, bytes: &[u8]) -> Incoming {
        let mut incoming = self.store().begin();
        for chunk in bytes.chunks(BUFFER) {
            incoming.buffer().extend_from_slice(chunk);
            if incoming.is_full() {
                incoming.spill().unwrap();
            }
        }
        incoming
    }

    fn append(&self, mailbox: &str, bytes: &[u8], flags: u8, keywords: &[&str]) -> u32 {
        let keywords = keywords.iter().map(|word| (*word).to_owned()).collect();
        let message = NewMessage {
            flags,
            keywords,
            size: 0,
            internal_date: 1_000_000_000,
        };
        self.store()
            .append(self.incoming(bytes), &self.mailbox(mailbox), message)
            .unwrap()
            .1
    }

    fn records(&self, mailbox: &str) -> Vec<Record> {
        records(&self.mailbox(mailbox))
    }

    fn uids(&self, mailbox: &str) -> Vec<u32> {
        self.records(mailbox)
            .iter()
            .map(|record| record.uid)
            .collect()
    }
}

struct Silent;
impl Listener for Silent {
    fn tell(&self, _: SessionEvent) -> bool {
        true
    }
}

#[derive(Default)]
struct Diary(StdMutex<Vec<SessionEvent>>);
impl Listener for Diary {
    fn tell(&self, event: SessionEvent) -> bool {
        self.0.lock().unwrap().push(event);
        true
    }
}

impl Diary {
    fn events(&self) -> Vec<SessionEvent> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn records(mailbox: &Arc<Mailbox>) -> Vec<Record> {
    let selected = mailbox.select(Arc::new(Silent)).unwrap();
    mailbox.unselect(selected.selection);
    mailbox.records().unwrap()
}

fn files(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn order(change: FlagChange, flags: u8, keywords: &[&str]) -> FlagOrder {
    FlagOrder {
        change,
        flags,
        keywords: keywords.iter().map(|word| (*word).to_owned()).collect(),
        unchanged_since: None,
        heard: u64::MAX,
    }
}

fn read(mailbox: &Arc<Mailbox>, uid: u32) -> Vec<u8> {
    use std::io::Read;
    let mut bytes = Vec::new();
    mailbox
        .open(&[uid])
        .unwrap()
        .remove(0)
        .1
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

#[test]
fn a_new_user_has_the_usual_mailboxes_all_subscribed() {
    let world = world();
    let (list, more) = world.user().list(None).unwrap();
    let names: Vec<_> = list.iter().map(|info| info.name.as_str()).collect();
    assert_eq!(
        (names.as_slice(), more),
        (
            ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"].as_slice(),
            false
        )
    );
    assert!(
        list.iter()
            .all(|info| info.subscribed && info.exists && !info.has_children)
    );
    assert_eq!(
        list.iter()
            .filter(|info| info.special_use.is_some())
            .count(),
        5
    );
    assert_eq!(files(&world.path("INBOX")), ["0000", "status.json"]);
}

#[test]
fn an_appended_message_is_a_file_of_the_designed_name_and_mode() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let world = world();
    let uid = world.append(
        "INBOX",
        b"Subject: x\r\n\r\nhello\r\n",
        flag::SEEN | flag::ANSWERED,
        &[],
    );
    let file = world.path("INBOX").join("0000/00000001_AS.eml");
    let stat = file.metadata().unwrap();
    assert_eq!(
        (
            uid,
            stat.len(),
            stat.mtime(),
            stat.permissions().mode() & 0o733
        ),
        (1, 21, 1_000_000_000, 0o400)
    );
    assert_eq!(read(&world.inbox(), 1), b"Subject: x\r\n\r\nhello\r\n");
    assert_eq!(files(&world.root().join(".incoming")), [""; 0]);
    let status = world.inbox().status().unwrap();
    assert_eq!(
        (status.messages, status.unseen, status.size, status.uid_next),
        (1, 0, 21, 2)
    );
}

#[test]
fn a_large_message_goes_through_a_bounded_buffer_and_comes_back_whole() {
    let world = world();
    let bytes: Vec<u8> = (0..3 * BUFFER + 17)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    let uid = world.append("INBOX", &bytes, 0, &[]);
    assert!(read(&world.inbox(), uid) == bytes);
}

#[test]
fn what_is_put_in_front_of_a_message_stands_there_whatever_its_size() {
    let world = world();
    let head = b"A: b\r\n";
    // In memory; in memory until the head comes; in a file alone; in a file and in memory.
    for size in [
        0,
        20,
        BUFFER - 7,
        BUFFER - 6,
        BUFFER - 1,
        BUFFER,
        3 * BUFFER + 17,
    ] {
        let bytes: Vec<u8> = (0..size)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        let mut incoming = world.incoming(&bytes);
        incoming.put_in_front(head).unwrap();
        assert_eq!(incoming.size() as usize, head.len() + size);
        assert!(incoming.buffer().len() < BUFFER);
        let message = NewMessage {
            flags: 0,
            keywords: Vec::new(),
            size: 0,
            internal_date: 1_000_000_000,
        };
        let inbox = world.inbox();
        let (_, uid) = world.store().append(incoming, &inbox, message).unwrap();
        assert!(
            read(&inbox, uid) == [head.as_slice(), &bytes].concat(),
            "{size}"
        );
    }
    assert_eq!(files(&world.root().join(".incoming")), [""; 0]);
}

#[test]
fn a_message_that_is_dropped_leaves_nothing() {
    let world = world();
    drop(world.incoming(&vec![b'x'; 2 * BUFFER]));
    assert_eq!(files(&world.root().join(".incoming")), [""; 0]);
}

#[test]
fn recipients_of_one_domain_share_a_file_and_domains_do_not() {
    use std::os::unix::fs::MetadataExt;
    let world = world();
    let other = Owner {
        local: "carol".into(),
        domain: "other.test".into(),
    };
    world
        .store()
        .deliver(world.incoming(b"x"), &[owner("alice"), owner("bob"), other])
        .unwrap();
    let inode = |domain: &str, user: &str| {
        let path = format!("domains/{domain}/users/{user}/mailboxes/INBOX/0000/00000001_.eml");
        world.root().join(path).metadata().unwrap().ino()
    };
    assert_eq!(inode("example.test", "alice"), inode("example.test", "bob"));
    assert_ne!(inode("example.test", "alice"), inode("other.test", "carol"));
    assert_eq!(world.store().stored(), 3);
}

#[test]
fn parallel_deliveries_all_arrive_under_their_own_uid_and_are_shown_in_order() {
    let world = world();
    let diary = Arc::new(Diary::default());
    world
        .inbox()
        .select(Arc::clone(&diary) as Arc<dyn Listener>)
        .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let world = &world;
            scope.spawn(move || {
                for number in 0..25 {
                    let bytes = format!("message {thread} {number}");
                    world
                        .store()
                        .deliver(
                            world.incoming(bytes.as_bytes()),
                            &[owner("alice"), owner("bob")],
                        )
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(world.uids("INBOX"), (1..=200).collect::<Vec<_>>());
    let told: Vec<u32> = diary
        .events()
        .into_iter()
        .flat_map(|event| match event {
            SessionEvent::Added(records) => records
                .into_iter()
                .map(|record| record.uid)
                .collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, (1..=200).collect::<Vec<_>>());
    let bodies: std::collections::HashSet<_> =
        (1..=200).map(|uid| read(&world.inbox(), uid)).collect();
    assert_eq!(bodies.len(), 200);
}

#[test]
fn flags_are_renames_and_keywords_a_text_file() {
    let world = world();
    for _ in 0..3 {
        world.append("INBOX", b"x", 0, &[]);
    }
    world
        .inbox()
        .store_flags(
            &vec![(1, 2)],
            &order(FlagChange::Add, flag::SEEN, &["$Forwarded", "work"]),
        )
        .unwrap();
    world
        .inbox()
        .store_flags(&vec![(2, 3)], &order(FlagChange::Add, flag::FLAGGED, &[]))
        .unwrap();
    world
        .inbox()
        .store_flags(
            &vec![(1, 1)],
            &order(FlagChange::Remove, flag::SEEN, &["work"]),
        )
        .unwrap();
    world
        .inbox()
        .store_flags(
            &vec![(3, 9)],
            &order(FlagChange::Replace, flag::DRAFT, &["work"]),
        )
        .unwrap();
    let shard = world.path("INBOX").join("0000");
    assert_eq!(
        files(&shard),
        ["00000001_.eml", "00000002_FS.eml", "00000003_D.eml"]
    );
    world.store().save();
    let text = std::fs::read_to_string(world.path("INBOX").join(".keywords/0000")).unwrap();
    assert_eq!(
        text,
        "00000001 $Forwarded\n00000002 $Forwarded work\n00000003 work\n"
    );
}

#[test]
fn flags_and_keywords_survive_a_crash() {
    let mut world = world();
    world.append("INBOX", b"x", flag::SEEN, &["work"]);
    world.append("INBOX", b"yy", 0, &[]);
    world
        .inbox()
        .store_flags(
            &vec![(2, 2)],
            &order(FlagChange::Add, flag::DELETED, &["home"]),
        )
        .unwrap();
    let before = world.records("INBOX");
    world.crash();
    let after = world.records("INBOX");
    let known = |records: &[Record]| -> Vec<_> {
        records
            .iter()
            .map(|r| {
                (
                    r.uid,
                    r.flags,
                    r.keywords.count_ones(),
                    r.size,
                    r.internal_date,
                )
            })
            .collect()
    };
    assert_eq!(known(&before), known(&after));
    // A client that knows the state before must see no change as older than it was.
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| after.modseq >= before.modseq)
    );
}

#[test]
fn events_come_in_order_with_the_keyword_table_before_its_use() {
    let world = world();
    world.append("INBOX", b"x", 0, &[]);
    let diary = Arc::new(Diary::default());
    let selected = world
        .inbox()
        .select(Arc::clone(&diary) as Arc<dyn Listener>)
        .unwrap();
    world.append("INBOX", b"y", 0, &[]);
    world
        .inbox()
        .store_flags(
            &vec![(1, 1)],
            &order(FlagChange::Add, flag::DELETED, &["work"]),
        )
        .unwrap();
    world.inbox().expunge(None).unwrap();
    let events = diary.events();
    assert!(
        matches!(&events[0], SessionEvent::Added(records) if records[0].uid == 2),
        "{events:?}"
    );
    assert_eq!(events[1], SessionEvent::Keywords(vec!["work".into()]));
    assert!(
        matches!(&events[2], SessionEvent::Changed(records) if records[0].uid == 1 && records[0].keywords == 1)
    );
    assert_eq!(events[3], SessionEvent::Removed(vec![(1, 1)]));
    world.inbox().unselect(selected.selection);
    world.append("INBOX", b"z", 0, &[]);
    assert_eq!(diary.events(), []);
}

#[test]
fn modification_sequences_only_grow() {
    let world = world();
    let mut last = 0;
    for round in 0..20 {
        world.append("INBOX", b"x", 0, &[]);
        world
            .inbox()
            .store_flags(&vec![(1, 1)], &order(FlagChange::Replace, round % 2, &[]))
            .unwrap();
        let highest = world.inbox().status().unwrap().highest_modseq;
        assert!(highest > last);
        last = highest;
    }
}

#[test]
fn an_expunged_uid_never_returns_even_after_a_crash() {
    let mut world = world();
    for _ in 0..3 {
        world.append("INBOX", b"x", flag::DELETED, &[]);
    }
    world.inbox().expunge(Some(&vec![(2, 3)])).unwrap();
    assert_eq!(world.uids("INBOX"), [1]);
    world.crash();
    assert_eq!(world.append("INBOX", b"x", 0, &[]), 4);
    world.inbox().expunge(None).unwrap();
    world.crash();
    assert_eq!(world.append("INBOX", b"x", 0, &[]), 5);
}

#[test]
fn expunge_removes_only_what_is_deleted_and_asked_for() {
    let world = world();
    world.append("INBOX", b"x", flag::DELETED, &[]);
    world.append("INBOX", b"x", 0, &[]);
    world.append("INBOX", b"x", flag::DELETED, &[]);
    world.inbox().expunge(Some(&vec![(2, 3)])).unwrap();
    assert_eq!(world.uids("INBOX"), [1, 2]);
    world.inbox().expunge(None).unwrap();
    assert_eq!(world.uids("INBOX"), [2]);
}

#[test]
fn a_copy_is_a_hard_link_with_flags_keywords_and_date() {
    use std::os::unix::fs::MetadataExt;
    let world = world();
    world.append("INBOX", b"x", flag::SEEN, &["work"]);
    world.append("INBOX", b"y", 0, &[]);
    let transfer = world
        .inbox()
        .copy(&vec![(1, 9)], &world.mailbox("Archive"))
        .unwrap();
    assert_eq!((transfer.source, transfer.target), (vec![1, 2], vec![1, 2]));
    let copies = world.records("Archive");
    assert_eq!(
        (copies[0].flags, copies[0].keywords, copies[0].internal_date),
        (flag::SEEN, 1, 1_000_000_000)
    );
    let inode = |mailbox: &str| {
        world
            .path(mailbox)
            .join("0000/00000001_S.eml")
            .metadata()
            .unwrap()
            .ino()
    };
    assert_eq!(inode("INBOX"), inode("Archive"));
    let again = world.inbox().copy(&vec![(1, 1)], &world.inbox()).unwrap();
    assert_eq!(again.target, [3]);
}

#[test]
fn a_move_takes_messages_from_one_mailbox_to_the_other() {
    let world = world();
    for _ in 0..3 {
        world.append("INBOX", b"x", 0, &["work"]);
    }
    let transfer = world
        .inbox()
        .move_to(&vec![(2, 3)], &world.mailbox("Trash"))
        .unwrap();
    assert_eq!((transfer.source, transfer.target), (vec![2, 3], vec![1, 2]));
    assert_eq!(
        (world.uids("INBOX"), world.uids("Trash")),
        (vec![1], vec![1, 2])
    );
    assert_eq!(
        world
            .inbox()
            .copy(&vec![(9, 9)], &world.mailbox("Trash"))
            .unwrap()
            .source,
        [0; 0]
    );
}

#[test]
fn shards_hold_a_thousand_uids() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    world.restart();
    std::fs::rename(
        world.path("INBOX/0000/00000001_.eml"),
        world.path("INBOX/0000/00000999_.eml"),
    )
    .unwrap();
    world.crash();
    assert_eq!(world.append("INBOX", b"x", 0, &["k"]), 1000);
    assert!(world.path("INBOX/0001/00001000_.eml").exists());
    world.store().save();
    assert!(world.path("INBOX/.keywords/0001").exists());
    assert_eq!(world.uids("INBOX"), [999, 1000]);
}

#[test]
fn totals_follow_every_change_and_survive_unloading() {
    let world = world();
    let totals = |messages, bytes| super::mailbox::Totals { messages, bytes };
    for _ in 0..3 {
        world.append("INBOX", b"12345", flag::DELETED, &[]);
    }
    world
        .inbox()
        .copy(&vec![(1, 2)], &world.mailbox("Sent"))
        .unwrap();
    assert_eq!(world.user().totals().unwrap(), totals(5, 25));
    world.inbox().expunge(Some(&vec![(1, 1)])).unwrap();
    world.store().save();
    assert!(world.inbox().unload());
    assert_eq!(world.user().totals().unwrap(), totals(4, 20));
    assert_eq!(world.uids("INBOX"), [2, 3]);
}

#[test]
fn a_message_that_cannot_get_its_name_is_refused_and_does_not_come_back() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    let (shard, away) = (world.path("INBOX/0000"), world.path("INBOX/away"));
    let diary = Arc::new(Diary::default());
    world
        .inbox()
        .select(Arc::clone(&diary) as Arc<dyn Listener>)
        .unwrap();
    std::fs::rename(&shard, &away).unwrap();
    let delivered = world
        .store()
        .deliver(world.incoming(b"y"), &[owner("alice")]);
    assert_eq!(delivered, Err(Refusal::StorageFault));
    std::fs::rename(&away, &shard).unwrap();
    assert_eq!((world.uids("INBOX"), diary.events().len()), (vec![1], 0));
    assert_eq!(world.append("INBOX", b"z", 0, &[]), 3);
    assert_eq!(world.user().totals().unwrap().bytes, 2);
    world.crash();
    assert_eq!(world.uids("INBOX"), [1, 3]);
}

#[test]
fn a_delivery_that_fails_at_one_recipient_is_refused_and_kept_by_the_others() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    let bob = world
        .store()
        .user(&owner("bob"))
        .unwrap()
        .mailbox(&MailboxName::inbox())
        .unwrap();
    bob.status().unwrap();
    let bobs = world
        .root()
        .join("domains/example.test/users/bob/mailboxes/INBOX");
    std::fs::rename(bobs.join("0000"), bobs.join("away")).unwrap();
    let delivered = world
        .store()
        .deliver(world.incoming(b"y"), &[owner("bob"), owner("alice")]);
    assert_eq!(delivered, Err(Refusal::StorageFault));
    assert_eq!(world.uids("INBOX"), [1, 2]);
    std::fs::rename(bobs.join("away"), bobs.join("0000")).unwrap();
    drop(bob);
    world.append("INBOX", b"z", 0, &[]);
    world.crash();
    assert_eq!(files(&bobs.join("0000")), [""; 0]);
}

#[test]
fn two_owners_of_one_store_are_refused() {
    let world = world();
    assert!(
        Store::open(world.temp.path())
            .err()
            .unwrap()
            .contains("in use by another deliverd")
    );
}

#[test]
fn a_mailbox_without_status_gets_a_new_uid_validity_and_keeps_its_messages() {
    let mut world = world();
    world.append("INBOX", b"x", flag::SEEN, &[]);
    std::fs::write(world.path("INBOX/status.json"), "{").unwrap();
    world.crash();
    assert_eq!(world.uids("INBOX"), [1]);
    assert!(world.inbox().status().unwrap().uid_validity >= 1_700_000_000);
}
