//! The goals of the store, and whether this run met them.

use std::fmt::Write;

use crate::deliver::{LIMITS, MAILDIR, SMTP, STORE, TITLE as DELIVERY};
use crate::read::{ALONE, COLD, CPU, FETCH, FIRST, SEARCH, SELECT, WARM};
use crate::sheet::{Sheet, figure};
use crate::{append, deliver, flags, read, recipients};

const MAILDIR_PEER: &str = "Dovecot maildir";
const MDBOX: &str = "Dovecot mdbox";
const RMAIL: &str = "rmail";

/// A figure of this run and what it should be.
struct Goal {
    text: &'static str,
    /// `None` if the run did not measure it.
    measured: Option<f64>,
    bound: Bound,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};

impl Bound {
    fn is_kept_by(self, value: f64) -> bool {
        match self {
            AtLeast(bound) => value >= bound,
            AtMost(bound) => value <= bound,
        }
    }
}

/// A table of all goals, in Markdown.
pub(crate) fn table(sheet: &Sheet) -> String {
    let goals: Vec<Goal> = [
        deliveries(sheet),
        end_to_end(sheet),
        reading(sheet),
        changing(sheet),
        spreading(sheet),
    ]
    .into_iter()
    .flatten()
    .collect();
    let measured = goals.iter().filter_map(|goal| Some((goal, goal.measured?)));
    let met = measured
        .filter(|(goal, value)| goal.bound.is_kept_by(*value))
        .count();
    let mut text = format!(
        "### Goals\n\nMet: {met} of {} that were measured.\n\n| goal | bound | measured | |\n|---|---:|---:|---|\n",
        goals.iter().filter(|goal| goal.measured.is_some()).count()
    );
    for goal in goals {
        let bound = match goal.bound {
            AtLeast(bound) => format!("≥ {}", figure(bound)),
            AtMost(bound) => format!("≤ {}", figure(bound)),
        };
        let (measured, verdict) = match goal.measured {
            Some(value) if goal.bound.is_kept_by(value) => (figure(value), "met"),
            Some(value) => (figure(value), "**unmet**"),
            None => ("–".to_owned(), "not measured"),
        };
        writeln!(text, "| {} | {bound} | {measured} | {verdict} |", goal.text).expect("memory");
    }
    text
}

fn goal(text: &'static str, bound: Bound, measured: Option<f64>) -> Goal {
    Goal {
        text,
        measured,
        bound,
    }
}

/// The better of the two Dovecots.
fn best_dovecot(sheet: &Sheet, title: &str, case: &str, column: &str) -> Option<f64> {
    let both = [MAILDIR_PEER, MDBOX].map(|system| sheet.median(title, case, system, column));
    let pick = if column.ends_with("/s") {
        f64::max
    } else {
        f64::min
    };
    both.into_iter().flatten().reduce(pick)
}

fn deliveries(sheet: &Sheet) -> Vec<Goal> {
    let [one, eight, many] = [0, 1, 2].map(|at| deliver::CASES[at].0);
    let store = |case, column| sheet.median(DELIVERY, case, STORE, column);
    let to_maildir = |case, column| sheet.ratio(DELIVERY, case, [STORE, MAILDIR], column);
    let to_limit = |case, limit: usize| {
        let bound = sheet.median(LIMITS, deliver::BOUNDS[limit].0, deliver::PLAIN, "MB/s")?;
        let bytes = deliver::CASES.iter().find(|(name, ..)| *name == case)?.2;
        Some(100.0 * store(case, "msg/s")? * bytes as f64 / 1e6 / bound)
    };
    vec![
        goal(
            "bringing 4 KiB to deliverd without the commit, p50 µs",
            AtMost(25.0),
            sheet.median(deliver::WAY, "4 KiB", STORE, "p50 µs"),
        ),
        goal(
            "4 KiB deliveries, 1 writer: times a maildir writer",
            AtLeast(3.0),
            to_maildir(one, "msg/s"),
        ),
        goal("8 writers", AtLeast(3.0), to_maildir(eight, "msg/s")),
        goal("32 writers", AtLeast(3.0), to_maildir(many, "msg/s")),
        goal(
            "1 writer: % of what fdatasync(4 KiB) allows",
            AtLeast(50.0),
            to_limit(one, 0),
        ),
        goal(
            "32 writers: % of unflushed file creation",
            AtLeast(60.0),
            to_limit(many, 1),
        ),
        goal(
            "64 KiB, 8 writers: % of flushed bandwidth",
            AtLeast(60.0),
            to_limit(deliver::CASES[4].0, 2),
        ),
        goal(
            "flushes per message, 1 writer",
            AtMost(1.01),
            store(one, "flushes/msg"),
        ),
        goal("8 writers", AtMost(0.25), store(eight, "flushes/msg")),
        goal("32 writers", AtMost(0.07), store(many, "flushes/msg")),
        goal(
            "bytes written per byte of mail, 1 writer",
            AtMost(3.2),
            store(one, "written/size"),
        ),
        goal("8 writers", AtMost(2.5), store(eight, "written/size")),
        goal("32 writers", AtMost(2.3), store(many, "written/size")),
        goal(
            "p50 of a delivery, 1 writer: times a maildir writer",
            AtMost(0.35),
            to_maildir(one, "p50 ms"),
        ),
        goal("8 writers", AtMost(0.35), to_maildir(eight, "p50 ms")),
        goal("32 writers", AtMost(0.35), to_maildir(many, "p50 ms")),
        goal(
            "delivery over SMTP, 1 session, p50 ms (a third of 2 ms)",
            AtMost(0.67),
            sheet.median(DELIVERY, one, SMTP, "p50 ms"),
        ),
    ]
}

fn end_to_end(sheet: &Sheet) -> Vec<Goal> {
    let [one, many] = [0, 2].map(|at| deliver::CASES[at].0);
    let smtp = |case, column| sheet.median(DELIVERY, case, SMTP, column);
    let append = |case| sheet.median(append::TITLE, case, RMAIL, "msg/s");
    let [alone, ten] = append::CONNECTIONS.map(|(case, _)| case);
    let bodies = |case| {
        let peer = best_dovecot(sheet, read::BODIES, case, "MB/s")?;
        Some(sheet.median(read::BODIES, case, RMAIL, "MB/s")? / peer)
    };
    vec![
        goal(
            "SMTP to store, 32 sessions: CPU s per 1,000",
            AtMost(0.45),
            smtp(many, "CPU µs/msg").map(|cpu| cpu / 1e3),
        ),
        goal(
            "system calls of all processes per message, 32 sessions",
            AtMost(60.0),
            smtp(many, "syscalls/msg"),
        ),
        goal(
            "flushes per message, busy",
            AtMost(0.2),
            smtp(many, "flushes/msg"),
        ),
        goal(
            "flushes per message, 1 session",
            AtMost(1.01),
            smtp(one, "flushes/msg"),
        ),
        goal("APPEND, 1 connection, /s", AtLeast(3000.0), append(alone)),
        goal("APPEND, 10 connections, /s", AtLeast(4000.0), append(ten)),
        goal(
            "bodies of 64 KiB: times the better Dovecot",
            AtLeast(1.5),
            bodies(read::LARGE[0].0),
        ),
    ]
}

fn reading(sheet: &Sheet) -> Vec<Goal> {
    let select = |case, column| sheet.median(SELECT, case, RMAIL, column);
    let alone = |case, column| sheet.median(ALONE, case, STORE, column);
    let fetch = |name: &str, column| sheet.median(FETCH, &format!("{name}, 10k"), RMAIL, column);
    let cached = || {
        let peer = best_dovecot(sheet, FETCH, "ENVELOPE, 10k", CPU)?;
        Some(peer / fetch("ENVELOPE", CPU)?)
    };
    let cold_to_dovecot =
        || Some(alone("100k", COLD)? / best_dovecot(sheet, SELECT, "100k", COLD)?);
    let search = |column| sheet.median(SEARCH, "absent word, 10k", RMAIL, column);
    let scan = || Some(best_dovecot(sheet, SEARCH, "absent word, 10k", WARM)? / search(WARM)?);
    vec![
        goal(
            "SELECT 100k cold, over IMAP, ms",
            AtMost(10.0),
            select("100k", COLD),
        ),
        goal(
            "re-SELECT 100k, over IMAP, ms",
            AtMost(0.3),
            select("100k", WARM),
        ),
        goal(
            "SELECT 1M cold, over IMAP, ms",
            AtMost(15.0),
            select("1M", COLD),
        ),
        goal(
            "SELECT 100k cold, deliverd alone, ms",
            AtMost(2.0),
            alone("100k", COLD),
        ),
        goal(
            "SELECT 100k warm, deliverd alone, ms",
            AtMost(0.02),
            alone("100k", WARM),
        ),
        goal(
            "SELECT 1M cold, deliverd alone, ms",
            AtMost(2.0),
            alone("1M", COLD),
        ),
        goal(
            "SELECT 1M warm, deliverd alone, ms",
            AtMost(0.02),
            alone("1M", WARM),
        ),
        goal(
            "SELECT 100k cold: times the better Dovecot's index",
            AtMost(0.2),
            cold_to_dovecot(),
        ),
        goal(
            "index of 1M made anew: usable after ms",
            AtMost(2000.0),
            select("1M", FIRST),
        ),
        goal(
            "memory per message of an open mailbox of 100k, B",
            AtMost(32.0),
            alone("100k", "memory B/msg"),
        ),
        goal(
            "kept for FETCH ENVELOPE and BODYSTRUCTURE, B per message",
            AtMost(650.0),
            sheet.median(read::CACHES, "10k", RMAIL, read::KEPT[0].0),
        ),
        goal(
            "FETCH UID FLAGS 10k, CPU ms",
            AtMost(1.2),
            fetch("UID FLAGS", CPU),
        ),
        goal(
            "FETCH ENVELOPE 10k cold, ms",
            AtMost(40.0),
            fetch("ENVELOPE", COLD),
        ),
        goal(
            "FETCH ENVELOPE 10k warm, CPU ms",
            AtMost(15.0),
            fetch("ENVELOPE", CPU),
        ),
        goal(
            "the same: times less CPU than the better Dovecot",
            AtLeast(20.0),
            cached(),
        ),
        goal("SEARCH TEXT 10k, ms", AtMost(10.0), search(WARM)),
        goal(
            "SEARCH TEXT 10k: times faster than the better Dovecot",
            AtLeast(40.0),
            scan(),
        ),
    ]
}

fn changing(sheet: &Sheet) -> Vec<Goal> {
    let all = |column| sheet.median(flags::ALL, "10k", RMAIL, column);
    let one = |column| sheet.median(flags::ONE, "in 10k", RMAIL, column);
    vec![
        goal("STORE 1:10000, ms to OK", AtMost(4.0), all("ms to OK")),
        goal(
            "its names follow after ms",
            AtMost(1000.0),
            all(flags::FOLLOW),
        ),
        goal("flushes of one STORE", AtMost(1.01), one("flushes/STORE")),
        goal(
            "one STORE, p50 ms (a third of 0.1 ms)",
            AtMost(0.033),
            one("p50 ms"),
        ),
    ]
}

fn spreading(sheet: &Sheet) -> Vec<Goal> {
    let of = |case, system, column| sheet.median(recipients::TITLE, case, system, column);
    let small = "4 KiB to 1k";
    let time = || sheet.ratio(recipients::TITLE, small, [STORE, MAILDIR], "ms");
    let growth =
        || Some(of("64 KiB to 1k", STORE, "MB written")? / of(small, STORE, "MB written")?);
    vec![
        goal(
            "1,000 recipients: times 1,000 durable copies",
            AtMost(0.04),
            time(),
        ),
        goal(
            "bytes written for 64 KiB: times those for 4 KiB",
            AtMost(1.1),
            growth(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_unmet_or_not_measured() {
        let mut sheet = Sheet::default();
        for (system, rate) in [(MAILDIR, 100.0), (STORE, 299.0)] {
            sheet.add(DELIVERY, deliver::CASES[0].0, system, "msg/s", rate);
        }
        sheet.add(SELECT, "100k", RMAIL, COLD, 9.0);
        let table = table(&sheet);
        assert!(table.contains("Met: 1 of 2 that were measured"), "{table}");
        assert!(
            table.contains("times a maildir writer | ≥ 3.00 | 2.99 | **unmet** |"),
            "{table}"
        );
        assert!(
            table.contains("SELECT 100k cold, over IMAP, ms | ≤ 10.0 | 9.00 | met |"),
            "{table}"
        );
        assert!(
            table.contains("SELECT 1M cold, over IMAP, ms | ≤ 15.0 | – | not measured |"),
            "{table}"
        );
    }
}
