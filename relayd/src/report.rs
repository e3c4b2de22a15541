//! The delivery report: tells a sender who did not get the message, and why (RFC 3464 in RFC 6522's multipart/report).

use mail::address::{Address, Domain, ReversePath};
use mail::date::{DateTime, format_rfc5322};
use mail::encode;
use mail::header;

use crate::queue::{Message, QueueId};

/// Octets of the original header that go into a report.
pub const MAX_HEADER: usize = 32 * 1024;
const LINE: usize = 76;

/// A recipient that failed for good.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The address.
    pub address: Address,
    /// RFC 3463 status.
    pub status: String,
    /// The reply or the fault.
    pub text: String,
    /// A remote server's words.
    pub remote: bool,
    /// The host that was spoken to.
    pub host: Option<String>,
}

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
    /// Who did not get it.
    pub failures: &'a [Failure],
    /// The beginning of the original message.
    pub original: &'a [u8],
}

/// The recipients of a message the sender is to be told about.
#[must_use]
pub fn failures(message: &Message) -> Vec<Failure> {
    let failure = |(_, recipient): (usize, &crate::queue::Recipient)| {
        let last = recipient.last.as_ref()?;
        Some(Failure {
            address: recipient.address.clone(),
            status: last.status.clone(),
            text: last.text.clone(),
            remote: last.remote,
            host: last.host.clone(),
        })
    };
    message.unreported().filter_map(failure).collect()
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
        let mut out = self.header(&boundary);
        let (text, status) = (self.text(), self.status());
        let original = original_header(self.original);
        for (kind, body) in [
            ("text/plain; charset=utf-8", text.as_bytes()),
            ("message/delivery-status", status.as_bytes()),
            ("text/rfc822-headers; charset=utf-8", original),
        ] {
            out.push_str(&format!("--{boundary}\r\nContent-Type: {kind}\r\n"));
            push_body(&mut out, body);
        }
        out.push_str(&format!("--{boundary}--\r\n"));
        out.into_bytes()
    }

    fn header(&self, boundary: &str) -> String {
        let (host, id) = (self.hostname, self.id);
        [
            format!("Date: {}", date(self.now)),
            format!("From: Mail Delivery System <MAILER-DAEMON@{host}>"),
            format!("To: <{}>", self.addressee),
            "Subject: Undelivered mail returned to sender".into(),
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

    fn text(&self) -> String {
        let mut text = format!("This is the mail system at {}.\r\n\r\n", self.hostname);
        text.push_str("Your message could not be delivered to the recipients below. It will not be\r\ntried again.\r\n\r\n");
        for failure in self.failures {
            text.push_str(&format!("<{}>\r\n", failure.address));
            let said = match (&failure.host, failure.remote) {
                (Some(host), true) => format!("{host} said: {}", failure.text),
                _ => failure.text.clone(),
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
        push_field(&mut out, "X-Rmail-Queue-Id", self.about.as_str());
        push_field(&mut out, "Arrival-Date", &date(self.queued));
        for failure in self.failures {
            out.push_str("\r\n");
            push_field(
                &mut out,
                "Final-Recipient",
                &typed_address(&failure.address),
            );
            push_field(&mut out, "Action", "failed");
            push_field(&mut out, "Status", &failure.status);
            if let Some(host) = &failure.host {
                push_field(&mut out, "Remote-MTA", &format!("dns; {host}"));
            }
            let kind = if failure.remote { "smtp" } else { "x-rmail" };
            push_field(
                &mut out,
                "Diagnostic-Code",
                &format!("{kind}; {}", failure.text),
            );
            push_field(&mut out, "Last-Attempt-Date", &date(self.now));
        }
        out
    }
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
    let escape = |c: char| match c {
        c if c.is_ascii() && !matches!(c, '\\' | '+' | '=') => c.to_string(),
        c => format!("\\x{{{:X}}}", u32::from(c)),
    };
    format!("utf-8; {}", text.chars().map(escape).collect::<String>())
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

/// A part's encoding and body: as it is when every path carries it, else quoted-printable.
fn push_body(out: &mut String, body: &[u8]) {
    let long = body
        .split(|byte| *byte == b'\n')
        .any(|line| line.len() > 990);
    let strange = body
        .iter()
        .any(|byte| !matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n'));
    let bare = body
        .windows(2)
        .any(|pair| (pair[0] == b'\r') != (pair[1] == b'\n'));
    match std::str::from_utf8(body) {
        Ok(text) if !long && !strange && !bare => out.push_str(&format!("\r\n{text}")),
        _ => {
            out.push_str("Content-Transfer-Encoding: quoted-printable\r\n\r\n");
            out.push_str(&encode::quoted_printable(body));
        }
    }
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::header::find;

    fn report(failures: &[Failure], original: &[u8]) -> String {
        let report = Report {
            id: QueueId::generate().unwrap(),
            about: QueueId::generate().unwrap(),
            hostname: &Domain::parse("mail.example.test").unwrap(),
            addressee: &Address::parse("alice@example.test").unwrap(),
            now: 1_700_000_060,
            queued: 1_700_000_000,
            failures,
            original,
        };
        String::from_utf8(report.build()).unwrap()
    }

    fn failure(address: &str, text: &str) -> Failure {
        Failure {
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
