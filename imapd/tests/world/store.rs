//! Mail in memory, with deliverd's manners.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, Weak};

use daemon::Stop;
use daemon::channel::{Answered, Events, Service, serve_link};
use imap::sequence::Ranges;
use ipc::acl::{AclEntry, Rights, RightsChange};
use ipc::cache::{CacheKind, MESSAGES_PER_SHARD, NewEntry};
use ipc::delivery::MessageHandle;
use ipc::imap::{ImapAnswer, ImapEdge, ImapRequest};
use ipc::login::{Challenge, LoginRequest};
use ipc::metadata::{Annotation, AnnotationChange};
use ipc::quota::{Limits, Usage};
use ipc::session::{
    FlagChange, MailboxInfo, MailboxStatus, MessageIds, RANGES_PER_FRAME, RECORDS_PER_FRAME,
    SessionAnswer, SessionEdge, SessionEvent, SessionRequest, UidRanges, What,
};
use ipc::snapshot::{RECORD_LEN, Record, ShardCount, flag};
use ipc::{Call, Refusal};
use sys::packet::{PacketSocket, stream_pair};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::APPEND_LIMIT;
use super::caches::{Caches, UID_VALIDITY};

mod acl;
mod doors;
mod selecting;
mod watching;

pub(crate) use self::doors::Front;

/// alice's mail.
#[derive(Default)]
pub(crate) struct Store {
    state: Mutex<State>,
    /// What is kept for readers.
    pub(crate) caches: Arc<Mutex<Caches>>,
}

#[derive(Default)]
struct State {
    mailboxes: BTreeMap<String, Mailbox>,
    subscribed: BTreeSet<String>,
    sessions: Vec<Weak<Peer>>,
    modseq: u64,
    opened: usize,
    /// Logins that were begun and given up.
    abandoned: usize,
    /// Pages that were read.
    pages: usize,
    /// Tables of shards come in descriptors.
    lends_tables: bool,
    /// Nothing is known of what was removed.
    forgets: bool,
    lie: Option<Lie>,
    /// After so many pages that were read, one cannot be.
    good_pages: Option<usize>,
    spoilt: BTreeSet<u32>,
    /// Those of the account.
    annotations: BTreeMap<String, Vec<u8>>,
    /// Extensions that are not offered.
    without: Vec<String>,
    /// A mailbox that appears at the next SELECT.
    appears: Option<String>,
    /// A message, and flags it gets right before the next STORE.
    overtakes: Option<(u32, u8)>,
}

#[derive(Default, Clone)]
struct Mailbox {
    uid_next: u32,
    keywords: Vec<String>,
    messages: BTreeMap<u32, (Record, Vec<u8>)>,
    removed: Vec<(u64, u32)>,
    annotations: BTreeMap<String, Vec<u8>>,
    /// What others may do, and whose it is if it is somebody else's.
    acl: BTreeMap<String, Rights>,
    owner: Option<String>,
}

/// What deliverd would never say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// More messages than the shards have.
    WrongSum,
    /// Shards that descend.
    Descending,
    /// A shard no UID can be in.
    Impossible,
    /// A page of other messages than can be on it.
    ForeignPage,
    /// Less than was announced.
    ShortPage,
    /// The page of a shard nobody asked for.
    NotAsked,
    /// No page at all.
    NoDescriptor,
    /// Fewer messages than were there.
    Fewer,
}

/// One mail session.
pub(crate) struct Peer {
    events: Events<SessionEdge>,
    selected: Mutex<Option<(String, bool)>>,
    uploads: Mutex<HashMap<u64, Upload>>,
    kept: Mutex<Vec<Kept>>,
    watch: Mutex<Option<watching::Watch>>,
}

/// Where a message goes, and its bytes.
type Upload = (String, JoinHandle<Vec<u8>>);

/// A message that came whole.
struct Kept {
    mailbox: String,
    bytes: Vec<u8>,
    flags: u8,
    keywords: Vec<String>,
    date: i64,
}

impl Store {
    /// Somebody else brings a message.
    pub(crate) fn deliver(&self, bytes: &[u8]) -> u32 {
        let mut state = self.state.lock().unwrap();
        state.mailboxes.entry("INBOX".into()).or_default();
        state.append("INBOX", bytes.to_vec(), 0, &[], 1_000_000_000)
    }

    /// The next messages get UIDs above those so many would have had.
    pub(crate) fn skip_uids(&self, count: u32) {
        let mut state = self.state.lock().unwrap();
        state.mailbox("INBOX").unwrap().uid_next += count;
    }

    /// How often messages were opened to be read.
    pub(crate) fn opened(&self) -> usize {
        self.state.lock().unwrap().opened
    }

    /// How many logins were begun and given up.
    pub(crate) fn abandoned(&self) -> usize {
        self.state.lock().unwrap().abandoned
    }

    /// How many pages were read.
    pub(crate) fn pages(&self) -> usize {
        self.state.lock().unwrap().pages
    }

    /// From now on tables of shards come in descriptors.
    pub(crate) fn lend_tables(&self) {
        self.state.lock().unwrap().lends_tables = true;
    }

    /// What was removed is not remembered.
    pub(crate) fn forget_removals(&self) {
        self.state.lock().unwrap().forgets = true;
    }

    /// These extensions are not offered to who logs in from now on.
    pub(crate) fn switch_off(&self, names: &str) {
        let names = names.split(' ').map(str::to_owned);
        self.state.lock().unwrap().without = names.collect();
    }

    /// From now on that is what is said.
    pub(crate) fn lie(&self, lie: Option<Lie>) {
        self.state.lock().unwrap().lie = lie;
    }

    /// Works without telling anybody.
    pub(crate) fn in_silence(&self, work: impl FnOnce(&Self)) {
        let sessions = std::mem::take(&mut self.state.lock().unwrap().sessions);
        work(self);
        self.state.lock().unwrap().sessions = sessions;
    }

    /// Somebody else removes messages.
    pub(crate) fn remove(&self, uids: UidRanges) {
        self.state.lock().unwrap().remove("INBOX", uids);
    }

    /// Tells all sessions that they missed something.
    pub(crate) fn resync(&self) {
        let state = self.state.lock().unwrap();
        state.tell("INBOX", || SessionEvent::Resync);
    }

    /// What is kept.
    pub(crate) fn messages(&self, mailbox: &str) -> Vec<Vec<u8>> {
        let state = self.state.lock().unwrap();
        let messages = state.mailboxes[mailbox].messages.values();
        messages.map(|(_, bytes)| bytes.clone()).collect()
    }
}

impl State {
    fn mailbox(&mut self, name: &str) -> Result<&mut Mailbox, Refusal> {
        self.mailboxes.get_mut(name).ok_or(Refusal::NoSuchMailbox)
    }

    fn answer(
        &mut self,
        peer: &Peer,
        request: SessionRequest,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        let answer = match request {
            SessionRequest::ListMailboxes { after } => self.list(after),
            SessionRequest::DescribeMailbox { name } => SessionAnswer::Mailboxes {
                mailboxes: vec![self.info(&name)],
                more: false,
            },
            SessionRequest::CreateMailbox { name, .. } => {
                if self.mailboxes.contains_key(&name) {
                    return Err(Refusal::MailboxExists);
                }
                self.mailboxes.insert(name.clone(), Mailbox::default());
                self.happened(&name, &What::Created);
                SessionAnswer::Done
            }
            SessionRequest::DeleteMailbox { name } => {
                self.mailbox(&name)?;
                self.mailboxes.remove(&name);
                self.tell(&name, || SessionEvent::Gone);
                self.happened(&name, &What::Deleted);
                SessionAnswer::Done
            }
            SessionRequest::RenameMailbox { from, to } => {
                self.mailbox(&from)?;
                let below = format!("{from}/");
                let moves = |name: &String| *name == from || name.starts_with(&below);
                let moved: Vec<String> = self
                    .mailboxes
                    .keys()
                    .filter(|n| moves(n))
                    .cloned()
                    .collect();
                for name in moved {
                    let mailbox = self.mailboxes.remove(&name).unwrap();
                    let name = name.replacen(&from, &to, 1);
                    self.mailboxes.insert(name, mailbox);
                }
                self.tell(&from, || SessionEvent::Gone);
                self.happened(&to, &What::RenamedFrom(from));
                SessionAnswer::Done
            }
            SessionRequest::Subscribe { name, subscribed } => {
                let changed = match subscribed {
                    true => self.subscribed.insert(name.clone()),
                    false => self.subscribed.remove(&name),
                };
                if changed {
                    self.happened(&name, &What::Subscribed);
                }
                SessionAnswer::Done
            }
            SessionRequest::Status { name } => SessionAnswer::Status(self.status(&name)?),
            SessionRequest::Select { name, read_only } => {
                if let Some(name) = self.appears.take() {
                    self.mailboxes.entry(name.clone()).or_default();
                    self.happened(&name, &What::Created);
                }
                return self.select(peer, name, read_only);
            }
            SessionRequest::Unselect => {
                *peer.selected.lock().unwrap() = None;
                SessionAnswer::Done
            }
            SessionRequest::ReadPages { shards } => return self.read_pages(peer, &shards),
            SessionRequest::ListRemoved { since, after } => {
                self.list_removed(peer, since, after)?
            }
            SessionRequest::OpenMessages { uids } => return self.open(&selected(peer)?.0, uids),
            SessionRequest::OpenNamed {
                mailbox,
                uid_validity,
                uid,
            } => {
                let is_it = uid_validity.is_none_or(|wanted| wanted == UID_VALIDITY);
                return self.open(&mailbox, if is_it { vec![uid] } else { vec![] });
            }
            SessionRequest::StoreFlags {
                uids,
                change,
                flags,
                keywords,
                unchanged_since,
                heard,
            } => {
                let name = writable(peer)?;
                if let Some((uid, flags)) = self.overtakes.take() {
                    self.store(&name, vec![(uid, uid)], FlagChange::Add, flags, &[]);
                }
                let since = unchanged_since.unwrap_or(u64::MAX);
                let messages = self.mailbox(&name)?.messages.values();
                let named = messages.filter(|(record, _)| is_in(&uids, record.uid));
                let named: Vec<_> = named.collect();
                if unchanged_since.is_some() && named.len() > RANGES_PER_FRAME {
                    return Err(Refusal::Invalid("too many messages".into()));
                }
                let overtaken = named.iter().filter(|(record, _)| record.modseq > heard);
                let overtaken = overtaken.map(|(record, _)| (record.uid, record.uid));
                let overtaken = overtaken.collect();
                let named = named.into_iter();
                let uid = |(record, _): &(Record, Vec<u8>)| (record.uid, record.uid);
                let (modified, rest): (Vec<_>, Vec<_>) =
                    named.partition(|(record, _)| record.modseq > since);
                let (modified, rest) = (modified.into_iter().map(uid), rest.into_iter().map(uid));
                let (modified, rest) = (joined(modified.collect()), rest.collect());
                self.store(&name, rest, change, flags, &keywords);
                SessionAnswer::FlagsStored {
                    modified,
                    overtaken,
                }
            }
            SessionRequest::Expunge { uids } => {
                let name = writable(peer)?;
                let messages = &self.mailbox(&name)?.messages;
                let deleted = messages.values().map(|(record, _)| *record);
                let deleted = deleted.filter(|record| record.flags & flag::DELETED != 0);
                let uids = uids.unwrap_or(vec![(1, u32::MAX)]);
                let deleted = deleted.filter(|record| is_in(&uids, record.uid));
                let deleted = deleted.map(|record| (record.uid, record.uid)).collect();
                self.remove(&name, deleted);
                SessionAnswer::Expunged
            }
            SessionRequest::Copy { uids, to } => self.copy(peer, &uids, &to, false)?,
            SessionRequest::Move { uids, to } => self.copy(peer, &uids, &to, true)?,
            SessionRequest::OpenBeside
            | SessionRequest::OpenCache { .. }
            | SessionRequest::FillCache { .. }
            | SessionRequest::Append { .. }
            | SessionRequest::OpenAppend { .. }
            | SessionRequest::ExtendAppend { .. }
            | SessionRequest::KeepAppend { .. }
            | SessionRequest::CommitKept
            | SessionRequest::ForgetKept
            | SessionRequest::CommitAppend { .. }
            | SessionRequest::AbortAppend { .. } => unreachable!(),
            SessionRequest::ListSaveDates { uids } => {
                let (name, _) = selected(peer)?;
                let uid = self.mailbox(&name)?.messages.keys().copied();
                let uid = uid.filter(|uid| is_in(&uids, *uid));
                // Of the first it is not known.
                let known = uid.filter(|uid| *uid > 1);
                SessionAnswer::SaveDatesListed(known.map(|uid| (uid, uid * 86_400)).collect())
            }
            SessionRequest::ListIds { uids } => {
                let (name, _) = selected(peer)?;
                let uid = self.mailbox(&name)?.messages.keys().copied();
                let ids = uid.filter(|uid| is_in(&uids, *uid)).map(|uid| MessageIds {
                    uid,
                    id: 0,
                    email_id: u128::from(uid) << 64 | 0xab,
                });
                SessionAnswer::IdsListed(ids.collect())
            }
            SessionRequest::DeletedSize { name } => {
                let messages = self.mailbox(&name)?.messages.values();
                let deleted = messages.filter(|(record, _)| record.flags & flag::DELETED != 0);
                SessionAnswer::DeletedSize(deleted.map(|(record, _)| record.size).sum())
            }
            SessionRequest::ReadAnnotations { mailbox } => {
                let known = self.annotations(mailbox)?.iter();
                let known = known.map(|(name, value)| Annotation {
                    name: name.clone(),
                    value: value.clone(),
                });
                SessionAnswer::Annotations(known.collect())
            }
            SessionRequest::ChangeAnnotations { mailbox, changes } => {
                let name = mailbox.clone().unwrap_or_default();
                let entries: Vec<_> = changes.iter().map(|change| change.name.clone()).collect();
                let known = self.annotations(mailbox)?;
                let mut new = known.clone();
                for AnnotationChange { name, value } in changes {
                    match value {
                        Some(value) => new.insert(name, value),
                        None => new.remove(&name),
                    };
                }
                // Few, so that it is soon seen that there are too many.
                if new.len() > 3 {
                    return Err(Refusal::OverQuota);
                }
                *known = new;
                for entry in entries {
                    self.happened(&name, &What::Annotated(entry));
                }
                SessionAnswer::Done
            }
            SessionRequest::ListShared { .. }
            | SessionRequest::ReadAcl { .. }
            | SessionRequest::ChangeAcl { .. }
            | SessionRequest::ListRights { .. }
            | SessionRequest::MyRights { .. } => self.acl(request)?,
            SessionRequest::Quota => SessionAnswer::Quota {
                usage: Usage {
                    messages: 3,
                    bytes: 10_241,
                },
                limits: Limits {
                    messages: 0,
                    bytes: 512 * 1024,
                },
                mailboxes: u32::try_from(self.mailboxes.len()).unwrap(),
                max_mailboxes: 10,
            },
            SessionRequest::Watch { wanted } => return Self::watch(peer, wanted),
            SessionRequest::ListHappenings => Self::fetch(peer),
        };
        Ok(Answered::plain(answer))
    }

    fn annotations(
        &mut self,
        mailbox: Option<String>,
    ) -> Result<&mut BTreeMap<String, Vec<u8>>, Refusal> {
        match mailbox {
            Some(name) => Ok(&mut self.mailbox(&name)?.annotations),
            None => Ok(&mut self.annotations),
        }
    }

    fn info(&self, name: &str) -> MailboxInfo {
        let below = format!("{name}/");
        let mut names = self.mailboxes.keys().chain(&self.subscribed);
        MailboxInfo {
            rights: self.rights(name),
            name: name.to_owned(),
            exists: self.mailboxes.contains_key(name),
            subscribed: self.subscribed.contains(name),
            special_use: None,
            has_children: names.any(|name| name.starts_with(&below)),
        }
    }

    fn list(&self, after: Option<String>) -> SessionAnswer {
        let own = self.mailboxes.iter().filter(|(_, one)| one.owner.is_none());
        let own = own.map(|(name, _)| name);
        let names: BTreeSet<&String> = own.chain(&self.subscribed).collect();
        let rest = names.iter().filter(|name| Some(**name) > after.as_ref());
        let mut mailboxes: Vec<MailboxInfo> = rest.map(|name| self.info(name)).collect();
        // Pages of two, so that paging is seen to work.
        let more = mailboxes.len() > 2;
        mailboxes.truncate(2);
        SessionAnswer::Mailboxes { mailboxes, more }
    }

    fn status(&mut self, name: &str) -> Result<MailboxStatus, Refusal> {
        let highest_modseq = self.modseq;
        let mailbox = self.mailbox(name)?;
        let records: Vec<Record> = mailbox
            .messages
            .values()
            .map(|(record, _)| *record)
            .collect();
        let count = |bit: u8, set: bool| {
            let with = records.iter().filter(|r| (r.flags & bit != 0) == set);
            u32::try_from(with.count()).unwrap()
        };
        Ok(MailboxStatus {
            messages: u32::try_from(records.len()).unwrap(),
            unseen: count(flag::SEEN, false),
            deleted: count(flag::DELETED, true),
            size: records.iter().map(|record| record.size).sum(),
            uid_next: mailbox.uid_next + 1,
            uid_validity: UID_VALIDITY,
            highest_modseq,
            mailbox_id: 1,
        })
    }

    fn open(&mut self, name: &str, uids: Vec<u32>) -> Result<Answered<SessionAnswer>, Refusal> {
        let messages = &self.mailbox(name)?.messages;
        let (mut opened, mut fds) = (Vec::new(), Vec::new());
        for uid in uids {
            if let Some((_, bytes)) = messages.get(&uid) {
                let mut file: File = tempfile::tempfile().unwrap();
                file.write_all(bytes).unwrap();
                file.rewind().unwrap();
                opened.push(uid);
                fds.push(file.into());
            }
        }
        // A descriptor that cannot be read stands in for a disk that fails.
        for (uid, fd) in opened.iter().zip(&mut fds) {
            if self.spoilt.contains(uid) {
                let mut file = tempfile::NamedTempFile::new().unwrap();
                file.write_all(b"unreadable").unwrap();
                let unreadable = File::options().write(true).open(file.path()).unwrap();
                *fd = unreadable.into();
            }
        }
        self.opened += opened.len();
        let answer = SessionAnswer::MessagesOpened { uids: opened };
        Ok(Answered::with(answer, fds))
    }

    /// One message comes, and one of the selected mailbox goes.
    fn replace(&mut self, peer: &Peer, kept: Kept, old: Option<u32>) -> Result<u32, Refusal> {
        let Some(old) = old else {
            return Ok(self.place(kept));
        };
        let source = writable(peer)?;
        if !self.mailbox(&source)?.messages.contains_key(&old) {
            return Err(Refusal::NotFound);
        }
        let uid = self.place(kept);
        self.remove(&source, vec![(old, old)]);
        Ok(uid)
    }

    fn place(&mut self, kept: Kept) -> u32 {
        let Kept {
            mailbox,
            bytes,
            flags,
            keywords,
            date,
        } = kept;
        self.append(&mailbox, bytes, flags, &keywords, date)
    }

    fn append(
        &mut self,
        name: &str,
        bytes: Vec<u8>,
        flags: u8,
        keywords: &[String],
        internal_date: i64,
    ) -> u32 {
        let keywords = self.keyword_bits(name, keywords);
        self.modseq += 1;
        let modseq = self.modseq;
        let mailbox = self.mailboxes.get_mut(name).unwrap();
        mailbox.uid_next += 1;
        let uid = mailbox.uid_next;
        let size = bytes.len() as u64;
        let record = Record {
            uid,
            flags,
            keywords,
            size,
            internal_date,
            modseq,
        };
        mailbox.messages.insert(uid, (record, bytes));
        self.tell(name, || SessionEvent::Added(vec![record]));
        uid
    }

    fn keyword_bits(&mut self, name: &str, keywords: &[String]) -> u64 {
        let table = &mut self.mailboxes.get_mut(name).unwrap().keywords;
        let known = table.len();
        let mut bits = 0;
        for keyword in keywords {
            let place = table.iter().position(|k| k.eq_ignore_ascii_case(keyword));
            let place = place.unwrap_or_else(|| {
                table.push(keyword.clone());
                table.len() - 1
            });
            bits |= 1 << place;
        }
        let table = table.clone();
        if table.len() > known {
            self.tell(name, || SessionEvent::Keywords(table.clone()));
        }
        bits
    }

    fn store(
        &mut self,
        name: &str,
        uids: UidRanges,
        change: FlagChange,
        flags: u8,
        keywords: &[String],
    ) {
        let bits = self.keyword_bits(name, keywords);
        self.modseq += 1;
        let modseq = self.modseq;
        let messages = &mut self.mailboxes.get_mut(name).unwrap().messages;
        let mut changed = Vec::new();
        for (record, _) in messages.values_mut().filter(|(r, _)| is_in(&uids, r.uid)) {
            let before = (record.flags, record.keywords);
            (record.flags, record.keywords) = match change {
                FlagChange::Add => (before.0 | flags, before.1 | bits),
                FlagChange::Remove => (before.0 & !flags, before.1 & !bits),
                FlagChange::Replace => (flags, bits),
            };
            if before != (record.flags, record.keywords) {
                record.modseq = modseq;
                changed.push(*record);
            }
        }
        for some in changed.chunks(RECORDS_PER_FRAME) {
            self.tell(name, || SessionEvent::Changed(some.to_vec()));
        }
    }

    fn copy(
        &mut self,
        peer: &Peer,
        uids: &UidRanges,
        to: &str,
        moves: bool,
    ) -> Result<SessionAnswer, Refusal> {
        let (name, _) = selected(peer)?;
        self.mailbox(to)?;
        let from = self.mailbox(&name)?.clone();
        let meant = from.messages.keys().filter(|uid| is_in(uids, **uid));
        if joined(meant.map(|uid| (*uid, *uid)).collect()).len() > RANGES_PER_FRAME {
            return Err(Refusal::Invalid("too many separate ranges".into()));
        }
        let (mut source, mut target) = (Vec::new(), Vec::new());
        for (uid, (record, bytes)) in from.messages {
            if is_in(uids, uid) {
                let names = from.keywords.iter().enumerate();
                let names = names.filter(|(n, _)| record.keywords >> n & 1 == 1);
                let names: Vec<String> = names.map(|(_, name)| name.clone()).collect();
                let new = self.append(to, bytes, record.flags, &names, record.internal_date);
                source.push((uid, uid));
                target.push((new, new));
            }
        }
        if moves {
            self.remove(&name, source.clone());
        }
        Ok(SessionAnswer::Copied {
            uid_validity: UID_VALIDITY,
            source,
            target,
        })
    }

    fn remove(&mut self, name: &str, uids: UidRanges) {
        self.modseq += 1;
        let modseq = self.modseq;
        let mailbox = self.mailboxes.get_mut(name).unwrap();
        let gone = mailbox.messages.keys().filter(|uid| is_in(&uids, **uid));
        let gone: Vec<u32> = gone.copied().collect();
        mailbox.messages.retain(|uid, _| !gone.contains(uid));
        mailbox
            .removed
            .extend(gone.iter().map(|uid| (modseq, *uid)));
        let uids = joined(gone.iter().map(|uid| (*uid, *uid)).collect());
        if !uids.is_empty() {
            self.tell(name, || SessionEvent::Removed(uids.clone()));
        }
    }

    fn peers(&self) -> impl Iterator<Item = Arc<Peer>> + '_ {
        self.sessions.iter().filter_map(Weak::upgrade)
    }

    fn tell(&self, name: &str, event: impl Fn() -> SessionEvent) {
        self.touched(name, &event());
        for peer in self.peers() {
            let selected = peer.selected.lock().unwrap().clone();
            if selected.is_some_and(|(selected, _)| selected == name) {
                // A session that has ended meanwhile need not hear.
                let _ = peer.events.send(event());
            }
        }
    }
}

fn selected(peer: &Peer) -> Result<(String, bool), Refusal> {
    let selected = peer.selected.lock().unwrap().clone();
    selected.ok_or(Refusal::NothingSelected)
}

fn writable(peer: &Peer) -> Result<String, Refusal> {
    match selected(peer)? {
        (name, false) => Ok(name),
        (_, true) => Err(Refusal::ReadOnly),
    }
}

fn joined(ranges: UidRanges) -> UidRanges {
    Ranges::new(ranges).as_slice().to_vec()
}

fn is_in(ranges: &UidRanges, uid: u32) -> bool {
    ranges.iter().any(|&(a, b)| (a..=b).contains(&uid))
}
