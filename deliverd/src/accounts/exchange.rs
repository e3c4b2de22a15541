//! Logins in several messages: SCRAM, tokens of the API, and certificates.
//!
//! Each is kept for the channel it came over, for a minute, and forgotten with its last message. Nothing of what is known of a
//! password leaves here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use daemon::certificate;
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
            Some(Mechanism::External) => {
                let named = str::from_utf8(message).map_err(|_| malformed(Malformed))?;
                let who = Who::new(named, client);
                let admitted = self.admit_certificate(named, start.certificates).await;
                who.report(&admitted);
                admitted.map(Step::Admitted)
            }
            None => Err(Refusal::Invalid("there is no such mechanism here".into())),
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

    /// The account that a certificate opens. What the daemon that saw it says of it is not believed: taken over, that could open
    /// everybody's mail.
    async fn admit_certificate(
        &self,
        named: &str,
        certificates: Vec<Vec<u8>>,
    ) -> Result<Owner, Refusal> {
        let no_login = || Refusal::Invalid("the certificate is no login here".into());
        let authorities = self.authorities.clone().ok_or_else(no_login)?;
        // A login with one is rare, so the file is read each time, and a new one counts at once.
        let verified = self.look_up(move |_| {
            certificate::verified(&authorities, &certificates).map_err(|error| {
                error!(%error, "nobody can log in with a certificate");
                Refusal::Busy
            })
        });
        let identities = verified.await?.ok_or_else(no_login)?;
        self.admit_named(named, &identities).await
    }

    /// The account that a verified certificate names. The client says which, or leaves it to a certificate that names one.
    // RFC 4422 appendix A.3.
    async fn admit_named(&self, named: &str, identities: &[String]) -> Result<Owner, Refusal> {
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
mod tests;
