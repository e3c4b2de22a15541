//! Brings the pages of the selected mailbox in that a command needs, a few at a time, and finds out what was lost where changes were.

use std::iter::Peekable;
use std::ops::Range;

use daemon::channel::CallError;
use imap::command::Numbering;
use imap::sequence::{Ranges, SequenceSet};
use ipc::Refusal;
use ipc::session::{PAGES_PER_READ, SessionEvent};
use tracing::{debug, warn};

use crate::ask::{MailSession, Pages};
use crate::cmd::{Desk, no_such_number};
use crate::view::{Comparison, Expunges, Fate, Lacking, View, number_of};
use crate::wire::{Close, Wire};
use crate::words::Tagged;

/// How often pages that do not fit what is known are compared and read again.
const ATTEMPTS: usize = 3;

/// Why the messages a client means are not known.
#[derive(Debug)]
pub(crate) enum Unpicked {
    /// A sequence number beyond the last message was given.
    NoSuchNumber,
    /// deliverd says no, or nothing.
    Refused(CallError),
}

impl Unpicked {
    /// The answer to the command.
    pub(crate) fn tagged(&self, tag: &str) -> Tagged {
        match self {
            Self::NoSuchNumber => no_such_number(tag),
            Self::Refused(error) => Tagged::refused(tag, error),
        }
    }
}

impl From<CallError> for Unpicked {
    fn from(error: CallError) -> Self {
        Self::Refused(error)
    }
}

impl Desk<'_> {
    /// The messages the client means, as places in the view.
    // RFC 3501 §9, seq-number: a number that is no message's is an error; a UID that is nobody's is ignored.
    pub(crate) async fn pick(
        &mut self,
        by: Numbering,
        set: &SequenceSet,
    ) -> Result<Vec<Range<usize>>, Unpicked> {
        let count = self.view.len();
        let mut places = Vec::new();
        match (set, by) {
            (SequenceSet::Saved, _) => {
                let saved = self.view.saved.clone();
                for &(first, last) in saved.as_slice() {
                    places.push(self.places(first, last).await?);
                }
            }
            (SequenceSet::Named(_), Numbering::Sequence) => {
                if set.largest_named() as usize > count {
                    return Err(Unpicked::NoSuchNumber);
                }
                let ranges = set.resolve(number_of(count).saturating_sub(1));
                places.extend(ranges.as_slice().iter().map(|&(first, last)| {
                    (first as usize).saturating_sub(1)..(last as usize).min(count)
                }));
            }
            (SequenceSet::Named(_), Numbering::Uid) => {
                let last = match set.names_last() {
                    true => self.last_uid().await?,
                    false => 0,
                };
                for &(first, last) in set.resolve(last).as_slice() {
                    places.push(self.places(first, last).await?);
                }
            }
        }
        places.retain(|range| !range.is_empty());
        Ok(places)
    }

    /// The largest UID the client knows of; 0 if none.
    pub(crate) async fn last_uid(&mut self) -> Result<u32, CallError> {
        match self.view.len().checked_sub(1) {
            Some(last) => self.uid(last).await,
            None => Ok(0),
        }
    }

    /// The UID of the message at a place.
    pub(crate) async fn uid(&mut self, index: usize) -> Result<u32, CallError> {
        let place = index..index + 1;
        let lacking = self.view.lacking(&place);
        load(&self.user.mail, self.view, lacking).await?;
        self.view.uid(index).ok_or(CallError::Unavailable)
    }

    /// The places of the messages with UIDs from `first` to `last`.
    pub(crate) async fn places(
        &mut self,
        first: u32,
        last: u32,
    ) -> Result<Range<usize>, CallError> {
        let start = self.below(first).await?;
        let end = match last.checked_add(1) {
            Some(behind) => self.below(behind).await?,
            None => self.view.len(),
        };
        Ok(start..end)
    }

    async fn below(&mut self, uid: u32) -> Result<usize, CallError> {
        match self.view.below(uid) {
            Ok(count) => Ok(count),
            Err(Lacking(shards)) => {
                load(&self.user.mail, self.view, shards).await?;
                self.view.below(uid).map_err(|_| CallError::Unavailable)
            }
        }
    }

    /// The next of `places`, which ascend: at most `limit`, and so few that their pages are here at the same time.
    pub(crate) async fn next_some(
        &mut self,
        places: &mut Peekable<impl Iterator<Item = usize>>,
        limit: usize,
    ) -> Result<Vec<usize>, CallError> {
        let (mut some, mut shards) = (Vec::new(), Vec::new());
        while some.len() < limit
            && let Some(index) = places.peek().copied()
        {
            let shard = self.view.shard_at(index);
            if shards.last().copied() != shard {
                if shards.len() == PAGES_PER_READ {
                    break;
                }
                shards.extend(shard);
            }
            some.push(index);
            places.next();
        }
        let lacking = self.view.without_page(shards);
        load(&self.user.mail, self.view, lacking).await?;
        Ok(some)
    }

    /// The UIDs at these places, as ranges. Nobody the client knows of is between the ends who was not meant.
    pub(crate) async fn uid_ranges(
        &mut self,
        places: &[Range<usize>],
    ) -> Result<Vec<(u32, u32)>, CallError> {
        let mut ranges = Vec::with_capacity(places.len());
        for place in places {
            let first = self.uid(place.start).await?;
            ranges.push((first, self.uid(place.end.saturating_sub(1)).await?));
        }
        Ok(ranges)
    }

    /// The same, but a range holds nothing but UIDs that were meant: as many ranges as an answer that names them all.
    pub(crate) async fn exact_uid_ranges(
        &mut self,
        places: &[Range<usize>],
    ) -> Result<Ranges, CallError> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        let mut places = places.iter().cloned().flatten().peekable();
        loop {
            let some = self.next_some(&mut places, usize::MAX).await?;
            if some.is_empty() {
                return Ok(Ranges::new(ranges));
            }
            for uid in some.into_iter().filter_map(|index| self.view.uid(index)) {
                match ranges.last_mut() {
                    Some((_, last)) if last.checked_add(1) == Some(uid) => *last = uid,
                    _ => ranges.push((uid, uid)),
                }
            }
        }
    }
}

/// Tells the client what it may hear now. What cannot be told yet is told another time.
pub(crate) async fn tell(
    mail: &MailSession,
    view: &mut View,
    expunges: Expunges,
    wire: &mut Wire,
) -> Result<Result<(), CallError>, Close> {
    while let Err(Lacking(shards)) = view.tell(expunges, &mut wire.out) {
        wire.flush_if_full().await?;
        let lacking = view.without_page(shards);
        match Box::pin(load(mail, view, lacking)).await {
            Ok(()) => {}
            Err(CallError::Refused(refusal)) => {
                warn!(%refusal, "a client is not told of changes yet");
                return Ok(Ok(()));
            }
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(()))
}

/// Brings pages in, no more than [`PAGES_PER_READ`].
pub(crate) async fn load(
    mail: &MailSession,
    view: &mut View,
    mut shards: Vec<u32>,
) -> Result<(), CallError> {
    for _ in 0..ATTEMPTS {
        if shards.is_empty() {
            return Ok(());
        }
        refresh(mail, view).await?;
        let (pages, events) = read(mail, shards.clone()).await?;
        view.take(pages, events);
        shards = view.without_page(shards);
    }
    if shards.is_empty() {
        Ok(())
    } else {
        // Others change the mailbox faster than we can follow.
        Err(CallError::Refused(Refusal::Busy))
    }
}

/// Where changes were lost, selects again and finds out what they were.
pub(crate) async fn refresh(mail: &MailSession, view: &mut View) -> Result<(), CallError> {
    let since = view.noted();
    for _ in 0..ATTEMPTS {
        match view.fate() {
            Fate::Selected => return Ok(()),
            Fate::Gone | Fate::Lost => return Err(CallError::Unavailable),
            Fate::Stale => {}
        }
        debug!("changes were lost, comparing");
        // Boxed, as it hardly ever comes to that: a session that idles stays small.
        let selected = Box::pin(mail.select(view.name.clone(), view.read_only));
        let selection = match selected.await {
            Ok(selection) => selection,
            Err(error) => {
                view.note(SessionEvent::Gone);
                return Err(error);
            }
        };
        let removed = Box::pin(mail.removed_since(since)).await?;
        let Ok(comparison) = view.compare_with(selection, since, removed) else {
            return Err(CallError::Unavailable);
        };
        if let Err(error) = Box::pin(compare(mail, view, comparison)).await {
            // What was lost is yet to be found out.
            view.note(SessionEvent::Resync);
            return Err(error);
        }
    }
    match view.fate() {
        Fate::Selected => Ok(()),
        Fate::Stale | Fate::Gone | Fate::Lost => Err(CallError::Refused(Refusal::Busy)),
    }
}

async fn compare(
    mail: &MailSession,
    view: &mut View,
    mut comparison: Comparison,
) -> Result<(), CallError> {
    while view.fate() == Fate::Selected {
        let some = comparison.next_some();
        if some.is_empty() {
            break;
        }
        let (pages, events) = read(mail, some).await?;
        if view.compare(&comparison, pages, events).is_err() {
            return Err(CallError::Unavailable);
        }
    }
    Ok(())
}

async fn read(
    mail: &MailSession,
    shards: Vec<u32>,
) -> Result<(Pages, Vec<SessionEvent>), CallError> {
    let pages = mail.read_pages(shards).await?;
    Ok((pages, std::iter::from_fn(|| mail.try_event()).collect()))
}
