//! The delivery report: tells a sender what became of a message, and why (RFC 3464 in RFC 6522's multipart/report).

use mail::address::{Address, Domain, ReversePath};
use mail::date::{DateTime, format_rfc5322};
use mail::encode;
use mail::header;
use smtp::original;

use crate::news::{Action, News};
use crate::queue::{Message, QueueId};

/// Octets of the original header that go into a report.
pub const MAX_HEADER: usize = 32 * 1024;
/// A message of more octets than these is not returned in full, even if its sender wants that.
pub const MAX_FULL: u64 = 1024 * 1024;
const LINE: usize = 76;

/// All that goes into a report.
#[derive(Debug)]
pub struct Report<'a> {
    /// Id of the report itself.
    pub id: QueueId,
    /// Id of the message it is about.
    pub about: QueueId,
    /// Our name.
    pub hostname: &'a Domain,
    /// To whom.
    pub addressee: &'a Address,
    /// Unix seconds now.
    pub now: i64,
    /// Unix seconds the message came.
    pub queued: i64,
    /// The sender's name for the transaction.
    pub envelope_id: Option<&'a str>,
    /// What became of whom.
    pub news: &'a [News],
    /// The original message.
    pub original: Original<'a>,
}

/// What a report shows of the message.
#[derive(Debug, Clone, Copy)]
pub enum Original<'a> {
    /// Its header, of its beginning.
    Header(&'a [u8]),
    /// All of it.
    Full {
        /// The message.
        bytes: &'a [u8],
        /// There is UTF-8 in its header.
        utf8: bool,
    },
}

/// Whom to tell; `None` for a message that must not be answered (RFC 5321 §6.1: no report about a report).
#[must_use]
pub fn addressee(message: &Message) -> Option<&Address> {
    match &message.reverse_path {
        ReversePath::Null => None,
        path => path.address(),
    }
}

impl Report<'_> {
    /// The whole message, without Return-Path.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        // The id holds 40 random bits nobody outside has seen, so no original header can hold the boundary.
        let boundary = format!("=_{}_report", self.id);
        let mut out = self.header(&boundary).into_bytes();
        push_part(
            &mut out,
            &boundary,
            "text/plain; charset=utf-8",
            self.text().as_bytes(),
        );
        push_part(
            &mut out,
            &boundary,
            "message/delivery-status",
            self.status().as_bytes(),
        );
        match self.original {
            Original::Header(message) => {
                let header = original_header(message);
                push_part(
                    &mut out,
                    &boundary,
                    "text/rfc822-headers; charset=utf-8",
                    header,
                );
            }
            // RFC 6532 §3.7: this one may be encoded, unlike message/rfc822.
            Original::Full { bytes, utf8: true } => {
                push_part(&mut out, &boundary, "message/global", bytes);
            }
            Original::Full { bytes, utf8: false } => push_message(&mut out, &boundary, bytes),
        }
        out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        out
    }

    fn header(&self, boundary: &str) -> String {
        let (host, id) = (self.hostname, self.id);
        [
            format!("Date: {}", date(self.now)),
            format!("From: Mail Delivery System <MAILER-DAEMON@{host}>"),
            format!("To: <{}>", self.addressee),
            format!("Subject: {}", self.subject()),
            format!("Message-ID: <{id}@{host}>"),
            // RFC 3834 §5, so that no vacation program answers.
            "Auto-Submitted: auto-replied".into(),
            "MIME-Version: 1.0".into(),
            // RFC 6522 §3.
            format!("Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"{boundary}\""),
            String::new(),
            String::new(),
        ]
        .join("\r\n")
    }

    fn subject(&self) -> &'static str {
        let has = |action| self.news.iter().any(|news| news.action == action);
        match (has(Action::Failed), has(Action::Delayed)) {
            (true, _) => "Undelivered mail returned to sender",
            (false, true) => "Delayed mail, still being tried",
            (false, false) => "Your mail was delivered",
        }
    }

    fn text(&self) -> String {
        let mut text = format!("This is the mail system at {}.\r\n\r\n", self.hostname);
        for (action, words) in [
            (
                Action::Failed,
                "Your message could not be delivered to the recipients below. It will not be\r\ntried again.",
            ),
            (
                Action::Delayed,
                "Your message could not be delivered yet to the recipients below. It is being\r\ntried again; you need not send it once more.",
            ),
            (
                Action::Relayed,
                "Your message was handed to the mail server of the recipients below, which sends\r\nno confirmations.",
            ),
            (
                Action::Delivered,
                "Your message was delivered to the recipients below.",
            ),
            (
                Action::Expanded,
                "The recipients below are lists. Your message was sent on to everybody on them.",
            ),
        ] {
            let mut news = self
                .news
                .iter()
                .filter(|news| news.action == action)
                .peekable();
            if news.peek().is_some() {
                text.push_str(&format!("{words}\r\n\r\n"));
                news.for_each(|news| push_news(&mut text, news));
            }
        }
        text.push_str(&format!("Queue id of the message: {}\r\n", self.about));
        text
    }

    // RFC 3464 §2: fields about the message, then a block for each recipient.
    fn status(&self) -> String {
        let mut out = String::new();
        push_field(
            &mut out,
            "Reporting-MTA",
            &format!("dns; {}", self.hostname),
        );
        if let Some(id) = self.envelope_id {
            push_field(&mut out, "Original-Envelope-Id", id);
        }
        push_field(&mut out, "X-Rmail-Queue-Id", self.about.as_str());
        push_field(&mut out, "Arrival-Date", &date(self.queued));
        for news in self.news {
            out.push_str("\r\n");
            if let Some(original) = &news.original {
                push_field(&mut out, "Original-Recipient", &original.field());
            }
            push_field(&mut out, "Final-Recipient", &typed_address(&news.address));
            push_field(&mut out, "Action", news.action.as_str());
            push_field(&mut out, "Status", &news.status);
            if let Some(host) = &news.host {
                push_field(&mut out, "Remote-MTA", &format!("dns; {host}"));
            }
            let kind = if news.remote { "smtp" } else { "x-rmail" };
            push_field(
                &mut out,
                "Diagnostic-Code",
                &format!("{kind}; {}", news.text),
            );
            push_field(&mut out, "Last-Attempt-Date", &date(self.now));
        }
        out
    }
}

fn push_news(text: &mut String, news: &News) {
    text.push_str(&format!("<{}>\r\n", news.address));
    let said = match (&news.host, news.remote) {
        (Some(host), true) => format!("{host} said: {}", news.text),
        _ => news.text.clone(),
    };
    let said: String = said
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    for line in wrap(&said, LINE - 4) {
        text.push_str(&format!("    {line}\r\n"));
    }
    text.push_str("\r\n");
}

fn date(unix: i64) -> String {
    format_rfc5322(DateTime {
        unix,
        offset_minutes: 0,
    })
}

// RFC 3464 §2.3.2; RFC 6533 §3 for what is not ASCII, in the form that any path carries.
fn typed_address(address: &Address) -> String {
    let text = address.to_string();
    if text.is_ascii() {
        return format!("rfc822; {text}");
    }
    format!("utf-8; {}", original::escape(&text))
}

/// A field of ASCII text on folded lines; what is not printable becomes `?`.
fn push_field(out: &mut String, name: &str, value: &str) {
    let plain = |c: char| {
        if c == ' ' || c.is_ascii_graphic() {
            c
        } else {
            '?'
        }
    };
    let text = format!("{name}: {}", value.chars().map(plain).collect::<String>());
    out.push_str(&wrap(&text, LINE).join("\r\n "));
    out.push_str("\r\n");
}

/// Breaks text at spaces into lines of at most `width` octets, and words that are longer than 900 anywhere.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut rest = word;
        loop {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(900));
            match lines.last_mut() {
                Some(line) if line.len() + 1 + piece.len() <= width => {
                    line.push(' ');
                    line.push_str(piece);
                }
                _ => lines.push(piece.to_owned()),
            }
            if after.is_empty() {
                break;
            }
            rest = after;
        }
    }
    lines
}

/// The header of a message that may be cut off, as far as its lines are whole.
fn original_header(message: &[u8]) -> &[u8] {
    let bounded = &message[..message.len().min(MAX_HEADER)];
    let header = &bounded[..header::body_start(bounded)];
    let whole = header
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    let header = &header[..whole];
    header
        .strip_suffix(b"\r\n\r\n")
        .map_or(header, |_| &header[..header.len() - 2])
}

/// A part: as it is when every path carries it, else quoted-printable.
fn push_part(out: &mut Vec<u8>, boundary: &str, kind: &str, body: &[u8]) {
    out.extend_from_slice(format!("--{boundary}\r\nContent-Type: {kind}\r\n").as_bytes());
    let long = body
        .split(|byte| *byte == b'\n')
        .any(|line| line.len() > 990);
    let strange = body
        .iter()
        .any(|byte| !matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n'));
    let bare = body
        .windows(2)
        .any(|pair| (pair[0] == b'\r') != (pair[1] == b'\n'));
    if long || strange || bare {
        out.extend_from_slice(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n");
        out.extend_from_slice(encode::quoted_printable(body).as_bytes());
    } else {
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
    }
    out.extend_from_slice(b"\r\n");
}

/// A message as a part. RFC 2046 §5.2.1: it is not encoded.
fn push_message(out: &mut Vec<u8>, boundary: &str, message: &[u8]) {
    out.extend_from_slice(format!("--{boundary}\r\nContent-Type: message/rfc822\r\n").as_bytes());
    if !message.is_ascii() {
        out.extend_from_slice(b"Content-Transfer-Encoding: 8bit\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(message);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::header::find;

    fn report(news: &[News], original: &[u8]) -> String {
        report_with(news, Original::Header(original), None)
    }

    fn report_with(news: &[News], original: Original<'_>, envelope_id: Option<&str>) -> String {
        let report = Report {
            id: QueueId::generate().unwrap(),
            about: QueueId::generate().unwrap(),
            hostname: &Domain::parse("mail.example.test").unwrap(),
            addressee: &Address::parse("alice@example.test").unwrap(),
            now: 1_700_000_060,
            queued: 1_700_000_000,
            envelope_id,
            news,
            original,
        };
        String::from_utf8(report.build()).unwrap()
    }

    fn failure(address: &str, text: &str) -> News {
        News {
            action: Action::Failed,
            original: None,
            address: Address::parse(address).unwrap(),
            status: "5.1.1".into(),
            text: text.into(),
            remote: true,
            host: Some("mx.example.org".into()),
        }
    }

    const ORIGINAL: &[u8] = b"From: alice@example.test\r\nSubject: hello\r\n\r\nsecret body\r\n";

    #[test]
    fn a_report_names_every_recipient_that_failed_and_shows_only_the_header() {
        let failures = [
            failure("bob@example.org", "550 5.1.1 no such user"),
            failure("c@example.org", "550 no"),
        ];
        let text = report(&failures, ORIGINAL);
        for needle in [
            "To: <alice@example.test>",
            "report-type=delivery-status",
            "Final-Recipient: rfc822; bob@example.org\r\nAction: failed\r\nStatus: 5.1.1\r\n",
            "Remote-MTA: dns; mx.example.org",
            "Diagnostic-Code: smtp; 550 5.1.1 no such user",
            "Final-Recipient: rfc822; c@example.org",
            "mx.example.org said: 550 no",
            "Subject: hello\r\n",
        ] {
            assert!(text.contains(needle), "{needle} in {text}");
        }
        assert!(!text.contains("secret body"));
        assert!(find(text.as_bytes(), "Auto-Submitted").is_some());
    }

    #[test]
    fn a_report_says_what_became_of_each_and_whom_the_sender_meant() {
        let news = [
            Action::Delayed,
            Action::Relayed,
            Action::Delivered,
            Action::Expanded,
        ]
        .map(|action| News {
            action,
            original: original::OriginalRecipient::of("jörg@example.test"),
            ..failure("bob@example.org", "250 ok")
        });
        for one in &news {
            let text = report_with(
                std::slice::from_ref(one),
                Original::Header(ORIGINAL),
                Some("QQ+1"),
            );
            for needle in [
                &format!("\r\nAction: {}\r\n", one.action.as_str()),
                "\r\nOriginal-Recipient: utf-8; j\\x{F6}rg@example.test\r\nFinal-Recipient: rfc822; bob@example.org\r\n",
                "\r\nOriginal-Envelope-Id: QQ+1\r\n",
            ] {
                assert!(text.contains(needle), "{needle} in {text}");
            }
            assert!(!text.contains("could not be delivered to"), "{text}");
            assert_eq!(
                text.contains("Subject: Delayed mail"),
                one.action == Action::Delayed
            );
        }
    }

    #[test]
    fn a_whole_message_is_returned_as_it_is() {
        let news = [failure("bob@example.org", "550 no")];
        let original = "Subject: x\r\n\r\ngrüße\r\n".as_bytes();
        for (utf8, needle) in [
            (
                false,
                "message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: x\r\n\r\ngrüße\r\n",
            ),
            (
                true,
                "message/global\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nSubject: x\r\n",
            ),
        ] {
            let full = Original::Full {
                bytes: original,
                utf8,
            };
            let text = report_with(&news, full, None);
            assert!(text.contains(needle), "{text}");
        }
    }

    #[test]
    fn the_parts_are_what_a_mime_reader_finds() {
        let failures = [
            failure("bob@example.org", "550 5.1.1 no such user"),
            failure("jörg@example.org", "550 nö"),
        ];
        let text = report(&failures, "Subject: grüße\r\nX: y\r\n\r\nbody".as_bytes());
        let boundary = text
            .split("boundary=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let parts: Vec<_> = text.split(&format!("--{boundary}\r\n")).skip(1).collect();
        let kinds: Vec<_> = parts
            .iter()
            .map(|part| part.split("\r\n").next().unwrap())
            .collect();
        assert_eq!(
            kinds,
            [
                "Content-Type: text/plain; charset=utf-8",
                "Content-Type: message/delivery-status",
                "Content-Type: text/rfc822-headers; charset=utf-8"
            ]
        );
        assert!(text.ends_with(&format!("\r\n--{boundary}--\r\n")));
    }

    #[test]
    fn every_line_is_short_and_ends_with_crlf() {
        let failures = [
            failure("bob@example.org", &"x".repeat(5000)),
            failure("c@example.org", &"word ".repeat(100)),
        ];
        let original = [b"X-Long: ".as_slice(), &[b'y'; 4000], b"\r\n\r\n"].concat();
        let text = report(&failures, &original);
        assert!(
            text.split("\r\n")
                .all(|line| line.len() <= 998 && !line.contains(['\r', '\n']))
        );
    }

    #[test]
    fn a_reply_with_line_ends_forges_no_field() {
        let text = report(
            &[failure("bob@example.org", "550 no\r\nAction: delivered")],
            ORIGINAL,
        );
        assert!(!text.contains("\r\nAction: delivered"));
    }

    #[test]
    fn international_addresses_and_headers_become_ascii() {
        let text = report(
            &[failure("jörg@example.org", "550 nö")],
            "Subject: grüße\r\n\r\n".as_bytes(),
        );
        assert!(text.is_ascii());
        assert!(text.contains("Final-Recipient: utf-8; j\\x{F6}rg@example.org"));
        assert!(text.contains("gr=C3=BC=C3=9Fe"));
    }

    #[test]
    fn a_header_without_an_end_is_cut_at_a_line() {
        let endless = b"X-A: b\r\n".repeat(MAX_HEADER);
        let header = original_header(&endless);
        assert!(header.len() <= MAX_HEADER && header.ends_with(b"b\r\n"));
    }
}
