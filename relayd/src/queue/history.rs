//! What happened to messages: lines in files that begin at a time, the oldest of which go. They are not flushed by themselves: what a power failure
//! takes of them is written anew from the log, as far as it says who came and who is gone.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sys::file::{self, OFlags};
use tracing::{error, warn};

use super::QueueId;
use super::journal::{self, Attempted, Fate, Header};
use super::message::Message;

/// What the names of its files begin with; the Unix second follows at which they do.
pub(super) const PREFIX: &str = ".history-";
const DAY: i64 = 86_400;
/// The bound on all files is that of so many of them.
const FILES: u64 = 8;
/// Octets read of a file in one go.
const PIECE: u64 = 1 << 20;
/// Events given in one go, and so lines that are understood.
const EVENTS: usize = 2000;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Days; 0 keeps nothing.
    pub days: u32,
    /// Octets.
    pub bytes: u64,
}

impl From<&daemon::config::History> for Bounds {
    fn from(kept: &daemon::config::History) -> Self {
        Self {
            days: kept.days.value(),
            bytes: kept.max_bytes.value(),
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Unix seconds.
    pub at: i64,
    /// To which message.
    pub id: String,
    /// Its reverse-path.
    pub from: String,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It came.
    Queued {
        /// Who submitted it.
        account: Option<String>,
        /// Octets.
        size: u64,
        /// How many recipients.
        recipients: usize,
    },
    /// An attempt was over.
    Tried {
        /// The recipient.
        to: String,
        /// What is next for it.
        fate: Fate,
        /// RFC 3463 status.
        status: String,
        /// The reply or the fault.
        text: String,
        /// The host that was spoken to, if any.
        host: Option<String>,
    },
    /// It is in the queue no more.
    Ended(Ending),
}

/// Why a message is in the queue no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Nothing is left to be done.
    Done,
    /// The operator took it out.
    Removed,
    /// It was in quarantine for too long.
    Expired,
    /// It could not be made durable, and whoever brought it was told so. There is no line of that.
    Refused,
}

impl Event {
    pub(super) fn queued(id: QueueId, header: &Header) -> Self {
        Self {
            at: header.queued,
            id: id.to_string(),
            from: header.reverse_path.clone(),
            what: What::Queued {
                account: header.account.clone(),
                size: header.size,
                recipients: header.recipients.len(),
            },
        }
    }

    pub(super) fn ended(id: QueueId, from: String, ending: Ending, now: i64) -> Self {
        Self {
            at: now,
            id: id.to_string(),
            from,
            what: What::Ended(ending),
        }
    }

    pub(super) fn tried<'a>(
        id: QueueId,
        message: &'a Message,
        attempted: &'a Attempted,
    ) -> impl Iterator<Item = Self> {
        attempted.results.iter().filter_map(move |outcome| {
            let recipient = message.header.recipients.get(outcome.recipient as usize)?;
            Some(Self {
                at: attempted.at,
                id: id.to_string(),
                from: message.header.reverse_path.clone(),
                what: What::Tried {
                    to: recipient.clone(),
                    fate: outcome.fate,
                    status: outcome.status.clone(),
                    text: outcome.text.clone(),
                    host: outcome.host.clone(),
                },
            })
        })
    }
}

/// A place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When the file begins, Unix seconds.
    pub file: i64,
    /// Octets before it.
    pub offset: u64,
}

/// A piece of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// In the order in which they were written down.
    pub events: Vec<Event>,
    /// What comes next is there.
    pub next: Place,
    /// There was more when it was read.
    pub more: bool,
}

/// The history of a queue.
#[derive(Debug)]
pub(super) struct History {
    directory: OwnedFd,
    bounds: Bounds,
    pen: Mutex<Pen>,
}

#[derive(Debug, Default)]
struct Pen {
    /// The file that is written, when it begins, and its size.
    file: Option<(File, i64, u64)>,
    /// The last line could not be written.
    is_broken: bool,
}

impl History {
    pub(super) fn new(directory: OwnedFd, bounds: Bounds) -> Self {
        Self {
            directory,
            bounds,
            pen: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pen> {
        self.pen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what happened. What cannot be written is lost, and the log says so: mail does not wait for that.
    pub(super) fn note(&self, events: impl IntoIterator<Item = Event>, now: i64) {
        if self.bounds.days == 0 {
            return;
        }
        let mut lines = Vec::new();
        let encoded = events
            .into_iter()
            .try_for_each(|event| journal::encode(&event, &mut lines));
        let mut pen = self.lock();
        let written = encoded
            .map_err(io::Error::from)
            .and_then(|()| self.write(&mut pen, &lines, now));
        if let Err(error) = &written
            && !pen.is_broken
        {
            warn!(%error, "the history of the queue cannot be written, and has gaps until it can");
        }
        pen.is_broken = written.is_err();
    }

    fn write(&self, pen: &mut Pen, lines: &[u8], now: i64) -> io::Result<()> {
        let is_full = |(_, begin, size): &(File, i64, u64)| {
            *size >= self.bounds.bytes / FILES || now.div_euclid(DAY) != begin.div_euclid(DAY)
        };
        if pen.file.as_ref().is_none_or(is_full) {
            pen.file = None;
            let last = self.files()?.into_iter().next_back();
            let last = match last {
                Some((begin, size)) => Some((self.open(begin, OFlags::RDWR)?, begin, size)),
                None => None,
            };
            pen.file = Some(match last.filter(|last| !is_full(last)) {
                Some((file, begin, size)) => {
                    let size = size + end_line(&file, size)?;
                    (file, begin, size)
                }
                // Two files never begin at once: those of a clock that went back, or of less than a second, follow each other all the same.
                None => self.begin(now)?,
            });
        }
        if let Some((file, _, size)) = &mut pen.file {
            file.write_all(lines)?;
            *size += lines.len() as u64;
        }
        Ok(())
    }

    fn begin(&self, now: i64) -> io::Result<(File, i64, u64)> {
        let files = self.files()?;
        let after = files.last().map_or(i64::MIN, |(begin, _)| begin + 1);
        let begin = now.max(after);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
        let file = self.open(begin, flags)?;
        self.expire(&files, begin)?;
        Ok((file, begin, 0))
    }

    /// Removes what is too old or too much, before a file that begins then.
    fn expire(&self, files: &[(i64, u64)], begin: i64) -> io::Result<()> {
        let oldest = begin.saturating_sub(i64::from(self.bounds.days) * DAY);
        let mut size: u64 = files.iter().map(|(_, size)| size).sum();
        let ends = files.iter().skip(1).map(|(begin, _)| *begin);
        for ((file, its), end) in files.iter().zip(ends.chain([begin])) {
            if end > oldest && size + self.bounds.bytes / FILES <= self.bounds.bytes {
                break;
            }
            size -= its;
            file::unlink(self.directory.as_fd(), OsStr::new(&name(*file)))?;
        }
        Ok(())
    }

    fn open(&self, begin: i64, flags: OFlags) -> io::Result<File> {
        let mode = if flags.contains(OFlags::CREATE) {
            0o600
        } else {
            0
        };
        let flags = flags | OFlags::APPEND;
        let name = name(begin);
        file::open_beneath(self.directory.as_fd(), Path::new(&name), flags, mode).map(File::from)
    }

    /// When each of its files begins, and its size; the oldest first.
    fn files(&self) -> io::Result<Vec<(i64, u64)>> {
        let mut files = Vec::new();
        for entry in file::list_anew(self.directory.as_fd())? {
            let name = entry.name.to_string_lossy();
            let Some(begin) = name.strip_prefix(PREFIX).and_then(|text| text.parse().ok()) else {
                continue;
            };
            let file = self.open(begin, OFlags::RDONLY)?;
            files.push((begin, file.metadata()?.len()));
        }
        files.sort_unstable();
        Ok(files)
    }

    /// What is there from a place on, or from the beginning: a piece of it. Only lines in which `needle` stands, in lower case, if there is one.
    pub(super) fn read(&self, from: Option<Place>, needle: Option<&str>) -> io::Result<Piece> {
        let files = self.files()?;
        let first = Place {
            file: files.first().map_or(0, |(begin, _)| *begin),
            offset: 0,
        };
        // What was before is not kept any more.
        let mut at = from.unwrap_or(first).max(first);
        let mut events = Vec::new();
        let found = files.iter().position(|(begin, _)| *begin == at.file);
        let Some(index) = found else {
            return Ok(Piece {
                events,
                next: at,
                more: false,
            });
        };
        let bytes = self.piece(at)?;
        let needle = needle.map(str::to_ascii_lowercase);
        let is_meant = |line: &[u8]| {
            needle
                .as_ref()
                .is_none_or(|needle| contains(&line.to_ascii_lowercase(), needle.as_bytes()))
        };
        let mut used = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if events.len() >= EVENTS || !line.ends_with(b"\n") {
                break;
            }
            used += line.len();
            if is_meant(line) {
                events.extend(journal::decode_lines::<Event>(line));
            }
        }
        if used == 0 && bytes.len() as u64 == PIECE {
            error!(
                file = at.file,
                offset = at.offset,
                "a line in the history is too long, and passed over"
            );
            used = bytes.len();
        }
        at.offset += used as u64;
        let is_at_end = at.offset >= files[index].1 || used == 0;
        let next_file = files.get(index + 1).map(|(begin, _)| *begin);
        let more = !is_at_end || next_file.is_some();
        if let (true, Some(file)) = (is_at_end, next_file) {
            at = Place { file, offset: 0 };
        }
        Ok(Piece {
            events,
            next: at,
            more,
        })
    }

    fn piece(&self, at: Place) -> io::Result<Vec<u8>> {
        let mut file = self.open(at.file, OFlags::RDONLY)?;
        file.seek(SeekFrom::Start(at.offset))?;
        let mut bytes = Vec::new();
        file.take(PIECE).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Of whom the last files say that it came, and that it is gone.
    pub(super) fn known(&self) -> io::Result<Known> {
        let mut known = Known::default();
        let files = self.files()?;
        let from = files.len().saturating_sub(2);
        for (begin, _) in files.get(from..).unwrap_or_default() {
            let mut bytes = Vec::new();
            self.open(*begin, OFlags::RDONLY)?.read_to_end(&mut bytes)?;
            for event in journal::decode_lines::<Event>(&bytes) {
                match (event.what, QueueId::parse(&event.id)) {
                    (What::Queued { .. }, Some(id)) => known.queued.insert(id),
                    (What::Ended(_), Some(id)) => known.ended.insert(id),
                    (What::Tried { .. }, _) | (_, None) => false,
                };
            }
        }
        Ok(known)
    }
}

/// What the last files say.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) queued: HashSet<QueueId>,
    pub(super) ended: HashSet<QueueId>,
}

fn name(begin: i64) -> String {
    format!("{PREFIX}{begin}")
}

/// Ends a line that a crash tore; tells by how many octets the file grew.
fn end_line(mut file: &File, size: u64) -> io::Result<u64> {
    if size == 0 {
        return Ok(0);
    }
    let mut last = [0];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut last, size - 1)?;
    if last == *b"\n" {
        return Ok(0);
    }
    file.write_all(b"\n")?;
    Ok(1)
}

fn contains(line: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || line.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn history(days: u32, bytes: u64) -> (tempfile::TempDir, History) {
        let home = tempfile::tempdir().unwrap();
        let directory = file::open_directory(home.path()).unwrap();
        (home, History::new(directory, Bounds { days, bytes }))
    }

    fn event(number: i64) -> Event {
        Event {
            at: number,
            id: QueueId::generate().unwrap().to_string(),
            from: format!("Sender{number}@example.test"),
            what: What::Ended(Ending::Done),
        }
    }

    fn all(history: &History, needle: Option<&str>) -> Vec<i64> {
        let (mut found, mut from) = (Vec::new(), None);
        loop {
            let piece = history.read(from, needle).unwrap();
            found.extend(piece.events.iter().map(|event| event.at));
            from = Some(piece.next);
            if !piece.more {
                return found;
            }
        }
    }

    #[test]
    fn what_was_written_is_read_in_pieces_and_from_the_end_on() {
        let (_home, history) = history(7, 1 << 20);
        for number in 0..5000 {
            history.note([event(number)], NOW + number * 60);
        }
        assert_eq!(all(&history, None), (0..5000).collect::<Vec<_>>());
        assert_eq!(all(&history, Some("SENDER4999@")), [4999]);
        let (mut end, mut more) = (None, true);
        while more {
            let piece = history.read(end, None).unwrap();
            (end, more) = (Some(piece.next), piece.more);
        }
        history.note([event(7000)], NOW + 5000 * 60);
        let piece = history.read(end, None).unwrap();
        assert_eq!((piece.events[0].at, piece.more), (7000, false));
    }

    #[test]
    fn only_so_much_is_kept_and_not_for_ever() {
        let (_home, history) = history(3, 80_000);
        for number in 0..5000 {
            history.note([event(number)], NOW);
        }
        let size: u64 = history.files().unwrap().iter().map(|(_, size)| size).sum();
        assert!((60_000..=80_200).contains(&size), "{size}");
        let kept = all(&history, None);
        assert_eq!(kept.last(), Some(&4999));
        for day in 1..10 {
            history.note([event(5000 + day)], NOW + day * DAY);
        }
        assert_eq!(all(&history, None), [5006, 5007, 5008, 5009]);
        // A place that is not kept any more is as good as the beginning.
        let before = Place { file: 0, offset: 7 };
        let piece = history.read(Some(before), None).unwrap();
        assert_eq!(piece.events[0].at, 5006);
    }

    #[test]
    fn a_torn_line_is_passed_over_and_those_behind_it_are_read() {
        let (home, first) = history(7, 1 << 20);
        first.note([event(1)], NOW);
        let path = home.path().join(name(NOW));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"00000000 {\"at");
        std::fs::write(&path, bytes).unwrap();
        let directory = file::open_directory(home.path()).unwrap();
        let bounds = Bounds {
            days: 7,
            bytes: 1 << 20,
        };
        let second = History::new(directory, bounds);
        second.note([event(2)], NOW + 5);
        assert_eq!(all(&second, None), [1, 2]);
        assert_eq!(second.files().unwrap().len(), 1);
    }

    #[test]
    fn without_days_there_is_none() {
        let (_home, history) = history(0, 1 << 20);
        history.note([event(1)], NOW);
        assert!(history.files().unwrap().is_empty());
        assert!(all(&history, None).is_empty());
    }
}
