//! Sends the reports of the periods that have ended.
//!
//! They go out under the address that the configuration names, not under the null reverse-path: domains take DMARC's reports only from whom
//! DMARC passes for (RFC 9990), and SPF knows nothing of a null one. With `NOTIFY=NEVER` nobody is told when one cannot be delivered.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use daemon::Stop;
use daemon::channel::CallError;
use daemon::config::AggregateReports;
use mail::address::Address;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};

use super::kind::{Kind, Meta};
use super::letter;
use super::period;
use super::register::Register;
use super::target::{NoAnswer, Target};
use crate::ask::{Ask, Route};
use crate::clock;
use crate::desk::Desk;
use crate::dns::Dns;
use crate::queue::QueueId;
use crate::queue::journal::{Header, Particular, Standing, VERSION};
use crate::turns::Party;

/// Reports made at once.
const AT_ONCE: usize = 8;
/// Reports made between two looks at the file.
const LOT: usize = 512;
/// Seconds after which a report is tried again that could not be made.
const AGAIN: i64 = 3600;
/// A period ends though nothing comes.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

type Period<K> = period::Period<<K as Kind>::Published, <K as Kind>::Row>;

/// Makes and sends reports of one kind.
#[derive(Debug)]
pub struct Courier<K: Kind> {
    /// What is to be reported.
    pub register: Arc<Register<K>>,
    /// The queue.
    pub desk: Arc<Desk>,
    /// deliverd.
    pub ask: Ask,
    /// Asks who takes reports.
    pub dns: Dns,
    /// What the configuration says.
    pub rules: AggregateReports,
}

/// The report is made later.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error(transparent)]
    Dns(#[from] NoAnswer),
    #[error("{0}")]
    Disk(#[from] io::Error),
    #[error("{0}")]
    Delivery(CallError),
    #[error("it cannot be queued: {0}")]
    Queue(ipc::Refusal),
}

impl<K: Kind> Courier<K> {
    /// Works until it is told to stop.
    pub async fn run(self, stop: Stop) {
        let Some(sender) = self.rules.sender.clone().filter(|_| K::is_on(&self.rules)) else {
            return;
        };
        let (courier, sender): (_, Arc<str>) = (Arc::new(self), sender.as_str().into());
        loop {
            let wait = tokio::select! {
                wait = Arc::clone(&courier).work(&sender) => wait,
                () = stop.requested() => return,
            };
            tokio::select! {
                () = courier.register.bell.notified() => {}
                () = sleep(wait) => {}
                () = stop.requested() => return,
            }
        }
    }

    /// Makes what is due, and says when to look again.
    async fn work(self: Arc<Self>, sender: &Arc<str>) -> Duration {
        self.register.go_on().await;
        loop {
            let (begin, domains) = match self.register.due(LOT).await {
                Ok(due) => due,
                Err(None) => return LONGEST_SLEEP,
                Err(Some(next)) => {
                    let wait = next.saturating_sub(clock::now()).max(1);
                    let wait = u64::try_from(wait).unwrap_or(1);
                    return Duration::from_secs(wait).min(LONGEST_SLEEP);
                }
            };
            match self.register.read(begin).await {
                Ok(period) => self.report_all(Arc::new(period), domains, sender).await,
                Err(error) => {
                    warn!(%error, "what is to be reported cannot be read; trying again later");
                    return LONGEST_SLEEP;
                }
            }
        }
    }

    async fn report_all(
        self: &Arc<Self>,
        period: Arc<Period<K>>,
        domains: Vec<String>,
        sender: &Arc<str>,
    ) {
        let mut tasks = JoinSet::new();
        for domain in domains {
            if tasks.len() >= AT_ONCE {
                tasks.join_next().await;
            }
            let (courier, period) = (Arc::clone(self), Arc::clone(&period));
            let sender = Arc::clone(sender);
            tasks.spawn(async move {
                match courier.report(&period, &domain, &sender).await {
                    Ok(said) => {
                        let register = &courier.register;
                        register.note_done(period.begin, &domain, &said).await;
                    }
                    Err(reason) => {
                        warn!(domain, kind = K::NAME, %reason, "a report waits");
                        let (register, said) = (&courier.register, reason.to_string());
                        register.postpone(period.begin, &domain, AGAIN, &said).await;
                    }
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Tells what became of it.
    async fn report(
        &self,
        period: &Period<K>,
        domain: &str,
        sender: &str,
    ) -> Result<String, NotYet> {
        let Some(bucket) = period.domains.get(domain).filter(|one| !one.is_done) else {
            return Ok("it was done before".into());
        };
        let (Some(end), Some(published)) = (period.end, &bucket.published) else {
            let said = "no report can be made, for its file is damaged";
            warn!(domain, "{said}");
            return Ok(said.into());
        };
        let targets = K::targets(&self.dns, domain).await?;
        if targets.is_empty() || bucket.is_empty() {
            let said = "nobody takes a report about it";
            info!(domain, "{said}");
            return Ok(said.into());
        }
        let submitter = letter::submitter(sender);
        let meta = Meta {
            organization: self
                .rules
                .organization
                .as_deref()
                .unwrap_or(submitter)
                .to_owned(),
            email: sender.to_owned(),
            contact: self.rules.contact.clone(),
            id: letter::id(submitter, &K::topic(domain), period.begin, end),
            begin: period.begin,
            end,
            domain: domain.to_owned(),
            unlisted: bucket.unlisted,
        };
        let report = letter::compress(&K::document(&meta, published, bucket))?;
        let mut said = Vec::new();
        for target in targets {
            let to = target.address.to_string();
            if bucket.sent.contains(&to) {
                said.push(format!("sent to {to}"));
                continue;
            }
            said.push(self.send(&meta, &report, &target, sender).await?);
        }
        Ok(said.join("; "))
    }

    /// Tells what became of it there.
    async fn send(
        &self,
        meta: &Meta,
        report: &[u8],
        target: &Target,
        sender: &str,
    ) -> Result<String, NotYet> {
        let (domain, to) = (&meta.domain, &target.address);
        let text = K::letter(meta, report, to, clock::now());
        let octets = text.len() as u64;
        // RFC 7489 §6.2: what is too large is not sent.
        if target.limit.is_some_and(|limit| octets > limit) {
            warn!(domain, %to, octets, "a report is larger than is taken there");
            return Ok(format!("too large for {to}: {octets} octets"));
        }
        let (local, remote) = match self.ask.resolve(&to.to_string(), octets).await {
            Ok(Route::Ours { local, remote }) => (local, remote),
            Ok(Route::Foreign) => (Vec::new(), vec![to.to_string()]),
            Err(error) => return self.drop_or_wait(domain, to, error),
        };
        if !local.is_empty() {
            let path = format!("Return-Path: <{sender}>\r\n");
            let message = [path.as_bytes(), &text].concat();
            let size = message.len() as u64;
            if let Err(error) = self.ask.deliver(&local, &*message, size).await {
                return self.drop_or_wait(domain, to, error);
            }
        }
        if !remote.is_empty() {
            let id = self.queue(remote, text, sender).await?;
            info!(%id, domain, kind = K::NAME, %to, report = meta.id, octets, "report queued");
            self.note_sent(meta, to).await;
            return Ok(format!("sent to {to} as {id}"));
        }
        self.note_sent(meta, to).await;
        Ok(format!("delivered to {to}"))
    }

    async fn note_sent(&self, meta: &Meta, to: &Address) {
        let register = &self.register;
        let to = to.to_string();
        register.note_sent(meta.begin, &meta.domain, &to).await;
    }

    fn drop_or_wait(&self, domain: &str, to: &Address, error: CallError) -> Result<String, NotYet> {
        if error.is_temporary() {
            return Err(NotYet::Delivery(error));
        }
        warn!(domain, %to, %error, "a report cannot be delivered: it is dropped");
        Ok(format!("not delivered to {to}: {error}"))
    }

    async fn queue(
        &self,
        recipients: Vec<String>,
        text: Vec<u8>,
        sender: &str,
    ) -> Result<QueueId, NotYet> {
        let id = QueueId::generate()?;
        let never = |(place, _)| Particular {
            recipient: place,
            parameters: "NOTIFY=NEVER".into(),
            standing: Standing::Waiting,
        };
        let header = Header {
            version: VERSION,
            queued: clock::now(),
            size: text.len() as u64,
            reverse_path: sender.to_owned(),
            account: None,
            party: Party::Nobody,
            smtp_utf8: false,
            eight_bit: false,
            hold: None,
            quarantine: None,
            particulars: (0..).zip(&recipients).map(never).collect(),
            recipients,
            parameters: String::new(),
            tls_waived: K::IS_TLS_WAIVED,
            sign: vec![letter::submitter(sender).to_owned()],
        };
        let draft = self.desk.with_queue(move |queue| {
            let draft = queue.draft()?;
            draft.file().write_all(&text)?;
            Ok(draft)
        });
        let queued = self
            .desk
            .enqueue(id, draft.await?, header.versioned())
            .await;
        queued.map_err(NotYet::Queue)?;
        Ok(id)
    }
}
