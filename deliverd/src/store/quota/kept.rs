//! How much of what was expunged is kept: of a user, of a domain, of a tenant. It is no usage; it has bounds of its own.

use super::{Books, Levels, Member};
use crate::store::Owner;

impl Levels<'_> {
    /// Whether so many more bytes may be kept: no user keeps more than `most`, and nobody more than it may store.
    fn may_keep(&mut self, bytes: u64, most: u64) -> bool {
        let user = self.user.figures.kept.saturating_add(bytes);
        user <= most
            && self.all().all(|figures| {
                let limit = figures.limits.bytes;
                limit == 0 || figures.kept.saturating_add(bytes) <= limit
            })
    }

    pub(super) fn keep_instead(&mut self, before: u64, after: u64) {
        for figures in self.all() {
            figures.kept = figures.kept.saturating_sub(before).saturating_add(after);
        }
    }
}

impl Books {
    /// A user's kept mail is gone from the sums with the user.
    pub(super) fn forget_kept(&mut self, owner: &Owner, number: u64) {
        if let Some(mut levels) = self.levels(owner, number) {
            let kept = levels.user.figures.kept;
            levels.keep_instead(kept, 0);
        }
    }
}

impl Member {
    /// Whether it is known how much is kept.
    pub(in crate::store) fn knows_kept(&self) -> bool {
        self.look(|levels| levels.user.knows_kept).unwrap_or(false)
    }

    /// Takes note of what was counted, if nothing is known yet: so nothing that happens while it is counted counts twice.
    pub(in crate::store) fn count_kept(&self, bytes: u64) {
        self.look(|levels| {
            if !levels.user.knows_kept {
                levels.user.knows_kept = true;
                levels.keep_instead(0, bytes);
            }
        });
    }

    /// What was counted is right, whatever was known.
    pub(in crate::store) fn correct_kept(&self, bytes: u64) {
        self.look(|levels| {
            levels.user.knows_kept = true;
            let kept = levels.user.figures.kept;
            levels.keep_instead(kept, bytes);
        });
    }

    /// So many more bytes are to be kept. False, and nothing is changed, if that is too much or nothing is known yet.
    pub(in crate::store) fn keep(&self, bytes: u64, most: u64) -> bool {
        let kept = self.look(|levels| {
            let may = levels.user.knows_kept && levels.may_keep(bytes, most);
            if may {
                levels.keep_instead(0, bytes);
            }
            may
        });
        kept.unwrap_or(false)
    }

    /// So many bytes are not kept any more.
    pub(in crate::store) fn release(&self, bytes: u64) {
        self.look(|levels| {
            let bytes = bytes.min(levels.user.figures.kept);
            levels.keep_instead(bytes, 0);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ipc::quota::Limits;

    use super::super::Ledger;
    use super::*;

    fn owner(local: &str) -> Owner {
        Owner {
            local: local.into(),
            domain: "example.test".into(),
        }
    }

    fn bytes(bytes: u64) -> Limits {
        Limits { messages: 0, bytes }
    }

    #[test]
    fn nothing_is_kept_beyond_a_bound_and_before_it_was_counted() {
        let ledger = Arc::new(Ledger::default());
        ledger.set_tenant("us", bytes(100));
        ledger.set_domain("example.test", Limits::default());
        ledger.assign_domain("example.test", Some("us"));
        let [alice, bob] = ["alice", "bob"].map(|local| ledger.join(&owner(local)));
        assert!(!alice.keep(1, 1000) && !alice.knows_kept());
        alice.count_kept(10);
        bob.count_kept(0);
        // Whoever counted at the same time comes too late.
        alice.count_kept(99);
        assert!(!alice.keep(91, 100) && !alice.keep(11, 20) && alice.keep(50, 60));
        assert!(!bob.keep(41, 1000), "the tenant has 100");
        ledger.limit_user(&owner("bob"), bytes(30));
        assert!(!bob.keep(31, 1000) && bob.keep(30, 1000));
        alice.release(20);
        assert!(!alice.keep(31, 1000) && alice.keep(30, 1000));
        // With the domain it goes to another tenant, and with the user it goes.
        ledger.set_tenant("them", bytes(100));
        ledger.assign_domain("example.test", Some("them"));
        assert!(!alice.keep(1, 1000));
        ledger.remove_user(&owner("bob"));
        assert!(!bob.keep(1, 1000) && !alice.keep(31, 1000) && alice.keep(30, 1000));
        alice.correct_kept(0);
        assert!(alice.keep(100, 1000));
    }
}
