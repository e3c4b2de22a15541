//! Durable delivery: many writers, small and large messages.

use system_tests::smtp::Client;

use crate::disk::Traffic;
use crate::letter::letter;
use crate::meter::{Tracer, cpu_seconds, median, own_cpu_seconds};
use crate::plain::{Kind, MAILBOXES, Report, Work};
use crate::server::MailServer;
use crate::sheet::Sheet;
use crate::world::{World, lmtp, say};
use crate::writers::{Limit, race};

pub(crate) const TITLE: &str = "Durable delivery";
pub(crate) const LIMITS: &str = "What the disk can do";
pub(crate) const MAILDIR: &str = "maildir writer";
pub(crate) const STORE: &str = "rmail store";
pub(crate) const SMTP: &str = "rmail SMTP";
const LMTP: [&str; 2] = ["Dovecot LMTP maildir", "Dovecot LMTP mdbox"];
pub(crate) const WAY: &str = "Bringing a message to deliverd, without committing it";
/// How often a message is brought.
const WAYS: usize = 500;
const SENDER: &str = "sender@example.org";

/// Name, writers, bytes of a message, most messages (so that the disk does not fill).
pub(crate) const CASES: [(&str, usize, usize, usize); 6] = [
    ("4 KiB, 1 writer", 1, 4 << 10, 3000),
    ("4 KiB, 8 writers", 8, 4 << 10, 5000),
    ("4 KiB, 32 writers", 32, 4 << 10, 8000),
    ("64 KiB, 1 writer", 1, 64 << 10, 300),
    ("64 KiB, 8 writers", 8, 64 << 10, 300),
    ("10 MiB, 1 writer", 1, 10 << 20, 3),
];

/// The name of who comes near the bounds.
pub(crate) const PLAIN: &str = "plain file";
/// Name, what is done, writers, bytes each time, how often at most.
pub(crate) const BOUNDS: [(&str, Kind, usize, usize, usize); 3] = [
    (
        "fdatasync of a 4 KiB overwrite, 1 writer",
        Kind::Overwrite,
        1,
        4 << 10,
        20_000,
    ),
    (
        "create 4 KiB files without flush, 32 writers",
        Kind::Create,
        32,
        4 << 10,
        15_000,
    ),
    (
        "fdatasync of a 1 MiB overwrite, 1 writer",
        Kind::Overwrite,
        1,
        1 << 20,
        400,
    ),
];

/// Who takes the messages.
#[derive(Clone, Copy)]
enum Target {
    Maildir,
    Store,
    Smtp,
    Lmtp(usize),
}

struct Case {
    name: &'static str,
    writers: usize,
    size: usize,
    limit: Limit,
    letter: Vec<u8>,
}

/// Measures it.
pub(crate) fn run(world: &World, sheet: &mut Sheet) {
    let mut targets = vec![Target::Maildir, Target::Store, Target::Smtp];
    targets.extend((0..world.dovecots.len()).map(Target::Lmtp));
    for round in 0..world.scale.rounds {
        say(&format!("delivery, round {}", round + 1));
        for case in cases(world) {
            measure(world, sheet, &case, &targets);
        }
        limits(world, sheet);
        way(world, sheet);
    }
    if world.traces {
        say("delivery, system calls");
        // Those of large messages say little.
        for mut case in cases(world).filter(|case| case.size == 4 << 10) {
            case.limit.time = world.scale.time / 2;
            for target in &targets {
                let report = deliver(world, *target, &case, true);
                let (messages, calls) = (report.tally.messages, report.calls.unwrap_or_default());
                let mut add =
                    |column, value| sheet.add(TITLE, case.name, target.name(), column, value);
                add("syscalls/msg", calls.all / messages);
                add("fsyncs/msg", calls.syncs / messages);
            }
        }
    }
}

fn cases(world: &World) -> impl Iterator<Item = Case> {
    let (time, slices) = (world.scale.time / world.scale.slices, world.scale.slices);
    let case = move |(name, writers, size, messages): (_, _, _, usize)| Case {
        name,
        writers,
        size,
        limit: Limit {
            time,
            messages: messages.div_ceil(slices as usize),
        },
        letter: letter(1, size),
    };
    CASES.into_iter().map(case)
}

/// What a target did in all slices of a round.
#[derive(Clone, Copy, Default)]
struct Sum {
    messages: f64,
    cpu: f64,
    traffic: Traffic,
}

/// The time of a case is cut into slices in which the targets take turns: what else the machine does meets all of them.
fn measure(world: &World, sheet: &mut Sheet, case: &Case, targets: &[Target]) {
    let mut sums = vec![Sum::default(); targets.len()];
    for _ in 0..world.scale.slices {
        for (target, sum) in targets.iter().zip(&mut sums) {
            let (report, traffic) = world.disk.during(|| deliver(world, *target, case, false));
            let Report { tally, cpu, .. } = report;
            let mut add = |column, value| sheet.add(TITLE, case.name, target.name(), column, value);
            add("msg/s", tally.messages / tally.seconds);
            add("p50 ms", tally.p50 * 1e3);
            sum.messages += tally.messages;
            sum.cpu += cpu;
            sum.traffic = sum.traffic + traffic.unwrap_or_default();
        }
    }
    for (target, sum) in targets.iter().zip(sums) {
        let mut add = |column, value| sheet.add(TITLE, case.name, target.name(), column, value);
        add("CPU µs/msg", sum.cpu / sum.messages * 1e6);
        if world.disk.is_ours() {
            let Traffic { flushes, written } = sum.traffic;
            add("flushes/msg", flushes / sum.messages);
            add("written/size", written / sum.messages / case.size as f64);
        }
    }
}

fn deliver(world: &World, target: Target, case: &Case, traced: bool) -> Report {
    let (size, writers, limit) = (case.size, case.writers, case.limit);
    let users = world.users(MAILBOXES);
    let letter = &case.letter;
    let put = |client: &mut Client, number: usize| {
        client.deliver(SENDER, &users[number % users.len()], letter)
    };
    match target {
        Target::Maildir => {
            let kind = Kind::Maildir;
            let work = Work {
                kind,
                writers,
                size,
                limit,
            };
            work.run(world.disk.path(), traced)
        }
        Target::Store => {
            let pid = world.rmail.deliverd();
            watch(world, pid, own_cpu_seconds, traced, || {
                world.store.race(writers, limit, &users, letter)
            })
        }
        Target::Smtp => {
            let hello = |_| Client::hello(world.rmail.smtp()).expect("smtpd listens");
            let mut clients: Vec<Client> = (0..writers).map(hello).collect();
            watch(world, world.rmail.pid(), cpu_seconds, traced, || {
                race(&mut clients, limit, put)
            })
        }
        Target::Lmtp(number) => {
            let dovecot = &world.dovecots[number];
            let mut clients: Vec<Client> = (0..writers).map(|_| lmtp(dovecot)).collect();
            watch(world, dovecot.pid(), cpu_seconds, traced, || {
                race(&mut clients, limit, put)
            })
        }
    }
}

/// Does something and counts what the server used for it.
fn watch(
    world: &World,
    pid: u32,
    cpu: impl Fn(u32) -> f64,
    traced: bool,
    work: impl FnOnce() -> crate::writers::Tally,
) -> Report {
    let tracer = traced.then(|| Tracer::attach(pid, world.disk.path()));
    let before = cpu(pid);
    let tally = work();
    let cpu = cpu(pid) - before;
    let calls = tracer.map(Tracer::detach);
    Report { tally, cpu, calls }
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Maildir => MAILDIR,
            Self::Store => STORE,
            Self::Smtp => SMTP,
            Self::Lmtp(number) => LMTP[number],
        }
    }
}

/// Everything of a delivery but its commit: opened, a recipient named, the body through the stream, and taken back.
fn way(world: &World, sheet: &mut Sheet) {
    let user = &world.users(1)[0];
    let (pid, own) = (world.rmail.deliverd(), std::process::id());
    for (case, size) in [("4 KiB", 4 << 10), ("64 KiB", 64 << 10)] {
        let letter = letter(1, size);
        let cpu = || own_cpu_seconds(pid) + own_cpu_seconds(own);
        let before = cpu();
        let times = world.store.bring(WAYS, user, &letter);
        let cpu = (cpu() - before) / times.len() as f64;
        sheet.add(WAY, case, STORE, "p50 µs", median(&times) * 1e6);
        sheet.add(WAY, case, STORE, "CPU of both µs", cpu * 1e6);
    }
}

/// The bounds nobody can be faster than.
fn limits(world: &World, sheet: &mut Sheet) {
    for (case, kind, writers, size, messages) in BOUNDS {
        let limit = Limit {
            time: world.scale.time / world.scale.slices,
            messages: messages.div_ceil(world.scale.slices as usize),
        };
        let work = Work {
            kind,
            writers,
            size,
            limit,
        };
        for _ in 0..world.scale.slices {
            let tally = work.run(world.disk.path(), false).tally;
            let rate = tally.messages / tally.seconds;
            sheet.add(LIMITS, case, PLAIN, "operations/s", rate);
            sheet.add(LIMITS, case, PLAIN, "MB/s", rate * size as f64 / 1e6);
        }
    }
}
