//! Room that deliverd sets aside for a transaction.

use std::sync::Arc;

use daemon::session_id;
use ipc::Context;

use crate::ask::Ask;

/// In whose name deliverd sets room aside; what is held when this is dropped is freed.
#[derive(Debug)]
pub(crate) struct Reservation {
    ask: Arc<Ask>,
    context: Context,
    transaction: u64,
    is_held: bool,
}

impl Reservation {
    /// For a new transaction; nothing is held yet.
    pub(crate) fn new(ask: Arc<Ask>, context: Context) -> Self {
        Self {
            ask,
            context,
            transaction: session_id::next(),
            is_held: false,
        }
    }

    /// How deliverd knows it.
    pub(crate) fn number(&self) -> u64 {
        self.transaction
    }

    /// Notes that deliverd has set room aside.
    pub(crate) fn hold(&mut self) {
        self.is_held = true;
    }

    /// Makes what is held a message's, and gives the number for it; 0 if there is nothing.
    pub(crate) fn hand_over(reservation: &mut Option<Self>) -> u64 {
        reservation.take().map_or(0, |mut reservation| {
            reservation.is_held = false;
            reservation.transaction
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Without a runtime the process ends, which frees it too.
        if self.is_held
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (ask, context) = (Arc::clone(&self.ask), self.context);
            let transaction = self.transaction;
            runtime.spawn(async move { ask.end_transaction(context, transaction).await });
        }
    }
}
