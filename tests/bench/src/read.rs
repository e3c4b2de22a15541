//! Reading: SELECT, FETCH and SEARCH, with nothing prepared, with a cold page cache, and warm.

use std::time::Duration;

use system_tests::options::PASSWORD;

use crate::imap::Imap;
use crate::letter::{ABSENT, WORD};
use crate::meter::{anonymous_memory, median, repeat};
use crate::server::{MailServer, READER};
use crate::sheet::Sheet;
use crate::world::{World, mailbox_of, say, short};

pub(crate) const SELECT: &str = "SELECT";
pub(crate) const ALONE: &str = "SELECT, deliverd alone";
pub(crate) const FETCH: &str = "FETCH 1:*";
pub(crate) const SEARCH: &str = "SEARCH TEXT";
pub(crate) const CACHES: &str = "Kept for readers, bytes per message of 4 KiB";
pub(crate) const BODIES: &str = "FETCH 1:* BODY.PEEK[], warm";

/// Indexes and caches deleted, server restarted, page cache dropped.
pub(crate) const FIRST: &str = "first ms";
/// The server restarted, page cache dropped.
pub(crate) const COLD: &str = "cold ms";
pub(crate) const WARM: &str = "warm ms";
pub(crate) const CPU: &str = "warm CPU ms";

/// Name in the table, title, command.
const QUESTIONS: [(&str, &str, &str); 5] = [
    ("UID FLAGS", FETCH, "FETCH 1:* (UID FLAGS)"),
    ("ENVELOPE", FETCH, "FETCH 1:* (ENVELOPE)"),
    ("BODYSTRUCTURE", FETCH, "FETCH 1:* (BODYSTRUCTURE)"),
    ("absent word", SEARCH, "SEARCH TEXT"),
    ("word in 1 of 37", SEARCH, "SEARCH TEXT"),
];

/// Column, and directory in the mailbox.
pub(crate) const KEPT: [(&str, &str); 2] = [
    ("envelopes and structures", ".cache/summaries"),
    ("text", ".cache/text"),
];

/// Name in the table and mailbox of the large messages.
pub(crate) const LARGE: [(&str, &str); 2] = [("64 KiB each", "large"), ("10 MiB each", "largest")];

/// Measures it.
pub(crate) fn run(world: &mut World, sheet: &mut Sheet) {
    for round in 0..world.scale.rounds {
        for number in 0..world.servers() {
            say(&format!(
                "reading, round {}: {}",
                round + 1,
                world.server(number).name()
            ));
            world.server(number).stop();
            if round == 0 {
                let can_do_without = world.server(number).forget_indexes();
                world.server(number).start();
                selects(world, sheet, number, can_do_without.then_some(FIRST));
                questions(world, sheet, number, FIRST);
                if number == 0 {
                    kept(world, sheet);
                }
                world.server(number).stop();
            }
            world.server(number).start();
            selects(world, sheet, number, Some(COLD));
            // Reading all messages from the disk takes long, so once must do.
            if round == 0 {
                questions(world, sheet, number, COLD);
            }
            warm(world, sheet, number);
        }
        alone(world, sheet);
    }
}

/// SELECT of each mailbox once, the page cache dropped before.
fn selects(world: &mut World, sheet: &mut Sheet, number: usize, column: Option<&'static str>) {
    let (name, sizes) = (world.server(number).name(), sizes(world, number));
    let mut client = world.server(number).log_in(READER);
    world.disk.forget();
    for size in sizes {
        let taken = select(&mut client, size);
        if let Some(column) = column {
            sheet.add(SELECT, &short(size), name, column, millis(taken));
        }
    }
}

/// Each question once, the page cache dropped before each: what the last one read is in memory.
fn questions(world: &mut World, sheet: &mut Sheet, number: usize, column: &'static str) {
    let (name, middle) = (world.server(number).name(), world.scale.middle);
    let mut client = world.server(number).log_in(READER);
    select(&mut client, middle);
    // Which word is looked for makes no difference here.
    for question in QUESTIONS.into_iter().take(4) {
        world.disk.forget();
        let taken = ask(&mut client, question, middle);
        sheet.add(
            question.1,
            &case(question, middle),
            name,
            column,
            millis(taken),
        );
    }
}

/// What rmail keeps for readers about messages that were all fetched and searched.
fn kept(world: &World, sheet: &mut Sheet) {
    let middle = world.scale.middle;
    for (column, directory) in KEPT {
        let bytes = world.rmail.kept(&mailbox_of(middle), directory);
        let each = bytes as f64 / f64::from(middle);
        sheet.add(CACHES, &short(middle), "rmail", column, each);
    }
}

/// Everything again and again.
fn warm(world: &mut World, sheet: &mut Sheet, number: usize) {
    let (name, sizes, middle) = (
        world.server(number).name(),
        sizes(world, number),
        world.scale.middle,
    );
    let (time, large) = (world.scale.time / 3, world.scale.large);
    let server = world.server(number);
    let (pid, mut client) = (server.pid(), server.log_in(READER));
    let mut note = |title, case: &str, (times, cpu): (Vec<Duration>, f64)| {
        sheet.add(title, case, name, WARM, median(&times) * 1e3);
        sheet.add(title, case, name, CPU, cpu * 1e3);
    };
    for size in sizes {
        select(&mut client, size);
        note(
            SELECT,
            &short(size),
            repeat(pid, 1000, time, || select(&mut client, size)),
        );
    }
    select(&mut client, middle);
    for question in QUESTIONS {
        ask(&mut client, question, middle);
        let times = repeat(pid, 100, time, || ask(&mut client, question, middle));
        note(question.1, &case(question, middle), times);
    }
    for ((case, mailbox), count) in LARGE.into_iter().zip([large.0, large.1]) {
        client.command(&format!("SELECT {mailbox}"));
        let (times, cpu) = repeat(pid, 20, time, || client.command("FETCH 1:* (BODY.PEEK[])"));
        assert_eq!(
            client.count(" FETCH ("),
            count as usize,
            "{name}: {mailbox}"
        );
        let megabytes = client.reply_length() as f64 / 1e6;
        sheet.add(BODIES, case, name, "MB/s", megabytes / median(&times));
        sheet.add(BODIES, case, name, "CPU µs/MB", cpu / megabytes * 1e6);
    }
}

/// SELECT as imapd asks for it, without imapd.
fn alone(world: &mut World, sheet: &mut Sheet) {
    world.rmail.stop();
    world.rmail.start();
    let sizes = sizes(world, 0);
    let session = world.store.session(READER, PASSWORD);
    world.disk.forget();
    for size in &sizes {
        let (case, mailbox) = (short(*size), mailbox_of(*size));
        let before = anonymous_memory(world.rmail.deliverd());
        let taken = session.select(&mailbox, *size);
        let grown = anonymous_memory(world.rmail.deliverd()) - before;
        let mut add = |column, value| sheet.add(ALONE, &case, "rmail store", column, value);
        add(COLD, millis(taken));
        add("memory B/msg", grown / f64::from(*size));
        let pid = world.rmail.deliverd();
        let warm = || session.select(&mailbox, *size);
        let (times, cpu) = repeat(pid, 1000, world.scale.time / 3, warm);
        add(WARM, median(&times) * 1e3);
        add(CPU, cpu * 1e3);
    }
}

fn sizes(world: &World, server: usize) -> Vec<u32> {
    let mut sizes = world.scale.mailboxes.clone();
    sizes.extend(world.scale.huge.filter(|_| server == 0));
    sizes
}

fn select(client: &mut Imap, size: u32) -> Duration {
    let taken = client.command(&format!("SELECT {}", mailbox_of(size)));
    assert_eq!(client.count(&format!("* {size} EXISTS")), 1, "{size}");
    taken
}

fn case(question: (&str, &str, &str), messages: u32) -> String {
    format!("{}, {}", question.0, short(messages))
}

fn ask(client: &mut Imap, (name, title, command): (&str, &str, &str), messages: u32) -> Duration {
    if title == FETCH {
        let taken = client.command(command);
        assert_eq!(client.count(" FETCH ("), messages as usize, "{command}");
        return taken;
    }
    let (word, hits) = if name == "absent word" {
        (ABSENT, 0)
    } else {
        (WORD, messages / crate::letter::HIT_EVERY)
    };
    let taken = client.command(&format!("{command} {word}"));
    assert_eq!(client.found(), hits as usize, "{command} {word}");
    taken
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
