//! Requests as clients make them, good and bad, over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test stops at what it did not expect, and plays the world around apid"
)]

mod world;

use std::time::Duration;

use apid::session::{Patience, Visitor, converse};
use daemon::limits::Limits;
use daemon::port::Begins;
use ipc::Refusal;
use sys::packet::PacketListener;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use world::{ROOMY, TOKEN, World, exchange, get, is_closed, login, read, secure};

const ALICE: &str = r#"{"username":"alice","password":"p\"ass","domain":"example.test"}"#;

fn hasty() -> Patience {
    Patience {
        head: Duration::from_millis(300),
        body: Duration::from_millis(300),
        handshake: Duration::from_millis(300),
        ..Patience::default()
    }
}

#[tokio::test]
async fn healthz_is_ok_while_deliverd_answers() {
    let world = World::new();
    let mut stream = world.dial().await;
    let response = exchange(&mut stream, get("/healthz")).await;
    assert_eq!(
        (response.status, response.body.as_str()),
        (200, r#"{"status":"ok"}"#)
    );
    assert_eq!(response.field("content-type"), Some("application/json"));
    assert_eq!(response.field("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn healthz_is_503_within_two_seconds_and_a_bit_when_deliverd_is_silent() {
    let world = World::new();
    *world.deliverd.silent.lock().unwrap() = true;
    let mut stream = world.dial().await;
    let asked = std::time::Instant::now();
    let response = exchange(&mut stream, get("/healthz")).await;
    assert!(asked.elapsed() < Duration::from_millis(3500));
    assert_eq!(response.status, 503);
    assert_eq!(response.json()["status"], "unavailable");
    assert!(response.error().starts_with("deliverd"), "{response:?}");
}

#[tokio::test]
async fn healthz_is_503_when_deliverd_is_not_there_and_200_once_it_is() {
    let world = World::without_deliverd(Patience::default(), ROOMY);
    let mut stream = world.dial().await;
    let response = exchange(&mut stream, get("/healthz")).await;
    assert_eq!(response.status, 503);
    assert_eq!(response.error(), "deliverd does not answer");
    let listener = PacketListener::bind(&world.socket()).unwrap();
    let deliverd = std::sync::Arc::clone(&world.deliverd);
    tokio::spawn(daemon::channel::serve(
        listener,
        deliverd,
        world.stop.clone(),
    ));
    assert_eq!(exchange(&mut stream, get("/healthz")).await.status, 200);
}

#[tokio::test]
async fn healthz_passes_on_why_the_store_is_not_usable() {
    let world = World::new();
    *world.deliverd.refusal.lock().unwrap() = Some(Refusal::DiskFull);
    let response = exchange(&mut world.dial().await, get("/healthz")).await;
    assert_eq!(response.status, 503);
    assert_eq!(response.error(), "deliverd: out of disk space");
}

#[tokio::test]
async fn a_login_gets_a_token() {
    let world = World::new();
    let response = exchange(&mut world.dial().await, login(ALICE)).await;
    assert_eq!(response.status, 200, "{response:?}");
    let expected = serde_json::json!({
        "token": TOKEN, "username": "alice", "domain": "example.test", "expires_in": 3600
    });
    assert_eq!(response.json(), expected);
    assert_eq!(response.field("cache-control"), Some("no-store"));
    assert_eq!(*world.deliverd.clients.lock().unwrap(), ["127.0.0.1"]);
}

#[tokio::test]
async fn a_full_address_needs_no_domain_and_may_come_with_the_same_one() {
    let world = World::new();
    let mut stream = world.dial().await;
    for body in [
        r#"{"username":"alice@example.test","password":"p\"ass"}"#,
        r#"{"username":"alice@example.test","password":"p\"ass","domain":null}"#,
        r#"{"username":"alice@Example.Test","password":"p\"ass","domain":"EXAMPLE.test"}"#,
        " \r\n{\"password\":\"p\\u0022ass\",\"username\":\"alice@example.test\"}\n",
    ] {
        let response = exchange(&mut stream, login(body)).await;
        assert_eq!(response.status, 200, "{body}: {response:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_get_the_same_401() {
    let world = World::new();
    let mut stream = world.dial().await;
    let wrong = exchange(&mut stream, login(&ALICE.replace("p\\\"ass", "other"))).await;
    let unknown = exchange(&mut stream, login(&ALICE.replace("alice", "mallory"))).await;
    assert_eq!(wrong.status, 401);
    assert_eq!(wrong.error(), "wrong user name or password");
    assert_eq!(
        wrong.field("www-authenticate"),
        Some("Bearer realm=\"rmail\"")
    );
    assert_eq!((wrong.status, wrong.body), (unknown.status, unknown.body));
}

#[tokio::test]
async fn too_many_failures_get_429_and_how_long_to_wait() {
    let world = World::new();
    *world.deliverd.refusal.lock().unwrap() = Some(Refusal::TooManyFailures);
    let response = exchange(&mut world.dial().await, login(ALICE)).await;
    assert_eq!(
        (response.status, response.field("retry-after")),
        (429, Some("600"))
    );
    assert!(response.error().contains("too many failed logins"));
}

#[tokio::test]
async fn a_busy_or_absent_deliverd_gets_503_and_never_401() {
    let world = World::new();
    for refusal in [
        Refusal::Busy,
        Refusal::ShuttingDown,
        Refusal::StorageFault,
        Refusal::NotFound,
    ] {
        *world.deliverd.refusal.lock().unwrap() = Some(refusal);
        let response = exchange(&mut world.dial().await, login(ALICE)).await;
        assert_eq!(
            (response.status, response.field("retry-after")),
            (503, Some("5"))
        );
    }
}

#[tokio::test]
async fn what_is_no_login_gets_400_with_a_reason_that_quotes_no_value() {
    let world = World::new();
    let mut stream = world.dial().await;
    let deep = format!("{{\"username\":{}", "[".repeat(8000));
    let deep_unknown = format!("{{\"x\":{}", "{\"x\":".repeat(2000));
    for (body, word) in [
        ("", "JSON object"),
        ("null", "JSON object"),
        ("[\"alice\",\"hunter2\",\"example.test\"]", "JSON object"),
        ("{", "not valid JSON"),
        ("{\"username\":\"alice\"}", "\"password\""),
        (
            "{\"username\":\"alice\",\"password\":\"hunter2\",}",
            "not valid JSON",
        ),
        (
            "{\"username\":\"alice\",\"password\":hunter2}",
            "not valid JSON",
        ),
        (
            "{\"username\":\"hunter2\",\"password\":[\"hunter2\"]}",
            "JSON object",
        ),
        ("{\"username\":7,\"password\":\"hunter2\"}", "JSON object"),
        (
            "{\"username\":\"a@b\",\"password\":\"hunter2\",\"hunter2\":1}",
            "nothing else",
        ),
        (
            "{\"username\":\"a@b\",\"password\":\"hunter2\",\"password\":\"hunter2\"}",
            "JSON object",
        ),
        (
            "{\"username\":\"a@b\",\"password\":\"hunter2\"} x",
            "not valid JSON",
        ),
        (
            "{\"username\":\"alice\",\"password\":\"hunter2\"}",
            "username",
        ),
        (
            "{\"username\":\"\",\"password\":\"hunter2\",\"domain\":\"example.test\"}",
            "username",
        ),
        (
            "{\"username\":\"a b\",\"password\":\"hunter2\",\"domain\":\"..\"}",
            "username",
        ),
        (
            "{\"username\":\"a\\r\\nb@c.test\",\"password\":\"hunter2\"}",
            "username",
        ),
        (
            "{\"username\":\"a@b.test\",\"password\":\"hunter2\",\"domain\":\"c.test\"}",
            "different domains",
        ),
        (&deep, "JSON object"),
        (&deep_unknown, "JSON object"),
    ] {
        let response = exchange(&mut stream, login(body)).await;
        assert_eq!(response.status, 400, "{body}: {response:?}");
        assert!(response.error().contains(word), "{body}: {response:?}");
        assert!(!response.body.contains("hunter2"), "{response:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_utf8_gets_400() {
    let world = World::new();
    let mut stream = world.dial().await;
    let mut request = login("{\"username\":\"a@b.test\",\"password\":\"??\"}").into_bytes();
    let at = request.len() - 4;
    request[at] = 0xff;
    assert_eq!(exchange(&mut stream, request).await.status, 400);
}

#[tokio::test]
async fn a_password_longer_than_deliverd_takes_gets_400() {
    let body = format!(
        "{{\"username\":\"alice@example.test\",\"password\":\"{}\"}}",
        "x".repeat(1025)
    );
    let world = World::new();
    let response = exchange(&mut world.dial().await, login(&body)).await;
    assert_eq!(response.status, 400);
    assert!(response.error().contains("1024 bytes"));
}

#[tokio::test]
async fn another_content_type_or_coding_gets_415() {
    let world = World::new();
    let mut stream = world.dial().await;
    let json = "Content-Type: application/json\r\n";
    for (from, to) in [
        (json, ""),
        (json, "Content-Type: application/x-www-form-urlencoded\r\n"),
        (json, "Content-Type: application/jsonp\r\n"),
        (json, "Content-Type: \u{e9}\r\n"),
        (
            json,
            "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
        ),
    ] {
        let response = exchange(&mut stream, login(ALICE).replace(from, to)).await;
        assert_eq!(response.status, 415, "{to}");
        assert!(response.error().starts_with("send the login"));
    }
    let fine = login(ALICE).replace(json, "Content-Type: Application/JSON; charset=utf-8\r\n");
    assert_eq!(exchange(&mut stream, fine).await.status, 200);
}

#[tokio::test]
async fn a_body_over_the_limit_gets_413_announced_or_not() {
    let world = World::new();
    let long = format!("{{\"username\":\"{}", "x".repeat(16 * 1024));
    let response = exchange(&mut world.dial().await, login(&long)).await;
    assert_eq!(response.status, 413);
    assert!(response.error().contains("16384 bytes"));
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let chunked = format!(
        "POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        chunk.repeat(5)
    );
    assert_eq!(exchange(&mut world.dial().await, chunked).await.status, 413);
}

#[tokio::test]
async fn a_body_may_come_in_chunks_and_after_100_continue() {
    let world = World::new();
    let mut stream = world.dial().await;
    let head = "POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(exchange(&mut stream, head).await.status, 100);
    let (first, second) = ALICE.split_at(20);
    let body = format!(
        "{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
        first.len(),
        second.len()
    );
    assert_eq!(exchange(&mut stream, body).await.status, 200);
}

#[tokio::test]
async fn an_unknown_path_gets_404_with_what_there_is() {
    let world = World::new();
    let mut stream = world.dial().await;
    for path in [
        "/",
        "/healthz/",
        "/auth/login/x",
        "/../etc/passwd",
        "/%00",
        "//healthz",
    ] {
        let response = exchange(&mut stream, get(path)).await;
        assert_eq!(response.status, 404, "{path}");
        assert!(response.error().contains("/auth/login"));
    }
}

#[tokio::test]
async fn a_wrong_method_gets_405_with_those_there_are() {
    let world = World::new();
    let mut stream = world.dial().await;
    let response = exchange(&mut stream, get("/auth/login")).await;
    assert_eq!(
        (response.status, response.field("allow")),
        (405, Some("POST"))
    );
    assert!(response.error().starts_with("GET is not a method"));
    let delete = get("/healthz").replace("GET", "DELETE");
    let response = exchange(&mut stream, delete).await;
    assert_eq!(
        (response.status, response.field("allow")),
        (405, Some("GET,HEAD"))
    );
}

#[tokio::test]
async fn a_head_that_is_too_long_gets_431_and_the_connection_ends() {
    let world = World::new();
    let long = get("/healthz").replace(
        "\r\n\r\n",
        &format!("\r\nX: {}\r\n\r\n", "x".repeat(20_000)),
    );
    let many = get("/healthz").replace("\r\n\r\n", &format!("\r\n{}\r\n", "X: x\r\n".repeat(65)));
    for request in [long, many] {
        let mut stream = world.dial().await;
        assert_eq!(exchange(&mut stream, request).await.status, 431);
        assert!(is_closed(&mut stream).await);
    }
}

#[tokio::test]
async fn a_path_that_is_too_long_is_refused_and_the_connection_ends() {
    let world = World::new();
    let mut stream = world.dial().await;
    let response = exchange(&mut stream, get(&format!("/{}", "x".repeat(20_000)))).await;
    assert!((400..500).contains(&response.status), "{response:?}");
    assert!(is_closed(&mut stream).await);
}

#[tokio::test]
async fn what_is_no_http_gets_400_and_the_connection_ends() {
    let world = World::new();
    for bytes in [
        "EHLO example.com\r\n\r\n",
        "GET /healthz\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03",
        "POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        "POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n",
    ] {
        let mut stream = world.dial().await;
        let response = exchange(&mut stream, bytes).await;
        assert!(
            [400, 505].contains(&response.status),
            "{bytes:?}: {response:?}"
        );
        assert!(is_closed(&mut stream).await, "{bytes:?}");
    }
}

#[tokio::test]
async fn http_2_is_not_spoken() {
    let world = World::new();
    let mut stream = world.dial().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    stream.write_all(preface).await.unwrap();
    assert!(is_closed(&mut stream).await);
}

// RFC 9112 §6.1: with both, a proxy in front and we could see different requests.
#[tokio::test]
async fn length_and_chunking_together_smuggle_nothing() {
    let world = World::new();
    let mut stream = world.dial().await;
    let inner = get("/healthz");
    let request = format!(
        "POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
        inner.len() + 5
    );
    let response = exchange(&mut stream, request).await;
    assert_eq!(response.status, 400);
    assert!(
        is_closed(&mut stream).await,
        "the inner request was answered"
    );
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let world = World::new();
    let mut stream = world.dial().await;
    stream.set_nodelay(true).unwrap();
    for byte in login(ALICE).bytes() {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(read(&mut stream).await.status, 200);
}

#[tokio::test]
async fn requests_in_one_packet_are_answered_in_order() {
    let world = World::new();
    let mut stream = world.dial().await;
    let three = [get("/healthz"), get("/nothing"), login(ALICE)].concat();
    stream.write_all(three.as_bytes()).await.unwrap();
    for status in [200, 404, 200] {
        assert_eq!(read(&mut stream).await.status, status);
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let world = World::with(hasty(), ROOMY);
    let mut idle = world.dial().await;
    let mut slow = world.dial().await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHos")
        .await
        .unwrap();
    assert!(is_closed(&mut idle).await);
    assert!(is_closed(&mut slow).await);
}

#[tokio::test]
async fn a_body_that_does_not_come_gets_408() {
    let world = World::with(hasty(), ROOMY);
    let mut stream = world.dial().await;
    let request = login(ALICE);
    let response = exchange(&mut stream, &request[..request.len() - 10]).await;
    assert_eq!(response.status, 408);
    assert!(response.error().contains("too long"));
}

#[tokio::test]
async fn a_connection_ends_after_its_life_even_when_requests_keep_coming() {
    let patience = Patience {
        life: Duration::from_millis(300),
        ..Patience::default()
    };
    let world = World::with(patience, ROOMY);
    let mut stream = world.dial().await;
    let begun = std::time::Instant::now();
    while stream.write_all(get("/healthz").as_bytes()).await.is_ok() {
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "the connection lives on"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn more_connections_than_allowed_are_told_so() {
    let limits = Limits {
        total: 0,
        per_address: 1,
    };
    let world = World::with(Patience::default(), limits);
    let port = world.open(Begins::Clear).await;
    let mut first = TcpStream::connect(port).await.unwrap();
    assert_eq!(exchange(&mut first, get("/healthz")).await.status, 200);
    let mut second = TcpStream::connect(port).await.unwrap();
    let response = read(&mut second).await;
    assert_eq!(response.status, 503);
    assert!(
        response
            .error()
            .contains("too many connections from your address")
    );
    drop(first);
    // The place is free once the first connection's task noticed its end.
    let begun = std::time::Instant::now();
    loop {
        let mut third = TcpStream::connect(port).await.unwrap();
        let answered = exchange(&mut third, get("/healthz")).await.status;
        if answered == 200 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn clear_text_from_another_machine_gets_403_whatever_it_asks() {
    let world = World::new();
    for request in [get("/healthz"), login(ALICE), get("/nothing")] {
        let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
        let visitor = Visitor {
            address: "192.0.2.1".parse().unwrap(),
            session: 1,
        };
        let (house, stop) = (std::sync::Arc::clone(&world.house), world.stop.clone());
        tokio::spawn(async move {
            let closed = house.routes.closed.clone();
            converse(theirs, visitor, closed, &house.patience, &stop).await;
        });
        let response = exchange(&mut ours, request).await;
        assert_eq!(response.status, 403);
        assert!(response.error().contains("use HTTPS"), "{response:?}");
        assert!(is_closed(&mut ours).await);
    }
    assert!(world.deliverd.clients.lock().unwrap().is_empty());
}

#[tokio::test]
async fn https_answers_and_a_reloaded_certificate_is_shown_to_new_connections() {
    let world = World::new();
    let port = world.open(Begins::Tls).await;
    let dial = || async { TcpStream::connect(port).await.unwrap() };
    let mut old = secure(&world.ca, dial().await).await.unwrap();
    assert_eq!(exchange(&mut old, login(ALICE)).await.status, 200);
    world.renew_certificate();
    assert!(secure(&world.ca, dial().await).await.is_err());
    world.house.certificates.reload().unwrap();
    let mut new = secure(&world.ca, dial().await).await.unwrap();
    assert_eq!(exchange(&mut new, get("/healthz")).await.status, 200);
    assert_eq!(exchange(&mut old, get("/healthz")).await.status, 200);
}

#[tokio::test]
async fn a_handshake_that_does_not_come_ends_the_connection() {
    let world = World::with(hasty(), ROOMY);
    let port = world.open(Begins::Tls).await;
    let mut silent = TcpStream::connect(port).await.unwrap();
    assert!(is_closed(&mut silent).await);
    let mut clear = TcpStream::connect(port).await.unwrap();
    clear.write_all(get("/healthz").as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut clear, &mut rest).await;
    assert!(!rest.starts_with(b"HTTP"));
}

#[tokio::test]
async fn a_stop_lets_the_running_request_end_and_takes_no_new_one() {
    let world = World::new();
    *world.deliverd.pause.lock().unwrap() = Duration::from_millis(500);
    let port = world.open(Begins::Clear).await;
    let mut busy = TcpStream::connect(port).await.unwrap();
    let mut idle = TcpStream::connect(port).await.unwrap();
    busy.write_all(login(ALICE).as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.sender.stop();
    assert!(is_closed(&mut idle).await);
    assert_eq!(read(&mut busy).await.status, 200);
    assert!(is_closed(&mut busy).await);
    assert!(TcpStream::connect(port).await.is_err());
}
