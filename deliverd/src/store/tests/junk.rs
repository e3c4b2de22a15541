//! Mail that comes into the mailbox for junk.

use super::*;

impl World {
    /// A message of that size for the mailbox for junk of these users.
    fn deliver_junk(&self, size: usize, to: &[&str]) {
        let mut incoming = self.incoming(&vec![b'x'; size]);
        let owners: Vec<_> = to.iter().map(|local| owner(local)).collect();
        incoming.junk = owners.iter().cloned().collect();
        self.store().deliver(incoming, &owners).unwrap();
    }

    /// How many messages are in a mailbox of that user.
    fn count(&self, local: &str, mailbox: &str) -> u32 {
        let user = self.store().user(&owner(local)).unwrap();
        let mailbox = user.mailbox(&name(mailbox)).unwrap();
        mailbox.status().unwrap().messages
    }
}

#[test]
fn junk_comes_into_the_mailbox_for_it_and_is_there_after_a_crash() {
    let mut world = world();
    let diary = Arc::new(Diary::default());
    let junk = world.mailbox("Junk");
    junk.select(Arc::clone(&diary) as Arc<dyn Listener>)
        .unwrap();
    // Through the journal, and beside it.
    for size in [20, 2 * BUFFER] {
        world.deliver_junk(size, &["alice", "bob"]);
        let events = diary.events();
        assert!(
            matches!(events.as_slice(), [SessionEvent::Added(_)]),
            "{events:?}"
        );
    }
    drop(junk);
    let (totals, _) = world.user().member().figures();
    for _ in 0..2 {
        assert_eq!(world.uids("Junk"), [1, 2]);
        for local in ["alice", "bob"] {
            let counts = ["Junk", "INBOX"].map(|mailbox| world.count(local, mailbox));
            assert_eq!(counts, [2, 0], "{local}");
        }
        assert_eq!(world.user().totals(), Ok(totals));
        world.crash();
    }
    assert_eq!(totals.messages, 2);
}

#[test]
fn the_mailbox_for_junk_is_known_by_its_use_and_who_has_none_gets_it_into_the_inbox() {
    let world = world();
    let user = |local: &str| world.store().user(&owner(local)).unwrap();
    let (junk, other) = (name("Junk"), name("Lists/Spam"));
    user("alice").rename_mailbox(&junk, &other).unwrap();
    user("alice").create_mailbox(&junk, None).unwrap();
    user("bob").delete_mailbox(&junk).unwrap();
    // Bob's is a mailbox like any other now.
    user("bob").create_mailbox(&junk, None).unwrap();
    world.deliver_junk(20, &["alice", "bob"]);
    let of = |local, mailboxes: [&str; 2]| mailboxes.map(|mailbox| world.count(local, mailbox));
    assert_eq!(of("alice", ["Lists/Spam", "Junk"]), [1, 0]);
    assert_eq!(of("bob", ["INBOX", "Junk"]), [1, 0]);
    assert_eq!(world.count("alice", "INBOX"), 0);
    user("bob").delete_mailbox(&junk).unwrap();
    user("bob")
        .create_mailbox(&other, Some(ipc::session::SpecialUse::Junk))
        .unwrap();
    world.deliver_junk(20, &["bob"]);
    assert_eq!(of("bob", ["INBOX", "Lists/Spam"]), [1, 1]);
}
