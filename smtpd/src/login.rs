//! Logins: a password is asked about once, the messages of other mechanisms are carried to deliverd and back.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipc::login::{Challenge, LoginRequest, LoginStart};
use ipc::{Context, Refusal, Secret};
use sasl::{Mechanism, Message};
use smtp::auth::Credentials;
use smtp::server::Answer;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::ask::{Ask, Problem, Step};
use crate::words;

/// What a connection has that a login may be bound to.
#[derive(Debug, Default)]
pub struct Proofs {
    /// What both sides derive from TLS (RFC 9266).
    pub binding: Option<Vec<u8>>,
    /// The certificates that the client has shown, if they are a login.
    pub certificates: Vec<Vec<u8>>,
}

/// The logins of one session.
#[derive(Debug)]
pub(crate) struct Login {
    ask: Arc<Ask>,
    peer: IpAddr,
    session: u64,
    proofs: Proofs,
    /// The one under way.
    open: Option<Exchange>,
    /// Who logged in.
    account: Option<String>,
}

impl Login {
    pub(crate) fn new(ask: Arc<Ask>, peer: IpAddr, session: u64) -> Self {
        Self {
            ask,
            peer,
            session,
            proofs: Proofs::default(),
            open: None,
            account: None,
        }
    }

    /// TLS was started: who logged in before did not do so behind TLS.
    pub(crate) fn start_over(&mut self, proofs: Proofs) {
        *self = Self {
            proofs,
            ..Self::new(Arc::clone(&self.ask), self.peer, self.session)
        };
    }

    /// The client is somebody else from now on.
    pub(crate) fn speak_for(&mut self, peer: IpAddr) {
        self.peer = peer;
    }

    /// Who is logged in is decided elsewhere.
    pub(crate) fn admit(&mut self, account: Option<String>) {
        self.account = account;
    }

    pub(crate) fn account(&self) -> Option<&String> {
        self.account.as_ref()
    }

    pub(crate) async fn check(&mut self, credentials: Credentials) -> Answer {
        let Credentials { user, password } = credentials;
        let context = self.context();
        if self.ask.rehearses() {
            return self.suppose(&user).await;
        }
        let asked = self.ask.authenticate(context, &user, &password, self.peer);
        let asked = asked.await.map(Step::Admitted);
        self.settle(asked, &user).await
    }

    // Nobody has said a password.
    async fn suppose(&mut self, user: &str) -> Answer {
        match self.ask.find_account(self.context(), user, self.peer).await {
            Ok(account) => {
                let key = "rmailctl user list";
                self.ask.note(key, || format!("the account is {account}"));
                self.account = Some(account);
                Answer::Granted
            }
            Err(Problem::Refused(Refusal::NoSuchUser)) => {
                let key = "rmailctl user add";
                self.ask.note(key, || format!("there is no user {user}"));
                Answer::Denied
            }
            Err(problem) => {
                let key = "limits.auth_failures; rmailctl ban list";
                self.ask.note(key, || problem.to_string());
                self.settle(Err(problem), user).await
            }
        }
    }

    pub(crate) async fn begin(&mut self, mechanism: Mechanism, message: &Message) -> Answer {
        self.open = None;
        let start = LoginStart {
            mechanism: mechanism.name().to_owned(),
            message: Secret::new(message.octets()),
            client: self.peer.to_canonical().to_string(),
            binding: self.proofs.binding.clone(),
            certificates: match mechanism {
                Mechanism::External => self.proofs.certificates.clone(),
                _ => Vec::new(),
            },
        };
        self.carry(LoginRequest::Begin(start)).await
    }

    pub(crate) async fn proceed(&mut self, message: &Message) -> Answer {
        let Some(exchange) = self.open.take().map(Exchange::hand_over) else {
            return Answer::Refused(words::login_refused(&Refusal::Busy));
        };
        let message = Secret::new(message.octets());
        self.carry(LoginRequest::Continue { exchange, message })
            .await
    }

    async fn carry(&mut self, request: LoginRequest) -> Answer {
        let asked = self.ask.log_in(self.context(), request).await;
        self.settle(asked, "").await
    }

    async fn settle(&mut self, asked: Result<Step, Problem>, user: &str) -> Answer {
        match asked {
            Ok(Step::Challenged(Challenge { exchange, message })) => {
                self.open = Some(Exchange {
                    ask: Arc::clone(&self.ask),
                    context: self.context(),
                    id: Some(exchange),
                });
                Answer::Challenged(Message::new(message.reveal().to_vec()))
            }
            Ok(Step::Admitted(account)) => {
                info!(account, "logged in");
                self.account = Some(account);
                Answer::Granted
            }
            Err(Problem::Refused(Refusal::BadCredentials { wait })) => {
                warn!(user, "wrong user name, password or token");
                sleep(Duration::from_secs(wait.into())).await;
                Answer::Denied
            }
            Err(problem) => {
                warn!(user, %problem, "login not possible");
                Answer::Refused(match problem {
                    Problem::Refused(refusal) => words::login_refused(&refusal),
                    Problem::Unavailable(_) => words::login_refused(&Refusal::Busy),
                })
            }
        }
    }

    const fn context(&self) -> Context {
        Context {
            session: self.session,
            message: 0,
        }
    }
}

/// A login that deliverd keeps; it is told when nobody goes on with it.
#[derive(Debug)]
struct Exchange {
    ask: Arc<Ask>,
    context: Context,
    id: Option<u64>,
}

impl Exchange {
    /// Its number, for the message that ends it.
    fn hand_over(mut self) -> u64 {
        self.id.take().unwrap_or_default()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // Without a runtime the process ends, which ends it too.
        if let (Some(id), Ok(runtime)) = (self.id, tokio::runtime::Handle::try_current()) {
            let (ask, context) = (Arc::clone(&self.ask), self.context);
            runtime.spawn(async move { ask.abandon_login(context, id).await });
        }
    }
}
