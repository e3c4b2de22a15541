//! Comparing the store with the model, while nothing else happens.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

use ipc::session::{IDS_PER_FRAME, MailboxStatus};
use ipc::snapshot::Record;

use super::super::{Mailbox, MailboxName, Selection, Store, User, clock, ranges};
use super::state::{Change, Folder, Letter, Model, Tree, What};
use super::view::View;
use super::{kept, letter};
use super::{owner, user_name};

/// Messages opened at once.
const OPENED: usize = 50;

/// What may have been done to a mailbox, or not.
#[derive(Default)]
struct Open {
    arrivals: Vec<Letter>,
    /// At most one [`What::Marked`], [`What::Gone`] or [`What::Expunged`].
    change: Option<What>,
}

/// What a client sees who selects a mailbox.
pub(super) struct Glance {
    pub(super) view: Arc<View>,
    pub(super) selection: Selection,
    status: MailboxStatus,
    keywords: Vec<String>,
    records: Vec<Record>,
}

impl Glance {
    pub(super) fn new(mailbox: &Arc<Mailbox>) -> Self {
        loop {
            let view = Arc::new(View::default());
            let selected = mailbox.select(Arc::clone(&view) as Arc<_>).unwrap();
            let records = mailbox.records().unwrap();
            if view.has_heard() {
                // Something came out only when the messages were read. A client is told, and may have to select again.
                mailbox.unselect(selected.selection);
                continue;
            }
            view.begin(&records, &selected.keywords);
            return Self {
                view,
                selection: selected.selection,
                status: selected.status,
                keywords: selected.keywords,
                records,
            };
        }
    }

    fn letter(&self, record: &Record, number: u64) -> Letter {
        let names = self.keywords.iter().enumerate();
        let names = names.filter(|(at, _)| record.keywords & 1 << at != 0);
        Letter {
            number,
            flags: record.flags,
            keywords: names.map(|(_, name)| name.clone()).collect(),
            date: Some(record.internal_date),
            id: None,
            email_id: None,
        }
    }
}

/// Compares one mailbox, which nobody else works in, and takes in what is known about it only now.
pub(super) fn look(tree: &Tree, store: &Store, user: usize, name: &str, thorough: bool) -> Glance {
    let mailbox = mailbox_of(&user_of(store, user), name);
    let cell = tree.cell(name);
    let glance = Glance::new(&mailbox);
    let mut folder = cell.folder.lock().unwrap();
    let open = Open::default();
    compare(tree, &mut folder, &mailbox, &glance, open, thorough);
    for (_, view) in &*cell.views.lock().unwrap() {
        view.must_equal(&glance.records, &glance.keywords);
    }
    glance
}

/// Compares everything, down to the bytes. `under_way`: what clients had asked for when the process was killed.
pub(super) fn all(model: &Model, store: &Store, under_way: &[Vec<Change>]) {
    for (at, tree) in model.trees.iter().enumerate() {
        let mut tree = tree.write().unwrap();
        let user = user_of(store, at);
        settle_structure(&mut tree, &user, at, under_way);
        let mut come = BTreeMap::new();
        let mut messages = 0;
        let mut bytes = 0;
        for (name, cell) in &tree.folders {
            println!("    {} {name}", user_name(at));
            let mailbox = mailbox_of(&user, name);
            let glance = Glance::new(&mailbox);
            let open = open_for(at, name, under_way);
            let mut folder = cell.folder.lock().unwrap();
            let before = folder.known.clone();
            let arrivals = compare(&tree, &mut folder, &mailbox, &glance, open, true);
            let gone = before.keys().filter(|uid| !folder.known.contains_key(uid));
            come.insert(name.clone(), (arrivals, gone.count()));
            messages += folder.known.len() as u64;
            bytes += glance.status.size;
            drop(folder);
            for (_, view) in &*cell.views.lock().unwrap() {
                view.must_equal(&glance.records, &glance.keywords);
            }
            mailbox.unselect(glance.selection);
        }
        let totals = user.totals().unwrap();
        assert_eq!((totals.messages, totals.bytes), (messages, bytes));
        let ids = all_ids(&tree);
        nothing_lost_on_the_way(at, under_way, &come, &ids);
        let come = come.values().map(|(found, _)| *found).sum();
        kept::check_after_kill(&mut tree, store, at, under_way, come);
    }
}

/// A MOVE that was under way: if the messages are gone from the source, all of them are in the target.
fn nothing_lost_on_the_way(
    user: usize,
    under_way: &[Vec<Change>],
    come: &BTreeMap<String, (usize, usize)>,
    ids: &BTreeSet<u128>,
) {
    for changes in under_way {
        let mine = || changes.iter().filter(|change| change.user == user);
        let Some(source) = mine().find(|change| matches!(change.what, What::Gone(_))) else {
            continue;
        };
        let arrivals: Vec<_> = mine()
            .filter(|change| matches!(change.what, What::Arrived(_)))
            .collect();
        if let Some(first) = arrivals.first()
            && come.get(&source.folder).is_some_and(|(_, gone)| *gone > 0)
        {
            let (found, _) = come[&first.folder];
            assert!(
                found >= arrivals.len(),
                "a MOVE lost messages: {found} of {} arrived",
                arrivals.len()
            );
            for change in arrivals {
                if let What::Arrived(letter) = &change.what {
                    let id = letter.id.unwrap();
                    assert!(ids.contains(&id), "{letter:?} moved and lost its id");
                }
            }
        }
    }
}

/// What the messages of a user are known by: each by something else.
fn all_ids(tree: &Tree) -> BTreeSet<u128> {
    let mut ids = BTreeSet::new();
    for cell in tree.folders.values() {
        for letter in cell.folder.lock().unwrap().known.values() {
            let is_new = ids.insert(letter.id.unwrap());
            assert!(is_new, "another message has the id of {letter:?}");
        }
    }
    ids
}

/// What messages are known by must be what it was before, or something that no message ever had.
pub(super) fn learn_ids(tree: &Tree, folder: &mut Folder, mailbox: &Arc<Mailbox>, uids: &[u32]) {
    let ids = ids(mailbox, uids);
    for uid in uids {
        let known = &folder.known[uid];
        let found = known_by(known.clone(), ids[uid]);
        assert_eq!(found, known.filled(&found), "ids of UID {uid} (left)");
        settle_id(tree, known.id, &found);
        folder.known.insert(*uid, found);
    }
}

fn known_by(letter: Letter, (id, email_id): (u128, u128)) -> Letter {
    Letter {
        id: Some(id),
        email_id: Some(email_id),
        ..letter
    }
}

/// An id that nobody knew is one that no message ever had.
fn settle_id(tree: &Tree, known: Option<u128>, found: &Letter) {
    let is_new = tree.ids.lock().unwrap().insert(found.id.unwrap());
    assert!(
        known.is_some() || is_new,
        "a message had the id of {found:?} before"
    );
}

fn ids(mailbox: &Arc<Mailbox>, uids: &[u32]) -> BTreeMap<u32, (u128, u128)> {
    let pieces = uids.chunks(IDS_PER_FRAME);
    let ids = pieces.flat_map(|uids| mailbox.ids(&ranges(uids)).unwrap());
    ids.map(|ids| (ids.uid, (ids.id, ids.email_id))).collect()
}

fn open_for(user: usize, name: &str, under_way: &[Vec<Change>]) -> Open {
    let mut open = Open::default();
    for change in under_way.iter().flatten() {
        if change.user == user && change.folder == name {
            match &change.what {
                What::Arrived(letter) => open.arrivals.push(letter.clone()),
                What::Marked(_) | What::Gone(_) | What::Expunged(_) => {
                    assert!(open.change.is_none());
                    open.change = Some(change.what.clone());
                }
                _ => {}
            }
        }
    }
    open
}

/// Which mailboxes there are and which names are subscribed; what was under way may have been done.
fn settle_structure(tree: &mut Tree, user: &Arc<User>, at: usize, under_way: &[Vec<Change>]) {
    let (existing, subscribed) = listing(user);
    for change in under_way
        .iter()
        .flatten()
        .filter(|change| change.user == at)
    {
        let is_there = existing.contains(&change.folder);
        let is_done = match &change.what {
            What::Made(_) => is_there,
            What::Dropped => !is_there,
            What::Renamed(to) => {
                assert!(
                    is_there != existing.contains(to),
                    "RENAME to {to}: {existing:?}"
                );
                !is_there
            }
            What::Subscribed(on) => subscribed.contains(&change.folder) == *on,
            _ => false,
        };
        if is_done {
            super::state::apply_to(tree, vec![change.clone()]);
        }
    }
    let expected: BTreeSet<String> = tree.folders.keys().cloned().collect();
    assert_eq!(existing, expected, "mailboxes of {}", user_name(at));
    assert_eq!(subscribed, tree.subscribed);
}

/// Which mailboxes there are, and which names are subscribed.
pub(super) fn listing(user: &Arc<User>) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut existing, mut subscribed) = (BTreeSet::new(), BTreeSet::new());
    let mut after: Option<String> = None;
    loop {
        let (page, has_more) = user.list(after.as_deref()).unwrap();
        after = page.last().map(|info| info.name.clone());
        for info in page {
            if info.exists {
                existing.insert(info.name.clone());
            }
            if info.subscribed {
                subscribed.insert(info.name);
            }
        }
        if !has_more {
            return (existing, subscribed);
        }
    }
}

pub(super) fn user_of(store: &Store, user: usize) -> Arc<User> {
    store.user(&owner(user)).unwrap()
}

pub(super) fn mailbox_of(user: &Arc<User>, name: &str) -> Arc<Mailbox> {
    user.mailbox(&MailboxName::parse(name).unwrap()).unwrap()
}

/// Compares a mailbox with the model, and makes the model say what is there if that may be so. Gives how many of the open
/// arrivals are there.
fn compare(
    tree: &Tree,
    folder: &mut Folder,
    mailbox: &Arc<Mailbox>,
    glance: &Glance,
    open: Open,
    thorough: bool,
) -> usize {
    if folder.uid_validity == 0 {
        folder.uid_validity = glance.status.uid_validity;
    }
    assert_eq!(
        folder.uid_validity, glance.status.uid_validity,
        "UIDVALIDITY"
    );
    settle_change(folder, glance, open.change);
    let unknown = |record: &&Record| !folder.known.contains_key(&record.uid);
    let to_read: Vec<u32> = glance
        .records
        .iter()
        .filter(|record| thorough || unknown(record))
        .map(|record| record.uid)
        .collect();
    let numbers = numbers(mailbox, &to_read);
    let uids: Vec<u32> = glance.records.iter().map(|record| record.uid).collect();
    let ids = ids(mailbox, &uids);
    let mut arrivals = open.arrivals;
    let possible = arrivals.len();
    for record in &glance.records {
        let uid = record.uid;
        let known = folder.known.get(&uid).cloned();
        let number = numbers
            .get(&uid)
            .copied()
            .or_else(|| known.as_ref().map(|letter| letter.number))
            .unwrap();
        let found = known_by(glance.letter(record, number), ids[&uid]);
        assert_eq!(record.size, letter::size_of(number) as u64, "{record:?}");
        if let Some(known) = known {
            assert_eq!(
                found,
                known.filled(&found),
                "(left) is found as UID {uid}, (right) is right"
            );
            settle_id(tree, known.id, &found);
            folder.known.insert(uid, found);
        } else {
            let is_it = |letter: &Letter| {
                let date = letter.date.or(found.date.filter(|date| is_recent(*date)));
                Letter {
                    date,
                    ..letter.filled(&found)
                } == found
            };
            // What was not moved to its end is a message of its own.
            let may_be_it = |letter: &Letter| {
                is_it(&Letter {
                    id: None,
                    email_id: None,
                    ..letter.clone()
                })
            };
            let mut known = None;
            if let Some(at) = folder.arrived.iter().position(is_it) {
                folder.arrived.remove(at);
            } else if let Some(at) = arrivals.iter().position(is_it) {
                known = arrivals.remove(at).id;
            } else if let Some(at) = arrivals.iter().position(may_be_it) {
                arrivals.remove(at);
            } else {
                panic!("nobody brought {found:?}, UID {uid}");
            }
            settle_id(tree, known, &found);
            folder.apply(What::Put(uid, found));
        }
        let seen = folder.modseqs.insert(uid, record.modseq);
        assert!(
            seen.is_none_or(|seen| seen <= record.modseq),
            "UID {uid} had MODSEQ {seen:?} and has {}",
            record.modseq
        );
    }
    assert_eq!(folder.arrived, [], "these were acknowledged and are lost");
    let there: BTreeSet<u32> = glance.records.iter().map(|record| record.uid).collect();
    let lost: Vec<_> = folder
        .known
        .iter()
        .filter(|(uid, _)| !there.contains(uid))
        .collect();
    assert!(lost.is_empty(), "these are lost: {lost:?}");
    settle_counters(folder, mailbox, glance);
    possible - arrivals.len()
}

fn settle_counters(folder: &mut Folder, mailbox: &Arc<Mailbox>, glance: &Glance) {
    let MailboxStatus {
        uid_next,
        highest_modseq,
        ..
    } = glance.status;
    let above = folder.given.last().map_or(0, |highest| highest + 1);
    assert!(
        uid_next >= folder.uid_next.max(above),
        "UIDNEXT is {uid_next}, and {} was told and {above} is the least after what was given",
        folder.uid_next
    );
    folder.uid_next = uid_next;
    folder.given.clear();
    assert!(
        highest_modseq >= folder.highest_modseq,
        "HIGHESTMODSEQ was {} and is {highest_modseq}",
        folder.highest_modseq
    );
    folder.highest_modseq = highest_modseq;
    let modseqs = glance.records.iter().map(|record| record.modseq);
    assert!(modseqs.max().unwrap_or(0) <= highest_modseq);
    let sizes: u64 = glance.records.iter().map(|record| record.size).sum();
    let totals = mailbox.totals().unwrap();
    assert_eq!(
        (glance.records.len() as u64, sizes),
        (totals.messages, totals.bytes)
    );
    assert_eq!(
        (u64::from(glance.status.messages), glance.status.size),
        (totals.messages, sizes)
    );
}

/// A change that may have been made is made in the model if it was; it was made wholly or not at all.
fn settle_change(folder: &mut Folder, glance: &Glance, change: Option<What>) {
    let there: BTreeMap<u32, &Record> = glance.records.iter().map(|r| (r.uid, r)).collect();
    let is_done: Vec<bool> = match &change {
        Some(What::Gone(uids) | What::Expunged(uids)) => {
            uids.iter().map(|uid| !there.contains_key(uid)).collect()
        }
        Some(What::Marked(messages)) => messages
            .iter()
            .filter(|(uid, flags, keywords)| {
                let known = &folder.known[uid];
                (known.flags, &known.keywords) != (*flags, keywords)
            })
            .map(|(uid, flags, keywords)| {
                let now = glance.letter(there[uid], 0);
                (now.flags, &now.keywords) == (*flags, keywords)
            })
            .collect(),
        _ => return,
    };
    let Some(first) = is_done.first() else { return };
    assert!(
        is_done.iter().all(|done| done == first),
        "{change:?} was done by half: {is_done:?}"
    );
    if *first {
        folder.apply(change.unwrap());
    }
}

/// What the bytes of messages say.
pub(super) fn numbers(mailbox: &Arc<Mailbox>, uids: &[u32]) -> BTreeMap<u32, u64> {
    let mut numbers = BTreeMap::new();
    for uids in uids.chunks(OPENED) {
        for (uid, mut file) in mailbox.open(uids).unwrap() {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            let number = letter::number_of(&bytes);
            let number = number.unwrap_or_else(|| panic!("UID {uid} is not whole: {bytes:.60?}"));
            numbers.insert(uid, number);
        }
    }
    assert_eq!(numbers.len(), uids.len(), "a message could not be opened");
    numbers
}

/// A date that a delivery until now can have.
fn is_recent(date: i64) -> bool {
    (clock::seconds() - 3600..=clock::seconds()).contains(&date)
}
