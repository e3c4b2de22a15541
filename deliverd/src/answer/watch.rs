//! A session that watches all mailboxes of its account: it is told that something happened, and asks what when it has time. One
//! that reads too slowly is told again until there is room.

use std::sync::{Arc, Weak};
use std::time::Duration;

use daemon::channel::{Answered, Events};
use ipc::Refusal;
use ipc::session::{HAPPENINGS_PER_FRAME, SessionAnswer, SessionEdge, SessionEvent};
use tokio::runtime::Handle;

use super::House;
use crate::store::{User, Watch};

/// How long until a slow reader is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// The watch of a session. Called on the runtime.
pub(super) fn watch(events: Events<SessionEdge>) -> Arc<Watch> {
    let runtime = Handle::current();
    Arc::new_cyclic(|me: &Weak<Watch>| {
        let me = me.clone();
        Watch::new(Box::new(move || {
            if events.send(SessionEvent::Happened).is_ok() {
                return;
            }
            let (events, me) = (events.clone(), me.clone());
            runtime.spawn(async move {
                // Ends with the watch, or the session.
                while me.strong_count() > 0 {
                    tokio::time::sleep(RETRY).await;
                    if events.send(SessionEvent::Happened).is_ok() {
                        return;
                    }
                }
            });
        }))
    })
}

/// The next of what happened; nothing where nobody watches.
pub(super) async fn fetch(
    house: &Arc<House>,
    user: Arc<User>,
    watch: Option<Arc<Watch>>,
) -> Result<Answered<SessionAnswer>, Refusal> {
    let fetched = house.work(move |_| {
        let Some(watch) = watch else {
            return Ok((Vec::new(), false, false));
        };
        let fetched = watch.fetch(HAPPENINGS_PER_FRAME);
        let happenings = user.describe_all(fetched.notes)?;
        Ok((happenings, fetched.more, fetched.lost))
    });
    let (happenings, more, lost) = fetched.await?;
    Ok(Answered::plain(SessionAnswer::HappeningsListed {
        happenings,
        more,
        lost,
    }))
}
