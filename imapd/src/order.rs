//! What SORT and THREAD compare of a message.

use std::borrow::Cow;

use imap::casemap;
use imap::headline::{Address, Headline, Text};
use imap::sort::{Criterion, Place, SortKey};
use imap::subject::BaseSubject;
use imap::thread::{Algorithm, Letter};
use ipc::snapshot::Record;
use mail::date;

use crate::cache::summary::{Summary, mark};
use crate::search_text;

/// Where a message comes among others; `score` says how well it matches, and `summary` is only needed if a criterion [`is in the header`](SortKey::is_in_header).
#[must_use]
pub fn place(
    criteria: &[Criterion],
    record: &Record,
    summary: Option<&Summary<'_>>,
    score: u8,
) -> Box<[u8]> {
    let headline = headline(summary);
    let mut place = Place::default();
    for Criterion { key, reverse } in criteria {
        let text = match key {
            SortKey::Arrival => {
                place.push_number(record.internal_date, *reverse);
                continue;
            }
            SortKey::Date => {
                place.push_number(sent(&headline, record), *reverse);
                continue;
            }
            SortKey::Size => {
                let size = i64::try_from(record.size).unwrap_or(i64::MAX);
                place.push_number(size, *reverse);
                continue;
            }
            // RFC 6203 §6: the highest comes first.
            SortKey::Relevancy => {
                place.push_number(i64::from(score), !reverse);
                continue;
            }
            SortKey::Subject => base_subject(&headline).text,
            SortKey::From => text(headline.from.mailbox.as_ref()),
            SortKey::To => text(headline.to.mailbox.as_ref()),
            SortKey::Cc => text(headline.cc.mailbox.as_ref()),
            SortKey::DisplayFrom => display(&headline.from),
            SortKey::DisplayTo => display(&headline.to),
        };
        place.push_text(&casemap::fold(&text), *reverse);
    }
    place.into_bytes()
}

/// A message to be put into a thread, told by `number`.
#[must_use]
pub fn letter(algorithm: Algorithm, number: u32, record: &Record, summary: &Summary<'_>) -> Letter {
    let headline = headline(Some(summary));
    let BaseSubject { text, is_reply } = base_subject(&headline);
    let subject = match casemap::fold(&text) {
        text if text.is_empty() => 0,
        text => u128::from_be_bytes(mark(text.as_bytes())),
    };
    let date = match algorithm {
        Algorithm::OrderedSubject | Algorithm::References => sent(&headline, record),
        Algorithm::Refs => record.internal_date,
    };
    Letter {
        number,
        is_reply,
        date,
        subject,
    }
}

fn headline<'a>(summary: Option<&'a Summary<'_>>) -> Headline<'a> {
    let read = summary.and_then(|summary| Headline::read(summary.envelope()));
    read.unwrap_or_default()
}

// RFC 5256 §2.2: the INTERNALDATE where the Date field is missing or cannot be read.
fn sent(headline: &Headline<'_>, record: &Record) -> i64 {
    let date = headline.date.as_deref().and_then(date::parse_rfc5322);
    date.map_or(record.internal_date, |date| date.unix)
}

fn base_subject(headline: &Headline<'_>) -> BaseSubject {
    let subject = headline.subject.as_deref().unwrap_or_default();
    BaseSubject::of(&search_text::encoded_words(subject))
}

fn text(text: Option<&Cow<'_, [u8]>>) -> String {
    let text = text.map(|text| String::from_utf8_lossy(text).into_owned());
    text.unwrap_or_default()
}

// RFC 5957 §3: the name, or else the address as far as there is one.
fn display(address: &Address<'_>) -> String {
    let is_something = |text: &&Text<'_>| text.as_ref().is_some_and(|text| !text.is_empty());
    let name = address.name.as_deref().unwrap_or_default();
    let name = search_text::encoded_words(name);
    if !name.is_empty() {
        return name;
    }
    let mailbox = text(address.mailbox.as_ref());
    match Some(&address.host).filter(is_something) {
        Some(host) => format!("{mailbox}@{}", text(host.as_ref())),
        None => mailbox,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::summary::Extent;
    use mail::mime::Message;

    const RECORD: Record = Record {
        uid: 1,
        flags: 0,
        keywords: 0,
        modseq: 1,
        internal_date: 1000,
        size: 70,
    };

    fn of<T>(header: &str, look: impl Fn(&Summary<'_>) -> T) -> T {
        let message = format!("{header}\r\n\r\n");
        look(&Summary::of(
            &Message::walk(message.as_bytes()),
            Extent::Header,
            70,
        ))
    }

    fn text_of(key: SortKey, header: &str) -> String {
        let criteria = [Criterion {
            key,
            reverse: false,
        }];
        let place = of(header, |summary| {
            place(&criteria, &RECORD, Some(summary), 1)
        });
        let (end, text) = place.split_last().unwrap();
        assert_eq!(*end, 0);
        str::from_utf8(text).unwrap().to_owned()
    }

    #[test]
    fn texts_are_compared_decoded_and_in_any_case() {
        let subject = |text: &str| text_of(SortKey::Subject, &format!("Subject: {text}"));
        assert_eq!(
            subject("=?utf-8?q?Re=3A?= [x] =?iso-8859-1?q?GR=DCN?="),
            "GRU\u{308}N"
        );
        assert_eq!(subject("[fwd: A\r\n\tb]"), "A B");
        assert_eq!(text_of(SortKey::Subject, "X: y"), "");
    }

    // RFC 5256 §3, RFC 5957 §3.
    #[test]
    fn of_addresses_the_first_counts() {
        let header = "From: =?utf-8?q?=C3=84nne?= <B@x>, a@y\r\nTo: c@Z\r\nCc: group: d@z;";
        for (key, expected) in [
            (SortKey::From, "B"),
            (SortKey::DisplayFrom, "A\u{308}NNE"),
            (SortKey::To, "C"),
            (SortKey::DisplayTo, "C@Z"),
            (SortKey::Cc, "GROUP"),
        ] {
            assert_eq!(text_of(key, header), expected);
            assert_eq!(text_of(key, "X: y"), "");
        }
        assert_eq!(text_of(SortKey::DisplayTo, "To: friends: a@x;"), "FRIENDS");
        assert_eq!(text_of(SortKey::DisplayTo, "To: \"\" <a@x>"), "A@X");
        assert_eq!(text_of(SortKey::DisplayTo, "To: local"), "LOCAL");
    }

    #[test]
    fn a_message_without_a_date_was_sent_when_it_came() {
        let date = |algorithm, header| {
            of(header, |summary| {
                letter(algorithm, 1, &RECORD, summary).date
            })
        };
        let some = "Date: 1 Jan 1970 01:00:10 +0100";
        assert_eq!(date(Algorithm::References, some), 10);
        assert_eq!(date(Algorithm::Refs, some), 1000);
        assert_eq!(date(Algorithm::References, "Date: whenever"), 1000);
        assert_eq!(date(Algorithm::OrderedSubject, "X: y"), 1000);
    }

    #[test]
    fn subjects_that_are_the_same_are_seen_to_be() {
        let letter = |header| {
            let found = of(header, |summary| {
                letter(Algorithm::References, 1, &RECORD, summary)
            });
            (found.subject, found.is_reply)
        };
        assert_eq!(letter("Subject: re: GRÜSSE").0, letter("Subject: grüsse").0);
        assert_ne!(letter("Subject: a").0, letter("Subject: b").0);
        assert_eq!(letter("Subject: Re:"), (0, true));
        assert!(!letter("Subject: a").1);
    }

    #[test]
    fn a_megabyte_of_header_leaves_a_short_place() {
        let key = SortKey::Subject;
        let criteria = [Criterion { key, reverse: true }];
        for text in ["x", "=?utf-8?q?=C3=A4?= ", "[fwd: ", "re: "] {
            let header = format!("Subject: {}", text.repeat((1 << 20) / text.len()));
            let place = of(&header, |summary| {
                place(&criteria, &RECORD, Some(summary), 1)
            });
            assert!(place.len() <= imap::sort::MAX_PLACE);
        }
    }
}
