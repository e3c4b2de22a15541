//! One mailbox with more and more messages.

use std::time::{Duration, Instant};

use system_tests::options::PASSWORD;

use super::Sizes;
use super::fill::{Filler, sample};
use super::watch::{forget_peak, idle_cpu, memory};
use crate::disk::Disk;
use crate::meter::median;
use crate::rmail::Rmail;
use crate::server::{MailServer, READER, account};
use crate::sheet::{Sheet, figure};
use crate::world::{mailbox_of, say, short};

const SELECT: &str = "SELECT of a large mailbox, deliverd alone";
const USE: &str = "Use of a large mailbox, over IMAP";
/// Messages put into it, one after the other.
const APPENDED: u32 = 40;

/// Measures it.
pub(crate) fn run(disk: &Disk, sizes: &Sizes, sheet: &mut Sheet) {
    say("starting rmail");
    let mut rmail = Rmail::start(disk.path(), 1);
    let filler = Filler::new(disk.path().join("pool"), rmail.store_owner());
    for &messages in &sizes.messages {
        say(&format!("filling a mailbox: {messages}"));
        rmail.stop();
        let own_files = messages <= sizes.own_files;
        filler.mailbox(&rmail.mailbox(&mailbox_of(messages)), messages, own_files);
        // What it was made with is on disk, and not in memory.
        disk.settle();
        let mut large = Large {
            rmail: &mut rmail,
            disk,
            sheet,
            messages,
            name: mailbox_of(messages),
        };
        large.first();
        large.cold();
        large.used(sizes.idle);
    }
    rmail.start();
    rmail.abandon(disk);
}

struct Large<'a> {
    rmail: &'a mut Rmail,
    disk: &'a Disk,
    sheet: &'a mut Sheet,
    messages: u32,
    name: String,
}

impl Large<'_> {
    fn add(&mut self, title: &'static str, column: &'static str, value: f64) {
        say(&format!("{column}: {}", figure(value)));
        self.sheet
            .add(title, &short(self.messages), "rmail", column, value);
    }

    /// From the files: there is no index yet.
    fn first(&mut self) {
        say("first");
        self.disk.forget();
        self.rmail.start();
        let store = self.rmail.store();
        let session = store.session(READER, PASSWORD);
        let pid = self.rmail.deliverd();
        let before = memory(pid).resident;
        forget_peak(pid);
        let taken = session.select(&self.name, self.messages);
        let peak = memory(pid).peak;
        self.add(SELECT, "first ms", millis(taken));
        self.add(SELECT, "its peak +MiB", peak - before);
        drop(session);
        self.rmail.stop();
    }

    /// From the index.
    fn cold(&mut self) {
        say("cold");
        self.disk.forget();
        let begun = Instant::now();
        self.rmail.start();
        self.add(SELECT, "start of all ms", millis(begun.elapsed()));
        let store = self.rmail.store();
        let session = store.session(READER, PASSWORD);
        let pid = self.rmail.deliverd();
        self.disk.forget();
        let before = memory(pid).resident;
        forget_peak(pid);
        let taken = session.select(&self.name, self.messages);
        self.add(SELECT, "cold ms", millis(taken));
        self.add(SELECT, "peak +MiB", memory(pid).peak - before);
        let grown = (memory(pid).resident - before) * f64::from(1 << 20);
        self.add(SELECT, "B/msg", grown / f64::from(self.messages));
        let warm: Vec<Duration> = (0..5)
            .map(|_| session.select(&self.name, self.messages))
            .collect();
        self.add(SELECT, "warm ms", median(&warm) * 1e3);
        drop(session);
        // Others are used.
        std::thread::sleep(Duration::from_secs(1));
        store.deliver(&[account(0)], &sample());
        std::thread::sleep(Duration::from_secs(1));
        self.add(SELECT, "RSS before MiB", before);
        self.add(SELECT, "after it was closed MiB", memory(pid).resident);
        self.rmail.stop();
    }

    /// A client works in it.
    fn used(&mut self, idle: u64) {
        say("in use");
        self.rmail.start();
        let (deliverd, imapd) = (self.rmail.deliverd(), self.rmail.imapd());
        let mut client = self.rmail.log_in(READER);
        self.disk.forget();
        let name = self.name.clone();
        let status = format!("STATUS {name} (MESSAGES UNSEEN UIDNEXT)");
        let taken = client.command(&status);
        self.add(USE, "STATUS cold ms", millis(taken));
        let taken = client.command(&status);
        self.add(USE, "warm ms", millis(taken));
        let letter = sample();
        let first = client.append(&name, &letter);
        self.add(USE, "first APPEND ms", millis(first));
        let times: Vec<Duration> = (1..APPENDED)
            .map(|_| client.append(&name, &letter))
            .collect();
        self.add(USE, "APPEND p50 ms", median(&times) * 1e3);
        let cpu = idle_cpu(deliverd, idle / 5);
        self.add(USE, "CPU ms of emptying the journal", cpu);
        let before = memory(imapd).resident;
        let taken = client.command(&format!("SELECT {name}"));
        let all = self.messages + APPENDED;
        assert_eq!(client.count(&format!("* {all} EXISTS")), 1, "{name}");
        self.add(USE, "SELECT ms", millis(taken));
        self.add(USE, "imapd +MiB", memory(imapd).resident - before);
        let taken = client.command(&format!("FETCH {all} (FLAGS ENVELOPE)"));
        assert_eq!(client.count(" FETCH ("), 1, "{name}");
        self.add(USE, "FETCH of the last ms", millis(taken));
        // A round of looking around is in it, of a mailbox that is selected.
        let cpu = idle_cpu(deliverd, idle);
        self.add(USE, "CPU ms of 35 s selected", cpu);
        client.command("UNSELECT");
        self.rmail.stop();
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
