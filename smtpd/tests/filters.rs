//! Mail goes through filters, and through filters that do not work.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::config::{Filter, OnFailure, Oversize};
use daemon::port::Begins;
use smtp::server::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use world::{Client, World};

fn packet(kind: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() + 1).unwrap();
    [&length.to_be_bytes()[..], &[kind], data].concat()
}

fn terms(actions: u32, steps: u32) -> Vec<u8> {
    let words = [6, actions, steps].into_iter();
    packet(b'O', &words.flat_map(u32::to_be_bytes).collect::<Vec<_>>())
}

/// What a filter sends at a stage, instead of "go on".
#[derive(Clone)]
enum Act {
    Say(Vec<u8>),
    HangUp,
    Wait,
}

/// All that a filter was told: kinds and data.
type Told = Arc<Mutex<Vec<(u8, Vec<u8>)>>>;

impl World {
    /// A filter that does something at one stage, `O` being the first.
    fn add_filter(&mut self, name: &str, on_failure: OnFailure, stage: u8, act: Act) -> Told {
        let listener = UnixListener::bind(self.socket(name)).unwrap();
        let told = Told::default();
        let all = Arc::clone(&told);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&all), stage, act.clone()));
            }
        });
        self.filters.push(filter(name, on_failure));
        told
    }

    async fn visit_port(&mut self, role: Role) -> Client<TcpStream> {
        let address = self.listen(role, Begins::Clear).await;
        let mut client = self.connect(address).await;
        let hello = match role {
            Role::Delivery => "LHLO client.example",
            Role::Exchange | Role::Submission => "EHLO client.example",
        };
        client.ask(hello, "250").await;
        client
    }
}

fn filter(name: &str, on_failure: OnFailure) -> Filter {
    Filter {
        name: name.into(),
        // Here relayd does not read the configuration.
        address: format!("unix:/nowhere/{name}").try_into().unwrap(),
        listeners: vec![
            daemon::config::FilterListener::Mx,
            daemon::config::FilterListener::Lmtp,
        ],
        on_failure,
        connect_timeout_seconds: 1.try_into().unwrap(),
        timeout_seconds: 1.try_into().unwrap(),
        max_message_size: 100_000.try_into().unwrap(),
        oversize: Oversize::Accept,
    }
}

async fn answer(mut stream: UnixStream, told: Told, stage: u8, act: Act) {
    loop {
        let mut head = [0; 5];
        if stream.read_exact(&mut head).await.is_err() {
            return;
        }
        let (length, kind) = head.split_at(4);
        let length = u32::from_be_bytes(length.try_into().unwrap());
        let mut data = vec![0; length as usize - 1];
        stream.read_exact(&mut data).await.unwrap();
        let kind = kind[0];
        told.lock().unwrap().push((kind, data));
        let said = match (kind, &act) {
            (kind, Act::Say(bytes)) if kind == stage => bytes.clone(),
            (kind, Act::HangUp) if kind == stage => return,
            (kind, Act::Wait) if kind == stage => continue,
            (b'O', _) => terms(0x1df, 0),
            // Macros, and the end, want no answer.
            (b'D' | b'A' | b'Q', _) => continue,
            _ => packet(b'c', b""),
        };
        if stream.write_all(&said).await.is_err() {
            return;
        }
    }
}

fn kinds(told: &Told) -> String {
    let told = told.lock().unwrap();
    let kinds = told.iter().map(|(kind, _)| char::from(*kind));
    kinds.filter(|kind| *kind != 'D').collect()
}

async fn deliver(client: &mut Client<TcpStream>, text: &str) -> String {
    client.begin("a@example.com", &["bob@example.org"]).await;
    client.send(&format!("{text}\r\n.\r\n")).await;
    client.hear().await
}

#[tokio::test]
async fn a_filter_is_told_everything_in_order_and_not_our_trace() {
    let mut world = World::new();
    let told = world.add_filter("one", OnFailure::TempFail, 0, Act::Wait);
    let mut client = world.visit().await;
    let reply = deliver(&mut client, "Subject: hi\r\n there\r\n\r\nbody").await;
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(kinds(&told)[..9], *"OCHMRTLNB");
    let all = told.lock().unwrap().clone();
    let data = |kind: u8| {
        let (_, data) = all.iter().find(|(one, _)| *one == kind).unwrap();
        String::from_utf8(data.clone()).unwrap()
    };
    assert_eq!(data(b'C'), "[127.0.0.1]\x004\0\x00127.0.0.1\0");
    assert_eq!(data(b'H'), "client.example\0");
    assert_eq!(data(b'M'), "<a@example.com>\0");
    assert_eq!(data(b'R'), "<bob@example.org>\0");
    assert_eq!(data(b'L'), "Subject\0hi\n there\0");
    assert_eq!(data(b'B'), "body\r\n");
    let macros = data(b'D');
    assert!(macros.contains("j\0mx.example.org\0") && macros.contains("{daemon_name}\0mx\0"));
    let text = world.store.kept()[0].text();
    assert!(
        text.contains("Return-Path: <a@example.com>\r\nReceived: from client.example"),
        "{text}"
    );
    assert!(
        text.ends_with("\r\nSubject: hi\r\n there\r\n\r\nbody\r\n"),
        "{text}"
    );
}

#[tokio::test]
async fn a_refusal_comes_at_its_stage_in_the_words_of_the_filter() {
    for (stage, words) in [
        (b'C', "MAIL"),
        (b'H', "MAIL"),
        (b'M', "MAIL"),
        (b'R', "RCPT"),
        (b'T', "DATA"),
        (b'L', "TEXT"),
        (b'N', "TEXT"),
        (b'B', "TEXT"),
        (b'E', "TEXT"),
    ] {
        let mut world = World::new();
        let said = packet(b'y', b"554 5.7.9 not this\0");
        world.add_filter("one", OnFailure::Accept, stage, Act::Say(said));
        let mut client = world.visit().await;
        let expected = |step| {
            if step == words {
                "554 5.7.9 not this"
            } else {
                ""
            }
        };
        client
            .ask("MAIL FROM:<a@example.com>", expected("MAIL"))
            .await;
        if words != "MAIL" {
            client
                .ask("RCPT TO:<bob@example.org>", expected("RCPT"))
                .await;
        }
        if words == "DATA" || words == "TEXT" {
            client.ask("DATA", expected("DATA")).await;
        }
        if words == "TEXT" {
            client.ask("A: b\r\n\r\nc\r\n.", "554 5.7.9 not this").await;
        }
        client.ask("NOOP", "250").await;
        assert!(world.store.kept().is_empty());
    }
}

#[tokio::test]
async fn a_filter_that_breaks_down_at_any_stage_is_dealt_with_as_its_policy_says() {
    let garbage = Act::Say(packet(b'Z', b"\xff\0garbage"));
    let endless = Act::Say(vec![0xff; 4]);
    let empty = Act::Say(vec![0; 4]);
    for act in [Act::HangUp, Act::Wait, garbage, endless, empty] {
        for stage in *b"OCHMRTLNBE" {
            let mut world = World::new();
            world.add_filter("one", OnFailure::Accept, stage, act.clone());
            let mut client = world.visit().await;
            let reply = deliver(&mut client, "A: b\r\n\r\nc").await;
            assert!(reply.starts_with("250"), "{}: {reply}", char::from(stage));
            assert!(world.store.kept()[0].text().ends_with("A: b\r\n\r\nc\r\n"));
            if matches!(act, Act::Wait) && stage != b'E' {
                // The others cost a second each, and are no different.
                continue;
            }
            world.filters[0].on_failure = OnFailure::TempFail;
            let mut client = world.visit().await;
            client
                .send("MAIL FROM:<a@example.com>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n")
                .await;
            let mut last = String::new();
            for _ in 0..3 {
                last = client.hear().await;
            }
            if last.starts_with("354") {
                client.send("A: b\r\n\r\nc\r\n.\r\n").await;
                last = client.hear().await;
                assert!(last.starts_with("451 4.7.1 a filter"), "{last}");
            }
            assert!(!last.starts_with('2'), "{}: {last}", char::from(stage));
            assert_eq!(world.store.kept().len(), 1);
        }
    }
}

#[tokio::test]
async fn mail_is_refused_for_good_where_that_is_the_policy() {
    let mut world = World::new();
    world.filters.push(filter("nowhere", OnFailure::Reject));
    let mut client = world.visit().await;
    client.ask("MAIL FROM:<a@example.com>", "550 5.7.1").await;
}

#[tokio::test]
async fn a_recipient_a_filter_refuses_gets_nothing_and_the_others_do() {
    let mut world = World::new();
    let listener = UnixListener::bind(world.socket("one")).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut from, mut to) = stream.into_split();
        loop {
            let mut head = [0; 5];
            if from.read_exact(&mut head).await.is_err() {
                return;
            }
            let length = u32::from_be_bytes(head[..4].try_into().unwrap());
            let mut data = vec![0; length as usize - 1];
            from.read_exact(&mut data).await.unwrap();
            let said = match head[4] {
                b'O' => terms(0, 0),
                b'D' | b'A' | b'Q' => continue,
                b'R' if data.starts_with(b"<list@") => packet(b'r', b""),
                _ => packet(b'c', b""),
            };
            to.write_all(&said).await.unwrap();
        }
    });
    world.filters.push(filter("one", OnFailure::TempFail));
    let mut client = world.visit().await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    client.ask("RCPT TO:<alice@example.org>", "250").await;
    client.ask("RCPT TO:<list@example.org>", "550 5.7.1").await;
    client.ask("DATA", "354").await;
    client.ask("A: b\r\n.", "250").await;
    assert_eq!(world.store.kept()[0].recipients, ["alice@example.org"]);
    assert!(world.queue.kept().is_empty());
}

fn changes(all: &[(u8, &[u8])]) -> Act {
    let all = all.iter().flat_map(|(kind, data)| packet(*kind, data));
    Act::Say(all.chain(packet(b'c', b"")).collect())
}

#[tokio::test]
async fn a_filter_changes_the_message_and_the_next_one_sees_it() {
    let mut world = World::new();
    let first = changes(&[
        (b'h', b"X-Added\0by one\0"),
        (b'm', b"\0\0\0\x01Subject\0[spam] hi\0"),
        (b'b', b"other\n"),
        (b'b', b"text\r\n"),
    ]);
    world.add_filter("one", OnFailure::TempFail, b'E', first);
    let told = world.add_filter("two", OnFailure::TempFail, 0, Act::Wait);
    let mut client = world.visit().await;
    let reply = deliver(&mut client, "Subject: hi\r\n\r\nbody").await;
    assert!(reply.starts_with("250"), "{reply}");
    let text = world.store.kept()[0].text();
    let end = "\r\nSubject: [spam] hi\r\nX-Added: by one\r\n\r\nother\r\ntext\r\n";
    assert!(text.ends_with(end), "{text}");
    let seen = told.lock().unwrap().clone();
    assert!(seen.contains(&(b'L', b"X-Added\0by one\0".to_vec())));
    assert!(seen.contains(&(b'B', b"other\r\ntext\r\n".to_vec())));
}

#[tokio::test]
async fn a_filter_changes_the_envelope() {
    let mut world = World::new();
    let act = changes(&[
        (b'-', b"<bob@example.org>\0"),
        (b'+', b"<alice@example.org>\0"),
        (b'+', b"<who@example.org>\0"),
        (b'+', b"<dave@far.example>\0"),
        (b'e', b"<other@example.com>\0"),
    ]);
    world.add_filter("one", OnFailure::TempFail, b'E', act);
    let mut client = world.visit().await;
    let reply = deliver(&mut client, "A: b").await;
    assert!(reply.starts_with("250"), "{reply}");
    let (local, remote) = (world.store.kept(), world.queue.kept());
    assert_eq!(local[0].recipients, ["alice@example.org"]);
    assert!(
        local[0]
            .text()
            .starts_with("Return-Path: <other@example.com>\r\n")
    );
    assert_eq!(remote[0].recipients, ["dave@far.example"]);
    let envelope = remote[0].envelope.clone().unwrap();
    // Passed on as an alias would.
    assert_eq!(envelope.reverse_path, "SRS0=other=example.com@example.org");
    world.store.sees_nothing_held().await;
}

#[tokio::test]
async fn what_a_filter_wants_thrown_away_is_taken_and_not_kept() {
    for stage in [b'M', b'R', b'T', b'B', b'E'] {
        let mut world = World::new();
        world.add_filter(
            "one",
            OnFailure::TempFail,
            stage,
            Act::Say(packet(b'd', b"")),
        );
        let mut client = world.visit().await;
        let reply = deliver(&mut client, "A: b\r\n\r\nc").await;
        assert!(reply.starts_with("250"), "{reply}");
        assert!(world.store.kept().is_empty());
        world.store.sees_nothing_held().await;
    }
    let mut world = World::new();
    let act = changes(&[(b'-', b"<bob@example.org>\0")]);
    world.add_filter("one", OnFailure::TempFail, b'E', act);
    let mut client = world.visit().await;
    let reply = deliver(&mut client, "A: b").await;
    assert!(reply.starts_with("250"), "{reply}");
    assert!(world.store.kept().is_empty());
}

#[tokio::test]
async fn lmtp_hears_a_filters_refusal_for_each_recipient() {
    let mut world = World::new();
    world.add_filter(
        "one",
        OnFailure::TempFail,
        b'E',
        Act::Say(packet(b't', b"")),
    );
    let mut client = world.visit_port(Role::Delivery).await;
    client
        .begin("a@example.com", &["bob@example.org", "alice@example.org"])
        .await;
    client.ask("A: b\r\n.", "451 4.7.1").await;
    client.expect("451 4.7.1").await;
    client.ask("NOOP", "250").await;
}

#[tokio::test]
async fn a_port_without_filters_asks_none() {
    let mut world = World::new();
    let told = world.add_filter("one", OnFailure::TempFail, 0, Act::Wait);
    let mut client = world.visit_port(Role::Submission).await;
    client.ask("MAIL FROM:<a@example.com>", "530").await;
    assert_eq!(kinds(&told), "");
}

#[tokio::test]
async fn a_message_larger_than_a_filter_wants_to_see_passes_it_by() {
    let mut world = World::new();
    let told = world.add_filter(
        "one",
        OnFailure::TempFail,
        b'E',
        Act::Say(packet(b'r', b"")),
    );
    let mut client = world.visit().await;
    let large = format!("A: b\r\n\r\n{}", "0123456789\r\n".repeat(10_000));
    let reply = deliver(&mut client, large.trim_end()).await;
    assert!(reply.starts_with("250"), "{reply}");
    assert!(world.store.kept()[0].text().ends_with(&large));
    assert!(!kinds(&told).contains('E'));
}

/// A text of so many bytes, without the CRLF that ends it.
fn of_size(size: usize) -> String {
    let head = "A: b\r\n\r\n";
    let lines = "0123456789\r\n".repeat(size / 12);
    let text: String = head.chars().chain(lines.chars()).take(size - 4).collect();
    let text = text.trim_end().to_owned();
    let missing = size - 2 - text.len();
    text + &"x".repeat(missing)
}

#[tokio::test]
async fn a_message_larger_than_a_filter_sees_is_dealt_with_as_its_policy_says() {
    for (oversize, expected) in [
        (Oversize::Accept, "250"),
        (
            Oversize::TempFail,
            "451 4.3.4 a filter of this server can check no more than 2000 bytes",
        ),
        (
            Oversize::Reject,
            "552 5.3.4 a filter of this server can check no more than 2000 bytes",
        ),
    ] {
        let mut world = World::new();
        let told = world.add_filter("one", OnFailure::Accept, 0, Act::Wait);
        world.filters[0].max_message_size = 2000.try_into().unwrap();
        world.filters[0].oversize = oversize;
        let mut client = world.visit().await;
        let reply = deliver(&mut client, &of_size(2000)).await;
        assert!(reply.starts_with("250"), "{reply}");
        assert!(kinds(&told).contains('E'));
        told.lock().unwrap().clear();
        // The last one is not even held to its end.
        for size in [2001, 9000] {
            let reply = deliver(&mut client, &of_size(size)).await;
            assert!(reply.starts_with(expected), "{size} {reply}");
            assert!(!kinds(&told).contains('E'));
        }
        let kept = if oversize == Oversize::Accept { 3 } else { 1 };
        assert_eq!(world.store.kept().len(), kept);
        client.ask("NOOP", "250").await;
        world.store.sees_nothing_held().await;
    }
}

#[tokio::test]
async fn each_filter_has_its_own_size_and_policy_and_who_wants_no_text_has_none() {
    let mut world = World::new();
    world.add_filter("small", OnFailure::Accept, 0, Act::Wait);
    let large = world.add_filter("large", OnFailure::Accept, 0, Act::Wait);
    // This one wants to hear no more at MAIL.
    let leaves = Act::Say(packet(b'a', b""));
    world.add_filter("leaves", OnFailure::Accept, b'M', leaves);
    let sizes = [2000, 4000, 1024];
    for (filter, size) in world.filters.iter_mut().zip(sizes) {
        filter.max_message_size = size.try_into().unwrap();
        filter.oversize = Oversize::Reject;
    }
    world.filters[0].oversize = Oversize::Accept;
    let mut client = world.visit().await;
    let reply = deliver(&mut client, &of_size(4000)).await;
    assert!(reply.starts_with("250"), "{reply}");
    assert!(kinds(&large).contains('E'));
    let reply = deliver(&mut client, &of_size(4001)).await;
    assert!(reply.contains("no more than 4000 bytes"), "{reply}");
    world.filters[0].oversize = Oversize::Reject;
    let mut client = world.visit().await;
    let reply = deliver(&mut client, &of_size(3000)).await;
    assert!(reply.contains("no more than 2000 bytes"), "{reply}");
    assert_eq!(world.store.kept().len(), 1);
}

#[tokio::test]
async fn there_is_an_end_to_the_memory_for_messages() {
    let mut world = World::new();
    world.add_filter("one", OnFailure::TempFail, 0, Act::Wait);
    world.filters[0].max_message_size = (1 << 30).try_into().unwrap();
    let mut first = world.visit().await;
    let mut second = world.visit().await;
    first.begin("a@example.com", &["bob@example.org"]).await;
    second.begin("a@example.com", &["bob@example.org"]).await;
    // The world has four megabytes for all, and a message may have one.
    let piece = "0123456789\r\n".repeat(75_000);
    let mut others = Vec::new();
    for _ in 0..4 {
        let mut other = world.visit().await;
        other.ask("MAIL FROM:<a@example.com>", "250").await;
        other.ask("RCPT TO:<bob@example.org>", "250").await;
        other
            .send(&format!("BDAT {}\r\n{piece}", piece.len()))
            .await;
        other.expect("250").await;
        others.push(other);
    }
    first.send(&piece).await;
    first.ask(".", "451 4.7.1 a filter").await;
    drop(others);
    // What the others had is free as soon as they are gone.
    let mut reply = String::new();
    for _ in 0..100 {
        second.send(&format!("{piece}.\r\n")).await;
        reply = second.hear().await;
        if reply.starts_with("250") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        second.begin("a@example.com", &["bob@example.org"]).await;
    }
    assert!(reply.starts_with("250"), "{reply}");
}

#[tokio::test]
async fn a_filter_is_left_with_a_goodbye() {
    let mut world = World::new();
    let told = world.add_filter("one", OnFailure::TempFail, 0, Act::Wait);
    let mut client = world.visit().await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    client.ask("QUIT", "221").await;
    for _ in 0..500 {
        if kinds(&told) == "OCHMAQ" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{}", kinds(&told));
}
