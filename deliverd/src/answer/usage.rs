//! What users store is written down while deliverd runs and when it stops; after a stop that was none, the users of domains that
//! are limited are counted anew behind the backs of those who work.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
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

/// Limited domains whose users were counted since the start, or need not be, and whether all could be.
pub(super) type Counted = HashMap<String, bool>;

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
        let counted = self.counted();
        let limited = self.store.ledger().limited_domains();
        if limited
            .iter()
            .all(|domain| counted.get(domain) == Some(&true))
        {
            self.accounts.close_ledger()?;
        }
        Ok(())
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was written down about all domains that are limited can be relied on.
    pub(super) fn trust_usage(&self) {
        let limited = self.store.ledger().limited_domains();
        self.counted()
            .extend(limited.into_iter().map(|domain| (domain, true)));
    }

    /// Has the users of domains counted whose sums matter and may be wrong. One that is not limited costs nothing, however many
    /// users it has.
    async fn count_limited(self: &Arc<Self>) -> Result<(), Refusal> {
        let mut limited = self.store.ledger().limited_domains();
        limited.retain(|domain| !self.counted().contains_key(domain));
        for domain in limited {
            let all = self.count_domain(&domain).await?;
            info!(domain, all, "counted what the users of a domain store");
            self.counted().insert(domain, all);
        }
        Ok(())
    }

    /// Has every user of a domain counted, one after another. False if some could not be.
    async fn count_domain(self: &Arc<Self>, domain: &str) -> Result<bool, Refusal> {
        let (mut after, mut all) = (None, true);
        loop {
            let (from, domain) = (after.take(), domain.to_owned());
            let page = self.work(move |house| house.accounts.users(Some(&domain), from.as_ref()));
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

/// Counts where it is needed, and writes down, until the end.
pub(super) async fn keep(house: Arc<House>) {
    loop {
        let counted = tokio::select! {
            counted = house.count_limited() => counted,
            () = house.stop.requested() => return,
        };
        if let Err(refusal) = counted {
            warn!(%refusal, "what the users of a domain store could not be counted");
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = house.stop.requested() => return,
        }
        // The fault is logged; it is tried again.
        let _ = house.work(|house| house.write_usage()).await;
    }
}
