//! Mailboxes of others: what a session that is in the wrong hands can reach of them, and what one that has rights can do.

use super::*;
use ipc::acl::{AclEntry, Rights, RightsChange};
use ipc::cache::CacheKind;
use ipc::metadata::{Annotation, AnnotationChange};
use ipc::routing::Duty;
use ipc::session::UidRanges;

mod visitors;

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";

fn rights(letters: &str) -> Rights {
    Rights::parse(letters).unwrap()
}

fn shared(name: &str) -> String {
    format!("Other Users/{ALICE}/{name}")
}

fn all() -> UidRanges {
    vec![(1, u32::MAX)]
}

impl Session {
    /// Changes the rights to a mailbox of the session's own.
    async fn give(&self, mailbox: &str, identifier: &str, letters: &str) {
        let request = SessionRequest::ChangeAcl {
            mailbox: mailbox.into(),
            identifier: identifier.into(),
            change: RightsChange::Set(rights(letters)),
        };
        assert_eq!(self.answer(request).await, Ok(SessionAnswer::Done));
    }

    async fn shared_names(&self) -> Vec<String> {
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let request = SessionRequest::ListShared { after };
            let answer = self.answer(request).await.unwrap();
            let SessionAnswer::SharedMailboxes { mailboxes, next } = answer else {
                panic!("{answer:?}")
            };
            names.extend(mailboxes.into_iter().map(|one| one.name));
            if next.is_none() {
                return names;
            }
            after = next;
        }
    }

    async fn drain(&self) -> Vec<SessionEvent> {
        std::iter::from_fn(|| self.0.try_event()).collect()
    }
}

/// Messages and bytes that a user stores.
async fn used(session: &Session) -> (u64, u64) {
    match session.answer(SessionRequest::Quota).await {
        Ok(SessionAnswer::Quota { usage, .. }) => (usage.messages, usage.bytes),
        other => panic!("{other:?}"),
    }
}

impl World {
    /// Where it is kept what others may do with a mailbox of alice.
    fn acl_of_alice(&self, mailbox: &str) -> PathBuf {
        let mailboxes = "store/mailstore/domains/example.test/users/alice/mailboxes";
        self.temp
            .path()
            .join(mailboxes)
            .join(mailbox)
            .join("acl.json")
    }
}

/// Alice with two messages in INBOX and a mailbox "work" with one, and bob.
async fn two() -> (World, Session, Session) {
    let world = world().await;
    let alice = world.login(ALICE, "password").await.unwrap();
    let bob = world.login(BOB, "password").await.unwrap();
    for _ in 0..2 {
        alice.append("INBOX", b"secret").await.unwrap();
    }
    let create = SessionRequest::CreateMailbox {
        name: "work".into(),
        special_use: None,
    };
    alice.answer(create).await.unwrap();
    alice.append("work", b"secret").await.unwrap();
    (world, alice, bob)
}

fn append_to(mailbox: String) -> SessionRequest {
    SessionRequest::OpenAppend { mailbox, size: 1 }
}

fn select(name: String) -> SessionRequest {
    SessionRequest::Select {
        name,
        read_only: false,
    }
}

fn mark(change: FlagChange, flags: u8, keywords: &[&str]) -> SessionRequest {
    SessionRequest::StoreFlags {
        uids: all(),
        change,
        flags,
        keywords: keywords.iter().map(|one| (*one).to_owned()).collect(),
        unchanged_since: None,
        heard: u64::MAX,
    }
}

/// Every request that names a mailbox, with the rights it takes.
fn naming(name: &str) -> Vec<(SessionRequest, &'static str)> {
    let name = name.to_owned();
    let annotation = AnnotationChange {
        name: "/shared/comment".into(),
        value: Some(b"x".to_vec()),
    };
    vec![
        (SessionRequest::Status { name: name.clone() }, "r"),
        (select(name.clone()), "r"),
        (
            SessionRequest::OpenNamed {
                mailbox: name.clone(),
                uid_validity: None,
                uid: 1,
            },
            "r",
        ),
        (SessionRequest::DeletedSize { name: name.clone() }, "r"),
        (append_to(name.clone()), "i"),
        (
            SessionRequest::ReadAcl {
                mailbox: name.clone(),
            },
            "a",
        ),
        (
            SessionRequest::ChangeAcl {
                mailbox: name.clone(),
                identifier: "anyone".into(),
                change: RightsChange::Remove(Rights::ALL),
            },
            "a",
        ),
        (
            SessionRequest::ListRights {
                mailbox: name.clone(),
                identifier: "anyone".into(),
            },
            "a",
        ),
        (
            SessionRequest::ChangeAnnotations {
                mailbox: Some(name.clone()),
                changes: vec![annotation],
            },
            "w",
        ),
        (
            SessionRequest::CreateMailbox {
                name: format!("{name}/below"),
                special_use: None,
            },
            "k",
        ),
        (
            SessionRequest::RenameMailbox {
                from: format!("{name}/below"),
                to: format!("{name}/renamed"),
            },
            "k",
        ),
        (
            SessionRequest::DeleteMailbox {
                name: format!("{name}/renamed"),
            },
            "x",
        ),
    ]
}

/// Every request about what is selected, with the rights it takes beside `r`.
fn selected() -> Vec<(SessionRequest, &'static str)> {
    let uids = all();
    vec![
        (SessionRequest::ReadPages { shards: vec![0] }, ""),
        (SessionRequest::OpenMessages { uids: vec![1] }, ""),
        (
            SessionRequest::OpenCache {
                kind: CacheKind::Summary,
                shards: vec![0],
            },
            "",
        ),
        (SessionRequest::ListRemoved { since: 0, after: 0 }, ""),
        (SessionRequest::ListSaveDates { uids: uids.clone() }, ""),
        (SessionRequest::ListIds { uids: uids.clone() }, ""),
        (
            SessionRequest::Copy {
                uids: uids.clone(),
                to: "INBOX".into(),
            },
            "",
        ),
        (mark(FlagChange::Add, flag::SEEN, &[]), "s"),
        (mark(FlagChange::Remove, flag::DELETED, &[]), "t"),
        (mark(FlagChange::Add, flag::FLAGGED, &[]), "w"),
        (mark(FlagChange::Add, 0, &["work"]), "w"),
        (SessionRequest::Expunge { uids: None }, "e"),
        (
            SessionRequest::Move {
                uids,
                to: "INBOX".into(),
            },
            "te",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_right_reaches_nothing_and_learns_nothing() {
    let (_world, alice, bob) = two().await;
    let missing = "Other Users/alice@example.test/missing";
    let strangers = [
        shared("INBOX"),
        missing.to_owned(),
        "Other Users/nobody@example.test/INBOX".into(),
        "Other Users/Alice@example.test/INBOX".into(),
        "Other Users/bob@example.test/INBOX".into(),
        format!("{}/", shared("INBOX")),
    ];
    alice.give("work", "anyone", "lrswipkxtea").await;
    for name in &strangers {
        for (request, _) in naming(name) {
            let what = format!("{request:?}");
            let expected = match request {
                SessionRequest::CreateMailbox { .. } => Refusal::NoRight,
                _ => Refusal::NoSuchMailbox,
            };
            assert_eq!(refused(bob.answer(request).await), expected, "{what}");
        }
        let own = SessionRequest::MyRights {
            mailbox: name.clone(),
        };
        assert_eq!(refused(bob.answer(own).await), Refusal::NoSuchMailbox);
    }
    bob.append("INBOX", b"x").await.unwrap();
    bob.select("INBOX").await;
    for to in &strangers {
        let (uids, to) = (all(), to.clone());
        for request in [
            SessionRequest::Copy {
                uids: uids.clone(),
                to: to.clone(),
            },
            SessionRequest::Move { uids, to },
        ] {
            assert_eq!(refused(bob.answer(request).await), Refusal::NoSuchMailbox);
        }
    }
    for (from, to) in [
        (shared("work"), "mine".to_owned()),
        ("Sent".to_owned(), shared("work/Sent")),
        (shared("work"), shared("top")),
        (shared("work"), "Other Users/bob@example.test/work".into()),
    ] {
        let request = SessionRequest::RenameMailbox { from, to };
        let refusal = refused(bob.answer(request).await);
        assert!(
            [Refusal::NotPermitted, Refusal::NoRight].contains(&refusal),
            "{refusal:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_takes_the_rights_of_rfc_4314() {
    let (_world, alice, bob) = two().await;
    for (request, needed) in naming(&shared("work")) {
        // It is the mailbox that goes which counts, and the one above a new name.
        let of = match request {
            SessionRequest::DeleteMailbox { .. } => "work/renamed",
            _ => "work",
        };
        if let SessionRequest::RenameMailbox { .. } = request {
            alice.give("work", BOB, "lk").await;
            alice.give("work/below", BOB, "lrswipktea").await;
            assert_eq!(refused(bob.answer(request.clone()).await), Refusal::NoRight);
            alice.give("work/below", BOB, "lx").await;
            // What is below it goes along, and takes the right, too.
            let deeper = SessionRequest::CreateMailbox {
                name: "work/below/deep".into(),
                special_use: None,
            };
            alice.answer(deeper).await.unwrap();
            alice.give("work/below/deep", BOB, "l").await;
            assert_eq!(refused(bob.answer(request.clone()).await), Refusal::NoRight);
            alice.give("work/below/deep", BOB, "x").await;
        }
        for letter in needed.chars() {
            let others = Rights::ALL.without(rights(&letter.to_string())).letters();
            alice.give(of, BOB, &others).await;
            let what = format!("{request:?} without {letter}");
            assert_eq!(
                refused(bob.answer(request.clone()).await),
                Refusal::NoRight,
                "{what}"
            );
        }
        let just = format!("l{needed}");
        alice.give(of, BOB, &just).await;
        let answer = bob.answer(request.clone()).await;
        assert!(answer.is_ok(), "{request:?} with {just}: {answer:?}");
    }
    for (request, needed) in selected() {
        let what = format!("{request:?}");
        alice.give("work", BOB, &format!("lri{needed}")).await;
        bob.answer(select(shared("work"))).await.unwrap();
        for letter in needed.chars() {
            let others = Rights::ALL.without(rights(&letter.to_string())).letters();
            alice.give("work", BOB, &others).await;
            assert_eq!(
                refused(bob.answer(request.clone()).await),
                Refusal::NoRight,
                "{what} without {letter}"
            );
        }
        alice.give("work", BOB, &format!("lri{needed}")).await;
        let answer = bob.answer(request).await;
        assert!(answer.is_ok(), "{what}: {answer:?}");
        bob.drain().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_away_is_gone_at_once_for_who_has_the_mailbox_selected() {
    let (_world, alice, bob) = two().await;
    alice.give("work", BOB, "lrswite").await;
    bob.answer(select(shared("work"))).await.unwrap();
    alice.give("work", BOB, "lr").await;
    assert_eq!(bob.event().await, SessionEvent::Rights(rights("lr")));
    let store = mark(FlagChange::Add, flag::SEEN, &[]);
    assert_eq!(refused(bob.answer(store).await), Refusal::NoRight);
    // An APPEND that began while it was allowed.
    alice.give("work", BOB, "lri").await;
    let Answered { answer, mut fds } = bob.ask(append_to(shared("work"))).await.unwrap();
    let SessionAnswer::AppendOpened(message) = answer else {
        panic!("{answer:?}")
    };
    alice.give("work", BOB, "l").await;
    write(fds.remove(0), b"x").await;
    let commit = SessionRequest::CommitAppend {
        message,
        size: 1,
        flags: 0,
        keywords: vec![],
        internal_date: None,
        replaces: None,
    };
    assert_eq!(refused(bob.answer(commit).await), Refusal::NoRight);
    assert_eq!(bob.drain().await.last(), Some(&SessionEvent::Gone));
    alice.append("work", b"more").await.unwrap();
    for (request, _) in selected() {
        let what = format!("{request:?}");
        let refusal = refused(bob.answer(request).await);
        assert_eq!(refusal, Refusal::NoRight, "{what}");
    }
    alice.give("work", BOB, "").await;
    for (request, _) in selected() {
        assert_eq!(refused(bob.answer(request).await), Refusal::NoSuchMailbox);
    }
    // Nothing of what happened since has come through.
    assert_eq!(bob.drain().await, []);
    assert_eq!(alice.select("work").await.0.messages, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenant_is_out_of_reach_whatever_a_list_says() {
    let (world, alice, _) = two().await;
    for request in [
        StoreControlRequest::AddTenant {
            name: "acme".into(),
            limits: Limits::default(),
        },
        StoreControlRequest::AssignDomain {
            name: "example.test".into(),
            tenant: Some("acme".into()),
        },
        StoreControlRequest::AddDomain {
            name: "other.test".into(),
            tenant: Some("acme".into()),
            duty: Duty::Final,
        },
    ] {
        assert_eq!(world.control(request).await, Ok(StoreControlAnswer::Done));
    }
    let carol = "carol@other.test";
    world.add_user(carol, 0).await;
    let carols = world.login(carol, "password").await.unwrap();
    alice.give("work", carol, "lrswipkxtea").await;
    alice.give("INBOX", "anyone", "lr").await;
    let both = [shared("INBOX"), shared("work")];
    assert_eq!(carols.shared_names().await, both);
    carols.answer(select(shared("work"))).await.unwrap();
    let assign = StoreControlRequest::AssignDomain {
        name: "other.test".into(),
        tenant: None,
    };
    world.control(assign).await.unwrap();
    assert_eq!(carols.event().await, SessionEvent::Gone);
    assert_eq!(carols.shared_names().await, [""; 0]);
    for (request, _) in naming(&both[1]).into_iter().chain(selected()) {
        let what = format!("{request:?}");
        let refusal = refused(carols.answer(request).await);
        let hidden = [
            Refusal::NoSuchMailbox,
            Refusal::NoRight,
            Refusal::NothingSelected,
        ];
        assert!(hidden.contains(&refusal), "{what}: {refusal:?}");
    }
    // Nor can she be given anything, or be seen to be there.
    let give = |identifier: &str| SessionRequest::ChangeAcl {
        mailbox: "work".into(),
        identifier: identifier.into(),
        change: RightsChange::Add(rights("l")),
    };
    for stranger in [carol, "nobody@example.test"] {
        assert_eq!(
            refused(alice.answer(give(stranger)).await),
            Refusal::NoSuchUser
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gets_an_address_later_gets_nothing_of_what_was_shared_with_it() {
    let (world, alice, bob) = two().await;
    alice.give("work", BOB, "lrs").await;
    assert_eq!(bob.shared_names().await, [shared("work")]);
    let remove = StoreControlRequest::RemoveUser {
        address: BOB.into(),
    };
    world.control(remove).await.unwrap();
    world.add_user(BOB, 0).await;
    // The old session is nobody's.
    assert_eq!(
        refused(bob.answer(select(shared("work"))).await),
        Refusal::NoSuchUser
    );
    let bob = world.login(BOB, "password").await.unwrap();
    assert_eq!(bob.shared_names().await, [""; 0]);
    for (request, _) in naming(&shared("work")) {
        assert!(bob.answer(request).await.is_err());
    }
    let list = SessionRequest::ReadAcl {
        mailbox: "work".into(),
    };
    let owner = ALICE.to_owned();
    let entries = vec![];
    let nothing = SessionAnswer::Acl { owner, entries };
    assert_eq!(alice.answer(list).await, Ok(nothing));
    // And who owns a name anew shares nothing of what the one before did.
    alice.give("INBOX", BOB, "lr").await;
    let remove = StoreControlRequest::RemoveUser {
        address: ALICE.into(),
    };
    bob.answer(select(shared("INBOX"))).await.unwrap();
    world.control(remove).await.unwrap();
    assert_eq!(bob.event().await, SessionEvent::Gone);
    world.add_user(ALICE, 0).await;
    assert_eq!(bob.shared_names().await, [""; 0]);
    assert_eq!(
        refused(bob.answer(select(shared("INBOX"))).await),
        Refusal::NoSuchMailbox
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn f4_a_file_that_is_damaged_half_written_or_another_owners_gives_nobody_anything() {
    let (world, alice, bob) = two().await;
    alice.give("work", "anyone", "lr").await;
    let file = world.acl_of_alice("work");
    let text = std::fs::read_to_string(&file).unwrap();
    let status = || SessionRequest::Status {
        name: shared("work"),
    };
    assert!(bob.answer(status()).await.is_ok());
    for damaged in [
        text.replace(ALICE, BOB),
        text.replace("\"lr\"", "\"lR\""),
        text[..text.len() / 2].to_owned(),
        "[]".into(),
    ] {
        std::fs::write(&file, &damaged).unwrap();
        assert_eq!(
            refused(bob.answer(status()).await),
            Refusal::NoSuchMailbox,
            "{damaged}"
        );
    }
    std::fs::write(&file, &text).unwrap();
    assert!(bob.answer(status()).await.is_ok());
    // What a crash left of the next one counts for nothing, and is in nobody's way.
    let temporary = file.with_file_name(".acl.json.new");
    std::fs::write(&temporary, &text[..9]).unwrap();
    assert!(bob.answer(status()).await.is_ok());
    alice.give("work", "anyone", "lrs").await;
    assert!(!temporary.exists() && file.exists());
    alice.give("work", "anyone", "").await;
    assert!(!file.exists());
    assert_eq!(refused(bob.answer(status()).await), Refusal::NoSuchMailbox);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_cannot_say_what_the_owner_reads_nor_make_names_of_others_its_own() {
    let (_world, alice, bob) = two().await;
    alice.give("work", BOB, "lrswipkxtea").await;
    bob.answer(select(shared("work"))).await.unwrap();
    let fill = SessionRequest::FillCache {
        kind: CacheKind::Summary,
        entries: vec![ipc::cache::NewEntry { uid: 1, length: 1 }],
    };
    assert_eq!(refused(bob.answer(fill).await), Refusal::NotPermitted);
    for name in ["Other Users", "Other Users/x"] {
        let create = SessionRequest::CreateMailbox {
            name: name.into(),
            special_use: None,
        };
        assert_eq!(
            refused(bob.answer(create).await),
            Refusal::InvalidMailboxName
        );
        let rename = SessionRequest::RenameMailbox {
            from: "Sent".into(),
            to: name.into(),
        };
        assert_eq!(
            refused(bob.answer(rename).await),
            Refusal::InvalidMailboxName
        );
    }
    // The owner has all rights, and keeps them.
    for identifier in [ALICE, "-alice@example.test", "alice"] {
        let take = SessionRequest::ChangeAcl {
            mailbox: shared("work"),
            identifier: identifier.into(),
            change: RightsChange::Set(rights("l")),
        };
        assert_eq!(refused(bob.answer(take).await), Refusal::NotPermitted);
    }
    let inbox = SessionRequest::DeleteMailbox {
        name: shared("INBOX"),
    };
    alice.give("INBOX", BOB, "lrx").await;
    assert_eq!(refused(bob.answer(inbox).await), Refusal::NotPermitted);
}
