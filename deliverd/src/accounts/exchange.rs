//! Logins in several messages: SCRAM, tokens of the API, and certificates.
//!
//! Each is kept for the channel it came over, for a minute, and forgotten with its last message. Nothing of what is known of a
//! password leaves here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipc::login::{Challenge, LoginRequest, LoginStart};
use ipc::{Refusal, Secret};
use sasl::bearer::{self, Bearer};
use sasl::scram::ClientFirst;
use sasl::{Malformed, Mechanism};
use tokio::task::spawn_blocking;
use tracing::error;

use super::login::{Doorman, Who};
use super::password::Stored;
use super::scram::{Scram, malformed, pretend};
use super::{Accounts, address};
use crate::clock;
use crate::store::Owner;

/// How long a client may take to answer.
const LIFETIME: Duration = Duration::from_secs(60);
/// Logins of one channel under way at once; a client has one at a time.
const MAX_OPEN: usize = 10_000;

/// What comes of a message.
pub(crate) enum Step {
    /// Something is said to the client, who answers.
    Challenged(Challenge),
    /// It is this user.
    Admitted(Owner),
}

/// The logins under way on one channel.
#[derive(Default)]
pub(crate) struct Exchanges {
    all: Mutex<Open>,
    /// Whether what the daemon at the other end says of a client's certificate is believed.
    vouches: bool,
}

#[derive(Default)]
struct Open {
    last: u64,
    open: HashMap<u64, (Exchange, Instant)>,
}

struct Exchange {
    who: Who,
    state: State,
}

/// What is awaited of the client.
enum State {
    /// Its proof.
    Proof {
        scram: Box<Scram>,
        stored: Box<Stored>,
    },
    /// That it has heard ours.
    Heard(Owner),
    /// That it has heard that its token is none.
    Denied { wait: u8 },
}

impl Exchanges {
    /// Logins at a daemon that is believed when it says that it has verified a certificate. Not for one whose logins open somebody's
    /// mail: taken over, it could open everybody's.
    pub(crate) fn vouched() -> Self {
        Self {
            vouches: true,
            ..Self::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn challenge(&self, exchange: Exchange, message: impl Into<Vec<u8>>) -> Result<Step, Refusal> {
        let mut all = self.lock();
        if all.open.len() >= MAX_OPEN {
            all.open.retain(|_, (_, since)| since.elapsed() < LIFETIME);
            if all.open.len() >= MAX_OPEN {
                return Err(Refusal::Busy);
            }
        }
        all.last += 1;
        let id = all.last;
        all.open.insert(id, (exchange, Instant::now()));
        Ok(Step::Challenged(Challenge {
            exchange: id,
            message: Secret::new(message),
        }))
    }

    /// Takes one out: it ends, or goes on as another.
    fn take(&self, id: u64) -> Option<Exchange> {
        let (exchange, since) = self.lock().open.remove(&id)?;
        (since.elapsed() < LIFETIME).then_some(exchange)
    }
}

impl Doorman {
    /// Answers a message of a login; `None` to the word that it was given up.
    pub(crate) async fn log_in(
        self: &Arc<Self>,
        exchanges: &Exchanges,
        request: LoginRequest,
    ) -> Result<Option<Step>, Refusal> {
        match request {
            LoginRequest::Begin(start) => self.begin(exchanges, start).await.map(Some),
            LoginRequest::Continue { exchange, message } => {
                self.proceed(exchanges, exchange, &message).await.map(Some)
            }
            LoginRequest::Abandon { exchange } => {
                exchanges.lock().open.remove(&exchange);
                Ok(None)
            }
        }
    }

    async fn begin(
        self: &Arc<Self>,
        exchanges: &Exchanges,
        start: LoginStart,
    ) -> Result<Step, Refusal> {
        let client = &start.client;
        let message = start.message.reveal();
        match Mechanism::parse(&start.mechanism) {
            Some(Mechanism::ScramSha256Plus) => self.begin_scram(exchanges, &start, true).await,
            Some(Mechanism::ScramSha256) => self.begin_scram(exchanges, &start, false).await,
            Some(Mechanism::OAuthBearer) => {
                let bearer = bearer::parse_oauthbearer(message).map_err(malformed)?;
                // RFC 7628 §3.2.2.
                let denial = r#"{"status":"invalid_token"}"#;
                self.take_token(exchanges, bearer, client, denial).await
            }
            Some(Mechanism::XOAuth2) => {
                let bearer = bearer::parse_xoauth2(message).map_err(malformed)?;
                let denial = r#"{"status":"401","schemes":"bearer","scope":"mail"}"#;
                self.take_token(exchanges, bearer, client, denial).await
            }
            Some(Mechanism::External) if exchanges.vouches => {
                let named = str::from_utf8(message).map_err(|_| malformed(Malformed))?;
                let who = Who::new(named, client);
                let admitted = self.admit_certificate(named, &start.identities).await;
                who.report(&admitted);
                admitted.map(Step::Admitted)
            }
            Some(Mechanism::External) | None => {
                Err(Refusal::Invalid("there is no such mechanism here".into()))
            }
        }
    }

    async fn proceed(
        self: &Arc<Self>,
        exchanges: &Exchanges,
        id: u64,
        message: &Secret,
    ) -> Result<Step, Refusal> {
        let Exchange { who, state } = exchanges.take(id).ok_or(Refusal::UnknownHandle)?;
        match state {
            State::Proof { scram, stored } => {
                let judged = self.judge_proof(&who, &scram, *stored, message).await;
                let (owner, signature) = match judged {
                    Ok(proven) => proven,
                    Err(refusal) => {
                        who.report(&Err(refusal.clone()));
                        return Err(refusal);
                    }
                };
                let state = State::Heard(owner);
                let signature = format!("v={}", mail::encode::base64(&signature));
                exchanges.challenge(Exchange { who, state }, signature)
            }
            State::Heard(owner) if message.reveal().is_empty() => {
                let admitted = Ok(owner);
                who.report(&admitted);
                admitted.map(Step::Admitted)
            }
            State::Heard(_) => Err(Refusal::Invalid(
                "the last response of SCRAM must be empty".into(),
            )),
            State::Denied { wait } => Err(Refusal::BadCredentials { wait }),
        }
    }

    async fn begin_scram(
        self: &Arc<Self>,
        exchanges: &Exchanges,
        start: &LoginStart,
        is_bound: bool,
    ) -> Result<Step, Refusal> {
        let first = ClientFirst::parse(start.message.reveal()).map_err(malformed)?;
        let who = Who::new(&first.user, &start.client);
        // RFC 5801 §4: nobody acts for others here.
        let is_other = |name: &str| address(name).ok().map(|a| Owner::of(&a)) != who.owner;
        if first.authzid.as_deref().is_some_and(is_other) {
            return Err(Refusal::Invalid(
                "acting as another user is not permitted".into(),
            ));
        }
        if !self.failures.hears(&who.key, clock::seconds()) {
            who.report(&Err(Refusal::TooManyFailures));
            return Err(Refusal::TooManyFailures);
        }
        let stored = self.record(who.owner.clone(), who.name()).await?;
        let channel = start.binding.as_deref();
        let scram = Scram::begin(first, &stored, channel, is_bound);
        let scram = scram.inspect_err(|refusal| who.report(&Err(refusal.clone())))?;
        let challenge = scram.challenge().to_owned();
        let state = State::Proof {
            scram: Box::new(scram),
            stored: Box::new(stored),
        };
        exchanges.challenge(Exchange { who, state }, challenge)
    }

    /// The record of a user, or one that no password fits.
    async fn record(
        self: &Arc<Self>,
        owner: Option<Owner>,
        name: String,
    ) -> Result<Stored, Refusal> {
        let record = self.look_up(move |accounts| match &owner {
            Some(owner) => accounts.stored_password(owner),
            None => Ok(None),
        });
        let record = record.await?;
        Ok(record.unwrap_or_else(|| pretend(&self.salt_key, &name, self.accounts.iterations)))
    }

    async fn judge_proof(
        self: &Arc<Self>,
        who: &Who,
        scram: &Scram,
        stored: Stored,
        message: &Secret,
    ) -> Result<(Owner, Vec<u8>), Refusal> {
        let (proven, last) = scram.read(message.reveal())?;
        let owner = who.owner.clone();
        let current = self.record(owner.clone(), who.name()).await;
        let mut former = None;
        let judged = match current {
            // A password that was changed meanwhile is neither right nor wrong.
            Ok(current) if current != stored => Err(Refusal::Busy),
            Ok(_) => match (owner, stored.check_proof(&proven, &last.proof)) {
                (Some(owner), Some(signature)) => Ok((owner, signature)),
                (Some(owner), None) => {
                    let look_up = move |accounts: &Accounts| {
                        accounts.former_key(&owner, &stored, &proven, &last.proof)
                    };
                    former = self.look_up(look_up).await?;
                    Err(Refusal::BadCredentials { wait: 0 })
                }
                (None, _) => Err(Refusal::BadCredentials { wait: 0 }),
            },
            Err(refusal) => Err(refusal),
        };
        // Counted before anybody hears of it, so that many guesses at once count too.
        let attempt = self.attempt(who, self.tag_of_proof(who, former)?)?;
        self.settle(&attempt, judged).await
    }

    /// The same number for proofs made with the same former password. What else was guessed does not show, so each other wrong proof
    /// counts.
    fn tag_of_proof(&self, who: &Who, former: Option<Vec<u8>>) -> Result<u64, Refusal> {
        if let Some(key) = former {
            return Ok(self.tag(who, &key));
        }
        let mut tag = [0; 8];
        getrandom::fill(&mut tag).map_err(|error| {
            error!(%error, "cannot get random bytes");
            Refusal::StorageFault
        })?;
        Ok(u64::from_ne_bytes(tag))
    }

    async fn take_token(
        self: &Arc<Self>,
        exchanges: &Exchanges,
        bearer: Bearer,
        client: &str,
        denial: &str,
    ) -> Result<Step, Refusal> {
        let Bearer { user, token } = bearer;
        let who = Who::new(user.as_deref().unwrap_or_default(), client);
        let judged = self.judge_token(&who, user.is_some(), &token).await;
        who.report(&judged);
        match judged {
            Ok(owner) => Ok(Step::Admitted(owner)),
            Err(Refusal::BadCredentials { wait }) => {
                let state = State::Denied { wait };
                exchanges.challenge(Exchange { who, state }, denial)
            }
            Err(refusal) => Err(refusal),
        }
    }

    async fn judge_token(
        self: &Arc<Self>,
        who: &Who,
        is_named: bool,
        token: &sasl::Message,
    ) -> Result<Owner, Refusal> {
        let attempt = self.attempt(who, self.tag(who, token.octets()))?;
        let token = token.clone();
        let found = self.look_up(move |accounts| accounts.token_owner(token.octets()));
        let judged = match found.await {
            Ok(Some(owner)) if !is_named || who.owner.as_ref() == Some(&owner) => Ok(owner),
            Ok(_) => Err(Refusal::BadCredentials { wait: 0 }),
            Err(refusal) => Err(refusal),
        };
        self.settle(&attempt, judged).await
    }

    /// The account that a verified certificate names. The client says which, or leaves it to a certificate that names one.
    // RFC 4422 appendix A.3.
    async fn admit_certificate(
        &self,
        named: &str,
        identities: &[String],
    ) -> Result<Owner, Refusal> {
        let owner = |name: &str| address(name).ok().map(|address| Owner::of(&address));
        let mut owners: Vec<Owner> = identities.iter().filter_map(|name| owner(name)).collect();
        if !named.is_empty() {
            let wanted = owner(named);
            owners.retain(|one| Some(one) == wanted.as_ref());
        }
        owners.dedup();
        let [only] = owners.as_slice() else {
            return Err(Refusal::Invalid(match named {
                "" => "the certificate does not name one account, say which".into(),
                _ => "the certificate does not name this account".into(),
            }));
        };
        let only = only.clone();
        let found = self.look_up(move |accounts| Ok(accounts.user(&only)?.map(|_| only)));
        found.await?.ok_or(Refusal::BadCredentials { wait: 1 })
    }

    /// Asks the database on a thread that may wait for it.
    async fn look_up<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Accounts) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let accounts = Arc::clone(&self.accounts);
        let found = spawn_blocking(move || ask(&accounts)).await;
        found.unwrap_or_else(|panic| {
            error!(%panic, "bug: a look-up panicked");
            Err(Refusal::StorageFault)
        })
    }
}

#[cfg(test)]
mod tests {
    use hmac::digest::Digest;
    use mail::encode::base64;
    use sha2::Sha256;

    use super::super::Patience;
    use super::super::password::mac;
    use super::*;

    struct World {
        _temp: tempfile::TempDir,
        accounts: Arc<Accounts>,
        doorman: Arc<Doorman>,
        exchanges: Exchanges,
    }

    fn alice() -> Owner {
        Owner {
            local: "alice".into(),
            domain: "a.example".into(),
        }
    }

    fn world() -> World {
        let temp = tempfile::tempdir().unwrap();
        let accounts = Arc::new(Accounts::cheap(temp.path()));
        accounts.add_domain("a.example", None).unwrap();
        let limits = ipc::quota::Limits::default();
        let password = Secret::new("password");
        accounts.add_user(&alice(), &password, limits).unwrap();
        let patience = Patience {
            account: 3,
            network: 30,
            window: 60,
            lockout: 60,
        };
        World {
            _temp: temp,
            doorman: Arc::new(Doorman::new(Arc::clone(&accounts), patience).unwrap()),
            accounts,
            exchanges: Exchanges::default(),
        }
    }

    impl World {
        async fn begin(&self, mechanism: &str, message: &str) -> Result<Challenge, Refusal> {
            let start = LoginStart {
                mechanism: mechanism.into(),
                message: Secret::new(message),
                client: "192.0.2.1".into(),
                binding: Some(b"channel".to_vec()),
                identities: Vec::new(),
            };
            match self.doorman.begin(&self.exchanges, start).await? {
                Step::Challenged(challenge) => Ok(challenge),
                Step::Admitted(owner) => panic!("{} was let in", owner.address()),
            }
        }

        async fn proceed(&self, id: u64, message: &str) -> Result<Step, Refusal> {
            let message = Secret::new(message);
            self.doorman.proceed(&self.exchanges, id, &message).await
        }

        /// Does what a client with this password does.
        async fn scram(&self, user: &str, password: &[u8]) -> Result<Owner, Refusal> {
            let bare = format!("n={user},r=abc");
            let first = format!("p=tls-exporter,,{bare}");
            let Challenge { exchange, message } = self.begin("SCRAM-SHA-256-PLUS", &first).await?;
            let said = String::from_utf8(message.reveal().to_vec()).unwrap();
            let (last, server) = respond(&bare, &said, password, b"p=tls-exporter,,channel");
            let Step::Challenged(verdict) = self.proceed(exchange, &last).await? else {
                panic!("our proof was not shown");
            };
            assert_eq!(verdict.message.reveal(), server.as_bytes());
            match self.proceed(verdict.exchange, "").await? {
                Step::Admitted(owner) => Ok(owner),
                Step::Challenged(_) => panic!("there is nothing more to say"),
            }
        }
    }

    // RFC 5802 §3, from the client's side: its last message, and the server's.
    fn respond(bare: &str, said: &str, password: &[u8], binding: &[u8]) -> (String, String) {
        let parts: Vec<&str> = said.split(',').collect();
        let salt = mail::decode::base64_strict(&parts[1].as_bytes()[2..]).unwrap();
        let iterations = parts[2][2..].parse().unwrap();
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, &salt, iterations);
        let without = format!("c={},{}", base64(binding), parts[0]);
        let message = format!("{bare},{said},{without}");
        let client_key = mac(&salted, b"Client Key");
        let signature = mac(&Sha256::digest(&client_key), message.as_bytes());
        let proof: Vec<u8> = client_key
            .iter()
            .zip(signature)
            .map(|(a, b)| a ^ b)
            .collect();
        let server = mac(&mac(&salted, b"Server Key"), message.as_bytes());
        (
            format!("{without},p={}", base64(&proof)),
            format!("v={}", base64(&server)),
        )
    }

    #[tokio::test]
    async fn the_right_password_opens_and_the_proof_is_mutual() {
        let world = world();
        assert_eq!(
            world.scram("alice@a.example", b"password").await,
            Ok(alice())
        );
        assert_eq!(
            world.scram("ALICE@A.example", b"password").await,
            Ok(alice())
        );
        assert!(world.exchanges.lock().open.is_empty());
    }

    #[tokio::test]
    async fn wrong_passwords_count_and_lock_out_and_nobody_learns_who_exists() {
        let world = world();
        for user in ["alice@a.example", "nobody@a.example"] {
            for wait in [1, 2, 4] {
                assert_eq!(
                    world.scram(user, b"passwore").await,
                    Err(Refusal::BadCredentials { wait }),
                    "{user}"
                );
            }
            assert_eq!(
                world.scram(user, b"password").await,
                Err(Refusal::TooManyFailures)
            );
            // Whoever is not heard is not told salt and iterations either.
            let first = format!("n,,n={user},r=abc");
            let begun = world.begin("SCRAM-SHA-256", &first).await;
            assert_eq!(begun.err(), Some(Refusal::TooManyFailures));
        }
        // A name that is no address is counted for its network alone.
        assert_eq!(
            world.scram("nonsense", b"x").await,
            Err(Refusal::BadCredentials { wait: 8 })
        );
    }

    #[tokio::test]
    async fn a_device_with_a_former_password_counts_once_and_locks_nobody_out() {
        let world = world();
        for new in ["another1", "another2", "another3"] {
            let new = Secret::new(new);
            world.accounts.set_password(&alice(), &new).unwrap();
        }
        let user = "alice@a.example";
        for old in [&b"password"[..], b"another1"] {
            for _ in 0..20 {
                let refused = world.scram(user, old).await;
                assert!(matches!(refused, Err(Refusal::BadCredentials { .. })));
            }
        }
        assert_eq!(world.scram(user, b"another3").await, Ok(alice()));
        // The two old ones have used two of the three failures there are.
        let guessed = world.scram(user, b"a guess").await;
        assert_eq!(guessed, Err(Refusal::BadCredentials { wait: 8 }));
        let locked = Err(Refusal::TooManyFailures);
        assert_eq!(world.scram(user, b"another3").await, locked);
    }

    #[tokio::test]
    async fn a_former_password_opens_nothing_and_is_told_as_late_as_a_guess() {
        let world = world();
        let new = Secret::new("another1");
        world.accounts.set_password(&alice(), &new).unwrap();
        for wait in [1, 2, 4, 8, 8] {
            let refused = world.scram("alice@a.example", b"password").await;
            assert_eq!(refused, Err(Refusal::BadCredentials { wait }));
        }
    }

    #[tokio::test]
    async fn no_more_than_the_last_passwords_are_known() {
        let world = world();
        for new in ["another1", "another2", "another3", "another4"] {
            let new = Secret::new(new);
            world.accounts.set_password(&alice(), &new).unwrap();
        }
        let user = "alice@a.example";
        for _ in 0..3 {
            let refused = world.scram(user, b"password").await;
            assert!(matches!(refused, Err(Refusal::BadCredentials { .. })));
        }
        let locked = Err(Refusal::TooManyFailures);
        assert_eq!(world.scram(user, b"another4").await, locked);
    }

    #[tokio::test]
    async fn salt_and_iterations_of_nobody_are_like_those_of_somebody() {
        let world = world();
        let told = async |user: &str| {
            let first = format!("n,,n={user},r=abc");
            let challenge = world.begin("SCRAM-SHA-256", &first).await.unwrap();
            let said = String::from_utf8(challenge.message.reveal().to_vec()).unwrap();
            let (nonce, rest) = said.split_once(',').unwrap();
            (nonce.len(), rest.len(), rest.to_owned())
        };
        let (somebody, nobody) = (told("alice@a.example").await, told("bob@a.example").await);
        assert_eq!((somebody.0, somebody.1), (nobody.0, nobody.1));
        assert_eq!(told("BOB@a.example").await.2, nobody.2);
        assert_eq!(told("alice@a.example").await.2, somebody.2);
        assert_ne!(told("carol@a.example").await.2, nobody.2);
    }

    #[tokio::test]
    async fn a_response_is_taken_once_and_only_in_its_turn() {
        let world = world();
        let (bare, user) = ("n=alice@a.example,r=abc", "n,,n=alice@a.example,r=abc");
        let Challenge { exchange, message } = world.begin("SCRAM-SHA-256", user).await.unwrap();
        let said = String::from_utf8(message.reveal().to_vec()).unwrap();
        let (last, _) = respond(bare, &said, b"password", b"n,,");
        let Ok(Step::Challenged(verdict)) = world.proceed(exchange, &last).await else {
            panic!("our proof was not shown");
        };
        let more = world.proceed(verdict.exchange, "x").await;
        assert!(matches!(more, Err(Refusal::Invalid(_))));
        let again = world.proceed(exchange, &last).await;
        assert!(matches!(again, Err(Refusal::UnknownHandle)));
        // Another login has another nonce, so what was heard of one opens no other.
        let other = world.begin("SCRAM-SHA-256", user).await.unwrap();
        let replayed = world.proceed(other.exchange, &last).await;
        assert!(matches!(replayed, Err(Refusal::Invalid(_))));
    }

    #[tokio::test]
    async fn a_password_that_changes_meanwhile_opens_nothing() {
        let world = world();
        let (bare, user) = ("n=alice@a.example,r=abc", "n,,n=alice@a.example,r=abc");
        let Challenge { exchange, message } = world.begin("SCRAM-SHA-256", user).await.unwrap();
        let said = String::from_utf8(message.reveal().to_vec()).unwrap();
        let new = Secret::new("another1");
        world.accounts.set_password(&alice(), &new).unwrap();
        let (last, _) = respond(bare, &said, b"password", b"n,,");
        let judged = world.proceed(exchange, &last).await;
        assert!(matches!(judged, Err(Refusal::Busy)));
    }

    #[tokio::test]
    async fn nobody_acts_for_others_and_unknown_mechanisms_are_none() {
        let world = world();
        for (mechanism, message) in [
            ("SCRAM-SHA-256", "n,a=bob@a.example,n=alice@a.example,r=abc"),
            ("SCRAM-SHA-256", "y,,n=alice@a.example,r=abc"),
            ("SCRAM-SHA-1", "n,,n=alice@a.example,r=abc"),
            ("EXTERNAL", "alice@a.example"),
        ] {
            let begun = world.begin(mechanism, message).await;
            assert!(matches!(begun, Err(Refusal::Invalid(_))), "{message}");
        }
        let own = "n,a=Alice@a.example,n=alice@a.example,r=abc";
        assert!(world.begin("SCRAM-SHA-256", own).await.is_ok());
    }

    #[tokio::test]
    async fn a_certificate_opens_only_where_the_daemon_that_saw_it_is_believed() {
        let world = world();
        for (exchanges, is_opened) in [(Exchanges::default(), false), (Exchanges::vouched(), true)]
        {
            let start = LoginStart {
                mechanism: "EXTERNAL".into(),
                message: Secret::new(""),
                client: "192.0.2.1".into(),
                binding: None,
                identities: vec!["alice@a.example".into()],
            };
            let begun = world.doorman.begin(&exchanges, start).await;
            assert_eq!(matches!(begun, Ok(Step::Admitted(_))), is_opened);
        }
    }

    #[tokio::test]
    async fn a_token_opens_for_its_user_and_a_false_one_is_explained_first() {
        let world = world();
        let token = world.accounts.issue_token(&alice()).unwrap();
        let token = str::from_utf8(token.reveal()).unwrap();
        let begin = async |mechanism: &str, message: String| {
            let start = LoginStart {
                mechanism: mechanism.into(),
                message: Secret::new(message),
                client: "192.0.2.1".into(),
                binding: None,
                identities: Vec::new(),
            };
            world.doorman.begin(&world.exchanges, start).await
        };
        for (mechanism, message) in [
            ("OAUTHBEARER", format!("n,,\x01auth=Bearer {token}\x01\x01")),
            (
                "OAUTHBEARER",
                format!("n,a=alice@a.example,\x01auth=Bearer {token}\x01\x01"),
            ),
            (
                "XOAUTH2",
                format!("user=alice@a.example\x01auth=Bearer {token}\x01\x01"),
            ),
        ] {
            let step = begin(mechanism, message).await;
            assert!(matches!(step, Ok(Step::Admitted(owner)) if owner == alice()));
        }
        for (mechanism, message) in [
            ("OAUTHBEARER", "n,,\x01auth=Bearer x\x01\x01".to_owned()),
            (
                "OAUTHBEARER",
                format!("n,a=bob@a.example,\x01auth=Bearer {token}\x01\x01"),
            ),
            (
                "XOAUTH2",
                format!("user=bob@a.example\x01auth=Bearer {token}\x01\x01"),
            ),
        ] {
            let Ok(Step::Challenged(challenge)) = begin(mechanism, message).await else {
                panic!("no explanation");
            };
            assert!(challenge.message.reveal().starts_with(b"{\"status\":"));
            let end = world.proceed(challenge.exchange, "\x01").await;
            assert!(matches!(end, Err(Refusal::BadCredentials { .. })));
        }
    }

    #[tokio::test]
    async fn who_guesses_tokens_is_locked_out_and_who_has_an_old_one_is_not() {
        let world = world();
        let token = world.accounts.issue_token(&alice()).unwrap();
        let token = str::from_utf8(token.reveal()).unwrap();
        let say = async |token: &str| {
            let message = format!("user=alice@a.example\x01auth=Bearer {token}\x01\x01");
            let begun = world.begin("XOAUTH2", &message).await?;
            let end = world.proceed(begun.exchange, "\x01").await;
            Err::<(), _>(end.err().unwrap())
        };
        for wait in [1, 2, 4, 8, 8, 8, 8, 8, 8] {
            let again = say("ended").await;
            assert_eq!(again, Err(Refusal::BadCredentials { wait }));
        }
        for guess in ["a", "b"] {
            let guessed = say(guess).await;
            assert_eq!(guessed, Err(Refusal::BadCredentials { wait: 8 }));
        }
        assert_eq!(say("c").await, Err(Refusal::TooManyFailures));
        assert_eq!(say(token).await, Err(Refusal::TooManyFailures));
    }

    #[tokio::test]
    async fn a_certificate_opens_for_the_account_it_names() {
        let world = world();
        let present = async |named: &str, identities: &[&str]| {
            let identities: Vec<String> = identities.iter().map(ToString::to_string).collect();
            world.doorman.admit_certificate(named, &identities).await
        };
        let (own, other) = ("Alice@a.example", "nobody@a.example");
        assert_eq!(present("", &[own]).await, Ok(alice()));
        assert_eq!(present("alice@a.example", &[own]).await, Ok(alice()));
        assert_eq!(present("alice@a.example", &[other, own]).await, Ok(alice()));
        for (named, identities) in [
            ("", &[][..]),
            ("", &[own, other]),
            ("alice@a.example", &[]),
            ("alice@a.example", &[other]),
            ("alice@a.example", &["alice@b.example"]),
            ("", &["alice@a.example\0@b.example"]),
        ] {
            let refused = present(named, identities).await;
            assert!(
                matches!(refused, Err(Refusal::Invalid(_))),
                "{named} {identities:?}"
            );
        }
        assert_eq!(
            present("", &[other]).await,
            Err(Refusal::BadCredentials { wait: 1 })
        );
    }

    #[tokio::test]
    async fn logins_that_nobody_ends_are_bounded() {
        let world = world();
        let who = || Exchange {
            who: Who::new("a@b", "192.0.2.1"),
            state: State::Denied { wait: 0 },
        };
        for _ in 0..MAX_OPEN {
            world.exchanges.challenge(who(), "x").unwrap();
        }
        let refused = world.exchanges.challenge(who(), "x");
        assert!(matches!(refused, Err(Refusal::Busy)));
        let long_ago = Instant::now().checked_sub(LIFETIME).unwrap();
        for (_, since) in world.exchanges.lock().open.values_mut() {
            *since = long_ago;
        }
        assert!(world.exchanges.challenge(who(), "x").is_ok());
        assert_eq!(world.exchanges.lock().open.len(), 1);
    }
    #[tokio::test]
    async fn a_client_that_takes_too_long_begins_anew() {
        let world = world();
        let user = "n,,n=alice@a.example,r=abc";
        let Challenge { exchange, .. } = world.begin("SCRAM-SHA-256", user).await.unwrap();
        let long_ago = Instant::now().checked_sub(LIFETIME).unwrap();
        for (_, since) in world.exchanges.lock().open.values_mut() {
            *since = long_ago;
        }
        let late = world.proceed(exchange, "").await;
        assert!(matches!(late, Err(Refusal::UnknownHandle)));
    }
}
