//! The whole daemon: what it is made of, how it starts and stops.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use daemon::channel::serve;
use daemon::{Birth, StartError, Stop};
use tokio::time::interval;
use tracing::{error, warn};

use crate::answer::operator::Operator;
use crate::answer::signing::Signing;
use crate::cabinet::Cabinet;
use crate::clock;
use crate::rotation::{self, Rules};

/// How often is looked what time has made due. Days are what counts.
const BEAT: Duration = Duration::from_mins(10);

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// [`StartError`] when it cannot start.
pub async fn run(mut birth: Birth) -> Result<(), StartError> {
    let path = birth.config.keys_dir();
    let explain = |error: io::Error| {
        let text = format!(
            "the directory of keys {} cannot be used: {error}; it must belong to the user keyd runs as",
            path.display()
        );
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => StartError::Config(text),
            _ => StartError::Fault(text),
        }
    };
    let cabinet = Arc::new(Cabinet::open(&path, clock::now()).map_err(explain)?);
    let rules = Rules::new(&birth.config.dkim);
    let relayd = tokio::spawn(serve(
        birth.packet_listener("relayd")?,
        Arc::new(Signing {
            cabinet: Arc::clone(&cabinet),
            rules,
        }),
        birth.stop.clone(),
    ));
    let ctl = tokio::spawn(serve(
        birth.packet_listener("ctl")?,
        Arc::new(Operator {
            cabinet: Arc::clone(&cabinet),
        }),
        birth.stop.clone(),
    ));
    for name in birth.inherited.rest() {
        warn!(name, "a socket was handed over that nobody serves");
    }
    birth.ready();
    rotate(cabinet, rules, birth.stop.clone()).await;
    for served in [relayd, ctl] {
        served
            .await
            .map_err(StartError::fault)?
            .map_err(StartError::fault)?;
    }
    Ok(())
}

/// Does what time has made due, until `stop`.
async fn rotate(cabinet: Arc<Cabinet>, rules: Rules, stop: Stop) {
    let mut beat = interval(BEAT);
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = stop.requested() => return,
        }
        let cabinet = Arc::clone(&cabinet);
        let work = move || rotation::turn(&cabinet, &rules, clock::now());
        if let Err(error) = tokio::task::spawn_blocking(work).await {
            error!(%error, "bug: the rotation of keys panicked");
        }
    }
}
