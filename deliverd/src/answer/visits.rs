//! Sessions that have a mailbox of somebody else selected. When they may not read it any more they hear nothing more of it: at once
//! if rights were changed through deliverd, and within seconds if a file was changed by hand.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipc::Refusal;
use ipc::acl::Rights;
use ipc::session::SessionEvent;
use tracing::{info, warn};

use super::House;
use super::ear::Ear;
use super::reach::Reached;
use crate::store::{Listener, Owner, Selection};

/// Selections of mailboxes of one owner by others, and of mailboxes of others by one visitor.
const MAX_OF_OWNER: usize = 1000;
const MAX_OF_VISITOR: usize = 100;
/// How often rights are looked up again, and how many together.
const PAUSE: Duration = Duration::from_secs(10);
const TOGETHER: usize = 50;

/// All of them.
#[derive(Default)]
pub(super) struct Visits(Mutex<Open>);

#[derive(Default)]
struct Open {
    next: u64,
    selections: BTreeMap<u64, Visited>,
    /// How many there are of each owner, and of each visitor.
    owners: HashMap<String, usize>,
    visitors: HashMap<String, usize>,
}

#[derive(Clone)]
struct Visited {
    reached: Reached,
    selection: Selection,
    ear: Arc<Ear>,
    /// What it knows that it may do.
    rights: Rights,
}

impl Visits {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a selection; `None` for one of the session's own mailboxes. Refused if there are too many.
    pub(super) fn begin(
        &self,
        reached: &Reached,
        selection: Selection,
        ear: &Arc<Ear>,
        rights: Rights,
    ) -> Result<Option<u64>, Refusal> {
        let Some(visit) = &reached.visit else {
            return Ok(None);
        };
        let mut open = self.lock();
        let count = |counts: &HashMap<String, usize>, who| counts.get(who).copied().unwrap_or(0);
        if count(&open.owners, &visit.address) >= MAX_OF_OWNER
            || count(&open.visitors, &visit.visitor.address) >= MAX_OF_VISITOR
        {
            return Err(Refusal::Busy);
        }
        *open.owners.entry(visit.address.clone()).or_default() += 1;
        *open
            .visitors
            .entry(visit.visitor.address.clone())
            .or_default() += 1;
        open.next += 1;
        let id = open.next;
        let visited = Visited {
            reached: reached.clone(),
            selection,
            ear: Arc::clone(ear),
            rights,
        };
        open.selections.insert(id, visited);
        Ok(Some(id))
    }

    /// As if others had so many mailboxes of an owner selected.
    #[cfg(test)]
    pub(super) fn pretend(&self, owner: &str, count: usize) {
        self.lock().owners.insert(owner.to_owned(), count);
    }

    /// Ends a selection, if it is still there.
    pub(super) fn end(&self, id: u64) {
        let ended = self.lock().remove(id);
        if let Some(visited) = ended {
            visited.reached.mailbox.unselect(visited.selection);
        }
    }

    /// Looks up the rights of all who visit this owner.
    pub(super) fn look_again(&self, house: &House, owner: &Owner) {
        let is_theirs = |visited: &Visited| {
            let visit = visited.reached.visit.as_ref();
            visit.is_some_and(|visit| visit.owner == *owner)
        };
        let open = self.lock();
        let theirs = open.selections.iter().filter(|(_, one)| is_theirs(one));
        let theirs: Vec<u64> = theirs.map(|(id, _)| *id).collect();
        drop(open);
        self.look_at(house, &theirs);
    }

    /// Looks up the rights of everyone.
    pub(super) fn look_at_all(&self, house: &House) {
        let all = self.ids();
        self.look_at(house, &all);
    }

    fn ids(&self) -> Vec<u64> {
        self.lock().selections.keys().copied().collect()
    }

    fn look_at(&self, house: &House, ids: &[u64]) {
        for id in ids {
            let Some(visited) = self.lock().selections.get(id).cloned() else {
                continue;
            };
            // Whatever stands in the way of knowing is no reason to let it go on.
            let rights = visited.reached.rights(house).unwrap_or(Rights::NONE);
            if !rights.has(Rights::READ) {
                let gone = self.lock().remove(*id);
                if let Some(gone) = gone {
                    gone.reached.mailbox.unselect(gone.selection);
                    gone.ear.tell(SessionEvent::Gone);
                    info!("a session may not read the shared mailbox it had selected any more");
                }
                continue;
            }
            let mut open = self.lock();
            if let Some(known) = open.selections.get_mut(id)
                && known.rights != rights
            {
                known.rights = rights;
                known.ear.tell(SessionEvent::Rights(rights));
            }
        }
    }
}

impl Open {
    fn remove(&mut self, id: u64) -> Option<Visited> {
        let visited = self.selections.remove(&id)?;
        if let Some(visit) = &visited.reached.visit {
            lessen(&mut self.owners, &visit.address);
            lessen(&mut self.visitors, &visit.visitor.address);
        }
        Some(visited)
    }
}

fn lessen(counts: &mut HashMap<String, usize>, who: &str) {
    if let Some(count) = counts.get_mut(who) {
        *count -= 1;
        if *count == 0 {
            counts.remove(who);
        }
    }
}

/// Looks after rights that were changed by hand, until the end.
pub(super) async fn keep(house: Arc<House>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        let ids = house.visits.ids();
        for some in ids.chunks(TOGETHER) {
            let some = some.to_vec();
            let work = move |house: &House| {
                house.visits.look_at(house, &some);
                Ok(())
            };
            if let Err(refusal) = house.work(work).await {
                warn!(%refusal, "rights of sessions in shared mailboxes were not looked up again");
                return;
            }
        }
    }
}
