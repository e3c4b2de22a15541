//! `rmailctl queue retry|hold|release|remove|bounce|reroute|flush`

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::channel::CallError;
use ipc::Refusal;
use ipc::control::{QueueControlAnswer, QueueControlRequest};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::ids;
use crate::Error;
use crate::cli::Selection;
use crate::operator::{Queue, unexpected};

/// Orders under way at once, so that one flush of relayd's serves many.
const AT_ONCE: usize = 64;
/// How often who waits is told how far it is.
const OFTEN: Duration = Duration::from_secs(2);
/// Before a message that is being tried is asked about again, and how often.
const PAUSE: Duration = Duration::from_millis(200);
const TRIES: usize = 50;

/// What is done with each.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Retry,
    Hold,
    Release,
    Remove,
    Bounce,
    Reroute(Option<String>),
}

impl Change {
    fn request(&self, queue_id: String) -> QueueControlRequest {
        match self {
            Self::Retry => QueueControlRequest::RetryMessage {
                queue_id: Some(queue_id),
            },
            Self::Hold => QueueControlRequest::HoldMessage { queue_id },
            Self::Release => QueueControlRequest::ReleaseMessage { queue_id },
            Self::Remove => QueueControlRequest::RemoveMessage { queue_id },
            Self::Bounce => QueueControlRequest::BounceMessage { queue_id },
            Self::Reroute(server) => QueueControlRequest::RerouteMessage {
                queue_id,
                server: server.clone(),
            },
        }
    }

    const fn verb(&self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Remove => "remove",
            Self::Bounce => "bounce",
            Self::Reroute(_) => "reroute",
        }
    }

    /// What can be said of so many messages afterwards.
    const fn done(&self) -> &'static str {
        match self {
            Self::Retry => "tried now",
            Self::Hold => "held",
            Self::Release => "released",
            Self::Remove => "removed",
            Self::Bounce => "given up",
            Self::Reroute(_) => "rerouted",
        }
    }
}

/// Tries everything now.
pub(super) async fn flush(queue: &Queue) -> Result<(), Error> {
    let request = QueueControlRequest::RetryMessage { queue_id: None };
    match queue.ask("cannot retry", request).await? {
        QueueControlAnswer::Retried { messages } => println!("{messages} messages are tried now"),
        answer => return Err(unexpected(&answer)),
    }
    Ok(())
}

/// Changes all that are meant, and says how many.
pub(super) async fn run(
    queue: &Queue,
    selection: Selection,
    change: Change,
    yes: bool,
) -> Result<(), Error> {
    if selection.is_nothing() {
        return Err(Error::Usage(format!(
            "say what to {}: queue ids, a filter such as --destination, or --all",
            change.verb()
        )));
    }
    let is_named = !selection.queue_ids.is_empty();
    let mut meant = selection.queue_ids;
    if !is_named {
        ids(queue, selection.range.into(), |id| meant.push(id)).await?;
    }
    if selection.dry_run {
        let mut out = std::io::stdout().lock();
        for id in &meant {
            writeln!(out, "{id}")?;
        }
        // Whoever reads the ids does not want it there.
        let _ = writeln!(
            std::io::stderr(),
            "{} messages; nothing was changed",
            meant.len()
        );
        return Ok(());
    }
    if !is_named && !yes {
        confirm(&change, meant.len())?;
    }
    let tally = change_all(queue, &change, meant, is_named).await?;
    println!("{} messages are {}", tally.changed, change.done());
    match tally.failed {
        None => Ok(()),
        Some(failed) => Err(failed),
    }
}

/// Asks whether that is meant, where somebody can answer.
fn confirm(change: &Change, count: usize) -> Result<(), Error> {
    if count == 0 {
        return Ok(());
    }
    let verb = change.verb();
    if !std::io::stdin().is_terminal() {
        return Err(Error::Usage(format!(
            "that would {verb} {count} messages: say --yes if it is meant, or --dry-run to see which"
        )));
    }
    let mut err = std::io::stderr();
    write!(err, "{verb} {count} messages? [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Error::Failed("nothing was changed".into())),
    }
}

#[derive(Default)]
struct Tally {
    changed: u64,
    failed: Option<Error>,
}

async fn change_all(
    queue: &Queue,
    change: &Change,
    meant: Vec<String>,
    is_named: bool,
) -> Result<Tally, Error> {
    let (all, mut told) = (meant.len(), Instant::now());
    let is_watched = std::io::stderr().is_terminal();
    let queue = Arc::new(queue.another());
    let (mut tally, mut over) = (Tally::default(), 0);
    let mut running = JoinSet::new();
    let mut meant = meant.into_iter();
    loop {
        while running.len() < AT_ONCE
            && tally.failed.is_none()
            && let Some(id) = meant.next()
        {
            let (queue, change) = (Arc::clone(&queue), change.clone());
            running.spawn(async move { (order(&queue, &change, &id).await, id) });
        }
        let Some(done) = running.join_next().await else {
            return Ok(tally);
        };
        let (answered, id) = done.map_err(|error| Error::failed("a task was lost", error))?;
        over += 1;
        let what = || format!("cannot {} {id}", change.verb());
        match answered {
            Ok(is_changed) => tally.changed += u64::from(is_changed),
            // It was delivered or removed meanwhile.
            Err(CallError::Refused(Refusal::NotFound)) if !is_named => {}
            Err(error) => tally.failed = Some(queue.explain(what(), error)),
        }
        if is_watched && told.elapsed() >= OFTEN {
            told = Instant::now();
            // Who cannot be told needs no progress.
            let _ = writeln!(std::io::stderr(), "{over} of {all}");
        }
    }
}

/// Tells whether something has changed.
async fn order(queue: &Queue, change: &Change, id: &str) -> Result<bool, CallError> {
    let mut tries = 0;
    loop {
        let answered = queue.order(change.request(id.to_owned())).await;
        match answered {
            // It is being tried at this moment.
            Err(CallError::Refused(Refusal::Busy)) if tries < TRIES => {
                tries += 1;
                sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
            Ok(
                QueueControlAnswer::Retried { messages }
                | QueueControlAnswer::Released { messages },
            ) => return Ok(messages > 0),
            Ok(_) => return Ok(true),
        }
    }
}
