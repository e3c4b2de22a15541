//! The write-ahead log: what is acknowledged is in it first, flushed once for all who wait at the same time. docs/queue.md has the table of what
//! a crash leaves.
//!
//! ```text
//! batch = crc(4) length(4) generation(8) nonce(8) entry*      crc: CRC-32 of all behind it; length: octets of the entries
//! entry = kind(1) id(18) length(4) payload                    numbers are little-endian
//! ```
//! 1. [`Log::commit`]: whoever comes first writes and flushes all that was gathered (group commit); the others wait.
//! 2. The change is made in the message's own files, without flushing them, and the [`Ticket`] is dropped.
//! 3. When a file of the log is full, the next one is begun, and a thread of its own has the whole file system flushed (syncfs(2)). Then nothing in
//!    the full one is needed any more, and it is written over: the oldest first, so that what is left is always an end of all that was written.
//!
//! A flush that failed is not tried again. What it was about is refused, and the log goes on in another file.

mod entry;
mod past;

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use sys::file::{self, OFlags};
use tracing::error;

pub(super) use self::entry::Entry;
use self::entry::number;
use self::past::Batches;
pub(super) use self::past::Past;
use super::id::QueueId;
use super::journal::crc32;

/// What the names of its files begin with.
pub(super) const PREFIX: &str = ".log-";
/// Octets after which the next file is begun.
const SEGMENT: u64 = if cfg!(test) { 64 << 10 } else { 32 << 20 };
/// How many files there are at most: so much can wait for a disk that is slow to flush.
const SEGMENTS: usize = 16;
/// Batches begin at multiples of this, so that no write touches a block that was flushed.
const BLOCK: u64 = 4096;
const HEAD: usize = 24;
/// Octets of entries that nobody waits for, after which they are written nevertheless.
const MOST_UNFLUSHED: usize = 1 << 20;
/// Refused batches that are remembered until those who wait have heard of it.
const REMEMBERED: usize = 1000;

/// The log of a queue.
#[derive(Debug)]
pub(super) struct Log {
    directory: OwnedFd,
    state: Mutex<State>,
    /// A batch is done.
    moved: Condvar,
    /// A ticket was dropped.
    applied: Condvar,
    /// Every flush fails.
    #[cfg(test)]
    pub(super) is_broken: std::sync::atomic::AtomicBool,
    /// No flush begins while a test holds it.
    #[cfg(test)]
    pub(super) gate: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Entries that wait for the next batch, behind room for its head.
    pending: Vec<u8>,
    /// Number of the next batch.
    next: u64,
    /// All batches before this one are on disk or refused.
    settled: u64,
    refused: VecDeque<(u64, Refused)>,
    is_writing: bool,
    segments: Vec<Segment>,
    /// Which of them is written.
    current: Option<usize>,
    /// The generation that was begun last.
    generation: u64,
    /// What is not in the messages' own files yet: the number of the batch, and one of its own.
    tickets: BTreeSet<(u64, u64)>,
    next_ticket: u64,
    /// A thread has the file system flushed, or has found that it cannot be.
    is_flushing: bool,
    /// Flushes so far.
    flushes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    kind: io::ErrorKind,
    code: Option<i32>,
}

impl Refused {
    fn of(error: &io::Error) -> Self {
        Self {
            kind: error.kind(),
            code: error.raw_os_error(),
        }
    }

    fn to_error(self) -> io::Error {
        let code = self.code.map(io::Error::from_raw_os_error);
        code.unwrap_or_else(|| self.kind.into())
    }
}

/// A file of the log.
#[derive(Debug)]
struct Segment {
    file: Arc<File>,
    use_: Use,
}

/// What a file of the log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Nothing that counts.
    Void,
    /// Batches up to `end`.
    Batches {
        generation: u64,
        nonce: u64,
        end: u64,
        /// The first batch that is not in it any more; `None` while it is written.
        before: Option<u64>,
        /// All of it is in the messages' own files, on disk.
        is_flushed: bool,
    },
}

impl Use {
    const fn generation(self) -> Option<u64> {
        match self {
            Self::Void => None,
            Self::Batches { generation, .. } => Some(generation),
        }
    }
}

/// Something that is in the log and not in the files of its message yet. As long as it lives, the log keeps it.
#[derive(Debug)]
pub(super) struct Ticket {
    log: Arc<Log>,
    key: (u64, u64),
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.log.lock().tickets.remove(&self.key);
        self.log.applied.notify_all();
    }
}

impl Log {
    /// Opens the log of the queue in `directory`, with what the last process left in it.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn open(directory: OwnedFd) -> io::Result<(Self, Past)> {
        let mut past = Vec::new();
        let mut segments = Vec::new();
        for number in 0..SEGMENTS {
            let Some(file) = open_segment(&directory, number, OFlags::empty())? else {
                break;
            };
            let generation = Batches::of(&file)?.map(|batches| batches.generation);
            let file = Arc::new(file);
            let use_ = match generation {
                None => Use::Void,
                Some(generation) => {
                    past.push((generation, Arc::clone(&file)));
                    Use::Batches {
                        generation,
                        nonce: 0,
                        end: 0,
                        before: Some(0),
                        is_flushed: true,
                    }
                }
            };
            segments.push(Segment { file, use_ });
        }
        past.sort_by_key(|(generation, _)| *generation);
        let generation = past.last().map_or(0, |(generation, _)| *generation);
        let state = State {
            segments,
            generation,
            ..State::default()
        };
        let log = Self {
            directory,
            state: Mutex::new(state),
            moved: Condvar::new(),
            applied: Condvar::new(),
            #[cfg(test)]
            is_broken: std::sync::atomic::AtomicBool::new(false),
            #[cfg(test)]
            gate: Mutex::default(),
        };
        Ok((log, Past(past)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes durable that this has happened, together with whatever else is to be by then. The ticket is to be kept until the files of
    /// the message say it, too.
    ///
    /// # Errors
    /// What the system says: then it may or may not have happened after the next start.
    pub(super) fn commit(self: &Arc<Self>, id: QueueId, entry: Entry<'_>) -> io::Result<Ticket> {
        let mut state = self.lock();
        let key = (state.next, state.next_ticket);
        state.next_ticket += 1;
        state.tickets.insert(key);
        state.add(id, entry);
        drop(state);
        let ticket = Ticket {
            log: Arc::clone(self),
            key,
        };
        self.settle(key.0)?;
        Ok(ticket)
    }

    /// The same without waiting: it comes to the disk with what is committed next.
    pub(super) fn note(self: &Arc<Self>, id: QueueId, entry: Entry<'_>) {
        let mut state = self.lock();
        state.add(id, entry);
        let (batch, is_much) = (state.next, state.pending.len() >= MOST_UNFLUSHED);
        drop(state);
        if is_much && let Err(error) = self.settle(batch) {
            error!(%error, "what is done could not be written into the log of the queue; after a power failure it is found done once more");
        }
    }

    /// Writes and flushes everything up to this batch, or waits for who does.
    fn settle(self: &Arc<Self>, batch: u64) -> io::Result<()> {
        let mut state = self.lock();
        loop {
            if batch < state.settled {
                return state.outcome(batch);
            }
            if state.is_writing {
                let waited = self.moved.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.is_writing = true;
            let mut bytes = std::mem::take(&mut state.pending);
            let number = state.next;
            state.next += 1;
            let placed = self.place(&mut state, number, bytes.len() as u64);
            drop(state);
            let written = placed.and_then(|place| self.write(place, &mut bytes));
            state = self.lock();
            state.is_writing = false;
            state.settled = number + 1;
            state.flushes += 1;
            if let Err(error) = &written {
                error!(%error, "the log of the queue could not be written; what was to be acknowledged with it is refused");
                state.refused.push_back((number, Refused::of(error)));
                if state.refused.len() > REMEMBERED {
                    state.refused.pop_front();
                }
            }
            state.advance(written.ok());
            self.moved.notify_all();
        }
    }

    /// Where the next batch goes.
    fn place(self: &Arc<Self>, state: &mut State, number: u64, length: u64) -> io::Result<Place> {
        if let Some(place) = state.place_in_current(length) {
            return Ok(place);
        }
        state.end_current(number);
        self.flush_files(state);
        let index = self.free(state)?;
        let nonce = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
        state.generation += 1;
        let generation = state.generation;
        state.segments[index].use_ = Use::Batches {
            generation,
            nonce,
            end: 0,
            before: None,
            is_flushed: false,
        };
        state.current = Some(index);
        Ok(Place {
            file: Arc::clone(&state.segments[index].file),
            at: 0,
            generation,
            nonce,
        })
    }

    /// A file that may be written from its beginning.
    fn free(&self, state: &mut State) -> io::Result<usize> {
        let void = |segment: &Segment| segment.use_ == Use::Void;
        if let Some(index) = state.segments.iter().position(void) {
            return Ok(index);
        }
        if let Some(index) = state.oldest_if_flushed() {
            let segment = &mut state.segments[index];
            annul(&segment.file)?;
            segment.use_ = Use::Void;
            return Ok(index);
        }
        let number = state.segments.len();
        if number >= SEGMENTS {
            return Err(io::Error::other(
                "the disk does not flush what the log of the queue holds, and it may not grow any more",
            ));
        }
        let file = open_segment(&self.directory, number, OFlags::CREATE)?;
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        // Its name must be there after a power failure.
        file::sync_directory(&self.directory)?;
        state.segments.push(Segment {
            file: Arc::new(file),
            use_: Use::Void,
        });
        Ok(number)
    }

    fn write(&self, place: Place, bytes: &mut [u8]) -> io::Result<u64> {
        #[cfg(test)]
        drop(self.gate.lock());
        #[cfg(test)]
        if self.is_broken.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let length = number(bytes.len() - HEAD);
        bytes[4..8].copy_from_slice(&length);
        bytes[8..16].copy_from_slice(&place.generation.to_le_bytes());
        bytes[16..HEAD].copy_from_slice(&place.nonce.to_le_bytes());
        let crc = crc32(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        place.file.write_all_at(bytes, place.at)?;
        place.file.sync_data()?;
        Ok((place.at + bytes.len() as u64).next_multiple_of(BLOCK))
    }

    /// Has a thread flush the messages' own files, so that what was ended before is not needed any more.
    fn flush_files(self: &Arc<Self>, state: &mut State) {
        if state.is_flushing {
            return;
        }
        let log = Arc::clone(self);
        let thread = std::thread::Builder::new().name("queue-flush".into());
        match thread.spawn(move || log.flush_ended()) {
            Ok(_) => state.is_flushing = true,
            Err(error) => {
                error!(%error, "no thread can be made to flush the queue; the next file of its log tries again");
            }
        }
    }

    fn flush_ended(&self) {
        let mut state = self.lock();
        while let Some(before) = state.last_ended() {
            state = self.wait_for_tickets(state, before);
            drop(state);
            let flushed = file::sync_file_system(&self.directory);
            state = self.lock();
            if let Err(error) = flushed {
                // What was not written is unknown, so nothing in the log may be given up: no other thread is made.
                error!(%error, "the queue's files could not be flushed: repair the disk, then restart relayd, which writes them anew from its log; the \
                    log grows until then");
                return;
            }
            state.mark_flushed(before);
        }
        state.is_flushing = false;
    }

    /// Waits until all that is in batches before this one is in the messages' own files.
    fn wait_for_tickets<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        before: u64,
    ) -> MutexGuard<'a, State> {
        while state
            .tickets
            .first()
            .is_some_and(|(batch, _)| *batch < before)
        {
            let waited = self.applied.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Writes down what nobody waited for, has the messages' own files flushed, and empties the log.
    ///
    /// # Errors
    /// What the system says; then the log stays as it is.
    pub(super) fn close(self: &Arc<Self>) -> io::Result<()> {
        let state = self.lock();
        let (last, is_empty) = (state.next, state.pending.is_empty());
        drop(state);
        if !is_empty {
            self.settle(last)?;
        }
        let state = self.lock();
        let before = state.next;
        drop(self.wait_for_tickets(state, before));
        file::sync_file_system(&self.directory)?;
        self.annul_all()
    }

    /// Nothing in it counts any more: all of it is in the messages' own files, on disk.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn annul_all(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.current = None;
        let mut order: Vec<usize> = (0..state.segments.len()).collect();
        order.sort_by_key(|index| state.segments[*index].use_.generation());
        for index in order {
            let segment = &mut state.segments[index];
            if segment.use_ != Use::Void {
                annul(&segment.file)?;
                segment.use_ = Use::Void;
            }
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn is_writing(&self) -> bool {
        self.lock().is_writing
    }

    #[cfg(test)]
    pub(super) fn tickets(&self) -> usize {
        self.lock().tickets.len()
    }

    /// Flushes so far, for tests and measurements.
    pub(super) fn flushes(&self) -> u64 {
        self.lock().flushes
    }
}

/// Where a batch is written.
struct Place {
    file: Arc<File>,
    at: u64,
    generation: u64,
    nonce: u64,
}

impl State {
    fn add(&mut self, id: QueueId, entry: Entry<'_>) {
        if self.pending.is_empty() {
            self.pending.resize(HEAD, 0);
        }
        entry.encode(id, &mut self.pending);
    }

    fn outcome(&self, batch: u64) -> io::Result<()> {
        let refused = self.refused.iter().find(|(number, _)| *number == batch);
        refused.map_or(Ok(()), |(_, refused)| Err(refused.to_error()))
    }

    fn place_in_current(&self, length: u64) -> Option<Place> {
        let segment = self.segments.get(self.current?)?;
        match segment.use_ {
            Use::Batches {
                generation,
                nonce,
                end,
                before: None,
                ..
            } if end + length <= SEGMENT => Some(Place {
                file: Arc::clone(&segment.file),
                at: end,
                generation,
                nonce,
            }),
            Use::Void | Use::Batches { .. } => None,
        }
    }

    fn end_current(&mut self, batch: u64) {
        let current = self.current.take();
        if let Some(segment) = current.and_then(|index| self.segments.get_mut(index))
            && let Use::Batches { before, .. } = &mut segment.use_
        {
            *before = Some(batch);
        }
    }

    /// A batch was written up to there; or it was not, and nothing more goes into this file.
    fn advance(&mut self, written: Option<u64>) {
        let segment = self.current.and_then(|index| self.segments.get_mut(index));
        if let Some(Segment {
            use_: Use::Batches { end, .. },
            ..
        }) = segment
        {
            *end = written.unwrap_or(SEGMENT);
        }
    }

    fn oldest_if_flushed(&self) -> Option<usize> {
        let oldest =
            (0..self.segments.len()).min_by_key(|index| self.segments[*index].use_.generation())?;
        let is_flushed = matches!(
            self.segments[oldest].use_,
            Use::Batches {
                is_flushed: true,
                ..
            }
        );
        is_flushed.then_some(oldest)
    }

    /// The first batch behind all files that are full and not flushed; `None` if there are none.
    fn last_ended(&self) -> Option<u64> {
        let ended = self
            .segments
            .iter()
            .filter_map(|segment| match segment.use_ {
                Use::Batches {
                    before,
                    is_flushed: false,
                    ..
                } => before,
                Use::Void | Use::Batches { .. } => None,
            });
        ended.max()
    }

    fn mark_flushed(&mut self, up_to: u64) {
        for segment in &mut self.segments {
            if let Use::Batches {
                before: Some(before),
                is_flushed,
                ..
            } = &mut segment.use_
                && *before <= up_to
            {
                *is_flushed = true;
            }
        }
    }
}

/// Makes what is in a file of the log count no more, durably. Its blocks stay, so that writing them again is quick.
fn annul(file: &File) -> io::Result<()> {
    file.write_all_at(&[0; HEAD], 0)?;
    file.sync_data()
}

fn open_segment(directory: &OwnedFd, number: usize, flags: OFlags) -> io::Result<Option<File>> {
    let name = format!("{PREFIX}{number}");
    let mode = if flags.contains(OFlags::CREATE) {
        0o600
    } else {
        0
    };
    let flags = flags | OFlags::RDWR;
    match file::open_beneath(directory.as_fd(), Path::new(&name), flags, mode) {
        Ok(file) => Ok(Some(file.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
