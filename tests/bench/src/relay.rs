//! Mail through to another server: submitted to rmail and to Postfix by the same clients, handed over to Postfix's `smtp-sink`, until the
//! last one is there.
//!
//! `store-bench relay [--smoke] [--rounds N]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use loopback::Port;
use serde_json::json;
use system_tests::dns::NameServer;
use system_tests::options::PASSWORD;
use system_tests::patience::wait_for;
use system_tests::postfix::Postfix;
use system_tests::program::{self, Service};
use system_tests::smtp::Client;
use system_tests::system::Home;
use system_tests::{Options, System};

use crate::disk::Disk;
use crate::letter::letter;
use crate::meter::{Tracer, cpu_seconds};
use crate::server::READER;
use crate::sheet::Sheet;
use crate::world::say;
use crate::writers::{Limit, race};

/// The first argument that leads here.
pub(crate) const ARGUMENT: &str = "relay";
pub(crate) const TITLE: &str = "Relay through to a sink, 4 KiB";
pub(crate) const RMAIL: &str = "rmail";
pub(crate) const POSTFIX: &str = "Postfix";
const USAGE: &str = "usage: store-bench relay [--smoke] [--rounds N]";
const SIZE: usize = 4 << 10;
/// Of the file system, in MiB.
const ROOM: u64 = 2048;
/// Connections out at once to one domain: Postfix's own default.
const CONNECTIONS: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(120);

/// Sessions that bring mail, and as they stand in the table.
pub(crate) const CASES: [(&str, usize); 2] = [("1 session", 1), ("20 sessions", 20)];

/// How much is sent.
#[derive(Clone, Copy)]
struct Sizes {
    rounds: usize,
    /// Messages of a round.
    messages: usize,
    with_others: bool,
}

/// Somebody who takes mail for `outside.test` and hands it over.
struct Relay {
    name: &'static str,
    address: SocketAddr,
    /// Whether clients have to log in.
    login: bool,
    pid: u32,
}

/// `smtp-sink`, which counts what it gets.
struct Sink {
    service: Service,
    port: Port,
}

impl Sink {
    fn start(directory: &Path) -> Self {
        let port = Port::reserve();
        let mut command = program::command("smtp-sink");
        if program::is_root() {
            command.args(["-u", "nobody"]);
        }
        let address = format!("127.0.0.1:{}", port.number());
        let command = command.args(["-c", &address, "1000"]).current_dir("/");
        let service = Service::start(command, &directory.join("sink.log"));
        let address = (Ipv4Addr::LOCALHOST, port.number()).into();
        let listens = wait_for(Duration::from_secs(10), || Client::connect(address).ok());
        listens.unwrap_or_else(|error| panic!("smtp-sink: {error}\n{}", service.log()));
        Self { service, port }
    }

    /// Messages until now.
    fn count(&self) -> usize {
        let log = self.service.log();
        let last = log.rsplit("mesg=").next().filter(|_| log.contains("mesg="));
        let digits = last.map(|last| last.split(|c: char| !c.is_ascii_digit()).next());
        digits
            .flatten()
            .and_then(|digits| digits.parse().ok())
            .unwrap_or(0)
    }
}

/// Measures what the arguments say and prints the table.
pub(crate) fn main(arguments: &[String]) {
    let mut sizes = Sizes {
        rounds: 3,
        messages: 2000,
        with_others: true,
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let rounds = |text: Option<&String>| text.and_then(|text| text.parse().ok());
        match argument.as_str() {
            "--smoke" => {
                sizes = Sizes {
                    rounds: 1,
                    messages: 20,
                    with_others: false,
                }
            }
            "--rounds" if let Some(number) = rounds(arguments.next()) => sizes.rounds = number,
            _ => {
                eprintln!("{USAGE}");
                std::process::exit(64);
            }
        }
    }
    let begun = Instant::now();
    let disk = match program::is_root() && sizes.with_others {
        true => Disk::on_loop(&std::env::temp_dir(), ROOM),
        false => Disk::directory(&std::env::temp_dir()),
    };
    let mut sheet = Sheet::default();
    measure(&disk, sizes, &mut sheet);
    println!(
        "{}\n{}\n{}\nThe run took {:.0} s; load average at its end: {}.",
        crate::machine(&disk),
        sheet.tables(),
        goals(&sheet),
        begun.elapsed().as_secs_f64(),
        crate::load()
    );
}

fn measure(disk: &Disk, sizes: Sizes, sheet: &mut Sheet) {
    let scratch: PathBuf = disk.path().to_owned();
    let (names, sink) = (NameServer::start(), Sink::start(&scratch));
    let system = rmail(disk.path(), &names, sink.port.number());
    let postfix = (sizes.with_others && Postfix::is_possible())
        .then(|| Postfix::relaying(disk.path(), sink.port.number()));
    let mut relays = vec![Relay {
        name: RMAIL,
        address: system.address("submission"),
        login: true,
        pid: system.supervisor_pid(),
    }];
    relays.extend(postfix.as_ref().map(|postfix| Relay {
        name: POSTFIX,
        address: postfix.address(),
        login: false,
        pid: postfix.pid(),
    }));
    let traces = sizes.with_others && program::is_root() && program::find("strace").is_some();
    // The first of each are no part of it: connections are made, and caches filled.
    for relay in &relays {
        pass(relay, &sink, 4, 20);
    }
    for round in 1..=sizes.rounds {
        say(&format!("relay, round {round}"));
        for (case, sessions) in CASES {
            for relay in &relays {
                let before = cpu_seconds(relay.pid);
                let (seconds, traffic) =
                    disk.during(|| pass(relay, &sink, sessions, sizes.messages));
                let cpu = cpu_seconds(relay.pid) - before;
                let count = sizes.messages as f64;
                let mut add = |column, value| sheet.add(TITLE, case, relay.name, column, value);
                add("msg/s", count / seconds);
                add("CPU s/1,000", cpu * 1000.0 / count);
                if let Some(traffic) = traffic {
                    add("flushes/msg", traffic.flushes / count);
                    add("written/msg KiB", traffic.written / count / 1024.0);
                }
            }
        }
    }
    if traces {
        say("relay, system calls");
        for (case, sessions) in CASES {
            for relay in &relays {
                let messages = sizes.messages / 4;
                let tracer = Tracer::attach(relay.pid, &scratch);
                pass(relay, &sink, sessions, messages);
                let calls = tracer.detach();
                let mut add = |column, value| sheet.add(TITLE, case, relay.name, column, value);
                add("syscalls/msg", calls.all / messages as f64);
                add("fsyncs/msg", calls.syncs / messages as f64);
            }
        }
    }
}

fn rmail(directory: &Path, names: &NameServer, port: u16) -> System {
    let budgets = json!({"account": {"recipients": 0, "first_time_recipients": 0}});
    let options = Options::without_users().user(READER).below(directory).config(&json!({
        // The default; the harness logs everything.
        "log_level": "info",
        // A session of the bench sends more than one of the world may.
        "smtp": {"max_messages_per_connection": 1_000_000, "cleartext_auth_on_loopback": true},
        "relay": {
            "dns": [names.address()], "port": port, "budgets": budgets, "max_connections_per_domain": CONNECTIONS,
        },
    }));
    System::launch(Home::prepare(&options), &options)
}

/// Sends so many and waits until they are through; tells how many seconds that took.
fn pass(relay: &Relay, sink: &Sink, sessions: usize, messages: usize) -> f64 {
    let connect = |_| -> Client {
        let mut client = Client::hello(relay.address).expect("it listens");
        if relay.login {
            client
                .login(READER, PASSWORD)
                .expect("the account is there");
        }
        client
    };
    let mut clients: Vec<Client> = (0..sessions).map(connect).collect();
    let (before, text) = (sink.count(), own_letter());
    let limit = Limit {
        time: PATIENCE,
        messages,
    };
    let begun = Instant::now();
    let tally = race(&mut clients, limit, |client, _| {
        client.deliver(READER, "carol@outside.test", &text)
    });
    assert!(tally.messages as usize == messages, "too slow");
    let through = || (sink.count() >= before + messages).then_some(());
    let through = wait_for(PATIENCE, through);
    let taken = begun.elapsed().as_secs_f64();
    assert!(
        through.is_ok(),
        "{}: {} of {messages}",
        relay.name,
        sink.count() - before
    );
    taken
}

/// Whoever submits mail writes in their own name.
fn own_letter() -> Vec<u8> {
    let text = String::from_utf8(letter(1, SIZE)).expect("it is ASCII");
    let from = text
        .lines()
        .find(|line| line.starts_with("From: "))
        .expect("it has an author");
    text.replacen(from, &format!("From: {READER}"), 1)
        .into_bytes()
}

/// What DESIGN wants, and what this run has.
fn goals(sheet: &Sheet) -> String {
    use std::fmt::Write;
    let (case, _) = CASES[1];
    let ratio = |column| sheet.ratio(TITLE, case, [RMAIL, POSTFIX], column);
    let own = |column| sheet.median(TITLE, case, RMAIL, column);
    let mut text =
        "### Goals, 20 sessions\n\n| goal | bound | measured | |\n|---|---:|---:|---|\n".to_owned();
    let rows = [
        (
            "messages/s, times Postfix",
            "≥ 3",
            ratio("msg/s"),
            3.0,
            true,
        ),
        (
            "CPU, times Postfix",
            "≤ 0.2",
            ratio("CPU s/1,000"),
            0.2,
            false,
        ),
        (
            "system calls a message",
            "≤ 80",
            own("syscalls/msg"),
            80.0,
            false,
        ),
    ];
    for (goal, shown, value, bound, at_least) in rows {
        let (measured, verdict) = match value {
            None => ("–".to_owned(), "not measured"),
            Some(value) if (value >= bound) == at_least => (crate::sheet::figure(value), "met"),
            Some(value) => (crate::sheet::figure(value), "**unmet**"),
        };
        writeln!(text, "| {goal} | {shown} | {measured} | {verdict} |").expect("memory");
    }
    text
}
