//! What is in quarantine: how much of each tenant's mail may be, and until when.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use daemon::config::Quarantine;
use ipc::Refusal;
use tracing::warn;

use crate::queue::{Message, QueueId};

/// Seconds of a day.
const DAY: i64 = 86_400;
/// Octets that a message takes of the disk beside its own: a journal, and what is left of the last blocks.
const BESIDE: u64 = 8192;

/// All messages in quarantine, with their sizes.
#[derive(Debug)]
pub struct Ward {
    bounds: Quarantine,
    kept: Mutex<Kept>,
    /// All that was kept before is counted.
    is_open: AtomicBool,
}

#[derive(Debug, Default)]
struct Kept {
    messages: HashMap<QueueId, (Tenant, u64)>,
    /// What each has; who has nothing is not in it.
    rooms: HashMap<Tenant, Room>,
    /// What all have.
    all: Room,
}

/// Whose mail it is. Domains that belong to no tenant are alike.
type Tenant = Option<String>;

#[derive(Debug, Default, Clone, Copy)]
struct Room {
    messages: u64,
    octets: u64,
}

impl Room {
    const fn add(&mut self, size: u64) {
        self.messages = self.messages.saturating_add(1);
        self.octets = self.octets.saturating_add(size);
    }

    const fn remove(&mut self, size: u64) {
        self.messages = self.messages.saturating_sub(1);
        self.octets = self.octets.saturating_sub(size);
    }

    /// Octets of the disk.
    const fn taken(self) -> u64 {
        self.octets
            .saturating_add(self.messages.saturating_mul(BESIDE))
    }
}

impl Ward {
    /// Nothing is in it yet.
    #[must_use]
    pub fn new(bounds: &Quarantine) -> Self {
        Self {
            bounds: bounds.clone(),
            kept: Mutex::default(),
            is_open: AtomicBool::new(false),
        }
    }

    /// All that was kept before is counted: now more may come.
    pub fn open(&self) {
        self.is_open.store(true, Ordering::Release);
    }

    /// When a message that came into quarantine then is gone, Unix seconds.
    #[must_use]
    pub fn end(&self, queued: i64) -> i64 {
        let days = i64::try_from(self.bounds.days.value()).unwrap_or(i64::MAX);
        queued.saturating_add(days.saturating_mul(DAY))
    }

    /// The same of a message that is in quarantine.
    #[must_use]
    pub fn end_of(&self, message: &Message) -> Option<i64> {
        message
            .in_quarantine
            .then(|| self.end(message.header.queued))
    }

    /// Counts a message that was there before, whether there is room or not.
    pub fn note(&self, id: QueueId, size: u64, tenant: Option<String>) {
        self.lock().add(id, size, tenant);
    }

    /// Counts a message that is to come, if its tenant has room for it. What others have is nothing to it, or whoever floods one would
    /// keep out the mail of all: of what is for all together each may have no more than is left, so that who has most is refused first.
    ///
    /// # Errors
    /// [`Refusal::QuarantineFull`], or [`Refusal::Busy`] before [`Ward::open`].
    pub fn admit(&self, id: QueueId, size: u64, tenant: Option<String>) -> Result<(), Refusal> {
        if !self.is_open.load(Ordering::Acquire) {
            return Err(Refusal::Busy);
        }
        let mut kept = self.lock();
        let (mut own, mut all) = (kept.rooms.get(&tenant).copied(), kept.all);
        let own = own.get_or_insert_default();
        own.add(size);
        all.add(size);
        let left = self.bounds.total_bytes.value().checked_sub(all.taken());
        let is_full = own.messages > self.bounds.max_messages.value()
            || own.octets > self.bounds.max_bytes.value();
        let is_greedy = left.is_none_or(|left| own.taken() > left);
        if !is_full && !is_greedy {
            kept.add(id, size, tenant);
            return Ok(());
        }
        drop(kept);
        let (messages, octets) = (own.messages, own.octets);
        if is_full {
            warn!(
                messages,
                octets,
                tenant,
                "authentication.quarantine is full for this tenant, so mail for it is put off: remove or release some (rmailctl queue list), or raise its bounds"
            );
        } else {
            warn!(
                messages,
                octets,
                tenant,
                left,
                "authentication.quarantine.total_bytes leaves no more for this tenant, so mail for it is put off: remove or release some (rmailctl queue list), or raise it"
            );
        }
        Err(Refusal::QuarantineFull)
    }

    /// Forgets a message that is not in quarantine any more, or never was.
    pub fn leave(&self, id: QueueId) {
        let mut kept = self.lock();
        let Some((tenant, size)) = kept.messages.remove(&id) else {
            return;
        };
        kept.all.remove(size);
        if let Some(room) = kept.rooms.get_mut(&tenant) {
            room.remove(size);
            if room.messages == 0 {
                kept.rooms.remove(&tenant);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn add(&mut self, id: QueueId, size: u64, tenant: Tenant) {
        let kept = (tenant.clone(), size);
        if self.messages.insert(id, kept).is_none() {
            self.rooms.entry(tenant).or_default().add(size);
            self.all.add(size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(bounds: &Quarantine) -> Ward {
        let ward = Ward::new(bounds);
        assert_eq!(ward.admit(id(), 0, None), Err(Refusal::Busy));
        ward.open();
        ward
    }

    fn ward(messages: u64, octets: u64) -> Ward {
        opened(&Quarantine {
            max_messages: messages.try_into().unwrap(),
            max_bytes: octets.try_into().unwrap(),
            ..Quarantine::default()
        })
    }

    fn id() -> QueueId {
        QueueId::generate().unwrap()
    }

    #[test]
    fn it_takes_so_many_messages_and_so_many_octets() {
        let ward = ward(3, 100);
        let ids = [id(), id(), id()];
        assert_eq!(ward.admit(ids[0], 101, None), Err(Refusal::QuarantineFull));
        assert_eq!(ward.admit(ids[0], 60, None), Ok(()));
        assert_eq!(ward.admit(ids[1], 41, None), Err(Refusal::QuarantineFull));
        assert_eq!(ward.admit(ids[1], 40, None), Ok(()));
        assert_eq!(ward.admit(ids[2], 0, None), Ok(()));
        assert_eq!(ward.admit(id(), 0, None), Err(Refusal::QuarantineFull));
        // Who leaves twice leaves once.
        ward.leave(ids[0]);
        ward.leave(ids[0]);
        assert_eq!(ward.admit(ids[0], 61, None), Err(Refusal::QuarantineFull));
        assert_eq!(ward.admit(ids[0], 60, None), Ok(()));
    }

    #[test]
    fn what_was_there_counts_also_beyond_the_bounds() {
        let ward = ward(1, 10);
        let (first, second) = (id(), id());
        ward.note(first, 20, None);
        ward.note(second, 20, None);
        ward.leave(first);
        assert_eq!(ward.admit(id(), 1, None), Err(Refusal::QuarantineFull));
        ward.leave(second);
        assert_eq!(ward.admit(id(), 10, None), Ok(()));
    }

    #[test]
    fn each_tenant_has_room_of_its_own() {
        let ward = ward(2, 100);
        let tenant = |name: &str| Some(name.to_owned());
        let flood = [id(), id()];
        ward.note(flood[0], 90, tenant("a"));
        assert_eq!(ward.admit(flood[1], 10, tenant("a")), Ok(()));
        let full = Err(Refusal::QuarantineFull);
        assert_eq!(ward.admit(id(), 0, tenant("a")), full);
        for other in [tenant("b"), None] {
            assert_eq!(ward.admit(id(), 101, other.clone()), full);
            assert_eq!(ward.admit(id(), 60, other.clone()), Ok(()));
            assert_eq!(ward.admit(id(), 40, other.clone()), Ok(()));
            assert_eq!(ward.admit(id(), 0, other), full);
        }
        ward.leave(flood[0]);
        assert_eq!(ward.admit(id(), 91, tenant("a")), full);
        assert_eq!(ward.admit(id(), 90, tenant("a")), Ok(()));
        ward.leave(flood[1]);
        assert_eq!(ward.lock().rooms.len(), 3);
    }

    fn ward_for_all(octets: u64) -> Ward {
        opened(&Quarantine {
            total_bytes: octets.try_into().unwrap(),
            ..Quarantine::default()
        })
    }

    /// Brings messages until one is refused; what the tenant has then, in thousandths of `total`.
    fn flood(ward: &Ward, tenant: &str, total: u64) -> u64 {
        let tenant = Some(tenant.to_owned());
        while ward.admit(id(), 1000, tenant.clone()).is_ok() {}
        ward.lock().rooms[&tenant].taken() * 1000 / total
    }

    #[test]
    fn of_what_is_for_all_nobody_has_more_than_is_left() {
        const TOTAL: u64 = 100_000_000;
        let ward = ward_for_all(TOTAL);
        assert_eq!(flood(&ward, "a", TOTAL), 499);
        // Who comes later finds room, but no more than is left then.
        assert_eq!(flood(&ward, "b", TOTAL), 250);
        assert_eq!(flood(&ward, "c", TOTAL), 125);
        let taken = |ward: &Ward| ward.lock().all.taken();
        assert!(taken(&ward) < TOTAL);
        assert_eq!(ward.admit(id(), 1000, None), Ok(()));
        // Whoever has most gets nothing more, until others have gone.
        let a = Some("a".to_owned());
        let of = |ward: &Ward, tenant: &str| -> Vec<QueueId> {
            let kept = ward.lock();
            let all = kept.messages.iter();
            all.filter(|(_, (owner, _))| owner.as_deref() == Some(tenant))
                .map(|(id, _)| *id)
                .collect()
        };
        for gone in of(&ward, "b") {
            ward.leave(gone);
        }
        let full = Err(Refusal::QuarantineFull);
        assert_eq!(ward.admit(id(), 1000, a.clone()), full);
        for gone in of(&ward, "a") {
            ward.leave(gone);
        }
        assert_eq!(ward.admit(id(), 1000, a), Ok(()));
    }

    #[test]
    fn all_of_it_together_is_bounded_however_many_there_are() {
        const TOTAL: u64 = 1_000_000;
        let ward = ward_for_all(TOTAL);
        for number in 0..1000 {
            let tenant = Some(number.to_string());
            for size in [0, 1, 500_000, TOTAL, u64::MAX] {
                let _ = ward.admit(id(), size, tenant.clone());
                assert!(ward.lock().all.taken() <= TOTAL);
            }
        }
        // What was there is beyond it.
        ward.note(id(), TOTAL, None);
        let full = Err(Refusal::QuarantineFull);
        assert_eq!(ward.admit(id(), 0, Some("a".into())), full);
    }

    #[test]
    fn who_has_nothing_in_it_is_forgotten() {
        let ward = ward(2, 100);
        let gone = id();
        ward.note(gone, 10, Some("a".into()));
        ward.leave(gone);
        assert!(ward.lock().rooms.is_empty());
        assert_eq!(ward.lock().all.taken(), 0);
    }

    #[test]
    fn no_number_of_days_overflows() {
        let days = |days: u64| {
            Ward::new(&Quarantine {
                days: days.try_into().unwrap(),
                ..Quarantine::default()
            })
        };
        assert_eq!(days(2).end(1000), 1000 + 2 * DAY);
        assert!(days(1 << 40).end(i64::MAX - 1) > 0);
    }
}
