//! Small messages on their way through the journal: one thread prepares, flushes and shows many of them.
//!
//! The thread that read messages from smtpd prepares them, if what it takes is in memory and nobody works on it, and flushes what
//! was prepared if nobody does so already; then all of that is shown and answered. So a message that comes alone wakes no other thread.
//!
//! Any other message is put into the lane and some thread comes for it. Whoever comes takes what has gathered by then, and does the same.
//!
//! Invariant: what is in the journal is flushed and shown by a thread that waits for nothing but the disk until then, because
//! others may hold a lock and wait for the journal to be emptied. So a thread looks for that first whenever it has done something,
//! and where a message has to wait for room in the journal, another thread waits with it, outside the lane.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use daemon::channel::{Answered, Reply};
use ipc::Refusal;
use ipc::delivery::DeliveryAnswer;
use ipc::smtp::{SmtpAnswer, SmtpEdge};
use tokio::sync::oneshot;
use tracing::{Span, error, info, warn};

use super::House;
use super::jobs::{Closed, Place};
use crate::store::{Addressed, Incoming, NotPledged, Owner, Pledge};

/// Messages a thread takes at once. Few: they wait for each other's mailboxes.
const HANDFUL: usize = 8;

/// Who waits for a message to be kept.
pub(super) enum Done {
    Task(oneshot::Sender<Result<(), Refusal>>),
    /// Whoever asked over a channel, until then.
    Asker(Reply<SmtpEdge>, Instant),
}

/// What a thread of a channel has begun with.
#[derive(Default)]
pub(super) struct Shift {
    place: Option<Place>,
    addressed: Vec<(Addressed, Slip)>,
}

/// The messages under way.
#[derive(Default)]
pub(super) struct Lane(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Parcel>,
    /// What is to be flushed.
    pledged: Vec<Pledged>,
    /// Somebody is on the way here.
    is_called: bool,
    /// Somebody flushes.
    is_led: bool,
}

/// A message and who waits for it.
pub(super) struct Parcel {
    pub(super) message: Incoming,
    pub(super) owners: Vec<Owner>,
    pub(super) span: Span,
    pub(super) done: Done,
}

/// What is needed to tell of a message that is kept.
struct Slip {
    size: u64,
    recipients: usize,
    span: Span,
    done: Done,
}

/// A message in the journal.
type Pledged = (Pledge, Slip);

/// The right to flush.
struct Lead<'a>(&'a Lane);

impl Lane {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that somebody is needed. False if one is on the way already.
    fn call(&self) -> bool {
        !std::mem::replace(&mut self.lock().is_called, true)
    }

    /// Notes that whoever was called is here.
    fn arrive(&self) {
        self.lock().is_called = false;
    }

    /// Takes some of what waits, and says whether there is more.
    fn take(&self) -> (Vec<Parcel>, bool) {
        let mut state = self.lock();
        let some = state.waiting.len().min(HANDFUL);
        let taken = state.waiting.drain(..some).collect();
        (taken, !state.waiting.is_empty())
    }

    /// All that is to be flushed, if nobody flushes.
    fn lead(&self) -> Option<(Lead<'_>, Vec<Pledged>)> {
        let mut state = self.lock();
        if state.is_led || state.pledged.is_empty() {
            return None;
        }
        state.is_led = true;
        Some((Lead(self), std::mem::take(&mut state.pledged)))
    }

    fn has_work(&self) -> bool {
        let state = self.lock();
        !state.waiting.is_empty() || !state.pledged.is_empty() && !state.is_led
    }

    /// Nobody will come: what waits is refused.
    fn close(&self) {
        let mut state = self.lock();
        state.is_called = false;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for parcel in waiting {
            parcel.done.answer(Err(Refusal::ShuttingDown));
        }
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.0.lock().is_led = false;
    }
}

impl House {
    /// Delivers a message that is not large to at most [`crate::store::RECIPIENTS`] owners.
    pub(super) async fn deliver_small(
        self: &Arc<Self>,
        message: Incoming,
        owners: Vec<Owner>,
    ) -> Result<(), Refusal> {
        let (done, outcome) = oneshot::channel();
        self.queue(Parcel {
            message,
            owners,
            span: Span::current(),
            done: Done::Task(done),
        });
        outcome.await.unwrap_or_else(|_| {
            error!("a delivery came to no end");
            Err(Refusal::StorageFault)
        })
    }

    /// Begins with a message on the thread that read it, or puts it into the lane. Goes on with [`House::settle`].
    pub(super) fn begin_here(self: &Arc<Self>, shift: &mut Shift, parcel: Parcel) {
        if shift.place.is_none() {
            shift.place = self.jobs.try_take(&self.party);
        }
        // There are few of these threads: they do not wait for what others do in a mailbox, nor for their turn.
        if shift.place.is_none()
            || !parcel.message.junk.is_empty()
            || !self.store.is_at_hand(&parcel.owners)
        {
            return self.queue(parcel);
        }
        shift.addressed.extend(self.address(parcel));
    }

    /// Ends what a thread has begun.
    pub(super) fn settle(self: &Arc<Self>, shift: Shift) {
        // Kept to the end, so that a stop waits for it.
        let Shift {
            place: Some(_place),
            addressed,
        } = shift
        else {
            return;
        };
        for (addressed, slip) in addressed {
            if addressed.must_wait() {
                self.deliver_elsewhere(addressed, slip);
            } else {
                self.pledge(addressed, slip);
            }
        }
        self.flush_pledged(|late| self.show_elsewhere(late));
        // This thread does not come back for what others have left to whoever is called.
        if self.lane.has_work() && self.lane.call() {
            self.send_for_somebody();
        }
    }

    fn queue(self: &Arc<Self>, parcel: Parcel) {
        self.lane.lock().waiting.push_back(parcel);
        if self.lane.call() {
            self.send_for_somebody();
        }
    }

    /// Starts a thread for the lane as soon as one more may work.
    fn send_for_somebody(self: &Arc<Self>) {
        if self.send_somebody() {
            return;
        }
        let house = Arc::clone(self);
        // Not cut off with a call: others may rely on it.
        tokio::spawn(async move {
            match house.jobs.take(&house.party).await {
                Ok(place) => house.begin_shift(place),
                Err(Closed) => house.lane.close(),
            }
        });
    }

    /// Starts a thread for the lane, if one more may work.
    fn send_somebody(self: &Arc<Self>) -> bool {
        let place = self.jobs.try_take(&self.party);
        place.map(|place| self.begin_shift(place)).is_some()
    }

    fn begin_shift(self: &Arc<Self>, place: Place) {
        let house = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let _place = place;
            house.work_lane();
        });
    }

    /// Has another thread come if there is work for it, so that it does not wait for what this one does next.
    fn call_for_help(self: &Arc<Self>) {
        if self.lane.has_work() && self.lane.call() && !self.send_somebody() {
            // All are at work; this one comes back.
            self.lane.arrive();
        }
    }

    /// Flushes and shows what was pledged, if nobody does so already. What has to wait for others goes to `wait`.
    fn flush_pledged(self: &Arc<Self>, wait: impl Fn(Vec<Pledged>)) {
        while let Some((lead, batch)) = self.lane.lead() {
            self.call_for_help();
            for (pledge, _) in &batch {
                pledge.commit();
            }
            drop(lead);
            self.call_for_help();
            // Nobody waits for a mailbox that only others need.
            let (late, ready): (Vec<_>, Vec<_>) = batch
                .into_iter()
                .partition(|(pledge, _)| pledge.must_wait());
            self.show(ready);
            wait(late);
        }
    }

    fn show(&self, pledged: Vec<Pledged>) {
        for (pledge, slip) in pledged {
            slip.tell(|| self.store.publish(pledge));
        }
    }

    /// Shows messages on another thread, if one more may work.
    fn show_elsewhere(self: &Arc<Self>, pledged: Vec<Pledged>) {
        if pledged.is_empty() {
            return;
        }
        let Some(place) = self.jobs.try_take(&self.party) else {
            return self.show(pledged);
        };
        let house = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let _place = place;
            house.show(pledged);
        });
    }

    fn work_lane(self: &Arc<Self>) {
        self.lane.arrive();
        loop {
            self.flush_pledged(|late| self.show(late));
            let (parcels, has_more) = self.lane.take();
            if parcels.is_empty() {
                return;
            }
            if has_more {
                self.call_for_help();
            }
            let addressed: Vec<_> = parcels
                .into_iter()
                .filter_map(|parcel| self.address(parcel))
                .collect();
            for (addressed, slip) in addressed {
                self.pledge(addressed, slip);
            }
        }
    }

    /// Does what may wait for others.
    fn address(&self, parcel: Parcel) -> Option<(Addressed, Slip)> {
        let Parcel {
            message,
            owners,
            span,
            done,
        } = parcel;
        if done.is_over() {
            // Nobody waits for it any more, so it will be brought again.
            done.answer(Err(Refusal::DeadlinePassed));
            return None;
        }
        let slip = Slip {
            size: message.size(),
            recipients: owners.len(),
            span,
            done,
        };
        let is_here = |owner| self.store.ledger().member(owner).is_some();
        let addressed = slip.span.in_scope(|| {
            if owners.iter().all(is_here) {
                self.store.address(message, &owners)
            } else {
                Err(Refusal::NoSuchUser)
            }
        });
        match addressed {
            Ok(addressed) => Some((addressed, slip)),
            Err(refusal) => {
                slip.answer(Err(refusal));
                None
            }
        }
    }

    fn pledge(self: &Arc<Self>, addressed: Addressed, slip: Slip) {
        let pledged = slip.span.in_scope(|| self.store.pledge(addressed));
        match pledged {
            Ok(pledge) => self.lane.lock().pledged.push((pledge, slip)),
            Err(NotPledged::Refused(refusal)) => slip.answer(Err(refusal)),
            Err(NotPledged::NoRoom(addressed)) => self.deliver_elsewhere(addressed, slip),
        }
    }

    /// Delivers a message on a thread that waits for what it needs.
    fn deliver_elsewhere(self: &Arc<Self>, addressed: Addressed, slip: Slip) {
        let house = Arc::clone(self);
        tokio::spawn(async move {
            let waited = house.work(|house| {
                slip.tell(|| house.store.deliver_addressed(addressed));
                Ok(())
            });
            if let Err(refusal) = waited.await {
                // Who brought it hears that its slip is gone.
                warn!(%refusal, "a message that had to wait is not delivered");
            }
        });
    }
}

impl Slip {
    /// Keeps the message and tells what came of it.
    fn tell(self, keep: impl FnOnce() -> Result<(), Refusal>) {
        let kept = self.span.in_scope(|| {
            let kept = keep();
            if kept.is_ok() {
                info!(size = self.size, recipients = self.recipients, "delivered");
            }
            kept
        });
        self.answer(kept);
    }

    fn answer(self, outcome: Result<(), Refusal>) {
        self.done.answer(outcome);
    }
}

impl Done {
    fn is_over(&self) -> bool {
        match self {
            Self::Task(done) => done.is_closed(),
            Self::Asker(_, until) => Instant::now() > *until,
        }
    }

    /// Who gave up waiting does not hear it; the message is there or not, as after any lost answer.
    fn answer(self, outcome: Result<(), Refusal>) {
        match self {
            Self::Task(done) => {
                let _ = done.send(outcome);
            }
            Self::Asker(reply, _) => {
                let answer = SmtpAnswer::Delivery(DeliveryAnswer::MessageDelivered);
                reply.send(outcome.map(|()| Answered::plain(answer)));
            }
        }
    }
}
