//! The mail in which a report travels (RFC 8460 §5.3).

use mail::address::Address;
use mail::date::{DateTime, format_rfc5322};
use mail::encode;

use crate::aggregate::kind::Meta;
use crate::aggregate::letter::{phrase, submitter};

/// The whole message, without Return-Path. `now` are Unix seconds.
#[must_use]
pub fn build(meta: &Meta, report: &[u8], addressee: &Address, now: i64) -> Vec<u8> {
    let Meta {
        organization,
        email,
        id,
        begin,
        end,
        domain,
        unlisted,
        ..
    } = meta;
    let submitter = submitter(email);
    let date = |unix| {
        format_rfc5322(DateTime {
            unix,
            offset_minutes: 0,
        })
    };
    let name = format!("{submitter}!{domain}!{begin}!{}!{id}.json.gz", end - 1);
    // Neither text nor base64 can hold an underline after an equals sign at the start of a line.
    let boundary = format!("=_{id}");
    let lost = match unlisted {
        0 => String::new(),
        _ => format!("{unlisted} more connections are not in it, for want of room.\r\n"),
    };
    let lines = [
        format!("Date: {}", date(now)),
        format!("From: {} <{email}>", phrase(organization)),
        format!("To: <{addressee}>"),
        format!(
            "Subject: Report Domain: {domain}\r\n Submitter: {submitter}\r\n Report-ID: <{id}@{submitter}>"
        ),
        // The same each time, too.
        format!("Message-ID: <{id}@{submitter}>"),
        format!("TLS-Report-Domain: {domain}"),
        format!("TLS-Report-Submitter: {submitter}"),
        // RFC 8689 §3: so that those behind the next server bring it on as well.
        "TLS-Required: No".into(),
        // RFC 3834 §5, so that no vacation program answers.
        "Auto-Submitted: auto-generated".into(),
        "MIME-Version: 1.0".into(),
        format!(
            "Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n boundary=\"{boundary}\""
        ),
        String::new(),
        format!("--{boundary}"),
        "Content-Type: text/plain; charset=us-ascii".into(),
        String::new(),
        format!("This is an aggregate TLS report about {domain}"),
        format!("from {} to {}.", date(*begin), date(*end)),
        format!("Made by {submitter}."),
        lost,
        format!("--{boundary}"),
        "Content-Type: application/tlsrpt+gzip".into(),
        "Content-Transfer-Encoding: base64".into(),
        format!("Content-Disposition: attachment;\r\n filename=\"{name}\""),
        String::new(),
        encode::base64_body(report) + &format!("--{boundary}--\r\n"),
    ];
    lines.join("\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::xml::tests::meta;

    #[test]
    fn fields_and_file_name_are_as_readers_expect_them() {
        let to = Address::parse("reports@a.example").unwrap();
        let text = |meta: &Meta| String::from_utf8(build(meta, b"gz", &to, 0)).unwrap();
        let plain = text(&meta());
        for wanted in [
            "Subject: Report Domain: a.example\r\n Submitter: example.test\r\n Report-ID: <0123abcd@example.test>\r\n",
            "\r\nTLS-Report-Domain: a.example\r\nTLS-Report-Submitter: example.test\r\nTLS-Required: No\r\n",
            "Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n boundary=\"=_0123abcd\"\r\n\r\n--=_0123abcd\r\n",
            "Content-Type: application/tlsrpt+gzip\r\n",
            "filename=\"example.test!a.example!0!86399!0123abcd.json.gz\"\r\n",
            "\r\n\r\nZ3o=\r\n--=_0123abcd--\r\n",
        ] {
            assert!(plain.contains(wanted), "{wanted}\n{plain}");
        }
        assert!(!plain.contains("for want of room"));
        let full = Meta {
            unlisted: 3,
            ..meta()
        };
        assert!(text(&full).contains("\r\n3 more connections are not in it"));
    }
}
