//! COPY and MOVE, from a mailbox of the account or of somebody else into another one.

use std::sync::Arc;

use daemon::channel::Answered;
use ipc::Refusal;
use ipc::acl::Rights;
use ipc::session::{RANGES_PER_FRAME, SessionAnswer, UidRanges};

use super::cache;
use super::session::{Door, GOING, Peer, bounded};
use crate::store::{Hold, Mailbox, Marks, Owner, Totals, Transfer, ranges};

impl Door {
    pub(super) async fn copy(
        &self,
        peer: &Peer,
        uids: UidRanges,
        to: String,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        let (source, _) = self.selected(peer, Rights::READ).await?;
        let (target, rights) = self.reach(to, Rights::INSERT).await?;
        let uids = bounded(uids)?;
        let size = self.measure(&source.mailbox, &uids).await?;
        // Told before anything is done; what counts is what is there when it is copied.
        drop(
            self.hold(target.owner(&self.me.owner).clone(), size)
                .await?,
        );
        let transfer = self.house.work(move |house| {
            let marks = Marks::of(rights);
            let transfer = source.mailbox.copy_with(&uids, &target.mailbox, marks);
            house.store.trim();
            transfer
        });
        Ok(Answered::plain(copied(&transfer.await?)?))
    }

    pub(super) async fn move_to(
        &self,
        peer: &Peer,
        uids: UidRanges,
        to: String,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        let (source, _) = self.writable(peer, GOING).await?;
        let (target, rights) = self.reach(to, Rights::INSERT).await?;
        let uids = bounded(uids)?;
        let size = self.measure(&source.mailbox, &uids).await?;
        let marks = Marks::of(rights);
        let is_whole = source.is_beside(&target) && marks == Marks::ALL;
        if !is_whole {
            drop(
                self.hold(target.owner(&self.me.owner).clone(), size)
                    .await?,
            );
        }
        let moved = Arc::clone(&source.mailbox);
        let transfer = self.house.work(move |house| {
            let transfer = if is_whole {
                moved.move_to(&uids, &target.mailbox)
            } else {
                moved.hand_over(&uids, &target.mailbox, marks)
            };
            house.store.trim();
            transfer
        });
        let transfer = transfer.await?;
        cache::forget(&self.house, source.mailbox);
        Ok(Answered::plain(copied(&transfer)?))
    }

    /// What shall be copied or moved; refused if the answer could not name them all.
    async fn measure(&self, source: &Arc<Mailbox>, uids: &UidRanges) -> Result<Totals, Refusal> {
        let (source, uids) = (Arc::clone(source), uids.clone());
        let (size, ranges) = self.house.work(move |_| source.measure(&uids)).await?;
        if ranges > RANGES_PER_FRAME {
            return Err(Refusal::Invalid(format!(
                "more than {RANGES_PER_FRAME} separate ranges of messages at once"
            )));
        }
        Ok(size)
    }

    async fn hold(&self, owner: Owner, amount: Totals) -> Result<Vec<Hold>, Refusal> {
        self.house
            .work(move |house| house.store.hold(&[owner], amount))
            .await
    }
}

/// The answer to COPY and MOVE.
fn copied(transfer: &Transfer) -> Result<SessionAnswer, Refusal> {
    Ok(SessionAnswer::Copied {
        uid_validity: transfer.uid_validity,
        source: ranges(&transfer.source),
        target: ranges(&transfer.target),
    })
}
