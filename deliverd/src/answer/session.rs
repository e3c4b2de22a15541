//! The mail session: everything one account may do with its mailboxes. No request names an account.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::channel::{Answered, Events, Service};
use ipc::session::{
    MESSAGES_PER_FRAME, PAGES_PER_READ, RANGES_PER_FRAME, SHARDS_IN_FRAME, SessionAnswer,
    SessionEdge, SessionRequest, SpecialUse, UidRanges,
};
use ipc::snapshot::ShardCount;
use ipc::{Call, Refusal};
use tokio::sync::Semaphore;
use tracing::error;

use super::append::{self, Appends};
use super::ear::Ear;
use super::{House, annotations, beside, cache, watch};
use crate::store::{
    FlagOrder, Hold, MAX_MAILBOXES, Mailbox, MailboxName, Selection, Totals, Transfer, User, Watch,
    ranges,
};

/// Pause between the pieces of a large change.
const BREATH: Duration = Duration::from_millis(2);

/// One account's door.
pub(super) struct Door {
    house: Arc<House>,
    user: Arc<User>,
    owner: crate::store::Owner,
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
struct Selected {
    mailbox: Arc<Mailbox>,
    selection: Selection,
    read_only: bool,
    ear: Arc<Ear>,
}

impl Door {
    pub(super) fn new(house: Arc<House>, user: Arc<User>, owner: crate::store::Owner) -> Self {
        Self {
            house,
            user,
            owner,
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
        if self.user.is_removed() {
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
            SessionRequest::DeleteMailbox { name } => self.change(name, User::delete_mailbox).await,
            SessionRequest::RenameMailbox { from, to } => {
                let to = MailboxName::parse(&to)?;
                self.change(from, move |user, from| user.rename_mailbox(from, &to))
                    .await
            }
            SessionRequest::Subscribe { name, subscribed } => {
                self.change(name, move |user, name| user.subscribe(name, subscribed))
                    .await
            }
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
                let mailbox = self.mailbox(&mailbox)?;
                open(&self.house, mailbox, uid_validity, vec![uid]).await
            }
            SessionRequest::OpenCache { kind, shards } => {
                let mailbox = peer.selected()?.mailbox;
                let domain = self.owner.domain.clone();
                cache::open(&self.house, domain, mailbox, kind, shards).await
            }
            SessionRequest::FillCache { kind, entries } => {
                let mailbox = peer.selected()?.mailbox;
                let fill = cache::Fill {
                    domain: self.owner.domain.clone(),
                    mailbox,
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
            } => {
                let order = FlagOrder {
                    change,
                    flags,
                    keywords,
                    unchanged_since,
                };
                self.store_flags(peer, uids, order).await
            }
            SessionRequest::ListRemoved { since, after } => {
                self.list_removed(peer, since, after).await
            }
            SessionRequest::ListSaveDates { uids } => {
                let mailbox = peer.selected()?.mailbox;
                let uids = bounded(uids)?;
                let dates = self.house.work(move |_| mailbox.save_dates(&uids)).await?;
                Ok(Answered::plain(SessionAnswer::SaveDatesListed(dates)))
            }
            SessionRequest::ListIds { uids } => {
                let mailbox = peer.selected()?.mailbox;
                let uids = bounded(uids)?;
                let ids = self.house.work(move |_| mailbox.ids(&uids)).await?;
                Ok(Answered::plain(SessionAnswer::IdsListed(ids)))
            }
            SessionRequest::Expunge { uids } => self.expunge(peer, uids).await,
            SessionRequest::Copy { uids, to } => self.copy(peer, uids, to).await,
            SessionRequest::Move { uids, to } => self.move_to(peer, uids, to).await,
            SessionRequest::OpenAppend { mailbox, size } => {
                let mailbox = self.mailbox(&mailbox)?;
                append::open(&self.house, &peer.appends, &self.owner, mailbox, size).await
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
                let replaces = replaces.map(|uid| Ok((peer.writable()?, uid)));
                let replaces = replaces.transpose()?;
                append::commit(&self.house, &peer.appends, finished, replaces).await
            }
            SessionRequest::AbortAppend { message } => {
                peer.appends.desk.abort(message)?;
                Ok(Answered::plain(SessionAnswer::Done))
            }
            SessionRequest::DeletedSize { name } => {
                let mailbox = self.mailbox(&name)?;
                let size = self.house.work(move |house| {
                    let size = mailbox.deleted_size();
                    house.store.trim();
                    size
                });
                let answer = SessionAnswer::DeletedSize(size.await?);
                Ok(Answered::plain(answer))
            }
            SessionRequest::ReadAnnotations { mailbox } => {
                let mailbox = mailbox.map(|name| self.mailbox(&name)).transpose()?;
                annotations::read(&self.house, &self.user, mailbox).await
            }
            SessionRequest::ChangeAnnotations { mailbox, changes } => {
                let named = |name: String| self.mailbox(&name).map(|mailbox| (name, mailbox));
                let mailbox = mailbox.map(named).transpose()?;
                annotations::change(&self.house, &self.user, mailbox, changes).await
            }
            SessionRequest::Quota => self.quota().await,
            SessionRequest::OpenBeside => {
                let door = Self {
                    house: Arc::clone(&self.house),
                    user: Arc::clone(&self.user),
                    owner: self.owner.clone(),
                    is_beside: true,
                };
                beside::open(door, self.house.stop.clone(), &peer.besides)
            }
            SessionRequest::Watch { wanted } => {
                let watch = wanted.then(|| watch::watch(peer.events.clone()));
                if let Some(watch) = &watch {
                    self.user.watch(watch);
                }
                *peer.lock_watch() = watch;
                Ok(Answered::plain(SessionAnswer::Done))
            }
            SessionRequest::ListHappenings => {
                let watch = peer.lock_watch().clone();
                watch::fetch(&self.house, Arc::clone(&self.user), watch).await
            }
        }
    }

    async fn list(&self, after: Option<String>) -> Result<Answered<SessionAnswer>, Refusal> {
        let user = Arc::clone(&self.user);
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
        let user = Arc::clone(&self.user);
        let described = self.house.work(move |_| user.describe(&name));
        Ok(Answered::plain(SessionAnswer::Mailboxes {
            mailboxes: vec![described.await?],
            more: false,
        }))
    }

    async fn create(
        &self,
        name: String,
        special_use: Option<SpecialUse>,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        self.change(name, move |user, name| {
            user.create_mailbox(name, special_use)
        })
        .await
    }

    async fn change<F>(&self, name: String, change: F) -> Result<Answered<SessionAnswer>, Refusal>
    where
        F: FnOnce(&User, &MailboxName) -> Result<(), Refusal> + Send + 'static,
    {
        let name = MailboxName::parse(&name)?;
        let user = Arc::clone(&self.user);
        self.house.work(move |_| change(&user, &name)).await?;
        Ok(Answered::plain(SessionAnswer::Done))
    }

    /// A name that could not be a mailbox's is simply not there.
    fn mailbox(&self, name: &str) -> Result<Arc<Mailbox>, Refusal> {
        let name = MailboxName::parse(name).map_err(|_| Refusal::NoSuchMailbox)?;
        self.user.mailbox(&name)
    }

    async fn status(&self, name: String) -> Result<Answered<SessionAnswer>, Refusal> {
        let mailbox = self.mailbox(&name)?;
        let status = self.house.work(move |house| {
            let status = mailbox.status();
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
        let mailbox = self.mailbox(&name)?;
        let ear = Ear::new(peer.events.clone());
        let (listener, heard) = (Arc::clone(&ear), Arc::clone(&mailbox));
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
        *peer.lock() = Some(Selected {
            mailbox,
            selection: found.selection,
            read_only,
            ear,
        });
        let answer = SessionAnswer::Selected {
            status: found.status,
            first_unseen: found.first_unseen,
            keywords: found.keywords,
            read_only,
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
        let mailbox = peer.selected()?.mailbox;
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
        open(&self.house, peer.selected()?.mailbox, None, uids).await
    }

    async fn store_flags(
        &self,
        peer: &Peer,
        uids: UidRanges,
        order: FlagOrder,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        let mailbox = peer.writable()?;
        let uids = bounded(uids)?;
        let order = Arc::new(order);
        let (first, its_order) = (Arc::clone(&mailbox), Arc::clone(&order));
        // There is only one piece, as a rule, and cutting it off takes less than changing threads.
        let (mut modified, more) = self
            .house
            .work(move |_| {
                let is_conditional = its_order.unchanged_since.is_some();
                let mut pieces = first.pieces(&uids, is_conditional)?.into_iter();
                let modified = match pieces.next() {
                    Some(piece) => first.store_piece(&piece, &its_order)?,
                    None => UidRanges::new(),
                };
                Ok((modified, pieces))
            })
            .await?;
        for piece in more {
            // Listeners read what was told so far, so that the events of a large STORE do not have to be dropped.
            tokio::time::sleep(BREATH).await;
            let (mailbox, order) = (Arc::clone(&mailbox), Arc::clone(&order));
            let left = self
                .house
                .work(move |_| mailbox.store_piece(&piece, &order))
                .await?;
            modified.extend(left);
        }
        Ok(Answered::plain(SessionAnswer::FlagsStored { modified }))
    }

    async fn list_removed(
        &self,
        peer: &Peer,
        since: u64,
        after: u32,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        let mailbox = peer.selected()?.mailbox;
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
        let mailbox = peer.writable()?;
        let uids = uids.map(bounded).transpose()?;
        let expunged = Arc::clone(&mailbox);
        self.house
            .work(move |_| expunged.expunge(uids.as_ref()))
            .await?;
        cache::forget(&self.house, mailbox);
        Ok(Answered::plain(SessionAnswer::Expunged))
    }

    async fn copy(
        &self,
        peer: &Peer,
        uids: UidRanges,
        to: String,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        let (source, target, uids) = (peer.selected()?.mailbox, self.mailbox(&to)?, bounded(uids)?);
        let size = self.measure(&source, &uids).await?;
        // Told before anything is done; what counts is what is there when it is copied.
        drop(self.hold(size).await?);
        let transfer = self.house.work(move |house| {
            let transfer = source.copy(&uids, &target);
            house.store.trim();
            transfer
        });
        Ok(Answered::plain(copied(&transfer.await?)?))
    }

    async fn move_to(
        &self,
        peer: &Peer,
        uids: UidRanges,
        to: String,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        let (source, target, uids) = (peer.writable()?, self.mailbox(&to)?, bounded(uids)?);
        self.measure(&source, &uids).await?;
        let moved = Arc::clone(&source);
        let transfer = self.house.work(move |house| {
            let transfer = moved.move_to(&uids, &target);
            house.store.trim();
            transfer
        });
        let transfer = transfer.await?;
        cache::forget(&self.house, source);
        Ok(Answered::plain(copied(&transfer)?))
    }

    /// What shall be copied or moved; refused if the answer could not name them all.
    async fn measure(&self, source: &Arc<Mailbox>, uids: &UidRanges) -> Result<Totals, Refusal> {
        let (source, uids) = (Arc::clone(source), uids.clone());
        let (size, ranges) = self.house.work(move |_| source.measure(&uids)).await?;
        if ranges > RANGES_PER_FRAME {
            return Err(Refusal::Invalid(format!(
                "more than {RANGES_PER_FRAME} separate ranges of messages at once"
            )));
        }
        Ok(size)
    }

    async fn hold(&self, amount: Totals) -> Result<Vec<Hold>, Refusal> {
        let owner = self.owner.clone();
        self.house
            .work(move |house| house.store.hold(&[owner], amount))
            .await
    }

    async fn quota(&self) -> Result<Answered<SessionAnswer>, Refusal> {
        let user = Arc::clone(&self.user);
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

/// The answer to COPY and MOVE.
fn copied(transfer: &Transfer) -> Result<SessionAnswer, Refusal> {
    Ok(SessionAnswer::Copied {
        uid_validity: transfer.uid_validity,
        source: ranges(&transfer.source),
        target: ranges(&transfer.target),
    })
}

fn bounded(uids: UidRanges) -> Result<UidRanges, Refusal> {
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

    fn selected(&self) -> Result<Selected, Refusal> {
        self.lock().clone().ok_or(Refusal::NothingSelected)
    }

    fn writable(&self) -> Result<Arc<Mailbox>, Refusal> {
        let selected = self.selected()?;
        if selected.read_only {
            Err(Refusal::ReadOnly)
        } else {
            Ok(selected.mailbox)
        }
    }

    fn unselect(&self) {
        if let Some(selected) = self.lock().take() {
            selected.mailbox.unselect(selected.selection);
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.unselect();
        self.house.count_session(false);
    }
}
