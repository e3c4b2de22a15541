use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

use proptest::prelude::*;

use super::*;
use crate::append::Step;
use crate::body::{Partial, Section, SectionText};
use crate::command::{FetchItem, SectionName};
use crate::search::{Key, When};

fn parse(text: &str) -> Command {
    let line = format!("a1 {text}");
    let request = request(line.as_bytes()).unwrap_or_else(|bad| panic!("{text}: {}", bad.error));
    assert_eq!(request.tag, "a1");
    request.command
}

fn complaint(text: &str) -> String {
    let line = format!("a1 {text}");
    let bad = request(line.as_bytes()).expect_err(text);
    assert_eq!(bad.tag.as_deref(), Some("a1"));
    bad.error.to_string()
}

fn sections(text: &str) -> Vec<FetchItem> {
    match parse(&format!("FETCH 1 {text}")) {
        Command::Fetch { items, .. } => items,
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_of_mailboxes_come_in_three_forms() {
    for text in ["inbox", "\"InBox\"", "{5}\r\nINBOX", "{5+}\r\nINBOX"] {
        let expected = Command::Select {
            mailbox: "INBOX".into(),
            asked: None,
            read_only: false,
            condstore: false,
            resync: None,
        };
        assert_eq!(parse(&format!("SELECT {text}")), expected);
    }
    assert_eq!(
        parse("DELETE \"a \\\"b\\\\\""),
        Command::Delete("a \"b\\".into())
    );
    assert_eq!(
        parse("DELETE Entw&APw-rfe]"),
        Command::Delete("Entwürfe]".into())
    );
}

#[test]
fn a_login_holds_any_characters() {
    let Command::Login(found) = parse("LOGIN \"al ice\" {4}\r\np\r\nw") else {
        panic!("no login");
    };
    assert_eq!(
        (found.user.as_str(), found.password.reveal()),
        ("al ice", &b"p\r\nw"[..])
    );
}

#[test]
fn an_initial_response_may_be_given() {
    let authenticate = |initial: Option<&[u8]>| Command::Authenticate {
        mechanism: "PLAIN".into(),
        initial: initial.map(<[u8]>::to_vec),
    };
    assert_eq!(parse("authenticate plain"), authenticate(None));
    assert_eq!(
        parse("AUTHENTICATE PLAIN AGEAYg=="),
        authenticate(Some(b"AGEAYg=="))
    );
    assert_eq!(parse("AUTHENTICATE PLAIN ="), authenticate(Some(b"")));
}

#[test]
fn fetch_macros_stand_for_their_items() {
    assert_eq!(
        sections("FAST"),
        [FetchItem::Flags, FetchItem::InternalDate, FetchItem::Size]
    );
    assert_eq!(sections("full").len(), 5);
    assert_eq!(sections("BODY"), [FetchItem::Body]);
    assert_eq!(
        sections("(UID BODYSTRUCTURE)"),
        [FetchItem::Uid, FetchItem::BodyStructure]
    );
}

#[test]
fn sections_and_partials_are_understood() {
    let expected = FetchItem::Section {
        name: SectionName::Body,
        section: Section {
            part: vec![1, 2],
            text: Some(SectionText::HeaderFields(vec!["From".into(), "X-A".into()])),
        },
        partial: Some(Partial {
            origin: 0,
            count: 100,
        }),
        peek: true,
    };
    assert_eq!(
        sections("BODY.PEEK[1.2.HEADER.FIELDS (From \"X-A\")]<0.100>"),
        [expected]
    );
    for text in [
        "BODY[]",
        "BODY[TEXT]",
        "BODY[1]",
        "BODY[1.MIME]",
        "BODY[HEADER]",
        "RFC822.TEXT",
    ] {
        let items = sections(text);
        assert!(
            matches!(items[0], FetchItem::Section { peek: false, .. }),
            "{text}"
        );
    }
    assert!(matches!(
        sections("RFC822.HEADER")[0],
        FetchItem::Section { peek: true, .. }
    ));
}

// RFC 3516 §7.
#[test]
fn contents_are_asked_for_by_part() {
    let binary = |part: &[u32], partial, peek| FetchItem::Binary {
        part: part.to_vec(),
        partial,
        peek,
    };
    let (origin, count) = (2, 5);
    let some = Some(Partial { origin, count });
    assert_eq!(sections("BINARY[1.2]"), [binary(&[1, 2], None, false)]);
    assert_eq!(sections("BINARY.PEEK[]<2.5>"), [binary(&[], some, true)]);
    assert_eq!(
        sections("(BINARY.SIZE[3] UID)"),
        [FetchItem::BinarySize { part: vec![3] }, FetchItem::Uid]
    );
}

#[test]
fn store_adds_removes_and_replaces() {
    let Command::Store {
        by,
        mode,
        silent,
        flags,
        ..
    } = parse("UID STORE 1:* -flags.silent (\\seen $Forwarded)")
    else {
        panic!("no store");
    };
    assert_eq!(
        (by, mode, silent),
        (Numbering::Uid, StoreMode::Remove, true)
    );
    assert_eq!(flags, [Flag::Seen, Flag::Keyword("$Forwarded".into())]);
    assert!(matches!(
        parse("STORE 1 FLAGS ()"),
        Command::Store {
            mode: StoreMode::Replace,
            ..
        }
    ));
    assert!(matches!(
        parse("STORE 1 +FLAGS \\Seen a"),
        Command::Store {
            mode: StoreMode::Add,
            ..
        }
    ));
}

#[test]
fn search_keys_combine() {
    let Command::Search { charset, key, .. } =
        parse("SEARCH CHARSET utf-8 OR (UNSEEN 1:3) NOT FROM \"ü\" SINCE 1-Feb-1994 HEADER X ''")
    else {
        panic!("no search");
    };
    assert_eq!(charset.as_deref(), Some("UTF-8"));
    let Key::And(keys) = key else {
        panic!("{key:?}")
    };
    assert!(matches!(&keys[0], Key::Or(..)));
    assert_eq!(keys[1], Key::Received(When::Since, 8797));
}

#[test]
fn special_use_can_be_asked_for() {
    let Command::List(list) = parse("LIST (SPECIAL-USE) \"\" * RETURN (SPECIAL-USE CHILDREN)")
    else {
        panic!("no list");
    };
    assert!(list.selection.special_use);
    let expected = Command::Create {
        mailbox: "a".into(),
        asked: None,
        special_use: Some(Use::Sent),
    };
    assert_eq!(parse("CREATE a/ (USE (\\sent))"), expected);
}

#[test]
fn an_append_is_known_by_its_head() {
    let text = b"a1 APPEND {4}\r\na b/ (\\Seen x) \"17-Jul-1996 02:44:25 -0700\" ";
    let (head, steps, _) = append::begin(Dialect::REV1, text).unwrap();
    assert_eq!(head.mailbox, "a b/");
    let begin = Step::Begin {
        flags: vec![Flag::Seen, Flag::Keyword("x".into())],
        internal_date: Some(837_596_665),
    };
    assert_eq!(steps, [begin, Step::Literal]);
    assert!(append::begin(Dialect::REV1, b"a1 APPEND INBOX ").is_ok());
    assert!(append::begin(Dialect::REV1, b"a1 APPEND INBOX").is_err());
    assert!(append::begin(Dialect::REV1, b"a1 APPEND INBOX () x ").is_err());
    assert!(append::begin(Dialect::REV1, b"a1 APPEND INBOX \"1-Jul-1996\" ").is_err());
}

#[test]
fn complaints_say_what_was_expected() {
    assert_eq!(complaint("FROB"), "unknown command at byte 3");
    assert_eq!(complaint("SELECT"), "expected a space at byte 9");
    assert_eq!(
        complaint("NOOP x"),
        "expected the end of the command at byte 7"
    );
    assert_eq!(
        complaint("FETCH 0 ALL"),
        "expected a number above 0 at byte 10"
    );
    assert_eq!(
        complaint("STORE 1 FLAGS (\\Recent)"),
        "system flags are \\Answered \\Deleted \\Draft \\Flagged and \\Seen at byte 18"
    );
}

#[test]
fn malformed_commands_are_refused() {
    for text in [
        "LOGIN a",
        "LOGIN a b c",
        "LOGIN  a b",
        "LOGIN \"a b",
        "LOGIN {3}\r\na",
        "LOGIN {1}\r\n\0 b",
        "LOGIN \"a\\n\" b",
        "AUTHENTICATE",
        "AUTHENTICATE PLAIN !",
        "SELECT a&b",
        "SELECT \u{fc}",
        "SELECT a\tb",
        "SELECT (a)",
        "LIST \"\"",
        "LIST (FOO) \"\" *",
        "STATUS a ()",
        "STATUS a (FOO)",
        "FETCH ALL",
        "FETCH 1",
        "FETCH 1 ()",
        "FETCH 1 (ALL)",
        "FETCH 1 FOO",
        "FETCH 1: ALL",
        "FETCH 1,,2 ALL",
        "FETCH 4294967296 ALL",
        "FETCH 1 BODY[MIME]",
        "FETCH 1 BODY[0]",
        "FETCH 1 BODY[1.]",
        "FETCH 1 BODY[",
        "FETCH 1 BODY[HEADER.FIELDS ()]",
        "FETCH 1 BODY[HEADER.FIELDS (\"a\r\n\")]",
        "FETCH 1 BODY[]<1>",
        "FETCH 1 BODY[]<1.0>",
        "FETCH 1 BINARY",
        "FETCH 1 BINARY[TEXT]",
        "FETCH 1 BINARY[1.MIME]",
        "FETCH 1 BINARY[1.]",
        "FETCH 1 BINARY[0]",
        "FETCH 1 BINARY.SIZE[1]<0.1>",
        "FETCH 1 BINARY.SIZE",
        "FETCH 1 BINARY[1]<0.0>",
        "STORE 1 FLAGS",
        "STORE 1 +-FLAGS (a)",
        "STORE 1 FLAG (\\Seen)",
        "STORE 1 FLAGS (a) b",
        "STORE 1 FLAGS (\\Foo)",
        "STORE 1 FLAGS (a]b)",
        "STORE 1 FLAGS (a\"b)",
        "SEARCH",
        "SEARCH FOO",
        "SEARCH ()",
        "SEARCH ON x",
        "SEARCH ON 31-Feb-2020",
        "SEARCH NOT",
        "UID NOOP",
        "UID EXPUNGE",
        "EXPUNGE 1",
        "ID (a)",
        "APPEND INBOX",
        "ENABLE",
        "CREATE a (USE (\\All))",
        "COPY 1",
        "IDLE x",
        "",
        " NOOP",
    ] {
        let line = format!("a1 {text}");
        assert!(request(line.as_bytes()).is_err(), "{text}");
    }
    for line in ["", "a", "NOOP", "+ NOOP", "(a NOOP", "\u{fc} NOOP"] {
        assert_eq!(request(line.as_bytes()).unwrap_err().tag, None, "{line}");
    }
}

#[test]
fn deep_searches_are_refused_without_harm() {
    for key in ["NOT ", "(", "OR ALL "] {
        assert!(complaint(&format!("SEARCH {}ALL", key.repeat(20_000))).contains("too deeply"));
    }
    assert!(matches!(
        parse(&format!("SEARCH {}ALL", "NOT ".repeat(32))),
        Command::Search { .. }
    ));
}

#[test]
fn what_would_cost_too_much_is_refused() {
    assert!(complaint(&format!("SEARCH {}", "ALL ".repeat(1000).trim())).contains("too many keys"));
    assert!(
        complaint(&format!("SEARCH {}", "TEXT x ".repeat(51).trim())).contains("too many keys")
    );
    assert!(complaint(&format!("LIST \"\" {}", "*%".repeat(501))).contains("too long"));
    let part = vec!["1"; 101].join(".");
    for item in ["BINARY.PEEK", "BINARY.SIZE"] {
        assert!(complaint(&format!("FETCH 1 {item}[{part}]")).contains("too many levels"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = request(&bytes);
        let _ = append::begin(Dialect::REV1, &bytes);
    }

    #[test]
    fn nothing_that_resembles_commands_makes_the_parser_panic(
        text in "a (UID )?(FETCH|STORE|SEARCH|SORT|THREAD|LIST|STATUS|CREATE|LOGIN|ID|APPEND|COPY) [0-9:*,]{0,6} ?[A-Z .\\[\\]<>()\"\\\\{}+0-9\r\n*%&-]{0,60}",
    ) {
        let _ = request(text.as_bytes());
        let _ = append::begin(Dialect::REV1, text.as_bytes());
    }
}
