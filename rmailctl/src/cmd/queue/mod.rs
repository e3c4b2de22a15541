//! `rmailctl queue`

mod change;
pub(super) mod history;
mod list;
mod top;
mod walk;

use std::path::Path;

use daemon::config::Config;

use self::change::Change;
use crate::Error;
use crate::cli::QueueCommand;
use crate::operator::Queue;

pub(super) use self::walk::ids;

/// Runs the command.
///
/// # Errors
/// [`Error`].
pub async fn run(config: &Path, command: QueueCommand) -> Result<(), Error> {
    let queue = Queue::of(&Config::read(config)?);
    match command {
        QueueCommand::List {
            range,
            limit,
            after,
            json,
        } => list::list(&queue, range, limit, after, json).await,
        QueueCommand::Show {
            queue_id,
            headers,
            json,
        } => list::show(&queue, queue_id, headers, json).await,
        QueueCommand::Retry(selection) => match selection.is_nothing() && !selection.dry_run {
            true => change::flush(&queue).await,
            false => change::run(&queue, selection, Change::Retry, true).await,
        },
        QueueCommand::Flush => change::flush(&queue).await,
        QueueCommand::Hold(selection) => change::run(&queue, selection, Change::Hold, true).await,
        QueueCommand::Release(selection) => {
            change::run(&queue, selection, Change::Release, true).await
        }
        QueueCommand::Remove { selection, yes } => {
            change::run(&queue, selection, Change::Remove, yes).await
        }
        QueueCommand::Bounce { selection, yes } => {
            change::run(&queue, selection, Change::Bounce, yes).await
        }
        QueueCommand::Reroute { server, selection } => {
            let server = (server != "mx").then_some(server);
            change::run(&queue, selection, Change::Reroute(server), true).await
        }
        QueueCommand::Top {
            range,
            by,
            lines,
            once,
            json,
        } => top::run(&queue, range, by, lines, once, json).await,
        QueueCommand::History { about, json } => history::run(&queue, about, json).await,
    }
}
