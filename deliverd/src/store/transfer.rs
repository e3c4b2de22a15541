//! COPY and MOVE between the mailboxes of one user, or of two of one tenant: hard links under new UIDs, never a second copy of the bytes as long as the
//! file system allows one more name.
//!
//! Both mailboxes are locked while messages are looked up and linked, and by MOVE until they are removed: so what is transferred
//! is what the message is now, and of two MOVEs of one message only the first finds it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use ipc::Refusal;
use ipc::session::UidRanges;
use ipc::snapshot::Record;

use super::acl::Marks;
use super::append::{NewMessage, Placing};
use super::change::{EVENT, RANGE};
use super::disk::{Dir, is_not_found};
use super::feed;
use super::ids::{Brought, Ids};
use super::journal::{Event, Permit, Place};
use super::mailbox::{Loaded, Mailbox, State, Totals};
use super::message_file;
use crate::fault::OrFault;

/// Messages moved under one hold of the locks, and in one record of the journal.
const TOGETHER: usize = 8_000;
/// Messages copied at most: all of them or none have to find room in the journal.
const COPIED_AT_ONCE: usize = 1_000_000;
/// Bytes in an event for what a message brings along, at most.
const LINE: usize = 44;

/// What was copied: the k-th source UID became the k-th target UID.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) uid_validity: u32,
    pub(crate) source: Vec<u32>,
    pub(crate) target: Vec<u32>,
}

/// Where messages come from and go to, under their locks.
struct Pair<'a> {
    source: Loaded<'a>,
    /// `None` if it is the source.
    target: Option<Loaded<'a>>,
}

impl Drop for Pair<'_> {
    /// What moved is in one mailbox or in the other at every moment, for the quota too.
    fn drop(&mut self) {
        self.source.settle(self.target.as_mut());
    }
}

/// Whether messages that come into a mailbox need room under the quota.
#[derive(Debug, Clone, Copy)]
enum Room {
    Needed,
    /// By messages that go.
    Given,
}

/// A message that can be transferred.
struct Present {
    record: Record,
    name: String,
    keywords: Vec<String>,
}

/// Open shards of the source.
type Shards = BTreeMap<u32, Dir>;

impl Mailbox {
    /// What the messages `uids` are together, and how many ranges it takes to name them.
    pub(crate) fn measure(self: &Arc<Self>, uids: &UidRanges) -> Result<(Totals, usize), Refusal> {
        self.with(|state| {
            self.need_pages(state, uids)?;
            let records = state.records.members(uids);
            let uids: Vec<u32> = records.iter().map(|record| record.uid).collect();
            Ok((sum(&records), feed::ranges(&uids).len()))
        })
    }

    /// [`Mailbox::copy_with`] all flags.
    #[cfg(test)]
    pub(crate) fn copy(
        self: &Arc<Self>,
        uids: &UidRanges,
        target: &Arc<Self>,
    ) -> Result<Transfer, Refusal> {
        self.copy_with(uids, target, Marks::ALL)
    }

    /// Copies messages to `target`, which may be this mailbox; those that are gone are skipped. All or nothing, also for the
    /// quota. The copies have only the flags that `marks` allows.
    pub(crate) fn copy_with(
        self: &Arc<Self>,
        uids: &UidRanges,
        target: &Arc<Self>,
        marks: Marks,
    ) -> Result<Transfer, Refusal> {
        let uids = self.present_uids(uids)?;
        if uids.len() > COPIED_AT_ONCE {
            return Err(Refusal::Invalid(format!(
                "at most {COPIED_AT_ONCE} messages are copied at once"
            )));
        }
        target.prepare()?;
        let permit = self.admit_transfer(uids.len())?;
        let mut pair = Pair::lock(self, target)?;
        let mut copies = Vec::new();
        let transfer = self.link_to(
            &mut pair,
            &feed::ranges(&uids),
            target,
            (Room::Needed, marks),
            |to, ids, uids| {
                let ids = ids.into_iter().map(Ids::of_copy);
                copies.extend(uids.iter().copied().zip(ids));
                copies.chunks(TOGETHER).try_for_each(|some| {
                    let sequence = permit.tell(&Event::Transferred {
                        place: to.clone(),
                        brought: some.to_vec(),
                        gone: None,
                    })?;
                    self.shared.journal.commit(sequence)
                })
            },
        )?;
        target.take_in(pair.target()?, copies);
        Ok(transfer)
    }

    /// Moves messages to `target`; those that are gone are skipped. A crash in between leaves a message in both mailboxes, never
    /// in none, and then what is in the target is a message of its own. The quota sees no change. Many are moved in pieces, one
    /// after the other.
    pub(crate) fn move_to(
        self: &Arc<Self>,
        uids: &UidRanges,
        target: &Arc<Self>,
    ) -> Result<Transfer, Refusal> {
        let uids = self.present_uids(uids)?;
        let mut all = Transfer {
            uid_validity: target.with(|state| Ok(state.status.uid_validity))?,
            ..Transfer::default()
        };
        for piece in uids.chunks(TOGETHER) {
            let moved = self.move_piece(piece, target)?;
            all.source.extend(moved.source);
            all.target.extend(moved.target);
        }
        Ok(all)
    }

    /// Moves messages to a mailbox of another user: copies them and then expunges them here, so that who had them can have them back.
    /// A crash in between leaves a message in both mailboxes.
    pub(crate) fn hand_over(
        self: &Arc<Self>,
        uids: &UidRanges,
        target: &Arc<Self>,
        marks: Marks,
    ) -> Result<Transfer, Refusal> {
        let transfer = self.copy_with(uids, target, marks)?;
        self.discard_all(&transfer.source)?;
        Ok(transfer)
    }

    fn move_piece(self: &Arc<Self>, uids: &[u32], target: &Arc<Self>) -> Result<Transfer, Refusal> {
        target.prepare()?;
        let permit = self.admit_transfer(uids.len())?;
        let mut pair = Pair::lock(self, target)?;
        let (mut place, mut moved) = (None, Vec::new());
        let transfer = self.link_to(
            &mut pair,
            &feed::ranges(uids),
            target,
            (Room::Given, Marks::ALL),
            |to, ids, uids| {
                place = Some(to);
                moved.extend(uids.iter().copied().zip(ids.into_iter().map(Ids::of_move)));
                Ok(())
            },
        )?;
        let Some(place) = place.filter(|_| !transfer.source.is_empty()) else {
            return Ok(transfer);
        };
        let source = pair.source.state()?;
        // Invariant: the names in the target are on disk before those in the source go. One record does both, so that no two
        // messages ever have one id.
        let sequence = permit.tell(&Event::Transferred {
            place,
            brought: moved.clone(),
            gone: Some((self.place(source), feed::ranges(&transfer.source))),
        })?;
        self.shared.journal.commit(sequence)?;
        target.take_in(pair.target()?, moved);
        let source = pair.source.state()?;
        let gone = transfer.source.iter();
        let gone: Vec<Record> = gone.filter_map(|uid| source.record(*uid)).collect();
        // They are not expunged: they live on in the target.
        self.take_out(source, &gone, None);
        Ok(transfer)
    }

    /// Those of `uids` that are there, ascending.
    fn present_uids(self: &Arc<Self>, uids: &UidRanges) -> Result<Vec<u32>, Refusal> {
        self.with(|state| {
            self.need(state, uids)?;
            let members = state.records.members(uids).into_iter();
            Ok(members.map(|record| record.uid).collect())
        })
    }

    /// Room in the journal for what becomes of so many messages.
    fn admit_transfer(&self, messages: usize) -> Result<Permit, Refusal> {
        let events = 1 + messages / TOGETHER;
        // At worst every other one of them is gone by the time they are moved.
        self.shared
            .journal
            .admit(events, events * EVENT + messages * (LINE + RANGE))
    }

    /// Notes what messages brought along, until it is in a file. The journal has it on disk.
    fn take_in(self: &Arc<Self>, state: &mut State, brought: Vec<(u32, Brought)>) {
        if !brought.is_empty() {
            state.brought.extend(brought);
            self.list(state);
        }
    }

    /// Gives messages a name in `target`, durably. `before_shown` is done before anyone sees them there, with that place, what the
    /// messages are known by here, and their UIDs there.
    fn link_to(
        self: &Arc<Self>,
        pair: &mut Pair<'_>,
        uids: &UidRanges,
        target: &Arc<Self>,
        (room, marks): (Room, Marks),
        before_shown: impl FnOnce(Place, Vec<Ids>, &[u32]) -> Result<(), Refusal>,
    ) -> Result<Transfer, Refusal> {
        let mut shards = Shards::new();
        let messages = self.present(pair.source.state()?, uids, &mut shards)?;
        let mut room = match room {
            Room::Given => None,
            Room::Needed => Some(
                target
                    .tally
                    .hold(sum(messages.iter().map(|one| &one.record)))?,
            ),
        };
        let mut files = Vec::with_capacity(messages.len());
        let mut source = Vec::with_capacity(messages.len());
        for Present {
            record,
            name,
            keywords,
        } in messages
        {
            let Record {
                uid,
                flags,
                size,
                internal_date,
                ..
            } = record;
            let Some(from) = shards.get(&message_file::shard_of(uid)) else {
                continue;
            };
            let message = NewMessage {
                flags: flags & marks.flags,
                keywords: if marks.keywords { keywords } else { Vec::new() },
                size,
                internal_date,
            };
            files.push(Placing {
                from,
                name,
                message,
            });
            source.push(uid);
        }
        let ids = self.identify(pair.source.state()?, &source)?;
        let state = pair.target()?;
        let place = target.place(state);
        let messages = files.iter().map(|file| Totals::message(file.message.size));
        let target = target.link_all(state, &files, |uids| before_shown(place, ids, uids))?;
        if let Some(room) = &mut room {
            state.granted = messages.fold(state.granted, |all, one| all.plus(room.give(one)));
        }
        Ok(Transfer {
            uid_validity: state.status.uid_validity,
            source,
            target,
        })
    }

    /// Those among `uids` that have a file, as they are now and with the names of their keywords, ascending. Their bytes are on
    /// disk.
    fn present(
        self: &Arc<Self>,
        state: &mut State,
        uids: &UidRanges,
        shards: &mut Shards,
    ) -> Result<Vec<Present>, Refusal> {
        self.need(state, uids)?;
        let members = state.records.members(uids).into_iter();
        let uids: Vec<u32> = members.map(|record| record.uid).collect();
        let settled_below = state.settled_below(&self.shared.journal);
        let mut messages = Vec::with_capacity(uids.len());
        for uid in uids {
            let Some(mut name) = state.file_name(uid) else {
                continue;
            };
            let shard = message_file::shard_of(uid);
            let dir = match shards.entry(shard) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(slot) => slot.insert(self.shard(shard).or_fault("open a shard")?),
            };
            let stat = dir.stat(&name);
            if is_not_found(&stat) {
                let Some(found) = self.find_again(state, dir, uid)? else {
                    continue;
                };
                name = found;
            } else {
                stat.or_fault("look at a message")?;
            }
            if uid >= settled_below {
                // The journal knows its bytes under the name it has here, not under the one it will get.
                dir.open_file(&name)
                    .and_then(|file| file.sync_all())
                    .or_fault("flush a message")?;
            }
            let Some(record) = state.record(uid) else {
                continue;
            };
            messages.push(Present {
                record,
                name,
                keywords: state.keywords.named(record.keywords),
            });
        }
        Ok(messages)
    }
}

/// The messages and the sum of their sizes.
fn sum<'a>(records: impl IntoIterator<Item = &'a Record>) -> Totals {
    let messages = records
        .into_iter()
        .map(|record| Totals::message(record.size));
    messages.fold(Totals::default(), Totals::plus)
}

impl<'a> Pair<'a> {
    fn lock(source: &'a Arc<Mailbox>, target: &'a Arc<Mailbox>) -> Result<Self, Refusal> {
        if Arc::ptr_eq(source, target) {
            return Ok(Self {
                source: source.load()?,
                target: None,
            });
        }
        let (source, target) = source.load_both(target)?;
        Ok(Self {
            source,
            target: Some(target),
        })
    }

    fn target(&mut self) -> Result<&mut State, Refusal> {
        self.target.as_mut().unwrap_or(&mut self.source).state()
    }
}
