//! How imapd comes to the mail: logins, and what is asked of a mail session.

use super::*;

/// Answers imapd.
pub(crate) struct Front(pub(crate) Arc<Store>, pub(crate) Stop);

impl Service<ImapEdge> for Front {
    type Peer = ();

    fn open(&self, _: Events<ImapEdge>) {}

    async fn answer(
        &self,
        _: Arc<()>,
        call: Call<ImapRequest>,
    ) -> Result<Answered<ImapAnswer>, Refusal> {
        let credentials = match call.request {
            ImapRequest::Authenticate(credentials) => credentials,
            ImapRequest::Login(request) => return self.0.log_in(request),
        };
        let is_alice = credentials.user == "alice@example.org";
        if credentials.user == "slow@example.org" {
            return Err(Refusal::BadCredentials { wait: 1 });
        }
        if !is_alice || credentials.password.reveal() != b"secret-alice" {
            return Err(Refusal::BadCredentials { wait: 0 });
        }
        let (ours, theirs) = PacketSocket::pair().unwrap();
        let service = Arc::new(Door(Arc::clone(&self.0), self.1.clone()));
        tokio::spawn(attend(ours, service, self.1.clone()));
        let account = credentials.user;
        let without = self.0.state.lock().unwrap().without.clone();
        let answer = ImapAnswer::SessionOpened { account, without };
        Ok(Answered::with(answer, vec![OwnedFd::from(theirs)]))
    }
}

impl Store {
    /// After so many answers with pages comes one that is none.
    pub(crate) fn lie_once_after(&self, answers: usize) {
        self.state.lock().unwrap().good_pages = Some(answers);
    }

    /// The disk does not give this message's bytes any more.
    pub(crate) fn spoil(&self, uid: u32) {
        self.state.lock().unwrap().spoilt.insert(uid);
    }

    /// Somebody else adds flags to a message right before the next STORE is done.
    pub(crate) fn overtake(&self, uid: u32, flags: u8) {
        self.state.lock().unwrap().overtakes = Some((uid, flags));
    }

    /// Says back what the client said first, and then that it was wrong.
    fn log_in(&self, request: LoginRequest) -> Result<Answered<ImapAnswer>, Refusal> {
        match request {
            LoginRequest::Begin(start) if start.message.reveal() == b"slow" => {
                Err(Refusal::BadCredentials { wait: 1 })
            }
            LoginRequest::Begin(start) if start.message.reveal() == b"garbled" => {
                Err(Refusal::Invalid("garbled".into()))
            }
            LoginRequest::Begin(start) => {
                Ok(Answered::plain(ImapAnswer::LoginChallenged(Challenge {
                    exchange: 1,
                    message: start.message,
                })))
            }
            LoginRequest::Continue { .. } => Err(Refusal::BadCredentials { wait: 0 }),
            LoginRequest::Abandon { .. } => {
                self.state.lock().unwrap().abandoned += 1;
                Ok(Answered::plain(ImapAnswer::LoginAbandoned))
            }
        }
    }
}

/// Answers the holder of a mail session.
struct Door(Arc<Store>, Stop);

/// Boxed: a session may open another.
fn attend(
    socket: PacketSocket,
    door: Arc<Door>,
    stop: Stop,
) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move { serve_link(socket, door, stop).await.unwrap() })
}

impl Service<SessionEdge> for Door {
    type Peer = Arc<Peer>;

    fn open(&self, events: Events<SessionEdge>) -> Arc<Peer> {
        let peer = Arc::new(Peer {
            events,
            selected: Mutex::default(),
            uploads: Mutex::default(),
            kept: Mutex::default(),
            watch: Mutex::default(),
        });
        let mut state = self.0.state.lock().unwrap();
        state.sessions.push(Arc::downgrade(&peer));
        state.mailboxes.entry("INBOX".into()).or_default();
        peer
    }

    async fn answer(
        &self,
        peer: Arc<Arc<Peer>>,
        call: Call<SessionRequest>,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        match call.request {
            SessionRequest::Append {
                mailbox,
                bytes,
                flags,
                keywords,
                internal_date,
            } => {
                let kept = Kept {
                    mailbox,
                    bytes,
                    flags,
                    keywords,
                    date: internal_date.unwrap_or(1_000_000_000),
                };
                let mut state = self.0.state.lock().unwrap();
                state.mailbox(&kept.mailbox)?;
                let uid = state.replace(&peer, kept, None)?;
                Ok(Answered::plain(SessionAnswer::Appended {
                    uid_validity: UID_VALIDITY,
                    uid,
                }))
            }
            SessionRequest::OpenAppend { mailbox, size } => self.open_append(&peer, mailbox, size),
            SessionRequest::ExtendAppend { message, size } => {
                if size > u64::from(APPEND_LIMIT) {
                    return Err(Refusal::MessageTooLarge);
                }
                let uploads = peer.uploads.lock().unwrap();
                let known = uploads.contains_key(&message.0);
                assert!(known, "an upload that is not there");
                Ok(Answered::plain(SessionAnswer::Done))
            }
            SessionRequest::CommitAppend {
                message,
                size,
                flags,
                keywords,
                internal_date,
                replaces,
            } => {
                let kept = finish(&peer, message, size, flags, keywords, internal_date).await?;
                let mut state = self.0.state.lock().unwrap();
                let uid = state.replace(&peer, kept, replaces)?;
                let uid_validity = UID_VALIDITY;
                Ok(Answered::plain(SessionAnswer::Appended {
                    uid_validity,
                    uid,
                }))
            }
            SessionRequest::KeepAppend {
                message,
                size,
                flags,
                keywords,
                internal_date,
            } => {
                let kept = finish(&peer, message, size, flags, keywords, internal_date).await?;
                peer.kept.lock().unwrap().push(kept);
                Ok(Answered::plain(SessionAnswer::Done))
            }
            SessionRequest::CommitKept => {
                let kept = std::mem::take(&mut *peer.kept.lock().unwrap());
                let mut state = self.0.state.lock().unwrap();
                let uids = kept.into_iter().map(|kept| state.place(kept));
                let uids = joined(uids.map(|uid| (uid, uid)).collect());
                let uid_validity = UID_VALIDITY;
                Ok(Answered::plain(SessionAnswer::KeptAppended {
                    uid_validity,
                    uids,
                }))
            }
            SessionRequest::ForgetKept => {
                peer.kept.lock().unwrap().clear();
                Ok(Answered::plain(SessionAnswer::Done))
            }
            SessionRequest::AbortAppend { message } => {
                peer.uploads.lock().unwrap().remove(&message.0);
                Ok(Answered::plain(SessionAnswer::Done))
            }
            SessionRequest::OpenCache { kind, shards } => {
                let (name, _) = selected(&peer)?;
                let mut caches = self.0.caches.lock().unwrap();
                let is_kept = !(caches.without_text && kind == CacheKind::Text);
                let (shards, fds) = caches.open(&name, kind, &shards);
                let answer = SessionAnswer::CachesOpened { shards, is_kept };
                Ok(Answered::with(answer, fds))
            }
            SessionRequest::OpenBeside => {
                let (ours, theirs) = PacketSocket::pair().unwrap();
                let service = Arc::new(Self(Arc::clone(&self.0), self.1.clone()));
                tokio::spawn(attend(ours, service, self.1.clone()));
                let fds = vec![OwnedFd::from(theirs)];
                Ok(Answered::with(SessionAnswer::BesideOpened, fds))
            }
            SessionRequest::FillCache { kind, entries } => self.fill_cache(&peer, kind, entries),
            request => self.0.state.lock().unwrap().answer(&peer, request),
        }
    }
}

/// A message all of whose bytes were written.
async fn finish(
    peer: &Peer,
    message: MessageHandle,
    size: u64,
    flags: u8,
    keywords: Vec<String>,
    internal_date: Option<i64>,
) -> Result<Kept, Refusal> {
    let upload = peer.uploads.lock().unwrap().remove(&message.0);
    let (mailbox, bytes) = upload.ok_or(Refusal::UnknownHandle)?;
    let bytes = bytes.await.unwrap();
    if bytes.len() as u64 != size {
        return Err(Refusal::SizeMismatch);
    }
    Ok(Kept {
        mailbox,
        bytes,
        flags,
        keywords,
        date: internal_date.unwrap_or(1_000_000_000),
    })
}

impl Door {
    fn open_append(
        &self,
        peer: &Peer,
        mailbox: String,
        size: u64,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        if size > u64::from(APPEND_LIMIT) {
            return Err(Refusal::MessageTooLarge);
        }
        self.0.state.lock().unwrap().mailbox(&mailbox)?;
        let (ours, theirs) = stream_pair().unwrap();
        let mut stream = UnixStream::from_std(ours).unwrap();
        let bytes = tokio::spawn(async move {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            bytes
        });
        let mut uploads = peer.uploads.lock().unwrap();
        let handle = uploads.len() as u64 + 1;
        uploads.insert(handle, (mailbox, bytes));
        let answer = SessionAnswer::AppendOpened(MessageHandle(handle));
        Ok(Answered::with(answer, vec![theirs.into()]))
    }
}

impl Door {
    fn fill_cache(
        &self,
        peer: &Peer,
        kind: CacheKind,
        entries: Vec<NewEntry>,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        let (name, _) = selected(peer)?;
        if self.0.caches.lock().unwrap().off {
            return Err(Refusal::Busy);
        }
        let (ours, theirs) = stream_pair().unwrap();
        let mut stream = UnixStream::from_std(ours).unwrap();
        let caches = Arc::clone(&self.0.caches);
        tokio::spawn(async move {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            caches.lock().unwrap().fill(&name, kind, &entries, &bytes);
        });
        Ok(Answered::with(
            SessionAnswer::CacheAwaited,
            vec![theirs.into()],
        ))
    }
}
