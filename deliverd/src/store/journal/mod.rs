//! The write-ahead journal: what is acknowledged is in it first, flushed once for all who wrote at the same time.
//!
//! 1. [`Journal::admit`], before any lock is taken: waits until there is room, so that nobody waits for it with a lock.
//! 2. [`Permit::body`] and [`Permit::tell`], under the lock of the mailbox: the record gets its sequence number. Records of one mailbox stand in the
//!    order in which things happened in it.
//! 3. [`Journal::commit`]: whoever comes first writes and flushes all that was gathered (group commit); the others wait. Who had a
//!    part in the last batch may come again at once, so the first waits for them a moment (`crowd`): a part of the time that a flush takes.
//! 4. The change is made in the mailbox's files, without flushing them, and the [`Permit`] is dropped.
//! 5. [`Journal::raise_floor`], when everything up to some record is done and on disk: those are not needed any more, and their
//!    files are written over.
//!
//! A flush that failed is not tried again. Its records are refused, and the journal goes on in another file.

mod crowd;
mod permit;
mod record;
mod segment;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ipc::Refusal;
use ipc::tools::JournalState;
use tracing::error;

use self::crowd::Crowd;
use self::segment::{BLOCK, HEAD, Segment, padded};
use super::disk::Dir;
use crate::fault::OrFault;

pub(super) use self::record::{Change, Event, Place, Record};
use self::record::{Unreadable, take};

/// Size of a file of the journal.
const SEGMENT: u64 = if cfg!(test) { 2 << 20 } else { 32 << 20 };
/// How many files there are at least: while one is written, the floor in it frees the other.
const FEWEST_SEGMENTS: usize = 2;
/// How many files there are at most; they are made when they are needed.
const SEGMENTS: usize = 4;
/// Bytes of records in a batch at most, and so what can stay unused at the end of a file.
const BATCH: u64 = SEGMENT / 4;
/// Where no more are at work, bodies are packed. Many fill the blocks of a batch, and the processor has enough to do.
const FEW: usize = 8;
/// Failed batches that are remembered until their writers have heard of it.
const REMEMBERED: usize = 1000;

/// The journal of a store.
pub(super) struct Journal {
    dir: Dir,
    state: Mutex<State>,
    /// A batch is done.
    moved: Condvar,
    /// There may be room, or what was written with a permit is done.
    freed: Condvar,
    /// As many have gathered as who is about to flush waits for.
    gathered: Condvar,
    /// Rung when there is something to clean up; see [`Journal::needs`].
    wish: Box<dyn Fn() + Send + Sync>,
}

struct State {
    segments: Vec<Segment>,
    current: usize,
    /// Where the next batch goes in the current segment.
    at: u64,
    /// Records that wait for the next batch, with their sequence numbers.
    queue: VecDeque<(u64, Vec<u8>)>,
    /// The last sequence number given.
    given: u64,
    /// All up to here are on disk or failed.
    settled: u64,
    /// The last one that is on disk.
    flushed: u64,
    failed: VecDeque<(u64, u64)>,
    is_writing: bool,
    /// How many wait for `moved`, and for `freed`: ringing where nobody listens is a system call as well.
    waiting: usize,
    wanting: usize,
    /// Not needed up to here, as the next batch will say.
    floor: u64,
    /// Not needed up to here, as a batch on disk says.
    floor_on_disk: u64,
    next_body: u64,
    /// Who is at work, and the last batch they wrote something into.
    permits: BTreeMap<u64, u64>,
    next_permit: u64,
    crowd: Crowd,
    /// What the permits may still write.
    admitted: u64,
    /// When the first record above the floor was given.
    since: Option<Instant>,
    /// Somebody waits for room.
    is_pressed: bool,
    /// How often those who waited for room were told that there is none.
    denials: u64,
    /// Set when cleaning up failed for good: nothing is taken any more.
    is_closed: bool,
}

/// The right to write some records, which are sure to find room. What was written with it is done when it is dropped.
pub(super) struct Permit {
    journal: Arc<Journal>,
    number: u64,
    cost: u64,
}

/// What is known about records, at one moment.
pub(super) struct Outcomes {
    settled: u64,
    failed: Vec<(u64, u64)>,
}

/// Batches that were not done when the journal was opened, in order.
pub(super) struct Past {
    batches: Vec<(usize, u64)>,
    last: u64,
}

/// Where the bytes of a body are.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyPlace {
    segment: usize,
    at: u64,
    length: usize,
    packed: Option<usize>,
}

/// What there is to clean up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    /// Records wait since then.
    Since(Instant),
    /// There is little room left.
    Room,
}

impl Journal {
    /// Opens the journal in `dir`, and makes its first file if there is none.
    ///
    /// # Errors
    /// When it cannot be read, or when something is missing in it that was once on disk.
    pub(super) fn open(
        dir: Dir,
        wish: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<(Self, Past)> {
        let mut segments = Vec::new();
        for number in 0..SEGMENTS {
            let segment = Segment::open(&dir, &number.to_string())?;
            if segment.is_some() && segments.len() < number {
                let missing = segments.len();
                return Err(io::Error::other(format!(
                    "its file {missing} is missing, and {number} is there"
                )));
            }
            segments.extend(segment);
        }
        while segments.len() < FEWEST_SEGMENTS {
            let name = segments.len().to_string();
            segments.push(Segment::create(&dir, &name, SEGMENT)?);
        }
        let runs = segments
            .iter_mut()
            .map(|segment| {
                let run = segment.scan()?;
                segment.last = run.heads.last().map_or(0, |(_, head)| head.sequence);
                Ok(run)
            })
            .collect::<io::Result<Vec<_>>>()?;
        let heads = runs.iter().flat_map(|run| &run.heads).map(|(_, head)| head);
        let floor = heads.map(|head| head.floor).max().unwrap_or(0);
        let mut order: Vec<usize> = (0..runs.len()).collect();
        // Of those that are empty, the first is written first.
        order.sort_by_key(|at| (segments[*at].last, Reverse(*at)));
        let (mut batches, mut last) = (Vec::<(usize, u64, u64)>::new(), floor);
        for segment in &order {
            for (at, head) in &runs[*segment].heads {
                if head.sequence <= floor {
                    continue;
                }
                // One that this one does not follow was refused, because its flush failed.
                while batches
                    .pop_if(|(_, _, sequence)| *sequence > head.previous)
                    .is_some()
                {
                    last = batches.last().map_or(floor, |(_, _, sequence)| *sequence);
                }
                if head.previous > last {
                    return Err(io::Error::other(format!(
                        "the records {} to {} of the journal are missing",
                        last + 1,
                        head.previous
                    )));
                }
                batches.push((*segment, *at, head.sequence));
                last = head.sequence;
            }
        }
        let current = order.last().copied().unwrap_or(0);
        let journal = Self {
            dir,
            state: Mutex::new(State {
                at: runs[current].end,
                segments,
                current,
                queue: VecDeque::new(),
                given: last,
                settled: last,
                flushed: last,
                failed: VecDeque::new(),
                is_writing: false,
                waiting: 0,
                wanting: 0,
                floor,
                floor_on_disk: floor,
                permits: BTreeMap::new(),
                next_permit: 0,
                crowd: Crowd::default(),
                admitted: 0,
                since: None,
                is_pressed: false,
                denials: 0,
                next_body: 0,
                is_closed: false,
            }),
            moved: Condvar::new(),
            freed: Condvar::new(),
            gathered: Condvar::new(),
            wish: Box::new(wish),
        };
        let batches = batches.into_iter().map(|(segment, at, _)| (segment, at));
        let batches = batches.collect();
        Ok((journal, Past { batches, last }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a batch is done.
    fn wait<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.waiting += 1;
        let waited = self.moved.wait(state);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state
    }

    /// Waits until there may be room, or something is done.
    fn wait_for_room<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.wanting += 1;
        let waited = self.freed.wait(state);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.wanting -= 1;
        state
    }

    fn free(&self, state: &State) {
        if state.wanting > 0 {
            self.freed.notify_all();
        }
    }

    /// Waits until `records` records of `bytes` bytes in all are sure to find room. Must be called without any lock.
    pub(super) fn admit(self: &Arc<Self>, records: usize, bytes: usize) -> Result<Permit, Refusal> {
        let cost = cost(records, bytes);
        let mut state = self.lock();
        if cost > (SEGMENTS as u64 - 1) * (SEGMENT - BLOCK - BATCH) {
            error!(
                records,
                bytes, "bug: more records at once than the journal can ever take"
            );
            return Err(Refusal::StorageFault);
        }
        let denials = state.denials;
        let mut may_grow = true;
        while !state.is_closed && state.admitted + cost > state.room() {
            if state.denials != denials {
                return Err(Refusal::DiskFull);
            }
            if may_grow && state.segments.len() < SEGMENTS {
                may_grow = state.grow(&self.dir).is_ok();
                continue;
            }
            if cost > (state.segments.len() as u64 - 1) * (SEGMENT - BLOCK - BATCH) {
                // More than the files there are can take, even when they are empty.
                return Err(Refusal::DiskFull);
            }
            if !state.is_pressed {
                state.is_pressed = true;
                (self.wish)();
            }
            state = self.wait_for_room(state);
        }
        if state.is_closed {
            return Err(Refusal::StorageFault);
        }
        Ok(self.permit(&mut state, cost))
    }

    /// [`Journal::admit`] without waiting; `None` if there is no room now.
    pub(super) fn admit_now(self: &Arc<Self>, records: usize, bytes: usize) -> Option<Permit> {
        let cost = cost(records, bytes);
        let mut state = self.lock();
        let has_room = !state.is_closed && state.admitted + cost <= state.room();
        has_room.then(|| self.permit(&mut state, cost))
    }

    fn permit(self: &Arc<Self>, state: &mut State, cost: u64) -> Permit {
        let number = state.next_permit;
        state.next_permit += 1;
        state.admitted += cost;
        state.permits.insert(number, 0);
        Permit {
            journal: Arc::clone(self),
            number,
            cost,
        }
    }

    /// Writes and flushes everything up to the record `sequence`, or waits for who does.
    pub(super) fn commit(&self, sequence: u64) -> Result<(), Refusal> {
        let mut state = self.lock();
        loop {
            if state.settled >= sequence {
                return state.outcome(sequence);
            }
            if state.is_writing {
                state = self.wait(state);
                continue;
            }
            state.is_writing = true;
            state = self.wait_for_others(state);
            let batch = state.gather();
            let place = state.place(batch.bytes.len());
            drop(state);
            state = self.flush(batch, place);
        }
    }

    /// Waits a moment for those who are likely to have something for the next batch.
    fn wait_for_others<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let Some(limit) = state.crowd.begin_wait() else {
            return state;
        };
        let end = Instant::now() + limit;
        while state.crowd.is_awaited() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.gathered.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.crowd.end_wait();
        state
    }

    fn flush(&self, mut batch: Gathered, place: io::Result<(usize, u64)>) -> MutexGuard<'_, State> {
        let (length, sequence) = (padded(batch.bytes.len()) as u64, batch.sequence);
        let begun = Instant::now();
        let written = place.and_then(|(segment, at)| {
            let (target, previous, floor) = {
                let state = self.lock();
                (state.segments[segment].clone(), state.flushed, state.floor)
            };
            target.write(at, &mut batch.bytes, sequence, previous, floor)?;
            Ok((segment, floor))
        });
        let mut state = self.lock();
        state.is_writing = false;
        let at_work = state.permits.len();
        state.crowd.flushed(begun.elapsed(), at_work);
        match written {
            Ok((segment, floor)) => {
                state.flushed = sequence;
                state.floor_on_disk = floor;
                state.segments[segment].last = sequence;
                state.at += length;
            }
            Err(fault) => {
                error!(%fault, "the journal could not be written; what was to be acknowledged with it is refused");
                let current = state.current;
                state.segments[current].last = sequence;
                state.at = state.segments[current].size;
                let first = state.settled + 1;
                state.failed.push_back((first, sequence));
                if state.failed.len() > REMEMBERED {
                    state.failed.pop_front();
                }
            }
        }
        state.settled = sequence;
        if state.waiting > 0 {
            self.moved.notify_all();
        }
        state
    }

    /// What became of records.
    pub(super) fn outcomes(&self) -> Outcomes {
        let state = self.lock();
        Outcomes {
            settled: state.settled,
            failed: state.failed.iter().copied().collect(),
        }
    }

    /// The last sequence number given.
    pub(super) fn given(&self) -> u64 {
        self.lock().given
    }

    /// How it is, for the operator.
    pub(super) fn report(&self) -> JournalState {
        let state = self.lock();
        JournalState {
            files: u32::try_from(state.segments.len()).unwrap_or(u32::MAX),
            bytes: state.segments.iter().map(|segment| segment.size).sum(),
            room: state.room(),
            records: state
                .since
                .map_or(0, |_| state.given.saturating_sub(state.floor)),
            age_ms: state.since.map_or(0, |since| {
                u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
            }),
            is_closed: state.is_closed,
        }
    }

    /// Whether everything up to `sequence` is on disk elsewhere.
    pub(super) fn is_done(&self, sequence: u64) -> bool {
        self.lock().floor >= sequence
    }

    /// Whether there is something to clean up.
    pub(super) fn needs(&self) -> Needs {
        let state = self.lock();
        if state.is_closed {
            Needs::Nothing
        } else if state.is_pressed
            || state.prospect() < SEGMENT * SEGMENTS as u64 / 2 && state.since.is_some()
        {
            Needs::Room
        } else {
            state.since.map_or(Needs::Nothing, Needs::Since)
        }
    }

    /// Waits until all that is flushed by now is also done, and says up to which record that is.
    pub(super) fn wait_for_done(&self) -> u64 {
        let mut state = self.lock();
        let (cut, next) = (state.flushed, state.next_permit);
        while state
            .permits
            .keys()
            .next()
            .is_some_and(|oldest| *oldest < next)
        {
            state = self.wait_for_room(state);
        }
        state.since = (state.given > cut).then(Instant::now);
        cut
    }

    /// Says that everything up to `sequence` is on disk elsewhere, and makes room.
    pub(super) fn raise_floor(&self, sequence: u64) -> Result<(), Refusal> {
        let mut state = self.lock();
        state.floor = state.floor.max(sequence);
        let mark = state.give(Vec::new());
        drop(state);
        let marked = self.commit(mark);
        let mut state = self.lock();
        state.is_pressed = false;
        self.free(&state);
        drop(state);
        marked
    }

    /// Tells those who wait for room that there will be none for now.
    pub(super) fn deny(&self) {
        let mut state = self.lock();
        state.denials += 1;
        state.is_pressed = false;
        self.free(&state);
    }

    /// Whether [`Journal::close`] was called.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Takes nothing any more: what is in the journal cannot be brought to where it belongs.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        self.free(&state);
    }

    /// Reads what was not done when the journal was opened.
    ///
    /// # Errors
    /// When it cannot be read, or `each` fails.
    pub(super) fn replay(
        &self,
        past: &Past,
        mut each: impl FnMut(Record<'_>, Option<BodyPlace>),
    ) -> io::Result<u64> {
        let state = self.lock();
        for (segment, at) in &past.batches {
            let batch = state.segments[*segment].read(*at)?;
            let batch =
                batch.ok_or_else(|| io::Error::other("the journal changed while it was read"))?;
            let mut rest = &batch.records[..];
            while let Some(record) = take(&mut rest) {
                let record = record.map_err(|Unreadable| {
                    io::Error::other("the journal was written by another version of rmail; start that one and stop it cleanly first")
                })?;
                let place = match &record {
                    Record::Body { bytes, packed, .. } => Some(BodyPlace {
                        segment: *segment,
                        at: batch.at + (batch.records.len() - rest.len() - bytes.len()) as u64,
                        length: bytes.len(),
                        packed: *packed,
                    }),
                    Record::Event(_) => None,
                };
                each(record, place);
            }
        }
        Ok(past.last)
    }

    /// Records up to this one are not needed any more, as a batch on disk says.
    pub(super) fn floor_on_disk(&self) -> u64 {
        self.lock().floor_on_disk
    }

    /// The bytes of a body found by [`Journal::replay`].
    pub(super) fn body(&self, place: BodyPlace) -> io::Result<Vec<u8>> {
        let bytes = self.lock().segments[place.segment].read_bytes(place.at, place.length)?;
        match place.packed {
            Some(size) => record::unpack(&bytes, size),
            None => Ok(bytes),
        }
    }
}

/// What records take at most: at worst every one is flushed alone.
fn cost(records: usize, bytes: usize) -> u64 {
    (records * padded(HEAD) + padded(bytes)) as u64
}

/// Records on their way to disk.
struct Gathered {
    /// With room for the head in front.
    bytes: Vec<u8>,
    sequence: u64,
}

impl State {
    fn give(&mut self, record: Vec<u8>) -> u64 {
        self.given += 1;
        self.queue.push_back((self.given, record));
        self.given
    }

    /// Notes that the holder of a permit has something in the next batch. True if who waits for that need not wait any longer.
    fn join(&mut self, permit: u64) -> bool {
        let batch = self.crowd.batch();
        let last = self.permits.insert(permit, batch);
        last != Some(batch) && self.crowd.join()
    }

    /// What can still be written, whatever becomes of the ends of the segments.
    fn room(&self) -> u64 {
        let unused = |segment: &Segment| (segment.size - BLOCK).saturating_sub(BATCH);
        let free: u64 = (0..self.segments.len())
            .filter(|at| self.is_free(*at))
            .map(|at| unused(&self.segments[at]))
            .sum();
        let rest = (self.segments[self.current].size - self.at).saturating_sub(BATCH);
        free + rest
    }

    /// What could be written if the disk has room for all files.
    fn prospect(&self) -> u64 {
        let unmade = SEGMENTS.saturating_sub(self.segments.len()) as u64;
        self.room() + unmade * (SEGMENT - BLOCK - BATCH)
    }

    /// Makes one more file. The fault is logged.
    fn grow(&mut self, dir: &Dir) -> Result<(), Refusal> {
        let name = self.segments.len().to_string();
        let made = Segment::create(dir, &name, SEGMENT).or_fault("make a file of the journal")?;
        self.segments.push(made);
        Ok(())
    }

    fn is_free(&self, segment: usize) -> bool {
        segment != self.current && self.segments[segment].last <= self.floor_on_disk
    }

    /// Takes from the queue what fits into a batch.
    fn gather(&mut self) -> Gathered {
        let mut bytes = vec![0; HEAD];
        let mut sequence = self.settled;
        while let Some((number, record)) = self.queue.pop_front() {
            if bytes.len() > HEAD && (bytes.len() + record.len()) as u64 > BATCH {
                self.queue.push_front((number, record));
                break;
            }
            bytes.extend_from_slice(&record);
            sequence = number;
        }
        self.crowd.next_batch();
        Gathered { bytes, sequence }
    }

    /// Where a batch of so many bytes goes.
    fn place(&mut self, length: usize) -> io::Result<(usize, u64)> {
        let length = padded(length) as u64;
        if self.at + length <= self.segments[self.current].size {
            return Ok((self.current, self.at));
        }
        let free = (0..self.segments.len()).find(|at| self.is_free(*at));
        let next = free.ok_or_else(|| io::Error::other("no file of the journal is free"))?;
        self.segments[next].restart()?;
        self.current = next;
        self.at = BLOCK;
        Ok((next, self.at))
    }

    fn outcome(&self, sequence: u64) -> Result<(), Refusal> {
        let has_failed = |(first, last): &(u64, u64)| (*first..=*last).contains(&sequence);
        if self.failed.iter().any(has_failed) {
            Err(Refusal::StorageFault)
        } else {
            Ok(())
        }
    }
}

impl Outcomes {
    /// What became of a record; `None` if it is not decided yet.
    pub(super) fn of(&self, sequence: u64) -> Option<Result<(), Refusal>> {
        let has_failed = |(first, last): &(u64, u64)| (*first..=*last).contains(&sequence);
        (sequence <= self.settled).then(|| {
            if self.failed.iter().any(has_failed) {
                Err(Refusal::StorageFault)
            } else {
                Ok(())
            }
        })
    }
}
