//! What users store is written down while deliverd runs and when it stops; after a stop that was none, everybody is counted anew
//! behind the backs of those who work.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ipc::Refusal;
use tracing::{info, warn};

use super::House;
use crate::store::Owner;

/// How often it is written down.
const EVERY: Duration = Duration::from_secs(60);
/// Users written with one flush, while nobody else uses the database.
const TOGETHER: usize = 500;
/// Pause between two users that are counted.
const BREATH: Duration = Duration::from_millis(5);

impl House {
    /// Writes down what was not.
    pub(super) fn write_usage(&self) -> Result<(), Refusal> {
        loop {
            let users = self.store.ledger().stale(TOGETHER);
            if users.is_empty() {
                return Ok(());
            }
            if let Err(refusal) = self.accounts.write_usage(&users) {
                self.store.ledger().still_stale(users);
                return Err(refusal);
            }
        }
    }

    /// Writes everything down, at the end of a clean stop.
    pub(super) fn close_ledger(&self) -> Result<(), Refusal> {
        self.write_usage()?;
        if self.is_counted.load(Ordering::Acquire) {
            self.accounts.close_ledger()?;
        }
        Ok(())
    }

    /// Has every user counted, one after another. False if some could not be.
    async fn count_all(self: &Arc<Self>) -> Result<bool, Refusal> {
        let (mut after, mut all) = (None, true);
        loop {
            let from = after.take();
            let page = self.work(move |house| house.accounts.users(None, from.as_ref()));
            let page = page.await?;
            for account in page.entries {
                let owner = account.owner.clone();
                all &= self.work(move |house| Ok(house.count(&owner))).await?;
                after = Some(account.owner);
                tokio::time::sleep(BREATH).await;
            }
            if !page.more {
                return Ok(all);
            }
        }
    }

    fn count(&self, owner: &Owner) -> bool {
        let member = self.store.ledger().member(owner);
        if member.is_none_or(|member| member.is_exact()) {
            return true;
        }
        // One that cannot be counted now is tried again when it needs room.
        let counted = self.store.user(owner).and_then(|user| user.count());
        if let Err(refusal) = &counted {
            warn!(account = owner.address(), %refusal, "what this user stores cannot be counted");
        }
        self.store.let_go(owner);
        counted.is_ok()
    }
}

/// Counts, if it is needed, and writes down, until the end.
pub(super) async fn keep(house: Arc<House>) {
    if !house.is_counted.load(Ordering::Acquire) {
        let counted = tokio::select! {
            counted = house.count_all() => counted,
            () = house.stop.requested() => return,
        };
        match counted {
            Ok(all) => {
                info!(all, "counted what users store");
                house.is_counted.store(all, Ordering::Release);
            }
            Err(refusal) => warn!(%refusal, "what users store could not be counted"),
        }
    }
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = house.stop.requested() => return,
        }
        // The fault is logged; it is tried again.
        let _ = house.work(|house| house.write_usage()).await;
    }
}
