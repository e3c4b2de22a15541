//! SEARCH: what is known decides first; only where it does not, messages are read, and no further than needed.

use std::fs::File;
use std::sync::Arc;

use daemon::channel::CallError;
use imap::command::Numbering;
use imap::flag::Flag;
use imap::response::Code;
use imap::search::{Depth, Key, Subject};
use imap::sequence::Ranges;
use imap::write;
use ipc::Refusal;
use ipc::snapshot::Record;
use mail::{date, header, mime};
use tracing::error;

use super::{Desk, Session, desk, no_such_number, out_of_place};
use crate::budget::Budget;
use crate::message::Message;
use crate::render;
use crate::search_text::{self, Needle};
use crate::view::{View, has_flag, number_of};
use crate::wire::Close;
use crate::words::Tagged;

/// Messages opened together.
const BATCH: usize = 32;
/// Known things decided on before others get a turn.
const TURN: usize = 256;
const DAY: i64 = 86_400;

pub(super) async fn search(
    session: &mut Session,
    tag: &str,
    by: Numbering,
    charset: Option<&str>,
    key: Key,
) -> Result<Tagged, Close> {
    if !matches!(charset, None | Some("UTF-8" | "US-ASCII")) {
        return Ok(Tagged::no(
            tag,
            Some(&Code::BadCharset),
            "search in UTF-8 or US-ASCII",
        ));
    }
    let house = Arc::clone(&session.house);
    let Some(mut desk) = desk(session) else {
        return Ok(out_of_place(tag));
    };
    if key.largest_sequence() as usize > desk.view.len() {
        return Ok(no_such_number(tag));
    }
    let last = number_of(desk.view.len()).saturating_sub(1);
    let query = Arc::new(Query {
        key: key.resolve(last, desk.view.last_uid()),
        keywords: desk.view.keywords().to_vec(),
    });
    let found = match find(&mut desk, &query, &house.budget).await {
        Ok(found) => found,
        Err(error) => return Ok(Tagged::refused(tag, &error)),
    };
    let number = |index: &usize| match by {
        Numbering::Sequence => Some(number_of(*index)),
        Numbering::Uid => desk.view.message(*index).map(|message| message.uid),
    };
    let numbers: Vec<u32> = found.iter().filter_map(number).collect();
    write::search(&numbers, &mut desk.wire.out);
    Ok(Tagged::ok(tag, "searched"))
}

/// What is looked for.
struct Query {
    key: Key<Ranges>,
    keywords: Vec<String>,
}

/// The places of all messages that match, in order.
async fn find(
    desk: &mut Desk<'_>,
    query: &Arc<Query>,
    budget: &Budget,
) -> Result<Vec<usize>, CallError> {
    let mut found = Vec::new();
    let mut open = Vec::new();
    for index in 0..desk.view.len() {
        let Some(known) = Known::new(desk.view, index) else {
            continue;
        };
        match query.matches(known, None) {
            Some(true) => found.push(index),
            Some(false) => {}
            None => open.push(known),
        }
        if index % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
    }
    if open.is_empty() {
        return Ok(found);
    }
    for batch in open.chunks(BATCH) {
        found.extend(read_batch(desk, batch.to_vec(), query, budget).await?);
    }
    found.sort_unstable();
    Ok(found)
}

async fn read_batch(
    desk: &Desk<'_>,
    batch: Vec<Known>,
    query: &Arc<Query>,
    budget: &Budget,
) -> Result<Vec<usize>, CallError> {
    let uids = batch.iter().map(|known| known.record.uid).collect();
    let opened = desk.user.mail.open(uids).await?;
    let sizes = batch.iter().map(|known| known.record.size);
    let need = render::need_of_search(query.key.depth());
    let reserved = budget.reserve(render::memory(need, sizes)).await;
    let query = Arc::clone(query);
    let work = move || -> Vec<usize> {
        // Messages that are gone were not opened, and match nothing.
        let read = opened.into_iter().filter_map(|(uid, file)| {
            let known = batch.iter().find(|known| known.record.uid == uid)?;
            query.reads_and_matches(*known, file).then_some(known.index)
        });
        read.collect()
    };
    let found = tokio::task::spawn_blocking(work).await;
    drop(reserved);
    found.map_err(|error| {
        error!(%error, "bug: searching messages panicked");
        CallError::Refused(Refusal::StorageFault)
    })
}

impl Query {
    fn matches(&self, known: Known, text: Option<&mime::Message<'_>>) -> Option<bool> {
        let keywords = &self.keywords;
        self.key.matches(&Candidate {
            known,
            keywords,
            text,
        })
    }

    fn reads_and_matches(&self, known: Known, file: File) -> bool {
        let read = Message::new(file).and_then(|message| match self.key.depth() {
            Depth::Whole => message.read_whole(),
            Depth::Nothing | Depth::Header => message.read_header(),
        });
        match read {
            Ok(text) => self.matches(known, Some(&mime::Message::walk(&text))) == Some(true),
            Err(error) => {
                error!(uid = known.record.uid, %error, "a message cannot be searched");
                false
            }
        }
    }
}

/// What is known of a message without reading it.
#[derive(Clone, Copy)]
struct Known {
    index: usize,
    record: Record,
}

impl Known {
    fn new(view: &View, index: usize) -> Option<Self> {
        let record = *view.message(index)?;
        Some(Self { index, record })
    }
}

/// A message under search, read or not.
struct Candidate<'a> {
    known: Known,
    keywords: &'a [String],
    text: Option<&'a mime::Message<'a>>,
}

impl Subject for Candidate<'_> {
    fn sequence(&self) -> u32 {
        number_of(self.known.index)
    }

    fn uid(&self) -> u32 {
        self.known.record.uid
    }

    fn has_flag(&self, flag: &Flag) -> bool {
        has_flag(self.keywords, &self.known.record, flag)
    }

    fn size(&self) -> u64 {
        self.known.record.size
    }

    // RFC 3501 §6.4.4: time and zone are disregarded; days are those of UTC, in which INTERNALDATE is shown.
    fn received_on(&self) -> i64 {
        self.known.record.internal_date.div_euclid(DAY)
    }

    fn sent_on(&self) -> Option<Option<i64>> {
        let text = self.text?;
        let root = text.parts().first()?;
        let field = header::find(text.header(root), "Date");
        let date = field.and_then(|field| date::parse_rfc5322(field.value));
        Some(date.map(|date| date.local_day()))
    }

    fn header_contains(&self, name: &str, text: &str) -> Option<bool> {
        let needle = Needle::new(text);
        Some(search_text::header_contains(self.text?, name, &needle))
    }

    fn body_contains(&self, text: &str) -> Option<bool> {
        Some(search_text::body_contains(self.text?, &Needle::new(text)))
    }

    fn text_contains(&self, text: &str) -> Option<bool> {
        Some(search_text::text_contains(self.text?, &Needle::new(text)))
    }
}
