//! A message on its way to those who keep it.

use ipc::queue::Recipient;
use mail::address::ForwardPath;
use smtp::received::return_path;
use smtp::reply::Reply;
use smtp::server::Summary;
use tracing::{info, warn};

use super::filtered::Waiting;
use super::hex;
use super::targets::Reach;
use super::ways::Ways;
use crate::ask::Problem;
use crate::custody::Custody;
use crate::judge::{Head, Inspection, Verdict};
use crate::letter::Letter;
use crate::measure::Disposition;
use crate::outlet::Outlet;
use crate::wishes::Notice;

/// A message on its way to those who keep it.
#[derive(Debug)]
pub(super) struct OpenMessage {
    pub(super) id: u64,
    pub(super) sender: String,
    pub(super) recipients: Vec<(ForwardPath, Reach)>,
    pub(super) inspection: Option<Inspection>,
    /// What says whom it is from goes in front of it at the end.
    pub(super) is_judged: bool,
    /// Octets given out.
    pub(super) size: u64,
    /// Under which rules who gets it.
    pub(super) ways: Ways,
    pub(super) local: Option<Letter>,
    pub(super) remote: Option<Outlet>,
    /// Whom `remote` is for, and of whom it tells.
    pub(super) queued: Vec<Recipient>,
    /// For those for whom it may have to be held.
    pub(super) custody: Option<Custody>,
    pub(super) notice: Option<Notice>,
    /// What waits until filters have judged it; the outlets are opened then.
    pub(super) waiting: Option<Waiting>,
    /// What the client is to be told at the end.
    pub(super) refusal: Option<Reply>,
}

/// One of the two places a message can go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Local,
    Remote,
}

impl OpenMessage {
    pub(super) async fn write(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        if let Some(letter) = &mut self.local {
            letter.write(bytes).await;
        }
        if let Some(outlet) = &mut self.remote {
            outlet.write(bytes).await;
        }
        if let Some(custody) = &mut self.custody {
            custody.write(bytes).await;
        }
        if let Some(notice) = &mut self.notice {
            notice.write(bytes);
        }
    }

    /// What goes in front of it when this is the verdict on it.
    fn head(&self, verdict: Option<&Verdict>) -> Head {
        verdict.map_or_else(Head::default, |Verdict { field, .. }| Head {
            here: (return_path(&self.sender) + field).into_bytes(),
            elsewhere: field.clone().into_bytes(),
        })
    }

    /// Has it kept by all who shall keep it, as the verdict on it says if there is one; tells who could not.
    pub(super) async fn commit(
        &mut self,
        verdict: Option<&Verdict>,
    ) -> Result<(), (Place, Problem)> {
        let head = self.head(verdict);
        // Local first: should the second commit fail, the client tries again, and a message that
        // comes twice to our own user does less harm than one that went out twice.
        let id = hex(self.id);
        let failed = |place: Place, problem: Problem| {
            warn!(message = id, ?place, %problem, "not accepted");
            (place, problem)
        };
        let disposition = |address: &str| {
            verdict.map_or(Disposition::ACCEPTED, |verdict| {
                verdict.disposition(&self.ways.to(address))
            })
        };
        // Invariant: who does not get it now is in the copy that is held.
        let is_copied = self.custody.is_some();
        let is_free = |address: &str| !is_copied || !disposition(address).is_held();
        if let (Some(mut custody), Some(verdict)) = (self.custody.take(), verdict)
            && let Some(cause) = custody.cause(disposition)
        {
            // First: where there is no room for it the message is not accepted, and nobody has it yet.
            let reason = verdict.reason(cause);
            let kept = custody.commit(head.elsewhere.clone(), reason.clone()).await;
            kept.map_err(|problem| failed(Place::Remote, problem))?;
            info!(message = id, reason, "in quarantine");
        }
        if let Some(mut letter) = self.local.take()
            && letter.is_for(is_free)
        {
            let destination = |address: &str| disposition(address).destination();
            let kept = letter.commit(head.here, destination).await;
            kept.map_err(|problem| failed(Place::Local, problem))?;
        }
        self.queued.retain(|one| is_free(&one.address));
        if let Some(outlet) = self.remote.take()
            && !self.queued.is_empty()
        {
            let kept = async {
                outlet.add_queue_recipients(&self.queued).await?;
                outlet.commit(head.elsewhere).await
            };
            kept.await
                .map_err(|problem| failed(Place::Remote, problem))?;
        }
        if let Some(mut notice) = self.notice.take()
            && notice.is_about(is_free)
        {
            notice.hand_over().await;
        }
        Ok(())
    }

    pub(super) fn report_accepted(&self, summary: &Summary) {
        info!(
            message = hex(self.id),
            sender = self.sender,
            recipients = self.recipients.len(),
            size = summary.size,
            "accepted"
        );
    }
}
