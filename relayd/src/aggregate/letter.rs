//! The mail in which a report travels (RFC 9990, RFC 7489 §7.2.1.1).

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use mail::address::Address;
use mail::date::{DateTime, format_rfc5322};
use mail::encode;
use sha2::{Digest, Sha256};

use super::kind::Meta;

/// The document, compressed: the same octets whenever it is made again.
///
/// # Errors
/// Never for memory; the interface allows for it.
pub fn compress(document: &str) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(document.as_bytes())?;
    encoder.finish()
}

/// The name of the report that `submitter` makes about something and a period: letters and digits. It follows from these, so that a report
/// that is made again after a crash is recognised.
#[must_use]
pub fn id(submitter: &str, topic: &str, begin: i64, end: i64) -> String {
    let digest = Sha256::digest(format!("{submitter}!{topic}!{begin}!{end}"));
    let half = digest.iter().take(16);
    half.map(|byte| format!("{byte:02x}")).collect()
}

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
        ..
    } = meta;
    let submitter = submitter(email);
    let date = |unix| {
        format_rfc5322(DateTime {
            unix,
            offset_minutes: 0,
        })
    };
    let name = format!("{submitter}!{domain}!{begin}!{end}!{id}.xml.gz");
    // Neither text nor base64 can hold an underline after an equals sign at the start of a line.
    let boundary = format!("=_{id}");
    let lines = [
        format!("Date: {}", date(now)),
        format!("From: {} <{email}>", phrase(organization)),
        format!("To: <{addressee}>"),
        format!(
            "Subject: Report Domain: {domain}\r\n Submitter: {submitter}\r\n Report-ID: <{id}>"
        ),
        // The same each time, too.
        format!("Message-ID: <{id}@{submitter}>"),
        // RFC 3834 §5, so that no vacation program answers.
        "Auto-Submitted: auto-generated".into(),
        "MIME-Version: 1.0".into(),
        format!("Content-Type: multipart/mixed; boundary=\"{boundary}\""),
        String::new(),
        format!("--{boundary}"),
        "Content-Type: text/plain; charset=us-ascii".into(),
        String::new(),
        format!("This is a DMARC aggregate report about {domain}"),
        format!("from {} to {}.", date(*begin), date(*end)),
        format!("Made by {submitter}."),
        String::new(),
        format!("--{boundary}"),
        format!("Content-Type: application/gzip;\r\n name=\"{name}\""),
        "Content-Transfer-Encoding: base64".into(),
        format!("Content-Disposition: attachment;\r\n filename=\"{name}\""),
        String::new(),
        encode::base64_body(report) + &format!("--{boundary}--\r\n"),
    ];
    lines.join("\r\n").into_bytes()
}

/// The domain of an address.
#[must_use]
pub fn submitter(email: &str) -> &str {
    email.rsplit('@').next().unwrap_or(email)
}

/// A name as a phrase (RFC 5322 §3.2.5).
#[must_use]
pub fn phrase(text: &str) -> String {
    match text.is_ascii() {
        true => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        false => encode::header_text(text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::xml::tests::meta;
    use super::*;

    #[test]
    fn a_report_that_is_made_again_has_the_same_names() {
        let one = id("example.test", "a.example", 0, 86_400);
        assert_eq!(one, id("example.test", "a.example", 0, 86_400));
        assert_ne!(one, id("example.test", "b.example", 0, 86_400));
        assert_ne!(one, id("example.test", "a.example", 0, 86_399));
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(compress("<x/>").unwrap(), compress("<x/>").unwrap());
    }

    #[test]
    fn subject_and_file_name_are_as_readers_expect_them() {
        let to = Address::parse("reports@a.example").unwrap();
        let mut meta = meta();
        let text = |meta: &Meta| String::from_utf8(build(meta, b"gz", &to, 0)).unwrap();
        let plain = text(&meta);
        for wanted in [
            "From: \"R & D <x>\" <dmarc@example.test>\r\nTo: <reports@a.example>\r\n",
            "Subject: Report Domain: a.example\r\n Submitter: example.test\r\n Report-ID: <0123abcd>\r\n",
            "Message-ID: <0123abcd@example.test>\r\n",
            "filename=\"example.test!a.example!0!86400!0123abcd.xml.gz\"\r\n",
            "\r\n\r\nZ3o=\r\n--=_0123abcd--\r\n",
        ] {
            assert!(plain.contains(wanted), "{wanted}\n{plain}");
        }
        meta.organization = "a\\\"b".into();
        assert!(text(&meta).contains("From: \"a\\\\\\\"b\" <"));
        meta.organization = "Köln".into();
        assert!(text(&meta).contains("From: =?UTF-8?B?"));
    }
}
