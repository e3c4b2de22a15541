//! What proxies send, and what they must not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::net::SocketAddr;

use proptest::prelude::*;
use proxy::{Fault, Header, MAX_V1, MAX_V2, Parser};

/// The octets used, and the header.
type Outcome = Result<(usize, Option<Header>), Fault>;

fn whole(input: &[u8]) -> Outcome {
    Parser::new().feed(input)
}

/// Reads the way a server does that must not read on: never more than is wanted.
fn wanted_only(input: &[u8]) -> Outcome {
    let mut parser = Parser::new();
    let mut read = 0;
    loop {
        let end = input.len().min(read + parser.wants().max(1));
        let piece = &input[read..end];
        let (used, header) = parser.feed(piece)?;
        assert_eq!(used, piece.len(), "what was wanted belongs to the header");
        read += used;
        if header.is_some() || piece.is_empty() {
            return Ok((read, header));
        }
    }
}

fn from(address: &str) -> Option<Header> {
    Some(Header::For(address.parse::<SocketAddr>().unwrap()))
}

fn block(command: u8, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut block = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    block.extend([command, protocol]);
    block.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    block.extend(body);
    block
}

const V4: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0xc3, 0x50, 0, 25];

fn v6() -> Vec<u8> {
    let mut body = vec![0x20, 1, 0x0d, 0xb8];
    body.extend([0; 11]);
    body.extend([7]);
    body.extend([0; 16]);
    body.extend([0xc3, 0x50, 0, 25]);
    body
}

#[test]
fn lines_of_version_1_are_read() {
    for (line, header) in [
        (
            "PROXY TCP4 192.0.2.7 198.51.100.1 50000 25\r\n",
            from("192.0.2.7:50000"),
        ),
        ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", from("0.0.0.0:0")),
        (
            "PROXY TCP6 2001:db8::7 ::1 65535 25\r\n",
            from("[2001:db8::7]:65535"),
        ),
        ("PROXY UNKNOWN\r\n", Some(Header::Direct)),
        ("PROXY UNKNOWN whatever it may be\r\n", Some(Header::Direct)),
        (
            "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            Some(Header::Direct),
        ),
    ] {
        let input = [line.as_bytes(), b"EHLO x\r\n"].concat();
        assert_eq!(whole(&input), Ok((line.len(), header)), "{line}");
        assert_eq!(wanted_only(&input), Ok((line.len(), header)), "{line}");
    }
}

#[test]
fn the_longest_line_has_107_octets() {
    let line = |fill: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(fill));
    let fits = line(MAX_V1 - 16);
    assert_eq!(fits.len(), MAX_V1);
    assert_eq!(whole(fits.as_bytes()), Ok((MAX_V1, Some(Header::Direct))));
    assert_eq!(whole(line(MAX_V1 - 15).as_bytes()), Err(Fault::TooLong));
    assert_eq!(
        wanted_only(line(MAX_V1 - 15).as_bytes()),
        Err(Fault::TooLong)
    );
}

#[test]
fn malformed_lines_are_refused() {
    for line in [
        "PROXY TCP4 192.0.2.7 198.51.100.1 50000\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 50000 25 x\r\n",
        "PROXY TCP4 192.0.2.7  198.51.100.1 50000 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 50000 25 \r\n",
        "PROXY  TCP4 192.0.2.7 198.51.100.1 50000 25\r\n",
        "PROXY TCP4 192.0.2.007 198.51.100.1 50000 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 050 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +50 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 -1 25\r\n",
        "PROXY TCP4 ::1 ::1 1 25\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 50000 25\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 50000 25\r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 50000 25\r\n",
        "PROXY tcp4 192.0.2.7 198.51.100.1 50000 25\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY UNKNOWN\nEHLO x\r\n",
        "PROXY UNKNOWN\rEHLO x\r\n",
        "PROXY UNKNOWN\0EHLO x\r\n",
        "PROXY UNKNOWN \u{0}\r\n",
        "PROXY \r\n       \r\n",
    ] {
        assert_eq!(whole(line.as_bytes()), Err(Fault::BadLine), "{line:?}");
    }
}

#[test]
fn what_is_no_header_is_known_at_its_first_wrong_octet() {
    for start in [
        "E",
        "proxy ",
        "PROXIED ",
        "\r\n\r\n\0\r\nQUIET",
        "\r\nEHLO",
        "\u{16}\u{3}\u{1}",
        "\0",
    ] {
        assert_eq!(whole(start.as_bytes()), Err(Fault::NoHeader), "{start:?}");
    }
}

#[test]
fn blocks_of_version_2_are_read() {
    for (block, header) in [
        (block(0x21, 0x11, V4), from("192.0.2.7:50000")),
        (block(0x21, 0x21, &v6()), from("[2001:db8::7]:50000")),
        (block(0x20, 0x00, b""), Some(Header::Direct)),
        // A LOCAL may carry anything.
        (block(0x20, 0x11, V4), Some(Header::Direct)),
        (block(0x20, 0xff, b"xyz"), Some(Header::Direct)),
        (block(0x21, 0x00, b""), Some(Header::Direct)),
        (block(0x21, 0x31, &[b'x'; 216]), Some(Header::Direct)),
    ] {
        let input = [&block[..], b"\x16\x03\x01"].concat();
        assert_eq!(whole(&input), Ok((block.len(), header)), "{block:?}");
        assert_eq!(wanted_only(&input), Ok((block.len(), header)), "{block:?}");
    }
}

#[test]
fn extensions_are_skipped_whatever_they_say() {
    // A TLS client certificate with the common name "root", a length that is not true, and noise.
    for extension in [
        &b"\x20\x00\x0c\x07\x00\x00\x00\x00\x22\x00\x04root"[..],
        b"\x01\xff\xff",
        &[0xff; 900],
    ] {
        let block = block(0x21, 0x11, &[V4, extension].concat());
        let input = [&block[..], b"EHLO x\r\n"].concat();
        assert_eq!(whole(&input), Ok((block.len(), from("192.0.2.7:50000"))));
        assert_eq!(
            wanted_only(&input),
            Ok((block.len(), from("192.0.2.7:50000")))
        );
    }
}

#[test]
fn blocks_that_there_are_not_are_refused() {
    for block in [
        block(0x11, 0x11, V4),
        block(0x31, 0x11, V4),
        block(0x22, 0x11, V4),
        block(0x2f, 0x11, V4),
        block(0x21, 0x12, V4),
        block(0x21, 0x22, &v6()),
        block(0x21, 0x32, &[0; 216]),
        block(0x21, 0x10, V4),
        block(0x21, 0x41, V4),
        block(0x21, 0xff, V4),
        block(0x21, 0x11, &V4[..11]),
        block(0x21, 0x21, V4),
    ] {
        assert_eq!(whole(&block), Err(Fault::BadBlock), "{block:?}");
        // Known without waiting for the rest.
        assert_eq!(whole(&block[..16]), Err(Fault::BadBlock), "{block:?}");
    }
}

#[test]
fn the_longest_block_is_taken_and_one_octet_more_is_not() {
    let longest = block(0x21, 0x11, &[V4, &vec![0; MAX_V2 - 16 - V4.len()]].concat());
    assert_eq!(whole(&longest), Ok((MAX_V2, from("192.0.2.7:50000"))));
    let longer = block(0x21, 0x11, &vec![0; MAX_V2 - 15]);
    assert_eq!(whole(&longer[..16]), Err(Fault::TooLong));
    assert_eq!(
        whole(&block(0x20, 0, &vec![0; 65_535])[..16]),
        Err(Fault::TooLong)
    );
}

#[test]
fn a_header_that_is_cut_off_is_waited_for() {
    for header in [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 25\r\n".to_vec(),
        block(0x21, 0x11, &[V4, b"extension"].concat()),
        block(0x20, 0, b"xy"),
    ] {
        for end in 0..header.len() {
            assert_eq!(whole(&header[..end]), Ok((end, None)), "{header:?}");
        }
    }
}

// Pieces of headers, so that short inputs come far.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<Vec<u8>> = vec![
        b"PROXY ".to_vec(),
        b"TCP4 192.0.2.7 198.51.100.1 50000 25".to_vec(),
        b"TCP6 ::1 ::1 1 1".to_vec(),
        b"UNKNOWN".to_vec(),
        b"\r\n".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\n".to_vec(),
        vec![0x21, 0x11, 0, 12],
        vec![0x21, 0x21, 0, 40],
        vec![0x20, 0, 0, 3],
        V4.to_vec(),
        v6(),
    ];
    let piece = prop_oneof![
        8 => prop::sample::select(words),
        1 => proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn reading_does_not_depend_on_the_cuts(input in input(), cuts in proptest::collection::vec(1usize..9, 1..9)) {
        let expected = whole(&input);
        let mut parser = Parser::new();
        let mut rest = &input[..];
        let mut outcome = Ok((0, None));
        for cut in cuts.iter().cycle() {
            if rest.is_empty() || outcome.as_ref().is_ok_and(|(_, header)| header.is_some()) {
                break;
            }
            let (piece, tail) = rest.split_at((*cut).min(rest.len()));
            outcome = match (outcome, parser.feed(piece)) {
                (Ok((before, _)), Ok((used, header))) => Ok((before + used, header)),
                (_, fault) => fault,
            };
            rest = tail;
            if outcome.is_err() {
                break;
            }
        }
        prop_assert_eq!(outcome, expected);
        // What is never read too far cannot tell a fault behind the end from one within.
        if let Ok((used, Some(header))) = expected {
            prop_assert_eq!(wanted_only(&input), Ok((used, Some(header))));
        }
    }
}
