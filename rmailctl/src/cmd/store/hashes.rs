//! `rmailctl store verify`

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use ipc::tools::{MessageHash, Row};

use super::walk::{Walk, in_words};
use crate::Error;
use crate::operator::{Store, unexpected};

/// What stands instead of a hash.
const UNREADABLE: &str = "unreadable";

/// A message in a list, and where it comes in the list: domain, user, mailbox, UID.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    mailbox: String,
    uid: u32,
    /// In hexadecimal, or [`UNREADABLE`] and why.
    hash: String,
    size: u64,
}

/// How many messages differ.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    changed: u64,
    missing: u64,
    new: u64,
    unreadable: u64,
}

/// An earlier list, read as far as the walk has come.
struct Earlier<R> {
    lines: std::io::Lines<R>,
    next: Option<Entry>,
    line: u64,
}

/// Lists the hashes, or what differs from an earlier list.
pub(super) async fn show(store: &Store, walk: Walk, against: Option<&Path>) -> Result<(), Error> {
    let mut out = BufWriter::new(std::io::stdout());
    let mut tally = Tally::default();
    let mut earlier = match against {
        None => None,
        Some(path) => {
            let file = File::open(path).map_err(|error| Error::failed(path.display(), error))?;
            Some(Earlier::new(BufReader::new(file))?)
        }
    };
    let mut scope = String::new();
    let seen = walk
        .run(store, |piece| {
            scope = piece.within;
            for row in piece.rows {
                let message = match row {
                    Row::Hash(message) => message,
                    Row::Deviation(deviation) => {
                        tally.unreadable += 1;
                        writeln!(std::io::stderr(), "{}", super::line(&deviation))?;
                        continue;
                    }
                    row @ (Row::Size(_) | Row::Recovered(_) | Row::Expunged(_)) => {
                        return Err(unexpected(&row));
                    }
                };
                tally.unreadable += u64::from(message.hash.is_err());
                let entry = Entry::of(&message);
                match &mut earlier {
                    None => writeln!(out, "{}", entry.line(message.uid_validity))?,
                    Some(earlier) => earlier.compare(&entry, &scope, &mut tally, &mut out)?,
                }
            }
            Ok(out.flush()?)
        })
        .await?;
    if let Some(earlier) = &mut earlier {
        earlier.end(&scope, &mut tally, &mut out)?;
    }
    out.flush()?;
    let Tally {
        changed,
        missing,
        new,
        unreadable,
    } = tally;
    let differences = match against {
        None => String::new(),
        Some(_) => format!("{changed} changed, {missing} missing, {new} new, "),
    };
    let seen = in_words(&seen);
    writeln!(
        std::io::stderr(),
        "{seen}: {differences}{unreadable} unreadable"
    )?;
    tally.verdict()
}

impl Tally {
    fn verdict(self) -> Result<(), Error> {
        if self.changed + self.missing + self.unreadable == 0 {
            Ok(())
        } else {
            Err(Error::Findings("not all messages are as they were".into()))
        }
    }
}

impl Entry {
    fn of(message: &MessageHash) -> Self {
        let hash = match &message.hash {
            Ok(hash) => hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            Err(error) => format!("{UNREADABLE} ({})", error.escape_debug()),
        };
        Self {
            mailbox: message.mailbox.clone(),
            uid: message.uid,
            hash,
            size: message.size,
        }
    }

    fn line(&self, uid_validity: u32) -> String {
        let Self {
            mailbox,
            uid,
            hash,
            size,
        } = self;
        format!("{hash}\t{size}\t{mailbox}\t{uid_validity}\t{uid}")
    }

    /// Reads what [`Entry::line`] gives.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        let hash = fields.next()?.to_owned();
        let size = fields.next()?.parse().ok()?;
        let mailbox = fields.next()?.to_owned();
        fields.next()?.parse::<u32>().ok()?;
        let uid = fields.next()?.parse().ok()?;
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_complete = fields.next().is_none() && mailbox.split('/').count() == 3;
        (is_complete && (is_hash || hash.starts_with(UNREADABLE))).then_some(Self {
            mailbox,
            uid,
            hash,
            size,
        })
    }

    /// What lists are sorted by.
    fn place(&self) -> (Vec<&str>, u32) {
        (self.mailbox.split('/').collect(), self.uid)
    }

    fn is_within(&self, scope: &str) -> bool {
        let rest = self.mailbox.strip_prefix(scope);
        scope.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn differs(&self, what: &str) -> String {
        format!("{what}\t{}\t{}", self.mailbox, self.uid)
    }
}

impl<R: BufRead> Earlier<R> {
    fn new(lines: R) -> Result<Self, Error> {
        let mut earlier = Self {
            lines: lines.lines(),
            next: None,
            line: 0,
        };
        earlier.advance()?;
        Ok(earlier)
    }

    fn advance(&mut self) -> Result<(), Error> {
        let wrong = |line: u64, why: &str| {
            Error::Usage(format!(
                "line {line} of the earlier list {why}; was it made by \"rmailctl store verify\"?"
            ))
        };
        let Some(line) = self.lines.next() else {
            self.next = None;
            return Ok(());
        };
        self.line += 1;
        let entry = Entry::parse(&line?).ok_or_else(|| wrong(self.line, "is none of a list"))?;
        if let Some(last) = &self.next
            && last.place() >= entry.place()
        {
            return Err(wrong(self.line, "is not in the order of a list"));
        }
        self.next = Some(entry);
        Ok(())
    }

    /// Compares a message with what the list says, and tells what should have come before it.
    fn compare(
        &mut self,
        now: &Entry,
        scope: &str,
        tally: &mut Tally,
        out: &mut impl Write,
    ) -> Result<(), Error> {
        while let Some(earlier) = &self.next
            && earlier.place() < now.place()
        {
            missing(earlier, scope, tally, out)?;
            self.advance()?;
        }
        match &self.next {
            Some(earlier) if earlier.place() == now.place() => {
                let is_same = (&earlier.hash, earlier.size) == (&now.hash, now.size);
                if now.hash.starts_with(UNREADABLE) {
                    writeln!(out, "{}", now.differs(&now.hash))?;
                } else if !is_same {
                    tally.changed += 1;
                    writeln!(out, "{}", now.differs("changed"))?;
                }
                self.advance()
            }
            _ => {
                tally.new += 1;
                Ok(writeln!(out, "{}", now.differs("new"))?)
            }
        }
    }

    /// Tells what the list has behind the last message.
    fn end(&mut self, scope: &str, tally: &mut Tally, out: &mut impl Write) -> Result<(), Error> {
        while let Some(earlier) = &self.next {
            missing(earlier, scope, tally, out)?;
            self.advance()?;
        }
        Ok(())
    }
}

fn missing(
    earlier: &Entry,
    scope: &str,
    tally: &mut Tally,
    out: &mut impl Write,
) -> Result<(), Error> {
    if earlier.is_within(scope) {
        tally.missing += 1;
        writeln!(out, "{}", earlier.differs("missing"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(mailbox: &str, uid: u32, hash: Result<u8, &str>) -> Entry {
        Entry::of(&MessageHash {
            mailbox: mailbox.into(),
            uid_validity: 7,
            uid,
            size: 3,
            hash: hash.map(|byte| [byte; 32]).map_err(str::to_owned),
        })
    }

    fn compare(earlier: &[Entry], now: &[Entry], scope: &str) -> (Tally, String) {
        let list: String = earlier.iter().map(|entry| entry.line(7) + "\n").collect();
        let (mut tally, mut out) = (Tally::default(), Vec::new());
        let mut earlier = Earlier::new(list.as_bytes()).unwrap();
        for entry in now {
            earlier.compare(entry, scope, &mut tally, &mut out).unwrap();
        }
        earlier.end(scope, &mut tally, &mut out).unwrap();
        (tally, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_line_survives_the_round_trip() {
        for hash in [Ok(0xa5), Err("Input/output error (os error 5)\n")] {
            let entry = message("a.test/alice/INBOX", 41, hash);
            assert_eq!(Entry::parse(&entry.line(7)), Some(entry));
        }
        for line in ["", "x\t3\ta/b/c\t7\t1", "0\t0\t0\t0\t0"] {
            assert_eq!(Entry::parse(line), None);
        }
    }

    #[test]
    fn what_changed_is_missing_or_new_is_told_in_order() {
        let earlier = [
            message("a.test/alice/A", 1, Ok(1)),
            message("a.test/alice/INBOX", 1, Ok(1)),
            message("a.test/alice/INBOX", 2, Ok(2)),
            message("a.test/alice/INBOX", 10, Ok(3)),
            message("b.test/bob/INBOX", 1, Ok(1)),
        ];
        let now = [
            message("a.test/alice/INBOX", 1, Ok(9)),
            message("a.test/alice/INBOX", 2, Ok(2)),
            message("a.test/alice/INBOX", 9, Ok(2)),
            message("a.test/alice/INBOX", 10, Err("gone")),
        ];
        let (tally, out) = compare(&earlier, &now, "");
        assert_eq!(
            out,
            "missing\ta.test/alice/A\t1\nchanged\ta.test/alice/INBOX\t1\nnew\ta.test/alice/INBOX\t9\n\
             unreadable (gone)\ta.test/alice/INBOX\t10\nmissing\tb.test/bob/INBOX\t1\n"
        );
        assert_eq!((tally.changed, tally.missing, tally.new), (1, 2, 1));
        assert!(tally.verdict().is_err());
        let (tally, _) = compare(&earlier, &earlier[1..4], "a.test/alice/INBOX");
        assert_eq!(tally, Tally::default());
        assert!(tally.verdict().is_ok());
    }

    #[test]
    fn a_scope_is_no_part_of_a_name() {
        assert!(message("a.test/al/INBOX", 1, Ok(1)).is_within("a.test/al"));
        assert!(!message("a.test/alice/INBOX", 1, Ok(1)).is_within("a.test/al"));
    }

    #[test]
    fn a_list_that_is_none_is_refused() {
        let swapped = [message("a/b/d", 1, Ok(1)), message("a/b/c", 1, Ok(1))];
        let list: String = swapped.iter().map(|entry| entry.line(7) + "\n").collect();
        let mut earlier = Earlier::new(list.as_bytes()).unwrap();
        assert!(earlier.advance().is_err());
        assert!(Earlier::new(&b"hello\n"[..]).is_err());
    }
}
