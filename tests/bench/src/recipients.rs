//! One message to many local mailboxes.

use std::time::{Duration, Instant};

use system_tests::smtp::Client;

use crate::deliver::{MAILDIR, SMTP, STORE};
use crate::disk::Traffic;
use crate::letter::letter;
use crate::meter::{cpu_seconds, own_cpu_seconds};
use crate::plain::{Kind, Work};
use crate::server::MailServer;
use crate::sheet::Sheet;
use crate::world::{DOVECOT_ACCOUNTS, World, lmtp, say, send_to_all, short};
use crate::writers::Limit;

pub(crate) const TITLE: &str = "One message to many mailboxes";

/// Recipients, bytes of the message, and how those are called.
const CASES: [(usize, usize, &str); 3] = [
    (100, 4 << 10, "4 KiB"),
    (1000, 4 << 10, "4 KiB"),
    (1000, 64 << 10, "64 KiB"),
];

/// Measures it.
pub(crate) fn run(world: &World, sheet: &mut Sheet) {
    say("one message to many");
    for _ in 0..world.scale.rounds {
        for (users, size, name) in CASES {
            // For a thousand Dovecot needs half a minute.
            let with_dovecot = users <= DOVECOT_ACCOUNTS;
            let users = world.users(users);
            let count = u32::try_from(users.len()).expect("a few thousand");
            let case = format!("{name} to {}", short(count));
            round(world, sheet, &case, &users, size, with_dovecot);
        }
    }
}

fn round(
    world: &World,
    sheet: &mut Sheet,
    case: &str,
    users: &[String],
    size: usize,
    with_dovecot: bool,
) {
    let letter = letter(2, size);
    let mut note = |name, work: &dyn Fn() -> (Duration, f64)| {
        let ((taken, cpu), traffic) = world.disk.during(work);
        let mut add = |column, value| sheet.add(TITLE, case, name, column, value);
        add("ms", taken.as_secs_f64() * 1e3);
        add("CPU ms", cpu * 1e3);
        if let Some(Traffic { flushes, written }) = traffic {
            add("flushes", flushes);
            add("MB written", written / 1e6);
        }
    };
    note(MAILDIR, &|| {
        let limit = Limit {
            time: Duration::from_secs(60),
            messages: users.len(),
        };
        let work = Work {
            kind: Kind::Copies,
            writers: 1,
            size,
            limit,
        };
        let report = work.run(world.disk.path(), false);
        (Duration::from_secs_f64(report.tally.seconds), report.cpu)
    });
    note(STORE, &|| {
        let pid = world.rmail.deliverd();
        let before = own_cpu_seconds(pid);
        let taken = world.store.deliver(users, &letter);
        (taken, own_cpu_seconds(pid) - before)
    });
    note(SMTP, &|| {
        let mut client = Client::hello(world.rmail.smtp()).expect("smtpd listens");
        // SMTP answers once, LMTP for each recipient.
        transaction(&mut client, world.rmail.pid(), users, &letter, 1)
    });
    for dovecot in world.dovecots.iter().filter(|_| with_dovecot) {
        note(dovecot.name(), &|| {
            transaction(
                &mut lmtp(dovecot),
                dovecot.pid(),
                users,
                &letter,
                users.len(),
            )
        });
    }
}

fn transaction(
    client: &mut Client,
    pid: u32,
    users: &[String],
    letter: &[u8],
    replies: usize,
) -> (Duration, f64) {
    let (before, begun) = (cpu_seconds(pid), Instant::now());
    send_to_all(client, users, letter, replies);
    (begun.elapsed(), cpu_seconds(pid) - before)
}
