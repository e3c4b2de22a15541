//! What searches of the selected mailbox found and is kept up to date (RFC 5267): which messages have to be looked at again, and that
//! those that go are told before they are gone.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use imap::command::Numbering;
use imap::context::{self, Results, Way};
use imap::esearch::{Correlator, Located};
use imap::sequence::Ranges;
use imap::sort::Criterion;

use super::shards::{shard_of, uids_of};
use super::{Lacking, View, number_of};
use crate::budget::Taken;
use crate::cmd::context::Passing;
use crate::cmd::query::Sought;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Contexts {
    pub(crate) all: Vec<Context>,
    /// There are some, or will be: changes are noted.
    is_on: bool,
    /// Messages that changed since they were looked at.
    touched: BTreeSet<u32>,
    /// Messages whose age counts now, and that were not looked at since.
    aged: BTreeSet<u32>,
    /// All messages that have UIDs below this were looked at.
    looked_below: u32,
    /// How many events were noted.
    pub(crate) events: u64,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Context {
    /// Of the search.
    pub(crate) tag: String,
    pub(crate) by: Numbering,
    /// It was asked for with ESEARCH: each response names the mailbox (RFC 7377 §2.2).
    pub(crate) is_located: bool,
    pub(crate) sought: Arc<Sought>,
    /// Of SORT.
    pub(crate) criteria: Option<Arc<[Criterion]>>,
    pub(crate) results: Results,
    pub(crate) passing: Passing,
    pub(crate) taken: Taken,
}

/// Messages that have to be looked at, by UID.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) touched: BTreeSet<u32>,
    pub(crate) aged: BTreeSet<u32>,
    pub(crate) new: Range<u32>,
}

impl Contexts {
    /// Whether changes are noted.
    pub(crate) const fn is_on(&self) -> bool {
        self.is_on
    }

    pub(super) fn touch(&mut self, uid: u32) {
        if self.is_on {
            self.touched.insert(uid);
        }
    }

    /// When, in Unix seconds, a message gets so old that it has to be looked at.
    pub(crate) fn next_due(&self) -> Option<i64> {
        let due = self.all.iter().filter_map(|context| context.passing.next());
        due.min()
    }

    /// What could not be done is done another time.
    pub(crate) fn put_back(&mut self, work: Work) {
        self.touched.extend(work.touched);
        self.aged.extend(work.aged);
        self.looked_below = self.looked_below.min(work.new.start);
    }
}

impl View {
    /// As responses name it.
    pub(crate) fn located(&self) -> Located<'_> {
        Located {
            name: &self.name,
            uid_validity: self.uid_validity,
            dialect: self.dialect,
        }
    }

    /// From now on changes are noted, for something that is to be kept up to date.
    pub(crate) fn watch(&mut self) {
        if !self.contexts.is_on {
            self.contexts.is_on = true;
            self.contexts.looked_below = self.told_below;
        }
    }

    /// What has to be looked at; `None` if nothing has.
    pub(crate) fn work(&mut self, now: i64) -> Option<Work> {
        let contexts = &mut self.contexts;
        if contexts.all.is_empty() {
            contexts.is_on = false;
            contexts.touched.clear();
            contexts.aged.clear();
            return None;
        }
        for context in &mut contexts.all {
            contexts.aged.extend(context.passing.take_due(now));
        }
        let work = Work {
            touched: std::mem::take(&mut contexts.touched),
            aged: std::mem::take(&mut contexts.aged),
            new: contexts.looked_below..self.told_below,
        };
        contexts.looked_below = self.told_below;
        let is_nothing = work.touched.is_empty() && work.aged.is_empty() && work.new.is_empty();
        (!is_nothing).then_some(work)
    }

    // RFC 5267 §4.3.4: before the EXPUNGE, while numbers are still valid.
    pub(super) fn tell_removed(&mut self, out: &mut Vec<u8>) -> Result<(), Lacking> {
        if self.contexts.all.is_empty() || self.gone.is_empty() {
            return Ok(());
        }
        let gone = Ranges::new(self.gone.iter().map(|uid| (*uid, *uid)).collect());
        for context in &mut self.contexts.all {
            let (tag, by) = (context.tag.as_str(), context.by);
            let located = Located {
                name: &self.name,
                uid_validity: self.uid_validity,
                dialect: self.dialect,
            };
            let mailbox = context.is_located.then_some(located);
            let correlator = Correlator { tag, mailbox };
            loop {
                let mut going = context.results.among(&gone);
                let Some(&(_, last)) = going.as_slice().last() else {
                    break;
                };
                let mut start = 0;
                if by == Numbering::Sequence {
                    // Not more at once than there are pages of.
                    let uids = uids_of(shard_of(last));
                    going = going.and(&Ranges::new(vec![uids.into_inner()]));
                    start = self.told.below(*uids_of(shard_of(last)).start())?;
                    self.told.index_of(last)?;
                }
                let number = |uid| match by {
                    Numbering::Uid => uid,
                    // Its page is here.
                    Numbering::Sequence => {
                        number_of(self.told.index_of(uid).ok().flatten().unwrap_or(start))
                    }
                };
                let steps = context.results.take_away(&going);
                context::write(Way::Out, correlator, by, &steps, number, out);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_is_kept_up_to_date_no_change_is_noted() {
        let mut contexts = Contexts::default();
        contexts.touch(1);
        assert!(contexts.touched.is_empty());
        contexts.is_on = true;
        contexts.touch(1);
        assert!(contexts.touched.contains(&1));
    }
}
