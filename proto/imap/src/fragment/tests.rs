use super::*;
use alloc::vec;
use proptest::prelude::*;

/// Feeds the pieces and accepts or refuses every message.
fn cut(pieces: &[&[u8]], accept: bool) -> Vec<Fragment> {
    let mut fragmenter = Fragmenter::new();
    let mut found: Vec<Fragment> = Vec::new();
    for piece in pieces {
        fragmenter.push(piece);
        while let Some(fragment) = fragmenter.next() {
            match (&fragment, found.last_mut()) {
                (Fragment::Message { .. }, _) if accept => fragmenter.accept(),
                (Fragment::Message { .. }, _) => fragmenter.refuse(),
                (Fragment::Chunk(more), Some(Fragment::Chunk(chunk))) => {
                    chunk.extend_from_slice(more);
                    continue;
                }
                _ => {}
            }
            found.push(fragment);
        }
    }
    found
}

fn end(rest: &str) -> Fragment {
    let rest = rest.as_bytes().to_vec();
    Fragment::MessageEnd { rest }
}

fn command(text: &str) -> Fragment {
    Fragment::Command(text.as_bytes().to_vec())
}

#[test]
fn commands_end_with_their_line() {
    let found = cut(&[b"a NOOP\r\nb NO", b"OP\r\n"], true);
    assert_eq!(found, [command("a NOOP"), command("b NOOP")]);
}

#[test]
fn a_waiting_client_is_told_to_go_on_and_its_literal_stays_in_place() {
    let found = cut(&[b"a LOGIN {5}\r\n", b"alice {2}\r\n", b"pw\r\n"], true);
    let whole = command("a LOGIN {5}\r\nalice {2}\r\npw");
    assert_eq!(found, [Fragment::Continue, Fragment::Continue, whole]);
}

#[test]
fn a_literal_may_hold_what_looks_like_commands() {
    let found = cut(&[b"a LOGIN {10+}\r\nx LOGOUT\r\n {2+}\r\npw\r\n"], true);
    assert_eq!(found, [command("a LOGIN {10+}\r\nx LOGOUT\r\n {2+}\r\npw")]);
}

#[test]
fn the_message_of_append_is_streamed() {
    let found = cut(
        &[b"a APPEND {5+}\r\nINBOX (\\Seen) {6+}\r\nabc", b"def\r\n"],
        true,
    );
    let head = b"a APPEND {5+}\r\nINBOX (\\Seen) ".to_vec();
    let message = Fragment::Message {
        head,
        size: 6,
        waits: false,
        binary: false,
    };
    let chunk = Fragment::Chunk(b"abcdef".to_vec());
    assert_eq!(found, [message, chunk, end("")]);
}

#[test]
fn the_message_of_replace_is_streamed_too() {
    for head in ["a REPLACE 4 INBOX ", "a uid replace 4 INBOX "] {
        let text = alloc::format!("{head}{{1+}}\r\nx\r\n");
        let found = cut(&[text.as_bytes()], true);
        let head = head.as_bytes().to_vec();
        let message = Fragment::Message {
            head,
            size: 1,
            waits: false,
            binary: false,
        };
        assert_eq!((found.len(), &found[0], &found[2]), (3, &message, &end("")));
    }
    let named = cut(&[b"a REPLACE 4 {1+}\r\nx {1+}\r\ny\r\n"], true);
    assert_eq!(named[2], end(""));
    let number = cut(&[b"a REPLACE {1+}\r\n4 x\r\n"], true);
    assert_eq!(number, [command("a REPLACE {1+}\r\n4 x")]);
}

// RFC 3516 §4.4, RFC 6855 §4.
#[test]
fn a_literal8_is_announced_with_a_tilde() {
    let ends = |line: &[u8]| {
        let found = cut(&[line], true);
        let Some(Fragment::Message { head, binary, .. }) = found.first() else {
            panic!("{found:?}");
        };
        (head.clone(), *binary, found.last().cloned())
    };
    let plain = b"a APPEND x ".to_vec();
    let utf8 = b"a APPEND x utf8 (".to_vec();
    for (line, expected) in [
        (
            &b"a APPEND x ~{2+}\r\n\0b\r\n"[..],
            (plain.clone(), true, Some(end(""))),
        ),
        (
            b"a APPEND x ~{2}\r\n\0b)\r\n",
            (plain, true, Some(end(")"))),
        ),
        (
            b"a APPEND x utf8 (~{2+}\r\nab)\r\n",
            (utf8.clone(), true, Some(end(")"))),
        ),
        (
            b"a APPEND x utf8 ({2+}\r\nab)\r\n",
            (utf8, false, Some(end(")"))),
        ),
    ] {
        assert_eq!(ends(line), expected);
    }
}

#[test]
fn an_empty_message_ends_at_once() {
    let found = cut(&[b"a APPEND INBOX {0+}\r\n\r\nb NOOP\r\n"], true);
    assert_eq!(found[1..], [end(""), command("b NOOP")]);
}

#[test]
fn a_refused_message_is_never_executed() {
    let found = cut(
        &[b"a APPEND INBOX {12+}\r\nx LOGOUT\r\n\r\n {9+}\r\ny LOGOUT\n\r\nz NOOP\r\n"],
        false,
    );
    assert_eq!(found.len(), 2);
    assert_eq!(found[1], command("z NOOP"));
}

#[test]
fn a_refused_message_of_a_waiting_client_does_not_come() {
    let found = cut(&[b"a APPEND INBOX {12}\r\n", b"z NOOP\r\n"], false);
    assert_eq!(found[1], command("z NOOP"));
}

#[test]
fn more_messages_of_one_append_are_offered_one_after_the_other() {
    let text = b"a APPEND INBOX {1+}\r\nx (\\Seen) {10+}\r\ny LOGOUT\r\n z\r\nb NOOP\r\n";
    let found = cut(&[text], true);
    let second = Fragment::Message {
        head: b" (\\Seen) ".to_vec(),
        size: 10,
        waits: false,
        binary: false,
    };
    let chunk = Fragment::Chunk(b"y LOGOUT\r\n".to_vec());
    assert_eq!(found[2..], [second, chunk, end(" z"), command("b NOOP")]);
}

#[test]
fn a_url_stays_in_place_and_the_parts_around_it_are_streamed() {
    let text = b"a APPEND x catenate (url {2}\r\n/y TEXT {1+}\r\nz URL {2+}\r\n/w)\r\n";
    let found = cut(&[text], true);
    let part = Fragment::Message {
        head: b"a APPEND x catenate (url {2}\r\n/y TEXT ".to_vec(),
        size: 1,
        waits: false,
        binary: false,
    };
    let rest = end(" URL {2+}\r\n/w)");
    let chunk = Fragment::Chunk(b"z".to_vec());
    assert_eq!(found, [Fragment::Continue, part, chunk, rest]);
    // The name of a mailbox is not a URL.
    let found = cut(&[b"a APPEND URL {1+}\r\nz\r\n"], true);
    assert_eq!(found[2..], [end("")]);
}

#[test]
fn a_url_that_is_too_long_ends_the_append() {
    let text = b"a APPEND x CATENATE (TEXT {1+}\r\nz URL {9000}\r\nb NOOP\r\n";
    let found = cut(&[text], true);
    let url = Fragment::TooLarge(b" URL {9000}".to_vec());
    assert_eq!(found[2..], [url, command("b NOOP")]);
}

#[test]
fn an_oversized_literal_of_a_waiting_client_is_refused() {
    let found = cut(&[b"a LOGIN {9000}\r\n", b"b NOOP\r\n"], true);
    let head = b"a LOGIN {9000}".to_vec();
    assert_eq!(found, [Fragment::TooLarge(head), command("b NOOP")]);
}

#[test]
fn an_oversized_literal_that_comes_anyway_ends_the_connection() {
    for size in ["99999999", "99999999999999999999999999"] {
        let text = alloc::format!("a LOGIN {{{size}+}}\r\nb NOOP\r\n");
        assert_eq!(cut(&[text.as_bytes()], true), [Fragment::Overflow]);
    }
}

#[test]
fn an_endless_line_ends_the_connection() {
    let long = vec![b'('; LIMIT_BEFORE_LOGIN + 1];
    assert_eq!(cut(&[&long, b"\r\na NOOP\r\n"], true), [Fragment::Overflow]);
    // Neither is its end waited for, nor does it help that it comes with it.
    assert_eq!(cut(&[&long], true), [Fragment::Overflow]);
    let mut fragmenter = Fragmenter::new();
    fragmenter.push(&[&long, &b"\r\n"[..]].concat());
    assert_eq!(fragmenter.next(), Some(Fragment::Overflow));
}

#[test]
fn a_line_is_too_long_with_its_end_and_without() {
    let long = |length: usize, end: &str| [vec![b'x'; length], end.into()].concat();
    let fits = LIMIT_BEFORE_LOGIN;
    assert_eq!(cut(&[&long(fits, "")], true), []);
    // Before its end comes, and where that came along.
    for end in ["", "\n"] {
        let found = cut(&[&long(fits + 1, end)], true);
        assert_eq!(found, [Fragment::Overflow], "{end:?}");
    }
    let found = cut(&[&long(fits, "\n")], true);
    assert_eq!(found, [Fragment::Command(long(fits, ""))]);
}

#[test]
fn an_answer_to_a_challenge_is_no_longer_than_a_command() {
    for end in ["", "\r\n"] {
        let mut fragmenter = Fragmenter::new();
        fragmenter.push(&[vec![b'x'; LIMIT_BEFORE_LOGIN + 1], end.into()].concat());
        assert_eq!(fragmenter.next_line(), Err(Overflow), "{end:?}");
    }
}

#[test]
fn many_small_literals_count_together() {
    let mut text = b"a LOGIN ".to_vec();
    for _ in 0..3000 {
        text.extend_from_slice(b"{1+}\r\nx ");
    }
    assert_eq!(cut(&[&text], true).last(), Some(&Fragment::Overflow));
}

#[test]
fn thousands_of_literals_take_no_stack() {
    extern crate std;
    let literals = || {
        let mut fragmenter = Fragmenter::new();
        fragmenter.allow(LIMIT_AFTER_LOGIN);
        fragmenter.push(&b"{0+}\r\n".repeat(10_000));
        fragmenter.push(b"\r\n");
        matches!(fragmenter.next(), Some(Fragment::Command(_)))
    };
    let small = std::thread::Builder::new().stack_size(128 * 1024);
    assert!(small.spawn(literals).unwrap().join().unwrap());
}

#[test]
fn an_answer_to_a_challenge_is_no_command() {
    let mut fragmenter = Fragmenter::new();
    fragmenter.push(b"abc{5}\r\nb NOOP\r\n");
    assert_eq!(fragmenter.next_line(), Ok(Some(b"abc{5}".to_vec())));
    assert_eq!(fragmenter.next(), Some(command("b NOOP")));
}

proptest! {
    #[test]
    fn the_result_does_not_depend_on_how_the_bytes_were_split(
        text in "(a (LOGIN|APPEND|x|APPEND x CATENATE \\(TEXT|URL) ?(\\{[0-9]{1,2}\\+?\\})?(\r?\n)?){0,12}",
        cuts in proptest::collection::vec(0usize..200, 0..6),
        accept: bool,
    ) {
        let bytes = text.as_bytes();
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(cut(&pieces, accept), cut(&[bytes], accept));
    }
}
