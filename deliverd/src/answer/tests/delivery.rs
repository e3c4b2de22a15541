//! Deliveries: recipients, sizes, and what comes of the message.

use ipc::delivery::{MAX_HEAD, RECIPIENTS_PER_FRAME};

use super::*;
use crate::answer::desk::Desk;
use crate::store::BUFFER;

const LETTER: &[u8] = b"Subject: x\r\n\r\nhello\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_delivered_and_read_back() {
    let world = world().await;
    let users = ["alice@example.test", "bob@example.test"];
    world.deliver(&users, LETTER).await.unwrap();
    reads_letter(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_one_piece_is_delivered_and_read_back() {
    let world = world().await;
    // Each gets it once.
    let users = [
        "alice@example.test",
        "bob@example.test",
        "ALICE@example.test",
    ];
    let smtp = Smtp(world.client("smtpd"));
    smtp.deliver_whole(&users, LETTER, 0).await.unwrap();
    reads_letter(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_recipient_finds_it_in_the_mailbox_that_was_said_first() {
    let world = world().await;
    let smtp = Smtp(world.client("smtpd"));
    let owned = |users: &[&str]| users.iter().map(ToString::to_string).collect::<Vec<_>>();
    let whole = DeliveryRequest::DeliverMessage {
        transaction: 0,
        recipients: owned(&["alice@example.test"]),
        junk: owned(&["bob@example.test", "Alice@example.test"]),
        bytes: LETTER.to_vec(),
    };
    smtp.ask(whole).await.unwrap();
    // Through the journal, and beside it.
    for size in [LETTER.len(), MAX_SIZE] {
        let (message, stream) = smtp.open().await;
        for (user, destination) in [
            ("bob@example.test", Destination::Junk),
            ("alice@example.test", Destination::Inbox),
            ("bob@example.test", Destination::Inbox),
        ] {
            smtp.ask(DeliveryRequest::AddRecipients {
                message,
                recipients: owned(&[user]),
                destination,
            })
            .await
            .unwrap();
        }
        write(stream, &vec![b'x'; size]).await;
        let commit = DeliveryRequest::CommitMessage {
            message,
            size: size as u64,
            head: Vec::new(),
        };
        smtp.ask(commit).await.unwrap();
    }
    for (user, mailbox, other) in [
        ("alice@example.test", "INBOX", "Junk"),
        ("bob@example.test", "Junk", "INBOX"),
    ] {
        let session = world.login(user, "password").await.unwrap();
        let (status, _) = session.select(mailbox).await;
        assert_eq!(status.messages, 3, "{user}");
        let (status, _) = session.select(other).await;
        assert_eq!(status.messages, 0, "{user}");
    }
}

/// Both have the letter and nothing else.
async fn reads_letter(world: &World) {
    for user in ["alice@example.test", "bob@example.test"] {
        let session = world.login(user, "password").await.unwrap();
        let (status, records) = session.select("INBOX").await;
        assert_eq!(
            (
                status.messages,
                status.unseen,
                records[0].uid,
                records[0].size
            ),
            (1, 1, 1, 21)
        );
        let opened = session
            .ask(SessionRequest::OpenMessages { uids: vec![1, 7] })
            .await
            .unwrap();
        assert_eq!(
            opened.answer,
            SessionAnswer::MessagesOpened { uids: vec![1] }
        );
        let mut text = String::new();
        let mut file = std::fs::File::from(opened.fds.into_iter().next().unwrap());
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "Subject: x\r\n\r\nhello\r\n");
        assert!(file.write_all(b"x").is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversize_stream_is_refused_and_the_writer_stopped() {
    let world = world().await;
    let bytes = vec![b'x'; MAX_SIZE + 1];
    assert_eq!(
        refused(world.deliver(&["alice@example.test"], &bytes).await),
        Refusal::MessageTooLarge
    );
    world
        .deliver(&["alice@example.test"], &bytes[..MAX_SIZE])
        .await
        .unwrap();
    let resolved = Smtp(world.client("smtpd"))
        .resolve("alice@example.test", MAX_SIZE as u64 + 1)
        .await;
    assert_eq!(refused(resolved), Refusal::MessageTooLarge);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_another_size_and_an_unknown_handle_are_refused() {
    let world = world().await;
    let smtp = Smtp(world.client("smtpd"));
    assert_eq!(
        refused(smtp.deliver(&["alice@example.test"], b"hello", 4).await),
        Refusal::SizeMismatch
    );
    let (message, _stream) = smtp.open().await;
    smtp.ask(DeliveryRequest::AbortMessage { message })
        .await
        .unwrap();
    for message in [message, MessageHandle(99)] {
        assert_eq!(
            refused(
                smtp.ask(DeliveryRequest::CommitMessage {
                    message,
                    size: 0,
                    head: Vec::new(),
                })
                .await
            ),
            Refusal::UnknownHandle
        );
    }
    // A handle belongs to the channel that opened it.
    let (message, _stream) = smtp.open().await;
    let other = Smtp(world.client("smtpd"));
    assert_eq!(
        refused(other.ask(DeliveryRequest::AbortMessage { message }).await),
        Refusal::UnknownHandle
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_are_doubted_again_when_they_are_added() {
    let world = world().await;
    for recipient in [
        "nobody@example.test",
        "alice@foreign.test",
        "",
        "../alice@example.test",
    ] {
        assert_eq!(
            refused(world.deliver(&[recipient], b"x").await),
            Refusal::NoSuchUser,
            "{recipient}"
        );
    }
    let smtp = Smtp(world.client("smtpd"));
    assert_eq!(
        refused(smtp.deliver(&[], b"x", 1).await),
        Refusal::NoSuchUser
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_nobody_is_refused_when_named_and_a_page_is_no_longer_than_it_may_be() {
    let world = world().await;
    let smtp = Smtp(world.client("smtpd"));
    let (message, _stream) = smtp.open().await;
    let add = async |recipients: Vec<String>| {
        let request = DeliveryRequest::AddRecipients {
            message,
            recipients,
            destination: Destination::Inbox,
        };
        smtp.ask(request).await.map(|(answer, _)| answer)
    };
    let page = |address: &str, count: usize| vec![address.to_owned(); count];
    let nobody = add(page("nobody@example.test", 1)).await;
    assert_eq!(refused(nobody), Refusal::NoSuchUser);
    let too_many = add(page("alice@example.test", RECIPIENTS_PER_FRAME + 1)).await;
    assert_eq!(refused(too_many), Refusal::TooManyRecipients);
    let whole = add(page("alice@example.test", RECIPIENTS_PER_FRAME)).await;
    assert_eq!(whole.unwrap(), DeliveryAnswer::RecipientsAdded);
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_of_a_message_in_one_piece_are_doubted() {
    let world = world().await;
    let smtp = Smtp(world.client("smtpd"));
    for recipients in [
        &[][..],
        &["alice@example.test", "nobody@example.test"],
        &["alice@foreign.test"],
        &["../alice@example.test"],
    ] {
        assert_eq!(
            refused(smtp.deliver_whole(recipients, b"x", 0).await),
            Refusal::NoSuchUser,
            "{recipients:?}"
        );
    }
    let session = world.login("alice@example.test", "password").await.unwrap();
    assert_eq!(session.select("INBOX").await.0.messages, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_messages_at_once_each_is_delivered_or_refused_by_itself() {
    let world = Arc::new(world().await);
    let smtp = Arc::new(Smtp(world.client("smtpd")));
    let mut writers = Vec::new();
    // More than the journal has room for.
    let filler = "line of text\r\n".repeat(900);
    for number in 0..360 {
        let (smtp, filler) = (Arc::clone(&smtp), filler.clone());
        writers.push(tokio::spawn(async move {
            let user = ["alice", "bob", "nobody"][number % 3];
            let text = format!("Subject: {number}\r\n\r\n{filler}");
            let user = format!("{user}@example.test");
            smtp.deliver_whole(&[&user], text.as_bytes(), 0).await
        }));
    }
    // Whoever empties the journal waits for those in it, and is waited for by those who find no room there.
    for _ in 0..10 {
        let emptied = world.house.work(|house| {
            house.store.save();
            Ok(())
        });
        emptied.await.unwrap();
    }
    for (number, writer) in writers.into_iter().enumerate() {
        let delivered = writer.await.unwrap();
        if number % 3 == 2 {
            assert_eq!(refused(delivered), Refusal::NoSuchUser);
        } else {
            delivered.unwrap();
        }
    }
    for user in ["alice@example.test", "bob@example.test"] {
        let session = world.login(user, "password").await.unwrap();
        let (status, records) = session.select("INBOX").await;
        assert_eq!((status.messages, status.uid_next), (120, 121));
        let uids: Vec<u32> = records.iter().map(|record| record.uid).collect();
        assert_eq!(uids, (1..=120).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_are_resolved_local_foreign_or_refused() {
    let world = world().await;
    let alias = Alias {
        domain: "example.test".into(),
        kind: AliasKind::Exact,
        pattern: "all".into(),
        targets: vec!["alice@example.test".into(), "x@foreign.test".into()],
    };
    world
        .control(StoreControlRequest::AddAlias(alias))
        .await
        .unwrap();
    let smtp = Smtp(world.client("smtpd"));
    let resolved = smtp.resolve("All@Example.TEST", 0).await.unwrap();
    let (local, remote) = (
        vec!["alice@example.test".to_owned()],
        vec!["x@foreign.test".to_owned()],
    );
    assert_eq!(
        resolved,
        DeliveryAnswer::RecipientResolved { local, remote }
    );
    assert_eq!(
        smtp.resolve("x@foreign.test", 0).await,
        Ok(DeliveryAnswer::RecipientForeign)
    );
    for address in [
        "nobody@example.test",
        r#"""@example.test"#,
        "nonsense",
        r#""x'/**/UNION"@example.test"#,
    ] {
        assert_eq!(
            refused(smtp.resolve(address, 0).await),
            Refusal::NoSuchUser,
            "{address}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_only_at_the_end_stands_in_front() {
    let world = world().await;
    let smtp = Smtp(world.client("smtpd"));
    let users = ["alice@example.test"];
    let head = b"A: b\r\n";
    let sizes = [0, 20, 90_000];
    for (place, size) in sizes.into_iter().enumerate() {
        let bytes: Vec<u8> = b"0123456789abcdefghi\n"
            .iter()
            .copied()
            .cycle()
            .take(size)
            .collect();
        smtp.deliver_behind(&users, head, &bytes, size as u64)
            .await
            .unwrap();
        let session = world.login(users[0], "password").await.unwrap();
        let (_, records) = session.select("INBOX").await;
        assert_eq!(records[place].size as usize, size + head.len());
        let uids = vec![records[place].uid];
        let opened = session
            .ask(SessionRequest::OpenMessages { uids })
            .await
            .unwrap();
        let mut read = Vec::new();
        let mut file = std::fs::File::from(opened.fds.into_iter().next().unwrap());
        file.read_to_end(&mut read).unwrap();
        assert!(read == [head.as_slice(), &bytes].concat(), "{size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_no_way_around_the_limits() {
    let world = world().await;
    let smtp = Smtp(world.client("smtpd"));
    let users = ["alice@example.test"];
    let head = vec![b'x'; MAX_HEAD + 1];
    for (head, size) in [
        (&head[..], 10),
        (b"x", MAX_SIZE),
        (&head[1..], MAX_SIZE - 100),
    ] {
        let sent = smtp
            .deliver_behind(&users, head, &vec![b'x'; size], size as u64)
            .await;
        assert_eq!(refused(sent), Refusal::MessageTooLarge, "{size}");
    }
    let (head, size) = (&head[1..], MAX_SIZE - MAX_HEAD);
    smtp.deliver_behind(&users, head, &vec![b'x'; size], size as u64)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_messages_are_open_at_once_and_no_more() {
    let world = world().await;
    let desk = Desk::new(Arc::clone(&world.house), 2);
    let (first, _stream) = desk.open(()).unwrap();
    let _second = desk.open(()).unwrap();
    assert_eq!(desk.open(()).unwrap_err(), Refusal::Busy);
    desk.abort(first).unwrap();
    assert!(desk.open(()).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_not_read_to_its_end() {
    let world = world().await;
    // Where it hangs up, nothing is read any more either.
    let smtp = Smtp(world.client("smtpd"));
    let (_message, stream) = smtp.open().await;
    let writing = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::from(stream);
        stream.set_nonblocking(false).unwrap();
        let piece = [b'x'; 4096];
        // Far more than the socket holds beside what is taken.
        (0..4096).find_map(|_| stream.write_all(&piece).err())
    });
    let error = writing.await.unwrap().expect("all of it was read");
    // The latter where something that was written is not read.
    assert!(matches!(
        error.kind(),
        std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset
    ));
    drop(smtp);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_gone_at_the_end_of_a_message_gets_no_mailbox_by_it() {
    let world = world_taking(4 * BUFFER).await;
    let smtp = Smtp(world.client("smtpd"));
    for (user, size) in [("carol", 10), ("dave", 2 * BUFFER)] {
        let address = format!("{user}@example.test");
        world.add_user(&address, 0).await;
        let (message, stream) = smtp.open().await;
        let request = DeliveryRequest::AddRecipients {
            message,
            recipients: vec![address.clone(), "alice@example.test".into()],
            destination: Destination::Inbox,
        };
        smtp.ask(request).await.unwrap();
        let gone = StoreControlRequest::RemoveUser { address };
        world.control(gone).await.unwrap();
        write(stream, &vec![b'x'; size]).await;
        let commit = DeliveryRequest::CommitMessage {
            message,
            size: size as u64,
            head: Vec::new(),
        };
        assert_eq!(
            refused(smtp.ask(commit).await),
            Refusal::NoSuchUser,
            "{user}"
        );
    }
    let session = world.login("alice@example.test", "password").await.unwrap();
    assert_eq!(session.select("INBOX").await.0.messages, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leads_to_more_addresses_than_can_be_told_is_refused() {
    let world = world().await;
    let add = async |name: &str, targets: Vec<String>| {
        let alias = Alias {
            domain: "example.test".into(),
            kind: AliasKind::Exact,
            pattern: name.into(),
            targets,
        };
        world
            .control(StoreControlRequest::AddAlias(alias))
            .await
            .unwrap();
    };
    // Of some 590 octets each.
    for leaf in 0..30 {
        let far = |number| format!("{}{leaf}.{number}@far.test", "x".repeat(33));
        add(&format!("leaf{leaf}"), (0..12).map(far).collect()).await;
    }
    let leaves = |range: std::ops::Range<usize>| {
        let name = |leaf| format!("leaf{leaf}@example.test");
        range.map(name).collect::<Vec<_>>()
    };
    add("some", leaves(0..15)).await;
    add("others", leaves(15..30)).await;
    let both = ["some@example.test", "others@example.test"];
    add("all", both.map(String::from).to_vec()).await;
    let smtp = Smtp(world.client("smtpd"));
    assert!(smtp.resolve("some@example.test", 0).await.is_ok());
    let all = smtp.resolve("all@example.test", 0).await;
    assert_eq!(refused(all), Refusal::TooManyRecipients);
}
