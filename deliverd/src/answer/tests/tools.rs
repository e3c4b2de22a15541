//! Walks over the store, as rmailctl asks for them.

use ipc::tools::{Deviation, Kind, Outcome, Row, Scope, Work, unpack};

use super::*;

impl World {
    /// A whole walk: what it told, and in how many pieces.
    pub(super) async fn walk(
        &self,
        work: Work,
        scope: Scope,
    ) -> Result<(Vec<Row>, usize), CallError> {
        let client = self.client::<StoreControlEdge>("ctl");
        let (mut told, mut pieces, mut after) = (Vec::new(), 0, None);
        loop {
            let scope = scope.clone();
            let request = StoreControlRequest::WalkStore { work, scope, after };
            let answered = client.call(Context::default(), WITHIN, request).await?;
            let StoreControlAnswer::StoreWalked {
                rows, after: next, ..
            } = answered.answer
            else {
                panic!("{:?}", answered.answer)
            };
            pieces += 1;
            assert_eq!(answered.fds.len(), usize::from(rows > 0));
            for fd in answered.fds {
                assert!(sys::memfd::is_sealed(&fd));
                let file = std::fs::File::from(fd);
                let mut packed = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
                file.read_exact_at(&mut packed, 0).unwrap();
                let page = unpack(&packed).unwrap();
                assert_eq!(page.len(), rows as usize);
                told.extend(page);
            }
            after = next;
            if after.is_none() {
                return Ok((told, pieces));
            }
        }
    }

    fn users(&self, domain: &str) -> PathBuf {
        let store = self.temp.path().join("store/mailstore");
        store.join("domains").join(domain).join("users")
    }
}

fn deviations(rows: Vec<Row>) -> Vec<Deviation> {
    let deviations = rows.into_iter().map(|row| match row {
        Row::Deviation(deviation) => deviation,
        row => panic!("{row:?}"),
    });
    deviations.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_and_directories_are_compared_both_ways() {
    let world = world().await;
    assert_eq!(
        world.walk(Work::Check, Scope::Everything).await,
        Ok((Vec::new(), 1))
    );
    std::fs::create_dir(world.users("example.test").join("carol")).unwrap();
    std::fs::rename(
        world.users("example.test").join("bob"),
        world.temp.path().join("bob"),
    )
    .unwrap();
    world.house.accounts.add_domain("z.test", None).unwrap();
    let many = 200;
    for number in 0..many {
        let owner = Owner {
            local: format!("u{number:03}"),
            domain: "z.test".into(),
        };
        world
            .house
            .accounts
            .add_user(
                &owner,
                &Secret::new("password"),
                ipc::quota::Limits::default(),
            )
            .unwrap();
    }
    let (rows, pieces) = world.walk(Work::Check, Scope::Everything).await.unwrap();
    assert!(pieces > 1);
    let (missing, others): (Vec<_>, Vec<_>) = deviations(rows)
        .into_iter()
        .partition(|one| one.kind == Kind::NoDirectory && !one.path.ends_with("mailboxes"));
    let paths: Vec<_> = missing.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(paths.len(), 1 + many, "each once");
    assert_eq!(paths[0], "domains/example.test/users/bob");
    assert_eq!(paths[many], "domains/z.test/users/u199");
    assert!(
        others
            .iter()
            .any(|one| one.kind == Kind::NoAccount && one.path.ends_with("carol"))
    );
    let bob = Scope::User("bob@example.test".into());
    let (rows, _) = world.walk(Work::Check, bob).await.unwrap();
    assert_eq!(deviations(rows).len(), 1);
    let (rows, _) = world
        .walk(Work::Repair, Scope::Domain("z.test".into()))
        .await
        .unwrap();
    let mended = deviations(rows);
    assert_eq!(mended.len(), many);
    assert!(mended.iter().all(|one| one.outcome == Outcome::Mended));
    assert!(world.users("z.test").join("u199/mailboxes/INBOX").is_dir());
    assert_eq!(
        world
            .walk(Work::Check, Scope::Domain("z.test".into()))
            .await
            .unwrap()
            .0,
        []
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_refused() {
    let world = world().await;
    for (scope, refusal) in [
        (Scope::Domain("other.test".into()), Refusal::NoSuchDomain),
        (
            Scope::User("nobody@example.test".into()),
            Refusal::NoSuchUser,
        ),
        (
            Scope::User("alice@other.test".into()),
            Refusal::NoSuchDomain,
        ),
        (
            Scope::Mailbox {
                user: "alice@example.test".into(),
                name: "Nowhere".into(),
            },
            Refusal::NoSuchMailbox,
        ),
    ] {
        assert_eq!(refused(world.walk(Work::Measure, scope).await), refusal);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_walk_is_told_to_wait_and_keeps_nothing_waiting() {
    let world = world().await;
    let (house, (ready, is_ready)) = (Arc::clone(&world.house), std::sync::mpsc::channel());
    let (end, is_over) = std::sync::mpsc::channel::<()>();
    let walking = std::thread::spawn(move || {
        let _walker = house.walker.lock().unwrap();
        ready.send(()).unwrap();
        is_over.recv().unwrap_err();
    });
    is_ready.recv().unwrap();
    let refusal = refused(world.walk(Work::Check, Scope::Everything).await);
    assert_eq!(refusal, Refusal::Busy);
    drop(end);
    walking.join().unwrap();
    assert!(world.walk(Work::Check, Scope::Everything).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_is_shown_as_it_is() {
    let world = world().await;
    let journal = async || match world.control(StoreControlRequest::ShowJournal).await {
        Ok(StoreControlAnswer::Journal(journal)) => journal,
        answer => panic!("{answer:?}"),
    };
    let before = journal().await;
    assert_eq!(
        (before.files, before.records, before.is_closed),
        (2, 0, false)
    );
    let order = StoreControlRequest::ShowRecovery;
    let none = StoreControlAnswer::Recovery {
        summary: None,
        rows: 0,
    };
    assert_eq!(world.control(order).await, Ok(none));
    let owner = Owner {
        local: "alice".into(),
        domain: "example.test".into(),
    };
    let mut incoming = world.house.store.begin();
    incoming.buffer().extend_from_slice(b"Subject: x\r\n\r\n");
    world.house.store.deliver(incoming, &[owner]).unwrap();
    let after = journal().await;
    // The body, and that INBOX has it.
    assert!(after.records >= 2, "{after:?}");
    assert!(after.room < before.room);
}
