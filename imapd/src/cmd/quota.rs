//! GETQUOTA, GETQUOTAROOT and SETQUOTA.

use imap::capability::Off;
use imap::quota::{self, ROOT, Resource, Share};
use imap::response::Code;

use super::{Session, out_of_place};
use crate::ask::Quota;
use crate::words::Tagged;

// RFC 9208 §4.1.1.
pub(super) async fn get(session: &mut Session, tag: &str, root: &str) -> Tagged {
    if root != ROOT {
        let code = Code::NonExistent;
        return Tagged::no(tag, Some(&code), "no such quota root, there is only \"\"");
    }
    tell(session, tag, None).await
}

// RFC 9208 §4.1.2: the mailbox need not exist.
pub(super) async fn get_root(session: &mut Session, tag: &str, mailbox: &str) -> Tagged {
    tell(session, tag, Some(mailbox)).await
}

// RFC 9208 §3.1.1: QUOTASET is not announced, so no client expects it to work.
pub(super) fn set(tag: &str) -> Tagged {
    let code = Code::NoPerm;
    Tagged::no(tag, Some(&code), "limits are set by the administrator")
}

async fn tell(session: &mut Session, tag: &str, mailbox: Option<&str>) -> Tagged {
    let Some(user) = &session.user else {
        return out_of_place(tag);
    };
    let found = match user.mail.quota().await {
        Ok(found) => found,
        Err(error) => return Tagged::refused(tag, &error),
    };
    let out = &mut session.wire.out;
    if let Some(mailbox) = mailbox {
        quota::write_root(mailbox, session.dialect, out);
    }
    quota::write_quota(&shares(&found, user.mail.off), out);
    Tagged::ok(tag, "that is all")
}

/// What is limited.
fn shares(found: &Quota, off: Off) -> Vec<Share> {
    let (usage, limits) = (found.usage, found.limits);
    let mut shares = Vec::new();
    if limits.bytes != 0 && !off.has("QUOTA=RES-STORAGE") {
        shares.push(Share::of_bytes(usage.bytes, limits.bytes));
    }
    if limits.messages != 0 && !off.has("QUOTA=RES-MESSAGE") {
        shares.push(Share {
            resource: Resource::Message,
            usage: usage.messages,
            limit: limits.messages,
        });
    }
    if !off.has("QUOTA=RES-MAILBOX") {
        shares.push(Share {
            resource: Resource::Mailbox,
            usage: u64::from(found.mailboxes),
            limit: u64::from(found.max_mailboxes),
        });
    }
    shares
}
