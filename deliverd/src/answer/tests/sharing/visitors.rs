//! What somebody who has rights to a mailbox of another user can do, and what becomes of it.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_copied_and_moved_between_users_counts_where_it_goes_and_has_the_flags_it_may() {
    let (world, alice, bob) = two().await;
    alice.give("work", BOB, "lrstei").await;
    assert_eq!((used(&alice).await, used(&bob).await), ((3, 18), (0, 0)));
    bob.answer(select(shared("work"))).await.unwrap();
    let copy = SessionRequest::Copy {
        uids: all(),
        to: "INBOX".into(),
    };
    bob.answer(copy).await.unwrap();
    assert_eq!((used(&alice).await, used(&bob).await), ((3, 18), (1, 6)));
    bob.select("INBOX").await;
    bob.answer(mark(FlagChange::Add, flag::ALL, &["work"]))
        .await
        .unwrap();
    let into = SessionRequest::Move {
        uids: all(),
        to: shared("work"),
    };
    bob.answer(into).await.unwrap();
    assert_eq!((used(&alice).await, used(&bob).await), ((4, 24), (0, 0)));
    let (_, records) = alice.select("work").await;
    // Flags that take `w` did not come along.
    assert_eq!(records[1].flags, flag::SEEN | flag::DELETED);
    assert_eq!(records[1].keywords, 0);
    bob.answer(select(shared("work"))).await.unwrap();
    let out = SessionRequest::Move {
        uids: all(),
        to: "Archive".into(),
    };
    bob.answer(out).await.unwrap();
    assert_eq!((used(&alice).await, used(&bob).await), ((2, 12), (2, 12)));
    // An owner who is full takes nothing from others.
    let limit = StoreControlRequest::LimitUser {
        address: ALICE.into(),
        limits: bytes(13),
    };
    world.control(limit).await.unwrap();
    bob.select("Archive").await;
    for request in [
        SessionRequest::Copy {
            uids: all(),
            to: shared("work"),
        },
        SessionRequest::Move {
            uids: all(),
            to: shared("work"),
        },
    ] {
        assert_eq!(refused(bob.answer(request).await), Refusal::OverQuota);
    }
    let append = SessionRequest::OpenAppend {
        mailbox: shared("work"),
        size: 100,
    };
    assert_eq!(refused(bob.answer(append).await), Refusal::OverQuota);
    assert_eq!(bob.select("Archive").await.0.messages, 2);
    // Nor does one who is full get what others have to give.
    let limit = StoreControlRequest::LimitUser {
        address: BOB.into(),
        limits: bytes(13),
    };
    world.control(limit).await.unwrap();
    alice.give("INBOX", BOB, "lrte").await;
    bob.answer(select(shared("INBOX"))).await.unwrap();
    let out = SessionRequest::Move {
        uids: all(),
        to: "Archive".into(),
    };
    assert_eq!(refused(bob.answer(out).await), Refusal::OverQuota);
    assert_eq!(alice.select("INBOX").await.0.messages, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_never_goes_to_another_owner_nor_an_inbox_elsewhere() {
    let (world, alice, bob) = two().await;
    let carol = "carol@example.test";
    world.add_user(carol, 0).await;
    let carols = world.login(carol, "password").await.unwrap();
    for (owner, name) in [(&alice, "work/a"), (&carols, "work/a")] {
        let create = SessionRequest::CreateMailbox {
            name: name.into(),
            special_use: None,
        };
        owner.answer(create).await.unwrap();
        for mailbox in ["INBOX", "work", "work/a"] {
            owner.give(mailbox, BOB, "lrswipkxtea").await;
        }
    }
    let of_carol = format!("Other Users/{carol}/{}", "work/b");
    for (from, to) in [
        (shared("work/a"), of_carol.clone()),
        (shared("INBOX"), shared("work/b")),
        (shared("INBOX"), of_carol),
    ] {
        let request = SessionRequest::RenameMailbox { from, to };
        assert_eq!(refused(bob.answer(request).await), Refusal::NotPermitted);
    }
    // Nothing was renamed that has the same name.
    for owner in [&alice, &carols] {
        owner.select("work/a").await;
        let missing = SessionRequest::Status {
            name: "work/b".into(),
        };
        assert_eq!(refused(owner.answer(missing).await), Refusal::NoSuchMailbox);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_changes_the_flags_it_may_and_leaves_the_others() {
    let (_world, alice, bob) = two().await;
    alice.select("work").await;
    alice
        .answer(mark(
            FlagChange::Replace,
            flag::FLAGGED | flag::DELETED,
            &["work"],
        ))
        .await
        .unwrap();
    alice.give("work", BOB, "lrs").await;
    bob.answer(select(shared("work"))).await.unwrap();
    bob.answer(mark(
        FlagChange::Replace,
        flag::SEEN | flag::DRAFT,
        &["new"],
    ))
    .await
    .unwrap();
    let (_, records) = alice.select("work").await;
    assert_eq!(
        (records[0].flags, records[0].keywords),
        (flag::FLAGGED | flag::DELETED | flag::SEEN, 1)
    );
    // What may not be set takes up no room among the keywords either.
    let answer = alice.answer(select("work".into())).await.unwrap();
    assert!(
        matches!(&answer, SessionAnswer::Selected { keywords, .. } if *keywords == ["work"]),
        "{answer:?}"
    );
    let read_only = async |letters: String| {
        alice.give("work", BOB, &letters).await;
        match bob.answer(select(shared("work"))).await {
            Ok(SessionAnswer::Selected {
                read_only, rights, ..
            }) => (read_only, rights.letters()),
            other => panic!("{other:?}"),
        }
    };
    for letters in ["lr", "lrpkxa"] {
        assert_eq!(read_only(letters.into()).await, (true, letters.into()));
    }
    for letter in ["s", "w", "i", "t", "e"] {
        let letters = format!("r{letter}");
        assert_eq!(read_only(letters.clone()).await, (false, letters));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_may_be_seen_is_listed_page_by_page() {
    let (_world, alice, bob) = two().await;
    for number in 0..40 {
        let create = SessionRequest::CreateMailbox {
            name: format!("list/{number:02}"),
            special_use: None,
        };
        alice.answer(create).await.unwrap();
        let (whom, letters) = match number % 4 {
            0 => (BOB, "l"),
            1 => ("anyone", "lr"),
            2 => (BOB, "r"),
            _ => continue,
        };
        alice
            .give(&format!("list/{number:02}"), whom, letters)
            .await;
    }
    alice.give("list/04", "-bob", "l").await;
    let seen = (0..40).filter(|number| number % 4 < 2 && *number != 4);
    let seen: Vec<_> = seen
        .map(|number| shared(&format!("list/{number:02}")))
        .collect();
    assert_eq!(bob.shared_names().await, seen);
    assert_eq!(alice.shared_names().await, [""; 0]);
    // What is made below inherits; what is seen below is told, and nothing else.
    alice.give("list/01", BOB, "lk").await;
    let below = SessionRequest::CreateMailbox {
        name: shared("list/01/a/b"),
        special_use: None,
    };
    bob.answer(below).await.unwrap();
    alice.give("list/01/a", BOB, "").await;
    alice.give("list/01/a", "anyone", "").await;
    let hidden = SessionRequest::CreateMailbox {
        name: "list/05/hidden".into(),
        special_use: None,
    };
    alice.answer(hidden).await.unwrap();
    alice.give("list/05/hidden", "anyone", "").await;
    let first = SessionRequest::ListShared { after: None };
    let answer = bob.answer(first).await.unwrap();
    let SessionAnswer::SharedMailboxes { mailboxes, .. } = answer else {
        panic!("{answer:?}")
    };
    let told = mailboxes.iter().take(4);
    let told: Vec<_> = told
        .map(|one| (one.name.as_str(), one.has_children))
        .collect();
    let names = ["list/00", "list/01", "list/01/a/b", "list/05"].map(shared);
    let expected = [false, true, false, false];
    let expected: Vec<_> = names.iter().map(String::as_str).zip(expected).collect();
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_private_is_each_readers_own() {
    let (_world, alice, bob) = two().await;
    let change = |mailbox: &str, name: &str, value: &str| SessionRequest::ChangeAnnotations {
        mailbox: Some(mailbox.into()),
        changes: vec![AnnotationChange {
            name: name.into(),
            value: Some(value.into()),
        }],
    };
    let read = |mailbox: &str| SessionRequest::ReadAnnotations {
        mailbox: Some(mailbox.into()),
    };
    let told = |all: &[(&str, &str)]| {
        let all = all.iter().map(|(name, value)| Annotation {
            name: (*name).into(),
            value: (*value).into(),
        });
        Ok(SessionAnswer::Annotations(all.collect()))
    };
    let (private, common) = ("/private/comment", "/shared/comment");
    alice.answer(change("work", private, "a")).await.unwrap();
    alice.answer(change("work", common, "all")).await.unwrap();
    alice.give("work", BOB, "lr").await;
    let name = shared("work");
    assert_eq!(bob.answer(read(&name)).await, told(&[(common, "all")]));
    bob.answer(change(&name, private, "b")).await.unwrap();
    assert_eq!(
        refused(bob.answer(change(&name, common, "b")).await),
        Refusal::NoRight
    );
    let of_bob = told(&[(private, "b"), (common, "all")]);
    assert_eq!(bob.answer(read(&name)).await, of_bob);
    let of_alice = told(&[(private, "a"), (common, "all")]);
    assert_eq!(alice.answer(read("work")).await, of_alice);
    // RFC 5464 §3.3: it takes `l` and one more.
    for (letters, expected) in [("l", Refusal::NoRight), ("r", Refusal::NoSuchMailbox)] {
        alice.give("work", BOB, letters).await;
        assert_eq!(refused(bob.answer(read(&name)).await), expected);
        assert_eq!(
            refused(bob.answer(change(&name, private, "c")).await),
            expected
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_visitor_holds_no_more_than_so_many_selections() {
    let (world, alice, bob) = two().await;
    alice.give("work", BOB, "lr").await;
    let mut sessions = Vec::new();
    for _ in 0..100 {
        let session = world.login(BOB, "password").await.unwrap();
        session.answer(select(shared("work"))).await.unwrap();
        sessions.push(session);
    }
    assert_eq!(
        refused(bob.answer(select(shared("work"))).await),
        Refusal::Busy
    );
    // Selecting another one gives room, and does not lose count.
    for name in ["INBOX".to_owned(), shared("work")] {
        sessions[0].answer(select(name)).await.unwrap();
    }
    sessions[0].answer(SessionRequest::Unselect).await.unwrap();
    bob.answer(select(shared("work"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_owner_all_together_hold_no_more_than_so_many_selections() {
    let (world, alice, bob) = two().await;
    alice.give("work", BOB, "lr").await;
    world.house.visits.pretend(ALICE, 998);
    let (second, third) = (
        world.login(BOB, "password").await.unwrap(),
        world.login(BOB, "password").await.unwrap(),
    );
    bob.answer(select(shared("work"))).await.unwrap();
    second.answer(select(shared("work"))).await.unwrap();
    assert_eq!(
        refused(third.answer(select(shared("work"))).await),
        Refusal::Busy
    );
    // The owner's own are none of them.
    alice.answer(select("work".into())).await.unwrap();
    second.answer(SessionRequest::Unselect).await.unwrap();
    third.answer(select(shared("work"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sees_and_sets_rights_and_the_list_of_who_shares_is_made_anew_from_files() {
    let (world, alice, bob) = two().await;
    let change = StoreControlRequest::ChangeSharing {
        address: ALICE.into(),
        mailbox: "work".into(),
        identifier: "bob".into(),
        change: RightsChange::Set(rights("lr")),
    };
    assert_eq!(world.control(change).await, Ok(StoreControlAnswer::Done));
    let show = |after: Option<&str>| StoreControlRequest::ShowSharing {
        address: ALICE.into(),
        after: after.map(str::to_owned),
    };
    let entry = AclEntry {
        identifier: BOB.into(),
        rights: rights("lr"),
    };
    let listed = |mailbox: Option<&str>, entries| {
        let mailbox = mailbox.map(str::to_owned);
        Ok(StoreControlAnswer::Sharing { mailbox, entries })
    };
    assert_eq!(
        world.control(show(None)).await,
        listed(Some("work"), vec![entry])
    );
    assert_eq!(
        world.control(show(Some("work"))).await,
        listed(None, vec![])
    );
    assert_eq!(bob.shared_names().await, [shared("work")]);
    // A file that was taken away by hand is not found any more, nor is a user who shares nothing remembered.
    std::fs::remove_file(world.acl_of_alice("work")).unwrap();
    assert_eq!(
        refused(bob.answer(select(shared("work"))).await),
        Refusal::NoSuchMailbox
    );
    let register = StoreControlRequest::RegisterSharing { after: None };
    let registered = world.control(register).await;
    assert_eq!(
        registered,
        Ok(StoreControlAnswer::SharingRegistered {
            users: 2,
            next: None
        })
    );
    let owner = crate::store::Owner {
        local: "bob".into(),
        domain: "example.test".into(),
    };
    assert_eq!(world.house.accounts.sharers(&owner).unwrap(), []);
    alice.give("work", BOB, "l").await;
    assert_eq!(world.house.accounts.sharers(&owner).unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_below_a_shared_mailbox_is_shared_and_what_is_given_back_is_not() {
    let (world, alice, bob) = two().await;
    let create = |name: &str| SessionRequest::CreateMailbox {
        name: name.into(),
        special_use: None,
    };
    let status = |name: &str| SessionRequest::Status { name: shared(name) };
    alice.answer(create("work/private")).await.unwrap();
    alice.append("work/private", b"secret").await.unwrap();
    alice
        .answer(SessionRequest::DeleteMailbox {
            name: "work/private".into(),
        })
        .await
        .unwrap();
    alice.give("work", BOB, "lr").await;
    alice.answer(create("work/new")).await.unwrap();
    assert!(bob.answer(status("work/new")).await.is_ok());
    let undelete = StoreControlRequest::Undelete {
        address: ALICE.into(),
        range: ipc::tools::ExpungedRange {
            mailbox: Some("work/private".into()),
            since: None,
            uids: None,
        },
        after: None,
    };
    world.control(undelete).await.unwrap();
    assert_eq!(alice.select("work/private").await.0.messages, 1);
    assert_eq!(
        refused(bob.answer(status("work/private")).await),
        Refusal::NoSuchMailbox
    );
    // Nor is what moves there under another name.
    alice.answer(create("secret")).await.unwrap();
    let rename = SessionRequest::RenameMailbox {
        from: "secret".into(),
        to: "work/secret".into(),
    };
    alice.answer(rename).await.unwrap();
    assert_eq!(
        refused(bob.answer(status("work/secret")).await),
        Refusal::NoSuchMailbox
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_kept_to_come_together_come_only_while_they_may() {
    let (_world, alice, bob) = two().await;
    let keep = async || {
        let Answered { answer, mut fds } = bob.ask(append_to(shared("work"))).await?;
        let SessionAnswer::AppendOpened(message) = answer else {
            panic!("{answer:?}")
        };
        write(fds.remove(0), b"x").await;
        bob.answer(SessionRequest::KeepAppend {
            message,
            size: 1,
            flags: flag::ALL,
            keywords: vec!["work".into()],
            internal_date: None,
        })
        .await
    };
    alice.give("work", BOB, "lrit").await;
    keep().await.unwrap();
    alice.give("work", BOB, "lr").await;
    let commit = || bob.answer(SessionRequest::CommitKept);
    assert_eq!(refused(commit().await), Refusal::NoRight);
    alice.give("work", BOB, "lrit").await;
    keep().await.unwrap();
    commit().await.unwrap();
    let (_, records) = alice.select("work").await;
    assert_eq!(records.len(), 2);
    // Those flags that may be set, and no keyword takes up room.
    assert_eq!((records[1].flags, records[1].keywords), (flag::DELETED, 0));
    // A message that another one replaces goes as one that is moved does.
    bob.answer(select(shared("work"))).await.unwrap();
    let replace = async |replaces| {
        let open = SessionRequest::OpenAppend {
            mailbox: "Drafts".into(),
            size: 1,
        };
        let Answered { answer, mut fds } = bob.ask(open).await.unwrap();
        let SessionAnswer::AppendOpened(message) = answer else {
            panic!("{answer:?}")
        };
        write(fds.remove(0), b"x").await;
        bob.answer(SessionRequest::CommitAppend {
            message,
            size: 1,
            flags: 0,
            keywords: vec![],
            internal_date: None,
            replaces: Some(replaces),
        })
        .await
    };
    assert_eq!(refused(replace(1).await), Refusal::NoRight);
    alice.give("work", BOB, "lrte").await;
    replace(1).await.unwrap();
    assert_eq!(alice.select("work").await.0.messages, 1);
}
