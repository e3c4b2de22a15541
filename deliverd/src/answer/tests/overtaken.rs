//! STORE, where others were faster.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_others_changed_unheard_before_is_named() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    for _ in 0..2 {
        session.append("INBOX", b"x").await.unwrap();
    }
    while session.select("INBOX").await.0.messages < 1200 {
        let copy = SessionRequest::Copy {
            uids: vec![(1, u32::MAX)],
            to: "INBOX".into(),
        };
        session.answer(copy).await.unwrap();
    }
    let heard = session.select("INBOX").await.0.highest_modseq;
    let store = |uids, flags| SessionRequest::StoreFlags {
        uids,
        change: FlagChange::Add,
        flags,
        keywords: vec![],
        unchanged_since: None,
        heard,
    };
    let overtaken = |answer| match answer {
        Ok(SessionAnswer::FlagsStored { overtaken, .. }) => overtaken,
        other => panic!("{other:?}"),
    };
    let other = world.login("alice@example.test", "password").await.unwrap();
    other.select("INBOX").await;
    let first = other.answer(store(vec![(2, 3)], flag::ANSWERED)).await;
    assert_eq!(overtaken(first), []);
    // Nothing is to be done here, and that is told as well.
    let again = session.answer(store(vec![(1, 2)], flag::ANSWERED)).await;
    assert_eq!(overtaken(again), [(2, 2)]);
    let scattered: Vec<_> = (1..=600).map(|n| (2 * n, 2 * n)).collect();
    other
        .answer(store(scattered.clone(), flag::DRAFT))
        .await
        .unwrap();
    let all = session.answer(store(vec![(1, 1200)], flag::SEEN)).await;
    let all = overtaken(all);
    assert_eq!(all.len(), ipc::session::OVERTAKEN_PER_FRAME);
    let holds = |uid| {
        all.iter()
            .any(|(first, last)| (*first..=*last).contains(&uid))
    };
    assert!(scattered.iter().all(|(uid, _)| holds(*uid)));
    assert!(!holds(5), "{all:?}");
}
