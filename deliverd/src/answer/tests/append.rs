//! Messages that are appended in one piece.

use ipc::acl::{Rights, RightsChange};

use super::*;

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const LETTER: &[u8] = b"Subject: x\r\n\r\nhello\r\n";

fn whole(mailbox: &str, bytes: &[u8]) -> SessionRequest {
    SessionRequest::Append {
        mailbox: mailbox.into(),
        bytes: bytes.to_vec(),
        flags: 0xff,
        keywords: vec!["work".into()],
        internal_date: Some(1),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_one_piece_is_appended_with_flags_keywords_and_date() {
    let world = world().await;
    let session = world.login(ALICE, "password").await.unwrap();
    let answer = session.answer(whole("Sent", LETTER)).await.unwrap();
    let (status, records) = session.select("Sent").await;
    let uid_validity = status.uid_validity;
    let uid = 1;
    assert_eq!(answer, SessionAnswer::Appended { uid_validity, uid });
    let Record {
        flags,
        keywords,
        size,
        internal_date,
        ..
    } = records[0];
    assert_eq!(
        (flags, keywords, size, internal_date),
        (flag::ALL, 1, LETTER.len() as u64, 1)
    );
    let open = SessionRequest::OpenMessages { uids: vec![1] };
    let opened = session.ask(open).await.unwrap();
    let mut bytes = Vec::new();
    let mut file = std::fs::File::from(opened.fds.into_iter().next().unwrap());
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, LETTER);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_one_piece_is_refused_as_any_other() {
    let world = world().await;
    let small = "small@example.test";
    world.add_user(small, 100).await;
    let session = world.login(small, "password").await.unwrap();
    let append = |mailbox: &str, size: usize| session.answer(whole(mailbox, &vec![b'x'; size]));
    assert_eq!(refused(append("INBOX", 101).await), Refusal::OverQuota);
    append("INBOX", 60).await.unwrap();
    assert_eq!(refused(append("INBOX", 60).await), Refusal::OverQuota);
    for name in ["nothing", "", "../../bob/mailboxes/INBOX"] {
        assert_eq!(refused(append(name, 1).await), Refusal::NoSuchMailbox);
    }
    assert_eq!(session.select("INBOX").await.0.messages, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_visits_a_mailbox_appends_what_its_rights_allow() {
    let world = world().await;
    let alice = world.login(ALICE, "password").await.unwrap();
    let bob = world.login(BOB, "password").await.unwrap();
    let shared = format!("Other Users/{ALICE}/Archive");
    let give = async |letters: &str| {
        let request = SessionRequest::ChangeAcl {
            mailbox: "Archive".into(),
            identifier: BOB.into(),
            change: RightsChange::Set(Rights::parse(letters).unwrap()),
        };
        alice.answer(request).await.unwrap();
    };
    let append = || bob.answer(whole(&shared, LETTER));
    assert_eq!(refused(append().await), Refusal::NoSuchMailbox);
    give("lr").await;
    assert_eq!(refused(append().await), Refusal::NoRight);
    give("lri").await;
    append().await.unwrap();
    give("lrist").await;
    append().await.unwrap();
    let (_, records) = alice.select("Archive").await;
    let marks = records.iter().map(|one| (one.flags, one.keywords));
    let expected = [(0, 0), (flag::SEEN | flag::DELETED, 0)];
    assert_eq!(marks.collect::<Vec<_>>(), expected);
    let (SessionAnswer::Quota { usage, .. }, SessionAnswer::Quota { usage: bobs, .. }) = (
        alice.answer(SessionRequest::Quota).await.unwrap(),
        bob.answer(SessionRequest::Quota).await.unwrap(),
    ) else {
        panic!("no figures")
    };
    assert_eq!((usage.messages, bobs.messages), (2, 0));
}
