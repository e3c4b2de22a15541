//! Quota: of users, domains and tenants, for deliveries and sessions; limits that change; room that is set aside and freed.

use super::*;

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const SMALL: &str = "small@example.test";

impl World {
    async fn order(&self, request: StoreControlRequest) {
        assert_eq!(self.control(request).await, Ok(StoreControlAnswer::Done));
    }

    async fn limit_user(&self, address: &str, limits: LimitChange) {
        let address = address.into();
        self.order(StoreControlRequest::LimitUser { address, limits })
            .await;
    }

    async fn domain(&self, name: &str) -> (Option<String>, Limits, Usage) {
        let list = StoreControlRequest::ListDomains { after: None };
        let StoreControlAnswer::Domains { domains, .. } = self.control(list).await.unwrap() else {
            panic!()
        };
        let found = domains.into_iter().find(|one| one.name == name).unwrap();
        (found.tenant, found.limits, found.usage)
    }

    async fn tenants(&self) -> Vec<(String, u64, Limits, Usage)> {
        let list = StoreControlRequest::ListTenants { after: None };
        let StoreControlAnswer::Tenants { tenants, .. } = self.control(list).await.unwrap() else {
            panic!()
        };
        let parts = tenants
            .into_iter()
            .map(|one| (one.name, one.domains, one.limits, one.usage));
        parts.collect()
    }

    async fn messages(&self, user: &str) -> u32 {
        let session = self.login(user, "password").await.unwrap();
        session.select("INBOX").await.0.messages
    }
}

impl Smtp {
    async fn hold(&self, address: &str, size: u64, transaction: u64) -> Result<(), CallError> {
        let address = address.into();
        let request = DeliveryRequest::ResolveRecipient {
            address,
            size,
            transaction,
        };
        self.ask(request).await.map(|_| ())
    }

    async fn end(&self, transaction: u64) {
        let (answer, _) = self
            .ask(DeliveryRequest::EndTransaction { transaction })
            .await
            .unwrap();
        assert_eq!(answer, DeliveryAnswer::TransactionEnded);
    }
}

impl Session {
    async fn quota(&self) -> (Usage, Limits) {
        match self.answer(SessionRequest::Quota).await.unwrap() {
            SessionAnswer::Quota { usage, limits, .. } => (usage, limits),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_sees_its_own_figures_and_what_expunge_would_free() {
    let world = world().await;
    world.add_user(SMALL, 100).await;
    let session = world.login(SMALL, "password").await.unwrap();
    let answer = session.answer(SessionRequest::Quota).await.unwrap();
    let expected = SessionAnswer::Quota {
        usage: usage(0, 0),
        limits: Limits {
            messages: 0,
            bytes: 100,
        },
        mailboxes: 6,
        max_mailboxes: 10_000,
    };
    assert_eq!(answer, expected);
    for size in [10, 20, 30] {
        session.append("INBOX", &vec![b'x'; size]).await.unwrap();
    }
    session.select("INBOX").await;
    let store = SessionRequest::StoreFlags {
        uids: vec![(2, 3)],
        change: FlagChange::Add,
        flags: flag::DELETED,
        keywords: Vec::new(),
        unchanged_since: None,
        heard: u64::MAX,
    };
    session.answer(store).await.unwrap();
    let size = |name: &str| SessionRequest::DeletedSize { name: name.into() };
    assert_eq!(
        session.answer(size("INBOX")).await,
        Ok(SessionAnswer::DeletedSize(50))
    );
    assert_eq!(
        refused(session.answer(size("nowhere")).await),
        Refusal::NoSuchMailbox
    );
    assert_eq!(session.quota().await.0, usage(3, 60));
}

fn usage(messages: u64, bytes: u64) -> Usage {
    Usage { messages, bytes }
}

fn at_most(messages: u64, bytes: u64) -> LimitChange {
    LimitChange {
        messages: Some(messages),
        bytes: Some(bytes),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_takes_nothing_more_and_takes_nobody_along() {
    let world = world().await;
    world.add_user(SMALL, 100).await;
    let smtp = Smtp(world.client("smtpd"));
    assert_eq!(refused(smtp.resolve(SMALL, 101).await), Refusal::OverQuota);
    assert_eq!(
        refused(world.deliver(&[SMALL], &[b'x'; 101]).await),
        Refusal::OverQuota
    );
    world.deliver(&[SMALL], &[b'x'; 60]).await.unwrap();
    assert_eq!(
        refused(world.deliver(&[SMALL, BOB], &[b'x'; 60]).await),
        Refusal::OverQuota
    );
    assert_eq!(world.messages(BOB).await, 0);
    world.deliver(&[SMALL, BOB], &[b'x'; 40]).await.unwrap();
    assert_eq!(refused(smtp.resolve(SMALL, 0).await), Refusal::OverQuota);
    let session = world.login(SMALL, "password").await.unwrap();
    assert_eq!(
        refused(session.append("INBOX", b"x").await),
        Refusal::OverQuota
    );
    // Told before the message is sent.
    let open = SessionRequest::OpenAppend {
        mailbox: "INBOX".into(),
        size: 1,
    };
    assert_eq!(refused(session.answer(open).await), Refusal::OverQuota);
    session.select("INBOX").await;
    let (uids, to) = (vec![(1, 1)], "Archive".to_owned());
    let copy = SessionRequest::Copy {
        uids: uids.clone(),
        to: to.clone(),
    };
    assert_eq!(refused(session.answer(copy).await), Refusal::OverQuota);
    // Room is only needed for what is more than before.
    session
        .answer(SessionRequest::Move { uids, to })
        .await
        .unwrap();
    assert_eq!(session.quota().await.0, usage(2, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_counted_as_well_as_bytes() {
    let world = world().await;
    let two = LimitChange {
        messages: Some(2),
        bytes: None,
    };
    world.limit_user(BOB, two).await;
    for _ in 0..2 {
        world.deliver(&[BOB], b"hello").await.unwrap();
    }
    assert_eq!(
        refused(world.deliver(&[BOB], b"hello").await),
        Refusal::OverQuota
    );
    let session = world.login(BOB, "password").await.unwrap();
    session.select("INBOX").await;
    let store = SessionRequest::StoreFlags {
        uids: vec![(1, 1)],
        change: FlagChange::Add,
        flags: flag::DELETED,
        keywords: Vec::new(),
        unchanged_since: None,
        heard: u64::MAX,
    };
    session.answer(store).await.unwrap();
    session
        .answer(SessionRequest::Expunge { uids: None })
        .await
        .unwrap();
    world.deliver(&[BOB], b"hello").await.unwrap();
    let limits = Limits {
        messages: 2,
        bytes: 0,
    };
    assert_eq!(session.quota().await, (usage(2, 10), limits));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_counts_from_the_moment_it_is_changed() {
    let world = world().await;
    world.deliver(&[BOB], &[b'x'; 100]).await.unwrap();
    world.limit_user(BOB, bytes(150)).await;
    assert_eq!(
        refused(world.deliver(&[BOB], &[b'x'; 51]).await),
        Refusal::OverQuota
    );
    world.limit_user(BOB, bytes(50)).await;
    assert_eq!(
        refused(world.deliver(&[BOB], b"x").await),
        Refusal::OverQuota
    );
    world.limit_user(BOB, bytes(0)).await;
    world.deliver(&[BOB], &[b'x'; 1000]).await.unwrap();
    assert_eq!(
        refused(
            world
                .control(StoreControlRequest::LimitUser {
                    address: "nobody@example.test".into(),
                    limits: bytes(1),
                })
                .await
        ),
        Refusal::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_a_domain_share_its_limit() {
    let world = world().await;
    world
        .order(StoreControlRequest::LimitDomain {
            name: "Example.test".into(),
            limits: at_most(3, 100),
        })
        .await;
    world.deliver(&[ALICE], &[b'x'; 30]).await.unwrap();
    // Two copies are two messages, also where they are one file.
    assert_eq!(
        refused(world.deliver(&[ALICE, BOB], &[b'x'; 36]).await),
        Refusal::OverQuota
    );
    world.deliver(&[ALICE, BOB], &[b'x'; 35]).await.unwrap();
    let smtp = Smtp(world.client("smtpd"));
    assert_eq!(refused(smtp.resolve(BOB, 1).await), Refusal::OverQuota);
    let limits = Limits {
        messages: 3,
        bytes: 100,
    };
    assert_eq!(
        world.domain("example.test").await,
        (None, limits, usage(3, 100))
    );
    world
        .order(StoreControlRequest::RemoveUser {
            address: ALICE.into(),
        })
        .await;
    assert_eq!(world.domain("example.test").await.2, usage(1, 35));
    world.deliver(&[BOB], &[b'x'; 65]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_takes_what_it_stores_along_to_another_tenant() {
    let world = world().await;
    for (tenant, limit) in [("small", 100), ("large", 1000)] {
        world
            .order(StoreControlRequest::AddTenant {
                name: tenant.into(),
                limits: Limits {
                    messages: 0,
                    bytes: limit,
                },
            })
            .await;
    }
    let assign = |tenant: Option<&str>| StoreControlRequest::AssignDomain {
        name: "example.test".into(),
        tenant: tenant.map(str::to_owned),
    };
    world.order(assign(Some("small"))).await;
    let other = StoreControlRequest::AddDomain {
        name: "other.test".into(),
        tenant: Some("small".into()),
        duty: ipc::routing::Duty::Final,
    };
    world.order(other).await;
    world.add_user("carol@other.test", 0).await;
    world.deliver(&[ALICE], &[b'x'; 60]).await.unwrap();
    let deliver = async |size| {
        world
            .deliver(&["carol@other.test"], &vec![b'x'; size])
            .await
    };
    assert_eq!(refused(deliver(41).await), Refusal::OverQuota);
    // What is set aside moves too.
    let smtp = Smtp(world.client("smtpd"));
    world.order(assign(None)).await;
    smtp.hold(ALICE, 20_000, 1).await.unwrap();
    world.order(assign(Some("large"))).await;
    assert_eq!(refused(smtp.resolve(BOB, 10).await), Refusal::OverQuota);
    smtp.end(1).await;
    world.deliver(&[BOB], &[b'x'; 900]).await.unwrap();
    deliver(41).await.unwrap();
    let figures: Vec<_> = world
        .tenants()
        .await
        .into_iter()
        .map(|(name, domains, limits, usage)| (name, domains, limits.bytes, usage))
        .collect();
    assert_eq!(
        figures,
        [
            ("large".to_owned(), 1, 1000, usage(2, 960)),
            ("small".to_owned(), 1, 100, usage(1, 41)),
        ]
    );
    let remove = |name: &str| StoreControlRequest::RemoveTenant { name: name.into() };
    assert!(matches!(
        refused(world.control(remove("large")).await),
        Refusal::Invalid(_)
    ));
    world.order(assign(None)).await;
    world.order(remove("large")).await;
    assert!(matches!(
        refused(world.control(assign(Some("large"))).await),
        Refusal::Invalid(_)
    ));
    world.deliver(&[BOB], &[b'x'; 5000]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn room_set_aside_at_rcpt_makes_the_commit_fit() {
    let world = world().await;
    world.add_user(SMALL, 10_000).await;
    let smtp = Smtp(world.client("smtpd"));
    smtp.hold(SMALL, 5000, 7).await.unwrap();
    // Named twice, it is one copy.
    smtp.hold(SMALL, 5000, 7).await.unwrap();
    let (answer, mut fds) = smtp
        .ask(DeliveryRequest::OpenMessage { transaction: 7 })
        .await
        .unwrap();
    let DeliveryAnswer::MessageOpened(message) = answer else {
        panic!("{answer:?}")
    };
    // Nobody takes the room away, not even the user.
    let session = world.login(SMALL, "password").await.unwrap();
    for refused_one in [
        refused(session.append("INBOX", &[b'x'; 5000]).await),
        refused(world.deliver(&[SMALL], &[b'x'; 5000]).await),
        refused(smtp.hold(SMALL, 1000, 8).await),
    ] {
        assert_eq!(refused_one, Refusal::OverQuota);
    }
    let recipients = vec![SMALL.to_owned()];
    smtp.ask(DeliveryRequest::AddRecipients {
        message,
        recipients,
        destination: Destination::Inbox,
    })
    .await
    .unwrap();
    write(fds.remove(0), &[b'x'; 5400]).await;
    smtp.ask(DeliveryRequest::CommitMessage {
        message,
        size: 5400,
        head: Vec::new(),
    })
    .await
    .unwrap();
    // What was not used of it is free.
    world.deliver(&[SMALL], &[b'x'; 4600]).await.unwrap();
    assert_eq!(session.quota().await.0, usage(2, 10_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_one_piece_has_the_room_of_its_transaction() {
    let world = world().await;
    world.add_user(SMALL, 10_000).await;
    let smtp = Smtp(world.client("smtpd"));
    smtp.hold(SMALL, 5000, 7).await.unwrap();
    let without = smtp.deliver_whole(&[SMALL], &[b'x'; 5400], 0).await;
    assert_eq!(refused(without), Refusal::OverQuota);
    smtp.deliver_whole(&[SMALL], &[b'x'; 5400], 7)
        .await
        .unwrap();
    // What was not used of it is free.
    smtp.deliver_whole(&[SMALL], &[b'x'; 4600], 7)
        .await
        .unwrap();
    let session = world.login(SMALL, "password").await.unwrap();
    assert_eq!(session.quota().await.0, usage(2, 10_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn room_is_free_again_when_the_transaction_or_the_asker_ends() {
    let world = world().await;
    world.add_user(SMALL, 10_000).await;
    let smtp = Smtp(world.client("smtpd"));
    let dying = Smtp(world.client("smtpd"));
    smtp.hold(SMALL, 5000, 1).await.unwrap();
    assert_eq!(
        refused(dying.hold(SMALL, 5000, 1).await),
        Refusal::OverQuota
    );
    smtp.end(1).await;
    dying.hold(SMALL, 5000, 1).await.unwrap();
    drop(dying);
    let freed = tokio::time::timeout(WITHIN, async {
        while smtp.hold(SMALL, 5000, 2).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    freed.await.unwrap();
    // An opened message that is aborted frees it too.
    let (answer, _) = smtp
        .ask(DeliveryRequest::OpenMessage { transaction: 2 })
        .await
        .unwrap();
    let DeliveryAnswer::MessageOpened(message) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(refused(smtp.hold(SMALL, 5000, 3).await), Refusal::OverQuota);
    smtp.ask(DeliveryRequest::AbortMessage { message })
        .await
        .unwrap();
    smtp.hold(SMALL, 5000, 3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_had_no_room_for_a_message_of_unknown_size_is_refused_by_name_the_next_time() {
    let world = world().await;
    world.add_user(SMALL, 20_000).await;
    let smtp = Smtp(world.client("smtpd"));
    for recipient in [SMALL, BOB] {
        smtp.resolve(recipient, 0).await.unwrap();
    }
    assert_eq!(
        refused(world.deliver(&[SMALL, BOB], &[b'x'; 20_001]).await),
        Refusal::OverQuota
    );
    assert_eq!(refused(smtp.resolve(SMALL, 0).await), Refusal::OverQuota);
    smtp.resolve(BOB, 0).await.unwrap();
    // One whose size is known to fit is taken.
    smtp.resolve(SMALL, 100).await.unwrap();
    // With more room it is as if nothing had been.
    world.limit_user(SMALL, bytes(30_000)).await;
    smtp.resolve(SMALL, 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_is_as_full_as_the_fullest_of_its_users() {
    let world = world().await;
    world.add_user(SMALL, 1).await;
    let alias = Alias {
        domain: "example.test".into(),
        kind: AliasKind::Exact,
        pattern: "all".into(),
        targets: vec![BOB.into(), SMALL.into(), "x@foreign.test".into()],
    };
    world.order(StoreControlRequest::AddAlias(alias)).await;
    let smtp = Smtp(world.client("smtpd"));
    assert_eq!(
        refused(smtp.hold("all@example.test", 100, 1).await),
        Refusal::OverQuota
    );
    world.limit_user(SMALL, bytes(0)).await;
    smtp.hold("all@example.test", 100, 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_made_anew_begins_with_nothing() {
    let world = world().await;
    world.add_user(SMALL, 10_000).await;
    world.deliver(&[SMALL], &[b'x'; 1000]).await.unwrap();
    let smtp = Smtp(world.client("smtpd"));
    smtp.hold(SMALL, 4000, 1).await.unwrap();
    world
        .order(StoreControlRequest::RemoveUser {
            address: SMALL.into(),
        })
        .await;
    assert_eq!(world.domain("example.test").await.2, usage(0, 0));
    assert_eq!(refused(smtp.resolve(SMALL, 1).await), Refusal::NoSuchUser);
    world.add_user(SMALL, 10_000).await;
    world.deliver(&[SMALL], &[b'x'; 6000]).await.unwrap();
    // The room the removed one had is none of the new one's.
    smtp.end(1).await;
    assert_eq!(
        refused(world.deliver(&[SMALL], &[b'x'; 4001]).await),
        Refusal::OverQuota
    );
    world.deliver(&[SMALL], &[b'x'; 4000]).await.unwrap();
    assert_eq!(world.domain("example.test").await.2, usage(2, 10_000));
}
