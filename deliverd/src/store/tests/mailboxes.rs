//! Mailboxes that are made, renamed, deleted and subscribed to, and users that are removed.

use super::*;

#[test]
fn mailboxes_are_made_with_parents_renamed_with_children_and_deleted_without_them() {
    let mut world = world();
    let user = world.user();
    user.create_mailbox(&name("a/b/c"), None).unwrap();
    world.append("a/b/c", b"x", 0, &[]);
    user.rename_mailbox(&name("a"), &name("x/y")).unwrap();
    assert_eq!(world.uids("x/y/b/c"), [1]);
    assert!(user.mailbox(&name("a")).is_err());
    assert_eq!(
        user.rename_mailbox(&name("x"), &name("x/z")),
        Err(Refusal::InvalidMailboxName)
    );
    assert_eq!(
        user.rename_mailbox(&name("x"), &name("Sent")),
        Err(Refusal::MailboxExists)
    );
    assert_eq!(user.create_mailbox(&name("X"), None), Ok(()));
    assert_eq!(
        user.create_mailbox(&name("inbox"), None),
        Err(Refusal::MailboxExists)
    );
    user.delete_mailbox(&name("x/y/b")).unwrap();
    assert_eq!(
        user.delete_mailbox(&name("INBOX")),
        Err(Refusal::NotPermitted)
    );
    assert_eq!(
        user.delete_mailbox(&name("nothing")),
        Err(Refusal::NoSuchMailbox)
    );
    drop(user);
    world.crash();
    assert_eq!(world.uids("x/y/b/c"), [1]);
    assert!(world.user().mailbox(&name("x/y/b")).is_err());
}

#[test]
fn a_mailbox_made_again_has_another_uid_validity() {
    let mut world = world();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..3 {
        world.user().create_mailbox(&name("work"), None).unwrap();
        assert!(seen.insert(world.mailbox("work").status().unwrap().uid_validity));
        world.user().delete_mailbox(&name("work")).unwrap();
        world.crash();
    }
}

#[test]
fn renaming_inbox_moves_its_messages_and_keeps_inbox() {
    let world = world();
    world.append("INBOX", b"x", 0, &[]);
    world
        .user()
        .rename_mailbox(&name("INBOX"), &name("old mail"))
        .unwrap();
    assert_eq!(
        (world.uids("INBOX"), world.uids("old mail")),
        (vec![], vec![1])
    );
    assert_eq!(world.append("INBOX", b"x", 0, &[]), 2);
}

#[test]
fn what_happens_before_and_after_a_renaming_is_in_order_after_a_crash() {
    let mut world = world();
    for number in 0..8 {
        let (old, new) = (format!("Old{number}"), format!("New{number}"));
        world.user().create_mailbox(&name(&old), None).unwrap();
        world.append(&old, b"goes", flag::DELETED, &[]);
        world.append(&old, b"stays", 0, &["work"]);
        world
            .user()
            .rename_mailbox(&name(&old), &name(&new))
            .unwrap();
        world.mailbox(&new).expunge(None).unwrap();
        // One of the same name is another mailbox.
        world.user().create_mailbox(&name(&old), None).unwrap();
    }
    world.crash();
    for number in 0..8 {
        assert_eq!(world.uids(&format!("New{number}")), [2]);
        assert_eq!(world.uids(&format!("Old{number}")), [0; 0]);
    }
}

#[test]
fn a_mailbox_or_shard_removed_by_hand_does_not_keep_the_journal_from_being_emptied() {
    let world = world();
    let many = order(FlagChange::Add, flag::SEEN, &["work"]);
    for mailbox in ["Archive", "Sent"] {
        for _ in 0..100 {
            world.append(mailbox, b"x", 0, &[]);
        }
    }
    std::fs::remove_dir_all(world.path("Archive")).unwrap();
    std::fs::remove_dir_all(world.path("Sent/0000")).unwrap();
    for mailbox in ["Archive", "Sent"] {
        let mailbox = world.mailbox(mailbox);
        mailbox.store_flags(&vec![(1, 100)], &many).unwrap();
    }
    world.append("INBOX", b"x", 0, &["work"]);
    assert!(world.store().shared.empty_journal());
    assert!(world.path("INBOX/.keywords/0000").exists());
}

#[test]
fn who_selected_a_deleted_mailbox_hears_that_it_is_gone() {
    let world = world();
    world.user().create_mailbox(&name("work"), None).unwrap();
    let mailbox = world.mailbox("work");
    let diary = Arc::new(Diary::default());
    mailbox
        .select(Arc::clone(&diary) as Arc<dyn Listener>)
        .unwrap();
    world.user().delete_mailbox(&name("work")).unwrap();
    assert_eq!(diary.events(), [SessionEvent::Gone]);
    assert_eq!(mailbox.status(), Err(Refusal::NoSuchMailbox));
    assert!(matches!(
        world
            .store()
            .append(world.incoming(b"x"), &mailbox, NewMessage::default()),
        Err(Refusal::NoSuchMailbox)
    ));
}

#[test]
fn subscriptions_outlive_mailboxes_and_crashes() {
    let mut world = world();
    world.user().subscribe(&name("gone/by"), true).unwrap();
    world.user().subscribe(&name("Junk"), false).unwrap();
    world.crash();
    let (list, _) = world.user().list(None).unwrap();
    let info = |name: &str| list.iter().find(|info| info.name == name).unwrap();
    assert_eq!(
        (info("gone/by").exists, info("gone/by").subscribed),
        (false, true)
    );
    assert!(!info("Junk").subscribed);
}

#[test]
fn a_long_listing_comes_in_pages() {
    let world = world();
    for number in 0..40 {
        world
            .user()
            .create_mailbox(&name(&format!("m{number:02}")), None)
            .unwrap();
    }
    let (mut after, mut names) = (None, Vec::new());
    loop {
        let (page, more) = world.user().list(after.as_deref()).unwrap();
        names.extend(page.into_iter().map(|info| info.name));
        after = names.last().cloned();
        if !more {
            break;
        }
    }
    assert_eq!(names.len(), 46);
    assert!(names.is_sorted());
}

#[test]
fn a_removed_users_mail_is_kept_aside_and_never_shown_to_the_next_one() {
    let world = world();
    world.append("INBOX", b"secret", 0, &[]);
    let (old, inbox) = (world.user(), world.inbox());
    let diary = Arc::new(Diary::default());
    inbox
        .select(Arc::clone(&diary) as Arc<dyn Listener>)
        .unwrap();
    world.store().set_aside(&owner("alice")).unwrap();
    assert_eq!(world.uids("INBOX"), [0; 0]);
    assert!(old.is_removed());
    assert_eq!(diary.events(), [SessionEvent::Gone]);
    assert!(old.mailbox(&MailboxName::inbox()).is_err() && inbox.open(&[1]).is_err());
    assert_eq!(
        old.create_mailbox(&name("x"), None),
        Err(Refusal::NoSuchUser)
    );
    let users = files(&world.root().join("domains/example.test/users"));
    assert!(
        users
            .iter()
            .any(|name| name.starts_with(".removed-") && name.ends_with("-alice")),
        "{users:?}"
    );
}
