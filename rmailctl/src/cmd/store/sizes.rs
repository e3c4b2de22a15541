//! `rmailctl store stat`

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{BufWriter, Write};

use ipc::control::{StoreControlAnswer, StoreControlRequest};
use ipc::tools::{JournalState, MailboxSize, Row, Seen};
use serde_json::json;

use super::walk::{Walk, in_words};
use crate::Error;
use crate::operator::{Store, unexpected};

/// What is known so far, in bounded room however many mailboxes there are.
#[derive(Debug, Default)]
struct Sums {
    /// How many are kept.
    largest: usize,
    kept: BinaryHeap<Reverse<(u64, u64, String)>>,
    /// The mailbox whose rows come just now.
    current: Option<MailboxSize>,
    cache_bytes: u64,
}

impl Sums {
    fn add(&mut self, size: MailboxSize) {
        self.cache_bytes += size.cache_bytes;
        match &mut self.current {
            Some(current) if current.mailbox == size.mailbox => {
                current.messages += size.messages;
                current.bytes += size.bytes;
            }
            _ => {
                self.keep();
                self.current = Some(size);
            }
        }
    }

    fn keep(&mut self) {
        if let Some(size) = self.current.take() {
            self.kept
                .push(Reverse((size.bytes, size.messages, size.mailbox)));
            if self.kept.len() > self.largest {
                self.kept.pop();
            }
        }
    }

    /// The largest, bytes and messages first.
    fn finish(mut self) -> Vec<(u64, u64, String)> {
        self.keep();
        let sorted = self.kept.into_sorted_vec();
        sorted.into_iter().map(|Reverse(size)| size).collect()
    }
}

/// Counts and shows.
pub(super) async fn show(
    store: &Store,
    walk: Walk,
    largest: usize,
    json: bool,
) -> Result<(), Error> {
    let mut sums = Sums {
        largest,
        ..Sums::default()
    };
    let mut unreadable = 0;
    let seen = walk
        .run(store, |piece| {
            for row in piece.rows {
                match row {
                    Row::Size(size) => sums.add(size),
                    Row::Deviation(deviation) => {
                        unreadable += 1;
                        writeln!(std::io::stderr(), "{}", super::line(&deviation))?;
                    }
                    row @ (Row::Hash(_) | Row::Recovered(_) | Row::Expunged(_)) => {
                        return Err(unexpected(&row));
                    }
                }
            }
            Ok(())
        })
        .await?;
    let what = "cannot show the journal";
    let journal = match store.ask(what, StoreControlRequest::ShowJournal).await? {
        StoreControlAnswer::Journal(journal) => journal,
        answer => return Err(unexpected(&answer)),
    };
    let cache_bytes = sums.cache_bytes;
    let largest = sums.finish();
    let mut out = BufWriter::new(std::io::stdout());
    if json {
        let largest: Vec<_> = largest
            .iter()
            .map(|(bytes, messages, mailbox)| json!({"mailbox": mailbox, "messages": messages, "bytes": bytes}))
            .collect();
        let Seen {
            users,
            mailboxes,
            messages,
            bytes,
            expunged_messages,
            expunged_bytes,
        } = seen;
        let stat = json!({
            "users": users, "mailboxes": mailboxes, "messages": messages, "bytes": bytes, "cache_bytes": cache_bytes,
            "expunged_messages": expunged_messages, "expunged_bytes": expunged_bytes, "unreadable": unreadable, "largest": largest,
            "journal": {
                "files": journal.files, "bytes": journal.bytes, "room": journal.room, "records": journal.records,
                "age_ms": journal.age_ms, "closed": journal.is_closed,
            },
        });
        writeln!(out, "{stat}")?;
    } else {
        writeln!(out, "{}, {cache_bytes} bytes of caches", in_words(&seen))?;
        writeln!(
            out,
            "expunged, and kept for a time: {} messages, {} bytes",
            seen.expunged_messages, seen.expunged_bytes
        )?;
        writeln!(out, "{}", journal_in_words(&journal))?;
        for (bytes, messages, mailbox) in largest {
            writeln!(out, "{bytes} bytes\t{messages} messages\t{mailbox}")?;
        }
    }
    out.flush()?;
    if unreadable > 0 {
        return Err(Error::Findings(format!(
            "{unreadable} directories could not be read and are not counted"
        )));
    }
    Ok(())
}

fn journal_in_words(journal: &JournalState) -> String {
    let used = journal.bytes.saturating_sub(journal.room);
    let percent = used * 100 / journal.bytes.max(1);
    let closed = if journal.is_closed {
        "; CLOSED: the disk failed, nothing is taken"
    } else {
        ""
    };
    format!(
        "journal: {} files, {} bytes, {percent} % used, {} records that are not in the mailboxes' files yet, the oldest {} ms old{closed}",
        journal.files, journal.bytes, journal.records, journal.age_ms
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_mailbox_are_added_up_and_the_largest_kept() {
        let mut sums = Sums {
            largest: 2,
            ..Sums::default()
        };
        for (mailbox, bytes) in [("a", 10), ("b", 5), ("b", 6), ("c", 3)] {
            sums.add(MailboxSize {
                mailbox: mailbox.into(),
                messages: 1,
                bytes,
                cache_bytes: 1,
            });
        }
        assert_eq!(sums.cache_bytes, 4);
        assert_eq!(sums.finish(), [(11, 2, "b".into()), (10, 1, "a".into())]);
    }
}
