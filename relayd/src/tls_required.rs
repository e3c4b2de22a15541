//! The field `TLS-Required: No` (RFC 8689 §3): its sender wants the mail delivered rather than secret.

use std::io::{self, Read};

use mail::header;

/// Octets in which a header ends, at most, as far as we look.
const MAX_HEADER: u64 = header::MAX_HEADER_BYTES as u64;
/// Where most headers end.
const FIRST_LOOK: u64 = 16 * 1024;
const NAME: &str = "TLS-Required";

/// Whether the header says so: in one field of that name. What else a field may say means nothing.
#[must_use]
pub fn is_waived(header: &[u8]) -> bool {
    let mut named = header::fields(header).filter(|field| field.is(NAME));
    match (named.next(), named.next()) {
        (Some(field), None) => field.unfolded().eq_ignore_ascii_case(b"no"),
        _ => false,
    }
}

/// The header of a message, from its beginning.
///
/// # Errors
/// What the system says.
pub fn read_header(message: impl Read) -> io::Result<Vec<u8>> {
    let (mut bytes, mut most) = (Vec::new(), FIRST_LOOK);
    let mut message = message.take(most);
    loop {
        let before = bytes.len();
        message.read_to_end(&mut bytes)?;
        let end = header::body_start(&bytes);
        if end < bytes.len() || bytes.len() == before || most >= MAX_HEADER {
            bytes.truncate(end);
            return Ok(bytes);
        }
        most = MAX_HEADER;
        message.set_limit(MAX_HEADER - FIRST_LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_field_with_the_word_no_waives_it() {
        for (text, wanted) in [
            ("TLS-Required: No\r\n\r\n", true),
            (
                "Subject: x\r\ntls-required:\r\n no \r\n\r\nTLS-Required: No\r\n",
                true,
            ),
            ("Subject: x\r\n\r\nTLS-Required: No\r\n", false),
            ("TLS-Required: No\r\nTLS-Required: No\r\n\r\n", false),
            ("TLS-Required: No\r\nTLS-Required: Yes\r\n\r\n", false),
            ("TLS-Required: Yes\r\n\r\n", false),
            ("TLS-Required: No way\r\n\r\n", false),
            ("TLS-Required:\r\n\r\n", false),
            ("X-TLS-Required: No\r\n\r\n", false),
            ("", false),
        ] {
            let header = read_header(text.as_bytes()).unwrap();
            assert_eq!(is_waived(&header), wanted, "{text}");
        }
    }

    #[test]
    fn it_is_found_at_the_end_of_a_long_header_and_not_in_the_body() {
        let filler = format!("X-Filler: {}\r\n", "x".repeat(900));
        for (fields, body) in [(0, 0), (17, 0), (18, 100), (500, 100_000)] {
            let filler = filler.repeat(fields);
            let body = "TLS-Required: No\r\n".repeat(body);
            let waived = format!("{filler}TLS-Required: No\r\n\r\n{body}");
            let header = read_header(waived.as_bytes()).unwrap();
            assert!(is_waived(&header), "{fields}");
            assert!(header.ends_with(b"No\r\n\r\n"));
            let plain = format!("{filler}\r\n{body}");
            let header = read_header(plain.as_bytes()).unwrap();
            assert!(!is_waived(&header), "{fields}");
        }
        let endless = "x: y\r\n".repeat(1_000_000);
        assert!(read_header(endless.as_bytes()).unwrap().len() as u64 <= MAX_HEADER);
    }
}
