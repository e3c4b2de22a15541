//! What may happen to the files of a store that no process has open, and must not matter.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::super::dice::Dice;
use super::by_hand;
use super::state::{self, Change, Model, What};
use super::user_name;

/// As in `journal/segment.rs`.
const BLOCK: usize = 4096;
const HEAD: usize = 48;

/// A file of the journal.
struct Segment {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Where its last batch begins and ends.
    last: usize,
    end: usize,
    /// Its last record.
    sequence: u64,
    floor: u64,
}

/// After any end.
pub(super) fn always(directory: &Path, dice: &mut Dice) {
    let incoming = directory.join("mailstore/.incoming");
    if dice.once_in(2) {
        // A new file: that of a process that was killed may be a message already.
        let unfinished = incoming.join("12.eml");
        let _ = fs::remove_file(&unfinished);
        fs::write(unfinished, "never finished").unwrap();
    } else {
        for file in fs::read_dir(&incoming).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
    }
    if dice.once_in(2) {
        damage(directory, dice);
    }
    for cache in caches(&directory.join("mailstore/domains")) {
        if dice.once_in(3) {
            damage_cache(&cache, dice);
        }
    }
}

/// The directories of all caches.
fn caches(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else {
        return found;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.ends_with(".cache") {
            found.push(path);
        } else if path.is_dir() {
            found.extend(caches(&path));
        }
    }
    found.sort();
    found
}

/// Removes a cache or a file in it, flips a bit, or cuts it off.
fn damage_cache(cache: &Path, dice: &mut Dice) {
    if dice.once_in(4) {
        return fs::remove_dir_all(cache).unwrap();
    }
    let mut files: Vec<PathBuf> = fs::read_dir(cache)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    if files.is_empty() {
        return;
    }
    let file = files.swap_remove(dice.below(files.len()));
    let mut bytes = fs::read(&file).unwrap();
    let at = dice.below(bytes.len() + 1);
    match dice.below(3) {
        0 => return fs::remove_file(&file).unwrap(),
        1 => bytes.truncate(at),
        _ => bytes
            .get_mut(at)
            .map_or((), |byte| *byte ^= 1 << dice.below(8)),
    }
    fs::write(&file, bytes).unwrap();
}

/// After a clean stop.
pub(super) fn when_clean(directory: &Path, model: &Model, dice: &mut Dice) {
    for (user, tree) in model.trees.iter().enumerate() {
        let mut tree = tree.write().unwrap();
        for (name, cell) in &tree.folders {
            let path = directory.join(by_hand::place(user, name));
            let mut folder = cell.folder.lock().unwrap();
            by_hand::must_show(&path, &folder);
            if dice.once_in(4) {
                println!("    by hand: {} {name}", user_name(user));
                for _ in 0..dice.below(4) {
                    by_hand::edit(&path, &mut folder, model.next_number(), dice);
                }
            }
        }
        if dice.once_in(6) {
            let folder = format!("by hand {}", model.next_number());
            let path = directory.join(by_hand::place(user, &folder));
            fs::create_dir_all(path.join("0000")).unwrap();
            let what = What::Made(0);
            state::apply_to(
                &mut tree,
                vec![Change {
                    user,
                    folder: folder.clone(),
                    what,
                }],
            );
            let mut new = tree.cell(&folder).folder.lock().unwrap();
            by_hand::add(&path, &mut new, model.next_number());
        }
    }
    if dice.once_in(4) {
        println!("    the journal is deleted");
        fs::remove_dir_all(directory.join("mailstore/.journal")).unwrap();
        fs::create_dir(directory.join("mailstore/.journal")).unwrap();
    }
}

/// Flips a bit in what nobody needs of the journal, or cuts it off.
fn damage(directory: &Path, dice: &mut Dice) {
    let mut segments: Vec<Segment> = (0..4)
        .map_while(|number| Segment::read(directory.join(format!("mailstore/.journal/{number}"))))
        .collect();
    let floor = segments
        .iter()
        .map(|segment| segment.floor)
        .max()
        .unwrap_or(0);
    let newest = segments
        .iter()
        .map(|segment| segment.sequence)
        .max()
        .unwrap_or(0);
    if segments.is_empty() {
        return;
    }
    let segment = segments.swap_remove(dice.below(segments.len()));
    let is_stale = segment.sequence <= floor && segment.sequence < newest;
    let unused = if is_stale && dice.once_in(2) {
        segment.last
    } else {
        segment.end
    };
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&segment.path)
        .unwrap();
    println!(
        "    {} is damaged beyond {unused}, stale: {is_stale}",
        segment.path.display()
    );
    if dice.once_in(3) {
        let length = unused.max(2 * BLOCK);
        // It may have been cut off before.
        if length <= segment.bytes.len() {
            let rest = dice.below(segment.bytes.len() + 1 - length);
            file.set_len((length + rest) as u64).unwrap();
        }
    } else if unused < segment.bytes.len() {
        let at = unused + dice.below(segment.bytes.len() - unused);
        let flipped = segment.bytes[at] ^ 1 << dice.below(8);
        file.write_all_at(&[flipped], at as u64).unwrap();
    }
}

impl Segment {
    fn read(path: PathBuf) -> Option<Self> {
        let bytes = fs::read(&path).ok()?;
        let mut segment = Self {
            path,
            last: BLOCK,
            end: BLOCK,
            sequence: 0,
            floor: 0,
            bytes,
        };
        while let Some([sequence, previous, floor, length]) = segment.batch(segment.end)
            && (segment.sequence == 0 || segment.sequence == previous)
        {
            segment.sequence = sequence;
            segment.floor = segment.floor.max(floor);
            segment.last = segment.end;
            segment.end += (HEAD + usize::try_from(length).unwrap()).next_multiple_of(BLOCK);
        }
        Some(segment)
    }

    fn batch(&self, at: usize) -> Option<[u64; 4]> {
        let head = self.bytes.get(at..at + HEAD)?;
        let number = |from: usize| u64::from_le_bytes(head[from..from + 8].try_into().unwrap());
        let length = u32::from_le_bytes(head[40..44].try_into().unwrap());
        let records = self.bytes.get(at + HEAD..at + HEAD + length as usize)?;
        let mut sum = crc32fast::Hasher::new();
        sum.update(&head[16..44]);
        sum.update(records);
        let is_whole =
            head[..16] == self.bytes[16..32] && head[44..] == sum.finalize().to_le_bytes();
        is_whole.then(|| [number(16), number(24), number(32), u64::from(length)])
    }
}
