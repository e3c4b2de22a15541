//! Disks that are full: of mail, of something else, or of files.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::Store;
use super::super::power_cut::recorded_disk::{Mount, Scratch, run};
use super::super::power_cut::seclusion::{secluded, skip};
use super::super::power_cut::{FOLDERS, MAILBOXES};
use super::client::Client;
use super::within_patience;

/// Bytes of the disks.
const SIZE: u64 = 16 << 20;
/// What is done on a full disk.
const OPERATIONS_WHEN_FULL: usize = 40;
/// Each is a block in the journal.
const FLAG_CHANGES: usize = 600;
/// How long it may take until there is room again for what was removed.
const RECOVERING: Duration = Duration::from_secs(15);

/// A small disk with an empty file system.
struct LittleDisk {
    mount: Mount,
    _scratch: Scratch,
}

impl LittleDisk {
    fn new(options: &str) -> Result<Self, String> {
        let scratch = Scratch::new()?;
        let image = scratch.path("disk");
        File::create(&image)
            .and_then(|file| file.set_len(SIZE))
            .map_err(|error| format!("cannot make {}: {error}", image.display()))?;
        run(&format!(
            "mkfs.ext4 -q -F -m 0{options} {}",
            image.display()
        ))?;
        let mount = Mount::new(&image, &scratch.path("mount"), &["-o", "loop"])?;
        Ok(Self {
            mount,
            _scratch: scratch,
        })
    }

    fn path(&self) -> &Path {
        self.mount.path()
    }
}

/// Does something in bounded time.
fn bounded(
    state: &mut Option<(Client, Store)>,
    what: &str,
    work: impl FnOnce(&mut Client, &Store) -> bool + Send + 'static,
) -> bool {
    let (mut client, store) = state.take().unwrap();
    let (done, client, store) = within_patience(what, move || {
        let done = work(&mut client, &store);
        (done, client, store)
    });
    *state = Some((client, store));
    done
}

/// Works until the disk is full and some more.
fn fill(state: &mut Option<(Client, Store)>) {
    let mut in_a_row = 0;
    while in_a_row < 10 {
        let is_done = bounded(state, "while the disk fills", |client, store| {
            client.do_something(store);
            client.append(store, 0, false)
        });
        in_a_row = if is_done { 0 } else { in_a_row + 1 };
    }
    for _ in 0..OPERATIONS_WHEN_FULL {
        bounded(state, "on a full disk", |client, store| {
            client.do_something(store);
            true
        });
    }
}

/// Removes messages until new ones are taken.
fn make_room(state: &mut Option<(Client, Store)>) {
    let begun = Instant::now();
    for round in 0.. {
        let is_done = bounded(state, "while mail is removed", move |client, store| {
            client.expunge(store, round % MAILBOXES, usize::MAX);
            client.append(store, FOLDERS.len(), false) && client.deliver(store, &[1, 2], false)
        });
        if is_done && round >= MAILBOXES {
            return;
        }
        assert!(
            begun.elapsed() < RECOVERING,
            "mail is removed and none is taken"
        );
        if round >= MAILBOXES {
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn check(state: &Option<(Client, Store)>, when: &str) {
    let (client, store) = state.as_ref().unwrap();
    client.check(store, when);
}

/// Opens the store anew. The room that needs is kept in reserve.
fn reopen(
    state: Option<(Client, Store)>,
    path: &Path,
    when: &str,
    is_clean: bool,
) -> Option<(Client, Store)> {
    let (mut client, store) = state?;
    let (path, what) = (path.to_owned(), when.to_owned());
    Some(within_patience(when, move || {
        if is_clean {
            store.save();
        }
        drop(store);
        let store = client.reopen(&path, &what);
        (client, store)
    }))
}

/// Fills a disk, opens the store on it anew, makes room and goes on.
fn try_disk(path: &Path, seed: u64) {
    let mut state = Some((Client::new(seed), Store::open(path).unwrap()));
    for is_clean in [false, true] {
        let how = if is_clean { "stopped" } else { "killed" };
        let begun = Instant::now();
        fill(&mut state);
        println!("{how}: filled in {:.1?}", begun.elapsed());
        check(&state, "full");
        state = reopen(state, path, &format!("full and {how}"), is_clean);
        make_room(&mut state);
        check(&state, "with room again");
        state = reopen(state, path, &format!("with room again and {how}"), is_clean);
        println!(
            "{how}: done after {:.1?}, {} refusals",
            begun.elapsed(),
            state.as_ref().unwrap().0.refusals
        );
    }
}

fn on_disk(options: &str, work: impl FnOnce(&Path)) {
    match LittleDisk::new(options) {
        Ok(disk) => work(disk.path()),
        Err(reason) => skip(&reason),
    }
}

#[test]
fn a_disk_full_of_mail_refuses_more_and_takes_it_when_some_is_removed() {
    secluded(
        a_disk_full_of_mail_refuses_more_and_takes_it_when_some_is_removed,
        &[],
        || {
            on_disk("", |path| try_disk(path, 1));
        },
    );
}

#[test]
fn a_file_system_without_inodes_refuses_mail_and_takes_it_when_some_is_removed() {
    secluded(
        a_file_system_without_inodes_refuses_mail_and_takes_it_when_some_is_removed,
        &[],
        || {
            on_disk(" -N 256", |path| try_disk(path, 2));
        },
    );
}

#[test]
fn on_a_disk_that_others_fill_mail_is_refused_and_can_be_removed() {
    secluded(
        on_a_disk_that_others_fill_mail_is_refused_and_can_be_removed,
        &[],
        || {
            on_disk("", |path| {
                let store = Store::open(path).unwrap();
                let mut client = Client::new(3);
                assert!(client.append(&store, 0, false));
                let mut state = Some((client, store));
                // The journal has no more files than at the start.
                let filler = path.join("filler");
                let zeros = vec![0; 64 << 10];
                let mut file = File::create(&filler).unwrap();
                while std::io::Write::write_all(&mut file, &zeros).is_ok() {}
                let length = file.metadata().unwrap().len();
                file.set_len(length - (1 << 20)).unwrap();
                fill(&mut state);
                // More than a file of the journal can hold.
                for _ in 0..FLAG_CHANGES {
                    bounded(
                        &mut state,
                        "changing flags on a full disk",
                        |client, store| {
                            client.change_flags(store, 0);
                            true
                        },
                    );
                }
                check(&state, "full");
                make_room(&mut state);
                state = reopen(state, path, "full and killed", false);
                make_room(&mut state);
                std::fs::remove_file(&filler).unwrap();
                state = reopen(state, path, "without the others", true);
                check(&state, "without the others");
            });
        },
    );
}
