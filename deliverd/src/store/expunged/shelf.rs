//! Going through the kept mail of a user, in the order of days, mailboxes and UIDs.

use std::fmt;
use std::io;
use std::ops::ControlFlow;

use rustix::fs::FileType;

use super::super::disk::Dir;
use super::super::message_file;
use super::super::name::MailboxName;
use super::super::{keywords, name};
use super::{Contents, DIRECTORY, Day};

/// Which removals from a mailbox a directory is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Series {
    pub(in crate::store) uid_validity: u32,
    /// The mailbox was deleted with all that was in it.
    pub(in crate::store) is_deleted: bool,
}

/// A directory of kept messages: those of one shard of a mailbox that were removed on one day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Shelf {
    pub(super) day: Day,
    /// The mailbox's directory when they were removed.
    pub(super) mailbox: String,
    pub(super) series: Series,
    pub(super) shard: u32,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.is_deleted { DELETED } else { "" };
        write!(f, "{}{end}", self.uid_validity)
    }
}

const DELETED: &str = ".deleted";

impl Series {
    fn parse(text: &str) -> Option<Self> {
        let number = text.strip_suffix(DELETED).unwrap_or(text);
        let series = Self {
            uid_validity: number.parse().ok()?,
            is_deleted: number.len() != text.len(),
        };
        (series.to_string() == text).then_some(series)
    }
}

impl fmt::Display for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shard = message_file::shard_name(self.shard);
        write!(f, "{}/{}/{}/{shard}", self.day, self.mailbox, self.series)
    }
}

impl Shelf {
    /// Reads what is written by `Display`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let shelf = Self {
            day: Day::parse(parts.next()?)?,
            mailbox: parts.next().filter(|name| is_mailbox(name))?.to_owned(),
            series: Series::parse(parts.next()?)?,
            shard: message_file::parse_shard(parts.next()?)?,
        };
        parts.next().is_none().then_some(shelf)
    }
}

fn is_mailbox(file_name: &str) -> bool {
    MailboxName::from_file_name(file_name).is_some()
}

/// The directories in `dir` whose names `parse` knows, in order.
fn children<T: Ord>(dir: &Dir, parse: impl Fn(&str) -> Option<T>) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
    dir.each_name(|name, kind| {
        let name = name.to_str().ok().filter(|_| kind == FileType::Directory);
        found.extend(name.and_then(&parse));
        Ok(())
    })?;
    found.sort_unstable();
    Ok(found)
}

/// What was opened, `None` if it is not there.
pub(super) fn opened(dir: io::Result<Dir>) -> io::Result<Option<Dir>> {
    match dir {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// The days of which something is kept.
pub(super) fn days(kept: &Dir) -> io::Result<Vec<Day>> {
    children(kept, Day::parse)
}

/// Goes through the shelves in the directory `user`, those behind `after` and of days from `since` on, until `visit` has enough.
/// It is given the directory of the series, too.
pub(super) fn walk<E: From<io::Error>>(
    root: &Dir,
    user: &str,
    (after, since): (Option<&Shelf>, Option<Day>),
    is_wanted: impl Fn(&str) -> bool,
    mut visit: impl FnMut(&Shelf, &Dir) -> Result<ControlFlow<()>, E>,
) -> Result<(), E> {
    let Some(kept) = opened(root.dir(&format!("{user}/{DIRECTORY}")))? else {
        return Ok(());
    };
    for day in days(&kept)? {
        if since.is_some_and(|since| day < since) || after.is_some_and(|after| day < after.day) {
            continue;
        }
        let Some(of_day) = opened(kept.dir(&day.to_string()))? else {
            continue;
        };
        let mailbox = |name: &str| (is_mailbox(name) && is_wanted(name)).then(|| name.to_owned());
        for mailbox in children(&of_day, mailbox)? {
            if after.is_some_and(|after| (day, &mailbox) < (after.day, &after.mailbox)) {
                continue;
            }
            let Some(of_mailbox) = opened(of_day.dir(&mailbox))? else {
                continue;
            };
            for series in children(&of_mailbox, Series::parse)? {
                let Some(dir) = opened(of_mailbox.dir(&series.to_string()))? else {
                    continue;
                };
                for shard in children(&dir, message_file::parse_shard)? {
                    let shelf = Shelf {
                        day,
                        mailbox: mailbox.clone(),
                        series,
                        shard,
                    };
                    if after.is_none_or(|after| shelf > *after) && visit(&shelf, &dir)?.is_break() {
                        return Ok(());
                    }
                }
            }
        }
    }
    Ok(())
}

/// Counts what is kept in the directory `user`.
pub(in crate::store) fn weigh(root: &Dir, user: &str) -> io::Result<Contents> {
    let mut all = Contents::default();
    let mut visit = |shelf: &Shelf, series: &Dir| {
        let name = message_file::shard_name(shelf.shard);
        let Some(dir) = opened(series.dir(&name))? else {
            return Ok(ControlFlow::Continue(()));
        };
        dir.each_name(|name, kind| {
            let name = name.to_str().ok().filter(|_| kind == FileType::RegularFile);
            if let Some(look) = name.and_then(|name| dir.look(name).ok()) {
                all.messages += 1;
                all.bytes += look.size;
            }
            Ok(())
        })?;
        let words = series.look(&format!("{}/{name}", keywords::DIRECTORY));
        all.keyword_bytes += words.map_or(0, |look| look.size);
        Ok::<_, io::Error>(ControlFlow::Continue(()))
    };
    walk(root, user, (None, None), |_| true, &mut visit)?;
    Ok(all)
}

/// The text a mailbox's directory stands for.
pub(super) fn mailbox_name(file_name: &str) -> String {
    name::original(file_name).unwrap_or_else(|| file_name.to_owned())
}
