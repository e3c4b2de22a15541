//! Whether mail from other servers is from whom it says: what is asked, when, and how long.
//!
//! An [`Inquiry`] begins with MAIL and goes on beside the session, so that no reply waits for it. The [`Inspection`] of the message
//! takes it over and looks at each piece. At the end it waits for what is still missing, as long as the configuration says.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use daemon::config::Authentication;
use ipc::Context;
use ipc::dns::{Found, Kind, Record};
use mail::address::{Address, Domain, ReversePath};
use sender::dns::{self, Answer, Question};
use sender::strip::Strip;
use sender::{dmarc, iprev, spf};
use smtp::reply::Reply;
use smtp::server::Author;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, info};

use crate::ask::Ask;
use crate::measure::{Applied, Cause, Disposition, Rule, Rulebook};
use crate::observations::Observations;
use crate::results::{self, Findings};

/// How long the checks of a sender may take (RFC 7208 §4.6.4 wants twenty seconds at least).
const SENDER_PATIENCE: Duration = Duration::from_secs(60);

/// Judges the mail of other servers.
#[derive(Debug, Clone)]
pub struct Judge {
    ask: Arc<Ask>,
    /// Our name, as it stands in what we write.
    host: String,
    rules: Authentication,
    book: Rulebook,
    observations: Observations,
}

/// What comes of a message that is taken.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// What was found, for the top of the message.
    pub(crate) field: String,
    findings: Findings,
    judge: Arc<Judge>,
}

impl Verdict {
    /// What is done for one to whom it comes under these rules: what the mildest of them says.
    pub(crate) fn disposition(&self, rules: &[Rule]) -> Disposition {
        let dispositions = rules.iter().map(|rule| {
            let measures = self.judge.book.measures(*rule);
            self.findings.disposition(measures)
        });
        let mildest = dispositions.min_by_key(|one| (one.is_put_off, one.measure));
        mildest.unwrap_or(Disposition::ACCEPTED)
    }

    /// Why it is held, in words for the operator.
    pub(crate) fn reason(&self, cause: Cause) -> String {
        self.findings.reason(cause)
    }
}

/// What goes in front of a message, and where it goes.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// For users here.
    pub(crate) here: Vec<u8>,
    /// For other servers.
    pub(crate) elsewhere: Vec<u8>,
}

impl Judge {
    /// Will ask `ask` and sign as `host`.
    #[must_use]
    pub fn new(ask: Arc<Ask>, host: &str, rules: Authentication) -> Self {
        let observations = Observations::new(&rules.aggregate_reports);
        let book = Rulebook::new(&rules);
        Self {
            ask,
            host: host.to_owned(),
            rules,
            book,
            observations,
        }
    }

    /// Whether a message that comes under these rules may have to be held.
    pub(crate) fn may_hold(&self, rules: &[Rule]) -> bool {
        let mut rules = rules.iter();
        rules.any(|rule| self.book.measures(*rule).has_quarantine())
    }

    /// The same, but asking `ask`.
    pub(crate) fn asking(&self, ask: Arc<Ask>) -> Self {
        Self {
            ask,
            ..self.clone()
        }
    }

    /// Whether mail from there is judged.
    #[must_use]
    pub fn judges(&self, client: IpAddr) -> bool {
        let trusted = &self.rules.trusted_clients;
        self.rules.enabled && !trusted.iter().any(|network| network.contains(client))
    }

    /// Which measures count for recipients of that domain; `None` where all domains are alike.
    pub(crate) fn rule(&self, domain: &Domain) -> Option<Rule> {
        self.book.rule(domain)
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    // Never more than one question at a time; each check has only so many.
    async fn find(&self, context: Context, question: &Question) -> Answer {
        let kind = match question.kind {
            dns::Kind::A => Kind::A,
            dns::Kind::Aaaa => Kind::Aaaa,
            dns::Kind::Mx => Kind::Mx,
            dns::Kind::Txt => Kind::Txt,
            dns::Kind::Ptr => Kind::Ptr,
        };
        match self.ask.look_up(context, &question.name, kind).await {
            Found::Records(records) => Answer::Records(records.into_iter().map(record).collect()),
            Found::NoData => Answer::Records(Vec::new()),
            Found::NoSuchName => Answer::NoSuchName,
            Found::TooLarge => Answer::Unusable,
            Found::Fault => Answer::Fault,
        }
    }

    async fn spf(&self, context: Context, subject: spf::Subject) -> Spf {
        let mut check = spf::Check::new(subject);
        while let Some(question) = check.next() {
            check.answer(self.find(context, &question).await);
        }
        let verdict = check.verdict().unwrap_or(spf::Verdict::TempError);
        debug!(
            domain = check.subject().domain,
            ?verdict,
            problem = check.problem(),
            "SPF"
        );
        Spf {
            domain: check.subject().domain.clone(),
            verdict,
            problem: check.problem(),
            explanation: check.explanation().map(str::to_owned),
        }
    }

    async fn iprev(&self, context: Context, client: IpAddr) -> Iprev {
        let mut check = iprev::Check::new(client);
        while let Some(question) = check.next() {
            check.answer(self.find(context, &question).await);
        }
        Iprev {
            verdict: check.verdict().unwrap_or(iprev::Verdict::TempError),
            name: check.names().first().cloned(),
        }
    }

    async fn dmarc(
        &self,
        context: Context,
        subject: dmarc::Subject,
    ) -> (dmarc::Outcome, Option<dmarc::Basis>) {
        let mut check = dmarc::Check::new(subject);
        while let Some(question) = check.next() {
            check.answer(self.find(context, &question).await);
        }
        let outcome = check.outcome().unwrap_or(results::NO_ANSWER);
        (outcome, check.basis())
    }
}

fn record(record: Record) -> dns::Record {
    match record {
        Record::A(address) => dns::Record::Address(address.into()),
        Record::Aaaa(address) => dns::Record::Address(address.into()),
        Record::Mx { exchange, .. } => dns::Record::Name(exchange),
        Record::Ptr(name) => dns::Record::Name(name),
        Record::Txt(text) => dns::Record::Text(text),
    }
}

/// What SPF says of a domain.
#[derive(Debug, Clone)]
pub(crate) struct Spf {
    pub(crate) domain: String,
    pub(crate) verdict: spf::Verdict,
    pub(crate) problem: Option<&'static str>,
    pub(crate) explanation: Option<String>,
}

impl Spf {
    fn unknown(domain: &str) -> Self {
        Self {
            domain: domain.to_owned(),
            verdict: spf::Verdict::TempError,
            problem: Some("no answer from DNS in time"),
            explanation: None,
        }
    }
}

/// What the client's address says about itself.
#[derive(Debug, Clone)]
pub(crate) struct Iprev {
    pub(crate) verdict: iprev::Verdict,
    pub(crate) name: Option<String>,
}

/// What is known before the message.
#[derive(Debug, Clone)]
struct Early {
    hello: Spf,
    mail: Spf,
    iprev: Iprev,
}

impl Early {
    fn unknown(hello: &str, domain: &str) -> Self {
        Self {
            hello: Spf::unknown(hello),
            mail: Spf::unknown(domain),
            iprev: Iprev {
                verdict: iprev::Verdict::TempError,
                name: None,
            },
        }
    }
}

/// Ends the task when it is dropped.
#[derive(Debug)]
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is being found out about the client and the sender of a transaction.
#[derive(Debug)]
pub(crate) struct Inquiry {
    judge: Arc<Judge>,
    client: IpAddr,
    hello: String,
    sender: ReversePath,
    early: Task<Option<Early>>,
}

impl Inquiry {
    /// Begins; goes on by itself.
    pub(crate) fn begin(
        judge: Arc<Judge>,
        context: Context,
        client: IpAddr,
        hello: &str,
        sender: &ReversePath,
    ) -> Self {
        let address = sender.address();
        let parts = address.map(|address| (address.local(), address.domain().as_str()));
        let subject = |parts| spf::Subject {
            receiver: judge.host.clone(),
            now: now(),
            ..spf::Subject::mail(client, hello, parts)
        };
        let (of_hello, of_mail) = (subject(None), subject(parts));
        let asked = Arc::clone(&judge);
        let early = async move {
            let (hello, mail, iprev) = tokio::join!(
                asked.spf(context, of_hello),
                asked.spf(context, of_mail),
                asked.iprev(context, client)
            );
            Early { hello, mail, iprev }
        };
        let early = async move { timeout(SENDER_PATIENCE, early).await.ok() };
        Self {
            judge,
            client,
            hello: hello.to_owned(),
            sender: sender.clone(),
            early: Task(tokio::spawn(early)),
        }
    }

    fn domain(&self) -> &str {
        let address = self.sender.address();
        address.map_or(&self.hello, |address| address.domain().as_str())
    }

    async fn early(&mut self, end: Instant) -> Early {
        let unknown = Early::unknown(&self.hello, self.domain());
        match timeout_at(end, &mut self.early.0).await {
            Ok(Ok(Some(early))) => early,
            // It took too long, or it is a bug that the log has.
            Ok(Ok(None) | Err(_)) | Err(_) => unknown,
        }
    }
}

/// A message on its way through.
#[derive(Debug)]
pub(crate) struct Inspection {
    inquiry: Inquiry,
    verifier: dkim::Verifier,
    strip: Strip,
    /// What we ourselves put on top has passed.
    has_trace: bool,
    /// The author's domain is told of it, if it wants that.
    is_told_of: bool,
    /// The domain of all its recipients, if there is one.
    envelope_to: Option<String>,
}

impl Inspection {
    /// Begins with the message.
    pub(crate) fn begin(inquiry: Inquiry) -> Self {
        let strip = Strip::new(inquiry.judge.host());
        Self {
            inquiry,
            verifier: dkim::Verifier::new(dkim::Limits::default()),
            strip,
            has_trace: false,
            is_told_of: false,
            envelope_to: None,
        }
    }

    /// Looks at a piece and gives what of it goes on. The first one is our own trace field.
    pub(crate) fn pass<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.has_trace {
            self.has_trace = true;
            return Cow::Borrowed(bytes);
        }
        // What is taken out was signed, or not, like the rest.
        self.verifier.feed(bytes);
        if self.strip.is_over() {
            return Cow::Borrowed(bytes);
        }
        let mut kept = Vec::with_capacity(bytes.len());
        self.strip.feed(bytes, &mut kept);
        Cow::Owned(kept)
    }

    /// What was held back and goes on after all.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.strip.finish(&mut rest);
        if self.strip.removed() > 0 {
            info!(
                fields = self.strip.removed(),
                "forged results were taken out"
            );
        }
        rest
    }

    /// It goes to these recipients.
    pub(crate) fn address_to(&mut self, recipients: &[Address]) {
        let domains: BTreeSet<&Domain> = recipients.iter().map(Address::domain).collect();
        self.is_told_of = self.inquiry.judge.observations.concern(recipients);
        self.envelope_to = match domains.len() {
            1 => domains.first().map(|domain| domain.as_str().to_owned()),
            _ => None,
        };
    }

    /// Says what comes of it for recipients under these rules.
    ///
    /// # Errors
    /// What the client is told when none of them is to get it.
    pub(crate) async fn end(
        self,
        context: Context,
        author: &Author,
        recipients: &[Rule],
    ) -> Result<Verdict, Reply> {
        let Self {
            mut inquiry,
            verifier,
            is_told_of,
            envelope_to,
            ..
        } = self;
        let judge = Arc::clone(&inquiry.judge);
        let patience = Duration::from_secs(judge.rules.patience_seconds.value().into());
        let end = Instant::now() + patience;
        let evidence = verifier.end();
        let questions = evidence.questions();
        let (early, answers) =
            tokio::join!(inquiry.early(end), keys(&judge, context, questions, end));
        let signed = evidence.judge(&answers, now());
        let mut findings = Findings {
            client: inquiry.client,
            hello: early.hello,
            mail: early.mail,
            sender: inquiry.sender.clone(),
            iprev: early.iprev,
            signed,
            author: author.clone(),
            dmarc: results::NOTHING,
            vouchers: 0,
        };
        let mut basis = None;
        if let Some(subject) = findings.dmarc_subject(context.message) {
            let asked = judge.dmarc(context, subject);
            let outcome = timeout_at(end, asked).await;
            (findings.dmarc, basis) = outcome.unwrap_or((results::NO_ANSWER, None));
            findings.look_for_vouchers(&judge.rules.trusted_arc_sealers);
        }
        findings.log();
        let of_rule = |rule| findings.disposition(judge.book.measures(rule));
        let dispositions: Vec<_> = recipients.iter().copied().map(of_rule).collect();
        findings.note(&judge.ask, &dispositions);
        let refusal = findings.refusal(&dispositions);
        let applied = Applied::new(findings.dmarc, refusal.is_none(), &dispositions);
        let applied = applied.because_of(findings.vouched());
        applied.log();
        // What is put off comes again and is told of then.
        let is_over = !refusal.as_ref().is_some_and(Reply::is_temporary);
        if is_told_of && is_over {
            let observations = &judge.observations;
            observations.tell(
                &judge.ask,
                context,
                &findings,
                basis,
                &applied,
                envelope_to.as_deref(),
            );
        }
        match refusal {
            Some(reply) => Err(reply),
            None => Ok(Verdict {
                field: findings.field(judge.host()),
                findings,
                judge,
            }),
        }
    }
}

/// The keys of the signatures, all asked for at once; what is not there in time is left out, which says the same.
async fn keys(
    judge: &Arc<Judge>,
    context: Context,
    questions: Vec<String>,
    end: Instant,
) -> dkim::Answers {
    let mut asked = JoinSet::new();
    for name in questions {
        asked.spawn(key(Arc::clone(judge), context, name));
    }
    let mut answers = BTreeMap::new();
    while let Ok(Some(Ok((name, answer)))) = timeout_at(end, asked.join_next()).await {
        answers.insert(name, answer);
    }
    answers
}

async fn key(judge: Arc<Judge>, context: Context, name: String) -> (String, dkim::Answer) {
    let text = |record| match record {
        Record::Txt(text) => Some(text),
        Record::A(_) | Record::Aaaa(_) | Record::Mx { .. } | Record::Ptr(_) => None,
    };
    let answer = match judge.ask.look_up(context, &name, Kind::Txt).await {
        Found::Records(records) => {
            dkim::Answer::Records(records.into_iter().filter_map(text).collect())
        }
        Found::NoData | Found::NoSuchName | Found::TooLarge => dkim::Answer::Missing,
        Found::Fault => dkim::Answer::Failed,
    };
    (name, answer)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| time.as_secs())
}
