//! What work costs beside time: CPU and system calls of the processes that do it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use system_tests::patience::wait_for;
use system_tests::program::{self, Service};

/// Ticks of /proc/PID/stat a second; on Linux it is the same everywhere.
const TICKS: f64 = 100.0;

/// CPU seconds of a process, all it started, and all of those that ended and were waited for. Exact to 10 ms.
pub(crate) fn cpu_seconds(root: u32) -> f64 {
    let stats = read_stats();
    tree(&stats, root)
        .iter()
        .map(|pid| stats[pid].ticks)
        .sum::<f64>()
        / TICKS
}

/// CPU seconds of one process without those it started.
pub(crate) fn own_cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    parse_stat(&stat).own / TICKS
}

/// Bytes of memory of a process that no file stands for.
pub(crate) fn anonymous_memory(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kibibytes.expect("Linux says it") * 1024.0
}

struct Stat {
    parent: u32,
    /// Without children that ended.
    own: f64,
    /// With them.
    ticks: f64,
}

fn read_stats() -> BTreeMap<u32, Stat> {
    let processes = std::fs::read_dir("/proc").expect("every system has it");
    processes
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let pid = path.file_name()?.to_str()?.parse().ok()?;
            // A process can end between the two reads.
            let stat = std::fs::read_to_string(path.join("stat")).ok()?;
            Some((pid, parse_stat(&stat)))
        })
        .collect()
}

/// proc_pid_stat(5): the name is in parentheses and may hold anything; after it come state, parent, …, and from the
/// twelfth on utime, stime, cutime, cstime.
fn parse_stat(text: &str) -> Stat {
    let rest = text.rsplit(") ").next().expect("a name");
    let field: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| field[at].parse::<f64>().expect("a number");
    Stat {
        parent: field[1].parse().expect("a process id"),
        own: number(11) + number(12),
        ticks: number(11) + number(12) + number(13) + number(14),
    }
}

/// A process and all below it.
fn tree(stats: &BTreeMap<u32, Stat>, root: u32) -> Vec<u32> {
    let mut found: Vec<u32> = stats
        .contains_key(&root)
        .then_some(root)
        .into_iter()
        .collect();
    let mut at = 0;
    while at < found.len() {
        let children = stats.iter().filter(|(_, stat)| stat.parent == found[at]);
        found.extend(children.map(|(pid, _)| *pid).collect::<Vec<_>>());
        at += 1;
    }
    found
}

/// System calls that were made.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Calls {
    /// Of every kind.
    pub(crate) all: f64,
    /// `fsync`, `fdatasync`, `syncfs`.
    pub(crate) syncs: f64,
}

/// strace on a process and all below it, until it is stopped.
#[derive(Debug)]
pub(crate) struct Tracer {
    strace: Service,
    output: PathBuf,
}

impl Tracer {
    /// Begins to count; returns when every thread is traced. `directory` is for its files.
    pub(crate) fn attach(root: u32, directory: &Path) -> Self {
        let output = directory.join("strace.out");
        let pids = tree(&read_stats(), root);
        let mut command = program::command("strace");
        command.args(["-f", "-c", "-q", "-o"]).arg(&output);
        for pid in &pids {
            command.arg("-p").arg(pid.to_string());
        }
        let strace = Service::start(&mut command, &directory.join("strace.log"));
        wait_for(Duration::from_secs(20), || {
            pids.iter().all(|pid| is_traced(*pid)).then_some(())
        })
        .unwrap_or_else(|error| panic!("strace: {error}\n{}", strace.log()));
        Self { strace, output }
    }

    /// Ends it and counts.
    pub(crate) fn detach(mut self) -> Calls {
        self.strace.stop(Duration::from_secs(20));
        read_calls(&self.output)
    }
}

/// Whether all threads of a process are traced, or it is gone.
fn is_traced(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    threads.filter_map(Result::ok).all(|thread| {
        std::fs::read_to_string(thread.path().join("status"))
            .map_or(true, |status| !status.contains("TracerPid:\t0"))
    })
}

/// Reads what `strace -c -o` wrote.
pub(crate) fn read_calls(output: &Path) -> Calls {
    count(&std::fs::read_to_string(output).expect("strace writes its summary"))
}

/// The fourth column is the number of calls, the last the name.
fn count(summary: &str) -> Calls {
    let mut calls = Calls::default();
    for line in summary.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(name), Some(Ok(number))) =
            (words.last(), words.get(3).map(|word| word.parse::<f64>()))
        else {
            continue;
        };
        match *name {
            "total" => {}
            "fsync" | "fdatasync" | "syncfs" => {
                calls.syncs += number;
                calls.all += number;
            }
            _ => calls.all += number,
        }
    }
    calls
}

/// The median of times, in seconds; 0 of none.
pub(crate) fn median(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .map_or(0.0, Duration::as_secs_f64)
}

/// Does something again and again, at most `most` times and about `limit` long. Returns each time, and the CPU seconds that
/// the processes below `root` used for each on average.
pub(crate) fn repeat(
    root: u32,
    most: usize,
    limit: Duration,
    mut work: impl FnMut() -> Duration,
) -> (Vec<Duration>, f64) {
    let (begun, before) = (Instant::now(), cpu_seconds(root));
    let mut times = vec![work()];
    while times.len() < most && begun.elapsed() < limit {
        times.push(work());
    }
    let cpu = (cpu_seconds(root) - before) / times.len() as f64;
    (times, cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_of_strace_is_added_up() {
        let summary = "% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.100000          50      2000           fdatasync
 40.00    0.050000          10       500        20 read
------ ----------- ----------- --------- --------- ----------------
100.00    0.150000          60      2500        20 total
";
        assert_eq!(
            count(summary),
            Calls {
                all: 2500.0,
                syncs: 2000.0
            }
        );
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = parse_stat("7 (a) b) S 3 7 7 0 -1 4194560 1 2 3 4 50 6 700 8 20 0 1 0");
        assert_eq!((stat.parent, stat.own, stat.ticks), (3, 56.0, 764.0));
    }
}
