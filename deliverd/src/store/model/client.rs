//! One of the clients that work in the store at the same time: what it does, it does in the model too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::RwLockReadGuard;

use ipc::Refusal;
use ipc::session::FlagChange;
use ipc::snapshot::flag;

use super::super::dice::Dice;
use super::super::{BUFFER, FlagOrder, Incoming, MailboxName, NewMessage, Store, Transfer, ranges};
use super::kept::{self, Found};
use super::state::{self, Cell, Change, Folder, Letter, Marks, Model, Tree, What};
use super::{by_hand, letter, owner, pipe, verify};

const FLAGS: [u8; 5] = [
    flag::SEEN,
    flag::ANSWERED,
    flag::FLAGGED,
    flag::DRAFT,
    flag::DELETED,
];
const KEYWORDS: [&str; 6] = [
    "$Forwarded",
    "work",
    "later",
    "$Junk",
    "x",
    "a-long-keyword.of-somebody",
];
/// Names that mailboxes are made with and renamed to.
const NAMES: [&str; 9] = [
    "a",
    "a/b",
    "a/b/c",
    "b",
    "b/ä ö",
    "b/.x",
    "b/c",
    "Trash/old",
    "INBOX/in",
];
/// Mailboxes that have more messages are emptied now and then.
const MANY: usize = 250;

/// Where a client works.
pub(super) struct Client<'a> {
    pub(super) number: usize,
    pub(super) directory: &'a Path,
    pub(super) store: &'a Store,
    pub(super) model: &'a Model,
    pub(super) dice: Dice,
    /// Tells the parent process what is asked for and what was acknowledged; then nobody edits files by hand.
    pub(super) pipe: Option<&'a pipe::Writer>,
}

impl Client<'_> {
    /// Does something.
    pub(super) fn step(&mut self) {
        match self.dice.below(37) {
            0..=6 => self.deliver(),
            7..=9 => self.append(),
            10..=12 => self.mark(),
            13 => self.mark_all(),
            14 | 15 => self.expunge(),
            16 => self.expunge_all(),
            17..=19 => self.transfer(false),
            20..=22 => self.transfer(true),
            23 => self.create(),
            24 => self.delete(),
            25 => self.rename(),
            26 if self.dice.once_in(3) => self.rename_inbox(),
            27 => self.subscribe(),
            28..=31 => self.look(),
            32 => self.unload(),
            33 if self.dice.once_in(4) => assert!(self.store.shared.empty_journal()),
            34 if self.pipe.is_none() => self.edit_by_hand(),
            35 => self.undelete(),
            _ => self.totals(),
        }
    }

    fn begin(&self, changes: &[Change]) {
        if let Some(pipe) = self.pipe {
            pipe.write(&pipe::Line::Begun(self.number, changes.to_vec()));
        }
    }

    fn done(&self, changes: &[Change]) {
        if let Some(pipe) = self.pipe {
            pipe.write(&pipe::Line::Done(self.number, changes.to_vec()));
        }
    }

    fn tree(&self, user: usize) -> RwLockReadGuard<'_, Tree> {
        self.model.trees[user].read().unwrap()
    }

    fn user(&mut self) -> usize {
        self.dice.below(self.model.trees.len())
    }

    /// One of the mailboxes, INBOX more often than the others.
    fn folder(&mut self, tree: &Tree) -> String {
        if self.dice.once_in(3) {
            return "INBOX".to_owned();
        }
        let names: Vec<&String> = tree.folders.keys().collect();
        self.dice.choose(&names).clone()
    }

    fn letter(&self) -> Letter {
        Letter::new(self.model.next_number())
    }

    fn some_flags(&mut self) -> u8 {
        let flags = FLAGS.into_iter().filter(|_| self.dice.once_in(3));
        flags.fold(0, |all, flag| all | flag)
    }

    fn some_keywords(&mut self) -> BTreeSet<String> {
        let words = KEYWORDS.into_iter().filter(|_| self.dice.once_in(5));
        words.map(str::to_owned).collect()
    }

    /// Some messages whose UIDs are known, ascending.
    fn some_messages(&mut self, cell: &Cell) -> Vec<u32> {
        let uids: Vec<u32> = cell.folder.lock().unwrap().known.keys().copied().collect();
        let count = match self.dice.below(12) {
            0 => usize::MAX,
            _ => 1 + self.dice.below(8),
        };
        self.dice.some(&uids, count)
    }

    fn incoming(&self, number: u64) -> Incoming {
        let bytes = letter::bytes_of(number);
        let mut incoming = self.store.begin();
        for piece in bytes.chunks(BUFFER) {
            incoming.buffer().extend_from_slice(piece);
            if incoming.is_full() {
                incoming.spill().unwrap();
            }
        }
        incoming
    }

    fn deliver(&mut self) {
        let users = 0..self.model.trees.len();
        let mut users: Vec<usize> = users.filter(|_| self.dice.once_in(2)).collect();
        if users.is_empty() {
            users.push(0);
        }
        let trees: Vec<_> = users.iter().map(|user| self.tree(*user)).collect();
        let cells: Vec<_> = trees.iter().map(|tree| tree.cell("INBOX")).collect();
        let _gates: Vec<_> = cells.iter().map(|cell| cell.gate.read().unwrap()).collect();
        let letter = self.letter();
        let changes: Vec<Change> = users
            .iter()
            .map(|user| change(*user, "INBOX", What::Arrived(letter.clone())))
            .collect();
        self.begin(&changes);
        let owners: Vec<_> = users.iter().map(|user| owner(*user)).collect();
        self.store
            .deliver(self.incoming(letter.number), &owners)
            .unwrap();
        self.done(&changes);
        for (tree, change) in trees.iter().zip(changes) {
            state::apply_in(tree, vec![change]);
        }
    }

    fn append(&mut self) {
        let user = self.user();
        let letter = Letter {
            flags: self.some_flags(),
            keywords: self.some_keywords(),
            date: Some(1_000_000_000 + i64::from(self.dice.once_in(2))),
            ..self.letter()
        };
        let model = self.model;
        let tree = model.trees[user].read().unwrap();
        let name = self.folder(&tree);
        let _gate = tree.cell(&name).gate.read().unwrap();
        self.begin(&[change(user, &name, What::Arrived(letter.clone()))]);
        let message = NewMessage {
            flags: letter.flags,
            keywords: letter.keywords.iter().cloned().collect(),
            size: 0,
            internal_date: letter.date.unwrap(),
        };
        let mailbox = verify::mailbox_of(&verify::user_of(self.store, user), &name);
        let incoming = self.incoming(letter.number);
        let (uid_validity, uid) = self.store.append(incoming, &mailbox, message).unwrap();
        let known = tree.cell(&name).folder.lock().unwrap().uid_validity;
        assert!(known == 0 || known == uid_validity);
        let changes = vec![change(user, &name, What::Put(uid, letter))];
        self.done(&changes);
        state::apply_in(&tree, changes);
    }

    fn mark(&mut self) {
        let user = self.user();
        let model = self.model;
        let tree = model.trees[user].read().unwrap();
        let name = self.folder(&tree);
        let cell = tree.cell(&name);
        let _gate = cell.gate.read().unwrap();
        let _changing = cell.changing.lock().unwrap();
        let uids = self.some_messages(cell);
        self.mark_in(&tree, user, &name, &uids, ranges(&uids));
    }

    /// STORE of all, also of those whose UIDs nobody knows yet.
    fn mark_all(&mut self) {
        let user = self.user();
        let model = self.model;
        let tree = model.trees[user].read().unwrap();
        let name = self.folder(&tree);
        let cell = tree.cell(&name);
        let _gate = cell.gate.write().unwrap();
        self.look_at(&tree, user, &name, false);
        let uids: Vec<u32> = cell.folder.lock().unwrap().known.keys().copied().collect();
        self.mark_in(&tree, user, &name, &uids, vec![(1, u32::MAX)]);
    }

    fn mark_in(
        &mut self,
        tree: &Tree,
        user: usize,
        name: &str,
        uids: &[u32],
        asked: Vec<(u32, u32)>,
    ) {
        let (flags, keywords) = (self.some_flags(), self.some_keywords());
        let order = FlagOrder {
            change: self
                .dice
                .choose(&[FlagChange::Add, FlagChange::Remove, FlagChange::Replace]),
            flags,
            keywords: keywords.iter().cloned().collect(),
            unchanged_since: None,
            heard: u64::MAX,
        };
        let messages: Vec<Marks> = {
            let folder = tree.cell(name).folder.lock().unwrap();
            let marked = uids.iter().map(|uid| {
                let (flags, keywords) = marked(&folder.known[uid], &order);
                (*uid, flags, keywords)
            });
            marked.collect()
        };
        let changes = vec![change(user, name, What::Marked(messages))];
        self.begin(&changes);
        let mailbox = verify::mailbox_of(&verify::user_of(self.store, user), name);
        mailbox.store_flags(&asked, &order).unwrap();
        self.done(&changes);
        state::apply_in(tree, changes);
    }

    fn expunge(&mut self) {
        let user = self.user();
        let model = self.model;
        let tree = model.trees[user].read().unwrap();
        let name = self.folder(&tree);
        let cell = tree.cell(&name);
        let _gate = cell.gate.read().unwrap();
        let _changing = cell.changing.lock().unwrap();
        let uids = self.some_messages(cell);
        self.expunge_in(&tree, user, &name, &uids, Some(ranges(&uids)));
    }

    fn expunge_all(&mut self) {
        let user = self.user();
        let model = self.model;
        let tree = model.trees[user].read().unwrap();
        let name = self.folder(&tree);
        let cell = tree.cell(&name);
        let _gate = cell.gate.write().unwrap();
        self.look_at(&tree, user, &name, false);
        let uids: Vec<u32> = cell.folder.lock().unwrap().known.keys().copied().collect();
        if uids.len() > MANY {
            let many = self.dice.some(&uids, MANY / 2);
            self.mark_in(&tree, user, &name, &many, ranges(&many));
        }
        self.expunge_in(&tree, user, &name, &uids, None);
    }

    fn expunge_in(
        &mut self,
        tree: &Tree,
        user: usize,
        name: &str,
        uids: &[u32],
        asked: Option<Vec<(u32, u32)>>,
    ) {
        let gone: Vec<u32> = {
            let folder = tree.cell(name).folder.lock().unwrap();
            let is_deleted = |uid: &&u32| folder.known[*uid].flags & flag::DELETED != 0;
            uids.iter().filter(is_deleted).copied().collect()
        };
        let changes = vec![change(user, name, What::Expunged(gone))];
        self.begin(&changes);
        let mailbox = verify::mailbox_of(&verify::user_of(self.store, user), name);
        mailbox.expunge(asked.as_ref()).unwrap();
        self.done(&changes);
        state::apply_in(tree, changes);
    }

    /// COPY or MOVE, perhaps within a mailbox.
    fn transfer(&mut self, moves: bool) {
        let user = self.user();
        let model = self.model;
        let tree = model.trees[user].read().unwrap();
        let from = self.folder(&tree);
        let to = self.folder(&tree);
        let gates: BTreeSet<&String> = [&from, &to].into();
        let _gates: Vec<_> = gates
            .into_iter()
            .map(|name| tree.cell(name).gate.read().unwrap())
            .collect();
        let _changing = tree.cell(&from).changing.lock().unwrap();
        let uids = self.some_messages(tree.cell(&from));
        let its = verify::user_of(self.store, user);
        let (source, target) = (
            verify::mailbox_of(&its, &from),
            verify::mailbox_of(&its, &to),
        );
        let letters = {
            let mut folder = tree.cell(&from).folder.lock().unwrap();
            verify::learn_ids(&tree, &mut folder, &source, &uids);
            letters(&folder, &uids)
        };
        self.begin(&transferred(
            user,
            (&from, &uids),
            (&to, None),
            &letters,
            moves,
        ));
        let asked = ranges(&uids);
        let transfer = if moves {
            source.move_to(&asked, &target)
        } else {
            source.copy(&asked, &target)
        };
        let Transfer { source, target, .. } = transfer.unwrap();
        assert_eq!(source, uids, "not all messages were transferred");
        let changes = transferred(user, (&from, &uids), (&to, Some(&target)), &letters, moves);
        self.done(&changes);
        state::apply_in(&tree, changes);
    }

    fn create(&mut self) {
        let user = self.user();
        let name = self.dice.choose(&NAMES);
        let mut tree = self.model.trees[user].write().unwrap();
        let made = missing(&tree, name);
        self.begin(&changes_of(user, &made, |_| What::Made(0)));
        let its = verify::user_of(self.store, user);
        let created = its.create_mailbox(&MailboxName::parse(name).unwrap(), None);
        let expected = if made.is_empty() {
            Err(Refusal::MailboxExists)
        } else {
            Ok(())
        };
        assert_eq!(created, expected);
        self.made(&mut tree, user, &made, vec![]);
    }

    /// Takes in new mailboxes, and what else was done.
    fn made(&self, tree: &mut Tree, user: usize, made: &[String], more: Vec<Change>) {
        let its = verify::user_of(self.store, user);
        let mut changes = changes_of(user, made, |name| {
            let status = verify::mailbox_of(&its, name).status().unwrap();
            What::Made(status.uid_validity)
        });
        changes.extend(more);
        self.done(&changes);
        state::apply_to(tree, changes);
    }

    fn delete(&mut self) {
        let user = self.user();
        let mut tree = self.model.trees[user].write().unwrap();
        let name = self.dice.choose(&NAMES).to_owned();
        let is_there = tree.folders.contains_key(&name);
        let mut changes = vec![change(user, &name, What::Dropped)];
        changes.truncate(usize::from(is_there));
        self.begin(&changes);
        let deleted =
            verify::user_of(self.store, user).delete_mailbox(&MailboxName::parse(&name).unwrap());
        let expected = if is_there {
            Ok(())
        } else {
            Err(Refusal::NoSuchMailbox)
        };
        assert_eq!(deleted, expected);
        self.done(&changes);
        state::apply_to(&mut tree, changes);
    }

    /// Gives back what was expunged: all, or what was in one mailbox.
    fn undelete(&mut self) {
        let user = self.user();
        let mut tree = self.model.trees[user].write().unwrap();
        let all = kept::check(&tree, self.store, user);
        let only = self.dice.once_in(2).then(|| self.dice.choose(&NAMES));
        let mut homes = BTreeMap::new();
        let its = verify::user_of(self.store, user);
        for name in tree.folders.keys() {
            let status = verify::mailbox_of(&its, name).status().unwrap();
            homes.insert(status.uid_validity, name.clone());
        }
        let (mut made, mut back) = (Vec::new(), Vec::new());
        let mut restored = Vec::new();
        for Found {
            mailbox,
            uid_validity,
            mut letter,
        } in all
        {
            if only.is_some_and(|only| only != mailbox) {
                continue;
            }
            restored.push(letter.clone());
            letter.flags &= !flag::DELETED;
            let home = homes.get(&uid_validity).unwrap_or(&mailbox).clone();
            let new = missing(&tree, &home);
            made.extend(
                new.into_iter()
                    .filter(|name| !made.contains(name))
                    .collect::<Vec<_>>(),
            );
            back.push(change(user, &home, What::Arrived(letter)));
        }
        back.push(change(user, "INBOX", What::Restored(restored)));
        let mut changes = changes_of(user, &made, |_| What::Made(0));
        changes.extend(back.clone());
        self.begin(&changes);
        kept::undelete(self.store, user, only);
        self.made(&mut tree, user, &made, back);
    }

    /// RENAME of a mailbox and what is below it.
    fn rename(&mut self) {
        let user = self.user();
        let mut tree = self.model.trees[user].write().unwrap();
        let names: Vec<String> = tree
            .folders
            .keys()
            .filter(|name| *name != "INBOX")
            .cloned()
            .collect();
        let from = self.dice.choose(&names);
        let to = self.dice.choose(&NAMES).to_owned();
        let moving = names.iter().filter_map(|name| {
            let rest = name.strip_prefix(&from)?;
            (rest.is_empty() || rest.starts_with('/'))
                .then(|| (name.clone(), format!("{to}{rest}")))
        });
        let pairs: Vec<(String, String)> = moving.collect();
        let expected = if to.starts_with(&format!("{from}/")) {
            Err(Refusal::InvalidMailboxName)
        } else if pairs.iter().any(|(_, new)| tree.folders.contains_key(new)) {
            Err(Refusal::MailboxExists)
        } else {
            Ok(())
        };
        let (mut made, mut renamed) = (vec![], vec![]);
        if expected.is_ok() {
            made = missing(&tree, &to);
            made.pop();
            renamed.extend(
                pairs
                    .iter()
                    .map(|(old, new)| change(user, old, What::Renamed(new.clone()))),
            );
        }
        let mut changes = changes_of(user, &made, |_| What::Made(0));
        changes.extend(renamed.clone());
        self.begin(&changes);
        let [old, new] = [&from, &to].map(|name| MailboxName::parse(name).unwrap());
        let done = verify::user_of(self.store, user).rename_mailbox(&old, &new);
        assert_eq!(done, expected, "RENAME {from} {to}");
        self.made(&mut tree, user, &made, renamed);
    }

    /// RENAME of INBOX: all its messages move.
    fn rename_inbox(&mut self) {
        let user = self.user();
        let mut tree = self.model.trees[user].write().unwrap();
        let to = self.dice.choose(&NAMES);
        if tree.folders.contains_key(to) {
            return;
        }
        self.look_at(&tree, user, "INBOX", false);
        let made = missing(&tree, to);
        let (uids, letters) = {
            let folder = tree.cell("INBOX").folder.lock().unwrap();
            let uids: Vec<u32> = folder.known.keys().copied().collect();
            let letters = letters(&folder, &uids);
            (uids, letters)
        };
        let mut changes = changes_of(user, &made, |_| What::Made(0));
        changes.extend(transferred(
            user,
            ("INBOX", &uids),
            (to, None),
            &letters,
            true,
        ));
        self.begin(&changes);
        verify::user_of(self.store, user)
            .rename_mailbox(&MailboxName::inbox(), &MailboxName::parse(to).unwrap())
            .unwrap();
        // The new mailbox is empty otherwise, so its UIDs begin with 1.
        let new: Vec<u32> = (1..).take(uids.len()).collect();
        let moved = transferred(user, ("INBOX", &uids), (to, Some(&new)), &letters, true);
        self.made(&mut tree, user, &made, moved);
    }

    fn subscribe(&mut self) {
        let user = self.user();
        let mut tree = self.model.trees[user].write().unwrap();
        let name = self.dice.choose(&NAMES).to_owned();
        let on = self.dice.once_in(2);
        let mut changes = vec![change(user, &name, What::Subscribed(on))];
        changes.truncate(usize::from(tree.subscribed.contains(&name) != on));
        self.begin(&changes);
        verify::user_of(self.store, user)
            .subscribe(&MailboxName::parse(&name).unwrap(), on)
            .unwrap();
        self.done(&changes);
        state::apply_to(&mut tree, changes);
    }

    /// SELECT, compared with the model; sometimes whoever selected stays and listens.
    fn look(&mut self) {
        let user = self.user();
        let model = self.model;
        let tree = model.trees[user].read().unwrap();
        let name = self.folder(&tree);
        let cell = tree.cell(&name);
        let _gate = cell.gate.write().unwrap();
        let thorough = self.dice.once_in(4);
        self.look_at(&tree, user, &name, thorough);
    }

    fn look_at(&mut self, tree: &Tree, user: usize, name: &str, thorough: bool) {
        let glance = verify::look(tree, self.store, user, name, thorough);
        let cell = tree.cell(name);
        let changes = [change(
            user,
            name,
            What::Seen(cell.folder.lock().unwrap().clone()),
        )];
        self.done(&changes);
        let mailbox = verify::mailbox_of(&verify::user_of(self.store, user), name);
        let mut views = cell.views.lock().unwrap();
        if views.len() < 3 && self.dice.once_in(2) {
            views.push((glance.selection, glance.view));
        } else {
            mailbox.unselect(glance.selection);
        }
        if self.dice.once_in(5)
            && let Some((selection, _)) = views.pop()
        {
            mailbox.unselect(selection);
        }
    }

    fn totals(&mut self) {
        let user = self.user();
        verify::user_of(self.store, user).totals().unwrap();
    }

    /// Takes mailboxes that nobody uses out of memory.
    fn unload(&mut self) {
        for mailbox in self.store.shared.cache.mailboxes() {
            if self.dice.once_in(2) {
                mailbox.unload();
            }
        }
        self.store.trim();
    }

    /// Somebody changes the files of a mailbox and it is selected.
    fn edit_by_hand(&mut self) {
        let user = self.user();
        let model = self.model;
        let tree = model.trees[user].read().unwrap();
        let name = self.folder(&tree);
        let cell = tree.cell(&name);
        let _gate = cell.gate.write().unwrap();
        self.look_at(&tree, user, &name, false);
        // What the journal carries has the last word after a crash.
        assert!(self.store.shared.empty_journal());
        let path = self.directory.join(by_hand::place(user, &name));
        for _ in 0..1 + self.dice.below(3) {
            let number = model.next_number();
            let mut folder = cell.folder.lock().unwrap();
            by_hand::edit(&path, &mut folder, number, &mut self.dice);
        }
        self.look_at(&tree, user, &name, true);
    }
}

fn change(user: usize, folder: &str, what: What) -> Change {
    let folder = folder.to_owned();
    Change { user, folder, what }
}

fn changes_of(user: usize, names: &[String], what: impl Fn(&str) -> What) -> Vec<Change> {
    names
        .iter()
        .map(|name| change(user, name, what(name)))
        .collect()
}

fn letters(folder: &Folder, uids: &[u32]) -> Vec<Letter> {
    uids.iter().map(|uid| folder.known[uid].clone()).collect()
}

/// COPY or MOVE as changes of the mailboxes; the new UIDs if they are known.
fn transferred(
    user: usize,
    (from, uids): (&str, &[u32]),
    (to, new): (&str, Option<&[u32]>),
    letters: &[Letter],
    moves: bool,
) -> Vec<Change> {
    let come = letters.iter().enumerate().map(|(at, letter)| {
        let letter = if moves { letter.clone() } else { letter.copy() };
        let what = match new {
            Some(new) => What::Put(new[at], letter),
            None => What::Arrived(letter),
        };
        change(user, to, what)
    });
    let gone = moves.then(|| change(user, from, What::Gone(uids.to_vec())));
    come.chain(gone).collect()
}

fn marked(letter: &Letter, order: &FlagOrder) -> (u8, BTreeSet<String>) {
    let (mut flags, mut keywords) = (letter.flags, letter.keywords.clone());
    match order.change {
        FlagChange::Add => {
            flags |= order.flags;
            keywords.extend(order.keywords.iter().cloned());
        }
        FlagChange::Remove => {
            flags &= !order.flags;
            keywords.retain(|word| !order.keywords.contains(word));
        }
        FlagChange::Replace => {
            flags = order.flags;
            keywords = order.keywords.iter().cloned().collect();
        }
    }
    (flags, keywords)
}

/// Those of a mailbox and its parents that are not there; nothing if it is there.
fn missing(tree: &Tree, name: &str) -> Vec<String> {
    if tree.folders.contains_key(name) {
        return Vec::new();
    }
    let ends = name
        .match_indices('/')
        .map(|(at, _)| at)
        .chain([name.len()]);
    let names = ends.map(|end| name[..end].to_owned());
    names
        .filter(|name| !tree.folders.contains_key(name))
        .collect()
}
