//! Mail sessions: one account, its mailboxes, and the events it hears.

use super::*;
use ipc::metadata::{AnnotationChange, MAX_VALUE};
use ipc::session::{Happening, MailboxInfo, Touch, What};

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_wakes_who_selected_the_mailbox() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    session.select("INBOX").await;
    world.deliver(&["alice@example.test"], b"x").await.unwrap();
    assert!(matches!(session.event().await, SessionEvent::Added(records) if records[0].uid == 1));
    session.answer(SessionRequest::Unselect).await.unwrap();
    world.deliver(&["alice@example.test"], b"x").await.unwrap();
    assert_eq!(session.0.try_event(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_there_before_the_answer_of_the_call_that_caused_them() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    session.append("INBOX", b"x").await.unwrap();
    session.select("INBOX").await;
    let (uids, flags) = (vec![(1, 1)], flag::DELETED);
    let store = SessionRequest::StoreFlags {
        uids,
        change: FlagChange::Replace,
        flags,
        keywords: vec![],
        unchanged_since: None,
        heard: u64::MAX,
    };
    let (modified, overtaken) = (vec![], vec![]);
    assert_eq!(
        session.answer(store).await,
        Ok(SessionAnswer::FlagsStored {
            modified,
            overtaken
        })
    );
    assert!(
        matches!(session.0.try_event(), Some(SessionEvent::Changed(records)) if records[0].flags == flag::DELETED)
    );
    session
        .answer(SessionRequest::Expunge { uids: None })
        .await
        .unwrap();
    assert_eq!(
        session.0.try_event(),
        Some(SessionEvent::Removed(vec![(1, 1)]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_store_is_told_completely() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    session.append("INBOX", b"x").await.unwrap();
    session.select("INBOX").await;
    let mut messages = 1;
    while messages < 12_000 {
        let copy = SessionRequest::Copy {
            uids: vec![(1, u32::MAX)],
            to: "INBOX".into(),
        };
        session.answer(copy).await.unwrap();
        messages *= 2;
    }
    while session.0.try_event().is_some() {}
    let (uids, flags) = (vec![(1, u32::MAX)], flag::FLAGGED);
    let store = SessionRequest::StoreFlags {
        uids,
        change: FlagChange::Add,
        flags,
        keywords: vec![],
        unchanged_since: None,
        heard: u64::MAX,
    };
    let (modified, overtaken) = (vec![], vec![]);
    assert_eq!(
        session.answer(store).await,
        Ok(SessionAnswer::FlagsStored {
            modified,
            overtaken
        })
    );
    let mut told = 0;
    while let Some(event) = session.0.try_event() {
        let SessionEvent::Changed(records) = event else {
            panic!("{event:?}")
        };
        told += records.len();
    }
    assert_eq!(told, messages);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_keeps_flags_keywords_and_date() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    let answer = session.append("Sent", b"hello").await.unwrap();
    let (status, records) = session.select("Sent").await;
    assert_eq!(
        answer,
        SessionAnswer::Appended {
            uid_validity: status.uid_validity,
            uid: 1
        }
    );
    let record = records[0];
    assert_eq!(
        (
            record.flags,
            record.keywords,
            record.size,
            record.internal_date
        ),
        (flag::SEEN, 1, 5, 1)
    );
    assert_eq!(
        refused(session.append("nothing", b"x").await),
        Refusal::NoSuchMailbox
    );
    assert_eq!(
        refused(session.append("../../bob/mailboxes/INBOX", b"x").await),
        Refusal::NoSuchMailbox
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_and_move_answer_with_uids_of_both_sides() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    for _ in 0..3 {
        session.append("INBOX", b"x").await.unwrap();
    }
    session.select("INBOX").await;
    let copy = SessionRequest::Copy {
        uids: vec![(1, 1), (3, 3)],
        to: "Archive".into(),
    };
    let answer = session.answer(copy).await.unwrap();
    assert!(
        matches!(answer, SessionAnswer::Copied { source, target, .. } if source == [(1, 1), (3, 3)] && target == [(1, 2)])
    );
    let moving = SessionRequest::Move {
        uids: vec![(2, 2)],
        to: "Trash".into(),
    };
    session.answer(moving).await.unwrap();
    assert_eq!(
        session.0.try_event(),
        Some(SessionEvent::Removed(vec![(2, 2)]))
    );
    let nowhere = SessionRequest::Copy {
        uids: vec![(1, 1)],
        to: "nowhere".into(),
    };
    assert_eq!(
        refused(session.answer(nowhere).await),
        Refusal::NoSuchMailbox
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_changes_through_a_read_only_selection_or_none() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    let expunge = || SessionRequest::Expunge { uids: None };
    assert_eq!(
        refused(session.answer(expunge()).await),
        Refusal::NothingSelected
    );
    session
        .answer(SessionRequest::Select {
            name: "inbox".into(),
            read_only: true,
        })
        .await
        .unwrap();
    assert_eq!(refused(session.answer(expunge()).await), Refusal::ReadOnly);
    let moving = SessionRequest::Move {
        uids: vec![(1, 1)],
        to: "Trash".into(),
    };
    assert_eq!(refused(session.answer(moving).await), Refusal::ReadOnly);
    let nowhere = SessionRequest::Select {
        name: "nowhere".into(),
        read_only: false,
    };
    assert_eq!(
        refused(session.answer(nowhere).await),
        Refusal::NoSuchMailbox
    );
    assert_eq!(
        refused(session.answer(expunge()).await),
        Refusal::NothingSelected
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_users_session_sees_nothing_of_the_next_user_of_that_name() {
    let world = world().await;
    world
        .deliver(&["alice@example.test"], b"old")
        .await
        .unwrap();
    let old = world.login("alice@example.test", "password").await.unwrap();
    old.select("INBOX").await;
    world
        .control(StoreControlRequest::RemoveUser {
            address: "alice@example.test".into(),
        })
        .await
        .unwrap();
    assert_eq!(old.event().await, SessionEvent::Gone);
    world.add_user("alice@example.test", 0).await;
    world
        .deliver(&["alice@example.test"], b"new")
        .await
        .unwrap();
    for request in [
        SessionRequest::OpenMessages { uids: vec![1] },
        SessionRequest::Select {
            name: "INBOX".into(),
            read_only: false,
        },
        SessionRequest::ListMailboxes { after: None },
    ] {
        assert_eq!(refused(old.ask(request).await), Refusal::NoSuchUser);
    }
    let new = world.login("alice@example.test", "password").await.unwrap();
    let (_, records) = new.select("INBOX").await;
    assert_eq!(records.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_does_not_read_is_told_to_select_again() {
    let world = world().await;
    let client = world.client::<ImapEdge>("imapd");
    let request = ImapRequest::Authenticate(credentials("alice@example.test", "password"));
    let mut fds = client
        .call(Context::default(), WITHIN, request)
        .await
        .unwrap()
        .fds;
    let socket = sys::packet::PacketSocket::from(fds.remove(0));
    let select = SessionRequest::Select {
        name: "INBOX".into(),
        read_only: false,
    };
    let call = ipc::Call {
        id: 1,
        deadline_ms: 5000,
        context: Context::default(),
        request: select,
    };
    socket
        .send(&ipc::frame::encode(&call).unwrap(), &[])
        .unwrap();
    let owner = Owner {
        local: "alice".into(),
        domain: "example.test".into(),
    };
    let house = Arc::clone(&world.house);
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..700 {
        let owner = owner.clone();
        house
            .work(move |house| {
                let mut message = house.store.begin();
                message.buffer().push(b'x');
                house.store.deliver(message, &[owner])
            })
            .await
            .unwrap();
    }
    // Whatever fits into the queues is read, then comes Resync and nothing after it.
    let mut buffer = vec![0; ipc::frame::MAX_FRAME];
    let read = tokio::time::timeout(WITHIN, async {
        loop {
            match socket.recv(&mut buffer) {
                Ok(received) => {
                    let frame: ipc::Return<SessionAnswer, SessionEvent> =
                        ipc::frame::decode(&buffer[..received.len]).unwrap();
                    if matches!(frame, ipc::Return::Event(SessionEvent::Resync)) {
                        break;
                    }
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    });
    read.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_changed_since_is_left_alone_and_named() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    session.append("INBOX", b"x").await.unwrap();
    session.append("INBOX", b"y").await.unwrap();
    let since = session.select("INBOX").await.0.highest_modseq;
    let store = |uids, flags, unchanged_since| SessionRequest::StoreFlags {
        uids,
        change: FlagChange::Replace,
        flags,
        keywords: vec![],
        unchanged_since,
        heard: u64::MAX,
    };
    let modified = |modified| {
        let overtaken = vec![];
        Ok(SessionAnswer::FlagsStored {
            modified,
            overtaken,
        })
    };
    let changed = session
        .answer(store(vec![(2, 2)], flag::SEEN, Some(since)))
        .await;
    assert_eq!(changed, modified(vec![]));
    let both = session
        .answer(store(vec![(1, 2)], flag::FLAGGED, Some(since)))
        .await;
    assert_eq!(both, modified(vec![(2, 2)]));
    let mut flags = std::collections::BTreeMap::new();
    while let Some(event) = session.0.try_event() {
        let SessionEvent::Changed(records) = event else {
            panic!("{event:?}")
        };
        flags.extend(records.iter().map(|record| (record.uid, record.flags)));
    }
    assert_eq!(
        flags.into_iter().collect::<Vec<_>>(),
        [(1, flag::FLAGGED), (2, flag::SEEN)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_and_when_messages_came_is_told() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    for _ in 0..5 {
        session.append("INBOX", b"x").await.unwrap();
    }
    let since = session.select("INBOX").await.0.highest_modseq;
    let transfer = SessionRequest::Move {
        uids: vec![(2, 3), (5, 5)],
        to: "Archive".into(),
    };
    session.answer(transfer).await.unwrap();
    let list = |since, after| SessionRequest::ListRemoved { since, after };
    let listed = |uids, complete| {
        Ok(SessionAnswer::RemovedListed {
            uids,
            more: false,
            complete,
        })
    };
    assert_eq!(
        session.answer(list(since, 0)).await,
        listed(vec![(2, 3), (5, 5)], true)
    );
    assert_eq!(
        session.answer(list(since, 3)).await,
        listed(vec![(5, 5)], true)
    );
    assert_eq!(session.answer(list(1, 0)).await, listed(vec![], false));
    let dates = SessionRequest::ListSaveDates { uids: vec![(1, 5)] };
    let Ok(SessionAnswer::SaveDatesListed(dates)) = session.answer(dates).await else {
        panic!("no dates")
    };
    let list = SessionRequest::ListIds { uids: vec![(1, 5)] };
    let Ok(SessionAnswer::IdsListed(stayed)) = session.answer(list.clone()).await else {
        panic!("no ids")
    };
    session.select("Archive").await;
    let Ok(SessionAnswer::IdsListed(moved)) = session.answer(list).await else {
        panic!("no ids")
    };
    let uids = |all: &[MessageIds]| all.iter().map(|ids| ids.uid).collect::<Vec<_>>();
    assert_eq!(uids(&stayed), [1, 4]);
    assert_eq!(uids(&moved), [1, 2, 3]);
    let now = crate::clock::seconds();
    assert_eq!(
        dates.iter().map(|(uid, _)| *uid).collect::<Vec<_>>(),
        [1, 4]
    );
    assert!(
        dates
            .iter()
            .all(|(_, date)| (now - i64::from(*date)).abs() < 100)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_mailbox_is_described_as_the_listing_has_it() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    for request in [
        SessionRequest::CreateMailbox {
            name: "Lists/Rust".into(),
            special_use: None,
        },
        SessionRequest::Subscribe {
            name: "Lists".into(),
            subscribed: true,
        },
    ] {
        session.answer(request).await.unwrap();
    }
    let list = SessionRequest::ListMailboxes { after: None };
    let Ok(SessionAnswer::Mailboxes { mailboxes, .. }) = session.answer(list).await else {
        panic!("no mailboxes")
    };
    let describe = async |name: &str| {
        let name = name.into();
        session
            .answer(SessionRequest::DescribeMailbox { name })
            .await
    };
    for mailbox in mailboxes {
        let expected = SessionAnswer::Mailboxes {
            mailboxes: vec![mailbox.clone()],
            more: false,
        };
        assert_eq!(describe(&mailbox.name).await, Ok(expected));
    }
    let Ok(SessionAnswer::Mailboxes { mailboxes, .. }) = describe("Nothing").await else {
        panic!("no answer")
    };
    assert!(!mailboxes[0].exists && !mailboxes[0].has_children);
    let refusal = refused(describe("a//b").await);
    assert_eq!(refusal, Refusal::InvalidMailboxName);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_very_many_shards_comes_in_a_descriptor() {
    const SHARDS: u32 = 1600;
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    // Listed, but not read yet.
    let list = SessionRequest::ListMailboxes { after: None };
    session.answer(list).await.unwrap();
    let users = "store/mailstore/domains/example.test/users";
    let inbox = world.temp.path().join(users).join("alice/mailboxes/INBOX");
    for shard in 0..SHARDS {
        let directory = inbox.join(format!("{shard:04}"));
        std::fs::create_dir_all(&directory).unwrap();
        let name = format!("{:08}_.eml", shard * 1000 + 1);
        std::fs::write(directory.join(name), "x").unwrap();
    }
    let (status, records) = session.select("INBOX").await;
    assert_eq!(status.messages, SHARDS);
    let uids = records.iter().map(|record| record.uid);
    assert!(uids.eq((0..SHARDS).map(|shard| shard * 1000 + 1)));
    let read = SessionRequest::ReadPages {
        shards: vec![0; PAGES_PER_READ + 1],
    };
    let refusal = refused(session.answer(read).await);
    assert!(matches!(refusal, Refusal::Invalid(_)), "{refusal:?}");
}

impl Session {
    async fn happenings(&self) -> (Vec<(String, What)>, bool) {
        let answer = self.answer(SessionRequest::ListHappenings).await.unwrap();
        let SessionAnswer::HappeningsListed {
            happenings, lost, ..
        } = answer
        else {
            panic!("{answer:?}")
        };
        let name = |happening: Happening| (happening.mailbox.name, happening.what);
        (happenings.into_iter().map(name).collect(), lost)
    }

    async fn watch(&self, wanted: bool) {
        self.answer(SessionRequest::Watch { wanted }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_hears_of_mailboxes_that_are_not_selected() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    session.watch(true).await;
    for _ in 0..3 {
        world.deliver(&["alice@example.test"], b"x").await.unwrap();
    }
    assert_eq!(session.event().await, SessionEvent::Happened);
    let new = Touch {
        new: true,
        ..Touch::NOTHING
    };
    let inbox = |touch| ("INBOX".to_owned(), What::Messages(touch));
    assert_eq!(session.happenings().await, (vec![inbox(new)], false));
    assert_eq!(session.0.try_event(), None);
    let other = world.login("alice@example.test", "password").await.unwrap();
    let create = |name: &str| SessionRequest::CreateMailbox {
        name: name.into(),
        special_use: None,
    };
    other.answer(create("a/b")).await.unwrap();
    let (from, to) = ("a".into(), "c".into());
    let requests = [
        SessionRequest::RenameMailbox { from, to },
        SessionRequest::DeleteMailbox { name: "c/b".into() },
        SessionRequest::Subscribe {
            name: "c".into(),
            subscribed: true,
        },
        SessionRequest::Subscribe {
            name: "c".into(),
            subscribed: true,
        },
    ];
    other.select("INBOX").await;
    other
        .answer(SessionRequest::StoreFlags {
            uids: vec![(1, 1)],
            change: FlagChange::Replace,
            flags: flag::DELETED,
            keywords: vec![],
            unchanged_since: None,
            heard: u64::MAX,
        })
        .await
        .unwrap();
    other
        .answer(SessionRequest::Expunge { uids: None })
        .await
        .unwrap();
    for request in requests {
        other.answer(request).await.unwrap();
    }
    assert_eq!(session.event().await, SessionEvent::Happened);
    let touch = Touch {
        new: false,
        gone: true,
        flags: true,
    };
    let (heard, _) = session.happenings().await;
    // What is gone by now, nobody needs to have heard of.
    let expected = [
        inbox(touch),
        ("c".into(), What::RenamedFrom("a".into())),
        ("c/b".into(), What::Deleted),
        ("c".into(), What::Subscribed),
    ];
    assert_eq!(heard, expected);
    session.watch(false).await;
    world.deliver(&["alice@example.test"], b"x").await.unwrap();
    assert_eq!(
        (session.happenings().await, session.0.try_event()),
        ((vec![], false), None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_loses_what_happened_and_hears_of_it_later() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    session.watch(true).await;
    let other = world.login("alice@example.test", "password").await.unwrap();
    for number in 0..=1000 {
        let subscribe = SessionRequest::Subscribe {
            name: format!("n{number}"),
            subscribed: true,
        };
        other.answer(subscribe).await.unwrap();
    }
    assert_eq!(session.event().await, SessionEvent::Happened);
    assert_eq!(session.happenings().await, (vec![], true));
    assert_eq!(session.0.try_event(), None);
    let name = "n1".to_owned();
    let subscribed = false;
    other
        .answer(SessionRequest::Subscribe { name, subscribed })
        .await
        .unwrap();
    assert_eq!(session.event().await, SessionEvent::Happened);
    let info = MailboxInfo {
        name: "n1".into(),
        exists: false,
        subscribed: false,
        special_use: None,
        has_children: false,
        rights: ipc::acl::Rights::ALL,
    };
    let answer = session.answer(SessionRequest::ListHappenings).await;
    let happening = Happening {
        mailbox: info,
        what: What::Subscribed,
    };
    let expected = SessionAnswer::HappeningsListed {
        happenings: vec![happening],
        more: false,
        lost: false,
    };
    assert_eq!(answer, Ok(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_hears_which_annotations_were_changed() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    session.watch(true).await;
    let other = world.login("alice@example.test", "password").await.unwrap();
    let change = |mailbox: Option<&str>, name: &str, length| SessionRequest::ChangeAnnotations {
        mailbox: mailbox.map(str::to_owned),
        changes: vec![AnnotationChange {
            name: name.into(),
            value: Some(vec![b'x'; length]),
        }],
    };
    for request in [
        change(Some("INBOX"), "/shared/comment", 1),
        change(None, "/private/comment", 1),
    ] {
        other.answer(request).await.unwrap();
    }
    // What was refused was not changed.
    for refused in [
        change(Some("INBOX"), "/shared/long", MAX_VALUE + 1),
        change(None, "/shared/comment", 1),
    ] {
        other.answer(refused).await.unwrap_err();
    }
    assert_eq!(session.event().await, SessionEvent::Happened);
    let annotated = |mailbox: &str, name: &str| (mailbox.into(), What::Annotated(name.into()));
    let expected = vec![
        annotated("INBOX", "/shared/comment"),
        annotated("", "/private/comment"),
    ];
    assert_eq!(session.happenings().await, (expected, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_opens_one_beside_it_for_the_same_account() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    let request = || SessionRequest::OpenBeside;
    session.append("INBOX", b"A: b\r\n\r\n").await.unwrap();
    let (status, _) = session.select("INBOX").await;
    let Answered { answer, mut fds } = session.ask(request()).await.unwrap();
    assert_eq!((answer, fds.len()), (SessionAnswer::BesideOpened, 1));
    let beside = Session(Link::over(fds.remove(0)).unwrap());
    let busy = Err(CallError::Refused(Refusal::Busy));
    assert_eq!(session.answer(request()).await, busy);
    assert_eq!(beside.answer(request()).await, busy);
    assert_eq!(beside.select("INBOX").await.0, status);
    // What is selected here is not what is selected there.
    let unselected = beside.answer(SessionRequest::Unselect).await;
    assert_eq!(unselected, Ok(SessionAnswer::Done));
    let read = SessionRequest::ReadPages { shards: vec![0] };
    assert!(matches!(
        session.answer(read.clone()).await,
        Ok(SessionAnswer::PagesRead { .. })
    ));
    let nothing = Err(CallError::Refused(Refusal::NothingSelected));
    assert_eq!(beside.answer(read).await, nothing);
    drop(beside);
    while session.answer(request()).await == busy {
        tokio::task::yield_now().await;
    }
}
