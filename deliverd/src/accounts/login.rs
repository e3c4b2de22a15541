//! The doorman: who may come in with a password, at a bounded cost.
//!
//! Hashing is expensive on purpose, so at most as many hashes are computed at once as there are cores, and a password that was
//! right a moment ago is recognised without one. Unknown users cost as much as known ones.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipc::smtp::Credentials;
use ipc::{Refusal, Secret};
use tokio::sync::Semaphore;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use super::failures::{Attempt, Ban, Failed, Failures, Key, MAX_BANS, Network, Patience};
use super::password::{self, Match, Stored};
use super::{Accounts, address};
use crate::clock;
use crate::store::Owner;

/// How long a verified password is recognised without hashing it again.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Verified passwords remembered at once.
const MAX_REMEMBERED: usize = 50_000;
/// Logins that may wait for a core; more are told to come back.
const MAX_WAITING: usize = 1000;

/// Decides about logins.
pub(crate) struct Doorman {
    pub(super) accounts: Arc<Accounts>,
    pub(super) failures: Failures,
    verified: Verified,
    cores: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Stands in for the record of users that do not exist.
    nobody: Stored,
    /// What their salts are made with.
    pub(super) salt_key: Vec<u8>,
    /// Where the authorities are that vouch for clients' certificates.
    pub(super) authorities: Option<PathBuf>,
}

/// Who wants to come in.
pub(super) struct Who {
    /// A name that is no address cannot be a user's.
    pub(super) owner: Option<Owner>,
    /// What its failures are counted for.
    pub(super) key: Key,
    /// For the log: whatever the client said, but not all of it.
    user: String,
    client: String,
}

impl Who {
    /// `client` is an IP address; whoever has none shares one network with all others who have none.
    pub(super) fn new(user: &str, client: &str) -> Self {
        let owner = address(user).ok().map(|address| Owner::of(&address));
        let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let network = Network::of(client.parse().unwrap_or(unknown));
        let account = owner.as_ref().map(Owner::address);
        Self {
            owner,
            key: Key { network, account },
            user: user.chars().take(64).collect(),
            client: client.to_owned(),
        }
    }

    /// The name in its canonical form.
    pub(super) fn name(&self) -> String {
        let account = self.key.account.as_ref();
        account.unwrap_or(&self.user).clone()
    }

    /// Logs how it went.
    pub(super) fn report(&self, result: &Result<Owner, Refusal>) {
        let client = &self.client;
        match result {
            Ok(owner) => info!(account = owner.address(), client, "login"),
            Err(refusal) => info!(user = ?self.user, client, %refusal, "login refused"),
        }
    }
}

impl Doorman {
    /// Hears no more than the patience allows.
    pub(crate) fn new(accounts: Arc<Accounts>, patience: Patience) -> Result<Self, Refusal> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let nobody = Stored::new(b"nobody has this password", accounts.iterations)?;
        let bans = accounts.kept_bans(MAX_BANS)?;
        let salt_key = accounts.salt_key()?;
        Ok(Self {
            accounts,
            failures: Failures::new(patience, bans),
            verified: Verified::new()?,
            cores: Arc::new(Semaphore::new(cores)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            nobody,
            salt_key,
            authorities: None,
        })
    }

    /// The same, with clients' certificates as logins: `directory` says whose.
    pub(crate) fn trusting(self, directory: Option<&Path>) -> Self {
        Self {
            authorities: directory.map(Path::to_owned),
            ..self
        }
    }

    /// Whose password this is.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        credentials: Credentials,
    ) -> Result<Owner, Refusal> {
        let who = Who::new(&credentials.user, &credentials.client);
        let result = self.admit_client(&who, &credentials.password).await;
        who.report(&result);
        result
    }

    /// Who logs in under this name with the right password from there. Nothing is counted.
    pub(crate) fn find(&self, user: &str, client: &str) -> Result<Owner, Refusal> {
        let who = Who::new(user, client);
        if !self.failures.hears(&who.key, clock::seconds()) {
            return Err(Refusal::TooManyFailures);
        }
        let owner = who.owner.ok_or(Refusal::NoSuchUser)?;
        let account = self.accounts.user(&owner)?;
        account.map_or(Err(Refusal::NoSuchUser), |account| Ok(account.owner))
    }

    async fn admit_client(
        self: &Arc<Self>,
        who: &Who,
        password: &Secret,
    ) -> Result<Owner, Refusal> {
        if !password::is_plausible(password) {
            return Err(Refusal::BadCredentials { wait: 1 });
        }
        // Who knows the password is not locked out by somebody beside him who guesses.
        if let Some(owner) = &who.owner
            && self.verified.knows(owner, password, Instant::now())
        {
            return Ok(owner.clone());
        }
        let attempt = self.attempt(who, self.tag(who, password.reveal()))?;
        let verified = self.verify(who.owner.clone(), password.clone()).await;
        self.settle(&attempt, verified).await
    }

    /// The same number for the same secret of the same user, until the process ends.
    pub(super) fn tag(&self, who: &Who, secret: &[u8]) -> u64 {
        let tag = self.verified.tag(&who.name(), secret);
        tag.first_chunk()
            .map_or(0, |octets| u64::from_ne_bytes(*octets))
    }

    /// Counts an attempt, until [`Doorman::settle`] says what came of it.
    pub(super) fn attempt(&self, who: &Who, tag: u64) -> Result<Attempt, Refusal> {
        let attempt = self.failures.attempt(&who.key, tag, clock::seconds());
        attempt.ok_or(Refusal::TooManyFailures)
    }

    /// Only a wrong user or password is the client's failure.
    pub(super) async fn settle<T>(
        &self,
        attempt: &Attempt,
        result: Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        if !matches!(result, Err(Refusal::BadCredentials { .. })) {
            self.failures.forgive(attempt);
            return result;
        }
        let Failed { wait, bans } = self.failures.fail(attempt, clock::seconds());
        for ban in bans {
            let network = ban.key.network.to_string();
            let account = ban.key.account.as_deref().unwrap_or("any");
            let (failures, until) = (ban.failures, ban.until);
            warn!(network, account, failures, until, "locked out");
            let accounts = Arc::clone(&self.accounts);
            // It counts all the same if it cannot be written down; the fault is logged.
            let kept = tokio::task::spawn_blocking(move || accounts.keep_ban(&ban)).await;
            if let Err(panic) = kept {
                error!(%panic, "bug: writing a lock down panicked");
            }
        }
        Err(Refusal::BadCredentials { wait })
    }

    /// Who is not heard at the moment.
    pub(crate) fn bans(&self) -> Vec<Ban> {
        self.failures.bans(clock::seconds())
    }

    /// Hears an account or a network again, also after a restart.
    pub(crate) fn lift(&self, is_meant: impl Fn(&Key) -> bool) -> Result<usize, Refusal> {
        let lifted = self.failures.lift(is_meant);
        for key in &lifted {
            self.accounts.drop_ban(key)?;
        }
        Ok(lifted.len())
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
            return Err(Refusal::BadCredentials { wait: 0 });
        };
        let found = stored.verify(password.reveal());
        if found == Match::No {
            return Err(Refusal::BadCredentials { wait: 0 });
        }
        if stored.iterations < self.accounts.iterations || found == Match::Unprepared {
            let renewed = Stored::new(password.reveal(), self.accounts.iterations)?;
            if self.accounts.renew_password(&owner, &stored, &renewed)? {
                info!(account = owner.address(), "password record renewed");
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

    fn tag(&self, user: &str, password: &[u8]) -> Vec<u8> {
        let mut message = Zeroizing::new(user.as_bytes().to_vec());
        // An address holds no NUL, so no two pairs with one give one message.
        message.push(0);
        message.extend_from_slice(password);
        password::mac(&*self.key, &message)
    }

    fn knows(&self, owner: &Owner, password: &Secret, now: Instant) -> bool {
        let tag = self.tag(&owner.address(), password.reveal());
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
        let tag = self.tag(&owner.address(), password.reveal());
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

    /// What somebody hears who was wrong once.
    const WRONG: Refusal = Refusal::BadCredentials { wait: 1 };

    /// `limit` for an account in a network, ten times that for the network.
    fn world(limit: u32) -> World {
        let patience = Patience {
            account: limit,
            network: 10 * limit,
            window: 60,
            lockout: 60,
        };
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
        let doorman = Arc::new(Doorman::new(Arc::clone(&accounts), patience).unwrap());
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
                Err(WRONG),
                "{user:?}"
            );
        }
    }

    #[tokio::test]
    async fn who_is_only_asked_about_is_not_counted_and_is_known_to_be_locked_out() {
        let world = world(2);
        let find = |user: &str| world.doorman.find(user, "192.0.2.1");
        for _ in 0..10 {
            assert_eq!(find("Alice@A.EXAMPLE"), Ok(alice()));
            assert_eq!(find("nobody@a.example"), Err(Refusal::NoSuchUser));
            assert_eq!(find("nobody"), Err(Refusal::NoSuchUser));
        }
        for password in ["wrong 1", "wrong 2"] {
            let refused = world.login("alice@a.example", password, "192.0.2.1").await;
            assert!(refused.is_err());
        }
        assert_eq!(find("alice@a.example"), Err(Refusal::TooManyFailures));
        let elsewhere = world.doorman.find("alice@a.example", "198.51.100.1");
        assert_eq!(elsewhere, Ok(alice()));
    }

    #[tokio::test]
    async fn a_guesser_is_locked_out_with_the_account_and_nobody_else_is() {
        let world = world(3);
        for (number, wait) in [(0, 1), (1, 2), (2, 4)] {
            let guess = format!("guess {number}");
            assert_eq!(
                world.login("alice@a.example", &guess, "127.0.0.1").await,
                Err(Refusal::BadCredentials { wait })
            );
        }
        let login = async |client| world.login("alice@a.example", "password", client).await;
        assert_eq!(login("127.0.0.2").await, Err(Refusal::TooManyFailures));
        assert_eq!(
            world.login("bob@a.example", "guess 1", "127.0.0.1").await,
            Err(WRONG)
        );
        assert_eq!(login("127.0.1.1").await, Ok(alice()));
    }

    #[tokio::test]
    async fn the_same_wrong_password_locks_nobody_out() {
        let world = world(3);
        for _ in 0..9 {
            let login = world.login("alice@a.example", "old password", "192.0.2.1");
            assert!(matches!(login.await, Err(Refusal::BadCredentials { .. })));
        }
        assert_eq!(
            world
                .login("alice@a.example", "password", "192.0.2.1")
                .await,
            Ok(alice())
        );
    }

    #[tokio::test]
    async fn a_lock_outlives_the_process_and_can_be_lifted() {
        let world = world(1);
        let wrong = world.login("alice@a.example", "guess", "192.0.2.1").await;
        assert_eq!(wrong, Err(WRONG));
        let doorman = Doorman::new(
            Arc::clone(&world.accounts),
            Patience {
                account: 1,
                network: 10,
                window: 60,
                lockout: 60,
            },
        );
        let world = World {
            doorman: Arc::new(doorman.unwrap()),
            ..world
        };
        let login = async || {
            world
                .login("alice@a.example", "password", "192.0.2.1")
                .await
        };
        assert_eq!(login().await, Err(Refusal::TooManyFailures));
        assert_eq!(world.doorman.bans().len(), 1);
        let network = Network::parse("192.0.2.0/24").unwrap();
        let lifted = world.doorman.lift(|key| key.network == network);
        assert_eq!(lifted, Ok(1));
        assert_eq!(world.accounts.kept_bans(9), Ok(Vec::new()));
        assert_eq!(login().await, Ok(alice()));
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
                .login("alice@a.example", &format!("wrong{number}"), "192.0.2.2")
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
            let result = guess.await.unwrap();
            heard += usize::from(matches!(result, Err(Refusal::BadCredentials { .. })));
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
            Err(WRONG)
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
