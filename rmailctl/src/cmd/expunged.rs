//! `rmailctl user expunged` and `rmailctl user undelete`

use std::io::{BufWriter, Write};

use ipc::control::{StoreControlAnswer, StoreControlRequest};
use ipc::session::{RANGES_PER_FRAME, UidRanges};
use ipc::snapshot::flag;
use ipc::tools::{ExpungedMessage, ExpungedRange, Row};
use serde_json::json;

use super::store::read_rows;
use crate::Error;
use crate::cli::ExpungedOptions;
use crate::operator::{Store, unexpected};

const FLAGS: [(u8, &str); 5] = [
    (flag::ANSWERED, "\\Answered"),
    (flag::DRAFT, "\\Draft"),
    (flag::FLAGGED, "\\Flagged"),
    (flag::SEEN, "\\Seen"),
    (flag::DELETED, "\\Deleted"),
];

impl ExpungedOptions {
    fn range(self) -> Result<ExpungedRange, Error> {
        Ok(ExpungedRange {
            mailbox: self.mailbox,
            since: self.since,
            uids: self.uid.as_deref().map(uids).transpose()?,
        })
    }
}

/// Shows what a user expunged and can have back.
///
/// # Errors
/// [`Error`].
pub async fn list(
    store: &Store,
    address: String,
    options: ExpungedOptions,
    json: bool,
) -> Result<(), Error> {
    let range = options.range()?;
    let what = format!("cannot list what {address} expunged");
    let mut out = BufWriter::new(std::io::stdout());
    let mut after = None;
    loop {
        let request = StoreControlRequest::ListExpunged {
            address: address.clone(),
            range: range.clone(),
            after: after.take(),
        };
        let answered = store.ask_for_files(what.as_str(), request).await?;
        let StoreControlAnswer::Expunged { rows, after: next } = answered.answer else {
            return Err(unexpected(&answered.answer));
        };
        for row in read_rows(answered.fds, rows)? {
            match row {
                Row::Expunged(message) if json => writeln!(out, "{}", object(&message))?,
                Row::Expunged(message) => writeln!(out, "{}", line(&message))?,
                row @ (Row::Deviation(_) | Row::Size(_) | Row::Hash(_) | Row::Recovered(_)) => {
                    return Err(unexpected(&row));
                }
            }
        }
        out.flush()?;
        match next {
            None => return Ok(()),
            next => after = next,
        }
    }
}

/// Gives a user back what it expunged.
///
/// # Errors
/// [`Error`]. What was given back before stays.
pub async fn undelete(
    store: &Store,
    address: String,
    options: ExpungedOptions,
) -> Result<(), Error> {
    let range = options.range()?;
    let what = format!("cannot give back what {address} expunged");
    let (mut count, mut size, mut after) = (0, 0, None);
    loop {
        let request = StoreControlRequest::Undelete {
            address: address.clone(),
            range: range.clone(),
            after: after.take(),
        };
        let answered = store.ask_for_files(what.as_str(), request).await;
        if answered.is_err() && count > 0 {
            // The error follows.
            let _ = writeln!(
                std::io::stderr(),
                "{count} messages, {size} bytes were given back before"
            );
        }
        match answered?.answer {
            StoreControlAnswer::Undeleted {
                messages,
                bytes,
                after: next,
            } => {
                count += messages;
                size += bytes;
                after = next;
            }
            answer => return Err(unexpected(&answer)),
        }
        if after.is_none() {
            writeln!(
                std::io::stdout(),
                "{count} messages, {size} bytes given back"
            )?;
            return Ok(());
        }
    }
}

/// Day, mailbox, UIDVALIDITY, UID, size, flags and keywords, separated by tabs.
fn line(message: &ExpungedMessage) -> String {
    let ExpungedMessage {
        day,
        mailbox,
        uid_validity,
        uid,
        size,
        ..
    } = message;
    let flags = flags(message).join(" ");
    format!("{day}\t{mailbox}\t{uid_validity}\t{uid}\t{size}\t{flags}")
}

fn object(message: &ExpungedMessage) -> serde_json::Value {
    json!({
        "day": message.day, "mailbox": message.mailbox, "uidvalidity": message.uid_validity, "uid": message.uid,
        "size": message.size, "internal_date": message.internal_date, "flags": flags(message),
        "with_mailbox": message.with_mailbox,
    })
}

/// Flags and keywords as IMAP clients see them.
fn flags(message: &ExpungedMessage) -> Vec<&str> {
    let known = FLAGS.iter().filter(|(bit, _)| message.flags & bit != 0);
    let known = known.map(|(_, name)| *name);
    let keywords = message.keywords.iter().map(String::as_str);
    known.chain(keywords).collect()
}

/// `41,50:60` → ranges.
fn uids(text: &str) -> Result<UidRanges, Error> {
    let range = |part: &str| {
        let (first, last) = part.split_once(':').unwrap_or((part, part));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    let ranges: Option<UidRanges> = text.split(',').map(range).collect();
    ranges
        .filter(|ranges| ranges.len() <= RANGES_PER_FRAME)
        .ok_or_else(|| {
            Error::Usage(format!(
                "\"{text}\" is no set of UIDs, like 41,50:60, with at most {RANGES_PER_FRAME} parts"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_line() {
        let message = ExpungedMessage {
            day: "2026-11-27".into(),
            mailbox: "Archive/2026".into(),
            uid_validity: 7,
            uid: 41,
            with_mailbox: false,
            size: 1234,
            internal_date: 0,
            flags: flag::SEEN | flag::DELETED,
            keywords: vec!["work".into()],
        };
        assert_eq!(
            line(&message),
            "2026-11-27\tArchive/2026\t7\t41\t1234\t\\Seen \\Deleted work"
        );
    }

    #[test]
    fn sets_of_uids_are_read() {
        assert_eq!(uids("41,50:60").unwrap(), [(41, 41), (50, 60)]);
        for text in ["", "x", "1,", "1:", "-1", "1:2:3", "4294967296"] {
            assert!(uids(text).is_err(), "{text}");
        }
    }
}
