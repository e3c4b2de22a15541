//! What must be in the store: the users' mailboxes, as everybody was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use ipc::snapshot::flag;
use serde::{Deserialize, Serialize};

use super::view::View;
use super::{OWNERS, Selection};

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Letter {
    /// What its bytes follow from.
    pub(super) number: u64,
    pub(super) flags: u8,
    pub(super) keywords: BTreeSet<String>,
    /// `None` if it is the time at which it came.
    pub(super) date: Option<i64>,
    /// What it is known by; `None` until somebody asked.
    pub(super) id: Option<u128>,
    pub(super) email_id: Option<u128>,
}

/// A mailbox.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Folder {
    /// 0 if it is not known yet.
    pub(super) uid_validity: u32,
    /// The highest UIDNEXT anybody saw when nothing was under way.
    pub(super) uid_next: u32,
    /// UIDs given since then.
    pub(super) given: BTreeSet<u32>,
    pub(super) known: BTreeMap<u32, Letter>,
    /// Messages whose UIDs nobody was told yet.
    pub(super) arrived: Vec<Letter>,
    /// The highest modification sequence of each message that anybody saw.
    pub(super) modseqs: BTreeMap<u32, u64>,
    pub(super) highest_modseq: u64,
    /// What was expunged and can be had back.
    pub(super) kept: Vec<Letter>,
}

/// A message as it is now: its UID, flags and keywords.
pub(super) type Marks = (u32, u8, BTreeSet<String>);

/// What happens to a mailbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum What {
    /// A message comes; its UID is not known.
    Arrived(Letter),
    Put(u32, Letter),
    Marked(Vec<Marks>),
    /// By a MOVE.
    Gone(Vec<u32>),
    Expunged(Vec<u32>),
    /// These were expunged, from whatever mailbox, and are given back.
    Restored(Vec<Letter>),
    /// It is made; its UIDVALIDITY, or 0.
    Made(u32),
    Dropped,
    Renamed(String),
    Subscribed(bool),
    /// It was looked at, and this is all that can be known about it.
    Seen(Folder),
}

/// A part of an operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) user: usize,
    pub(super) folder: String,
    pub(super) what: What,
}

/// A mailbox in use.
///
/// Invariant: whoever is in a call to the store that touches it holds `gate`: exclusively if nothing else may happen in it
/// meanwhile, else shared, which lets messages come while others are changed. Locks are taken in this order: the users' trees,
/// in their order; gates, by user and name; one `changing`; for a moment a `folder`.
#[derive(Default)]
pub(super) struct Cell {
    pub(super) gate: RwLock<()>,
    /// Held by who changes or removes messages that are known.
    pub(super) changing: Mutex<()>,
    pub(super) folder: Mutex<Folder>,
    pub(super) views: Mutex<Vec<(Selection, Arc<View>)>>,
}

/// The mailboxes of a user. Shared by who works in them, exclusively held by who makes, renames or removes some.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) folders: BTreeMap<String, Arc<Cell>>,
    pub(super) subscribed: BTreeSet<String>,
    /// All ids that messages of the user were ever seen to have.
    pub(super) ids: Mutex<BTreeSet<u128>>,
    /// What went with mailboxes and can be had back.
    pub(super) kept: Vec<Letter>,
    highest_validity: u32,
}

/// Everything.
pub(super) struct Model {
    pub(super) trees: Vec<RwLock<Tree>>,
    numbers: AtomicU64,
}

/// A model on its way to another process.
#[derive(Serialize, Deserialize)]
pub(super) struct Saved {
    trees: Vec<SavedTree>,
    numbers: u64,
}

#[derive(Serialize, Deserialize)]
struct SavedTree {
    folders: BTreeMap<String, Folder>,
    subscribed: BTreeSet<String>,
    ids: BTreeSet<u128>,
    kept: Vec<Letter>,
    highest_validity: u32,
}

impl Letter {
    /// A letter that is just brought.
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            flags: 0,
            keywords: BTreeSet::new(),
            date: None,
            id: None,
            email_id: None,
        }
    }

    /// A copy of it: a message of its own.
    pub(super) fn copy(&self) -> Self {
        Self {
            id: None,
            ..self.clone()
        }
    }

    /// The same, with what is not known of it as it is in `found`.
    pub(super) fn filled(&self, found: &Self) -> Self {
        Self {
            id: self.id.or(found.id),
            email_id: self.email_id.or(found.email_id),
            ..self.clone()
        }
    }
}

impl Folder {
    pub(super) fn apply(&mut self, what: What) {
        match what {
            What::Arrived(letter) => self.arrived.push(letter),
            What::Put(uid, letter) => {
                assert!(uid >= self.uid_next, "the UID {uid} was given before");
                assert!(self.given.insert(uid), "the UID {uid} was given twice");
                self.known.insert(uid, letter);
            }
            What::Marked(messages) => {
                for (uid, flags, keywords) in messages {
                    let letter = self.known.get_mut(&uid).unwrap();
                    (letter.flags, letter.keywords) = (flags, keywords);
                }
            }
            What::Gone(uids) => {
                for uid in uids {
                    self.known.remove(&uid).unwrap();
                    self.modseqs.remove(&uid);
                }
            }
            What::Expunged(uids) => {
                let letters = uids.iter().map(|uid| self.known[uid].clone());
                self.kept.extend(letters);
                self.apply(What::Gone(uids));
            }
            What::Seen(folder) => *self = folder,
            What::Restored(_)
            | What::Made(_)
            | What::Dropped
            | What::Renamed(_)
            | What::Subscribed(_) => {
                unreachable!("this is not about one mailbox")
            }
        }
    }
}

impl Tree {
    pub(super) fn cell(&self, folder: &str) -> &Arc<Cell> {
        &self.folders[folder]
    }

    /// Takes in a change of the mailboxes themselves.
    fn apply(&mut self, folder: String, what: What) {
        match what {
            What::Made(uid_validity) => {
                assert!(
                    uid_validity == 0 || uid_validity > self.highest_validity,
                    "the UIDVALIDITY {uid_validity} of {folder} is not above {}",
                    self.highest_validity
                );
                self.highest_validity = self.highest_validity.max(uid_validity);
                let cell = Cell::default();
                cell.folder.lock().unwrap().uid_validity = uid_validity;
                assert!(self.folders.insert(folder, Arc::new(cell)).is_none());
            }
            What::Dropped => {
                let cell = self.folders.remove(&folder).unwrap();
                cell.close_views();
                let mut folder = cell.folder.lock().unwrap();
                self.kept.append(&mut folder.kept);
                self.kept.append(&mut folder.arrived);
                self.kept.extend(folder.known.values().cloned());
            }
            What::Restored(letters) => {
                for letter in letters {
                    let mut kept = self.all_kept();
                    let at = kept.iter().position(|kept| kept.may_be(&letter)).unwrap();
                    kept.remove(at);
                    self.set_kept(kept);
                }
            }
            What::Renamed(to) => {
                let old = self.folders.remove(&folder).unwrap();
                old.close_views();
                let new = Cell::default();
                *new.folder.lock().unwrap() = old.folder.lock().unwrap().clone();
                assert!(self.folders.insert(to, Arc::new(new)).is_none());
            }
            What::Subscribed(true) => assert!(self.subscribed.insert(folder)),
            What::Subscribed(false) => assert!(self.subscribed.remove(&folder)),
            other => self.cell(&folder).folder.lock().unwrap().apply(other),
        }
    }
}

impl Letter {
    /// Whether it may be what was found of it after it was removed.
    pub(super) fn may_be(&self, found: &Self) -> bool {
        let flags = |letter: &Self| letter.flags & !flag::DELETED;
        (self.number, flags(self), &self.keywords) == (found.number, flags(found), &found.keywords)
            && self.date.is_none_or(|date| Some(date) == found.date)
    }
}

impl Tree {
    /// All that can be had back.
    pub(super) fn all_kept(&self) -> Vec<Letter> {
        let mut all = self.kept.clone();
        for cell in self.folders.values() {
            all.extend(cell.folder.lock().unwrap().kept.iter().cloned());
        }
        all
    }

    pub(super) fn set_kept(&mut self, kept: Vec<Letter>) {
        for cell in self.folders.values() {
            cell.folder.lock().unwrap().kept.clear();
        }
        self.kept = kept;
    }
}

impl Cell {
    fn close_views(&self) {
        for (_, view) in self.views.lock().unwrap().drain(..) {
            view.must_be_gone();
        }
    }
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            trees: OWNERS.iter().map(|_| RwLock::default()).collect(),
            numbers: AtomicU64::new(1),
        }
    }

    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Leaves out the numbers that another process may have used.
    pub(super) fn skip_numbers(&self) {
        self.numbers.fetch_add(1_000_000, Ordering::Relaxed);
    }

    /// Takes in what was done, while nothing else happens.
    pub(super) fn apply(&self, changes: Vec<Change>) {
        for Change { user, folder, what } in changes {
            self.trees[user].write().unwrap().apply(folder, what);
        }
    }

    pub(super) fn save(&self) -> Saved {
        let trees = self.trees.iter().map(|tree| {
            let tree = tree.read().unwrap();
            let folders = tree
                .folders
                .iter()
                .map(|(name, cell)| (name.clone(), cell.folder.lock().unwrap().clone()));
            SavedTree {
                folders: folders.collect(),
                subscribed: tree.subscribed.clone(),
                ids: tree.ids.lock().unwrap().clone(),
                kept: tree.kept.clone(),
                highest_validity: tree.highest_validity,
            }
        });
        Saved {
            trees: trees.collect(),
            numbers: self.numbers.load(Ordering::Relaxed),
        }
    }

    pub(super) fn restore(saved: Saved) -> Self {
        let trees = saved.trees.into_iter().map(|saved| {
            let folders = saved.folders.into_iter().map(|(name, folder)| {
                let cell = Cell {
                    folder: Mutex::new(folder),
                    ..Cell::default()
                };
                (name, Arc::new(cell))
            });
            RwLock::new(Tree {
                folders: folders.collect(),
                subscribed: saved.subscribed,
                ids: Mutex::new(saved.ids),
                kept: saved.kept,
                highest_validity: saved.highest_validity,
            })
        });
        Self {
            trees: trees.collect(),
            numbers: AtomicU64::new(saved.numbers),
        }
    }
}

/// Takes in what was done to mailboxes in `tree`, which is shared.
pub(super) fn apply_in(tree: &Tree, changes: Vec<Change>) {
    for Change { folder, what, .. } in changes {
        tree.cell(&folder).folder.lock().unwrap().apply(what);
    }
}

/// Takes in what was done to `tree`, which is held exclusively.
pub(super) fn apply_to(tree: &mut Tree, changes: Vec<Change>) {
    for Change { folder, what, .. } in changes {
        tree.apply(folder, what);
    }
}
