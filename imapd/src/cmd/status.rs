//! STATUS.

use daemon::channel::CallError;
use imap::command::{StatusItem, StatusValue};
use imap::dialect::Dialect;
use imap::sync::Awareness;
use imap::write;
use ipc::session::MailboxStatus;

use super::{Session, out_of_place};
use crate::session::User;
use crate::words::Tagged;

pub(super) async fn status(
    session: &mut Session,
    tag: &str,
    mailbox: String,
    items: &[StatusItem],
) -> Tagged {
    let Some(user) = &session.user else {
        return out_of_place(tag);
    };
    let counters = match look(user, session.house.append_limit, &mailbox, items).await {
        Ok(counters) => counters,
        Err(error) => return Tagged::refused(tag, &error),
    };
    if items.contains(&StatusItem::HighestModSeq) {
        session.learn(Awareness::CondStore);
    }
    let dialect = session.dialect;
    tell(&mailbox, items, &counters, dialect, &mut session.wire.out);
    Tagged::ok(tag, "that is all")
}

/// What STATUS can tell of a mailbox.
#[derive(Debug)]
pub(super) struct Counters {
    status: MailboxStatus,
    deleted_size: u64,
    append_limit: u32,
}

/// Asks for what `items` are about of a mailbox which takes messages of up to `append_limit` bytes. What takes looking at messages only
/// if it is wanted.
pub(super) async fn look(
    user: &User,
    append_limit: u32,
    mailbox: &str,
    items: &[StatusItem],
) -> Result<Counters, CallError> {
    let deleted_size = match items.contains(&StatusItem::DeletedStorage) {
        true => user.mail.deleted_size(mailbox.to_owned()).await?,
        false => 0,
    };
    let status = user.mail.status(mailbox.to_owned()).await?;
    Ok(Counters {
        status,
        deleted_size,
        append_limit,
    })
}

/// Writes the answer about a mailbox.
pub(super) fn tell(
    mailbox: &str,
    items: &[StatusItem],
    counters: &Counters,
    dialect: Dialect,
    out: &mut Vec<u8>,
) {
    let status = &counters.status;
    let value = |item| {
        StatusValue::Number(match item {
            StatusItem::Messages => u64::from(status.messages),
            // RFC 9051 §2.3.2 did away with \Recent.
            StatusItem::Recent => 0,
            StatusItem::UidNext => u64::from(status.uid_next),
            StatusItem::UidValidity => u64::from(status.uid_validity),
            StatusItem::Unseen => u64::from(status.unseen),
            StatusItem::HighestModSeq => status.highest_modseq,
            StatusItem::Size => status.size,
            StatusItem::Deleted => u64::from(status.deleted),
            StatusItem::AppendLimit => u64::from(counters.append_limit),
            StatusItem::DeletedStorage => counters.deleted_size,
            StatusItem::MailboxId => return StatusValue::Id(status.mailbox_id),
        })
    };
    write::status(mailbox, dialect, items, value, out);
}
