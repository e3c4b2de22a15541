//! APPEND over IMAP, a mailbox for each connection.

use crate::disk::Traffic;
use crate::imap::Imap;
use crate::letter::letter;
use crate::meter::cpu_seconds;
use crate::server::account;
use crate::sheet::Sheet;
use crate::world::{World, say};
use crate::writers::{Limit, race};

pub(crate) const TITLE: &str = "APPEND of 4 KiB";
pub(crate) const CONNECTIONS: [(&str, usize); 2] = [("1 connection", 1), ("10 connections", 10)];

/// Measures it.
pub(crate) fn run(world: &mut World, sheet: &mut Sheet) {
    say("APPEND");
    let letter = letter(1, 4096);
    let limit = Limit {
        time: world.scale.time,
        messages: 5000,
    };
    let servers = 0..world.servers();
    let mut clients: Vec<Vec<Imap>> = servers
        .map(|number| {
            (0..10)
                .map(|user| world.server(number).log_in(&account(user)))
                .collect()
        })
        .collect();
    for _ in 0..world.scale.rounds {
        for (case, connections) in CONNECTIONS {
            for (number, clients) in clients.iter_mut().enumerate() {
                let (pid, name) = (world.server(number).pid(), world.server(number).name());
                let ((tally, cpu), traffic) = world.disk.during(|| {
                    let before = cpu_seconds(pid);
                    let tally = race(&mut clients[..connections], limit, |client, _| {
                        client.append("INBOX", &letter);
                        Ok(())
                    });
                    (tally, cpu_seconds(pid) - before)
                });
                let mut add = |column, value| sheet.add(TITLE, case, name, column, value);
                add("msg/s", tally.messages / tally.seconds);
                add("p50 ms", tally.p50 * 1e3);
                add("CPU µs/msg", cpu / tally.messages * 1e6);
                if let Some(Traffic { flushes, written }) = traffic {
                    add("flushes/msg", flushes / tally.messages);
                    add("written/size", written / tally.messages / 4096.0);
                }
            }
        }
    }
}
