//! Changes were lost, and the mailbox was selected again: what they were is found out by comparing all pages, a few at a time.

use imap::sequence::Ranges;
use ipc::session::{PAGES_PER_READ, RECORDS_PER_FRAME, SessionEvent};
use ipc::snapshot::Record;

use super::shards::{shard_of, uids_of};
use super::{Fate, View};
use crate::ask::{Pages, Selection};

/// What was lost cannot be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

/// A comparison under way.
#[derive(Debug)]
pub struct Comparison {
    /// Changes up to this modification sequence are known.
    since: u64,
    /// What deliverd knows to be gone since then; `None` if it does not know all.
    removed: Option<Ranges>,
    /// Shards that are yet to be compared, descending.
    shards: Vec<u32>,
    /// Messages that the client does not know of and that were there when it was selected have UIDs below this.
    below: u32,
}

impl Comparison {
    /// The shards that come next.
    pub fn next_some(&mut self) -> Vec<u32> {
        let rest = self.shards.len().saturating_sub(PAGES_PER_READ);
        self.shards.split_off(rest)
    }
}

impl View {
    /// All changes up to this modification sequence were noted.
    #[must_use]
    pub const fn noted(&self) -> u64 {
        self.noted
    }

    /// All changes up to this modification sequence were heard of: [`Self::noted`], or one more.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.heard.max(self.noted)
    }

    pub(super) fn hear(&mut self, records: &[Record]) {
        // What is told in several events fills all of them but the last.
        let is_whole = records.len() < RECORDS_PER_FRAME;
        if let Some(last) = records.last().filter(|_| is_whole) {
            self.heard = self.heard.max(last.modseq);
        }
    }

    /// Begins to compare with a mailbox that was selected again. `since`: what [`Self::noted`] was when changes were lost;
    /// `removed`: what deliverd knows to be gone since then.
    ///
    /// # Errors
    /// [`Lost`] if it is another mailbox.
    pub fn compare_with(
        &mut self,
        selection: Selection,
        since: u64,
        removed: Option<Ranges>,
    ) -> Result<Comparison, Lost> {
        if selection.status.uid_validity != self.uid_validity {
            return Err(self.lose());
        }
        self.fate = Fate::Selected;
        if self.keywords != selection.keywords {
            self.note(SessionEvent::Keywords(selection.keywords));
        }
        if self.rights != selection.rights {
            self.note(SessionEvent::Rights(selection.rights));
        }
        self.uid_next = selection.status.uid_next;
        self.fresh.clear();
        let now = selection.shards.iter().map(|line| line.shard);
        let mut shards: Vec<u32> = self.told.numbers().chain(now).collect();
        shards.sort_unstable();
        shards.dedup();
        shards.reverse();
        Ok(Comparison {
            since,
            removed,
            shards,
            below: self.uid_next,
        })
    }

    /// Compares pages that were read, when the events that came before or with the answer are noted.
    ///
    /// # Errors
    /// [`Lost`] if it cannot be known which messages the client has numbers for.
    pub fn compare(
        &mut self,
        comparison: &Comparison,
        pages: Pages,
        events: Vec<SessionEvent>,
    ) -> Result<(), Lost> {
        let removed = |event: &SessionEvent| match event {
            SessionEvent::Removed(ranges) => ranges.clone(),
            SessionEvent::Keywords(_)
            | SessionEvent::Added(_)
            | SessionEvent::Changed(_)
            | SessionEvent::Resync
            | SessionEvent::Gone
            | SessionEvent::Rights(_)
            | SessionEvent::Happened => Vec::new(),
        };
        let removed = Ranges::new(events.iter().flat_map(removed).collect());
        let replay = self.note_all(events);
        for (number, records) in pages {
            if self.fate != Fate::Selected {
                // To be compared once more.
                return Ok(());
            }
            let is_told = |record: &Record| record.uid < self.told_below;
            let (told, fresh): (Vec<Record>, Vec<Record>) = records.into_iter().partition(is_told);
            self.compare_told(comparison, number, &told)?;
            // What came since then is told by events, and so is what went.
            let fresh = fresh.into_iter();
            let fresh = fresh.filter(|record| record.uid < comparison.below);
            let (gone, fresh): (Vec<Record>, Vec<Record>) =
                fresh.partition(|record| removed.contains(record.uid));
            self.forget(gone.iter().map(|record| record.uid).collect());
            self.fresh.extend(fresh);
        }
        self.fresh.sort_unstable_by_key(|record| record.uid);
        replay.iter().for_each(|record| self.update(record));
        Ok(())
    }

    /// Compares the messages that the client has numbers for, of one shard.
    fn compare_told(
        &mut self,
        comparison: &Comparison,
        number: u32,
        now: &[Record],
    ) -> Result<(), Lost> {
        let is_there = |uid: u32| now.binary_search_by_key(&uid, |record| record.uid).is_ok();
        if let Some(page) = self.told.page(number) {
            let gone: Vec<u32> = page.uids().filter(|uid| !is_there(*uid)).collect();
            if page.len() != now.len() + gone.len() {
                return Err(self.lose());
            }
            self.gone.extend(gone);
            now.iter().for_each(|record| self.change(record));
            return Ok(());
        }
        let count = self.told.count(number);
        let missing = |view: &Self| {
            let gone = view.gone.range(uids_of(number));
            let gone = gone.filter(|uid| !is_there(**uid)).count();
            count.checked_sub(now.len() + gone)
        };
        match (missing(self), &comparison.removed) {
            (Some(0), _) => {}
            (Some(_), Some(removed)) => {
                let is_meant = |uid: &u32| {
                    *uid < self.told_below && !self.told_gone.contains(uid) && !is_there(*uid)
                };
                let gone = members(removed, number).filter(is_meant);
                let gone: Vec<u32> = gone.collect();
                self.gone.extend(gone);
                if missing(self) != Some(0) {
                    return Err(self.lose());
                }
            }
            (_, _) => return Err(self.lose()),
        }
        let later = now.iter();
        for record in later.filter(|record| record.modseq > comparison.since) {
            self.told.changed(number, record.modseq);
            self.contexts.touch(record.uid);
            self.changed.insert(record.uid);
        }
        Ok(())
    }

    const fn lose(&mut self) -> Lost {
        self.fate = Fate::Lost;
        Lost
    }
}

/// Those UIDs of `ranges` that are in a shard.
fn members(ranges: &Ranges, number: u32) -> impl Iterator<Item = u32> + '_ {
    let (start, end) = uids_of(number).into_inner();
    let slice = ranges.as_slice();
    let from = slice.partition_point(|(_, last)| *last < start);
    let some = slice.get(from..).unwrap_or_default().iter();
    let some = some.take_while(move |(first, _)| shard_of(*first) <= number);
    some.flat_map(move |&(first, last)| first.max(start)..=last.min(end))
}
