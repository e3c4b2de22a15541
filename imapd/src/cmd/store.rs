//! STORE.

use imap::command::{Numbering, StoreMode};
use imap::flag::Flag;
use imap::response::Code;
use imap::sequence::{Ranges, SequenceSet};
use imap::sync::Awareness;
use ipc::session::{FlagChange, RANGES_PER_FRAME, UidRanges};
use ipc::snapshot::Record;

use super::{Session, desk, is_read_only, limit, out_of_place};
use crate::view::{View, has_flag, number_of, store_form};
use crate::wire::Close;
use crate::words::Tagged;

/// Messages told of together.
const TOLD_TOGETHER: usize = 1000;

/// What STORE is to do.
pub(super) struct Order {
    pub(super) by: Numbering,
    pub(super) unchanged_since: Option<u64>,
    pub(super) mode: StoreMode,
    pub(super) silent: bool,
    pub(super) flags: Vec<Flag>,
}

pub(super) async fn store(
    session: &mut Session,
    tag: &str,
    set: &SequenceSet,
    order: Order,
) -> Result<Tagged, Close> {
    if order.unchanged_since.is_some() {
        session.learn(Awareness::CondStore);
    }
    let Some(mut desk) = desk(session) else {
        return Ok(out_of_place(tag));
    };
    if desk.view.read_only {
        return Ok(is_read_only(tag));
    }
    let mut places = match desk.pick(order.by, set).await {
        Ok(places) => places,
        Err(unpicked) => return Ok(unpicked.tagged(tag)),
    };
    let cut = match desk.cut(&mut places, desk.user.limits.any).await {
        Ok(cut) => cut,
        Err(error) => return Ok(Tagged::refused(tag, &error)),
    };
    let pages = match order.unchanged_since {
        None => desk.uid_ranges(&places).await.map(|uids| in_pages(&uids)),
        Some(_) => desk
            .exact_uid_ranges(&places)
            .await
            .map(|uids| by_count(&uids)),
    };
    let pages = match pages {
        Ok(pages) => pages,
        Err(error) => return Ok(Tagged::refused(tag, &error)),
    };
    desk.note_events();
    // What others changed before must be told, whatever this command does.
    let untold = desk.view.changed_among(&pages.concat());
    let change = match order.mode {
        StoreMode::Replace => FlagChange::Replace,
        StoreMode::Add => FlagChange::Add,
        StoreMode::Remove => FlagChange::Remove,
    };
    let (bits, keywords) = store_form(&order.flags);
    let heard = desk.view.heard();
    let (mut modified, mut overtaken) = (Vec::new(), Vec::new());
    for page in pages {
        let (keywords, since) = (keywords.clone(), order.unchanged_since);
        let stored = desk
            .user
            .mail
            .store_flags(page, change, bits, keywords, since, heard);
        match stored.await {
            Ok(stored) => {
                modified.extend(stored.modified);
                overtaken.extend(stored.overtaken);
            }
            Err(error) => return Ok(Tagged::refused(tag, &error)),
        }
        desk.note_events();
    }
    let modified = Ranges::new(modified);
    // Nor is silence about what others changed meanwhile.
    let overtaken = Ranges::new(overtaken);
    let mut left_alone = Vec::new();
    let mut some_are_gone = false;
    let mut places = places.into_iter().flatten().peekable();
    loop {
        let some = match desk.next_some(&mut places, TOLD_TOGETHER).await {
            Ok(some) => some,
            Err(error) => return Ok(Tagged::refused(tag, &error)),
        };
        if some.is_empty() {
            break;
        }
        for index in some {
            let message = desk.view.message(index);
            let Some(message) = message.filter(|message| !desk.view.is_gone(message.uid)) else {
                some_are_gone = true;
                continue;
            };
            let uid = message.uid;
            if modified.contains(uid) {
                // What it is now is told like any other change.
                left_alone.push(match order.by {
                    Numbering::Sequence => number_of(index),
                    Numbering::Uid => uid,
                });
                continue;
            }
            if !order.silent {
                // RFC 3501 §6.4.6: the new value is told, whether it is news or not.
                desk.view.tell_flags(index, order.by, &mut desk.wire.out);
            } else if !untold.contains(&uid)
                && !overtaken.contains(uid)
                && is_as_ordered(desk.view, message, &order)
            {
                // RFC 7162 §3.1.3: silence is about flags.
                if desk.view.awareness >= Awareness::CondStore && desk.view.has_changed(uid) {
                    desk.view.tell_modseq(index, order.by, &mut desk.wire.out);
                }
                desk.view.regard_as_told(uid);
            }
            desk.wire.flush_if_full().await?;
        }
    }
    if !left_alone.is_empty() {
        let left_alone = left_alone.into_iter().map(|number| (number, number));
        let left_alone = Ranges::new(left_alone.collect());
        let code = Code::Modified(left_alone.as_slice());
        let tagged = Tagged::ok_with(tag, &code, "others had changed them");
        return Ok(limit::told(cut, tagged, desk.wire));
    }
    let tagged = if some_are_gone {
        Tagged::ok_with(tag, &Code::ExpungeIssued, "some messages are gone")
    } else {
        Tagged::ok(tag, "stored")
    };
    Ok(limit::told(cut, tagged, desk.wire))
}

/// So many ranges at a time as deliverd takes.
fn in_pages(uids: &[(u32, u32)]) -> Vec<UidRanges> {
    uids.chunks(RANGES_PER_FRAME).map(<[_]>::to_vec).collect()
}

/// So many messages at a time as deliverd changes on a condition.
fn by_count(uids: &Ranges) -> Vec<UidRanges> {
    let all = uids
        .as_slice()
        .iter()
        .flat_map(|&(first, last)| first..=last);
    let all: Vec<(u32, u32)> = all.map(|uid| (uid, uid)).collect();
    let pages = all.chunks(RANGES_PER_FRAME).map(<[_]>::to_vec);
    pages
        .map(|page| Ranges::new(page).as_slice().to_vec())
        .collect()
}

/// Whether the client of a silent STORE knows the flags, because they are what it ordered.
fn is_as_ordered(view: &View, message: &Record, order: &Order) -> bool {
    let has = |flag: &Flag| has_flag(view.keywords(), message, flag);
    match order.mode {
        StoreMode::Add => order.flags.iter().all(has),
        StoreMode::Remove => !order.flags.iter().any(has),
        StoreMode::Replace => {
            let ordered = |flag: &Flag| order.flags.contains(flag);
            order.flags.iter().all(has) && view.flags_of(message).iter().all(ordered)
        }
    }
}
