//! The heart of relayd: takes what is due, gives it its turn, records what came of it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::Stop;
use smtp::client::{Envelope, Outcome as Verdict};
use smtp::parameter::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{Instrument, error, info, info_span, warn};

use crate::attempt::{Carrier, Finding};
use crate::clock::{self, Watch};
use crate::desk::Desk;
use crate::home;
use crate::lanes::{Destination, Job, Lanes};
use crate::letter::Letter;
use crate::queue::history::Ending;
use crate::queue::journal::{Attempted, Fate, Outcome, Record, Standing};
use crate::queue::{Opened, QueueId};
use crate::reporter::Reporter;
use crate::rests::Pace;
use crate::schedule::{self, Due};
use crate::signer::Signer;

/// How long attempts may go on once relayd is to stop.
const GRACE: Duration = Duration::from_secs(10);
/// The dispatcher looks at the clock at least this often: the time of day may jump.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);
/// Messages planned in one go before jobs are started.
const PLANNED_AT_ONCE: usize = 64;
/// A message that is still due after its round (a report that waits, a journal that cannot be read) comes back after this.
const PAUSE: i64 = 60;

/// Takes messages out.
#[derive(Debug)]
pub struct Dispatcher {
    /// The queue.
    pub desk: Arc<Desk>,
    /// The ways out.
    pub carrier: Arc<Carrier>,
    /// Tells senders.
    pub reporter: Reporter,
    /// Has mail signed.
    pub signer: Arc<Signer>,
    /// Seconds between attempts.
    pub waits: Vec<u32>,
}

/// What a task of the dispatcher ends with.
enum Done {
    Job(Job),
    Round,
}

impl Dispatcher {
    /// Works until `stop`; then lets running attempts end for a while. What is unfinished stays in the queue.
    pub async fn run(self: Arc<Self>, mut lanes: Lanes, stop: Stop) {
        let mut tasks: JoinSet<Done> = JoinSet::new();
        // Jobs of each message that are not over: when the last one is, its round is.
        let mut rounds: HashMap<QueueId, usize> = HashMap::new();
        let mut watch = Watch::begin(Instant::now(), clock::now());
        loop {
            if let Some(seconds) = watch.look() {
                self.make_up_for(seconds);
            }
            let more = self.plan_due(&mut lanes, &mut rounds, &mut tasks).await;
            while let Some(job) = lanes.start_next() {
                tasks.spawn(guard(Done::Job(job.clone()), Arc::clone(&self).work(job)));
            }
            tokio::select! {
                Some(done) = tasks.join_next() => self.finish(done, &mut lanes, &mut rounds, &mut tasks),
                () = self.desk.bell.notified() => {}
                () = sleep(if more { Duration::ZERO } else { self.until_due() }) => {}
                () = stop.requested() => break,
            }
        }
        self.drain(lanes, rounds, tasks).await;
        self.carrier.phone.pool.clear();
    }

    /// The clock was set back: when things are due was said by one that was wrong.
    fn make_up_for(&self, seconds: i64) {
        let messages = self.desk.schedule().hurry_all(clock::now());
        self.desk.rests.end_all();
        warn!(
            seconds,
            messages, "the clock was set back; what waits for a time of its own is tried now"
        );
    }

    /// A task is over; with the last job of a message its round ends.
    fn finish(
        self: &Arc<Self>,
        done: Result<Done, JoinError>,
        lanes: &mut Lanes,
        rounds: &mut HashMap<QueueId, usize>,
        tasks: &mut JoinSet<Done>,
    ) {
        let job = match done {
            Ok(Done::Job(job)) => job,
            Ok(Done::Round) => return,
            Err(error) => return error!(%error, "bug: a task was lost"),
        };
        lanes.done(&job);
        if let Some(left) = rounds.get_mut(&job.id) {
            *left -= 1;
            if *left == 0 {
                rounds.remove(&job.id);
                self.end_round(job.id, tasks);
            }
        }
    }

    /// Sorts due messages into lanes. Tells whether more are due.
    async fn plan_due(
        self: &Arc<Self>,
        lanes: &mut Lanes,
        rounds: &mut HashMap<QueueId, usize>,
        tasks: &mut JoinSet<Done>,
    ) -> bool {
        for _ in 0..PLANNED_AT_ONCE {
            let Some(due) = self.desk.schedule().take_due(clock::now()) else {
                return false;
            };
            // Its last round still runs (a removal that failed put it back): never two rounds of a message at once.
            if rounds.contains_key(&due.id) {
                self.desk.schedule().settle(due.id, clock::now() + PAUSE);
                continue;
            }
            match self.plan(&due).await {
                Ok(destinations) if destinations.is_empty() => self.end_round(due.id, tasks),
                Ok(destinations) => {
                    rounds.insert(due.id, destinations.len());
                    destinations.into_iter().for_each(|destination| {
                        lanes.push(Job {
                            id: due.id,
                            destination,
                            rank: due.rank.clone(),
                        })
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.desk.schedule().remove(due.id);
                    self.desk.quarantine.leave(due.id);
                    warn!(id = %due.id, "a message vanished from the queue directory");
                }
                Err(error) => {
                    error!(id = %due.id, %error, "a message cannot be read; trying again later");
                    self.desk.schedule().settle(due.id, clock::now() + PAUSE);
                }
            }
        }
        true
    }

    async fn plan(&self, due: &Due) -> io::Result<Vec<Destination>> {
        let id = due.id;
        let opened = self.desk.with_queue(move |queue| queue.message(id)).await?;
        let (message, now) = (opened.snapshot(), clock::now());
        let domains = message.due_domains(now, due.hurried);
        let mut destinations: Vec<_> = match (&message.route, &self.carrier.smarthost) {
            _ if domains.is_empty() => Vec::new(),
            (Some(route), _) => vec![Destination::Chosen(route.clone())],
            (None, Some(_)) => vec![Destination::Smarthost],
            (None, None) => domains.into_iter().map(Destination::Domain).collect(),
        };
        if message.is_due_here(now, due.hurried) {
            destinations.push(Destination::Here);
        }
        Ok(destinations)
    }

    fn until_due(&self) -> Duration {
        let next = self.desk.schedule().next_due();
        let wait = next.map_or(i64::MAX, |due| due.saturating_sub(clock::now()));
        Duration::from_secs(u64::try_from(wait).unwrap_or(0)).min(LONGEST_SLEEP)
    }

    /// One job: attempt, then record.
    async fn work(self: Arc<Self>, job: Job) {
        let span = info_span!("attempt", id = %job.id);
        async {
            if let Err(error) = self.try_work(&job).await
                // The operator removed it meanwhile.
                && error.kind() != io::ErrorKind::NotFound
            {
                error!(%error, "an attempt could not be made");
            }
        }
        .instrument(span)
        .await;
    }

    async fn try_work(&self, job: &Job) -> io::Result<()> {
        let id = job.id;
        let opened = self.desk.with_queue(move |queue| queue.message(id)).await?;
        let message = opened.snapshot();
        let mine = |recipient: &crate::queue::Recipient| match &job.destination {
            Destination::Here => recipient.standing == Standing::Here,
            _ if recipient.standing == Standing::Here => false,
            Destination::Smarthost | Destination::Chosen(_) => true,
            Destination::Domain(domain) => recipient.address.domain() == domain,
        };
        let recipients: Vec<_> = message
            .waiting()
            .filter(|(_, recipient)| mine(recipient))
            .collect();
        let parameters = message.parameters_at(clock::now());
        let sender = match &job.destination {
            Destination::Here => &message.reverse_path,
            Destination::Smarthost | Destination::Chosen(_) | Destination::Domain(_) => {
                &message.onward
            }
        };
        let envelope = Envelope {
            sender: sender.clone(),
            recipients: recipients
                .iter()
                .map(|(_, recipient)| recipient.address.clone())
                .collect(),
            size: message.header.size,
            eight_bit: message.header.eight_bit,
            smtputf8: message.header.smtp_utf8,
            parameters: parameters.clone().unwrap_or_default(),
            recipient_parameters: recipients
                .iter()
                .map(|(_, recipient)| recipient.parameters.clone())
                .collect(),
        };
        let deadline = message.deadline().unwrap_or(i64::MAX);
        let is_traced = message.parameters.by.is_some_and(|by| by.trace);
        let body = || self.desk.body(id, message.header.size);
        let findings = match &job.destination {
            // RFC 2852 §4.1.4: what is late must not go on.
            _ if parameters.is_none() => {
                let text = "the time in which its sender wanted it delivered is over";
                vec![Finding::ours("5.4.7", text.into()); recipients.len()]
            }
            Destination::Here => home::deliver(&self.reporter.ask, &envelope, body).await,
            elsewhere => {
                // Nobody is given up unheard.
                let is_last = |(_, recipient): &(usize, &crate::queue::Recipient)| {
                    schedule::next_attempt(&self.waits, recipient.attempts + 1, 0, 0).is_none()
                };
                let rests = &self.desk.rests;
                let instead = match recipients.iter().any(is_last) {
                    true => None,
                    false => rests.instead(elsewhere, clock::now()),
                };
                match instead {
                    Some(finding) => vec![finding; recipients.len()],
                    None => match self.signer.sign(&self.desk, id, &message).await {
                        Err(finding) => vec![finding; recipients.len()],
                        Ok(head) => {
                            let (wish, size) = (message.tls_wish(), head.len() as u64);
                            let envelope = Envelope {
                                size: envelope.size + size,
                                ..envelope
                            };
                            let letter = || Ok(Letter::new(Arc::clone(&head), body()?));
                            let carrier = &self.carrier;
                            let found = carrier.attempt(elsewhere, &envelope, wish, letter).await;
                            rests.note(elsewhere, &found, clock::now(), self.pace()?);
                            found
                        }
                    },
                }
            }
        };
        let now = clock::now();
        let spread = spread()?;
        let outcome =
            |((index, recipient), finding): (&(usize, &crate::queue::Recipient), Finding)| {
                // The second that runs is rounded up: a wait is never shorter than it says, nor over before it is recorded.
                let next =
                    schedule::next_attempt(&self.waits, recipient.attempts + 1, now + 1, spread);
                // What is late comes back then, and not only at its next turn.
                let next = next.map(|next| next.min(deadline.max(now + 1)));
                self.judge(*index, recipient, finding, next, is_traced)
            };
        let results: Vec<_> = recipients.iter().zip(findings).map(outcome).collect();
        self.record(&opened, Attempted { at: now, results }).await;
        Ok(())
    }

    // Whoever wants mail to be tried again soon wants to know soon.
    fn pace(&self) -> io::Result<Pace> {
        let first = self.waits.first().copied().unwrap_or(0);
        let spread = spread()?;
        Ok(Pace { first, spread })
    }

    fn judge(
        &self,
        index: usize,
        recipient: &crate::queue::Recipient,
        finding: Finding,
        next: Option<i64>,
        is_traced: bool,
    ) -> Outcome {
        let (to, host, attempts) = (
            &recipient.address,
            finding.host.as_deref(),
            recipient.attempts + 1,
        );
        let (mut status, text) = (finding.status, finding.text);
        let fate = match (finding.outcome, next) {
            (Verdict::Delivered, _) => {
                info!(%to, host, text, "delivered");
                // RFC 3461 §5.2.2: where nobody reports further on, the last who can does.
                let notify = recipient.parameters.notify();
                // RFC 2852 §4.1.5: with a trace each server tells, unless nothing is to be told.
                let is_wanted =
                    notify.success && !finding.reports || is_traced && notify != Notify::NEVER;
                match is_wanted {
                    true => Fate::Relayed,
                    false => Fate::Delivered,
                }
            }
            (Verdict::Temporary, Some(next)) => {
                info!(%to, host, text, attempts, next, "deferred");
                Fate::Deferred { next }
            }
            (Verdict::Temporary, None) => {
                warn!(%to, host, text, attempts, "given up after the last attempt");
                // RFC 3463 §3.5: X.4.7, delivery time expired.
                "4.4.7".clone_into(&mut status);
                Fate::Failed
            }
            (Verdict::Permanent, _) => {
                warn!(%to, host, text, "failed");
                Fate::Failed
            }
        };
        let recipient = u32::try_from(index).unwrap_or(u32::MAX);
        Outcome {
            recipient,
            fate,
            status,
            text,
            remote: finding.remote,
            host: finding.host,
        }
    }

    /// Makes the results durable before anything depends on them. The job keeps its connection's place until then, so that
    /// no more mail goes out than can be written down.
    async fn record(&self, opened: &Arc<Opened>, attempted: Attempted) {
        let count = |fate| {
            attempted
                .results
                .iter()
                .filter(|outcome| outcome.fate == fate)
                .count() as u64
        };
        let delivered = count(Fate::Delivered) + count(Fate::Relayed);
        let failed = count(Fate::Failed);
        self.desk.record(opened, Record::Attempted(attempted)).await;
        self.desk.count(delivered, failed);
    }

    fn end_round(self: &Arc<Self>, id: QueueId, tasks: &mut JoinSet<Done>) {
        tasks.spawn(guard(Done::Round, Arc::clone(self).settle(id)));
    }

    /// All jobs of a message are over: report, remove, or wait for the next round.
    async fn settle(self: Arc<Self>, id: QueueId) {
        if !self.desk.schedule().contains(id) {
            return;
        }
        match self.try_settle(id).await {
            Ok(Some(due)) => self.desk.schedule().settle(id, due),
            Ok(None) => {
                self.desk.schedule().remove(id);
            }
            // The operator removed it meanwhile.
            Err(_) if !self.desk.schedule().contains(id) => {}
            Err(error) => {
                error!(%id, %error, "the end of a round could not be recorded");
                self.desk.schedule().settle(id, clock::now() + PAUSE);
            }
        }
        self.desk.bell.notify_one();
    }

    async fn try_settle(&self, id: QueueId) -> io::Result<Option<i64>> {
        let opened = self.desk.with_queue(move |queue| queue.message(id)).await?;
        if let Some(end) = self.desk.quarantine.end_of(&opened.snapshot()) {
            return self.keep_in_quarantine(id, end).await;
        }
        let told = self.reporter.report(&opened).await;
        let message = opened.snapshot();
        let warning = message.warning_due(self.desk.warning);
        let due = match message.next_due() {
            Some(due) => due,
            None if told => {
                self.desk
                    .with_queue(move |queue| queue.finish(id, Ending::Done))
                    .await?;
                info!(%id, "done");
                return Ok(None);
            }
            None => 0,
        };
        let now = clock::now();
        let earliest = now + PAUSE;
        // A report that waits comes back with the next round, and soon.
        let due = if due <= now {
            earliest
        } else if told {
            due
        } else {
            due.min(earliest)
        };
        // What may have become late while the others were told is told of next.
        let warning = warning
            .filter(|_| told)
            .map_or(due, |warning| warning.max(now + 1));
        Ok(Some(due.min(warning)))
    }

    /// Its sender may be anybody, and hears nothing.
    async fn keep_in_quarantine(&self, id: QueueId, end: i64) -> io::Result<Option<i64>> {
        if end > clock::now() {
            return Ok(Some(end));
        }
        self.desk
            .with_queue(move |queue| queue.finish(id, Ending::Expired))
            .await?;
        self.desk.quarantine.leave(id);
        info!(%id, "removed: it was in quarantine for authentication.quarantine.days and not released");
        Ok(None)
    }

    async fn drain(
        self: &Arc<Self>,
        mut lanes: Lanes,
        mut rounds: HashMap<QueueId, usize>,
        mut tasks: JoinSet<Done>,
    ) {
        let ended = timeout(GRACE, async {
            while let Some(done) = tasks.join_next().await {
                self.finish(done, &mut lanes, &mut rounds, &mut tasks);
            }
        });
        if ended.await.is_err() {
            warn!(
                unfinished = tasks.len(),
                "attempts that took too long are cut off; their mail stays in the queue"
            );
        }
    }
}

/// By how many thousandths a wait is longer than it would be, so that what failed together does not come back together.
fn spread() -> io::Result<u32> {
    let random = getrandom::u32().map_err(|error| io::Error::other(error.to_string()))?;
    Ok(random % 101)
}

/// A panic in one attempt must lose neither its place in the lanes nor its message.
async fn guard(done: Done, work: impl Future<Output = ()> + Send + 'static) -> Done {
    if let Err(panic) = tokio::spawn(work).await {
        error!(%panic, "bug: an attempt panicked");
    }
    done
}
