//! The client machine, told what a server says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::sync::Arc;

use mail::address::{Address, Domain, ReversePath};
use proptest::prelude::*;
use smtp::auth::{Credentials, Secret};
use smtp::client::{
    Action, Client, Config, Envelope, Extensions, Input, Order, Origin, Outcome, Timeouts, Verdict,
};
use smtp::parameter::{MailParameters, RcptParameters};

fn config() -> Config {
    Config {
        hostname: Domain::parse("out.example.org").unwrap(),
        timeouts: Timeouts::default(),
    }
}

fn envelope(recipients: &[&str]) -> Envelope {
    Envelope {
        sender: ReversePath::parse("a@example.org").unwrap(),
        recipients: recipients
            .iter()
            .map(|r| Address::parse(r).unwrap())
            .collect(),
        size: 100,
        eight_bit: false,
        smtputf8: false,
        parameters: MailParameters::default(),
        recipient_parameters: Vec::new(),
    }
}

fn credentials() -> Credentials {
    Credentials {
        user: "alice".into(),
        password: Secret::new("wonderland".into()),
    }
}

/// The driver and the network.
struct Line {
    client: Option<Client>,
    sent: String,
    ready: Option<Extensions>,
    refused: Option<Verdict>,
    results: Option<Vec<(Address, Verdict)>>,
    failed: Option<Verdict>,
    body_wanted: bool,
    tls_wanted: bool,
    closed: bool,
}

impl Line {
    fn open() -> Self {
        let mut line = Self {
            client: Some(Client::connected(config())),
            sent: String::new(),
            ready: None,
            refused: None,
            results: None,
            failed: None,
            body_wanted: false,
            tls_wanted: false,
            closed: false,
        };
        line.run();
        line
    }

    /// Greeted, and told these extensions.
    fn ready(extensions: &[&str]) -> Self {
        let mut line = Self::open();
        line.hears("220 mx.example.net ESMTP\r\n", "EHLO out.example.org\r\n");
        line.tell(&ehlo_reply(extensions));
        assert!(line.ready.is_some());
        line
    }

    fn feed(&mut self, input: Input<'_>) {
        self.client.as_mut().unwrap().feed(input);
        self.run();
    }

    fn run(&mut self) {
        while let Some(action) = self.client.as_mut().unwrap().next() {
            assert!(!self.closed, "{action:?} after Close");
            match action {
                Action::Send(bytes) => self.sent.push_str(str::from_utf8(&bytes).unwrap()),
                Action::Deadline(_) => {}
                Action::Ready(extensions) => self.ready = Some(extensions),
                Action::StartTls => self.tls_wanted = true,
                Action::Refused(verdict) => self.refused = Some(verdict),
                Action::WantBody => self.body_wanted = true,
                Action::Finished(results) => self.results = Some(results),
                Action::Failed(verdict) => self.failed = Some(verdict),
                Action::Close => self.closed = true,
            }
        }
    }

    fn tell(&mut self, bytes: &str) {
        self.feed(Input::Bytes(bytes.as_bytes()));
    }

    fn order(&mut self, order: Order) {
        self.ready = None;
        self.feed(Input::Order(order));
    }

    fn says(&mut self, expected: &str) {
        assert_eq!(std::mem::take(&mut self.sent), expected);
    }

    fn hears(&mut self, reply: &str, answer: &str) {
        self.tell(reply);
        self.says(answer);
    }

    fn outcomes(&mut self) -> Vec<(Outcome, u16)> {
        let results = self.results.take().expect("no results");
        results
            .iter()
            .map(|(_, v)| (v.outcome, v.reply.code()))
            .collect()
    }
}

fn ehlo_reply(extensions: &[&str]) -> String {
    let mut lines = vec!["mx.example.net"];
    lines.extend(extensions);
    let last = lines.len() - 1;
    let marked = lines
        .iter()
        .enumerate()
        .map(|(n, line)| format!("250{}{line}\r\n", if n == last { ' ' } else { '-' }));
    marked.collect()
}

#[test]
fn without_pipelining_each_command_waits_for_its_reply() {
    let mut line = Line::ready(&[]);
    line.order(Order::Deliver(envelope(&[
        "b@example.net",
        "c@example.net",
    ])));
    line.says("MAIL FROM:<a@example.org>\r\n");
    line.hears("250 ok\r\n", "RCPT TO:<b@example.net>\r\n");
    line.hears("250 ok\r\n", "RCPT TO:<c@example.net>\r\n");
    line.hears("550 5.1.1 who?\r\n", "DATA\r\n");
    line.hears("354 go\r\n", "");
    assert!(line.body_wanted);
    line.feed(Input::Body(b".x\ny"));
    line.feed(Input::BodyEnd);
    line.says("..x\r\ny\r\n.\r\n");
    line.tell("250 2.0.0 queued\r\n");
    let results = line.results.as_ref().unwrap();
    assert_eq!(results[1].1.reply.to_string(), "550 5.1.1 who?");
    assert_eq!(results[1].1.origin, Origin::Remote);
    assert_eq!(
        line.outcomes(),
        [(Outcome::Delivered, 250), (Outcome::Permanent, 550)]
    );
    assert!(line.ready.is_some());
}

#[test]
fn with_pipelining_the_envelope_goes_in_one_group() {
    let mut line = Line::ready(&["PIPELINING", "SIZE 1000", "8BITMIME", "SMTPUTF8"]);
    let mut message = envelope(&["b@example.net", "grün@example.net"]);
    message.eight_bit = true;
    line.order(Order::Deliver(message));
    line.says(
        "MAIL FROM:<a@example.org> SIZE=100 BODY=8BITMIME SMTPUTF8\r\n\
         RCPT TO:<b@example.net>\r\nRCPT TO:<grün@example.net>\r\n",
    );
    line.hears("250 ok\r\n250 ok\r\n", "");
    line.hears("250 ok\r\n", "DATA\r\n");
}

#[test]
fn what_the_sender_wants_is_said_to_servers_that_know_it() {
    for (extensions, mail, rcpt) in [
        (
            &["PIPELINING", "DSN", "MT-PRIORITY"][..],
            " RET=HDRS ENVID=x+2By MT-PRIORITY=-3",
            " NOTIFY=NEVER ORCPT=rfc822;list+40c",
        ),
        (&["PIPELINING"][..], "", ""),
    ] {
        let mut line = Line::ready(extensions);
        line.order(Order::Deliver(Envelope {
            parameters: MailParameters::parse("RET=HDRS ENVID=x+2By MT-PRIORITY=-3").unwrap(),
            recipient_parameters: vec![
                RcptParameters::parse("NOTIFY=NEVER ORCPT=rfc822;list+40c").unwrap(),
            ],
            ..envelope(&["b@example.net", "c@example.net"])
        }));
        line.says(&format!(
            "MAIL FROM:<a@example.org>{mail}\r\nRCPT TO:<b@example.net>{}\r\nRCPT TO:<c@example.net>\r\n",
            rcpt.replace("+40", "@")
        ));
    }
}

#[test]
fn mail_that_requires_tls_is_not_said_to_a_server_that_does_not_promise_it() {
    let parameters = MailParameters::parse("REQUIRETLS").unwrap();
    let envelope = Envelope {
        parameters,
        ..envelope(&["b@example.net"])
    };
    let mut line = Line::ready(&["PIPELINING", "REQUIRETLS"]);
    line.order(Order::Deliver(envelope.clone()));
    line.says("MAIL FROM:<a@example.org> REQUIRETLS\r\nRCPT TO:<b@example.net>\r\n");
    let mut line = Line::ready(&["PIPELINING"]);
    line.order(Order::Deliver(envelope));
    line.says("");
    assert_eq!(line.outcomes(), [(Outcome::Permanent, 550)]);
}

#[test]
fn mail_that_comes_back_when_late_goes_to_servers_that_see_to_it() {
    for (extensions, by, outcome) in [
        (&["DELIVERBY"][..], "60;R", Ok(" BY=60;R")),
        (&["DELIVERBY 60"][..], "60;RT", Ok(" BY=60;RT")),
        (&["DELIVERBY 61"][..], "60;R", Err("5.4.7")),
        (&["DELIVERBY 61"][..], "-60;N", Ok(" BY=-60;N")),
        (&[][..], "60;R", Err("5.3.3")),
        (&[][..], "60;N", Ok("")),
    ] {
        let mut line = Line::ready(extensions);
        line.order(Order::Deliver(Envelope {
            parameters: MailParameters::parse(&format!("BY={by}")).unwrap(),
            ..envelope(&["b@example.net"])
        }));
        match outcome {
            Ok(said) => line.says(&format!("MAIL FROM:<a@example.org>{said}\r\n")),
            Err(status) => {
                line.says("");
                let results = line.results.take().unwrap();
                assert!(
                    results[0].1.reply.to_string().contains(status),
                    "{results:?}"
                );
            }
        }
    }
}

#[test]
fn many_recipients_go_in_groups_of_fifty() {
    let mut line = Line::ready(&["PIPELINING"]);
    let recipients: Vec<String> = (0..70).map(|n| format!("r{n}@example.net")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    line.order(Order::Deliver(envelope(&recipients)));
    assert_eq!(line.sent.lines().count(), 51);
    line.sent.clear();
    line.tell(&"250 ok\r\n".repeat(51));
    assert_eq!(line.sent.lines().count(), 20);
    line.sent.clear();
    line.hears(&"250 ok\r\n".repeat(20), "DATA\r\n");
}

#[test]
fn a_refused_sender_is_the_verdict_for_all_and_the_next_message_begins_with_rset() {
    let mut line = Line::ready(&["PIPELINING"]);
    line.order(Order::Deliver(envelope(&[
        "b@example.net",
        "c@example.net",
    ])));
    line.sent.clear();
    line.tell("451 4.7.1 greylisted\r\n503 mail first\r\n503 mail first\r\n");
    assert_eq!(line.outcomes(), [(Outcome::Temporary, 451); 2]);
    line.says("");
    line.order(Order::Deliver(envelope(&["b@example.net"])));
    line.says("RSET\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\n");
    line.hears("250 ok\r\n250 ok\r\n250 ok\r\n", "DATA\r\n");
}

#[test]
fn a_second_message_goes_over_the_same_connection() {
    let mut line = Line::ready(&["PIPELINING"]);
    for _ in 0..2 {
        line.order(Order::Deliver(envelope(&["b@example.net"])));
        line.says("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\n");
        line.hears("250 ok\r\n250 ok\r\n", "DATA\r\n");
        line.tell("354 go\r\n");
        line.feed(Input::BodyEnd);
        line.hears("", ".\r\n");
        line.tell("250 ok\r\n");
        assert_eq!(line.outcomes(), [(Outcome::Delivered, 250)]);
    }
    line.order(Order::Quit);
    line.says("QUIT\r\n");
    line.tell("221 bye\r\n");
    assert!(line.closed);
}

#[test]
fn when_nobody_is_accepted_no_data_is_sent() {
    let mut line = Line::ready(&[]);
    line.order(Order::Deliver(envelope(&["b@example.net"])));
    line.tell("250 ok\r\n");
    line.sent.clear();
    line.hears("552 too many\r\n", "");
    // RFC 5321 §4.5.3.1.10: 552 to RCPT counts as 452.
    assert_eq!(line.outcomes(), [(Outcome::Temporary, 552)]);
}

#[test]
fn helo_is_said_to_servers_without_ehlo() {
    let mut line = Line::open();
    line.hears("220-hello\r\n220 there\r\n", "EHLO out.example.org\r\n");
    line.hears("502 what?\r\n", "HELO out.example.org\r\n");
    line.tell("250 mx\r\n");
    assert_eq!(line.ready, Some(Extensions::default()));
}

#[test]
fn a_refusing_greeting_is_a_failure_with_its_verdict() {
    let mut line = Line::open();
    line.hears("554 5.7.1 go away\r\n", "QUIT\r\n");
    assert_eq!(line.failed.as_ref().unwrap().outcome, Outcome::Permanent);
    line.feed(Input::End);
    assert!(line.closed);
}

#[test]
fn starttls_begins_anew() {
    let mut line = Line::ready(&["STARTTLS", "AUTH PLAIN"]);
    line.order(Order::StartTls);
    line.says("STARTTLS\r\n");
    line.tell("220 go\r\n");
    assert!(line.tls_wanted);
    line.client = line.client.take().map(Client::secured);
    line.run();
    line.says("EHLO out.example.org\r\n");
    line.tell("250 mx\r\n");
    assert_eq!(line.ready, Some(Extensions::default()));
}

#[test]
fn a_refused_starttls_leaves_the_choice_to_the_driver() {
    let mut line = Line::ready(&["STARTTLS"]);
    line.order(Order::StartTls);
    line.tell("454 4.7.0 not now\r\n");
    assert_eq!(line.refused.as_ref().unwrap().outcome, Outcome::Temporary);
    assert!(line.ready.is_some());
}

#[test]
fn bytes_behind_the_consent_to_tls_are_an_attack() {
    let mut line = Line::ready(&["STARTTLS"]);
    line.order(Order::StartTls);
    line.tell("220 go\r\n250-injected\r\n250 AUTH PLAIN\r\n");
    assert!(!line.tls_wanted && line.failed.is_some() && line.closed);
}

#[test]
fn replies_nobody_asked_for_end_the_connection() {
    let mut line = Line::open();
    line.tell("220 hi\r\n250 injected\r\n");
    assert!(line.failed.is_some() && line.closed);

    let mut line = Line::ready(&[]);
    line.order(Order::Deliver(envelope(&["b@example.net"])));
    line.tell("250 ok\r\n250 ok\r\n250 ok\r\n");
    assert_eq!(line.outcomes(), [(Outcome::Temporary, 451)]);
    assert!(line.closed);
}

#[test]
fn the_driver_authenticates_by_plain_or_login() {
    let mut line = Line::ready(&["AUTH LOGIN PLAIN"]);
    line.order(Order::Authenticate(credentials()));
    line.says("AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=\r\n");
    line.tell("235 ok\r\n");
    assert!(line.ready.is_some() && line.refused.is_none());

    let mut line = Line::ready(&["AUTH LOGIN"]);
    line.order(Order::Authenticate(credentials()));
    line.says("AUTH LOGIN\r\n");
    line.hears("334 VXNlcm5hbWU6\r\n", "YWxpY2U=\r\n");
    line.hears("334 UGFzc3dvcmQ6\r\n", "d29uZGVybGFuZA==\r\n");
    line.tell("535 5.7.8 no\r\n");
    assert_eq!(line.refused.unwrap().outcome, Outcome::Permanent);
}

#[test]
fn without_a_mechanism_authentication_is_refused_by_ourselves() {
    let mut line = Line::ready(&["AUTH CRAM-MD5"]);
    line.order(Order::Authenticate(credentials()));
    line.says("");
    assert_eq!(line.refused.unwrap().origin, Origin::Local);
}

#[test]
fn what_the_server_cannot_take_is_not_sent() {
    let mut line = Line::ready(&["SIZE 99"]);
    line.order(Order::Deliver(envelope(&["b@example.net"])));
    line.says("");
    assert_eq!(line.outcomes(), [(Outcome::Permanent, 552)]);

    let mut line = Line::ready(&[]);
    let mut message = envelope(&["b@example.net"]);
    message.smtputf8 = true;
    line.order(Order::Deliver(message));
    line.says("");
    let results = line.results.as_ref().unwrap();
    assert_eq!(results[0].1.reply.enhanced(), Some((5, 6, 7).into()));
    assert_eq!(line.outcomes(), [(Outcome::Permanent, 553)]);
    assert!(line.ready.is_some());
}

#[test]
fn one_utf8_recipient_does_not_spoil_the_others() {
    let mut line = Line::ready(&["PIPELINING"]);
    line.order(Order::Deliver(envelope(&[
        "grün@example.net",
        "b@example.net",
    ])));
    line.says("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\n");
    line.tell("250 ok\r\n250 ok\r\n");
    line.tell("354 go\r\n");
    line.feed(Input::BodyEnd);
    line.tell("250 ok\r\n");
    assert_eq!(
        line.outcomes(),
        [(Outcome::Permanent, 553), (Outcome::Delivered, 250)]
    );
}

#[test]
fn a_lost_connection_is_temporary_at_every_point() {
    let replies = ["250 ok\r\n", "250 ok\r\n", "354 go\r\n"];
    for count in 0..=replies.len() {
        for end_body in [false, true] {
            let mut line = Line::ready(&[]);
            line.order(Order::Deliver(envelope(&["b@example.net"])));
            replies
                .iter()
                .take(count)
                .for_each(|reply| line.tell(reply));
            if end_body {
                line.feed(Input::BodyEnd);
            }
            line.feed(Input::End);
            assert_eq!(line.outcomes(), [(Outcome::Temporary, 451)]);
            assert!(line.closed);
        }
    }
}

#[test]
fn a_timeout_is_temporary() {
    let mut line = Line::open();
    line.feed(Input::Timeout);
    assert_eq!(line.failed.unwrap().outcome, Outcome::Temporary);
    assert!(line.closed);
}

#[test]
fn a_closing_server_is_temporary_for_those_without_a_verdict() {
    let mut line = Line::ready(&["PIPELINING"]);
    line.order(Order::Deliver(envelope(&[
        "b@example.net",
        "c@example.net",
    ])));
    line.tell("250 ok\r\n550 no\r\n421 4.3.2 closing\r\n");
    assert_eq!(
        line.outcomes(),
        [(Outcome::Permanent, 550), (Outcome::Temporary, 421)]
    );
    assert!(line.closed);
}

#[test]
fn a_server_that_answers_before_the_end_of_data_is_heard() {
    let mut line = Line::ready(&[]);
    line.order(Order::Deliver(envelope(&["b@example.net"])));
    ["250 ok\r\n", "250 ok\r\n", "354 go\r\n"]
        .iter()
        .for_each(|r| line.tell(r));
    line.feed(Input::Body(b"text"));
    line.tell("554 5.6.0 I have seen enough\r\n");
    assert_eq!(line.outcomes(), [(Outcome::Permanent, 554)]);
    assert!(line.closed);
    line.feed(Input::Body(b"more"));
    line.feed(Input::BodyEnd);
}

#[test]
fn endless_and_malformed_replies_are_bounded() {
    let long = format!("220 {}", "x".repeat(10_000));
    let many = "220-x\r\n".repeat(1000);
    for reply in [
        long.as_str(),
        &many,
        "220 a\nb\r\n",
        "hello\r\n",
        "220-a\r\n250 b\r\n",
        "\x16\x03\x01\0",
    ] {
        let mut line = Line::open();
        line.tell(reply);
        assert_eq!(
            line.failed.as_ref().unwrap().origin,
            Origin::Local,
            "{reply:.20}"
        );
        assert!(line.closed);
    }
}

#[test]
fn replies_may_arrive_octet_by_octet() {
    let mut line = Line::ready(&["PIPELINING"]);
    line.order(Order::Deliver(envelope(&[
        "b@example.net",
        "c@example.net",
    ])));
    let replies = [
        "250-ok\r\n250 ok\r\n250 ok\r\n550 5.1.1 no\r\n",
        "354 go\r\n",
        "250 ok\r\n",
    ];
    for reply in replies {
        reply.chars().for_each(|c| line.tell(&c.to_string()));
        if std::mem::take(&mut line.body_wanted) {
            line.feed(Input::BodyEnd);
        }
    }
    assert_eq!(
        line.outcomes(),
        [(Outcome::Delivered, 250), (Outcome::Permanent, 550)]
    );
}

#[test]
fn orders_at_the_wrong_time_are_ignored() {
    let mut line = Line::open();
    line.feed(Input::Order(Order::Quit));
    line.feed(Input::Body(b"x"));
    line.feed(Input::BodyEnd);
    line.says("");
}

// What servers say, and what they should not.
fn reply() -> impl Strategy<Value = Vec<u8>> {
    let words: &[&str] = &[
        "220 hi\r\n",
        "250 ok\r\n",
        "250-mx\r\n250-PIPELINING\r\n250-SIZE 50\r\n250 STARTTLS\r\n",
        "354 go\r\n",
        "334 x\r\n",
        "421 4.3.2 bye\r\n",
        "450 4.2.0 later\r\n",
        "550 5.1.1 never\r\n",
        "250-",
        "\n",
        "\r\n",
    ];
    prop_oneof![
        20 => prop::sample::select(words).prop_map(|word| word.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ]
}

proptest! {
    #[test]
    fn whatever_a_server_says_each_recipient_gets_one_verdict(
        replies in proptest::collection::vec(reply(), 0..20),
        pipelining: bool,
    ) {
        let offer: &[&str] = if pipelining { &["PIPELINING"] } else { &[] };
        let mut line = Line::ready(offer);
        line.order(Order::Deliver(envelope(&["b@example.net", "c@example.net"])));
        for reply in replies {
            line.feed(Input::Bytes(&reply));
            if std::mem::take(&mut line.body_wanted) {
                line.feed(Input::Body(b"text"));
                line.feed(Input::BodyEnd);
            }
        }
        line.feed(Input::End);
        prop_assert!(line.closed);
        prop_assert_eq!(line.results.map(|results| results.len()), Some(2));
    }
}

/// Our client brings a message to our server.
#[test]
fn our_client_and_our_server_understand_each_other() {
    use smtp::server::{self, Answer, Question, Role, Server};

    let hostname = Domain::parse("mx.example.net").unwrap();
    let config = server::Config::new(hostname, Role::Exchange);
    let message = b"Subject: x\r\n\r\n.\r\n..\r\nend\r\n";
    let mut server = Server::greet(Arc::new(config), "127.0.0.1".parse().unwrap(), None);
    let mut line = Line::open();
    let mut body = Vec::new();
    loop {
        while let Some(action) = server.next() {
            match action {
                server::Action::Send(bytes) => line.feed(Input::Bytes(&bytes)),
                server::Action::Ask(Question::Open(_)) => {
                    let now = smtp::date::Timestamp(0);
                    let answer = Answer::Opened {
                        id: "x".into(),
                        now,
                    };
                    server.feed(server::Input::Answer(answer));
                }
                server::Action::Ask(_) => server.feed(server::Input::Answer(Answer::Granted)),
                server::Action::Body(bytes) => body.extend(bytes),
                _ => {}
            }
        }
        if line.ready.is_some() && line.results.is_none() {
            line.order(Order::Deliver(envelope(&["b@example.net"])));
        } else if std::mem::take(&mut line.body_wanted) {
            line.feed(Input::Body(message));
            line.feed(Input::BodyEnd);
        } else if line.ready.is_some() && line.results.is_some() {
            line.order(Order::Quit);
        }
        if line.closed {
            break;
        }
        let sent = std::mem::take(&mut line.sent);
        server.feed(server::Input::Bytes(sent.as_bytes()));
    }
    assert_eq!(line.outcomes(), [(Outcome::Delivered, 250)]);
    assert!(body.ends_with(message));
}
