//! The doors of the receiving server beside port 25: LMTP over its socket file, connections behind proxies, and what an
//! idle one costs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use serde_json::json;
use system_tests::{Options, System, skip_without};

#[test]
fn pythons_lmtp_client_is_told_about_each_recipient() {
    skip_without!("python3");
    let socket = json!({"smtp": {"lmtp_socket_user": "nobody"}});
    let system = System::start(Options::alice().config(&socket));
    let script = r#"
import smtplib
with smtplib.LMTP(f"{run_dir}/lmtp.sock") as client:
    refused = client.sendmail("carol@outside.test", [ALICE, "nobody@example.test", "x@far.test"], letter("over the socket"))
    assert {address: code for address, (code, _) in refused.items()} == {"nobody@example.test": 550, "x@far.test": 550}, refused
    assert client.has_extn("chunking") and not client.has_extn("auth") and not client.has_extn("starttls"), client.esmtp_features
"#;
    system.python(script, &json!({}));
    let messages = system.account("alice@example.test").messages("INBOX");
    assert_eq!(messages.len(), 1);
    let text = String::from_utf8(messages[0].bytes()).unwrap();
    assert!(text.contains(" with LMTP id "), "{text}");
    let file = std::fs::metadata(system.home().run_dir().join("lmtp.sock")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    if system.home().separates_users() {
        assert_ne!(file.uid(), 0, "root owns the socket of nobody");
        assert_ne!(file.uid(), system.home().uid("smtpd"));
    }
}

#[test]
fn without_a_user_or_a_port_there_is_no_lmtp() {
    let system = System::start(Options::without_users());
    assert!(!system.home().run_dir().join("lmtp.sock").exists());
}

#[test]
fn only_a_listed_proxy_speaks_for_others() {
    // It talks at once.
    let proxies = json!({"smtp": {"proxies": ["127.0.0.1"], "limits": {"greeting_delay_ms": 0}}});
    let system = System::start(Options::alice().config(&proxies));
    let converse = |door: &str, start: &[u8]| {
        let mut stream = TcpStream::connect(system.address(door)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let session =
            b"EHLO x.test\r\nMAIL FROM:<carol@outside.test>\r\nRCPT TO:<alice@example.test>\r\n\
BDAT 14 LAST\r\nSubject: x\r\n\r\nQUIT\r\n";
        stream.write_all(&[start, session].concat()).unwrap();
        let mut said = String::new();
        // A reset instead of an end is an end, too.
        let _ = stream.read_to_string(&mut said);
        said
    };
    let header = b"PROXY TCP6 2001:db8::7 ::1 50000 25\r\n";
    let said = converse("smtp", header);
    assert!(said.contains("250 2.0.0 accepted"), "{said}");
    let messages = system.account("alice@example.test").messages("INBOX");
    let text = String::from_utf8(messages[0].bytes()).unwrap();
    assert!(text.contains("([IPv6:2001:db8::7])"), "{text}");
    assert_eq!(converse("smtp", b""), "", "a listed proxy without a header");
    let said = converse("submission", header);
    assert!(said.contains("500 5.5.1"), "{said}");
}

/// Resident memory of a process in bytes.
fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

#[test]
fn before_its_message_a_connection_costs_less_than_32_kib() {
    const COUNT: u64 = 400;
    let limits = json!({"limits": {"connections_per_address": 0}});
    let system = System::start(Options::alice().config(&limits));
    let pid = system.pid("smtpd").unwrap();
    let open = |count: u64| -> Vec<TcpStream> {
        (0..count)
            .map(|_| {
                let mut stream = TcpStream::connect(system.address("smtp")).unwrap();
                stream
                    .set_read_timeout(Some(Duration::from_secs(20)))
                    .unwrap();
                // All that a client can have lying there: a transaction, replies, and a line that does not end.
                let long = format!("NOOP {}", "x".repeat(2000));
                let session =
                    format!("EHLO x.test\r\nMAIL FROM:<carol@outside.test>\r\nNOOP last\r\n{long}");
                stream.write_all(session.as_bytes()).unwrap();
                let mut said = Vec::new();
                let mut piece = [0; 1024];
                while !said.ends_with(b"250 2.0.0 ok\r\n") {
                    let read = stream.read(&mut piece).unwrap();
                    assert!(read > 0, "{}", String::from_utf8_lossy(&said));
                    said.extend(&piece[..read]);
                }
                stream
            })
            .collect()
    };
    // What is allocated once for all is there already.
    let early = open(20);
    let before = resident(pid);
    let late = open(COUNT);
    let each = resident(pid).saturating_sub(before) / COUNT;
    drop((early, late));
    println!("{each} bytes a connection");
    assert!(each < 32 * 1024, "{each} bytes a connection");
}
