//! What a client hears that was here before (RFC 7162): which messages are gone since, and which changed.

use daemon::channel::CallError;
use imap::command::Numbering;
use imap::response::Code;
use imap::sequence::{Ranges, SequenceSet};
use imap::sync::{Awareness, Resync};
use imap::write;
use ipc::session::PAGES_PER_READ;
use ipc::snapshot::Record;
use tracing::debug;

use super::Desk;
use crate::pages::load;
use crate::wire::Close;
use crate::words::Tagged;

impl Desk<'_> {
    /// Tells what happened to the mailbox since the client saw it last: first what is gone, then what changed.
    // RFC 7162 §3.2.5.1, §3.2.5.2: another UIDVALIDITY, and nothing is told; the client begins anew.
    pub(super) async fn resync(&mut self, resync: &Resync) -> Result<Result<(), CallError>, Close> {
        if resync.uid_validity != self.view.uid_validity() {
            return Ok(Ok(()));
        }
        let gone = self.gone_since(resync.modseq, resync.known.as_ref());
        match gone.await {
            Ok(gone) => write::vanished(true, gone.as_slice(), &mut self.wire.out),
            Err(error) => return Ok(Err(error)),
        }
        // Where nothing changed since, nothing is read.
        let known = self.known(resync.known.as_ref());
        let pages = self.view.changed_since_among(resync.modseq, &known);
        for some in pages.chunks(PAGES_PER_READ) {
            let shards = some.iter().map(|(number, _)| *number).collect();
            let lacking = self.view.without_page(shards);
            if let Err(error) = load(&self.user.mail, self.view, lacking).await {
                return Ok(Err(error));
            }
            for index in some.iter().flat_map(|(_, places)| places.clone()) {
                let has_changed = |message: &&Record| {
                    message.modseq > resync.modseq && known.contains(message.uid)
                };
                if self.view.message(index).filter(has_changed).is_some() {
                    self.view
                        .tell_flags(index, Numbering::Uid, &mut self.wire.out);
                    self.wire.flush_if_full().await?;
                }
            }
        }
        Ok(Ok(()))
    }

    /// The UIDs a client names as known to it; all there can be if it names none.
    fn known(&self, known: Option<&SequenceSet>) -> Ranges {
        let last = self.view.last_possible_uid();
        // What comes later has another UID, and was never known.
        let all = Ranges::up_to(last);
        match known {
            Some(SequenceSet::Saved) => self.view.saved.and(&all),
            Some(known) => known.resolve(last).and(&all),
            None => all,
        }
    }

    /// The UIDs among `known` of messages that are gone since `modseq`. Those of which the client has yet to hear are not among
    /// them. Where not all removals since then are remembered, more: all that are not there.
    // RFC 7162 §3.2.6 allows UIDs that were gone before.
    pub(super) async fn gone_since(
        &mut self,
        modseq: u64,
        known: Option<&SequenceSet>,
    ) -> Result<Ranges, CallError> {
        let known = self.known(known);
        match self.user.mail.removed_since(modseq).await? {
            Some(removed) => Ok(removed.and(&known).without(&self.view.untold_gone())),
            None => self.absent(&known).await,
        }
    }

    /// The answer to a command that took messages away. Who knows QRESYNC hears up to where it knows everything with that.
    // RFC 7162 §3.2.7. What happened before deliverd answers is noted, and told before this answer.
    pub(super) async fn done(&self, tag: &str, text: &str) -> Tagged {
        if self.view.awareness < Awareness::QResync {
            return Tagged::ok(tag, text);
        }
        match self.user.mail.status(self.view.name.clone()).await {
            Ok(status) => {
                let code = Code::HighestModSeq(status.highest_modseq);
                Tagged::ok_with(tag, &code, text)
            }
            // It was done all the same.
            Err(error) => {
                debug!(%error, "cannot tell the modification sequence");
                Tagged::ok(tag, text)
            }
        }
    }

    /// Those of `uids` that no message has that the client has a number for.
    async fn absent(&mut self, uids: &Ranges) -> Result<Ranges, CallError> {
        let mut places = Vec::new();
        for &(first, last) in uids.as_slice() {
            let range = self.places(first, last).await?;
            if !range.is_empty() {
                places.push(range);
            }
        }
        let present = self.exact_uid_ranges(&places).await?;
        Ok(uids.without(&present))
    }
}
