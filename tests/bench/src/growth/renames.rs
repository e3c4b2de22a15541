//! A mailbox is read again and again while its files are renamed as often as can be: no UID may be missed or come twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use system_tests::options::PASSWORD;

use super::Sizes;
use super::fill::Filler;
use crate::disk::Disk;
use crate::rmail::Rmail;
use crate::server::{MailServer, READER};
use crate::sheet::{Sheet, figure};
use crate::world::say;

const TITLE: &str = "Reading while files are renamed by hand";
const MAILBOX: &str = "busy";
const THREADS: u32 = 2;

/// Measures it.
pub(crate) fn run(disk: &Disk, sizes: &Sizes, sheet: &mut Sheet) {
    let (messages, _) = sizes.renames;
    say("starting rmail");
    let mut rmail = Rmail::start(disk.path(), 1);
    rmail.stop();
    let filler = Filler::new(disk.path().join("pool"), rmail.store_owner());
    let directory = rmail.mailbox(MAILBOX);
    filler.mailbox(&directory, messages, false);
    rmail.start();
    let store = rmail.store();
    let session = store.session(READER, PASSWORD);
    let (done, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    let is_over = AtomicBool::new(false);
    let (mut readings, mut wrong) = (0_u64, 0_u64);
    say("renaming");
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|part| {
                let (directory, done, taken) = (&directory, &done, &taken);
                scope.spawn(move || rename(directory, part, sizes.renames, done, taken))
            })
            .collect();
        scope.spawn(|| {
            for thread in threads {
                thread.join().expect("nobody else renames");
            }
            is_over.store(true, Ordering::Release);
        });
        // Once more when it is over.
        let mut goes_on = true;
        while goes_on {
            goes_on = !is_over.load(Ordering::Acquire);
            let flags = session.flags(MAILBOX);
            readings += 1;
            wrong += u64::from(!flags.keys().copied().eq(1..=messages));
        }
    });
    let last = session.flags(MAILBOX);
    let mut add = |column, value| {
        say(&format!("{column}: {}", figure(value)));
        sheet.add(
            TITLE,
            &format!("{messages} messages"),
            "rmail",
            column,
            value,
        );
    };
    add("renames", done.load(Ordering::Relaxed) as f64);
    add("seconds", begun.elapsed().as_secs_f64());
    add("readings", readings as f64);
    add("readings with a UID missed or doubled", wrong as f64);
    add(
        "names that were taken away",
        taken.load(Ordering::Relaxed) as f64,
    );
    let lost = last != names(&directory);
    add(
        "flags or UIDs that are not those of the files in the end",
        f64::from(u8::from(lost)),
    );
}

/// Sets and removes \Seen of every n-th message in turn until there were so many renames. A name that was `taken` was not where it
/// should have been.
fn rename(
    directory: &Path,
    part: u32,
    (messages, renames): (u32, u64),
    done: &AtomicU64,
    taken: &AtomicU64,
) {
    let path = |uid: u32, flags: &str| -> PathBuf {
        directory.join(format!("{:04}/{uid:08}_{flags}.eml", uid / 1000))
    };
    for (old, new) in [("", "S"), ("S", "")].into_iter().cycle() {
        for uid in (1 + part..=messages).step_by(THREADS as usize) {
            if std::fs::rename(path(uid, old), path(uid, new)).is_err() {
                taken.fetch_add(1, Ordering::Relaxed);
            }
        }
        done.fetch_add(u64::from(messages / THREADS), Ordering::Relaxed);
        if done.load(Ordering::Relaxed) >= renames {
            return;
        }
    }
}

/// Each UID with whether its name says \Seen.
fn names(directory: &Path) -> BTreeMap<u32, bool> {
    let shards = std::fs::read_dir(directory).expect("our own").flatten();
    let files = shards.filter(|shard| shard.file_name().as_encoded_bytes()[0].is_ascii_digit());
    let names = files.flat_map(|shard| std::fs::read_dir(shard.path()).expect("a shard").flatten());
    names
        .map(|file| {
            let name = file.file_name().into_string().expect("digits");
            (name[..8].parse().expect("a UID"), name.contains('S'))
        })
        .collect()
}
