//! What deliverd knows of messages beside what is in their pages: asked only where a client wants to know.

use std::collections::HashMap;

use daemon::channel::CallError;
use imap::command::FetchItem;
use imap::search::Key;
use imap::sequence::Ranges;
use ipc::session::IDS_PER_FRAME;

use super::Desk;

/// What of it is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    email_ids: bool,
    save_dates: bool,
}

impl Wanted {
    pub(super) fn of_fetch(items: &[FetchItem]) -> Self {
        Self {
            email_ids: items.contains(&FetchItem::EmailId),
            save_dates: items.contains(&FetchItem::SaveDate),
        }
    }

    pub(super) fn of_search(key: &Key) -> Self {
        Self {
            email_ids: key.names_email_id(),
            save_dates: key.names_save_date(),
        }
    }
}

/// What is known of some messages, by UID.
#[derive(Debug, Default)]
pub(super) struct Beside {
    email_ids: HashMap<u32, u128>,
    save_dates: HashMap<u32, u32>,
}

impl Beside {
    /// EMAILID.
    pub(super) fn email_id(&self, uid: u32) -> Option<u128> {
        self.email_ids.get(&uid).copied()
    }

    /// SAVEDATE in Unix seconds.
    pub(super) fn save_date(&self, uid: u32) -> Option<i64> {
        self.save_dates.get(&uid).copied().map(i64::from)
    }
}

impl Desk<'_> {
    /// Asks about the messages at some places.
    pub(super) async fn beside(&self, some: &[usize], wanted: Wanted) -> Result<Beside, CallError> {
        let mut beside = Beside::default();
        if !wanted.email_ids && !wanted.save_dates {
            return Ok(beside);
        }
        for some in some.chunks(IDS_PER_FRAME) {
            let uids = some.iter().filter_map(|index| self.view.uid(*index));
            let uids = Ranges::new(uids.map(|uid| (uid, uid)).collect());
            let uids = uids.as_slice().to_vec();
            if wanted.email_ids {
                let ids = self.user.mail.email_ids(uids.clone()).await?;
                beside.email_ids.extend(ids);
            }
            if wanted.save_dates {
                let dates = self.user.mail.save_dates(uids).await?;
                beside.save_dates.extend(dates);
            }
        }
        Ok(beside)
    }
}
