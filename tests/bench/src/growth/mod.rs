//! How much larger stores cost: the same questions to stores and mailboxes of growing sizes.
//!
//! `store-bench --scale [--smoke] [--largest] [--directory DIR] [accounts|mailbox|renames …]`. Messages are hard links of a few files: names and inodes
//! are what grows, and ten million files of their own would need fifty gigabytes.

mod accounts;
mod fill;
mod mailbox;
mod renames;
mod watch;

use std::path::PathBuf;
use std::time::Instant;

use system_tests::program;

use crate::disk::Disk;
use crate::sheet::Sheet;
use crate::world::say;

/// The first argument that leads here.
pub(crate) const ARGUMENT: &str = "--scale";
const USAGE: &str = "usage: store-bench --scale [--smoke] [--largest] [--directory DIR] [accounts|mailbox|renames …]";
/// Of the file system; it takes what is written to it.
const GIBIBYTES: u64 = 18;

/// What is asked.
type Question = (&'static str, fn(&Disk, &Sizes, &mut Sheet));

const QUESTIONS: [Question; 3] = [
    ("accounts", accounts::run),
    ("mailbox", mailbox::run),
    ("renames", renames::run),
];

/// How large everything gets.
#[derive(Debug, Clone)]
pub(crate) struct Sizes {
    /// Accounts of the stores, ascending; each has [`fill::MAILBOXES`] mailboxes.
    pub(crate) accounts: Vec<usize>,
    /// Users who get mail in the largest of the stores: twice as many as may be in memory.
    pub(crate) used: usize,
    /// Mailboxes of the user who has many.
    pub(crate) many: usize,
    /// Messages of the mailboxes, ascending.
    pub(crate) messages: Vec<u32>,
    /// Messages up to this are files of their own.
    pub(crate) own_files: u32,
    /// Messages of a mailbox whose files are renamed, and how often that happens in all.
    pub(crate) renames: (u32, u64),
    /// How long deliverd is watched while nobody asks it anything, in seconds: longer than any of its rounds.
    pub(crate) idle: u64,
}

impl Sizes {
    fn full() -> Self {
        Self {
            accounts: vec![1_000, 10_000, 100_000],
            used: 20_000,
            many: 10_000,
            messages: vec![100_000, 1_000_000, 10_000_000],
            own_files: 1_000_000,
            renames: (6_000, 1_000_000),
            idle: 35,
        }
    }

    /// Leaves the smaller ones out.
    fn only_largest(&mut self) {
        self.accounts.drain(..self.accounts.len() - 1);
        self.messages.drain(..self.messages.len() - 1);
    }

    fn smoke() -> Self {
        Self {
            accounts: vec![20, 40],
            used: 40,
            many: 30,
            messages: vec![1_500, 3_000],
            own_files: 2_000,
            renames: (1_200, 5_000),
            idle: 0,
        }
    }
}

/// Measures what the arguments say and prints the tables.
pub(crate) fn main(arguments: &[String]) {
    let begun = Instant::now();
    let (mut sizes, mut directory, mut questions) = (Sizes::full(), None, Vec::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--smoke" => {
                sizes = Sizes::smoke();
                directory = directory.or_else(|| Some(std::env::temp_dir()));
            }
            "--largest" => sizes.only_largest(),
            "--directory" => directory = arguments.next().map(PathBuf::from),
            name => match QUESTIONS.iter().find(|(known, _)| *known == name) {
                Some(question) => questions.push(*question),
                None => {
                    eprintln!("there is no question {name}\n{USAGE}");
                    std::process::exit(64);
                }
            },
        }
    }
    if questions.is_empty() {
        questions = QUESTIONS.to_vec();
    }
    let mut sheet = Sheet::default();
    for (number, (_, question)) in questions.into_iter().enumerate() {
        let disk = match &directory {
            Some(directory) => Disk::directory(directory),
            None if program::is_root() => {
                say("making a file system");
                Disk::sparse(&std::env::temp_dir(), GIBIBYTES)
            }
            None => Disk::directory(&std::env::temp_dir()),
        };
        if number == 0 {
            println!("{}", crate::machine(&disk));
        }
        question(&disk, &sizes, &mut sheet);
    }
    println!(
        "{}\nThe run took {:.0} s; load average at its end: {}.",
        sheet.tables(),
        begun.elapsed().as_secs_f64(),
        crate::load()
    );
}
