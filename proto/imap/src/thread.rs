//! Puts messages into threads: ORDEREDSUBJECT and REFERENCES (RFC 5256 §3), and REFS.
//!
//! Invariant: each message is in the answer exactly once, whatever the identifiers say. Nothing here calls itself: threads can be as
//! deep as there are messages. Work is that of sorting the messages, but for the search for loops, which is bounded by [`MAX_CLIMBS`].
//! Memory is about 150 bytes for a message, and 50 for an identifier that is no message's, of which there are at most [`MAX_DUMMIES`].

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::write;

/// Beyond so many, identifiers that are no message's are passed over.
pub const MAX_DUMMIES: usize = 1_000_000;
/// Steps that are made in one answer to see that no message becomes its own ancestor. Where more would be needed, messages stay apart.
pub const MAX_CLIMBS: usize = 20_000_000;

const NONE: u32 = u32::MAX;

/// A way to find out what belongs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// By the subject alone; threads are in the order in which they began.
    OrderedSubject,
    /// By what messages refer to, then by the subject; everything is in the order in which it was sent.
    References,
    /// By what messages refer to; everything is in the order in which it came, threads by the last of each.
    Refs,
}

/// A message to be put into a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Letter {
    /// The number it is told by.
    pub number: u32,
    /// Whether its subject says that it is a reply or a forward.
    pub is_reply: bool,
    /// When it was sent, or for [`Algorithm::Refs`] came.
    pub date: i64,
    /// Stands for its base subject; 0 if that is empty.
    pub subject: u128,
}

/// Messages that are being put into threads.
#[derive(Debug)]
pub struct Threader {
    algorithm: Algorithm,
    letters: Vec<Letter>,
    links: Links,
}

impl Threader {
    /// Without messages.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            letters: Vec::new(),
            links: Links {
                nodes: Vec::new(),
                ids: BTreeMap::new(),
                dummies_left: MAX_DUMMIES,
                climbs_left: MAX_CLIMBS,
            },
        }
    }

    /// Adds the next message of the mailbox: what stands for its identifier, 0 if it has none, and for those of its ancestors, the
    /// parent last.
    pub fn add(&mut self, letter: Letter, id: u128, ancestors: impl Iterator<Item = u128>) {
        if self.algorithm != Algorithm::OrderedSubject {
            self.links.add(index(self.letters.len()), id, ancestors);
        }
        self.letters.push(letter);
    }

    /// Puts them into threads.
    #[must_use]
    pub fn finish(self) -> Threads {
        let Self {
            algorithm,
            letters,
            links,
        } = self;
        let mut by_date: Vec<u32> = (0..index(letters.len())).collect();
        by_date.sort_unstable_by_key(|letter| (letters[*letter as usize].date, *letter));
        let mut family = match algorithm {
            Algorithm::OrderedSubject => Family::childless(letters.len()),
            Algorithm::References | Algorithm::Refs => links.pruned(&letters),
        };
        match algorithm {
            Algorithm::OrderedSubject => family.order_by_subject(&letters, &by_date),
            Algorithm::References => family.merge_by_subject(&letters, &by_date),
            Algorithm::Refs => {}
        }
        let mut threads = Threads::new(&family, letters, &by_date);
        if algorithm == Algorithm::Refs {
            threads.sort_by_last();
        }
        threads
    }
}

/// An identifier, or a message without one of its own.
#[derive(Debug)]
struct Node {
    parent: u32,
    children: u32,
    /// [`NONE`] for a dummy: nobody has this identifier.
    letter: u32,
}

/// Who refers to whom.
#[derive(Debug)]
struct Links {
    nodes: Vec<Node>,
    ids: BTreeMap<u128, u32>,
    dummies_left: usize,
    climbs_left: usize,
}

impl Links {
    // RFC 5256 §3, REFERENCES, step 1.
    fn add(&mut self, letter: u32, id: u128, ancestors: impl Iterator<Item = u128>) {
        let mut above = NONE;
        for id in ancestors {
            let Some(node) = self.named(id) else {
                continue;
            };
            if self.nodes[node as usize].parent == NONE {
                self.link(above, node);
            }
            above = node;
        }
        let node = self.place(letter, id);
        let before = self.nodes[node as usize].parent;
        if before != above {
            if before != NONE {
                self.nodes[before as usize].children -= 1;
                self.nodes[node as usize].parent = NONE;
            }
            self.link(above, node);
        }
    }

    /// The node of an identifier.
    fn named(&mut self, id: u128) -> Option<u32> {
        if let Some(node) = self.ids.get(&id) {
            return Some(*node);
        }
        self.dummies_left = self.dummies_left.checked_sub(1)?;
        let node = self.push(NONE);
        self.ids.insert(id, node);
        Some(node)
    }

    /// The node of a message. Of several with one identifier the first has it.
    fn place(&mut self, letter: u32, id: u128) -> u32 {
        if id == 0 {
            return self.push(letter);
        }
        match self.ids.get(&id).copied() {
            Some(node) if self.nodes[node as usize].letter == NONE => {
                self.nodes[node as usize].letter = letter;
                self.dummies_left += 1;
                node
            }
            Some(_) => self.push(letter),
            None => {
                let node = self.push(letter);
                self.ids.insert(id, node);
                node
            }
        }
    }

    fn push(&mut self, letter: u32) -> u32 {
        let node = index(self.nodes.len());
        self.nodes.push(Node {
            parent: NONE,
            children: 0,
            letter,
        });
        node
    }

    /// Makes `above` the parent of `node`, which has none, unless that made a loop.
    fn link(&mut self, above: u32, node: u32) {
        if above != NONE && !self.may_descend(above, node) {
            self.nodes[node as usize].parent = above;
            self.nodes[above as usize].children += 1;
        }
    }

    /// Whether `node` is `other` or one of its descendants, or it would take too long to find that out.
    fn may_descend(&mut self, mut node: u32, other: u32) -> bool {
        if node == other {
            return true;
        }
        // As a rule the children come later.
        if self.nodes[other as usize].children == 0 {
            return false;
        }
        loop {
            node = self.nodes[node as usize].parent;
            if node == NONE {
                return false;
            }
            let Some(left) = self.climbs_left.checked_sub(1) else {
                return true;
            };
            self.climbs_left = left;
            if node == other {
                return true;
            }
        }
    }

    /// Takes the dummies out, but for those on top that hold several messages together.
    // RFC 5256 §3, REFERENCES, steps 2 and 3.
    fn pruned(self, letters: &[Letter]) -> Family {
        let nodes = self.nodes;
        let tops = closest(&nodes);
        let count = letters.len();
        let mut family = Family::childless(count + nodes.len());
        family.letters = count;
        let mut children = vec![0_u32; nodes.len()];
        for node in nodes.iter().filter(|node| node.letter != NONE) {
            if node.parent == NONE {
                continue;
            }
            let top = tops[node.parent as usize] as usize;
            let above = nodes[top].letter;
            family.parents[node.letter as usize] = match above {
                NONE => index(count + top),
                letter => letter,
            };
            children[top] += u32::from(above == NONE);
        }
        for parent in family.parents.iter_mut().take(count) {
            let dummy = (*parent as usize).checked_sub(count);
            if dummy.is_some_and(|dummy| children.get(dummy) == Some(&1)) {
                *parent = NONE;
            }
        }
        family
    }
}

/// Of each node the closest that is a message: itself or an ancestor, or else the dummy on top.
fn closest(nodes: &[Node]) -> Vec<u32> {
    let mut found = vec![NONE; nodes.len()];
    let mut path = Vec::new();
    for start in 0..index(nodes.len()) {
        let mut node = start;
        while found[node as usize] == NONE {
            let Node { parent, letter, .. } = nodes[node as usize];
            if letter != NONE || parent == NONE {
                found[node as usize] = node;
            } else {
                path.push(node);
                node = parent;
            }
        }
        for passed in path.drain(..) {
            found[passed as usize] = found[node as usize];
        }
    }
    found
}

/// Parents of messages, and of the dummies behind them. A message's parent is a message or a dummy on top; a dummy's is another
/// that took over its children.
struct Family {
    letters: usize,
    parents: Vec<u32>,
}

impl Family {
    fn childless(count: usize) -> Self {
        Self {
            letters: count,
            parents: vec![NONE; count],
        }
    }

    const fn is_dummy(&self, slot: u32) -> bool {
        slot as usize >= self.letters
    }

    // RFC 5256 §3, ORDEREDSUBJECT: all others are children of the first.
    fn order_by_subject(&mut self, letters: &[Letter], by_date: &[u32]) {
        let mut first = BTreeMap::new();
        for &letter in by_date {
            let subject = letters[letter as usize].subject;
            let first = *first.entry(subject).or_insert(letter);
            if first != letter {
                self.parents[letter as usize] = first;
            }
        }
    }

    /// What is on top, in order of dates, each with the message whose subject it has.
    // RFC 5256 §3, REFERENCES, step 4.
    fn tops(&self, by_date: &[u32]) -> Vec<(u32, u32)> {
        let mut tops = Vec::new();
        let mut seen = vec![false; self.parents.len()];
        for &letter in by_date {
            match self.parents[letter as usize] {
                NONE => tops.push((letter, letter)),
                parent if self.is_dummy(parent) && !seen[parent as usize] => {
                    seen[parent as usize] = true;
                    tops.push((parent, letter));
                }
                _ => {}
            }
        }
        tops
    }

    // RFC 5256 §3, REFERENCES, step 5.
    fn merge_by_subject(&mut self, letters: &[Letter], by_date: &[u32]) {
        let tops: Vec<(u32, u128)> = self
            .tops(by_date)
            .into_iter()
            .map(|(top, letter)| (top, letters[letter as usize].subject))
            .filter(|(_, subject)| *subject != 0)
            .collect();
        let is_reply = |top: u32| {
            letters
                .get(top as usize)
                .is_some_and(|letter| letter.is_reply)
        };
        let mut table: BTreeMap<u128, u32> = BTreeMap::new();
        for &(top, subject) in &tops {
            let known = table.entry(subject).or_insert(top);
            let is_better = self.is_dummy(top) || is_reply(*known) && !is_reply(top);
            if !self.is_dummy(*known) && is_better {
                *known = top;
            }
        }
        for (top, subject) in tops {
            let Some(known) = table.get_mut(&subject) else {
                continue;
            };
            // A message that went below a dummy made for it is done.
            if *known == top || self.parents[top as usize] != NONE {
                continue;
            }
            // Two dummies become one; a message goes to the others of a dummy; a reply goes below what it answers.
            if !self.is_dummy(*known) && (!is_reply(top) || is_reply(*known)) {
                let dummy = index(self.parents.len());
                self.parents.push(NONE);
                self.parents[*known as usize] = dummy;
                *known = dummy;
            }
            self.parents[top as usize] = *known;
        }
    }

    fn parent(&self, letter: u32) -> u32 {
        match self.parents[letter as usize] {
            NONE => NONE,
            parent if self.is_dummy(parent) => match self.parents[parent as usize] {
                NONE => parent,
                successor => successor,
            },
            parent => parent,
        }
    }
}

/// Messages in threads.
#[derive(Debug)]
pub struct Threads {
    letters: Vec<Letter>,
    /// Messages, and dummies behind them, that have no parent.
    roots: Vec<u32>,
    /// Of messages and dummies the first child …
    first: Vec<u32>,
    /// … and of messages the next one of the same parent.
    next: Vec<u32>,
}

impl Threads {
    // RFC 5256 §3, REFERENCES, step 6: what is put together in order of dates is in order everywhere.
    fn new(family: &Family, letters: Vec<Letter>, by_date: &[u32]) -> Self {
        let slots = family.parents.len();
        let mut last = vec![NONE; slots];
        let mut threads = Self {
            roots: Vec::new(),
            first: vec![NONE; slots],
            next: vec![NONE; letters.len()],
            letters,
        };
        for &letter in by_date {
            let parent = family.parent(letter);
            if parent == NONE {
                threads.roots.push(letter);
                continue;
            }
            match core::mem::replace(&mut last[parent as usize], letter) {
                NONE => {
                    threads.first[parent as usize] = letter;
                    if family.is_dummy(parent) {
                        threads.roots.push(parent);
                    }
                }
                previous => threads.next[previous as usize] = letter,
            }
        }
        threads
    }

    fn sort_by_last(&mut self) {
        let mut roots: Vec<((i64, u32), u32)> = Vec::with_capacity(self.roots.len());
        let mut open = Vec::new();
        for &root in &self.roots {
            let mut last = (i64::MIN, 0);
            open.push(root);
            while let Some(slot) = open.pop() {
                if let Some(letter) = self.letters.get(slot as usize) {
                    last = last.max((letter.date, slot));
                }
                open.extend(self.children(slot));
            }
            roots.push((last, root));
        }
        roots.sort_unstable();
        self.roots = roots.into_iter().map(|(_, root)| root).collect();
    }

    fn children(&self, slot: u32) -> impl Iterator<Item = u32> {
        let some = |slot: u32| (slot != NONE).then_some(slot);
        core::iter::successors(some(self.first[slot as usize]), move |letter| {
            some(self.next[*letter as usize])
        })
    }

    /// Writes `* THREAD (2)(3 6 (4 23)(44 7 96))`.
    // RFC 5256 §4.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"* THREAD");
        if !self.roots.is_empty() {
            out.push(b' ');
        }
        // What is to be opened next; NONE stands for the end of what was opened.
        let mut open: Vec<u32> = Vec::new();
        for &root in &self.roots {
            open.push(root);
            while let Some(slot) = open.pop() {
                if slot == NONE {
                    out.push(b')');
                } else {
                    out.push(b'(');
                    self.write_members(slot, &mut open, out);
                }
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Writes messages that have one child each, and notes the children of the last.
    fn write_members(&self, mut slot: u32, open: &mut Vec<u32>, out: &mut Vec<u8>) {
        open.push(NONE);
        loop {
            let letter = self.letters.get(slot as usize);
            if let Some(letter) = letter {
                write::number(u64::from(letter.number), out);
            }
            let first = self.first[slot as usize];
            if first == NONE {
                return;
            }
            if letter.is_some() {
                out.push(b' ');
            }
            if self.next[first as usize] != NONE {
                let start = open.len();
                open.extend(self.children(slot));
                open[start..].reverse();
                return;
            }
            slot = first;
        }
    }
}

fn index(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(NONE)
}

#[cfg(test)]
mod tests;
