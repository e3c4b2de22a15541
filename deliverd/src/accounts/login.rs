//! The doorman: who may come in with a password, at a bounded cost.
//!
//! Hashing is expensive on purpose, so at most as many hashes are computed at once as there are cores, and a password that was
//! right a moment ago is recognised without one. Unknown users cost as much as known ones.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipc::smtp::Credentials;
use ipc::{Refusal, Secret};
use tokio::sync::Semaphore;
use tracing::{error, info};
use zeroize::Zeroizing;

use super::failures::{Failures, Key};
use super::password::{self, Stored};
use super::{Accounts, address};
use crate::store::Owner;

/// How long a verified password is recognised without hashing it again.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Verified passwords remembered at once.
const MAX_REMEMBERED: usize = 50_000;
/// Logins that may wait for a core; more are told to come back.
const MAX_WAITING: usize = 1000;

/// Decides about logins.
pub(crate) struct Doorman {
    accounts: Arc<Accounts>,
    failures: Failures,
    verified: Verified,
    cores: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Stands in for the record of users that do not exist.
    nobody: Stored,
}

impl Doorman {
    /// `failures` within `window` are heard per client and per user; 0 for no limit.
    pub(crate) fn new(
        accounts: Arc<Accounts>,
        failures: u32,
        window: Duration,
    ) -> Result<Self, Refusal> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let nobody = Stored::new(b"nobody has this password", accounts.iterations)?;
        Ok(Self {
            accounts,
            failures: Failures::new(failures, window),
            verified: Verified::new()?,
            cores: Arc::new(Semaphore::new(cores)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            nobody,
        })
    }

    /// Whose password this is.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        credentials: Credentials,
    ) -> Result<Owner, Refusal> {
        let client = credentials.client.parse::<IpAddr>().map(Key::client).ok();
        let now = Instant::now();
        if client
            .as_ref()
            .is_some_and(|client| !self.failures.attempt(client, now))
        {
            info!(
                client = credentials.client,
                "login refused: too many failures from this client"
            );
            return Err(Refusal::TooManyFailures);
        }
        let result = self.admit_client(&credentials, now).await;
        // Only a wrong user or password is the client's failure.
        if let (Some(client), false) = (&client, matches!(result, Err(Refusal::BadCredentials))) {
            self.failures.forgive(client);
        }
        match &result {
            Ok(owner) => info!(
                account = owner.address(),
                client = credentials.client,
                "login"
            ),
            Err(refusal) => {
                info!(user = ?cut(&credentials.user), client = credentials.client, %refusal, "login refused")
            }
        }
        result
    }

    async fn admit_client(
        self: &Arc<Self>,
        credentials: &Credentials,
        now: Instant,
    ) -> Result<Owner, Refusal> {
        if !password::is_plausible(&credentials.password) {
            return Err(Refusal::BadCredentials);
        }
        // A name that is no address cannot be a user's; it is hashed for like any other.
        let owner = address(&credentials.user)
            .ok()
            .map(|address| Owner::of(&address));
        let Some(owner) = owner else {
            return self.verify(None, credentials.password.clone()).await;
        };
        // Who knows the password is not locked out by somebody who guesses.
        if self.verified.knows(&owner, &credentials.password, now) {
            return Ok(owner);
        }
        let user = Key::User(owner.address());
        if !self.failures.attempt(&user, now) {
            return Err(Refusal::TooManyFailures);
        }
        let result = self.verify(Some(owner), credentials.password.clone()).await;
        if !matches!(result, Err(Refusal::BadCredentials)) {
            self.failures.forgive(&user);
        }
        result
    }

    /// Hashes and compares on a blocking thread, when a core is free.
    async fn verify(
        self: &Arc<Self>,
        owner: Option<Owner>,
        password: Secret,
    ) -> Result<Owner, Refusal> {
        let Ok(_place) = Arc::clone(&self.waiting).try_acquire_owned() else {
            return Err(Refusal::Busy);
        };
        let Ok(core) = Arc::clone(&self.cores).acquire_owned().await else {
            return Err(Refusal::ShuttingDown);
        };
        let doorman = Arc::clone(self);
        let verified = tokio::task::spawn_blocking(move || {
            // The asker may have given up meanwhile; the core is taken until the work is really done.
            let _core = core;
            doorman.verify_now(owner, &password)
        });
        verified.await.unwrap_or_else(|panic| {
            error!(%panic, "bug: a login panicked");
            Err(Refusal::StorageFault)
        })
    }

    fn verify_now(&self, owner: Option<Owner>, password: &Secret) -> Result<Owner, Refusal> {
        // Taken first: a password changed from here on makes what follows void.
        let epoch = self.verified.epoch();
        let stored = match &owner {
            Some(owner) => self.accounts.stored_password(owner)?,
            None => None,
        };
        let (Some(owner), Some(stored)) = (owner, stored) else {
            self.nobody.verify(password.reveal());
            return Err(Refusal::BadCredentials);
        };
        if !stored.verify(password.reveal()) {
            return Err(Refusal::BadCredentials);
        }
        if stored.iterations < self.accounts.iterations {
            let renewed = Stored::new(password.reveal(), self.accounts.iterations)?;
            if self.accounts.renew_password(&owner, &stored, &renewed)? {
                info!(
                    account = owner.address(),
                    "password record renewed with more iterations"
                );
            }
        }
        self.verified.remember(&owner, password, epoch);
        Ok(owner)
    }

    /// Forgets verified passwords of a user: it got a new one, or was removed.
    pub(crate) fn forget(&self, owner: &Owner) {
        self.verified.forget(owner);
    }
}

/// A user name as it may stand in a log: whatever the client sent, but not all of it.
fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(64).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

/// Passwords that were right, as HMACs under a key that dies with the process.
struct Verified {
    key: Zeroizing<[u8; 32]>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    known: HashMap<Owner, (Vec<u8>, Instant)>,
    /// Counts changes, so that a hash computed before a change is not remembered after it.
    changes: u64,
}

impl Verified {
    fn new() -> Result<Self, Refusal> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key).map_err(|error| {
            error!(%error, "cannot get random bytes");
            Refusal::StorageFault
        })?;
        Ok(Self {
            key,
            inner: Mutex::new(Inner::default()),
        })
    }

    fn tag(&self, owner: &Owner, password: &Secret) -> Vec<u8> {
        let mut message = Zeroizing::new(owner.address().into_bytes());
        // An address holds no NUL, so no two pairs give one message.
        message.push(0);
        message.extend_from_slice(password.reveal());
        password::mac(&*self.key, &message)
    }

    fn knows(&self, owner: &Owner, password: &Secret, now: Instant) -> bool {
        let tag = self.tag(owner, password);
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((known, since)) = inner.known.get(owner) else {
            return false;
        };
        now.duration_since(*since) < REMEMBERED
            && subtle::ConstantTimeEq::ct_eq(known.as_slice(), &tag).into()
    }

    fn epoch(&self) -> u64 {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .changes
    }

    fn remember(&self, owner: &Owner, password: &Secret, epoch: u64) {
        let tag = self.tag(owner, password);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.changes != epoch {
            return;
        }
        if inner.known.len() >= MAX_REMEMBERED {
            inner
                .known
                .retain(|_, (_, since)| since.elapsed() < REMEMBERED);
            if inner.known.len() >= MAX_REMEMBERED {
                inner.known.clear();
            }
        }
        inner.known.insert(owner.clone(), (tag, Instant::now()));
    }

    fn forget(&self, owner: &Owner) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.changes += 1;
        inner.known.remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        _temp: tempfile::TempDir,
        accounts: Arc<Accounts>,
        doorman: Arc<Doorman>,
    }

    fn alice() -> Owner {
        Owner {
            local: "alice".into(),
            domain: "a.example".into(),
        }
    }

    fn world(limit: u32) -> World {
        let temp = tempfile::tempdir().unwrap();
        let accounts = Arc::new(Accounts::cheap(temp.path()));
        accounts.add_domain("a.example", None).unwrap();
        accounts
            .add_user(
                &alice(),
                &Secret::new("password"),
                ipc::quota::Limits::default(),
            )
            .unwrap();
        let doorman =
            Arc::new(Doorman::new(Arc::clone(&accounts), limit, Duration::from_secs(60)).unwrap());
        World {
            _temp: temp,
            accounts,
            doorman,
        }
    }

    impl World {
        async fn login(&self, user: &str, password: &str, client: &str) -> Result<Owner, Refusal> {
            let password = Secret::new(password);
            self.doorman
                .admit(Credentials {
                    user: user.into(),
                    password,
                    client: client.into(),
                })
                .await
        }
    }

    #[tokio::test]
    async fn the_right_password_opens_in_any_letter_case_of_the_address() {
        assert_eq!(
            world(3)
                .login("Alice@A.EXAMPLE", "password", "192.0.2.1")
                .await,
            Ok(alice())
        );
    }

    #[tokio::test]
    async fn wrong_password_unknown_user_and_nonsense_are_the_same_refusal() {
        let world = world(0);
        let long = "x".repeat(5000);
        for (user, password) in [
            ("alice@a.example", "passwore"),
            ("alice@a.example", ""),
            ("alice@a.example", long.as_str()),
            ("nobody@a.example", "password"),
            ("alice@b.example", "password"),
            ("alice", "password"),
            ("", "password"),
            ("alice@a.example'--", "password"),
            ("alice\0@a.example", "password"),
        ] {
            assert_eq!(
                world.login(user, password, "192.0.2.1").await,
                Err(Refusal::BadCredentials),
                "{user:?}"
            );
        }
    }

    #[tokio::test]
    async fn too_many_failures_shut_out_the_client_even_on_loopback() {
        let world = world(3);
        for number in 0..3 {
            let user = format!("user{number}@a.example");
            assert_eq!(
                world.login(&user, "wrong123", "127.0.0.1").await,
                Err(Refusal::BadCredentials)
            );
        }
        assert_eq!(
            world
                .login("alice@a.example", "password", "127.0.0.1")
                .await,
            Err(Refusal::TooManyFailures)
        );
        assert_eq!(
            world
                .login("alice@a.example", "password", "127.0.0.2")
                .await,
            Ok(alice())
        );
    }

    #[tokio::test]
    async fn too_many_failures_shut_out_guesses_at_one_user_from_many_clients() {
        let world = world(3);
        for number in 0..3 {
            let client = format!("192.0.2.{number}");
            assert_eq!(
                world.login("alice@a.example", "wrong123", &client).await,
                Err(Refusal::BadCredentials)
            );
        }
        assert_eq!(
            world
                .login("alice@a.example", "password", "192.0.2.9")
                .await,
            Err(Refusal::TooManyFailures)
        );
    }

    #[tokio::test]
    async fn who_was_let_in_a_moment_ago_is_not_locked_out_by_a_guesser() {
        let world = world(3);
        world
            .login("alice@a.example", "password", "192.0.2.1")
            .await
            .unwrap();
        for number in 10..20 {
            let _ = world
                .login("alice@a.example", "wrong123", &format!("192.0.2.{number}"))
                .await;
        }
        assert_eq!(
            world
                .login("alice@a.example", "password", "192.0.2.1")
                .await,
            Ok(alice())
        );
    }

    #[tokio::test]
    async fn guesses_at_the_same_time_count_too() {
        let world = world(3);
        let guesses = (0..20).map(|number| {
            let doorman = Arc::clone(&world.doorman);
            tokio::spawn(async move {
                let password = Secret::new(format!("guess{number}"));
                doorman
                    .admit(Credentials {
                        user: "alice@a.example".into(),
                        password,
                        client: "192.0.2.1".into(),
                    })
                    .await
            })
        });
        let mut heard = 0;
        for guess in guesses.collect::<Vec<_>>() {
            heard += usize::from(guess.await.unwrap() == Err(Refusal::BadCredentials));
        }
        assert_eq!(heard, 3);
    }

    #[tokio::test]
    async fn a_new_password_ends_the_old_one_at_once() {
        let world = world(0);
        world
            .login("alice@a.example", "password", "192.0.2.1")
            .await
            .unwrap();
        world
            .accounts
            .set_password(&alice(), &Secret::new("another1"))
            .unwrap();
        world.doorman.forget(&alice());
        assert_eq!(
            world
                .login("alice@a.example", "password", "192.0.2.1")
                .await,
            Err(Refusal::BadCredentials)
        );
        assert_eq!(
            world
                .login("alice@a.example", "another1", "192.0.2.1")
                .await,
            Ok(alice())
        );
    }

    #[tokio::test]
    async fn an_old_record_is_verified_and_renewed() {
        let world = world(0);
        world
            .accounts
            .store_password(&alice(), &Stored::new(b"password", 8).unwrap())
            .unwrap();
        world
            .login("alice@a.example", "password", "192.0.2.1")
            .await
            .unwrap();
        let stored = world.accounts.stored_password(&alice()).unwrap().unwrap();
        assert_eq!(stored.iterations, 16);
        world.doorman.forget(&alice());
        assert_eq!(
            world
                .login("alice@a.example", "password", "192.0.2.1")
                .await,
            Ok(alice())
        );
    }

    #[test]
    fn what_was_verified_before_a_change_is_not_remembered_after_it() {
        let verified = Verified::new().unwrap();
        let epoch = verified.epoch();
        verified.forget(&alice());
        verified.remember(&alice(), &Secret::new("password"), epoch);
        assert!(!verified.knows(&alice(), &Secret::new("password"), Instant::now()));
    }
}
