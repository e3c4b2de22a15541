//! Messages that the holder of a mail session appends: alone, or several together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daemon::channel::Answered;
use ipc::Refusal;
use ipc::acl::Rights;
use ipc::delivery::MessageHandle;
use ipc::session::{APPENDS_TOGETHER, KEYWORDS_TOGETHER, SessionAnswer};
use ipc::snapshot::flag;
use tracing::info;

use super::desk::Desk;
use super::reach::Reached;
use super::{House, cache};
use crate::clock;
use crate::store::{Hold, Incoming, Mailbox, Marks, NewMessage, Owner, Parked, Totals, ranges};

/// Messages one session may append at once.
const MAX_APPENDS: usize = 8;

/// What a session appends.
pub(super) struct Appends {
    pub(super) desk: Arc<Desk<Append>>,
    kept: Mutex<Option<Kept>>,
}

/// Where an opened message shall go, and the room that is set aside for it.
pub(super) struct Append {
    reached: Reached,
    room: Vec<Hold>,
}

/// Messages that came whole and wait for others.
struct Kept {
    reached: Reached,
    messages: Vec<Parked>,
}

/// A message of which all bytes were written, and what it is to be.
pub(super) struct Finished {
    handle: MessageHandle,
    message: NewMessage,
}

impl Finished {
    pub(super) fn new(
        handle: MessageHandle,
        size: u64,
        flags: u8,
        keywords: Vec<String>,
        internal_date: Option<i64>,
    ) -> Self {
        let message = new_message(size, flags, keywords, internal_date);
        Self { handle, message }
    }
}

impl Appends {
    pub(super) fn new(house: &Arc<House>) -> Self {
        Self {
            desk: Desk::new(Arc::clone(house), MAX_APPENDS),
            kept: Mutex::new(None),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message when its last byte has come, if it may still come into its mailbox, with the flags it may have there.
    async fn close(
        &self,
        house: &Arc<House>,
        finished: Finished,
    ) -> Result<(Incoming, Reached, NewMessage), Refusal> {
        let Finished {
            handle,
            mut message,
        } = finished;
        let (mut incoming, append) = self.desk.close(handle, message.size).await?;
        incoming.room = append.room;
        let reached = append.reached;
        if reached.visit.is_some() {
            let asked = reached.clone();
            let rights = house
                .work(move |house| asked.need(house, Rights::INSERT))
                .await?;
            restrict(&mut message, rights);
        }
        Ok((incoming, reached, message))
    }

    /// Whether one more may be kept beside those that are.
    fn check_kept(&self, mailbox: &Arc<Mailbox>, message: &NewMessage) -> Result<(), Refusal> {
        let kept = self.kept();
        let Some(kept) = &*kept else { return Ok(()) };
        if !Arc::ptr_eq(&kept.reached.mailbox, mailbox) {
            return Err(Refusal::Invalid(
                "messages are appended together to one mailbox".into(),
            ));
        }
        if kept.messages.len() >= APPENDS_TOGETHER {
            return Err(Refusal::Invalid(format!(
                "at most {APPENDS_TOGETHER} messages are appended together"
            )));
        }
        let known: usize = kept.messages.iter().map(Parked::keyword_bytes).sum();
        let more: usize = message.keywords.iter().map(String::len).sum();
        if known + more > KEYWORDS_TOGETHER {
            return Err(Refusal::TooManyKeywords);
        }
        Ok(())
    }
}

/// Leaves a message the flags that it may have.
// RFC 4314 §4: an APPEND does not fail for flags that may not be set.
fn restrict(message: &mut NewMessage, rights: Rights) {
    let marks = Marks::of(rights);
    message.flags &= marks.flags;
    if !marks.keywords {
        message.keywords.clear();
    }
}

/// Makes a message that came in one piece durable and visible. What fits into a frame is smaller than the smallest limit that a
/// configuration may set.
pub(super) async fn whole(
    house: &Arc<House>,
    (reached, rights): (Reached, Rights),
    bytes: Vec<u8>,
    mut message: NewMessage,
) -> Result<Answered<SessionAnswer>, Refusal> {
    restrict(&mut message, rights);
    let size = bytes.len() as u64;
    let (uid_validity, uid) = house
        .work(move |house| {
            let incoming = house.store.begin_with(bytes);
            house.store.append(incoming, &reached.mailbox, message)
        })
        .await?;
    info!(size, uid, "appended");
    Ok(Answered::plain(SessionAnswer::Appended {
        uid_validity,
        uid,
    }))
}

/// What an appended message of so many bytes is to be.
pub(super) fn new_message(
    size: u64,
    flags: u8,
    keywords: Vec<String>,
    internal_date: Option<i64>,
) -> NewMessage {
    NewMessage {
        flags: flags & flag::ALL,
        keywords,
        size,
        internal_date: internal_date.unwrap_or_else(clock::seconds),
    }
}

/// Begins a message for a mailbox.
pub(super) async fn open(
    house: &Arc<House>,
    appends: &Appends,
    owner: Owner,
    reached: Reached,
    size: u64,
) -> Result<Answered<SessionAnswer>, Refusal> {
    if size > house.max_kept_size {
        return Err(Refusal::MessageTooLarge);
    }
    let room = house
        .work(move |house| house.store.hold(&[owner], Totals::message(size)))
        .await?;
    let (handle, stream) = appends.desk.open(Append { reached, room })?;
    let answer = SessionAnswer::AppendOpened(handle);
    Ok(Answered::with(answer, vec![stream]))
}

/// Makes room for more of a message.
pub(super) async fn extend(
    house: &Arc<House>,
    appends: &Appends,
    message: MessageHandle,
    size: u64,
) -> Result<Answered<SessionAnswer>, Refusal> {
    if size > house.max_kept_size {
        return Err(Refusal::MessageTooLarge);
    }
    let take = |append: &mut Append| Ok(std::mem::take(&mut append.room));
    let held = appends.desk.with(message, take)?;
    let room = house
        .work(move |house| house.store.extend(held, Totals::message(size)))
        .await?;
    appends.desk.with(message, |append| {
        append.room = room;
        Ok(())
    })?;
    Ok(Answered::plain(SessionAnswer::Done))
}

/// Makes a message durable and visible; then the one it replaces goes.
pub(super) async fn commit(
    house: &Arc<House>,
    appends: &Appends,
    finished: Finished,
    replaces: Option<(Arc<Mailbox>, u32)>,
) -> Result<Answered<SessionAnswer>, Refusal> {
    let (incoming, reached, message) = appends.close(house, finished).await?;
    let mailbox = reached.mailbox;
    let size = message.size;
    let source = replaces.as_ref().map(|(source, _)| Arc::clone(source));
    let (uid_validity, uid) = house
        .work(move |house| match replaces {
            None => house.store.append(incoming, &mailbox, message),
            Some((source, old)) => house
                .store
                .replace(incoming, &mailbox, message, (&source, old)),
        })
        .await?;
    if let Some(source) = source {
        cache::forget(house, source);
    }
    info!(size, uid, "appended");
    Ok(Answered::plain(SessionAnswer::Appended {
        uid_validity,
        uid,
    }))
}

/// Keeps a message for [`commit_kept`].
pub(super) async fn keep(
    house: &Arc<House>,
    appends: &Appends,
    finished: Finished,
) -> Result<Answered<SessionAnswer>, Refusal> {
    let (incoming, reached, message) = appends.close(house, finished).await?;
    appends.check_kept(&reached.mailbox, &message)?;
    let parked = house.work(move |_| incoming.park(message)).await?;
    let mut kept = appends.kept();
    let kept = kept.get_or_insert_with(|| Kept {
        reached,
        messages: Vec::new(),
    });
    kept.messages.push(parked);
    Ok(Answered::plain(SessionAnswer::Done))
}

/// Makes the messages that are kept durable and visible, all or none.
pub(super) async fn commit_kept(
    house: &Arc<House>,
    appends: &Appends,
) -> Result<Answered<SessionAnswer>, Refusal> {
    let kept = appends.kept().take();
    let Kept { reached, messages } = kept.ok_or(Refusal::UnknownHandle)?;
    let placed = house.work(move |house| {
        reached.need(house, Rights::INSERT)?;
        house.store.append_together(&reached.mailbox, messages)
    });
    let (uid_validity, uids) = placed.await?;
    info!(messages = uids.len(), "appended together");
    Ok(Answered::plain(SessionAnswer::KeptAppended {
        uid_validity,
        uids: ranges(&uids),
    }))
}

/// Forgets the messages that are kept.
pub(super) async fn forget_kept(
    house: &Arc<House>,
    appends: &Appends,
) -> Result<Answered<SessionAnswer>, Refusal> {
    let kept = appends.kept().take();
    house
        .work(move |_| {
            drop(kept);
            Ok(())
        })
        .await?;
    Ok(Answered::plain(SessionAnswer::Done))
}
