//! Whatever is asked of a text that was kept, the answer is that of the message itself.

use super::*;

/// A source of numbers, the same for the same seed.
struct Dice(u64);

impl Dice {
    // SplitMix64.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ mixed >> 31) % bound as u64).unwrap()
    }

    fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// What messages are made of: fields in every state of repair, charsets, encodings, and the bytes that end pieces.
const FIELDS: &[&[u8]] = &[
    b"Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?= an =?iso-8859-1?q?=C4rger?=\r\n",
    b"Subject: plain and\r\n folded \xff\0bcc: not a field\r\n",
    b"From: =?koi8-r?B?8NLJ18XU?= <a@example.org>\r\n",
    b"from: \xe4\xf6\xfc <b@example.org>\r\n",
    b"To: a: b@example.org, c;\r\n",
    b"X-Odd : \xce\xa3\xcf\x82 \xcf\x83 \xc4\xb0\r\n",
    b"Date: Mon, 02 Mar 2026 10:00:00 +0000\r\n",
    b"Date: 1 Jan 1969 00:00:00 -1200\r\n",
    b"Cc:\r\n",
    b"Bcc: x\r\n",
    b"no field at all\r\n",
];
const TYPES: &[&str] = &[
    "text/plain; charset=utf-8",
    "text/plain; charset=iso-8859-1",
    "text/plain; charset=koi8-r",
    "text/html; charset=nonsense",
    "text/plain; charset=iso-2022-jp",
    "application/octet-stream",
    "message/delivery-status",
    "message/rfc822",
    "multipart/mixed; boundary=in",
];
const ENCODINGS: &[&str] = &["7bit", "8bit", "quoted-printable", "base64", "x-none"];
const BODIES: &[&[u8]] = &[
    b"Gr\xc3\xbc\xc3\x9fe und \xc3\x84rger, Subject: x\r\n",
    b"=C3=84rger mit lan=\r\ngen Zeilen =FF=00 ende\r\n",
    b"8NLJ18XU w7xiZXI= /wB4\r\n",
    b"\xf0\xd2\xc9\xd7\xc5\xd4 \xe4 \xff \0 x\r\n",
    b"Subject: in it\r\nFrom: inner@example.org\r\n\r\ninside\r\n",
    b"--in\r\n\r\nfirst\r\n--in\r\nContent-Type: text/plain\r\n\r\nsecond\r\n--in--\r\n",
    b"\x1b$B$3$s$K$A$O\x1b(B\r\n",
    b"",
];
const NEEDLES: &[&str] = &[
    "",
    "x",
    "grüße",
    "ÄRGER",
    "привет",
    "σ",
    "Σς",
    "i\u{307}",
    "subject: grüße",
    "Subject: x",
    "bcc: not",
    "an ärger",
    "inside",
    "first",
    "inner@",
    "secondsubject",
    "\u{fffd}",
    "ÿ",
    "\u{ff}\0",
    "\0",
    "lange",
    "こんにちは",
    "b@example.org",
    ": ",
    "and folded",
    "ende\r\n",
    "\u{f7ff}",
    "über",
];
const NAMES: &[&str] = &[
    "subject",
    "FROM",
    "To",
    "x-odd",
    "cc",
    "bcc",
    "Subject: gr",
    "ſubject",
    "",
    "date",
];

fn message(dice: &mut Dice) -> Vec<u8> {
    let mut message = Vec::new();
    for _ in 0..dice.below(6) {
        message.extend_from_slice(dice.choose(FIELDS));
    }
    let part = |dice: &mut Dice, message: &mut Vec<u8>| {
        let (kind, encoding) = (dice.choose(TYPES), dice.choose(ENCODINGS));
        let fields =
            format!("Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
        message.extend_from_slice(fields.as_bytes());
        message.extend_from_slice(dice.choose(BODIES));
    };
    if dice.below(2) == 0 {
        part(dice, &mut message);
    } else {
        message.extend_from_slice(b"Content-Type: multipart/mixed; boundary=out\r\n\r\n");
        for _ in 0..dice.below(4) {
            message.extend_from_slice(b"--out\r\n");
            part(dice, &mut message);
        }
        message.extend_from_slice(b"--out--\r\n");
    }
    message
}

/// Fails where the text answers otherwise than the message. Returns how many answers it did not know.
fn compare(walked: &Message<'_>, text: &SearchText<'_>) -> usize {
    let mut unknown = 0;
    for needle in NEEDLES.iter().map(|needle| Needle::new(needle)) {
        for name in NAMES {
            let expected = search_text::header_contains(walked, name, &needle);
            assert_eq!(
                text.header_contains(name, &needle),
                Some(expected),
                "{name} {needle:?}"
            );
        }
        let expected = search_text::body_contains(walked, &needle);
        let found = text.body_contains(&needle);
        assert!(
            found.is_none_or(|found| found == expected),
            "body {needle:?}"
        );
        let expected = search_text::text_contains(walked, &needle);
        let found = text.text_contains(&needle);
        assert!(
            found.is_none_or(|found| found == expected),
            "text {needle:?}"
        );
        unknown += usize::from(found.is_none());
    }
    unknown
}

#[test]
fn a_text_that_was_kept_answers_as_the_message_does() {
    let mut dice = Dice(1);
    for _ in 0..3000 {
        let bytes = message(&mut dice);
        let (walked, size) = (Message::walk(&bytes), bytes.len() as u64);
        let text = SearchText::of(&walked, Extent::Whole, size).unwrap();
        let entry = text.encode().unwrap();
        let kept = SearchText::decode(&entry, size).unwrap();
        assert_eq!(kept.text(), text.text());
        assert_eq!(kept.thread_id, text.thread_id);
        assert_eq!(
            compare(&walked, &kept),
            0,
            "{}",
            String::from_utf8_lossy(&bytes)
        );
        let header = SearchText::of(&walked, Extent::Header, size).unwrap();
        assert_eq!(header.sent_on, text.sent_on);
        compare(&walked, &header);
    }
}

#[test]
fn of_a_long_text_the_beginning_is_kept_and_never_says_no() {
    let body = "Ärger ohne Ende. ".repeat(20_000);
    let bytes = format!(
        "Subject: long\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{body}Schluss\r\n"
    );
    let walked = Message::walk(bytes.as_bytes());
    let text = SearchText::of(&walked, Extent::Whole, 1).unwrap();
    assert_eq!(text.completeness, Completeness::Beginning);
    let entry = text.encode().unwrap();
    let kept = SearchText::decode(&entry, 1).unwrap();
    assert_eq!(kept.body_contains(&Needle::new("ÄRGER ohne")), Some(true));
    assert_eq!(kept.body_contains(&Needle::new("schluss")), None);
    assert_eq!(
        kept.header_contains("subject", &Needle::new("LONG")),
        Some(true)
    );
    let long = format!("X: {}\r\n\r\n", "x".repeat(MAX_TEXT));
    let long = SearchText::of(&Message::walk(long.as_bytes()), Extent::Whole, 1);
    assert!(long.is_none());
}

#[test]
fn text_that_cannot_be_compressed_can_be_kept_whole() {
    let mut dice = Dice(2);
    let letters: Vec<char> = ('!'..='~').collect();
    let noise: String = (0..MAX_TEXT - 4000)
        .map(|_| dice.choose(&letters))
        .collect();
    let bytes = format!("\r\n{noise}");
    let text = SearchText::of(&Message::walk(bytes.as_bytes()), Extent::Whole, 1).unwrap();
    assert_eq!(text.completeness, Completeness::Whole);
    assert!(text.encode().is_some());
}

#[test]
fn bytes_that_are_no_entry_are_refused() {
    let bytes =
        b"Subject: x\r\nDate: Mon, 02 Mar 2026 10:00:00 +0000\r\n\r\nhello hello hello hello\r\n";
    let text = SearchText::of(&Message::walk(bytes), Extent::Whole, 70).unwrap();
    assert_eq!(text.sent_on, Some(20_514));
    let entry = text.encode().unwrap();
    assert!(SearchText::decode(&entry, 71).is_none());
    for end in 0..entry.len() {
        let cut_off = SearchText::decode(&entry[..end], 70);
        assert!(cut_off.is_none_or(|text| text.text().is_none()), "{end}");
    }
    for at in 0..entry.len() {
        for value in 0..=255 {
            let mut damaged = entry.clone();
            damaged[at] = value;
            if let Some(text) = SearchText::decode(&damaged, 70) {
                let _ = text.text_contains(&Needle::new("hello"));
                let _ = text.header_contains("subject", &Needle::new(""));
            }
        }
    }
}

#[test]
fn days_survive_the_round_trip() {
    for day in [
        None,
        Some(0),
        Some(-1),
        Some(1),
        Some(20_000),
        Some(i64::MIN + 1),
        Some(i64::MAX),
    ] {
        assert_eq!(read_day(write_day(day)), day);
    }
}

// Those of version 1 have their letters in lower case.
#[test]
fn what_was_folded_otherwise_is_refused() {
    let bytes = b"Subject: x\r\n\r\nhello\r\n";
    let text = SearchText::of(&Message::walk(bytes), Extent::Whole, 70).unwrap();
    let mut entry = text.encode().unwrap();
    assert!(SearchText::decode(&entry, 70).is_some());
    entry[0] = 1;
    assert!(SearchText::decode(&entry, 70).is_none());
}
