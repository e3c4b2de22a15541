//! What a process takes in memory and of the processors, as the kernel counts it.

use std::process::Child;
use std::time::Duration;

use crate::meter::own_cpu_seconds;

const MEBIBYTE: f64 = 1024.0;

/// MiB of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident: f64,
    /// Resident, each page divided by the number of processes that have it; 0 where only root may know.
    pub(crate) proportional: f64,
    /// The most that was resident since the last [`forget_peak`].
    pub(crate) peak: f64,
}

/// What a process takes now.
pub(crate) fn memory(pid: u32) -> Memory {
    let status = read(pid, "status");
    Memory {
        resident: kibibytes(&status, "VmRSS:") / MEBIBYTE,
        proportional: kibibytes(&read(pid, "smaps_rollup"), "Pss:") / MEBIBYTE,
        peak: kibibytes(&status, "VmHWM:") / MEBIBYTE,
    }
}

/// Begins a new peak.
pub(crate) fn forget_peak(pid: u32) {
    // proc_pid_clear_refs(5)
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("it runs, and is ours");
}

/// CPU milliseconds of a process in so many seconds, while nobody asks it anything.
pub(crate) fn idle_cpu(pid: u32, seconds: u64) -> f64 {
    let before = own_cpu_seconds(pid);
    std::thread::sleep(Duration::from_secs(seconds));
    (own_cpu_seconds(pid) - before) * 1e3
}

/// Waits for a program and returns the most it took in memory, in MiB, as far as that can be seen from outside.
pub(crate) fn peak_until_end(child: &mut Child) -> f64 {
    let mut peak: f64 = 0.0;
    while child.try_wait().expect("our own child").is_none() {
        let status = read(child.id(), "status");
        peak = peak.max(kibibytes(&status, "VmHWM:") / MEBIBYTE);
        std::thread::sleep(Duration::from_millis(10));
    }
    peak
}

fn read(pid: u32, file: &str) -> String {
    // It may have ended, or its memory may not be ours to look at.
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

fn kibibytes(text: &str, key: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_own_memory() {
        let before = memory(std::process::id());
        let block = vec![1_u8; 32 << 20];
        let after = memory(std::process::id());
        assert!(block.iter().all(|byte| *byte == 1));
        assert!(
            after.resident >= before.resident + 16.0,
            "{before:?} {after:?}"
        );
        assert!(after.peak >= after.resident);
    }
}
