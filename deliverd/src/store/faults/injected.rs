//! One call of the system after the other fails, wherever the store makes it: strace attaches to the thread that does the work.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use super::super::Store;
use super::super::power_cut::seclusion::skip;
use super::super::power_cut::survey;
use super::client::Client;
use super::within_patience;

/// Every kind of call that touches the disk.
const CALLS: [&str; 17] = [
    "openat2",
    "write",
    "pwrite64",
    "linkat",
    "renameat",
    "renameat2",
    "unlinkat",
    "mkdirat",
    "fsync",
    "fdatasync",
    "syncfs",
    "utimensat",
    "getdents64",
    "newfstatat",
    "read",
    "pread64",
    "fstat",
];
/// Which of the calls of one kind fails, one after the other.
const WHICH: [usize; 6] = [1, 2, 4, 9, 18, 40];
/// A store of its own, on a file system where a flush costs nothing.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::TempDir::new_in(memory)
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// A thread that does `work` while strace lets calls fail, and what came of it; also whether a call did.
fn with_fault<T: Send + 'static>(
    fault: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<(T, bool), String> {
    let log = tempfile::NamedTempFile::new().unwrap();
    let (tell, hear) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let worker = std::thread::spawn(move || {
        let this = std::fs::read_link("/proc/thread-self").unwrap();
        tell.send(this.file_name().unwrap().to_owned()).unwrap();
        wait.recv().ok().map(|()| work())
    });
    let thread = hear.recv().unwrap();
    let call = fault.split(':').next().unwrap();
    let strace = Command::new("strace")
        .arg("-o")
        .arg(log.path())
        .arg(format!("--trace={call}"))
        .arg(format!("--inject={fault}"))
        .arg("-p")
        .arg(&thread)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut strace = strace.map_err(|error| format!("cannot start strace: {error}"))?;
    let mut messages = BufReader::new(strace.stderr.take().unwrap());
    let mut message = String::new();
    messages.read_line(&mut message).unwrap();
    if !message.contains("attached") {
        strace.wait().unwrap();
        return Err(format!("strace cannot attach: {}", message.trim()));
    }
    go.send(()).unwrap();
    let done = within_patience(fault, move || worker.join());
    strace.wait().unwrap();
    let is_hit = std::fs::read_to_string(log.path())
        .unwrap()
        .contains("(INJECTED)");
    match done {
        Ok(done) => Ok((done.unwrap(), is_hit)),
        Err(panic) => {
            eprintln!("with {fault}:");
            std::panic::resume_unwind(panic)
        }
    }
}

/// The faults of one kind of call.
fn faults(call: &str) -> impl Iterator<Item = String> {
    let once = WHICH.into_iter().enumerate().map(move |(at, which)| {
        let error = ["EIO", "ENOSPC"][at % 2];
        format!("{call}:error={error}:when={which}")
    });
    // And a disk that works no more from some moment on.
    let forever = ["EIO", "ENOSPC"].map(|error| format!("{call}:error={error}:when=4+"));
    once.chain(forever)
}

/// Works with a store while calls of a kind fail.
fn try_call(call: &str) -> Result<(), String> {
    let directory = directory();
    let path = directory.path();
    let mut client = Client::new(1);
    let mut store = Store::open(path).unwrap();
    client.do_everything(&store);
    assert_eq!(client.refusals, 0, "without a fault");
    let (mut hits, mut refusals) = (0, 0);
    for fault in faults(call) {
        let is_hit;
        ((client, store), is_hit) = with_fault(&fault, move || {
            client.refusals = 0;
            client.do_everything(&store);
            (client, store)
        })?;
        hits += usize::from(is_hit);
        refusals += client.refusals;
        assert!(
            is_hit || client.refusals == 0,
            "{fault}: refused without a fault"
        );
        if store.check().is_ok() {
            client.check(&store, &format!("after {fault}"));
            assert!(
                fault.ends_with('+') || client.append(&store, 0, false),
                "{fault}: refused later"
            );
        } else {
            assert!(
                !client.append(&store, 0, false),
                "{fault}: a closed store took a message"
            );
        }
        drop(store);
        store = client.reopen(path, &format!("after {fault}, opened again"));
        assert!(
            client.append(&store, 0, false),
            "{fault}: refused after another start"
        );
    }
    // Only a start reads the journal.
    assert!(hits > 0 || call == "pread64", "{call} was never made");
    println!("{call}: {hits} faults, {refusals} refusals");
    Ok(())
}

#[test]
fn a_call_that_fails_is_refused_or_done_and_nothing_acknowledged_is_lost() {
    for call in CALLS {
        if let Err(reason) = try_call(call) {
            return skip(&reason);
        }
    }
}

#[test]
fn a_call_that_fails_in_a_start_stops_it_or_not_and_the_next_start_has_everything() {
    let directory = directory();
    let path = directory.path();
    let inbox = path.join("mailstore/domains/one.test/users/alice/mailboxes/INBOX/0000");
    let mut client = Client::new(2);
    client.append(&Store::open(path).unwrap(), 0, false);
    for call in CALLS {
        for fault in faults(call).step_by(2) {
            let store = client.reopen(path, "before");
            client.do_something(&store);
            let before = names(&inbox);
            client.append(&store, 0, false);
            client.deliver(&store, &[0, 3], false);
            drop(store);
            // As if the names had not come to disk: only the journal has these messages.
            for name in names(&inbox).difference(&before) {
                std::fs::remove_file(inbox.join(name)).unwrap();
            }
            let place = path.to_owned();
            let opened = with_fault(&fault, move || Store::open(&place).map(drop));
            if let Err(reason) = opened {
                return skip(&reason);
            }
            drop(client.reopen(path, &format!("after a start with {fault}")));
        }
    }
    assert_eq!(client.refusals, 0);
}

fn names(directory: &Path) -> BTreeSet<OsString> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

#[test]
fn a_call_that_fails_while_a_mailbox_is_read_hides_no_message() {
    let directory = directory();
    let mut client = Client::new(4);
    let mut store = Store::open(directory.path()).unwrap();
    client.do_everything(&store);
    for call in ["openat2", "getdents64", "newfstatat", "fstat", "read"] {
        for which in 1.. {
            let fault = format!("{call}:error=EIO:when={which}");
            // At first the mailbox is not in memory, then it is.
            let mut was_hit = false;
            for _ in 0..2 {
                let looked = with_fault(&fault, move || {
                    client.look(&store);
                    (client, store)
                });
                let is_hit;
                ((client, store), is_hit) = match looked {
                    Ok(looked) => looked,
                    Err(reason) => return skip(&reason),
                };
                was_hit |= is_hit;
                client.check(&store, &format!("after {fault}"));
            }
            drop(store);
            store = client.reopen(directory.path(), &format!("after {fault}, opened again"));
            if !was_hit {
                break;
            }
        }
    }
}

#[test]
fn what_a_failed_flush_refused_does_not_come_to_pass_after_later_changes_and_a_crash() {
    let directory = directory();
    let mut client = Client::new(5);
    let store = Store::open(directory.path()).unwrap();
    client.append(&store, 0, false);
    // The flush fails, and the batch comes to disk all the same.
    let done = with_fault("fdatasync:error=EIO:when=2", move || {
        client.expunge(&store, 0, 1);
        (client, store)
    });
    let (mut client, store) = match done {
        Ok((done, is_hit)) => {
            assert!(is_hit);
            done
        }
        Err(reason) => return skip(&reason),
    };
    assert_eq!(client.refusals, 1);
    client.book.settle(survey::findings(&store).unwrap());
    assert_eq!(client.book.certain(0).len(), 1);
    client.change_flags(&store, 0);
    assert!(client.append(&store, 0, false));
    drop(store);
    client.reopen(directory.path(), "after a refused removal and a crash");
}

#[test]
fn after_a_failed_flush_of_the_file_system_nothing_is_taken_and_the_next_start_has_everything() {
    let directory = directory();
    let mut client = Client::new(3);
    let store = Store::open(directory.path()).unwrap();
    client.append(&store, 0, false);
    let done = with_fault("syncfs:error=EIO:when=1", move || {
        store.save();
        store
    });
    let store = match done {
        Ok((store, is_hit)) => {
            assert!(is_hit);
            store
        }
        Err(reason) => return skip(&reason),
    };
    assert!(store.check().is_err());
    client.do_everything(&store);
    assert!(!client.append(&store, 0, false) && !client.deliver(&store, &[1], true));
    let found = survey::findings_in(&store, 0..1);
    assert!(
        found.is_ok_and(|found| !found.is_empty()),
        "reading goes on"
    );
    drop(store);
    let store = client.reopen(directory.path(), "after the failed flush");
    assert!(client.append(&store, 0, false) && store.check().is_ok());
}
