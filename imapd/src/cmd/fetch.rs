//! FETCH: in batches, so that memory stays the same however much is asked for.

use std::fs::File;
use std::io;
use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;
use std::vec::IntoIter;

use daemon::channel::CallError;
use imap::command::{FetchItem, Numbering};
use imap::esearch::Window;
use imap::response::Code;
use imap::sequence::SequenceSet;
use imap::sync::{Awareness, ChangedSince};
use imap::write;
use ipc::acl::Rights;
use ipc::cache::{CacheKind, MESSAGES_PER_SHARD};
use ipc::session::FlagChange;
use ipc::snapshot::{Record, flag};
use tracing::{error, warn};

use super::beside::{Beside, Wanted};
use super::limit::{self, common, in_window};
use super::sending::send;
use super::{Desk, Session, desk, out_of_place};
use crate::ask::MailSession;
use crate::budget::Budget;
use crate::cache;
use crate::cache::shard::{self, Entries, How, Shard};
use crate::cache::summary::Summary;
use crate::content::UnknownEncoding;
use crate::message::Message;
use crate::render::{self, Facts, Job, Need, Piece, Rendered};
use crate::view::number_of;
use crate::wire::Close;
use crate::words::Tagged;

/// Messages gone through together.
const TOGETHER: usize = 4000;
/// Messages opened together; the next of them are opened while these are sent.
const BATCH: usize = 32;
/// No more are opened together if they have so many bytes.
const BATCH_BYTES: u64 = 8 << 20;
/// Files of the cache borrowed together.
const SHARDS: usize = 8;
/// No more messages are shown before those are sent whose answers take up so much memory.
const GROUP: usize = 4 << 20;

/// What went wrong with single messages.
#[derive(Debug, Default)]
struct Mishaps {
    gone: bool,
    unreadable: bool,
    undecodable: bool,
}

impl Mishaps {
    fn note_unreadable(&mut self, uid: u32, error: &io::Error) {
        if error
            .get_ref()
            .is_some_and(|inner| inner.is::<UnknownEncoding>())
        {
            self.undecodable = true;
            return;
        }
        error!(uid, %error, "a message cannot be shown");
        self.unreadable = true;
    }

    /// The last line of the answer.
    fn conclude(&self, tag: &str) -> Tagged {
        if self.unreadable {
            let code = Code::ServerBug;
            return Tagged::no(tag, Some(&code), "some messages could not be read");
        }
        // RFC 3516 §4.3.
        if self.undecodable {
            let text = "some parts have a transfer encoding nobody here knows, fetch BODY instead";
            return Tagged::no(tag, Some(&Code::UnknownCte), text);
        }
        if self.gone {
            return Tagged::ok_with(tag, &Code::ExpungeIssued, "some messages are gone");
        }
        Tagged::ok(tag, "fetched")
    }
}

/// Of which of the messages FETCH is.
pub(super) struct Modifiers {
    pub(super) changed_since: Option<ChangedSince>,
    pub(super) partial: Option<Window>,
}

pub(super) async fn fetch(
    session: &mut Session,
    tag: &str,
    by: Numbering,
    set: &SequenceSet,
    mut items: Vec<FetchItem>,
    Modifiers {
        changed_since,
        partial,
    }: Modifiers,
) -> Result<Tagged, Close> {
    // RFC 3501 §6.4.8: UID FETCH answers with UIDs, asked or not; RFC 9586 §3.3: UIDFETCH begins with them.
    let says_uid = by == Numbering::Uid && !session.dialect.uid_only;
    if says_uid && !items.contains(&FetchItem::Uid) {
        items.insert(0, FetchItem::Uid);
    }
    // RFC 7162 §3.1.4.1: CHANGEDSINCE asks for MODSEQ, too.
    if changed_since.is_some() && !items.contains(&FetchItem::ModSeq) {
        items.push(FetchItem::ModSeq);
    }
    if changed_since.is_some_and(|since| since.vanished) && session.awareness < Awareness::QResync {
        session.count_mistake()?;
        return Ok(Tagged::bad(tag, "ENABLE QRESYNC first"));
    }
    if items.contains(&FetchItem::ModSeq) {
        session.learn(Awareness::CondStore);
    }
    let house = Arc::clone(&session.house);
    let Some(mut desk) = desk(session) else {
        return Ok(out_of_place(tag));
    };
    let most = desk.user.limits.any;
    if let Some(most) = most.filter(|most| partial.is_some_and(|window| window.width() > *most)) {
        return Ok(limit::too_many(tag, most));
    }
    let places = match desk.pick(by, set).await {
        Ok(places) => places,
        Err(unpicked) => return Ok(unpicked.tagged(tag)),
    };
    let places = match partial {
        Some(window) => in_window(places, window),
        None => places,
    };
    // Pages on which nothing changed since then are not read.
    let mut places = match changed_since {
        Some(since) => common(&places, &desk.view.changed_since(since.modseq)),
        None => places,
    };
    let cut = match desk.cut(&mut places, most).await {
        Ok(cut) => cut,
        Err(error) => return Ok(Tagged::refused(tag, &error)),
    };
    if let Some(ChangedSince {
        modseq,
        vanished: true,
    }) = changed_since
    {
        match desk.gone_since(modseq, Some(set)).await {
            Ok(gone) => write::vanished(true, gone.as_slice(), &mut desk.wire.out),
            Err(error) => return Ok(Tagged::refused(tag, &error)),
        }
    }
    let mut showing = Showing {
        desk,
        beside: Beside::default(),
        items: items.into(),
        budget: &house.budget,
        mishaps: Mishaps::default(),
    };
    let mut places = places.into_iter().flatten().peekable();
    loop {
        let mut some = match showing.desk.next_some(&mut places, TOGETHER).await {
            Ok(some) => some,
            Err(error) => return Ok(Tagged::refused(tag, &error)),
        };
        if some.is_empty() {
            let tagged = showing.mishaps.conclude(tag);
            return Ok(limit::told(cut, tagged, showing.desk.wire));
        }
        if let Some(since) = changed_since {
            let has_changed = |index: &usize| {
                let message = showing.desk.view.message(*index);
                message.is_none_or(|message| message.modseq > since.modseq)
            };
            some.retain(has_changed);
        }
        if let Err(error) = showing.show(&some).await? {
            return Ok(Tagged::refused(tag, &error));
        }
    }
}

/// Shows messages of which the client was just told. What cannot be shown is left out: it can ask.
pub(super) async fn show(
    desk: Desk<'_>,
    budget: &Budget,
    places: Range<usize>,
    items: Vec<FetchItem>,
) -> Result<(), Close> {
    let mut showing = Showing {
        desk,
        beside: Beside::default(),
        items: items.into(),
        budget,
        mishaps: Mishaps::default(),
    };
    let mut places = places.peekable();
    loop {
        let some = showing.desk.next_some(&mut places, TOGETHER).await;
        let shown = match some {
            Ok(some) if some.is_empty() => return Ok(()),
            Ok(some) => showing.show(&some).await?,
            Err(error) => Err(error),
        };
        if let Err(error) = shown {
            warn!(%error, "new messages cannot be shown unasked");
            return Ok(());
        }
    }
}

/// A FETCH under way.
struct Showing<'a> {
    desk: Desk<'a>,
    /// Of the messages that are shown now.
    beside: Beside,
    items: Arc<[FetchItem]>,
    budget: &'a Budget,
    mishaps: Mishaps,
}

/// A message to be shown, and where the client has it.
#[derive(Debug)]
struct Place<'e> {
    uid: u32,
    index: usize,
    /// What is kept about it, if that is all that is needed.
    kept: Option<Summary<'e>>,
}

/// How far it came: deliverd may refuse, and the connection may end.
type Shown = Result<Result<(), CallError>, Close>;

impl Showing<'_> {
    /// Shows the messages at some places.
    async fn show(&mut self, some: &[usize]) -> Shown {
        let wanted = Wanted::of_fetch(&self.items);
        match self.desk.beside(some, wanted).await {
            Ok(beside) => self.beside = beside,
            Err(error) => return Ok(Err(error)),
        }
        if render::is_summary(&self.items) {
            return self.show_summaries(some).await;
        }
        if render::need(&self.items) == Need::Nothing {
            return self.show_known(some).await;
        }
        let places = some.iter().filter_map(|index| self.place(*index));
        let places: Vec<Place<'_>> = places.collect();
        self.show_places(&places).await
    }

    /// What is known of a message.
    fn facts(&self, index: usize, record: &Record) -> Facts {
        let (by, number) = match self.desk.view.dialect.uid_only {
            true => (Numbering::Uid, record.uid),
            false => (Numbering::Sequence, number_of(index)),
        };
        Facts {
            by,
            number,
            uid: record.uid,
            internal_date: record.internal_date,
            size: record.size,
            modseq: record.modseq,
            email_id: self.beside.email_id(record.uid),
            save_date: self.beside.save_date(record.uid),
        }
    }

    /// A message about which nothing is kept, as far as that is known.
    fn place<'e>(&mut self, index: usize) -> Option<Place<'e>> {
        let message = self.desk.view.message(index);
        self.mishaps.gone |= message.is_none();
        message.map(|message| Place {
            uid: message.uid,
            index,
            kept: None,
        })
    }

    /// Shows what is known of messages without looking at them.
    async fn show_known(&mut self, some: &[usize]) -> Shown {
        for index in some {
            self.write(*index, None);
            self.desk.wire.flush_if_full().await?;
        }
        Ok(Ok(()))
    }

    /// Shows a message without opening it.
    fn write(&mut self, index: usize, summary: Option<&Summary<'_>>) {
        let Some(record) = self.desk.view.message(index).copied() else {
            self.mishaps.gone = true;
            return;
        };
        let facts = self.facts(index, &record);
        if facts.email_id.is_none() && self.items.contains(&FetchItem::EmailId) {
            self.mishaps.gone = true;
            return;
        }
        let Desk { wire, view, .. } = &mut self.desk;
        let flags = |out: &mut Vec<u8>| view.write_flags_of(&record, out);
        let written = render::write_known(&facts, &self.items, summary, &flags, &mut wire.out);
        if let Err(error) = written {
            self.mishaps.note_unreadable(record.uid, &error);
        } else if self.items.contains(&FetchItem::Flags) {
            view.regard_as_told(record.uid);
        }
    }

    /// Shows messages by what is kept about them. Those of which nothing is, are opened.
    async fn show_summaries(&mut self, some: &[usize]) -> Shown {
        let mut entries = Entries::default();
        let places = some.iter().filter_map(|index| self.place(*index));
        let places: Vec<Place<'_>> = places.collect();
        let mut rest = places.as_slice();
        while !rest.is_empty() {
            let (mut some, others) = rest.split_at(within(rest, SHARDS));
            rest = others;
            let uids: Arc<[u32]> = some.iter().map(|place| place.uid).collect();
            let (mail, validity) = (&self.desk.user.mail, self.desk.view.uid_validity());
            let kept = cache::borrow(mail, CacheKind::Summary, validity, uids.iter().copied());
            let kept = Arc::new(kept.await.shards);
            while !some.is_empty() {
                let done = uids.len() - some.len();
                let count = look_up(&kept, &uids, done, &mut entries, self.budget).await;
                let (mut looked_up, others) = some.split_at(count);
                some = others;
                // As a rule all are kept. Each is sent while it is in the processor's cache.
                while let Some((place, behind)) = looked_up.split_first()
                    && let Some(summary) = self.find(place, &entries)
                {
                    self.write(place.index, Some(&summary));
                    self.desk.wire.flush_if_full().await?;
                    looked_up = behind;
                }
                if render::need(&self.items) == Need::Nothing {
                    // Nothing is opened for what is wanted only if it is there.
                    for place in looked_up {
                        let summary = self.find(place, &entries);
                        self.write(place.index, summary.as_ref());
                        self.desk.wire.flush_if_full().await?;
                    }
                    continue;
                }
                let looked_up = looked_up.iter().map(|place| Place {
                    kept: self.find(place, &entries),
                    ..*place
                });
                let looked_up: Vec<Place<'_>> = looked_up.collect();
                if let Err(error) = self.show_places(&looked_up).await? {
                    return Ok(Err(error));
                }
            }
        }
        Ok(Ok(()))
    }

    /// What is kept about a message, if that is all that is needed.
    fn find<'e>(&self, place: &Place<'_>, entries: &'e Entries) -> Option<Summary<'e>> {
        let message = self.desk.view.message(place.index)?;
        let summary = Summary::decode(entries.get(place.uid)?, message.size)?;
        render::suffices(&summary, &self.items).then_some(summary)
    }

    /// Shows messages by what is kept about them, or from their files. While some are shown the next are opened already.
    async fn show_places(&mut self, places: &[Place<'_>]) -> Shown {
        let mail = &self.desk.user.mail;
        let (mut batch, mut rest) = self.batch(places);
        let mut opened = open(mail, batch).await;
        while !batch.is_empty() {
            let files = match opened {
                Ok(files) => files,
                Err(error) => return Ok(Err(error)),
            };
            let (next, others) = self.batch(rest);
            let opening = async { Ok::<_, Close>(open(mail, next).await) };
            let showing = self.show_batch(batch, files);
            let (ahead, ()) = tokio::try_join!(opening, showing)?;
            opened = ahead;
            (batch, rest) = (next, others);
            self.desk.give_many().await?;
        }
        Ok(Ok(()))
    }

    /// Cuts off the next messages that are opened together, so that their descriptors and bytes are few, with those between them that
    /// need not be.
    fn batch<'p, 'e>(&self, places: &'p [Place<'e>]) -> (&'p [Place<'e>], &'p [Place<'e>]) {
        let (mut files, mut bytes) = (0, 0);
        let is_enough = |place: &Place<'_>| {
            if place.kept.is_some() {
                return false;
            }
            let is_enough = files == BATCH || bytes >= BATCH_BYTES;
            files += 1;
            let message = self.desk.view.message(place.index);
            bytes += message.map_or(0, |message| message.size);
            is_enough
        };
        let end = places.iter().position(is_enough);
        places.split_at(end.unwrap_or(places.len()))
    }

    async fn show_batch(
        &mut self,
        batch: &[Place<'_>],
        files: Vec<(u32, File)>,
    ) -> Result<(), Close> {
        let seen = self.mark_seen(batch).await;
        let mut files = files.into_iter().peekable();
        for some in batch.chunk_by(|a, b| a.kept.is_some() == b.kept.is_some()) {
            if some.first().is_some_and(|place| place.kept.is_none()) {
                let jobs = self.jobs(some, &mut files, &seen);
                self.show_jobs(jobs).await?;
                continue;
            }
            for place in some {
                self.write(place.index, place.kept.as_ref());
                self.desk.wire.flush_if_full().await?;
            }
        }
        Ok(())
    }

    /// What is to be shown of messages whose files come next.
    fn jobs(
        &mut self,
        some: &[Place<'_>],
        files: &mut Peekable<impl Iterator<Item = (u32, File)>>,
        seen: &[u32],
    ) -> Vec<Job> {
        let tells_flags = self.items.contains(&FetchItem::Flags);
        let tells_email_id = self.items.contains(&FetchItem::EmailId);
        let mut jobs = Vec::with_capacity(some.len());
        for place in some {
            let Place { uid, index, .. } = *place;
            let file = files.next_if(|(found, _)| *found == uid);
            let record = self.desk.view.message(index).copied();
            let (Some((_, file)), Some(record)) = (file, record) else {
                self.mishaps.gone = true;
                continue;
            };
            let facts = self.facts(index, &record);
            if facts.email_id.is_none() && tells_email_id {
                self.mishaps.gone = true;
                continue;
            }
            let message = match Message::new(file) {
                Ok(message) => message,
                Err(error) => {
                    self.mishaps.note_unreadable(uid, &error);
                    continue;
                }
            };
            let tell_flags = seen.contains(&uid);
            let mut flags = Vec::new();
            if tells_flags || tell_flags {
                self.desk.view.write_flags_of(&record, &mut flags);
                self.desk.view.regard_as_told(uid);
            }
            // RFC 7162 §3.1: whose client knows of sequences hears of the one that came with \Seen.
            let is_aware = self.desk.view.awareness >= Awareness::CondStore;
            if tell_flags && is_aware && !self.items.contains(&FetchItem::ModSeq) {
                flags.extend_from_slice(b" MODSEQ ");
                write::modseq(record.modseq, &mut flags);
            }
            jobs.push(Job {
                facts,
                flags,
                tell_flags,
                message,
            });
        }
        jobs
    }

    // RFC 3501 §6.4.5, RFC 3516 §4.2: reading a section other than with PEEK sets \Seen, and the change is told with it.
    async fn mark_seen(&mut self, batch: &[Place<'_>]) -> Vec<u32> {
        let desk = &mut self.desk;
        // RFC 4314 §4.
        let may_mark = !desk.view.read_only && desk.view.rights.has(Rights::SEEN);
        if !may_mark || !self.items.iter().any(FetchItem::marks_seen) {
            return Vec::new();
        }
        let unseen: Vec<u32> = batch
            .iter()
            .filter_map(|place| desk.view.message(place.index))
            .filter(|message| message.flags & flag::SEEN == 0)
            .map(|message| message.uid)
            .collect();
        if unseen.is_empty() {
            return unseen;
        }
        let ranges = unseen.iter().map(|uid| (*uid, *uid)).collect();
        let heard = desk.view.heard();
        let stored = desk.user.mail.store_flags(
            ranges,
            FlagChange::Add,
            flag::SEEN,
            Vec::new(),
            None,
            heard,
        );
        // The message is shown all the same: not being able to note that it was read is no reason to withhold it.
        if let Err(error) = stored.await {
            warn!(%error, "messages could not be marked as seen");
        }
        desk.note_events();
        let now_seen = |uid: &u32| desk.view.has_changed(*uid);
        unseen.into_iter().filter(now_seen).collect()
    }

    async fn show_jobs(&mut self, jobs: Vec<Job>) -> Result<(), Close> {
        let need = render::need(&self.items);
        let mut jobs = jobs.into_iter();
        while !jobs.as_slice().is_empty() {
            let sizes = jobs.as_slice().iter().map(|job| job.facts.size);
            let parts = render::memory_of_parts(&self.items, sizes.clone());
            let memory = render::memory(need, sizes).saturating_add(parts);
            let reserved = self.budget.reserve(memory).await;
            let items = Arc::clone(&self.items);
            let shown = tokio::task::spawn_blocking(move || show_some(jobs, &items)).await;
            drop(reserved);
            let shown = match shown {
                Ok((shown, rest)) => {
                    jobs = rest;
                    shown
                }
                Err(error) => {
                    error!(%error, "bug: showing messages panicked");
                    self.mishaps.unreadable = true;
                    return Ok(());
                }
            };
            for (uid, sheet) in shown {
                match sheet {
                    Ok(Rendered { pieces, note }) => {
                        send(self.desk.wire, pieces).await?;
                        let note = note.map(|note| (uid, note));
                        self.desk.view.notes.add(CacheKind::Summary, note);
                    }
                    Err(error) => self.mishaps.note_unreadable(uid, &error),
                }
            }
        }
        Ok(())
    }
}

/// How many of `places` lie in the first so many shards of them.
fn within(places: &[Place<'_>], shards: usize) -> usize {
    let shard = |place: &Place<'_>| place.uid / MESSAGES_PER_SHARD;
    let shards = places.chunk_by(|a, b| shard(a) == shard(b)).take(shards);
    shards.map(<[Place<'_>]>::len).sum()
}

/// Opens those messages of a batch that have to be; those that are gone are missing.
async fn open(mail: &MailSession, batch: &[Place<'_>]) -> Result<Vec<(u32, File)>, CallError> {
    let wanted = batch.iter().filter(|place| place.kept.is_none());
    let wanted: Vec<u32> = wanted.map(|place| place.uid).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    mail.open(wanted).await
}

/// Reads entries about the first of `uids` from `start` on, on a thread that waits for the disk only where it must; returns about how
/// many it looked.
async fn look_up(
    kept: &Arc<Vec<Shard>>,
    uids: &Arc<[u32]>,
    start: usize,
    entries: &mut Entries,
    budget: &Budget,
) -> usize {
    let wanted = uids.get(start..).unwrap_or_default();
    if let Some(count) = shard::read(kept, wanted, entries, How::InMemory) {
        return count;
    }
    let (kept, uids) = (Arc::clone(kept), Arc::clone(uids));
    let mut read = std::mem::take(entries);
    let reserved = budget.reserve(shard::MEMORY).await;
    let read = tokio::task::spawn_blocking(move || {
        let wanted = uids.get(start..).unwrap_or_default();
        let count = shard::read(&kept, wanted, &mut read, How::Waiting);
        (count, read)
    });
    let read = read.await;
    drop(reserved);
    match read {
        Ok((count, read)) => {
            *entries = read;
            count.unwrap_or(wanted.len())
        }
        Err(error) => {
            error!(%error, "bug: reading a cache panicked");
            wanted.len()
        }
    }
}

type Outcome = (u32, io::Result<Rendered>);

/// Shows messages, until their answers fill [`GROUP`]; gives back those that are left.
fn show_some(mut jobs: IntoIter<Job>, items: &[FetchItem]) -> (Vec<Outcome>, IntoIter<Job>) {
    let (mut outcomes, mut held) = (Vec::new(), 0);
    while held < GROUP
        && let Some(job) = jobs.next()
    {
        let shown = render::render(&job, items);
        let pieces = shown.iter().flat_map(|shown| &shown.pieces);
        held += pieces.map(Piece::held).sum::<usize>();
        outcomes.push((job.facts.uid, shown));
    }
    (outcomes, jobs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use imap::command::Command;
    use std::io::Write;

    #[test]
    fn answers_wait_for_those_before_them_to_be_sent() {
        let mut file = tempfile::tempfile().unwrap();
        let field = format!("X: {}\r\n", "y".repeat(2000));
        file.write_all(field.repeat(500).as_bytes()).unwrap();
        let message = Message::new(file).unwrap();
        let job = |uid| Job {
            facts: Facts {
                by: Numbering::Sequence,
                number: uid,
                uid,
                internal_date: 0,
                size: message.size(),
                modseq: 1,
                email_id: None,
                save_date: None,
            },
            flags: vec![],
            tell_flags: false,
            message: message.clone(),
        };
        let item = "BODY.PEEK[HEADER.FIELDS (X)]";
        let line = format!("a FETCH 1 ({})", [item; 5].join(" "));
        let Command::Fetch { items, .. } = imap::parse::request(line.as_bytes()).unwrap().command
        else {
            panic!("no fetch");
        };
        let jobs: Vec<Job> = (1..=5).map(job).collect();
        let (shown, rest) = show_some(jobs.into_iter(), &items);
        assert!(shown.iter().all(|(_, pieces)| pieces.is_ok()));
        assert_eq!((shown.len(), rest.as_slice().len()), (1, 4));
    }
}
