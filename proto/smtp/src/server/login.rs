//! `AUTH`: what is offered, which response is awaited, and what the responses make.

use alloc::string::String;

use sasl::Message;
use sasl::password::{ASK_PASSWORD, ASK_USER, Unusable};

use super::{Action, Answer, Pending, Question, Role, Server, State, words};
use crate::auth::{Credentials, Mechanism, Secret, parse_login, parse_message, parse_plain};
use crate::command::CommandError;
use crate::reply::Reply;

/// Which response is awaited.
#[derive(Debug)]
pub(super) enum Login {
    Plain,
    User,
    Password {
        user: String,
    },
    /// The client's first message in an exchange that is carried on.
    First(sasl::Mechanism),
    /// Each other one.
    Next,
}

impl Server {
    /// Whether `AUTH` may be used on this connection as it is now.
    pub(super) fn offers_auth(&self) -> bool {
        // What is offered for the sake of where the peer is does not hold for a client behind it.
        let is_clear_enough = self.config.cleartext_auth && !self.is_proxied;
        self.config.role == Role::Submission && (self.tls.is_some() || is_clear_enough)
    }

    /// The same server on a connection that has these proofs beside what a client says.
    #[must_use]
    pub fn with_proofs(mut self, proofs: sasl::Proofs) -> Self {
        self.proofs = proofs;
        self
    }

    /// The same server where users may log in by this mechanism, too, although it is not named in the reply to `EHLO` for that.
    #[must_use]
    pub fn with_mechanism(mut self, mechanism: Mechanism) -> Self {
        self.more = Some(mechanism);
        self
    }

    /// The line of `EHLO` about `AUTH`, if anything can be offered.
    pub(super) fn mechanisms(&self) -> Option<String> {
        let all = Mechanism::ALL.into_iter();
        let listed = &self.config.mechanisms;
        let mut offered = all.filter(|one| listed.contains(one) && self.is_possible(*one));
        let first = offered.next()?;
        let mut line = alloc::format!("AUTH {}", first.name());
        for mechanism in offered {
            line.push(' ');
            line.push_str(mechanism.name());
        }
        Some(line)
    }

    fn is_permitted(&self, mechanism: Mechanism) -> bool {
        self.config.mechanisms.contains(&mechanism) || self.more == Some(mechanism)
    }

    /// Whether it can work on this connection.
    const fn is_possible(&self, mechanism: Mechanism) -> bool {
        match mechanism {
            Mechanism::Plain | Mechanism::Login => true,
            Mechanism::Exchange(mechanism) => mechanism.is_offered(self.proofs),
        }
    }

    pub(super) fn obey_auth(&mut self, mechanism: Mechanism, initial: Option<String>) {
        if let Err(refusal) = self.check_auth() {
            return self.say_idle(&refusal);
        }
        if !self.is_permitted(mechanism) {
            return self.say_bad(&words::bad_command(&CommandError::UnknownMechanism));
        }
        let login = match mechanism {
            Mechanism::Plain => Login::Plain,
            Mechanism::Login => Login::User,
            Mechanism::Exchange(one) if self.is_possible(mechanism) => Login::First(one),
            Mechanism::Exchange(mechanism) => {
                return self.say_bad(&words::mechanism_impossible(mechanism));
            }
        };
        match initial {
            Some(text) => self.obey_response(login, &text),
            None => self.challenge(login),
        }
    }

    fn check_auth(&self) -> Result<(), Reply> {
        if self.config.role != Role::Submission {
            return Err(words::auth_elsewhere());
        }
        if !self.offers_auth() {
            return Err(words::encryption_required());
        }
        if !self.hello.as_ref().is_some_and(|hello| hello.extended) {
            return Err(words::out_of_order("say EHLO first"));
        }
        if self.authenticated {
            return Err(words::out_of_order("already authenticated"));
        }
        // RFC 4954 §4: AUTH is not permitted during a mail transaction.
        if self.transaction.is_some() {
            return Err(words::out_of_order("not during a transaction"));
        }
        Ok(())
    }

    fn challenge(&mut self, login: Login) {
        let challenge = match login {
            // RFC 4954 §4: an empty challenge where the client is to begin.
            Login::Plain | Login::First(_) | Login::Next => "",
            Login::User => ASK_USER,
            Login::Password { .. } => ASK_PASSWORD,
        };
        self.say(&Reply::bare(334, challenge));
        self.state = State::ExpectResponse(login);
    }

    pub(super) fn obey_response_line(&mut self, login: Login, line: &[u8]) {
        // RFC 4954 §4: "*" cancels.
        if line == b"*" {
            return self.say_bad(&words::auth_cancelled());
        }
        match core::str::from_utf8(line) {
            Ok(text) => self.obey_response(login, text),
            Err(_) => self.say_bad(&words::bad_response()),
        }
    }

    fn obey_response(&mut self, login: Login, text: &str) {
        let credentials = match login {
            Login::First(mechanism) => {
                return self.carry(text, |response| Question::BeginLogin {
                    mechanism,
                    response,
                });
            }
            Login::Next => return self.carry(text, Question::ContinueLogin),
            Login::Plain => parse_plain(text),
            Login::User => match parse_login(text) {
                Ok(user) => {
                    let user = String::from(user.as_str());
                    return self.challenge(Login::Password { user });
                }
                Err(error) => Err(error),
            },
            Login::Password { user } => parse_login(text).map(|password| Credentials {
                user,
                password: Secret::new(password.as_str().into()),
            }),
        };
        match credentials {
            Ok(credentials) => {
                self.ask(Question::Authenticate(credentials), Pending::Authenticate);
            }
            Err(Unusable::Malformed) => self.say_bad(&words::bad_response()),
            Err(Unusable::OtherIdentity) => self.fail_login(&words::other_identity()),
        }
    }

    fn carry(&mut self, text: &str, question: impl FnOnce(Message) -> Question) {
        match parse_message(text) {
            Ok(message) => self.ask(question(message), Pending::Authenticate),
            Err(_) => self.say_bad(&words::bad_response()),
        }
    }

    pub(super) fn hear_authentication(&mut self, answer: Answer) {
        match answer {
            Answer::Granted => {
                self.authenticated = true;
                self.say(&words::authenticated());
            }
            Answer::Challenged(message) => {
                let challenge = mail::encode::base64(message.octets());
                self.say(&Reply::bare(334, &challenge));
                self.state = State::ExpectResponse(Login::Next);
            }
            Answer::Denied => self.fail_login(&words::bad_credentials()),
            Answer::Refused(reply) => self.say_idle(&reply),
            Answer::Judged(_) | Answer::Opened { .. } => self.say(&words::local_fault()),
        }
    }

    fn fail_login(&mut self, reply: &Reply) {
        if self.patience.failed_login() {
            self.actions.push_back(Action::Send(reply.to_bytes()));
            return self.say_goodbye(&words::too_many_logins());
        }
        self.say(reply);
    }
}
