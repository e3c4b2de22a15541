//! What would become of mail is told within bounds, and as it would be.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use std::sync::Arc;
use std::time::Duration;

use daemon::channel::Service;
use daemon::limits::Limits;
use daemon::port::Begins;
use ipc::explain::{
    Announced, Case, ExplainAnswer, ExplainRequest, MAX_PARAMETERS, MAX_RECIPIENTS, Stage, Told,
};
use ipc::{Call, Context, Refusal, frame};
use smtp::server::{Config, Role};
use smtpd::explain::Explainer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use world::World;

const ALICE: &str = "alice@example.org";
const BOB: &str = "bob@example.org";

/// Mail of dave for bob, of which nothing is known.
fn case() -> Case {
    Case {
        listener: "test".into(),
        client: "192.0.2.1".into(),
        hello: "client.example".into(),
        sender: "dave@far.example".into(),
        recipients: vec![BOB.into()],
        mail_parameters: String::new(),
        rcpt_parameters: String::new(),
        user: None,
        message: None,
        tls: false,
        filters: false,
    }
}

fn announced(size: usize) -> Announced {
    Announced {
        size: size as u64,
        eight_bit: false,
        utf8_header: false,
        chunked: false,
    }
}

async fn begin(explainer: &Explainer, case: Case) -> Result<UnixStream, Refusal> {
    let call = Call {
        id: 1,
        deadline_ms: 1000,
        context: Context::default(),
        request: ExplainRequest::Explain(case),
    };
    let mut answered = explainer.answer(Arc::new(()), call).await?;
    assert_eq!(answered.answer, ExplainAnswer::ExplanationBegun);
    let stream = std::os::unix::net::UnixStream::from(answered.fds.remove(0));
    stream.set_nonblocking(true).unwrap();
    Ok(UnixStream::from_std(stream).unwrap())
}

/// All of it, where this is the message.
async fn told(explainer: &Explainer, case: Case, message: &[u8]) -> Vec<Told> {
    let mut stream = begin(explainer, case).await.unwrap();
    stream.write_all(message).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = Vec::new();
    while all.last() != Some(&Told::End) {
        let length = stream.read_u32_le().await.unwrap();
        let mut bytes = vec![0; length as usize];
        stream.read_exact(&mut bytes).await.unwrap();
        all.push(frame::decode(&bytes).unwrap());
    }
    all
}

fn outcomes(told: &[Told]) -> Vec<(u16, &str)> {
    let all = told.iter().filter_map(|told| match told {
        Told::Outcome(one) => Some((one.code, one.text.as_str())),
        Told::Decision(_) | Told::Fact(_) | Told::End => None,
    });
    all.collect()
}

fn facts(told: &[Told]) -> Vec<(&str, &str)> {
    let all = told.iter().filter_map(|told| match told {
        Told::Fact(fact) => Some((fact.key.as_str(), fact.text.as_str())),
        Told::Decision(_) | Told::Outcome(_) | Told::End => None,
    });
    all.collect()
}

/// What the client says where.
fn said(told: &[Told], stage: Stage) -> Vec<&str> {
    let all = told.iter().filter_map(|told| match told {
        Told::Decision(one) if one.stage == stage => Some(one.said.as_str()),
        Told::Decision(_) | Told::Fact(_) | Told::Outcome(_) | Told::End => None,
    });
    all.collect()
}

fn usual(world: &World) -> Explainer {
    world.explainer(Role::Exchange, Begins::Clear, true)
}

#[tokio::test]
async fn what_is_longer_than_it_may_be_or_no_text_is_refused() {
    let world = World::new();
    let explainer = usual(&world);
    let long = |octets: usize| "x".repeat(octets);
    let good: [fn(&mut Case, String); 6] = [
        |case, text| case.hello = text,
        |case, text| case.sender = text,
        |case, text| case.recipients = vec![BOB.into(), text],
        |case, text| case.user = Some(text),
        |case, text| case.mail_parameters = text,
        |case, text| case.rcpt_parameters = text,
    ];
    for (change, most) in good
        .into_iter()
        .zip([320, 320, 320, 320, MAX_PARAMETERS, MAX_PARAMETERS])
    {
        for (text, is_good) in [
            (long(most), true),
            (long(most + 1), false),
            ("a\rb".into(), false),
            ("a\nb".into(), false),
            ("a\0b".into(), false),
        ] {
            let mut case = case();
            change(&mut case, text.clone());
            match is_good {
                true => assert!(told(&explainer, case, b"").await.len() > 1),
                false => {
                    let refused = begin(&explainer, case).await;
                    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{text:?}");
                }
            }
        }
    }
    for (recipients, is_good) in [
        (0, false),
        (1, true),
        (MAX_RECIPIENTS, true),
        (MAX_RECIPIENTS + 1, false),
    ] {
        let mut case = case();
        case.recipients = vec![BOB.into(); recipients];
        match is_good {
            true => assert_eq!(
                outcomes(&told(&explainer, case, b"").await).len(),
                recipients
            ),
            false => assert!(begin(&explainer, case).await.is_err(), "{recipients}"),
        }
    }
    for (listener, client) in [("other", "192.0.2.1"), ("test", "192.0.2"), ("test", "")] {
        let mut case = case();
        (case.listener, case.client) = (listener.into(), client.into());
        let refused = begin(&explainer, case).await;
        assert!(
            matches!(refused, Err(Refusal::Invalid(_))),
            "{listener} {client}"
        );
    }
}

#[tokio::test]
async fn so_many_are_explained_at_once_and_no_more() {
    let world = World::new();
    let explainer = usual(&world);
    let waiting = || Case {
        message: Some(announced(100)),
        ..case()
    };
    let first = begin(&explainer, waiting()).await.unwrap();
    let _second = begin(&explainer, waiting()).await.unwrap();
    assert_eq!(
        begin(&explainer, waiting()).await.err(),
        Some(Refusal::Busy)
    );
    drop(first);
    let again = async {
        while begin(&explainer, case()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_explanation_whose_message_never_comes_is_given_up() {
    let world = World::new();
    let explainer = usual(&world).with_patience(Duration::from_millis(100));
    let waiting = Case {
        message: Some(announced(100)),
        ..case()
    };
    let mut stream = begin(&explainer, waiting).await.unwrap();
    let mut read = Vec::new();
    let end = stream.read_to_end(&mut read);
    let ended = tokio::time::timeout(Duration::from_secs(20), end).await;
    assert!(ended.is_ok(), "it waits on");
}

#[tokio::test]
async fn who_was_hung_up_on_names_nobody_more() {
    let mut world = World::new();
    world.offer = Some(Config {
        max_bad_commands: 2,
        ..Config::new(world.house.hostname.clone(), Role::Exchange)
    });
    let recipients = ["no address", "no address", "no address", ALICE, BOB];
    let case = Case {
        recipients: recipients.map(String::from).to_vec(),
        message: Some(announced(10)),
        ..case()
    };
    let told = told(&usual(&world), case, b"0123456789").await;
    let outcomes = outcomes(&told);
    let (last, codes) = (outcomes.len() - 1, outcomes.iter().map(|(code, _)| *code));
    assert_eq!(outcomes.len(), 5);
    let gone = codes.clone().position(|code| code == 421).unwrap();
    assert!(codes.skip(gone).all(|code| code == 421), "{outcomes:?}");
    assert!(
        outcomes[last]
            .1
            .starts_with("not taken now: 421 4.7.0 too many errors"),
        "{outcomes:?}"
    );
    assert_eq!(said(&told, Stage::Recipient).len(), gone + 1);
    assert!(said(&told, Stage::Message).is_empty());
}

#[tokio::test]
async fn what_stands_before_a_session_is_told_with_its_key() {
    type Change = fn(&mut World);
    let full = Limits {
        total: 1,
        per_address: 0,
    };
    let free = Limits {
        total: 0,
        per_address: 0,
    };
    let nothing: Change = |_| {};
    let cases: [(Limits, Change, Begins, bool, u16, &str, &str); 7] = [
        (
            free,
            nothing,
            Begins::Clear,
            false,
            0,
            "nobody listens",
            "smtp.test",
        ),
        (
            full,
            nothing,
            Begins::Clear,
            true,
            421,
            "not taken now: 421",
            "smtp.max_connections",
        ),
        (
            full,
            nothing,
            Begins::Tls,
            true,
            0,
            "closed before TLS",
            "smtp.max_connections",
        ),
        (
            free,
            |world| world.clients = Some(Vec::new()),
            Begins::Clear,
            true,
            554,
            "refused: 554",
            "smtp.lmtp_clients",
        ),
        (
            free,
            |world| world.clients = Some(Vec::new()),
            Begins::Tls,
            true,
            0,
            "closed before TLS",
            "smtp.lmtp_clients",
        ),
        (
            free,
            |world| world.proxies = vec![String::from("192.0.2.1").try_into().unwrap()],
            Begins::Clear,
            true,
            250,
            "taken so far",
            "smtp.proxies, or that of the listener",
        ),
        (
            free,
            |world| world.greeting_delay = Duration::from_millis(1),
            Begins::Clear,
            true,
            250,
            "taken so far",
            "smtp.limits.greeting_delay_ms",
        ),
    ];
    for (limits, change, begins, is_on, code, words, key) in cases {
        let mut world = World::with_limits(limits);
        let _other = world.visit().await;
        change(&mut world);
        let explainer = world.explainer(Role::Exchange, begins, is_on);
        let told = told(&explainer, case(), b"").await;
        let outcomes = outcomes(&told);
        assert_eq!((outcomes.len(), outcomes[0].0), (1, code), "{outcomes:?}");
        assert!(outcomes[0].1.contains(words), "{outcomes:?}");
        let facts = facts(&told);
        assert!(facts.iter().any(|(one, _)| *one == key), "{key}: {facts:?}");
    }
}

#[tokio::test]
async fn reports_that_the_sender_wants_are_told() {
    let world = World::new();
    let text = b"From: dave@far.example\r\n\r\nx\r\n";
    let case = Case {
        sender: "dave@far.example".into(),
        recipients: vec![
            BOB.into(),
            "list@example.org".into(),
            "away@example.org".into(),
        ],
        mail_parameters: "RET=HDRS ENVID=abc".into(),
        rcpt_parameters: "NOTIFY=SUCCESS".into(),
        message: Some(announced(text.len())),
        ..case()
    };
    let told = told(&usual(&world), case, text).await;
    assert_eq!(
        said(&told, Stage::Sender),
        [format!(
            "MAIL FROM:<dave@far.example> SIZE={} RET=HDRS ENVID=abc",
            text.len()
        )]
    );
    assert_eq!(
        said(&told, Stage::Recipient)[0],
        "RCPT TO:<bob@example.org> NOTIFY=SUCCESS"
    );
    let outcomes: Vec<&str> = outcomes(&told).into_iter().map(|(_, text)| text).collect();
    let out = "out to carol@far.example from <SRS0=dave=far.example@example.org> with RET=HDRS ENVID=abc, for carol@far.example \
               with NOTIFY=NEVER ORCPT=rfc822;list@example.org";
    assert_eq!(
        outcomes,
        [
            "taken: into INBOX of bob@example.org; the sender is told that it was delivered"
                .to_owned(),
            format!(
                "taken: into INBOX of alice@example.org, bob@example.org; {out}; the sender is told that it went to a list"
            ),
            format!("taken: {out}"),
        ]
    );
}

#[tokio::test]
async fn a_message_comes_in_a_chunk_as_in_data() {
    for role in [Role::Exchange, Role::Delivery] {
        let world = World::new();
        let explainer = world.explainer(role, Begins::Clear, true);
        let text = b"From: dave@far.example\r\n\r\na\0b\n.\r\n.x";
        let chunk = |size: usize| Case {
            recipients: vec![BOB.into(), ALICE.into()],
            mail_parameters: "body=binarymime".into(),
            message: Some(Announced {
                eight_bit: true,
                chunked: true,
                ..announced(size)
            }),
            ..case()
        };
        let good = told(&explainer, chunk(text.len()), text).await;
        let mail = format!(
            "MAIL FROM:<dave@far.example> SIZE={} body=binarymime",
            text.len()
        );
        assert_eq!(said(&good, Stage::Sender), [mail]);
        assert!(
            said(&good, Stage::Message)[0].starts_with("BDAT "),
            "{good:?}"
        );
        let taken = outcomes(&good);
        assert!(taken.iter().all(|(code, _)| *code == 250), "{taken:?}");
        // What is beyond is no command.
        let beyond = [&text[..], b"QUIT\r\n"].concat();
        let told_more = told(&explainer, chunk(text.len()), &beyond).await;
        assert_eq!(outcomes(&told_more), taken);
        // What is far too large is not read.
        let huge = told(&explainer, chunk(100_000_000), b"").await;
        let refused = outcomes(&huge);
        assert!(refused.iter().all(|(code, _)| *code != 250), "{refused:?}");
        // It ends before what was announced.
        let mut stream = begin(&explainer, chunk(text.len() + 1)).await.unwrap();
        stream.write_all(text).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
    }
}

#[tokio::test]
async fn room_is_looked_for_beside_those_named_before() {
    let world = World::new();
    // Of those who live there, one is as full as can be when another gets it, too.
    let one = "info@strict.example";
    for (recipients, codes) in [
        (vec![BOB, ALICE], vec![250, 250]),
        (vec![one, BOB], vec![250, 452]),
        (vec![BOB, one], vec![250, 250]),
        (vec!["list@example.org", ALICE], vec![250, 452]),
    ] {
        let case = Case {
            recipients: recipients.iter().map(ToString::to_string).collect(),
            ..case()
        };
        let told = told(&usual(&world), case, b"").await;
        let heard: Vec<u16> = outcomes(&told).iter().map(|(code, _)| *code).collect();
        assert_eq!(heard, codes, "{recipients:?}");
    }
    assert!(world.store.held.lock().unwrap().is_empty());
}
