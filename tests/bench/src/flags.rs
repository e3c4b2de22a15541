//! STORE: all messages at once, and one after the other.

use std::time::{Duration, Instant};

use system_tests::patience::wait_for;

use crate::disk::Traffic;
use crate::imap::Imap;
use crate::meter::{cpu_seconds, median, repeat};
use crate::server::READER;
use crate::sheet::Sheet;
use crate::world::{World, mailbox_of, say, short};

pub(crate) const ALL: &str = "STORE 1:* +FLAGS.SILENT (\\Flagged)";
pub(crate) const ONE: &str = "STORE of one message";
pub(crate) const FOLLOW: &str = "names follow ms";

/// Measures it.
pub(crate) fn run(world: &mut World, sheet: &mut Sheet) {
    say("STORE");
    let middle = world.scale.middle;
    let mut clients: Vec<Imap> = (0..world.servers())
        .map(|number| {
            let mut client = world.server(number).log_in(READER);
            client.command(&format!("SELECT {}", mailbox_of(middle)));
            client
        })
        .collect();
    for _ in 0..world.scale.rounds {
        for (number, client) in clients.iter_mut().enumerate() {
            all(world, sheet, number, client);
            one_by_one(world, sheet, number, client);
        }
    }
}

fn all(world: &mut World, sheet: &mut Sheet, number: usize, client: &mut Imap) {
    let (pid, name) = (world.server(number).pid(), world.server(number).name());
    let (messages, case) = (world.scale.middle, short(world.scale.middle));
    world.disk.settle();
    let (before, cpu) = (world.disk.traffic(), cpu_seconds(pid));
    let taken = client.command("STORE 1:* +FLAGS.SILENT (\\Flagged)");
    let answered = Instant::now();
    let mut add = |column, value| sheet.add(ALL, &case, name, column, value);
    add("ms to OK", taken.as_secs_f64() * 1e3);
    if world.disk.is_ours() {
        add("flushes", world.disk.traffic().flushes - before.flushes);
    }
    if number == 0 {
        let renamed = || world.rmail.names_with(&mailbox_of(messages), 'F') == messages as usize;
        wait_for(Duration::from_secs(60), || renamed().then_some(())).expect("names follow");
        add(FOLLOW, answered.elapsed().as_secs_f64() * 1e3);
    }
    // With what is done behind the answer.
    add("CPU ms", (cpu_seconds(pid) - cpu) * 1e3);
    client.command("STORE 1:* -FLAGS.SILENT (\\Flagged)");
}

fn one_by_one(world: &mut World, sheet: &mut Sheet, number: usize, client: &mut Imap) {
    let (pid, name) = (world.server(number).pid(), world.server(number).name());
    let (messages, time) = (world.scale.middle, world.scale.time);
    let case = format!("in {}", short(messages));
    let mut count: u32 = 0;
    let store = || {
        // Here and there in the mailbox; each message twice, so that every STORE changes something.
        let (message, sign) = (
            (count / 2 * 7919) % messages + 1,
            ['+', '-'][count as usize % 2],
        );
        count += 1;
        client.command(&format!("STORE {message} {sign}FLAGS.SILENT (\\Seen)"))
    };
    let ((times, cpu), traffic) = world.disk.during(|| repeat(pid, 1000, time, store));
    let mut add = |column, value| sheet.add(ONE, &case, name, column, value);
    add("p50 ms", median(&times) * 1e3);
    add("CPU µs/STORE", cpu * 1e6);
    if let Some(Traffic { flushes, .. }) = traffic {
        add("flushes/STORE", flushes / times.len() as f64);
    }
}
