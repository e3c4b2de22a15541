//! Measures the store beside a plain maildir writer and Debian's Dovecot, in one run on one file system, and prints the tables of
//! docs/performance.md.
//!
//! `store-bench [--smoke] [--rounds N] [--million] [--flush MS] [--directory DIR] [WORKLOAD…]`, `store-bench --scale …` (`growth`), or
//! `store-bench relay …` (`relay`);
//! `tests/bench/run` builds what it needs first.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement that went wrong is worth nothing: it stops at once; never linked into a daemon"
)]
#![allow(
    clippy::cast_precision_loss,
    reason = "counts and bytes of a benchmark are far below 2^52"
)]

mod append;
mod deliver;
mod disk;
mod dovecot;
mod flags;
mod goals;
mod growth;
mod imap;
mod letter;
mod meter;
mod plain;
mod read;
mod recipients;
mod relay;
mod rmail;
mod server;
mod sheet;
mod slow_disk;
mod store;
mod world;
mod writers;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use system_tests::program;

use crate::disk::Disk;
use crate::dovecot::Dovecot;
use crate::sheet::Sheet;
use crate::world::{Scale, World, say};

/// A workload by its name on the command line.
type Workload = (&'static str, fn(&mut World, &mut Sheet));

const WORKLOADS: [Workload; 5] = [
    ("deliver", |world, sheet| deliver::run(world, sheet)),
    ("append", append::run),
    ("read", read::run),
    ("flags", flags::run),
    ("recipients", |world, sheet| recipients::run(world, sheet)),
];

/// On a disk with a slow flush: accounts, how long a measurement takes about, and the size of the disk.
const SLOW_RECIPIENTS: usize = 100;
const SLOW_TIME: Duration = Duration::from_secs(4);
const SLOW_MEBIBYTES: u64 = 3072;

const USAGE: &str = "usage: store-bench [--smoke] [--rounds N] [--million] [--flush MS] [--directory DIR] [deliver|append|read|flags|recipients …]";

struct Options {
    scale: Scale,
    /// Measure in that directory instead of on a file system of our own.
    directory: Option<PathBuf>,
    /// Measure on a disk in memory whose flush takes so many milliseconds.
    flush: Option<u32>,
    workloads: Vec<Workload>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((plain::ARGUMENT, rest)) = arguments
        .split_first()
        .map(|(first, rest)| (first.as_str(), rest))
    {
        return plain::main(rest);
    }
    if let Some((growth::ARGUMENT, rest)) = arguments
        .split_first()
        .map(|(first, rest)| (first.as_str(), rest))
    {
        return growth::main(rest);
    }
    if let Some((relay::ARGUMENT, rest)) = arguments
        .split_first()
        .map(|(first, rest)| (first.as_str(), rest))
    {
        return relay::main(rest);
    }
    match Options::parse(&arguments) {
        Ok(options) => measure(options),
        Err(complaint) => {
            eprintln!("{complaint}\n{USAGE}");
            std::process::exit(64);
        }
    }
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            scale: Scale::full(),
            directory: None,
            flush: None,
            workloads: Vec::new(),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--smoke" => {
                    options.scale = Scale::smoke();
                    // In memory, where flushing costs nothing.
                    let memory = PathBuf::from("/dev/shm");
                    options.directory = Some(memory).filter(|memory| memory.is_dir());
                }
                "--million" => options.scale.huge = Some(1_000_000),
                "--rounds" => {
                    let rounds = arguments.next().and_then(|text| text.parse().ok());
                    options.scale.rounds = rounds
                        .filter(|rounds| *rounds > 0)
                        .ok_or("--rounds needs a number")?;
                }
                "--flush" => {
                    let delay = arguments.next().and_then(|text| text.parse().ok());
                    options.flush = Some(delay.ok_or("--flush needs milliseconds")?);
                    // Dovecot makes its accounts with many flushes.
                    options.scale.with_others = false;
                    options.scale.recipients = SLOW_RECIPIENTS;
                    options.scale.time = SLOW_TIME;
                }
                "--directory" => {
                    let directory = arguments.next().ok_or("--directory needs a path")?;
                    options.directory = Some(directory.into());
                }
                name => {
                    let known = WORKLOADS.iter().find(|(known, _)| *known == name);
                    let known = known.ok_or_else(|| format!("there is no workload {name}"))?;
                    options.workloads.push(*known);
                }
            }
        }
        if options.workloads.is_empty() {
            options.workloads = WORKLOADS.to_vec();
        }
        Ok(options)
    }
}

fn measure(options: Options) {
    let begun = Instant::now();
    let disk = match (options.directory, options.flush) {
        (Some(directory), _) => Disk::directory(&directory),
        (None, Some(delay)) => Disk::slow(SLOW_MEBIBYTES, delay),
        (None, None) if program::is_root() && options.scale.with_others => {
            say("making a file system");
            Disk::on_loop(&std::env::temp_dir(), options.scale.mebibytes())
        }
        (None, None) => Disk::directory(&std::env::temp_dir()),
    };
    println!("{}", introduction(&disk, &options.scale));
    let mut world = World::prepare(options.scale, disk);
    let mut sheet = Sheet::default();
    for (_, workload) in options.workloads {
        workload(&mut world, &mut sheet);
    }
    println!("{}\n{}", sheet.tables(), goals::table(&sheet));
    drop(world);
    println!(
        "The run took {:.0} s; load average at its end: {}.",
        begun.elapsed().as_secs_f64(),
        load()
    );
}

/// What was measured on, and beside what.
fn introduction(disk: &Disk, scale: &Scale) -> String {
    let peer = if scale.with_others && Dovecot::is_possible() {
        format!("Dovecot {} with mail_fsync=always", Dovecot::version())
    } else {
        "without Dovecot".to_owned()
    };
    format!("{}; {peer}. {} rounds.", machine(disk), scale.rounds)
}

/// What was measured on.
fn machine(disk: &Disk) -> String {
    let kernel = read("/proc/sys/kernel/osrelease");
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let model = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or_else(String::new, |rest| {
            rest.trim_start_matches([' ', '\t', ':']).to_owned()
        });
    let memory = read("/proc/meminfo")
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse::<f64>().ok())
        .unwrap_or_default();
    let place = if disk.is_ours() {
        "ext4 (default journal, noatime) of its own on a loop device with direct I/O".to_owned()
    } else {
        format!(
            "the file system of {}: flushes and bytes are not counted",
            disk.path().display()
        )
    };
    format!(
        "Machine: {processors} × {model}, {:.0} GiB, Linux {}; load average at the start: {}; {place}",
        memory / f64::from(1 << 20),
        kernel.trim(),
        load()
    )
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn load() -> String {
    let text = read("/proc/loadavg");
    text.split(' ').next().unwrap_or("unknown").to_owned()
}
