//! More accounts, and with them more mailboxes: what a start costs, what a user costs, what tools that walk over all cost.

use std::process::Stdio;
use std::time::{Duration, Instant};

use system_tests::options::PASSWORD;

use super::Sizes;
use super::fill::{Filler, MAILBOXES, sample};
use super::watch::{Memory, forget_peak, idle_cpu, memory, peak_until_end};
use crate::disk::Disk;
use crate::meter::{median, own_cpu_seconds};
use crate::rmail::Rmail;
use crate::server::{MailServer, READER, account};
use crate::sheet::{Sheet, figure};
use crate::world::{say, short};

const START: &str = "Start";
const USE: &str = "Users";
const TOOLS: &str = "Tools over all mailboxes";
const MANY: &str = "One user with many mailboxes";
/// Recipients of one message.
const TOGETHER: usize = 1000;

/// Measures it.
pub(crate) fn run(disk: &Disk, sizes: &Sizes, sheet: &mut Sheet) {
    say("starting rmail");
    let mut rmail = Rmail::start(disk.path(), 0);
    let filler = Filler::new(disk.path().join("pool"), rmail.store_owner());
    let mut there = 0;
    for (number, &accounts) in sizes.accounts.iter().enumerate() {
        rmail.stop();
        say(&format!("making accounts: {accounts}"));
        rmail.copy_accounts(there..accounts);
        filler.users(there..accounts, |number| {
            rmail.user_directory(&account(number))
        });
        there = accounts;
        let case = format!(
            "{} accounts, {} mailboxes",
            short_count(accounts),
            short_count(accounts * MAILBOXES)
        );
        let is_last = number + 1 == sizes.accounts.len();
        let mut stage = Stage {
            rmail: &mut rmail,
            disk,
            sheet,
            case,
            accounts,
        };
        stage.start();
        stage.users(if is_last { sizes.used } else { TOGETHER });
        stage.idle(sizes.idle);
        stage.tools();
        stage.crash(sizes.idle);
    }
    many(&mut rmail, &filler, disk, sizes.many, sheet);
    rmail.abandon(disk);
}

/// A store of one size.
struct Stage<'a> {
    rmail: &'a mut Rmail,
    disk: &'a Disk,
    sheet: &'a mut Sheet,
    case: String,
    accounts: usize,
}

impl Stage<'_> {
    fn add(&mut self, title: &'static str, column: &'static str, value: f64) {
        say(&format!("{column}: {}", figure(value)));
        self.sheet.add(title, &self.case, "rmail", column, value);
    }

    /// From a clean stop, nothing in the page cache.
    fn start(&mut self) {
        say("starting");
        self.disk.forget();
        let begun = Instant::now();
        self.rmail.start();
        let taken = begun.elapsed();
        let pid = self.rmail.deliverd();
        self.add(START, "all daemons ready ms", millis(taken));
        self.add(START, "deliverd CPU ms", own_cpu_seconds(pid) * 1e3);
        let Memory {
            resident,
            proportional,
            ..
        } = memory(pid);
        self.add(START, "RSS MiB", resident);
        self.add(START, "PSS MiB", proportional);
    }

    /// Users who were not used since the start.
    fn users(&mut self, most: usize) {
        say("first uses");
        let store = self.rmail.store();
        let letter = sample();
        let count = self.accounts.min(20);
        let ask = |number: usize| {
            let user = account(self.accounts / count * number);
            store.deliver(&[user], &letter)
        };
        self.disk.forget();
        let first: Vec<Duration> = (0..count).map(ask).collect();
        let again: Vec<Duration> = (0..count).map(ask).collect();
        self.add(USE, "first delivery to one ms", median(&first) * 1e3);
        self.add(USE, "second ms", median(&again) * 1e3);
        let pid = self.rmail.deliverd();
        let numbers: Vec<usize> = (0..self.accounts.min(most)).collect();
        let before = memory(pid).resident;
        let mut times = Vec::new();
        for (done, some) in numbers.chunks(TOGETHER).enumerate() {
            if done * TOGETHER * 2 == numbers.len() {
                self.add(USE, "RSS after half of them MiB", memory(pid).resident);
            }
            let users: Vec<String> = some.iter().map(|number| account(*number)).collect();
            times.push(store.deliver(&users, &letter) / u32::try_from(users.len()).expect("few"));
        }
        let after = memory(pid).resident;
        self.add(USE, "users used", numbers.len() as f64);
        self.add(USE, "RSS after MiB", after);
        self.add(
            USE,
            "KiB each",
            (after - before) * 1024.0 / numbers.len() as f64,
        );
        self.add(USE, "µs each, first thousand", micros(times[0]));
        self.add(
            USE,
            "µs each, last thousand",
            micros(times[times.len() - 1]),
        );
    }

    /// Nobody asks for anything, with all that were used in memory.
    fn idle(&mut self, seconds: u64) {
        say("idle");
        // The journal is emptied before.
        std::thread::sleep(Duration::from_secs(seconds / 3));
        let cpu = idle_cpu(self.rmail.deliverd(), seconds);
        self.add(USE, "CPU ms of 35 s idle", cpu);
    }

    fn tools(&mut self) {
        for (command, [seconds, cpu, ours, its]) in [
            (
                "stat",
                ["stat s", "CPU s", "deliverd peak +MiB", "rmailctl peak MiB"],
            ),
            (
                "check",
                [
                    "check s",
                    "check: CPU s",
                    "check: deliverd peak +MiB",
                    "check: rmailctl peak MiB",
                ],
            ),
        ] {
            let pid = self.rmail.deliverd();
            let (before, spent) = (memory(pid).resident, own_cpu_seconds(pid));
            forget_peak(pid);
            let begun = Instant::now();
            let mut child = self
                .rmail
                .rmailctl(&["store", command])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("it was built");
            let peak = peak_until_end(&mut child);
            self.add(TOOLS, seconds, begun.elapsed().as_secs_f64());
            self.add(TOOLS, cpu, own_cpu_seconds(pid) - spent);
            self.add(TOOLS, ours, (memory(pid).peak - before).max(0.0));
            self.add(TOOLS, its, peak);
        }
    }

    /// deliverd is killed.
    fn crash(&mut self, seconds: u64) {
        say("killing deliverd");
        let begun = Instant::now();
        self.rmail.kill_deliverd();
        let taken = begun.elapsed();
        let pid = self.rmail.deliverd();
        self.add(START, "after a kill ms", millis(taken));
        let cpu = idle_cpu(pid, seconds);
        self.add(START, "CPU ms in 35 s after it", cpu);
    }
}

/// A user with as many mailboxes as one may have.
fn many(rmail: &mut Rmail, filler: &Filler, disk: &Disk, many: usize, sheet: &mut Sheet) {
    say("one user with many mailboxes");
    rmail.stop();
    let directory = rmail.user_directory(READER);
    std::fs::remove_dir_all(&directory).expect("it has nothing in it");
    filler.user(&directory, many);
    rmail.start();
    let pid = rmail.deliverd();
    let mut add = |column, value| {
        let case = format!("{} mailboxes", short_count(many));
        sheet.add(MANY, &case, "rmail", column, value);
    };
    let store = rmail.store();
    disk.forget();
    // A password is hashed at each first login.
    let begun = Instant::now();
    drop(store.session(&account(0), PASSWORD));
    let other = begun.elapsed();
    let before = memory(pid).resident;
    let begun = Instant::now();
    let others = std::thread::scope(|scope| {
        let opening = scope.spawn(|| drop(store.session(READER, PASSWORD)));
        let other = rmail.store();
        let mut longest = Duration::ZERO;
        let mut number = 1;
        while !opening.is_finished() {
            longest = longest.max(other.deliver(&[account(number % 20)], &sample()));
            number += 1;
        }
        longest
    });
    let taken = begun.elapsed().saturating_sub(other);
    add("first login, more than another's, ms", millis(taken));
    add("longest delivery to others meanwhile ms", millis(others));
    add(
        "B each",
        (memory(pid).resident - before) * f64::from(1 << 20) / many as f64,
    );
    let mut client = rmail.log_in(READER);
    let mut list = |command: &str| {
        let taken = client.command(command);
        assert_eq!(client.count("* LIST "), many, "{command}");
        millis(taken)
    };
    add("LIST ms", list("LIST \"\" *"));
    add("again ms", list("LIST \"\" *"));
    let mut status = || {
        let begun = Instant::now();
        // The first have other names.
        for number in 10..many {
            client.command(&format!("STATUS m{number:05} (MESSAGES UNSEEN)"));
        }
        millis(begun.elapsed())
    };
    add("STATUS of each ms", status());
    add("again, in memory ms", status());
    add("RSS after MiB", memory(pid).resident);
}

fn short_count(count: usize) -> String {
    short(u32::try_from(count).unwrap_or(u32::MAX))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
