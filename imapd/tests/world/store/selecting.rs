//! Selected mailboxes: their tables, pages and removals.

use super::*;

impl State {
    pub(super) fn select(
        &mut self,
        peer: &Peer,
        name: String,
        read_only: bool,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        let mut status = self.status(&name)?;
        let lie = self.lie;
        let mailbox = self.mailbox(&name)?;
        let keywords = mailbox.keywords.clone();
        let mut shards: Vec<ShardCount> = Vec::new();
        for (record, _) in mailbox.messages.values() {
            let (shard, modseq) = (record.uid / MESSAGES_PER_SHARD, record.modseq);
            match shards.last_mut() {
                Some(last) if last.shard == shard => {
                    last.messages += 1;
                    last.modseq = last.modseq.max(modseq);
                }
                _ => shards.push(ShardCount {
                    shard,
                    messages: 1,
                    modseq,
                }),
            }
        }
        let records = mailbox.messages.values();
        let mut flags = records.map(|(record, _)| record.flags);
        let unseen = flags.position(|flags| flags & flag::SEEN == 0);
        let first_unseen = unseen.map_or(0, |at| u32::try_from(at).unwrap() + 1);
        match lie {
            Some(Lie::WrongSum) => status.messages += 1,
            Some(Lie::Descending) => shards.reverse(),
            Some(Lie::Impossible) => shards[0].shard = u32::MAX,
            _ => {}
        }
        let rights = self.rights(&name);
        *peer.selected.lock().unwrap() = Some((name, read_only));
        let mut fds = Vec::new();
        if self.lends_tables {
            let lines: Vec<u8> = shards.drain(..).flat_map(ShardCount::to_bytes).collect();
            fds.push(sys::memfd::sealed("table", &lines).unwrap());
        }
        let answer = SessionAnswer::Selected {
            status,
            first_unseen,
            keywords,
            read_only,
            rights,
            shards,
        };
        Ok(Answered::with(answer, fds))
    }

    pub(super) fn read_pages(
        &mut self,
        peer: &Peer,
        shards: &[u32],
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        let (name, _) = selected(peer)?;
        let lie = match self.good_pages {
            Some(0) => Some(Lie::ShortPage),
            Some(_) | None => self.lie,
        };
        self.good_pages = self.good_pages.and_then(|left| left.checked_sub(1));
        let mailbox = self.mailbox(&name)?;
        let (mut counts, mut bytes) = (Vec::new(), Vec::new());
        for &shard in shards {
            let first = shard * MESSAGES_PER_SHARD;
            let messages = mailbox.messages.range(first..first + MESSAGES_PER_SHARD);
            let before = bytes.len();
            bytes.extend(messages.flat_map(|(_, (record, _))| record.to_bytes()));
            let messages = u16::try_from((bytes.len() - before) / RECORD_LEN).unwrap();
            counts.push(ShardCount {
                shard,
                messages,
                modseq: 0,
            });
        }
        self.pages += counts.len();
        match lie {
            Some(Lie::ForeignPage) => bytes[..4].copy_from_slice(&7_000_000_u32.to_le_bytes()),
            Some(Lie::ShortPage) => bytes.truncate(RECORD_LEN - 1),
            Some(Lie::NotAsked) => counts[0].shard += 1,
            Some(Lie::Fewer) => {
                counts.last_mut().unwrap().messages -= 1;
                bytes.truncate(bytes.len() - RECORD_LEN);
            }
            Some(Lie::NoDescriptor) => {
                let answer = SessionAnswer::PagesRead { shards: counts };
                return Ok(Answered::plain(answer));
            }
            _ => {}
        }
        let pages = sys::memfd::sealed("pages", &bytes).unwrap();
        let answer = SessionAnswer::PagesRead { shards: counts };
        Ok(Answered::with(answer, vec![pages]))
    }

    pub(super) fn list_removed(
        &mut self,
        peer: &Peer,
        since: u64,
        after: u32,
    ) -> Result<SessionAnswer, Refusal> {
        let (name, _) = selected(peer)?;
        let mailbox = self.mailbox(&name)?;
        let later = mailbox.removed.iter();
        let later = later.filter(|(modseq, uid)| *modseq > since && *uid > after);
        let mut uids = joined(later.map(|(_, uid)| (*uid, *uid)).collect());
        // Pages of two, so that paging is seen to work.
        let more = uids.len() > 2;
        uids.truncate(2);
        Ok(SessionAnswer::RemovedListed {
            uids,
            more,
            complete: !self.forgets,
        })
    }
}
