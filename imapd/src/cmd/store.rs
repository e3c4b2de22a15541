//! STORE.

use imap::command::{Numbering, StoreMode};
use imap::flag::Flag;
use imap::response::Code;
use imap::sequence::SequenceSet;
use ipc::session::{FlagChange, RANGES_PER_FRAME};
use ipc::snapshot::Record;

use super::{Session, desk, is_read_only, out_of_place};
use crate::view::{View, has_flag, store_form};
use crate::wire::Close;
use crate::words::Tagged;

/// Messages told of together.
const TOLD_TOGETHER: usize = 1000;

/// What STORE is to do.
pub(super) struct Order {
    pub(super) by: Numbering,
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
    let Some(mut desk) = desk(session) else {
        return Ok(out_of_place(tag));
    };
    if desk.view.read_only {
        return Ok(is_read_only(tag));
    }
    let places = match desk.pick(order.by, set).await {
        Ok(places) => places,
        Err(unpicked) => return Ok(unpicked.tagged(tag)),
    };
    let uids = match desk.uid_ranges(&places).await {
        Ok(uids) => uids,
        Err(error) => return Ok(Tagged::refused(tag, &error)),
    };
    desk.note_events();
    // What others changed before must be told, whatever this command does.
    let untold = desk.view.changed_among(&uids);
    let change = match order.mode {
        StoreMode::Replace => FlagChange::Replace,
        StoreMode::Add => FlagChange::Add,
        StoreMode::Remove => FlagChange::Remove,
    };
    let (bits, keywords) = store_form(&order.flags);
    for page in uids.chunks(RANGES_PER_FRAME) {
        let stored = desk
            .user
            .mail
            .store_flags(page.to_vec(), change, bits, keywords.clone());
        if let Err(error) = stored.await {
            return Ok(Tagged::refused(tag, &error));
        }
        desk.note_events();
    }
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
            if !order.silent {
                // RFC 3501 §6.4.6: the new value is told, whether it is news or not.
                desk.view.tell_flags(index, order.by, &mut desk.wire.out);
            } else if !untold.contains(&uid) && is_as_ordered(desk.view, message, &order) {
                desk.view.regard_as_told(uid);
            }
            desk.wire.flush_if_full().await?;
        }
    }
    Ok(if some_are_gone {
        Tagged::ok_with(tag, &Code::ExpungeIssued, "some messages are gone")
    } else {
        Tagged::ok(tag, "stored")
    })
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
