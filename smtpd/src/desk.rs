//! Answers the questions of one session's machine by asking deliverd and relayd, and carries the
//! body of the open message to them.

mod admission;
mod filtered;
mod greylist;
mod holding;
mod message;
mod noted;
mod targets;
mod ways;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use daemon::session_id;
use ipc::queue::Standing;
use ipc::{Context, Refusal};
use mail::address::{Address, Domain, ReversePath};
use smtp::command::{BodyType, Mail, Rcpt};
use smtp::date::Timestamp;
use smtp::parameter::RcptParameters;
use smtp::received::return_path;
use smtp::reply::Reply;
use smtp::server::{Answer, Envelope, Question, Summary};
use tracing::{debug, info, warn};

use self::admission::Listing;
use self::message::{OpenMessage, Place};
use self::targets::{Reach, Targets};
use self::ways::Ways;
use crate::ask::{Ask, Problem, Route};
use crate::explain::notes::Granted;
use crate::filter::{Filters, Panel};
use crate::guard::Pass;
use crate::judge::{Inquiry, Inspection, Judge, Verdict};
use crate::letter::Letter;
use crate::login::{Login, Proofs};
use crate::measure::Rule;
use crate::passage::Passage;
use crate::reservation::Reservation;
use crate::wishes::Notice;
use crate::{words, writers};

/// What the questions of one session are answered from.
#[derive(Debug)]
pub struct Desk {
    ask: Arc<Ask>,
    pass: Pass,
    /// Where a bare `<postmaster>` is.
    home: Domain,
    session: u64,
    /// How many recipients of one message relayd takes.
    max_remote: usize,
    login: Login,
    lists: Option<Listing>,
    /// Strangers are put off.
    is_reserved: bool,
    /// MAIL FROM; empty for the null reverse-path.
    sender: String,
    /// Who judges the mail of this client, if somebody does.
    judge: Option<Arc<Judge>>,
    /// What is being found out about the sender of the transaction.
    inquiry: Option<Inquiry>,
    targets: Targets,
    open: Option<OpenMessage>,
    /// What the client called itself.
    hello: String,
    /// Protocol version and cipher suite.
    tls: Option<String>,
    filters: Arc<Filters>,
    /// The filters of the transaction, while it has not come to its end.
    panel: Option<Panel>,
}

impl Desk {
    /// A desk for the session `session` of a client who has this pass.
    #[must_use]
    pub fn new(
        ask: Arc<Ask>,
        pass: Pass,
        home: Domain,
        session: u64,
        max_remote: usize,
        filters: Arc<Filters>,
    ) -> Self {
        let login = Login::new(Arc::clone(&ask), pass.address(), session);
        let (targets, open) = (Targets::default(), None);
        Self {
            ask,
            pass,
            home,
            session,
            max_remote,
            login,
            lists: None,
            is_reserved: false,
            sender: String::new(),
            judge: None,
            inquiry: None,
            targets,
            open,
            hello: String::new(),
            tls: None,
            filters,
            panel: None,
        }
    }

    /// The same, with mail that is judged.
    #[must_use]
    pub fn judged_by(self, judge: Arc<Judge>) -> Self {
        let judge = Some(judge);
        Self { judge, ..self }
    }

    /// TLS was started: who logged in before did not do so behind TLS. Logins may be bound to these.
    pub fn start_over(&mut self, proofs: Proofs) {
        self.login.start_over(proofs);
        self.pass.log_out();
        self.targets = Targets::default();
        self.panel = None;
    }

    /// Answers a question of the machine.
    pub async fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Authenticate(credentials) => {
                let answer = self.login.check(credentials).await;
                self.admit(answer)
            }
            Question::BeginLogin {
                mechanism,
                response,
            } => {
                let answer = self.login.begin(mechanism, &response).await;
                self.admit(answer)
            }
            Question::ContinueLogin(response) => {
                let answer = self.login.proceed(&response).await;
                self.admit(answer)
            }
            Question::Client(said) => self.welcome(said).await,
            Question::Sender(mail) => {
                let answer = self.judge_sender(&mail).await;
                self.filter_sender(&mail, answer).await
            }
            Question::Recipient(rcpt) => {
                let path = rcpt.path.clone();
                let answer = self.admit_recipient(rcpt).await;
                self.filter_recipient(&path, answer).await
            }
            Question::Open(envelope) => self.open(&envelope).await,
            Question::Commit(summary) => self.commit(summary).await,
            Question::CommitEach(summary) => self.commit_each(summary).await,
        }
    }

    /// Carries a piece of the body. A failure shows at the commit: the client has to send the
    /// rest before it can be told.
    pub async fn write(&mut self, bytes: &[u8]) {
        let inspection = self.open.as_mut().and_then(|open| open.inspection.as_mut());
        match inspection {
            None => self.carry(bytes).await,
            Some(inspection) => {
                let passed = inspection.pass(bytes);
                self.carry(&passed).await;
            }
        }
    }

    // To the filters if there are any, else to those who keep the message.
    async fn carry(&mut self, bytes: &[u8]) {
        if self.hold(bytes).await {
            return;
        }
        if let Some(message) = &mut self.open {
            message.write(bytes).await;
        }
    }

    /// Forgets the open message, if there is one: its outlets tell the other daemons.
    pub fn abort(&mut self) {
        if let Some(message) = self.open.take() {
            info!(message = hex(message.id), "aborted");
            self.panel = None;
        }
    }

    // Whoever logged in takes one of the connections of the account.
    fn admit(&mut self, answer: Answer) -> Answer {
        let (Answer::Granted, Some(account)) = (&answer, self.login.account()) else {
            return answer;
        };
        match self.pass.log_in(account) {
            Ok(()) => answer,
            Err(exceeded) => {
                exceeded.tell();
                self.login.admit(None);
                Answer::Refused(words::account_busy())
            }
        }
    }

    async fn judge_sender(&mut self, mail: &Mail) -> Answer {
        self.targets = Targets {
            body: Some(mail.body),
            size: mail.size.unwrap_or(0),
            by_alias: Some(Passage::of_alias(
                mail,
                self.login.account().map(String::as_str),
            )),
            ..Targets::default()
        };
        self.note_sender(mail);
        let judge = self.judge.as_ref();
        let judge = judge.filter(|_| self.login.account().is_none());
        self.inquiry = judge.map(|judge| {
            let (context, client) = (self.context(0), self.pass.address());
            Inquiry::begin(
                Arc::clone(judge),
                context,
                client,
                &self.hello,
                &mail.sender,
            )
        });
        // RFC 8098 §3: clients send read receipts from the null path, which is nobody's identity.
        let (Some(account), Some(sender)) = (self.login.account(), mail.sender.address()) else {
            return Answer::Granted;
        };
        let sender = sender.to_string();
        let checked = self
            .ask
            .check_sender(self.context(0), account, &sender)
            .await;
        self.note_checked("MAIL FROM", &sender, account, &checked);
        match checked {
            Ok(()) => Answer::Granted,
            Err(problem) => self.refuse(problem, |refusal| {
                words::sender_refused(&sender, account, refusal)
            }),
        }
    }

    async fn judge_recipient(&mut self, Rcpt { path, parameters }: Rcpt) -> Answer {
        let at = path.clone().at(&self.home);
        let (rule, address) = (self.rule(at.domain()), at.to_string());
        let transaction = self.reservation().number();
        let size = self.targets.size;
        let route = self
            .ask
            .resolve(self.context(0), &address, size, transaction)
            .await;
        self.note_route(&address, &route);
        match route {
            // An alias of nobody must not swallow mail.
            Ok(Route::Ours { local, remote }) if local.is_empty() && remote.is_empty() => {
                Answer::Refused(words::recipient_refused(&path, &Refusal::NoSuchUser))
            }
            // RFC 3030 §3: without BINARYMIME at the next server the message would have to be converted.
            Ok(Route::Ours { remote, .. }) if self.is_binary() && !remote.is_empty() => {
                Answer::Refused(words::binary_not_relayed(&path))
            }
            Ok(Route::Relayed) if self.is_binary() => {
                Answer::Refused(words::binary_not_relayed(&path))
            }
            Ok(Route::Foreign) if self.is_binary() && self.login.account().is_some() => {
                Answer::Refused(words::binary_not_relayed(&path))
            }
            Ok(Route::Ours { remote, .. })
                if !remote.is_empty() && self.targets.goes_otherwise(self.targets.by_alias) =>
            {
                Answer::Refused(words::send_alone(&path))
            }
            Ok(Route::Relayed) if self.targets.goes_otherwise(Some(Passage::AsItIs)) => {
                Answer::Refused(words::send_alone(&path))
            }
            Ok(Route::Ours { local, remote }) => {
                if !local.is_empty() {
                    self.reservation().hold();
                }
                let passage = self.targets.by_alias;
                self.grant(&address, parameters, rule, (local, remote), passage)
            }
            Ok(Route::Relayed) => self.relay(address, parameters, rule),
            Ok(Route::Foreign) if self.login.account().is_some() => {
                self.relay(address, parameters, rule)
            }
            Ok(Route::Foreign) => {
                warn!(recipient = address, "relay refused");
                Answer::Refused(words::relay_not_permitted(&path))
            }
            Err(problem) => {
                self.refuse(problem, |refusal| words::recipient_refused(&path, refusal))
            }
        }
    }

    fn relay(&mut self, address: String, parameters: RcptParameters, rule: Option<Rule>) -> Answer {
        let (remote, passage) = (vec![address.clone()], Some(Passage::AsItIs));
        self.grant(&address, parameters, rule, (Vec::new(), remote), passage)
    }

    fn grant(
        &mut self,
        address: &str,
        parameters: RcptParameters,
        rule: Option<Rule>,
        (local, remote): (Vec<String>, Vec<String>),
        passage: Option<Passage>,
    ) -> Answer {
        let (here, elsewhere) = (local.clone(), remote.clone());
        let answer = self.targets.add(local, remote, passage, self.max_remote);
        // What is refused is not reported as delivered.
        if answer == Answer::Granted {
            let Targets { wishes, ways, .. } = &mut self.targets;
            wishes.note(address, parameters, &here, &elsewhere);
            // Also of the recipient itself: of what is held nobody is told that it was delivered.
            let named = address.to_owned();
            ways.note(rule, here.iter().chain(&elsewhere).chain([&named]));
            self.ask.note_granted(|| Granted {
                address: address.to_owned(),
                here,
                elsewhere,
            });
        }
        answer
    }

    async fn open(&mut self, envelope: &Envelope) -> Answer {
        let targets = std::mem::take(&mut self.targets);
        let id = session_id::next();
        let recipients = envelope.recipients.iter().cloned();
        let mut message = OpenMessage {
            id,
            sender: envelope.mail.sender.to_string(),
            recipients: recipients.zip(targets.reach.iter().copied()).collect(),
            is_judged: self.inquiry.is_some(),
            inspection: self.inquiry.take().map(Inspection::begin),
            size: 0,
            ways: Ways::default(),
            local: None,
            remote: None,
            queued: Vec::new(),
            custody: None,
            notice: None,
            waiting: None,
            refusal: None,
        };
        let waits = self.wait_for_filters(&mut message, targets, &envelope.mail);
        let targets = match waits.await {
            Ok(Some(targets)) => targets,
            Ok(None) => {
                self.open = Some(message);
                return Answer::Opened {
                    id: hex(id),
                    now: timestamp(),
                };
            }
            Err(reply) => return Answer::Refused(reply),
        };
        let opened = self
            .open_outlets(&mut message, targets, &envelope.mail)
            .await;
        self.open = Some(message);
        match opened {
            Ok(()) => Answer::Opened {
                id: hex(id),
                now: timestamp(),
            },
            Err(problem) => {
                self.abort();
                self.refuse(problem, words::refused)
            }
        }
    }

    fn is_binary(&self) -> bool {
        self.targets.body == Some(BodyType::Binary)
    }

    fn reservation(&mut self) -> &mut Reservation {
        let (ask, context) = (&self.ask, self.context(0));
        let new = || Reservation::new(Arc::clone(ask), context);
        self.targets.reservation.get_or_insert_with(new)
    }

    async fn open_outlets(
        &self,
        message: &mut OpenMessage,
        mut targets: Targets,
        mail: &Mail,
    ) -> Result<(), Problem> {
        let context = self.context(message.id);
        // Invariant: a message that nobody keeps is not accepted.
        if targets.local.is_empty() && targets.remote.is_empty() {
            return Err(Problem::Unavailable("bug: a message without targets"));
        }
        message.ways = targets.ways;
        let may_hold = self.may_hold(message, &targets.local, &targets.remote);
        let wards: Vec<String> = match may_hold {
            true => targets.local.iter().cloned().collect(),
            false => Vec::new(),
        };
        let held = match mail.parameters.hold {
            Some(_) => std::mem::take(&mut targets.local),
            None => BTreeSet::new(),
        };
        if !targets.local.is_empty() {
            let recipients: Vec<String> = targets.local.into_iter().collect();
            let (ask, reservation) = (Arc::clone(&self.ask), targets.reservation.take());
            let begun = Letter::begin(ask, context, recipients, reservation, targets.size).await?;
            let letter = message.local.insert(begun);
            // RFC 5321 §4.4: final delivery puts the reverse-path on top, and nobody else does. What is judged gets it at the end.
            if !message.is_judged {
                letter.write(return_path(&mail.sender).as_bytes()).await;
            }
        }
        let (mut wishes, remote) = (targets.wishes, targets.remote.into_iter());
        let mut queued: Vec<_> = remote
            .map(|one| wishes.of(one, Standing::Waiting))
            .collect();
        let mut in_custody: Vec<_> = match may_hold {
            true => queued.clone(),
            false => Vec::new(),
        };
        in_custody.extend(wards.into_iter().map(|one| wishes.of(one, Standing::Here)));
        // RFC 4865 §4.2: a message waits for everybody; relayd has users here served, too.
        queued.extend(held.into_iter().map(|one| wishes.of(one, Standing::Here)));
        let is_sent = !queued.is_empty();
        // RFC 3461 §6.1: what has no sender is not reported.
        if mail.sender != ReversePath::Null {
            queued.extend(wishes.into_notices(mail.parameters.hold.is_some()));
        }
        let reverse_path = match targets.passage {
            Some(Passage::Rewritten) if is_sent => {
                self.ask.rewrite_sender(context, &message.sender).await?
            }
            Some(_) | None => message.sender.clone(),
        };
        let envelope = ipc::queue::Envelope {
            reverse_path,
            account: self.login.account().cloned(),
            smtp_utf8: mail.smtputf8,
            eight_bit: mail.body != BodyType::SevenBit,
            parameters: mail.parameters.to_string(),
        };
        if may_hold {
            let custody = self.begin_custody(message, mail, &envelope, in_custody);
            message.custody = Some(custody);
        }
        if is_sent {
            message.remote = Some(self.ask.open_queue(context, envelope).await?);
            message.queued = queued;
        } else if !queued.is_empty() {
            let ask = Arc::clone(&self.ask);
            message.notice = Some(Notice::new(ask, context, envelope, queued));
        }
        Ok(())
    }

    // Who logged in writes in their own name, also where people look (RFC 6409 §6.1). Mail from elsewhere is not judged here.
    async fn judge_writers(&self, summary: &Summary) -> Result<(), Answer> {
        let Some(account) = self.login.account() else {
            return Ok(());
        };
        for (field, address) in writers::named(summary).map_err(Answer::Refused)? {
            let address = address.to_string();
            let checked = self
                .ask
                .check_sender(self.context(0), account, &address)
                .await;
            self.note_checked(field, &address, account, &checked);
            checked.map_err(|problem| {
                self.refuse(problem, |refusal| {
                    words::writer_refused(field, &address, account, refusal)
                })
            })?;
        }
        Ok(())
    }

    async fn commit(&mut self, summary: Summary) -> Answer {
        self.end_text().await;
        let Some(mut message) = self.open.take() else {
            return Answer::Refused(words::unavailable());
        };
        if let Err(answer) = self.accept_author(&message, &summary).await {
            return answer;
        }
        let verdict = match self.judge_message(&mut message, &summary).await {
            Ok(verdict) => verdict,
            Err(reply) => return Answer::Refused(reply),
        };
        if let Some(answer) = self.filter_text(&mut message).await {
            return answer;
        }
        // Dropping the message aborts what was not committed.
        match message.commit(verdict.as_ref()).await {
            Ok(()) => {
                message.report_accepted(&summary);
                Answer::Granted
            }
            Err((_, problem)) => self.refuse(problem, words::refused),
        }
    }

    // RFC 2033 §4.2: for each recipient, whether *its* mail is safe now.
    async fn commit_each(&mut self, summary: Summary) -> Answer {
        let Some(mut message) = self.open.take() else {
            return Answer::Refused(words::unavailable());
        };
        if let Err(answer) = self.accept_author(&message, &summary).await {
            return answer;
        }
        if let Some(answer) = self.filter_text(&mut message).await {
            return answer;
        }
        // LMTP is not judged: whoever may use it is one of us.
        let verdicts = match message.commit(None).await {
            Ok(()) => {
                message.report_accepted(&summary);
                vec![Ok(()); message.recipients.len()]
            }
            Err((Place::Remote, problem)) => {
                let reply = reply(&problem, words::refused);
                let verdict = |reach| match reach {
                    Reach::Here => Ok(()),
                    Reach::Elsewhere => Err(reply.clone()),
                };
                let reaches = message.recipients.iter().map(|(_, reach)| *reach);
                reaches.map(verdict).collect()
            }
            Err((Place::Local, Problem::Refused(refusal))) if is_personal(&refusal) => {
                self.blame(&message).await
            }
            Err((Place::Local, problem)) => return self.refuse(problem, words::refused),
        };
        Answer::Judged(verdicts)
    }

    // deliverd delivers to all users or to none, and does not say because of whom it did not. Each is asked about again: who
    // could not have had the message alone is told why, the others that they shall try again.
    async fn blame(&self, message: &OpenMessage) -> Vec<Result<(), Reply>> {
        let mut verdicts = Vec::with_capacity(message.recipients.len());
        for (path, _) in &message.recipients {
            let address = path.clone().at(&self.home).to_string();
            let context = self.context(message.id);
            let route = self.ask.resolve(context, &address, message.size, 0).await;
            verdicts.push(Err(match route {
                Ok(_) => words::not_alone(path),
                Err(problem) => reply(&problem, |refusal| words::recipient_refused(path, refusal)),
            }));
        }
        verdicts
    }

    async fn accept_author(&self, message: &OpenMessage, summary: &Summary) -> Result<(), Answer> {
        let judged = self.judge_writers(summary).await;
        if judged.is_err() {
            warn!(message = hex(message.id), author = ?summary.author, agents = ?summary.agents, "not accepted");
        }
        judged
    }

    // What was held back as long as it could have become a forged field.
    async fn end_text(&mut self) {
        let inspection = self.open.as_mut().and_then(|open| open.inspection.as_mut());
        if let Some(rest) = inspection.map(Inspection::rest) {
            self.carry(&rest).await;
        }
    }

    // What was found goes on top of the message, unless it is not to be taken because of that.
    async fn judge_message(
        &self,
        message: &mut OpenMessage,
        summary: &Summary,
    ) -> Result<Option<Verdict>, Reply> {
        let Some(mut inspection) = message.inspection.take() else {
            return Ok(None);
        };
        let recipients = message.recipients.iter().map(|(path, _)| path);
        let addresses = recipients.map(|path| path.clone().at(&self.home));
        let addresses: Vec<Address> = addresses.collect();
        inspection.address_to(&addresses);
        let domains = addresses.iter().map(Address::domain);
        let rules: Vec<Rule> = domains
            .map(|domain| self.rule(domain))
            .map(Option::unwrap_or_default)
            .collect();
        let context = self.context(message.id);
        let judged = inspection.end(context, &summary.author, &rules);
        judged.await.map(Some)
    }

    fn refuse(&self, problem: Problem, words: impl FnOnce(&Refusal) -> Reply) -> Answer {
        let reply = reply(&problem, words);
        debug!(%problem, %reply, "refused");
        Answer::Refused(reply)
    }

    fn context(&self, message: u64) -> Context {
        Context {
            session: self.session,
            message,
        }
    }
}

/// What the client is told of a problem.
fn reply(problem: &Problem, words: impl FnOnce(&Refusal) -> Reply) -> Reply {
    match problem {
        Problem::Refused(refusal) => words(refusal),
        Problem::Unavailable(_) => words::unavailable(),
    }
}

/// Whether one recipient alone may be the reason.
fn is_personal(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::OverQuota | Refusal::NoSuchUser)
}

/// How ids are written in logs, `Received` fields and replies.
fn hex(id: u64) -> String {
    format!("{id:016x}")
}

fn timestamp() -> Timestamp {
    Timestamp(now().unsigned_abs())
}

/// Unix seconds now.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}
