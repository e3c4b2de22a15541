//! One client, from the greeting to the end: waits for commands and for news, and performs what is asked in order.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use daemon::Stop;
use daemon::port::Client;
use imap::capability::{self, Limits, Login, Off};
use imap::dialect::Dialect;
use imap::fragment::{Fragment, LIMIT_BEFORE_LOGIN};
use imap::parse::{self, BadCommand};
use imap::response::{self, Code, Kind};
use imap::state::{self, State};
use imap::switch;
use imap::sync::Awareness;
use imap::uid_only;
use ipc::session::SessionEvent;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use crate::ask::MailSession;
use crate::cmd::context::next_passing;
use crate::cmd::notify::Wishes;
use crate::cmd::{self, Done};
use crate::house::House;
use crate::pages;
use crate::stream::Stream;
use crate::view::{Expunges, Fate, View};
use crate::wire::{Close, TOO_LONG, TOO_SLOW, Wire};
use crate::words::Tagged;

/// How long a client may take to log in.
const PATIENCE_BEFORE_LOGIN: Duration = Duration::from_mins(1);
// RFC 9051 §5.4: an autologout timer after authentication is at least 30 minutes.
const PATIENCE: Duration = Duration::from_mins(30);
/// So many commands that make no sense, or logins that fail, and the connection ends.
const MISTAKES_BEFORE_LOGIN: u32 = 10;
const MISTAKES: u32 = 100;
/// How often what happened while news were told is told with them; the rest comes with the next news.
const ROUNDS: usize = 8;

/// How a session ended.
#[derive(Debug)]
pub enum End {
    /// The connection is of no more use.
    Closed,
    /// The client was promised TLS.
    StartTls(Stream),
}

/// Somebody who logged in.
#[derive(Debug)]
pub struct User {
    /// The account's address.
    pub account: String,
    /// Its mail.
    pub mail: MailSession,
    /// How many messages a command of theirs is about.
    pub limits: Limits,
}

/// One client's session.
#[derive(Debug)]
pub struct Session {
    pub(crate) wire: Wire,
    pub(crate) house: Arc<House>,
    pub(crate) client: Client,
    pub(crate) stop: Stop,
    pub(crate) user: Option<User>,
    pub(crate) view: Option<View>,
    /// What the client has shown to know of RFC 7162.
    pub(crate) awareness: Awareness,
    /// What it has switched on that changes how things are written.
    pub(crate) dialect: Dialect,
    /// What it wants to hear unasked, if it has said so.
    pub(crate) wishes: Option<Box<Wishes>>,
    begun: Instant,
    mistakes: u32,
}

impl Session {
    /// A session in which nothing was said yet.
    #[must_use]
    pub fn new(stream: Stream, house: Arc<House>, client: Client, stop: Stop) -> Self {
        Self {
            wire: Wire::new(stream),
            house,
            client,
            stop,
            user: None,
            view: None,
            awareness: Awareness::Plain,
            dialect: Dialect::REV1,
            wishes: None,
            begun: Instant::now(),
            mistakes: 0,
        }
    }

    /// Says hello. Not to be said again behind STARTTLS (RFC 3501 §6.2.1).
    pub fn greet(&mut self) {
        let capabilities = self.capabilities();
        let code = Code::Capability(&capabilities);
        let text = format!("{} ready", self.house.hostname);
        self.wire.say(Kind::Ok, Some(&code), &text);
    }

    /// Talks until the connection ends or TLS is to be started.
    pub async fn run(mut self) -> End {
        let close = match self.converse().await {
            Ok(Leave::StartTls) => return End::StartTls(self.wire.into_stream()),
            Ok(Leave::LoggedOut) => Close::HungUp,
            Err(close) => close,
        };
        debug!(reason = %close, "closing");
        self.wire.close(&close).await;
        if let Some(user) = &self.user {
            info!(account = user.account, "logged out");
        }
        End::Closed
    }

    async fn converse(&mut self) -> Result<Leave, Close> {
        loop {
            while let Some(fragment) = self.wire.fragmenter.next() {
                if let Some(leave) = self.perform(fragment).await? {
                    self.wire.flush().await?;
                    return Ok(leave);
                }
                self.wire.flush_if_full().await?;
            }
            self.wire.flush().await?;
            if let (Some(user), Some(view)) = (&self.user, &mut self.view) {
                view.notes.give(&user.mail).await;
            }
            self.wire.settle();
            self.wait(self.deadline()).await?;
        }
    }

    /// Waits until something was read, noting changes meanwhile.
    async fn wait(&mut self, end: Instant) -> Result<(), Close> {
        loop {
            tokio::select! {
                read = self.wire.read() => return read,
                event = next_event(self.user.as_ref()) => {
                    self.note(event)?;
                    if self.wishes.is_some() || self.is_following() {
                        Box::pin(self.push()).await?;
                    }
                }
                () = next_passing(self.view.as_ref()) => Box::pin(self.push()).await?,
                () = sleep_until(end) => return Err(TOO_SLOW),
                () = self.stop.requested() => return Err(STOPPING),
            }
        }
    }

    /// When a client that is waited for from now on is given up. Before login nothing it says puts that off.
    fn deadline(&self) -> Instant {
        match self.user {
            Some(_) => Instant::now() + PATIENCE,
            None => self.begun + PATIENCE_BEFORE_LOGIN,
        }
    }

    async fn perform(&mut self, fragment: Fragment) -> Result<Option<Leave>, Close> {
        match fragment {
            Fragment::Command(bytes) => return self.execute(&bytes).await,
            Fragment::Continue => response::continuation("go on", &mut self.wire.out),
            Fragment::TooLarge(head) => {
                self.complain(parse::tag(&head).as_deref(), "the literal is too large")?;
            }
            Fragment::Message {
                head,
                size,
                waits,
                binary,
            } => {
                let literal = cmd::append::Literal {
                    size,
                    waits,
                    binary,
                };
                Box::pin(cmd::append::append(self, &head, literal)).await?;
            }
            Fragment::Overflow => return Err(TOO_LONG),
            // Only an accepted message brings these, and whoever accepted it takes them.
            Fragment::Chunk(_) | Fragment::MessageEnd { .. } => {}
        }
        Ok(None)
    }

    async fn execute(&mut self, bytes: &[u8]) -> Result<Option<Leave>, Close> {
        let request = match parse::request_in(self.dialect, bytes) {
            Ok(request) => request,
            Err(bad) => {
                self.refuse_http(bytes)?;
                self.complain_about(&bad)?;
                return Ok(None);
            }
        };
        let name = request.command.name();
        if let Some(missing) = switch::missing(&request.command, self.off()) {
            self.refuse_what_is_off(&request.tag, missing)?;
            return Ok(None);
        }
        if let Err(text) = state::check(&request.command, self.state()) {
            self.complain(Some(&request.tag), text)?;
            return Ok(None);
        }
        if self.dialect.uid_only && uid_only::names_numbers(&request.command) {
            self.refuse_numbers(&request.tag)?;
            return Ok(None);
        }
        let expunges = cmd::expunges(&request.command);
        let started = Instant::now();
        let done = cmd::execute(self, &request.tag, request.command).await?;
        debug!(command = name, took = ?started.elapsed(), "done");
        match done {
            Done::Say(tagged) => self.finish(expunges, &tagged).await?,
            Done::Compress(tagged) => {
                self.finish(expunges, &tagged).await?;
                self.wire.flush().await?;
                self.wire.compress();
            }
            Done::StartTls(tagged) => {
                self.wire.out.extend_from_slice(tagged.as_bytes());
                return Ok(Some(Leave::StartTls));
            }
            Done::LogOut(tagged) => {
                self.wire.out.extend_from_slice(tagged.as_bytes());
                return Ok(Some(Leave::LoggedOut));
            }
        }
        Ok(None)
    }

    /// Tells the news the client may hear now, then the last line of the answer.
    pub(crate) async fn finish(
        &mut self,
        expunges: Expunges,
        tagged: &Tagged,
    ) -> Result<(), Close> {
        let outcome = match self.note_events() {
            Ok(()) => self.refresh().await,
            Err(close) => Err(close),
        };
        let outcome = match outcome {
            Ok(()) => match self.tell(expunges).await {
                Ok(()) => self.tell_happenings().await,
                Err(close) => Err(close),
            },
            Err(close) => {
                // What needs no reading can be told all the same.
                let told = self.view.as_mut();
                let told = told.map(|view| view.tell(expunges, &mut self.wire.out));
                debug!(?told, "the last that is told");
                Err(close)
            }
        };
        // Also where the session is to end: what was done was done.
        self.wire.out.extend_from_slice(tagged.as_bytes());
        outcome
    }

    /// Notes all changes that are there.
    pub(crate) fn note_events(&mut self) -> Result<(), Close> {
        while let Some(event) = self.user.as_ref().and_then(|user| user.mail.try_event()) {
            self.note(Some(event))?;
        }
        Ok(())
    }

    /// Notes a change; `None` means that deliverd is gone.
    pub(crate) fn note(&mut self, event: Option<SessionEvent>) -> Result<(), Close> {
        let event = event.ok_or(ABANDONED)?;
        if let Some(view) = &mut self.view {
            view.note(event);
            // RFC 3501 has no word for it but BYE; the client comes back and finds what is there.
            if view.fate() == Fate::Gone {
                return Err(MAILBOX_GONE);
            }
        }
        Ok(())
    }

    /// Selects again where changes were lost, so that the client hears of them all the same.
    pub(crate) async fn refresh(&mut self) -> Result<(), Close> {
        let (Some(user), Some(view)) = (&self.user, &mut self.view) else {
            return Ok(());
        };
        let refreshed = pages::refresh(&user.mail, view).await;
        refreshed.map_err(|_| farewell(view.fate()))
    }

    /// Tells the client what it may hear now.
    pub(crate) async fn tell(&mut self, expunges: Expunges) -> Result<(), Close> {
        for _ in 0..ROUNDS {
            let (Some(user), Some(view)) = (&self.user, &mut self.view) else {
                return Ok(());
            };
            let told = pages::tell(&user.mail, view, expunges, &mut self.wire).await?;
            told.map_err(|_| farewell(view.fate()))?;
            if !self.is_following() || !Box::pin(self.follow()).await? {
                break;
            }
        }
        let Some(view) = &mut self.view else {
            return Ok(());
        };
        let shown = std::mem::take(&mut view.to_show);
        if shown > 0 && self.wishes.is_some() {
            Box::pin(self.show_new(shown)).await?;
        }
        Ok(())
    }

    /// From now on the client hears of changes in this way, or in the one it has asked for already.
    pub(crate) fn learn(&mut self, awareness: Awareness) {
        self.awareness = self.awareness.max(awareness);
        if let Some(view) = &mut self.view {
            view.awareness = self.awareness;
        }
    }

    /// From now on both sides write things in this way.
    pub(crate) const fn speak(&mut self, dialect: Dialect) {
        self.dialect = dialect;
        if let Some(view) = &mut self.view {
            view.dialect = dialect;
        }
    }

    /// Nobody is logged in any more, and nothing is left of who was (RFC 8437 §3).
    pub(crate) fn forget_user(&mut self) {
        if let Some(user) = self.user.take() {
            info!(account = user.account, "logged out");
        }
        self.view = None;
        self.awareness = Awareness::Plain;
        self.dialect = Dialect::REV1;
        self.wishes = None;
        self.wire.fragmenter.allow(LIMIT_BEFORE_LOGIN);
        self.begun = Instant::now();
    }

    pub(crate) const fn state(&self) -> State {
        match (&self.user, &self.view) {
            (None, _) => State::NotAuthenticated,
            (Some(_), None) => State::Authenticated,
            (Some(_), Some(_)) => State::Selected,
        }
    }

    /// Whether a password may be sent as things are.
    // RFC 8314 §3.1: not in clear text, except within this machine if the admin says so.
    pub(crate) fn may_log_in(&self) -> bool {
        self.wire.is_secure()
            || self.house.cleartext_on_loopback && self.client.address.is_loopback()
    }

    /// What a login can be bound to.
    pub(crate) fn proofs(&self) -> sasl::Proofs {
        sasl::Proofs {
            binding: self.wire.channel_binding().is_some(),
            certificate: !self.wire.certificates().is_empty(),
        }
    }

    /// Answers a command that needs an extension which the account is not offered.
    pub(crate) fn refuse_what_is_off(&mut self, tag: &str, missing: &str) -> Result<(), Close> {
        self.complain(Some(tag), &not_offered(missing))
    }

    /// Answers a command that names messages by their place where that is switched off (RFC 9586 §3).
    pub(crate) fn refuse_numbers(&mut self, tag: &str) -> Result<(), Close> {
        let (kind, code) = (Kind::Bad, Code::UidRequired);
        response::tagged(
            tag,
            kind,
            Some(&code),
            uid_only::REFUSAL,
            &mut self.wire.out,
        );
        self.count_mistake()
    }

    /// What the account is not offered.
    pub(crate) fn off(&self) -> Off {
        let user = self.user.as_ref();
        user.map_or_else(Off::default, |user| user.mail.off)
    }

    pub(crate) fn capabilities(&self) -> Cow<'static, str> {
        if self.user.is_some() {
            let House {
                append_limit,
                limits,
                ..
            } = *self.house;
            return capability::after_login(self.off(), append_limit, limits).into();
        }
        let proofs = self.proofs();
        let list = capability::before_login(match (self.wire.is_secure(), self.may_log_in()) {
            (true, _) if proofs.binding => Login::NowAndBound,
            (true, _) => Login::Now,
            (false, true) => Login::NowOrAfterTls,
            (false, false) => Login::AfterTls,
        });
        match proofs.certificate {
            true => capability::with_certificate(list).into(),
            false => list.into(),
        }
    }

    fn complain_about(&mut self, bad: &BadCommand) -> Result<(), Close> {
        self.complain(bad.tag.as_deref(), &bad.error.to_string())
    }

    /// Says BAD, and ends a session that makes too many mistakes.
    pub(crate) fn complain(&mut self, tag: Option<&str>, text: &str) -> Result<(), Close> {
        match tag {
            Some(tag) => response::tagged(tag, Kind::Bad, None, text, &mut self.wire.out),
            // RFC 3501 §7.1.3: an untagged BAD where the tag could not be read.
            None => self.wire.say(Kind::Bad, None, text),
        }
        self.count_mistake()
    }

    /// One more mistake, or failed login.
    pub(crate) const fn count_mistake(&mut self) -> Result<(), Close> {
        self.mistakes += 1;
        let most = match self.user {
            Some(_) => MISTAKES,
            None => MISTAKES_BEFORE_LOGIN,
        };
        if self.mistakes < most {
            Ok(())
        } else {
            Err(TOO_MANY_MISTAKES)
        }
    }

    // A browser that was lured here must not find anyone who understands some of what it says (ALPACA).
    fn refuse_http(&self, bytes: &[u8]) -> Result<(), Close> {
        let is_http = bytes.windows(8).any(|window| window == b" HTTP/1.");
        if self.user.is_none() && is_http {
            return Err(NOT_HTTP);
        }
        Ok(())
    }
}

/// Why a client cannot be kept up to date.
pub(crate) const fn farewell(fate: Fate) -> Close {
    match fate {
        Fate::Gone => MAILBOX_GONE,
        Fate::Lost => CHANGES_LOST,
        Fate::Selected | Fate::Stale => ABANDONED,
    }
}

/// Why a session leaves its loop in good order.
enum Leave {
    StartTls,
    LoggedOut,
}

/// Waits for a change in somebody's mail; for ever where nobody has logged in.
pub(crate) async fn next_event(user: Option<&User>) -> Option<SessionEvent> {
    match user {
        Some(user) => user.mail.event().await,
        None => std::future::pending().await,
    }
}

pub(crate) const STOPPING: Close = Close::Bye {
    code: Some(Code::Unavailable),
    text: "the server is stopping, come back in a moment",
};
const ABANDONED: Close = Close::Bye {
    code: Some(Code::Unavailable),
    text: "the store was restarted, come back in a moment",
};
const MAILBOX_GONE: Close = Close::Bye {
    code: None,
    text: "the selected mailbox was deleted or renamed",
};
const CHANGES_LOST: Close = Close::Bye {
    code: Some(Code::Unavailable),
    text: "changes of the selected mailbox were lost, come back and read it again",
};
const TOO_MANY_MISTAKES: Close = Close::Bye {
    code: None,
    text: "too many mistakes, goodbye",
};
const NOT_HTTP: Close = Close::Bye {
    code: None,
    text: "this is IMAP",
};

/// What is said of something that is switched off for an account.
pub(crate) fn not_offered(missing: &str) -> String {
    format!("unknown command: {missing} is not offered to this account")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Ask;
    use daemon::limits::Limits;
    use daemon::tls::Certificates;
    use tokio::net::{TcpListener, TcpStream};

    async fn session() -> Session {
        // Another test of this process may have been first.
        let _ = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
        let home = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["mx.example.org".to_string()]).unwrap();
        std::fs::write(home.path().join("tls.crt"), made.cert.pem()).unwrap();
        let key = made.signing_key.serialize_pem();
        std::fs::write(home.path().join("tls.key"), key).unwrap();
        let limits = Limits {
            total: 0,
            per_address: 0,
        };
        let ask = Ask::new(home.path().join("deliverd.sock"));
        let certificates = Certificates::load(home.path()).unwrap();
        let name = "mx.example.org".into();
        let house = House::new(name, true, ask, limits, certificates, 1 << 20);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = Stream::Clear(TcpStream::connect(address).await.unwrap());
        let client = Client {
            address: address.ip(),
            session: 1,
        };
        let (_, stop) = daemon::stop::channel();
        Session::new(stream, Arc::new(house), client, stop)
    }

    #[tokio::test]
    async fn a_password_in_clear_text_comes_from_this_machine_only() {
        let mut session = session().await;
        assert!(session.may_log_in());
        session.client.address = "192.0.2.1".parse().unwrap();
        assert!(!session.may_log_in());
    }

    #[tokio::test]
    async fn before_login_nothing_a_client_says_puts_its_deadline_off() {
        let session = session().await;
        let deadline = session.deadline();
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(session.deadline(), deadline);
    }
}
