//! A message for a message.

use super::*;

impl World {
    fn replace(&self, bytes: &[u8], to: &str, from: &str, old: u32) -> Result<u32, Refusal> {
        let replaced = self.store().replace(
            self.incoming(bytes),
            &self.mailbox(to),
            NewMessage::default(),
            (&self.mailbox(from), old),
        );
        replaced.map(|(_, uid)| uid)
    }
}

#[test]
fn the_new_message_is_there_and_the_old_one_is_gone_over_a_crash_too() {
    for size in [3, 300_000] {
        let mut world = world();
        for _ in 0..2 {
            world.append("INBOX", b"x", 0, &[]);
        }
        assert_eq!(world.replace(&vec![b'y'; size], "INBOX", "INBOX", 1), Ok(3));
        assert_eq!(world.uids("INBOX"), [2, 3]);
        assert_eq!(world.replace(b"z", "Trash", "INBOX", 2), Ok(1));
        for crashes in [false, true] {
            if crashes {
                world.crash();
            }
            assert_eq!(world.uids("INBOX"), [3]);
            assert_eq!(world.uids("Trash"), [1]);
        }
    }
}

#[test]
fn nothing_replaces_what_is_not_there() {
    let world = world();
    world.append("INBOX", b"x", 0, &[]);
    assert_eq!(
        world.replace(b"y", "INBOX", "INBOX", 2),
        Err(Refusal::NotFound)
    );
    assert_eq!(world.uids("INBOX"), [1]);
    assert_eq!(files(&world.root().join(".incoming")), [""; 0]);
}

#[test]
fn what_cannot_come_leaves_the_old_message_alone() {
    let world = world();
    let limits = ipc::quota::Limits {
        messages: 0,
        bytes: 10,
    };
    let ledger = world.store().ledger();
    ledger.set_user(&owner("alice"), limits, Totals::default());
    world.append("INBOX", b"12345678", 0, &[]);
    assert_eq!(
        world.replace(b"y234", "INBOX", "INBOX", 1),
        Err(Refusal::OverQuota)
    );
    assert_eq!(world.uids("INBOX"), [1]);
    assert_eq!(world.replace(b"y2", "INBOX", "INBOX", 1), Ok(2));
    ledger.check();
}
