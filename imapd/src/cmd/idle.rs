//! IDLE: the client hears of changes the moment they happen.

use std::time::Duration;

use imap::response;
use tokio::time::{Instant, sleep_until};

use super::Session;
use super::context::next_passing;
use crate::session::{STOPPING, next_event};
use crate::view::Expunges;
use crate::wire::{Close, TOO_LONG, TOO_SLOW};
use crate::words::Tagged;

// RFC 2177: clients come back every 29 minutes, so that they are not taken for gone.
const PATIENCE: Duration = Duration::from_mins(30);

pub(super) async fn idle(session: &mut Session, tag: &str) -> Result<Tagged, Close> {
    response::continuation("idling", &mut session.wire.out);
    let end = Instant::now() + PATIENCE;
    loop {
        session.note_events()?;
        session.refresh().await?;
        session.tell(Expunges::Allowed).await?;
        session.tell_happenings().await?;
        session.wire.flush().await?;
        match session.wire.fragmenter.next_line() {
            // RFC 2177 §3: DONE ends it, and nothing else may be said before.
            Ok(Some(line)) if line.eq_ignore_ascii_case(b"DONE") => {
                return Ok(Tagged::ok(tag, "idled"));
            }
            Ok(Some(_)) => {
                session.count_mistake()?;
                return Ok(Tagged::bad(tag, "expected DONE"));
            }
            Ok(None) => {}
            Err(_) => return Err(TOO_LONG),
        }
        session.wire.settle();
        tokio::select! {
            read = session.wire.read() => read?,
            event = next_event(session.user.as_ref()) => session.note(event)?,
            () = next_passing(session.view.as_ref()) => {}
            () = sleep_until(end) => return Err(TOO_SLOW),
            () = session.stop.requested() => return Err(STOPPING),
        }
    }
}
