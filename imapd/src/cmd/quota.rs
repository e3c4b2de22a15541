//! GETQUOTA, GETQUOTAROOT and SETQUOTA.

use imap::capability::Off;
use imap::quota::{self, ROOT, Resource, Share};
use imap::response::Code;
use ipc::acl::OTHER_USERS;

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
    // What somebody else stores is for nobody else to see.
    if let Some(mailbox) = mailbox
        && mailbox.starts_with(OTHER_USERS)
    {
        quota::write_no_root(mailbox, session.dialect, &mut session.wire.out);
        return Tagged::ok(tag, "that is all");
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use ipc::quota::{Limits, Usage};

    #[test]
    fn what_is_not_limited_or_not_offered_is_not_told() {
        let told = |messages, bytes, off: &[&str]| {
            let found = Quota {
                usage: Usage::default(),
                limits: Limits { messages, bytes },
                mailboxes: 3,
                max_mailboxes: 9,
            };
            let shares = shares(&found, Off::of(off.iter().copied()));
            let resources = shares.iter().map(|share| share.resource);
            resources.collect::<Vec<_>>()
        };
        let (storage, message, mailbox) = (Resource::Storage, Resource::Message, Resource::Mailbox);
        assert_eq!(told(1, 1, &[]), [storage, message, mailbox]);
        assert_eq!(told(0, 0, &[]), [mailbox]);
        assert_eq!(told(1, 1, &["QUOTA=RES-MESSAGE"]), [storage, mailbox]);
        let others = ["QUOTA=RES-STORAGE", "QUOTA=RES-MAILBOX"];
        assert_eq!(told(1, 1, &others), [message]);
    }
}
