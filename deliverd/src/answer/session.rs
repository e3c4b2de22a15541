//! The mail session: everything one account may do with its mailboxes, and with those of others that share them with it.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::channel::{Answered, Events, Service};
use ipc::acl::Rights;
use ipc::session::{
    FlagChange, MESSAGES_PER_FRAME, PAGES_PER_READ, RANGES_PER_FRAME, SHARDS_IN_FRAME,
    SessionAnswer, SessionEdge, SessionRequest, UidRanges,
};
use ipc::snapshot::ShardCount;
use ipc::{Call, Refusal};
use tokio::sync::Semaphore;
use tracing::error;

use super::append::{self, Appends};
use super::ear::Ear;
use super::reach::Reached;
use super::sharing::Identity;
use super::{House, annotations, beside, cache, watch};
use crate::store::{
    FlagOrder, MAX_MAILBOXES, Mailbox, MailboxName, Marks, Selection, Untold, Watch,
};

/// Pause between the pieces of a large change.
const BREATH: Duration = Duration::from_millis(2);
/// Without any of these a mailbox is selected for reading only (RFC 4314 §5.2).
const CHANGING: Rights = Rights::INSERT
    .and(Rights::EXPUNGE)
    .and(Rights::SEEN)
    .and(Rights::WRITE)
    .and(Rights::TRASH);
/// What it takes to have messages of a mailbox go elsewhere (RFC 6851 §4).
pub(super) const GOING: Rights = Rights::TRASH.and(Rights::EXPUNGE);
/// One of these is needed for annotations (RFC 5464 §3.3).
const ANNOTATING: Rights = Rights::READ
    .and(Rights::SEEN)
    .and(Rights::WRITE)
    .and(Rights::INSERT)
    .and(Rights::POST);

/// One account's door.
pub(super) struct Door {
    pub(super) house: Arc<House>,
    pub(super) me: Identity,
    /// Opened by another session: it opens none itself.
    is_beside: bool,
}

/// What a session keeps.
pub(super) struct Peer {
    house: Arc<House>,
    events: Events<SessionEdge>,
    appends: Appends,
    selected: Mutex<Option<Selected>>,
    /// One cache is filled at a time.
    fills: Arc<Semaphore>,
    /// Sessions that it may open beside.
    besides: Arc<Semaphore>,
    /// What happens to all mailboxes, if it is to hear of that.
    watch: Mutex<Option<Arc<Watch>>>,
}

#[derive(Clone)]
pub(super) struct Selected {
    pub(super) reached: Reached,
    selection: Selection,
    /// Its number among [`super::visits`].
    visit: Option<u64>,
    read_only: bool,
    ear: Arc<Ear>,
}

impl Door {
    pub(super) fn new(house: Arc<House>, me: Identity) -> Self {
        Self {
            house,
            me,
            is_beside: false,
        }
    }
}

impl Service<SessionEdge> for Door {
    type Peer = Peer;

    fn open(&self, events: Events<SessionEdge>) -> Peer {
        self.house.count_session(true);
        let appends = Appends::new(&self.house);
        Peer {
            house: Arc::clone(&self.house),
            events,
            appends,
            selected: Mutex::new(None),
            fills: Arc::new(Semaphore::new(1)),
            besides: Arc::new(Semaphore::new(usize::from(!self.is_beside))),
            watch: Mutex::new(None),
        }
    }

    async fn answer(
        &self,
        peer: Arc<Peer>,
        call: Call<SessionRequest>,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        // The account was removed, and perhaps another made under its name: this session is nobody's.
        if self.me.user.is_removed() {
            return Err(Refusal::NoSuchUser);
        }
        self.reply(&peer, call.request).await
    }

    /// The answer to SELECT is on its way: what happened since follows.
    fn answered(&self, peer: &Peer) {
        if let Some(selected) = peer.lock().as_ref() {
            selected.ear.release();
        }
    }
}

impl Door {
    async fn reply(
        &self,
        peer: &Arc<Peer>,
        request: SessionRequest,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        match request {
            SessionRequest::ListMailboxes { after } => self.list(after).await,
            SessionRequest::DescribeMailbox { name } => self.describe(name).await,
            SessionRequest::CreateMailbox { name, special_use } => {
                self.create(name, special_use).await
            }
            SessionRequest::DeleteMailbox { name } => self.delete(name).await,
            SessionRequest::RenameMailbox { from, to } => self.rename(from, to).await,
            SessionRequest::Subscribe { name, subscribed } => {
                self.subscribe(name, subscribed).await
            }
            SessionRequest::ListShared { after } => self.list_shared(after).await,
            SessionRequest::ReadAcl { mailbox } => self.read_acl(mailbox).await,
            SessionRequest::ChangeAcl {
                mailbox,
                identifier,
                change,
            } => self.change_acl(mailbox, identifier, change).await,
            SessionRequest::ListRights {
                mailbox,
                identifier,
            } => self.list_rights(mailbox, identifier).await,
            SessionRequest::MyRights { mailbox } => self.my_rights(mailbox).await,
            SessionRequest::Status { name } => self.status(name).await,
            SessionRequest::Select { name, read_only } => self.select(peer, name, read_only).await,
            SessionRequest::Unselect => {
                peer.unselect();
                Ok(Answered::plain(SessionAnswer::Done))
            }
            SessionRequest::ReadPages { shards } => self.read_pages(peer, shards).await,
            SessionRequest::OpenMessages { uids } => self.open_messages(peer, uids).await,
            SessionRequest::OpenNamed {
                mailbox,
                uid_validity,
                uid,
            } => {
                let (reached, _) = self.reach(mailbox, Rights::READ).await?;
                open(&self.house, reached.mailbox, uid_validity, vec![uid]).await
            }
            SessionRequest::OpenCache { kind, shards } => {
                let (reached, _) = self.selected(peer, Rights::READ).await?;
                let domain = self.me.owner.domain.clone();
                cache::open(&self.house, domain, reached, kind, shards).await
            }
            SessionRequest::FillCache { kind, entries } => {
                let reached = peer.selected()?.reached;
                // What others read must not be what a visitor says.
                if reached.visit.is_some() {
                    return Err(Refusal::NotPermitted);
                }
                let fill = cache::Fill {
                    domain: self.me.owner.domain.clone(),
                    mailbox: reached.mailbox,
                    kind,
                    entries,
                };
                cache::fill(&self.house, &peer.fills, fill).await
            }
            SessionRequest::StoreFlags {
                uids,
                change,
                flags,
                keywords,
                unchanged_since,
                heard,
            } => {
                let order = FlagOrder {
                    change,
                    flags,
                    keywords,
                    unchanged_since,
                    heard,
                };
                self.store_flags(peer, uids, order).await
            }
            SessionRequest::ListRemoved { since, after } => {
                self.list_removed(peer, since, after).await
            }
            SessionRequest::ListSaveDates { uids } => {
                let mailbox = self.readable(peer).await?;
                let uids = bounded(uids)?;
                let dates = self.house.work(move |_| mailbox.save_dates(&uids)).await?;
                Ok(Answered::plain(SessionAnswer::SaveDatesListed(dates)))
            }
            SessionRequest::ListIds { uids } => {
                let mailbox = self.readable(peer).await?;
                let uids = bounded(uids)?;
                let ids = self.house.work(move |_| mailbox.ids(&uids)).await?;
                Ok(Answered::plain(SessionAnswer::IdsListed(ids)))
            }
            SessionRequest::Expunge { uids } => self.expunge(peer, uids).await,
            SessionRequest::Copy { uids, to } => self.copy(peer, uids, to).await,
            SessionRequest::Move { uids, to } => self.move_to(peer, uids, to).await,
            SessionRequest::Append {
                mailbox,
                bytes,
                flags,
                keywords,
                internal_date,
            } => {
                let target = self.reach(mailbox, Rights::INSERT).await?;
                let size = bytes.len() as u64;
                let message = append::new_message(size, flags, keywords, internal_date);
                append::whole(&self.house, target, bytes, message).await
            }
            SessionRequest::OpenAppend { mailbox, size } => {
                let (reached, _) = self.reach(mailbox, Rights::INSERT).await?;
                let owner = reached.owner(&self.me.owner).clone();
                append::open(&self.house, &peer.appends, owner, reached, size).await
            }
            SessionRequest::ExtendAppend { message, size } => {
                append::extend(&self.house, &peer.appends, message, size).await
            }
            SessionRequest::KeepAppend {
                message,
                size,
                flags,
                keywords,
                internal_date,
            } => {
                let finished = append::Finished::new(message, size, flags, keywords, internal_date);
                append::keep(&self.house, &peer.appends, finished).await
            }
            SessionRequest::CommitKept => append::commit_kept(&self.house, &peer.appends).await,
            SessionRequest::ForgetKept => append::forget_kept(&self.house, &peer.appends).await,
            SessionRequest::CommitAppend {
                message,
                size,
                flags,
                keywords,
                internal_date,
                replaces,
            } => {
                let finished = append::Finished::new(message, size, flags, keywords, internal_date);
                let replaces = match replaces {
                    None => None,
                    // RFC 8508 §4.
                    Some(uid) => Some((self.writable(peer, GOING).await?.0.mailbox, uid)),
                };
                append::commit(&self.house, &peer.appends, finished, replaces).await
            }
            SessionRequest::AbortAppend { message } => {
                peer.appends.desk.abort(message)?;
                Ok(Answered::plain(SessionAnswer::Done))
            }
            SessionRequest::DeletedSize { name } => {
                let (reached, _) = self.reach(name, Rights::READ).await?;
                let size = self.house.work(move |house| {
                    let size = reached.mailbox.deleted_size();
                    house.store.trim();
                    size
                });
                let answer = SessionAnswer::DeletedSize(size.await?);
                Ok(Answered::plain(answer))
            }
            SessionRequest::ReadAnnotations { mailbox } => {
                let mailbox = self.annotated(mailbox).await?;
                annotations::read(&self.house, &self.me.user, mailbox).await
            }
            SessionRequest::ChangeAnnotations { mailbox, changes } => {
                let mailbox = self.annotated(mailbox).await?;
                annotations::change(&self.house, &self.me.user, mailbox, changes).await
            }
            SessionRequest::Quota => self.quota().await,
            SessionRequest::OpenBeside => {
                let door = Self {
                    house: Arc::clone(&self.house),
                    me: self.me.clone(),
                    is_beside: true,
                };
                beside::open(door, self.house.stop.clone(), &peer.besides)
            }
            SessionRequest::Watch { wanted } => {
                let watch = wanted.then(|| watch::watch(peer.events.clone()));
                if let Some(watch) = &watch {
                    self.me.user.watch(watch);
                }
                *peer.lock_watch() = watch;
                Ok(Answered::plain(SessionAnswer::Done))
            }
            SessionRequest::ListHappenings => {
                let watch = peer.lock_watch().clone();
                watch::fetch(&self.house, Arc::clone(&self.me.user), watch).await
            }
        }
    }

    async fn list(&self, after: Option<String>) -> Result<Answered<SessionAnswer>, Refusal> {
        let user = Arc::clone(&self.me.user);
        let (mailboxes, more) = self
            .house
            .work(move |_| user.list(after.as_deref()))
            .await?;
        Ok(Answered::plain(SessionAnswer::Mailboxes {
            mailboxes,
            more,
        }))
    }

    async fn describe(&self, name: String) -> Result<Answered<SessionAnswer>, Refusal> {
        let name = MailboxName::parse(&name)?;
        let user = Arc::clone(&self.me.user);
        let described = self.house.work(move |_| user.describe(&name));
        Ok(Answered::plain(SessionAnswer::Mailboxes {
            mailboxes: vec![described.await?],
            more: false,
        }))
    }

    /// The selected mailbox, if `needed` may be done with it, and what else may be.
    pub(super) async fn selected(
        &self,
        peer: &Peer,
        needed: Rights,
    ) -> Result<(Reached, Rights), Refusal> {
        let reached = peer.selected()?.reached;
        let rights = self.allow(&reached, needed).await?;
        Ok((reached, rights))
    }

    async fn readable(&self, peer: &Peer) -> Result<Arc<Mailbox>, Refusal> {
        let (reached, _) = self.selected(peer, Rights::READ).await?;
        Ok(reached.mailbox)
    }

    /// The selected mailbox, if it was not selected for reading only and may be read, and `needed` may be done with it.
    pub(super) async fn writable(
        &self,
        peer: &Peer,
        needed: Rights,
    ) -> Result<(Reached, Rights), Refusal> {
        let selected = peer.selected()?;
        let rights = self
            .allow(&selected.reached, Rights::READ.and(needed))
            .await?;
        if selected.read_only {
            return Err(Refusal::ReadOnly);
        }
        Ok((selected.reached, rights))
    }

    /// A mailbox whose annotations are asked for, and what may be done with it.
    async fn annotated(
        &self,
        mailbox: Option<String>,
    ) -> Result<Option<(Reached, Rights)>, Refusal> {
        let Some(name) = mailbox else { return Ok(None) };
        let (reached, rights) = self.reach(name, Rights::LOOKUP).await?;
        // RFC 5464 §3.3.
        if !rights.has_some(ANNOTATING) {
            return Err(Refusal::NoRight);
        }
        Ok(Some((reached, rights)))
    }

    async fn status(&self, name: String) -> Result<Answered<SessionAnswer>, Refusal> {
        let (reached, _) = self.reach(name, Rights::READ).await?;
        let status = self.house.work(move |house| {
            let status = reached.mailbox.status();
            house.store.trim();
            status
        });
        Ok(Answered::plain(SessionAnswer::Status(status.await?)))
    }

    async fn select(
        &self,
        peer: &Arc<Peer>,
        name: String,
        read_only: bool,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        // RFC 9051 §6.3.2: whatever comes of it, the mailbox selected before is not any more.
        peer.unselect();
        let (reached, rights) = self.reach(name, Rights::READ).await?;
        // RFC 4314 §5.2.
        let read_only = read_only || !rights.has_some(CHANGING);
        let ear = Ear::new(peer.events.clone());
        let (listener, heard) = (Arc::clone(&ear), Arc::clone(&reached.mailbox));
        let (found, table) = self
            .house
            .work(move |house| {
                let mut found = heard.select(listener)?;
                house.store.trim();
                if found.shards.len() <= SHARDS_IN_FRAME {
                    return Ok((found, None));
                }
                let lines = std::mem::take(&mut found.shards).into_iter();
                let lines: Vec<u8> = lines.flat_map(ShardCount::to_bytes).collect();
                let table = lend(&lines).inspect_err(|_| heard.unselect(found.selection))?;
                Ok((found, Some(table)))
            })
            .await?;
        let selection = found.selection;
        let begun = self.house.visits.begin(&reached, selection, &ear, rights);
        let visit = begun.inspect_err(|_| reached.mailbox.unselect(selection))?;
        *peer.lock() = Some(Selected {
            reached: reached.clone(),
            selection,
            visit,
            read_only,
            ear,
        });
        // Rights that were taken away before it was among the visits would not be noticed at once.
        let allowed = self.allow(&reached, Rights::READ).await;
        allowed.inspect_err(|_| peer.unselect())?;
        let answer = SessionAnswer::Selected {
            status: found.status,
            first_unseen: found.first_unseen,
            keywords: found.keywords,
            read_only,
            rights,
            shards: found.shards,
        };
        Ok(Answered::with(answer, table.into_iter().collect()))
    }

    async fn read_pages(
        &self,
        peer: &Peer,
        shards: Vec<u32>,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        if shards.len() > PAGES_PER_READ {
            return Err(Refusal::Invalid(format!(
                "at most {PAGES_PER_READ} pages are read at once"
            )));
        }
        let mailbox = self.readable(peer).await?;
        let read = self.house.work(move |_| {
            let (shards, records) = mailbox.read_pages(&shards)?;
            Ok((shards, lend(&records)?))
        });
        let (shards, records) = read.await?;
        let answer = SessionAnswer::PagesRead { shards };
        Ok(Answered::with(answer, vec![records]))
    }

    async fn open_messages(
        &self,
        peer: &Peer,
        uids: Vec<u32>,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        if uids.len() > MESSAGES_PER_FRAME {
            return Err(Refusal::Invalid(format!(
                "at most {MESSAGES_PER_FRAME} messages are opened at once"
            )));
        }
        open(&self.house, self.readable(peer).await?, None, uids).await
    }

    async fn store_flags(
        &self,
        peer: &Peer,
        uids: UidRanges,
        order: FlagOrder,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        let (reached, rights) = self.writable(peer, Rights::NONE).await?;
        let uids = bounded(uids)?;
        let marks = allowed_marks(&order, rights)?;
        let mailbox = Arc::clone(&reached.mailbox);
        let order = Arc::new(order);
        let (first, its_order) = (Arc::clone(&mailbox), Arc::clone(&order));
        // There is only one piece, as a rule, and cutting it off takes less than changing threads.
        let (mut untold, more) = self
            .house
            .work(move |_| {
                let is_conditional = its_order.unchanged_since.is_some();
                let mut pieces = first.pieces(&uids, is_conditional)?.into_iter();
                let untold = match pieces.next() {
                    Some(piece) => first.store_piece(&piece, &its_order, marks)?,
                    None => Untold::default(),
                };
                Ok((untold, pieces))
            })
            .await?;
        for piece in more {
            // Listeners read what was told so far, so that the events of a large STORE do not have to be dropped.
            tokio::time::sleep(BREATH).await;
            let rights = self.allow(&reached, Rights::READ).await?;
            let marks = allowed_marks(&order, rights)?;
            let (mailbox, order) = (Arc::clone(&mailbox), Arc::clone(&order));
            let behind = self
                .house
                .work(move |_| mailbox.store_piece(&piece, &order, marks))
                .await?;
            untold.extend(behind);
        }
        Ok(Answered::plain(SessionAnswer::FlagsStored {
            modified: untold.modified,
            overtaken: untold.overtaken,
        }))
    }

    async fn list_removed(
        &self,
        peer: &Peer,
        since: u64,
        after: u32,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        let mailbox = self.readable(peer).await?;
        let gone = self
            .house
            .work(move |_| mailbox.removed_since(since))
            .await?;
        let complete = gone.is_some();
        let mut uids = gone.unwrap_or_default();
        uids.retain(|(_, last)| *last > after);
        let more = uids.len() > RANGES_PER_FRAME;
        uids.truncate(RANGES_PER_FRAME);
        Ok(Answered::plain(SessionAnswer::RemovedListed {
            uids,
            more,
            complete,
        }))
    }

    async fn expunge(
        &self,
        peer: &Peer,
        uids: Option<UidRanges>,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        let (reached, _) = self.writable(peer, Rights::EXPUNGE).await?;
        let mailbox = reached.mailbox;
        let uids = uids.map(bounded).transpose()?;
        let expunged = Arc::clone(&mailbox);
        self.house
            .work(move |_| expunged.expunge(uids.as_ref()))
            .await?;
        cache::forget(&self.house, mailbox);
        Ok(Answered::plain(SessionAnswer::Expunged))
    }

    async fn quota(&self) -> Result<Answered<SessionAnswer>, Refusal> {
        let user = Arc::clone(&self.me.user);
        let ((usage, limits), mailboxes) = self
            .house
            .work(move |_| {
                user.count()?;
                Ok((user.member().figures(), user.mailboxes_listed()))
            })
            .await?;
        let capped = |count| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Answered::plain(SessionAnswer::Quota {
            usage: usage.into(),
            limits,
            mailboxes: capped(mailboxes),
            max_mailboxes: capped(MAX_MAILBOXES),
        }))
    }
}

/// Lends messages of a mailbox; none if it has not the UIDVALIDITY that is wanted.
async fn open(
    house: &Arc<House>,
    mailbox: Arc<Mailbox>,
    uid_validity: Option<u32>,
    uids: Vec<u32>,
) -> Result<Answered<SessionAnswer>, Refusal> {
    let opened = house.work(move |house| {
        let is_it = match uid_validity {
            Some(wanted) => mailbox.status()?.uid_validity == wanted,
            None => true,
        };
        let opened = if is_it {
            mailbox.open(&uids)?
        } else {
            Vec::new()
        };
        house.store.trim();
        Ok(opened)
    });
    let (uids, files): (Vec<_>, Vec<_>) = opened.await?.into_iter().unzip();
    Ok(Answered::with(
        SessionAnswer::MessagesOpened { uids },
        files.into_iter().map(OwnedFd::from).collect(),
    ))
}

/// Bytes that do not fit into a frame.
fn lend(bytes: &[u8]) -> Result<OwnedFd, Refusal> {
    sys::memfd::sealed("mailbox", bytes).map_err(|error| {
        error!(%error, "cannot lend what is known of a mailbox");
        Refusal::Busy
    })
}

/// Which flags an order may change, if any.
// RFC 4314 §4: STORE fails only where none of its flags may be changed.
fn allowed_marks(order: &FlagOrder, rights: Rights) -> Result<Marks, Refusal> {
    let marks = Marks::of(rights);
    let is_nothing = order.flags == 0 && order.keywords.is_empty();
    let is_allowed = match order.change {
        FlagChange::Replace => marks.flags != 0,
        FlagChange::Add | FlagChange::Remove => {
            is_nothing
                || order.flags & marks.flags != 0
                || marks.keywords && !order.keywords.is_empty()
        }
    };
    if is_allowed {
        Ok(marks)
    } else {
        Err(Refusal::NoRight)
    }
}

pub(super) fn bounded(uids: UidRanges) -> Result<UidRanges, Refusal> {
    if uids.len() > RANGES_PER_FRAME {
        return Err(Refusal::Invalid(format!(
            "a request has at most {RANGES_PER_FRAME} ranges"
        )));
    }
    Ok(uids)
}

impl Peer {
    fn lock(&self) -> MutexGuard<'_, Option<Selected>> {
        self.selected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_watch(&self) -> MutexGuard<'_, Option<Arc<Watch>>> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn selected(&self) -> Result<Selected, Refusal> {
        self.lock().clone().ok_or(Refusal::NothingSelected)
    }

    fn unselect(&self) {
        if let Some(selected) = self.lock().take() {
            match selected.visit {
                Some(visit) => self.house.visits.end(visit),
                None => selected.reached.mailbox.unselect(selected.selection),
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.unselect();
        self.house.count_session(false);
    }
}
