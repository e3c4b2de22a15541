//! What is shown of messages, and what that needs.

use std::io::Write;

use imap::command::Command;

use super::*;

fn items(text: &str) -> Vec<FetchItem> {
    let line = format!("a FETCH 1 {text}");
    match imap::parse::request(line.as_bytes()).unwrap().command {
        Command::Fetch { items, .. } => items,
        other => panic!("{other:?}"),
    }
}

fn show(bytes: &[u8], items: &str) -> String {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let message = Message::new(file).unwrap();
    let line = format!("a FETCH 1 {items}");
    let Command::Fetch { items, .. } = imap::parse::request(line.as_bytes()).unwrap().command
    else {
        panic!("no fetch");
    };
    let job = Job {
        facts: Facts {
            by: Numbering::Sequence,
            number: 3,
            uid: 41,
            internal_date: 0,
            size: message.size(),
            modseq: 1,
            email_id: None,
            save_date: None,
        },
        flags: b"(\\Seen)".to_vec(),
        tell_flags: false,
        message,
    };
    let mut text = Vec::new();
    for piece in render(&job, &items).unwrap().pieces {
        match piece {
            Piece::Bytes(bytes) => text.extend(bytes),
            Piece::Copy(message, range) => {
                text.extend(message.read(range.start, range.end).unwrap());
            }
            Piece::Decode(content) => content.append_to(&mut text).unwrap(),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

const MESSAGE: &[u8] = b"From: a@example.org\r\nSubject: x\r\n\r\nhello\r\n";

#[test]
fn what_is_known_is_shown_without_the_message() {
    assert_eq!(
        show(MESSAGE, "(UID FLAGS INTERNALDATE RFC822.SIZE)"),
        "* 3 FETCH (UID 41 FLAGS (\\Seen) INTERNALDATE \" 1-Jan-1970 00:00:00 +0000\" RFC822.SIZE 42)\r\n"
    );
}

#[test]
fn sections_are_literals_under_their_names() {
    assert_eq!(
        show(MESSAGE, "BODY[TEXT]"),
        "* 3 FETCH (BODY[TEXT] {7}\r\nhello\r\n)\r\n"
    );
    assert_eq!(
        show(MESSAGE, "RFC822.TEXT"),
        "* 3 FETCH (RFC822.TEXT {7}\r\nhello\r\n)\r\n"
    );
    assert_eq!(
        show(MESSAGE, "BODY.PEEK[1]<1.3>"),
        "* 3 FETCH (BODY[1]<1> {3}\r\nell)\r\n"
    );
    assert_eq!(
        show(MESSAGE, "BODY[]<40.10>"),
        "* 3 FETCH (BODY[]<40> {2}\r\n\r\n)\r\n"
    );
    assert_eq!(
        show(MESSAGE, "BODY[]<90.10>"),
        "* 3 FETCH (BODY[]<90> {0}\r\n)\r\n"
    );
    assert_eq!(show(MESSAGE, "BODY[2]"), "* 3 FETCH (BODY[2] NIL)\r\n");
    assert_eq!(
        show(MESSAGE, "BODY[HEADER.FIELDS (SUBJECT)]"),
        "* 3 FETCH (BODY[HEADER.FIELDS (SUBJECT)] {14}\r\nSubject: x\r\n\r\n)\r\n"
    );
}

#[test]
fn large_sections_are_copied_and_complete() {
    let body = "0123456789\r\n".repeat(10_000);
    let message = format!("Subject: x\r\n\r\n{body}");
    let shown = show(message.as_bytes(), "(BODY[] BODY[TEXT] UID)");
    let (whole, text) = (message.len(), body.len());
    assert_eq!(
        shown,
        format!(
            "* 3 FETCH (BODY[] {{{whole}}}\r\n{message} BODY[TEXT] {{{text}}}\r\n{body} UID 41)\r\n"
        )
    );
}

#[test]
fn an_answer_that_would_fill_the_memory_is_refused() {
    let header = format!("X: {}\r\n", "y".repeat(100)).repeat(12_000);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(header.as_bytes()).unwrap();
    let message = Message::new(file).unwrap();
    let line = format!(
        "a FETCH 1 ({})",
        ["BODY[HEADER.FIELDS.NOT (A)]"; 20].join(" ")
    );
    let Command::Fetch { items, .. } = imap::parse::request(line.as_bytes()).unwrap().command
    else {
        panic!("no fetch");
    };
    let job = Job {
        facts: Facts {
            by: Numbering::Sequence,
            number: 1,
            uid: 1,
            internal_date: 0,
            size: message.size(),
            modseq: 1,
            email_id: None,
            save_date: None,
        },
        flags: vec![],
        tell_flags: false,
        message,
    };
    assert!(render(&job, &items).is_err());
    assert!(render(&job, &items[..5]).is_ok());
}

#[test]
fn nul_never_leaves_in_a_literal() {
    let shown = show(b"A: b\r\n\r\n\0\0", "BODY[TEXT]");
    assert!(shown.starts_with("* 3 FETCH (BODY[TEXT] {2}\r\n"));
    assert!(!shown.contains('\0'));
}

#[test]
fn memory_for_a_message_counts_its_parts() {
    let whole = |size| memory(Need::Whole, [1, size].into_iter());
    assert_eq!(whole(10_000), 410_000);
    assert_eq!(whole(1 << 30), (1 << 30) + (16 << 20));
    assert_eq!(memory(Need::Header, [5, 7].into_iter()), 7);
    assert_eq!(memory(Need::File, [5, 7].into_iter()), 0);
    let of_parts = |part: &[u32]| {
        let part = part.to_vec();
        memory_of_parts(&[FetchItem::BinarySize { part }], [7, 1 << 30].into_iter())
    };
    assert_eq!((of_parts(&[]), of_parts(&[1])), (0, MAX_MEMORY));
    let of_items = |text: &str| memory_of_parts(&items(text), [7, 1 << 30].into_iter());
    assert_eq!(of_items("(BODY[] BODY[HEADER] BODY[TEXT])"), 0);
    assert_eq!(of_items("(BODY[] BODY[1.MIME])"), MAX_MEMORY);
    // The header of a message within may be all of it.
    let all = MAX_MEMORY + (1 << 30);
    assert_eq!(of_items("(BODY[1] BODY[2.HEADER.FIELDS (A)])"), all);
}

#[test]
fn a_message_is_read_no_further_than_needed() {
    let needed = |text: &str| need(&items(text));
    assert_eq!(needed("FAST"), Need::Nothing);
    assert_eq!(needed("(UID BODY[])"), Need::File);
    assert_eq!(needed("(BODY[1.2] BODY[2.HEADER] BINARY[1])"), Need::File);
    assert_eq!(needed("(RFC822 ENVELOPE BODY[TEXT])"), Need::Header);
    assert_eq!(needed("(ENVELOPE BODYSTRUCTURE)"), Need::Whole);
}

/// A text, and a message with two parts of which one is large.
fn nested() -> Vec<u8> {
    let large = "0123456789\r\n".repeat(30_000);
    format!(
        "Subject: outer\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\nbefore\r\n--a\r\nX: 1\r\n\r\ntext\r\n--a\r\n\
         Content-Type: message/rfc822\r\n\r\nSubject: inner\r\nFrom: b@example.org\r\n\
         Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: 2\r\n\r\n{large}\r\n--b\r\n\r\nlast\r\n--b--\r\n--a--\r\n"
    )
    .into_bytes()
}

// Where all of it is in memory, and where nothing of it is.
#[test]
fn sections_of_parts_are_the_same_wherever_they_are_looked_for() {
    let message = nested();
    for section in [
        "1",
        "1.MIME",
        "2",
        "2.MIME",
        "2.HEADER",
        "2.HEADER.FIELDS (Subject)",
        "2.HEADER.FIELDS.NOT (Subject)",
        "2.TEXT",
        "2.1",
        "2.1.MIME",
        "2.2",
        "3",
        "2.3",
        "1.HEADER",
        "2.1.TEXT",
        "1.1",
    ] {
        for partial in ["", "<0.5>", "<3.400000>", "<999999.1>"] {
            let item = format!("BODY.PEEK[{section}]{partial}");
            let alone = show(&message, &item);
            let beside = show(&message, &format!("({item} BODYSTRUCTURE)"));
            let shown = alone.strip_suffix(")\r\n").unwrap();
            assert!(beside.starts_with(shown), "{item}");
            let Some(FetchItem::Section {
                section, partial, ..
            }) = items(&item).pop()
            else {
                panic!("no section");
            };
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&message).unwrap();
            let file = Message::new(file).unwrap();
            let found = cutting(&file, &section, partial).unwrap();
            let found = found.map(|found| match found {
                Cutting::Range(range) => file.read(range.start, range.end).unwrap(),
                Cutting::Bytes(bytes) => bytes,
            });
            let walked = mime::Message::walk(&message);
            let expected = section.extract(&walked).map(|extract| {
                let extract = partial.map_or(extract.clone(), |partial| extract.partial(partial));
                extract.bytes(&message).to_vec()
            });
            assert!(found == expected, "{item}");
            let says_nil = alone.ends_with(" NIL)\r\n");
            assert_eq!(says_nil, expected.is_none(), "{item}");
        }
    }
}
