//! Shared mailboxes with real processes: what each command takes (RFC 4314 §4), and what is left when rights are taken away.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use system_tests::imap::{Answer, Client};
use system_tests::options::PASSWORD;
use system_tests::{Options, System};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const ALL: &str = "lrswipkxtea";

struct Two {
    system: System,
    alice: Client,
    bob: Client,
}

impl Two {
    /// Alice with the mailbox "w" and two messages in it, and bob.
    fn new() -> Self {
        let system = System::start(Options::default());
        let login = |user| Client::login(system.address("imap"), user, PASSWORD).unwrap();
        let (alice, bob) = (login(ALICE), login(BOB));
        let mut two = Self { system, alice, bob };
        two.alice("CREATE w").ok();
        for _ in 0..2 {
            two.alice("APPEND w {8+}\r\na: b\r\n\r\n").ok();
        }
        two
    }

    #[track_caller]
    fn alice(&mut self, command: &str) -> Answer {
        self.alice.command(command).unwrap()
    }

    #[track_caller]
    fn bob(&mut self, command: &str) -> Answer {
        self.bob.command(&at(command)).unwrap()
    }

    #[track_caller]
    fn give(&mut self, letters: &str) {
        self.alice(&format!("SETACL w {BOB} \"{letters}\"")).ok();
    }
}

/// A command about `@`, which is the mailbox as bob knows it.
fn at(command: &str) -> String {
    let name = |rest: &str| format!("\"Other Users/{ALICE}/w{rest}\"");
    match command.contains("@/c") {
        true => command.replace("@/c", &name("/c")),
        false => command.replace('@', &name("")),
    }
}

/// Commands about `@`, or with a selected mailbox; the rights they take beside `l`; what is selected.
const COMMANDS: [(&str, &str, &str); 24] = [
    ("SELECT @", "r", ""),
    ("EXAMINE @", "r", ""),
    ("STATUS @ (MESSAGES)", "r", ""),
    ("APPEND @ {8+}\r\na: b\r\n\r\n", "i", ""),
    (
        "APPEND @ {8+}\r\na: b\r\n\r\n {8+}\r\na: b\r\n\r\n",
        "i",
        "",
    ),
    ("GETACL @", "a", ""),
    ("SETACL @ anyone -l", "a", ""),
    ("DELETEACL @ anyone", "a", ""),
    ("LISTRIGHTS @ anyone", "a", ""),
    ("CREATE @/c", "k", ""),
    ("DELETE @", "x", ""),
    ("SETMETADATA @ (/shared/comment \"x\")", "w", ""),
    ("COPY 1 @", "i", "INBOX"),
    ("MOVE 1 @", "i", "INBOX"),
    ("REPLACE 1 @ {8+}\r\na: b\r\n\r\n", "i", "INBOX"),
    ("STORE 1 +FLAGS \\Seen", "s", "@"),
    ("STORE 1 +FLAGS (\\Deleted)", "t", "@"),
    ("STORE 1 -FLAGS (\\Flagged)", "w", "@"),
    ("STORE 1 +FLAGS ($Work)", "w", "@"),
    ("EXPUNGE", "e", "@"),
    ("UID EXPUNGE 1:*", "e", "@"),
    ("MOVE 1 INBOX", "te", "@"),
    ("REPLACE 1 INBOX {8+}\r\na: b\r\n\r\n", "te", "@"),
    ("FETCH 1 BODY.PEEK[]", "r", "@"),
];

#[test]
fn each_command_takes_the_rights_of_the_table_and_no_others() {
    let mut two = Two::new();
    for (command, needed, selected) in COMMANDS {
        // A mailbox of its own for each, so that none depends on the one before.
        two.alice("DELETE w");
        two.alice("CREATE w").ok();
        two.alice("APPEND w (\\Flagged) {8+}\r\na: b\r\n\r\n").ok();
        two.bob("APPEND INBOX {8+}\r\na: b\r\n\r\n").ok();
        // FETCH is refused with the session: whoever may not read hears nothing more.
        let taken = needed.chars().filter(|_| !command.starts_with("FETCH"));
        for letter in taken {
            two.give(ALL);
            if !selected.is_empty() {
                two.bob(&format!("SELECT {selected}")).ok();
            }
            two.give(&ALL.replace(letter, ""));
            let answer = two.bob(command);
            assert!(
                answer.result.starts_with("NO [NOPERM]"),
                "{command:?} without {letter}: {answer:?}"
            );
        }
        let just = match selected {
            "@" => format!("lr{needed}"),
            _ => format!("l{needed}"),
        };
        // What is selected must be writable by something.
        two.give(&format!("{just}rs"));
        if !selected.is_empty() {
            two.bob(&format!("SELECT {selected}")).ok();
        }
        two.give(&just);
        let answer = two.bob(command);
        assert!(answer.result.starts_with("OK"), "{command:?}: {answer:?}");
        two.bob("UNSELECT");
        two.alice("DELETE w/c");
    }
}

#[test]
fn without_a_right_nothing_shows_that_a_mailbox_is_there() {
    let mut two = Two::new();
    assert_eq!(two.bob("LIST \"\" \"Other*\"").ok().untagged, [""; 0]);
    let namespace = two.bob("NAMESPACE").ok().untagged;
    assert_eq!(namespace, ["* NAMESPACE ((\"\" \"/\")) NIL NIL"]);
    let missing = |command: &str| {
        let name = format!("\"Other Users/{ALICE}/none\"");
        command.replace('@', &name)
    };
    for letters in ["", "p", "swte"] {
        two.give(letters);
        for (command, _, selected) in COMMANDS {
            if !selected.is_empty() || command.starts_with("CREATE") {
                continue;
            }
            let is_there = two.bob(command).result;
            let is_not = two.bob.command(&missing(command)).unwrap().result;
            assert!(is_there.starts_with("NO"), "{command:?}: {is_there}");
            assert_eq!(is_there, is_not, "{command:?}");
        }
        for command in ["MYRIGHTS @", "GETMETADATA @ /shared/comment"] {
            let is_there = two.bob(command).result;
            let is_not = two.bob.command(&missing(command)).unwrap().result;
            assert!(is_there.starts_with("NO [NONEXISTENT]"), "{is_there}");
            assert_eq!(is_there, is_not, "{command:?}");
        }
    }
}

#[test]
fn two_users_work_in_one_mailbox_until_the_right_is_taken_away() {
    let mut two = Two::new();
    let told = two
        .system
        .rmailctl(&["user", "share", ALICE, "w", "bob", "lrsw"]);
    told.succeeded();
    let shares = two.system.rmailctl(&["user", "shares", ALICE]).succeeded();
    assert_eq!(shares.text(), format!("w\t{BOB}\tlrsw\n"));
    let listed = two
        .bob("LIST \"\" \"Other Users/*\" RETURN (MYRIGHTS)")
        .ok();
    let name = at("@");
    let level = format!("* LIST (\\NonExistent \\HasChildren) \"/\" \"Other Users/{ALICE}\"");
    let expected = [
        level,
        format!("* LIST (\\HasNoChildren) \"/\" {name}"),
        format!("* MYRIGHTS {name} lrsw"),
    ];
    assert_eq!(listed.untagged, expected);
    two.bob("SETMETADATA @ (/private/comment \"mine\")").ok();
    let selected = two.bob("SELECT @").ok();
    let flags = "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Seen \\Draft \\*)]";
    let has = |answer: &Answer, start: &str| {
        let mut lines = answer.untagged.iter();
        lines.any(|line| line.starts_with(start))
    };
    assert!(
        has(&selected, flags) && has(&selected, "* 2 EXISTS"),
        "{selected:?}"
    );
    assert!(selected.result.starts_with("OK [READ-WRITE]"));
    let body = two.bob("FETCH 1 BODY[TEXT]").ok();
    assert!(body.untagged[0].contains("FLAGS (\\Seen)"), "{body:?}");
    // Alice sees what bob does, and bob what alice does.
    let seen = two.alice("SELECT w").ok();
    assert!(has(&seen, "* OK [UNSEEN 2]"), "{seen:?}");
    two.bob("STORE 2 +FLAGS (\\Flagged \\Deleted)").ok();
    let flags = two.alice("FETCH 2 FLAGS").ok();
    assert!(has(&flags, "* 2 FETCH (FLAGS (\\Flagged))"), "{flags:?}");
    two.bob.send(b"i IDLE\r\n").unwrap();
    assert!(two.bob.line().unwrap().starts_with('+'));
    two.alice("APPEND w {8+}\r\na: b\r\n\r\n").ok();
    assert_eq!(two.bob.line().unwrap(), "* 3 EXISTS");
    // Fewer rights are told, none at all ends it, and nothing is heard any more.
    two.give("lr");
    while !two.bob.line().unwrap().contains("PERMANENTFLAGS ()") {}
    two.give("");
    two.alice("APPEND w {8+}\r\na: b\r\n\r\n").ok();
    let mut rest = Vec::new();
    while let Ok(line) = two.bob.line() {
        rest.push(line);
    }
    assert!(
        rest.iter().any(|line| line.starts_with("* BYE")),
        "{rest:?}"
    );
    assert!(!rest.iter().any(|line| line.contains("EXISTS")), "{rest:?}");
    two.bob = Client::login(two.system.address("imap"), BOB, PASSWORD).unwrap();
    let gone = two.bob("SELECT @").result;
    assert!(gone.starts_with("NO [NONEXISTENT]"), "{gone}");
    two.system
        .rmailctl(&["user", "unshare", ALICE, "w", "nobody"])
        .succeeded();
    let check = two.system.rmailctl(&["store", "check"]).succeeded();
    assert!(!check.text().contains("unknown-entry"), "{}", check.text());
}

#[test]
fn a_restart_keeps_rights_and_who_removes_the_list_of_who_shares_gets_it_again_from_the_files() {
    let mut two = Two::new();
    two.give("lr");
    two.system.stop();
    two.system.start_again();
    two.bob = Client::login(two.system.address("imap"), BOB, PASSWORD).unwrap();
    assert_eq!(two.bob("LIST \"\" \"Other*\"").ok().untagged.len(), 3);
    let rebuilt = two
        .system
        .rmailctl(&["user", "shares", "--rebuild"])
        .succeeded();
    assert_eq!(rebuilt.text(), "2 users looked at\n");
    two.bob("EXAMINE @").ok();
    assert_eq!(two.bob("LIST \"\" \"Other*\"").ok().untagged.len(), 3);
}
