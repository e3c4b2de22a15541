//! A thousand clients at once, some of them slow or hostile; and what an idle connection costs. Measured, not judged, so it
//! runs only when asked for, with the figures in its output:
//!
//! ```text
//! cargo build --release --workspace --locked
//! cargo nextest run --release --locked -p system-tests --run-ignored only -E 'binary(crowd)' --no-capture
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use system_tests::load::{message, recognize};
use system_tests::nuisance::{self, Target, Way};
use system_tests::smtp::Client;
use system_tests::{Options, System, program, python, skip_without};

const GOOD: u32 = 950;
/// Clients that misbehave in each of the ways that are measured.
const BAD: u32 = 10;
/// In this time all well-behaved clients connect, and in this they bring a message each, over and over.
const ROUND: Duration = Duration::from_secs(10);
const STACK: usize = 256 * 1024;

/// What is measured in turn, so that all meet the same moods of the machine.
struct Plan {
    /// Messages of each well-behaved client in each turn.
    rounds: u32,
    turns: u32,
    /// In which ways others misbehave.
    crowds: Vec<(&'static str, Vec<Way>)>,
    /// Each of those has an address of its own, in a network of its own.
    has_addresses: bool,
}

/// What well-behaved clients had to wait for, and what it took.
#[derive(Default)]
struct Waits {
    /// For greeting and EHLO.
    hello: Vec<Duration>,
    /// From MAIL to the reply to the text.
    message: Vec<Duration>,
    acknowledged: BTreeSet<u32>,
    failures: Vec<String>,
    /// Processor time of the well-behaved and of the others.
    good: Duration,
    bad: Duration,
}

/// A turn's waits, and the processor time of the daemons meanwhile.
#[derive(Default)]
struct Sum {
    waits: Waits,
    smtpd: Duration,
    deliverd: Duration,
    time: Duration,
}

/// A thousand clients need as many descriptors.
fn raise_limit() {
    let hard = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: hard,
        maximum: hard,
    };
    setrlimit(Resource::Nofile, limit).expect("one's own limit, up to the hard one");
}

fn spawn<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    work: impl FnOnce() + Send + 'scope,
) {
    let builder = std::thread::Builder::new().stack_size(STACK);
    builder.spawn_scoped(scope, work).expect("a thread");
}

/// Processor time of this thread until now.
fn own_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("our own thread");
    let nanoseconds = text.split(' ').next().unwrap();
    Duration::from_nanos(nanoseconds.parse().unwrap())
}

/// Brings one message in each round.
fn behave(server: SocketAddr, place: u32, rounds: u32, number: &AtomicU32, waits: &Mutex<Waits>) {
    let begin = Instant::now();
    let turn = ROUND * place / GOOD;
    std::thread::sleep(turn);
    let asked = Instant::now();
    let mut client = match Client::hello(server) {
        Ok(client) => client,
        Err(error) => return waits.lock().unwrap().failures.push(error.to_string()),
    };
    waits.lock().unwrap().hello.push(asked.elapsed());
    for round in 1..=rounds {
        let due = ROUND * round + turn;
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
        let number = number.fetch_add(1, Ordering::Relaxed);
        let to = ["alice@example.test", "bob@example.test"][number as usize % 2];
        let message = message(number);
        let asked = Instant::now();
        let sent = client.deliver("x@outside.test", to, &message);
        let waited = asked.elapsed();
        let mut waits = waits.lock().unwrap();
        match sent {
            Ok(()) => {
                waits.message.push(waited);
                waits.acknowledged.insert(number);
            }
            Err(error) => return waits.failures.push(error.to_string()),
        }
    }
    waits.lock().unwrap().good += own_time();
}

/// All rounds of one turn, beside clients that misbehave in these ways.
fn measure(system: &System, plan: &Plan, ways: &[Way], target: &Target, number: &AtomicU32) -> Sum {
    let waits = Mutex::new(Waits::default());
    let over = AtomicBool::new(false);
    let (smtpd, deliverd) = (system.time_of("smtpd"), system.time_of("deliverd"));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for place in 0..ways.len() as u32 * BAD {
            let (over, waits) = (&over, &waits);
            let from = match plan.has_addresses {
                true => Ipv4Addr::new(127, place as u8 + 1, 0, 1),
                false => Ipv4Addr::LOCALHOST,
            };
            let way = ways[place as usize % ways.len()];
            spawn(scope, move || {
                nuisance::misbehave(way, target, from, over);
                waits.lock().unwrap().bad += own_time();
            });
        }
        std::thread::scope(|scope| {
            for place in 0..GOOD {
                let waits = &waits;
                spawn(scope, move || {
                    behave(target.smtp, place, plan.rounds, number, waits);
                });
            }
        });
        over.store(true, Ordering::Relaxed);
    });
    Sum {
        waits: waits.into_inner().unwrap(),
        smtpd: system.time_of("smtpd").saturating_sub(smtpd),
        deliverd: system.time_of("deliverd").saturating_sub(deliverd),
        time: begin.elapsed(),
    }
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.waits.hello.extend(other.waits.hello);
        self.waits.message.extend(other.waits.message);
        self.waits.acknowledged.extend(other.waits.acknowledged);
        self.waits.failures.extend(other.waits.failures);
        self.waits.good += other.waits.good;
        self.waits.bad += other.waits.bad;
        self.smtpd += other.smtpd;
        self.deliverd += other.deliverd;
        self.time += other.time;
    }

    /// Waits in milliseconds, processor time in microseconds for each message of the well-behaved, that of the others in
    /// thousandths of a processor.
    fn show(&mut self, what: &str) {
        let hello = quantiles(&mut self.waits.hello);
        let message = quantiles(&mut self.waits.message);
        let count = self.waits.acknowledged.len() as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / count;
        let (smtpd, deliverd) = (each(self.smtpd), each(self.deliverd));
        let (good, bad) = (each(self.waits.good), self.waits.bad.as_secs_f64());
        let bad = bad * 1e3 / self.time.as_secs_f64();
        let text = |times: [f64; 4]| times.map(|time| format!("{time:7.1}")).concat();
        println!(
            "{what:16} {} |{} |{smtpd:7.0}{deliverd:7.0}{good:7.0} |{bad:7.0}",
            text(hello),
            text(message)
        );
    }
}

/// At 50, 90 and 99 percent, and the longest, in milliseconds.
fn quantiles(times: &mut [Duration]) -> [f64; 4] {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    [at(50), at(90), at(99), at(100)]
}

fn compare(limits: &Value, plan: &Plan) {
    raise_limit();
    let config = json!({"log_level": "warn", "smtp": {"max_connections": 2000, "limits": limits}});
    let system = System::start(Options::default().config(&config));
    let target = Target {
        smtp: system.address("smtp"),
        submissions: system.address("submissions"),
        client_hello: nuisance::client_hello(),
    };
    let number = AtomicU32::new(0);
    let mut sums: Vec<Sum> = plan.crowds.iter().map(|_| Sum::default()).collect();
    for _ in 0..plan.turns {
        for (sum, (_, ways)) in sums.iter_mut().zip(&plan.crowds) {
            sum.add(measure(&system, plan, ways, &target, &number));
        }
    }
    println!(
        "{GOOD} clients, beside {BAD} others of each kind; {} turns",
        plan.turns
    );
    println!(
        "{:16} {:^28} |{:^28} |{:^21} |",
        "", "hello ms", "message ms", "µs per message"
    );
    let quantiles = "    50 %    90 %    99 % longest";
    println!(
        "{:16} {quantiles} |{quantiles} |  smtpd deliv. client | others ‰",
        ""
    );
    for (sum, (what, _)) in sums.iter_mut().zip(&plan.crowds) {
        sum.show(what);
    }
    let acknowledged: BTreeSet<u32> = sums
        .iter()
        .flat_map(|sum| sum.waits.acknowledged.iter().copied())
        .collect();
    for sum in &sums {
        assert!(sum.waits.failures.is_empty(), "{:?}", sum.waits.failures);
    }
    assert_eq!(acknowledged.len() as u32, number.into_inner());
    let mut kept = BTreeSet::new();
    for address in ["alice@example.test", "bob@example.test"] {
        let files = system.account(address).messages("INBOX");
        kept.extend(files.iter().filter_map(|file| recognize(&file.bytes())));
    }
    assert_eq!(
        acknowledged.difference(&kept).count(),
        0,
        "acknowledged and gone"
    );
    println!("all {} messages are there", acknowledged.len());
}

fn without_and_with(has_addresses: bool) -> Plan {
    Plan {
        rounds: 4,
        turns: 3,
        crowds: vec![("without", Vec::new()), ("with", Way::ALL.to_vec())],
        has_addresses,
    }
}

#[test]
#[ignore = "measures for minutes; the command is at the top of this file"]
fn the_well_behaved_of_a_thousand_clients_lose_nothing() {
    skip_without!("openssl");
    let no_limits = json!({
        "exempt": [], "connections": 0, "commands": 0, "recipients": 0, "refused_recipients": 0, "greeting_delay_ms": 0,
    });
    compare(&no_limits, &without_and_with(false));
}

#[test]
#[ignore = "measures for minutes; the command is at the top of this file"]
fn those_with_addresses_of_their_own_meet_the_limits() {
    skip_without!("openssl");
    // The well-behaved have one address together.
    let limits = json!({"exempt": ["127.0.0.1"]});
    compare(&limits, &without_and_with(true));
}

#[test]
#[ignore = "measures for minutes; the command is at the top of this file"]
fn each_way_to_misbehave_has_its_price() {
    skip_without!("openssl");
    let no_limits = json!({
        "exempt": [], "connections": 0, "commands": 0, "recipients": 0, "refused_recipients": 0, "greeting_delay_ms": 0,
    });
    let names = [
        "slow command",
        "slow message",
        "deaf",
        "guesses",
        "abandons",
        "half handshake",
    ];
    let mut crowds = vec![("without", Vec::new())];
    crowds.extend(names.into_iter().zip(Way::ALL.map(|way| vec![way])));
    let plan = Plan {
        rounds: 2,
        turns: 2,
        crowds,
        has_addresses: false,
    };
    compare(&no_limits, &plan);
}

const IDLE: &str = r#"
import resource, socket, ssl
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
context = ssl.create_default_context(cafile=ca_file)

def memory():
    lines = open(f'/proc/{smtpd}/smaps_rollup').read().splitlines()
    sizes = dict(line.split(':', 1) for line in lines if line.endswith('kB'))
    return {name: int(sizes[name].split()[0]) for name in ('Rss', 'Pss', 'Private_Dirty')}

def hear(stream):
    data = b''
    while not (data.endswith(b'\r\n') and data[data.rfind(b'\n', 0, -1) + 4:][:1] == b' '):
        piece = stream.recv(4096)
        assert piece, data
        data += piece

def visit(port, secure):
    stream = socket.create_connection(('127.0.0.1', port))
    if secure:
        stream = context.wrap_socket(stream, server_hostname='localhost')
    hear(stream)
    stream.sendall(b'EHLO client.example\r\n')
    hear(stream)
    return stream

# What the first connections bring into memory for good is not theirs.
stay = [visit(ports[port], secure) for _ in range(100)]
before = memory()
for number in range(1, count + 1):
    # They stay: what is freed now would be given to the next.
    stay.append(visit(ports[port], secure))
    if number in (1000, count):
        after = memory()
        each = ', '.join(f'{name} {(after[name] - before[name]) * 1024 // number}' for name in before)
        print(f'{port}: {number} idle connections: {each} bytes each')
"#;

#[test]
#[ignore = "measures for minutes; the command is at the top of this file"]
fn an_idle_connection_is_small() {
    skip_without!("/usr/bin/python3");
    let config = json!({"log_level": "warn", "smtp": {"max_connections": 20_000}});
    // The client needs a descriptor for each, and so does the server.
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let count = most.saturating_sub(1000).min(10_000);
    for (port, secure) in [("smtp", false), ("submissions", true)] {
        let system = System::start(Options::without_users().config(&config));
        let smtpd = system.pid("smtpd");
        let more = json!({"smtpd": smtpd, "count": count, "port": port, "secure": secure});
        let mut script = python::command(IDLE, &system.variables(&more));
        let outcome = program::run(&mut script, b"", Duration::from_secs(1200)).succeeded();
        print!("{}", outcome.stdout);
    }
}
