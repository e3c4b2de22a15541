//! What is kept for readers: given and lent over a mail session, within bounds, and within the account.

use ipc::cache::{CacheKind, ENTRIES_PER_FILL, ENTRIES_START, MAX_FILL, NewEntry, Slot};

use ipc::tools::{Scope, Work};

use super::*;

const KIND: CacheKind = CacheKind::Text;

impl Session {
    async fn begin_fill(&self, entries: Vec<NewEntry>) -> Result<OwnedFd, CallError> {
        let request = SessionRequest::FillCache {
            kind: KIND,
            entries,
        };
        let Answered { answer, mut fds } = self.ask(request).await?;
        assert_eq!((answer, fds.len()), (SessionAnswer::CacheAwaited, 1));
        Ok(fds.remove(0))
    }

    /// Announces one entry about UID 1 and writes these bytes.
    async fn fill(&self, length: usize, bytes: &[u8]) {
        let stream = self.begin_fill(vec![entry(1, length)]).await.unwrap();
        write(stream, bytes).await;
    }

    async fn open_cache(&self) -> Vec<std::fs::File> {
        let request = SessionRequest::OpenCache {
            kind: KIND,
            shards: vec![0, 1, 5000],
        };
        let Answered { answer, fds } = self.ask(request).await.unwrap();
        let SessionAnswer::CachesOpened { shards, .. } = answer else {
            panic!("{answer:?}")
        };
        assert!(shards.is_empty() || shards == [0], "{shards:?}");
        assert_eq!(shards.len(), fds.len());
        fds.into_iter().map(std::fs::File::from).collect()
    }

    /// The entry about UID 1, if there is one.
    async fn kept(&self) -> Option<Vec<u8>> {
        let file = self.open_cache().await.pop()?;
        let mut beginning = vec![0; ENTRIES_START];
        file.read_exact_at(&mut beginning, 0).unwrap();
        let slot = Slot::read(&beginning, 1, KIND)?;
        let mut entry = vec![0; slot.length as usize];
        file.read_exact_at(&mut entry, slot.offset.into()).unwrap();
        assert!(slot.fits(1, &entry));
        assert!(file.write_at(b"x", 0).is_err(), "lent for writing");
        Some(entry)
    }
}

fn entry(uid: u32, length: usize) -> NewEntry {
    let length = u32::try_from(length).unwrap();
    NewEntry { uid, length }
}

async fn alice(world: &World) -> Session {
    let session = world.login("alice@example.test", "password").await.unwrap();
    session.append("INBOX", b"x").await.unwrap();
    session.select("INBOX").await;
    session
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_session_gives_the_next_is_lent_and_nobody_else() {
    let world = world().await;
    let session = alice(&world).await;
    assert_eq!(session.kept().await, None);
    session.fill(5, b"known").await;
    // A session's next fill waits for the one before: once it is answered, that is done.
    session.begin_fill(vec![]).await.unwrap();
    assert_eq!(session.kept().await, Some(b"known".to_vec()));
    let other = world.login("alice@example.test", "password").await.unwrap();
    other.select("INBOX").await;
    assert_eq!(other.kept().await, Some(b"known".to_vec()));
    let bob = world.login("bob@example.test", "password").await.unwrap();
    bob.append("INBOX", b"x").await.unwrap();
    bob.select("INBOX").await;
    assert_eq!(bob.kept().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_do_not_arrive_whole_are_not_kept() {
    let world = world().await;
    let session = alice(&world).await;
    session.fill(5, b"know").await;
    session.fill(5, b"").await;
    session.begin_fill(vec![]).await.unwrap();
    assert_eq!(session.kept().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_refused_before_it_is_read() {
    let world = world().await;
    let session = alice(&world).await;
    let most = KIND.max_entry();
    for entries in [
        vec![entry(1, most + 1)],
        vec![NewEntry {
            uid: 1,
            length: u32::MAX,
        }],
        vec![entry(1, most); MAX_FILL / most + 1],
        vec![entry(1, 1); ENTRIES_PER_FILL + 1],
    ] {
        let refusal = refused(session.begin_fill(entries).await);
        assert!(matches!(refusal, Refusal::Invalid(_)), "{refusal:?}");
    }
    let shards = vec![0; ipc::cache::SHARDS_PER_FRAME + 1];
    let open = SessionRequest::OpenCache { kind: KIND, shards };
    let refusal = refused(session.answer(open).await);
    assert!(matches!(refusal, Refusal::Invalid(_)), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mailbox_there_are_no_caches() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    let refusal = refused(session.begin_fill(vec![entry(1, 1)]).await);
    assert_eq!(refusal, Refusal::NothingSelected);
    let shards = vec![0];
    let open = SessionRequest::OpenCache { kind: KIND, shards };
    assert_eq!(
        refused(session.answer(open).await),
        Refusal::NothingSelected
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_wants_no_text_kept_has_none() {
    let world = world().await;
    world
        .house
        .accounts
        .add_tenant("acme", Limits::default())
        .unwrap();
    let domain = Some("acme");
    world
        .house
        .accounts
        .assign_domain("example.test", domain)
        .unwrap();
    let session = alice(&world).await;
    session.fill(5, b"known").await;
    session.begin_fill(vec![]).await.unwrap();
    assert!(session.kept().await.is_some());
    // It was promised while text was kept, and comes when it is not.
    let late = session.begin_fill(vec![entry(1, 5)]).await.unwrap();
    let keep = |keep| StoreControlRequest::KeepSearchText {
        name: "acme".into(),
        keep,
    };
    world.control(keep(false)).await.unwrap();
    write(late, b"later").await;
    let open = SessionRequest::OpenCache {
        kind: KIND,
        shards: vec![0],
    };
    let (shards, is_kept) = (vec![], false);
    let nothing = SessionAnswer::CachesOpened { shards, is_kept };
    assert_eq!(session.answer(open.clone()).await.unwrap(), nothing);
    let refusal = refused(session.begin_fill(vec![entry(1, 1)]).await);
    assert_eq!(refusal, Refusal::NotPermitted);
    // Summaries are no text.
    let summaries = SessionRequest::OpenCache {
        kind: CacheKind::Summary,
        shards: vec![0],
    };
    let (shards, is_kept) = (vec![], true);
    let answer = SessionAnswer::CachesOpened { shards, is_kept };
    assert_eq!(session.answer(summaries).await.unwrap(), answer);

    let inbox = "store/mailstore/domains/example.test/users/alice/mailboxes/INBOX";
    let caches = world.temp.path().join(inbox).join(".cache");
    assert!(caches.join("text").is_dir());
    let scope = Scope::Domain("example.test".into());
    let (rows, _) = world.walk(Work::DropText, scope).await.unwrap();
    assert_eq!(rows, []);
    assert!(caches.is_dir() && !caches.join("text").exists());
    let left = std::fs::read_dir(world.temp.path().join(inbox)).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().contains("dropped"))
    );

    world.control(keep(true)).await.unwrap();
    assert_eq!(session.kept().await, None);
    session.fill(5, b"known").await;
    session.begin_fill(vec![]).await.unwrap();
    assert!(session.kept().await.is_some());
    let missing = StoreControlRequest::KeepSearchText {
        name: "nobody".into(),
        keep: false,
    };
    assert_eq!(refused(world.control(missing).await), Refusal::NotFound);
}
