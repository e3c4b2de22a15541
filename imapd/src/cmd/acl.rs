//! SETACL, DELETEACL, GETACL, LISTRIGHTS and MYRIGHTS (RFC 4314), and NAMESPACE.

use daemon::channel::CallError;
use imap::acl::{self, Acl, Change};
use imap::response::Code;
use imap::write;
use ipc::Refusal;
use ipc::acl::{OTHER_USERS, Rights, RightsChange};

use super::{Session, out_of_place};
use crate::words::Tagged;

pub(super) async fn acl(session: &mut Session, tag: &str, acl: Acl) -> Tagged {
    let Some(user) = &session.user else {
        return out_of_place(tag);
    };
    let (mail, dialect) = (&user.mail, session.dialect);
    let out = &mut session.wire.out;
    let outcome = match acl {
        Acl::Set {
            mailbox,
            identifier,
            change,
        } => {
            let change = match change {
                Change::Set(rights) => RightsChange::Set(of_imap(rights)),
                Change::Add(rights) => RightsChange::Add(of_imap(rights)),
                Change::Remove(rights) => RightsChange::Remove(of_imap(rights)),
            };
            mail.change_acl(mailbox, identifier, change).await
        }
        Acl::Delete {
            mailbox,
            identifier,
        } => {
            let nothing = RightsChange::Set(Rights::NONE);
            mail.change_acl(mailbox, identifier, nothing).await
        }
        Acl::Get(mailbox) => mail.acl(mailbox.clone()).await.map(|(owner, entries)| {
            let others = entries.iter();
            let others = others.map(|entry| (entry.identifier.as_str(), of_ipc(entry.rights)));
            let all = std::iter::once((owner.as_str(), of_ipc(Rights::ALL))).chain(others);
            acl::write_acl(&mailbox, all, dialect, out);
        }),
        Acl::ListRights {
            mailbox,
            identifier,
        } => {
            let found = mail.possible_rights(mailbox.clone(), identifier.clone());
            found.await.map(|(given, possible)| {
                let rights = (of_ipc(given), of_ipc(possible));
                acl::write_list_rights((&mailbox, &identifier), rights, dialect, out);
            })
        }
        Acl::MyRights(mailbox) => mail.my_rights(mailbox.clone()).await.map(|rights| {
            acl::write_my_rights(&mailbox, of_ipc(rights), dialect, out);
        }),
    };
    match outcome {
        Ok(()) => Tagged::ok(tag, "done"),
        Err(CallError::Refused(Refusal::NoSuchUser)) => {
            let code = Code::NonExistent;
            Tagged::no(
                tag,
                Some(&code),
                "there is no such user in your organisation",
            )
        }
        Err(CallError::Refused(Refusal::NotPermitted)) => {
            let text = "the owner of a mailbox always has all rights";
            Tagged::no(tag, Some(&Code::Cannot), text)
        }
        Err(CallError::Refused(Refusal::OverQuota)) => {
            let text = "a mailbox has at most 64 entries, a user at most 1000 shared mailboxes and 1000 users they are shared with";
            Tagged::no(tag, Some(&Code::Limit), text)
        }
        Err(error) => Tagged::refused(tag, &error),
    }
}

// RFC 2342 §5. Who has nothing of others to see is not shown where it would be.
pub(super) async fn namespace(session: &mut Session, tag: &str) -> Tagged {
    let Some(user) = &session.user else {
        return out_of_place(tag);
    };
    let has_shared = match user.mail.off.has("ACL") {
        true => Ok(false),
        false => user.mail.has_shared().await,
    };
    match has_shared {
        Ok(has_shared) => {
            let others = has_shared.then_some(OTHER_USERS);
            write::namespace(others, &mut session.wire.out);
            Tagged::ok(tag, "that is all")
        }
        Err(error) => Tagged::refused(tag, &error),
    }
}

/// Rights as they are written.
pub(crate) const fn of_ipc(rights: Rights) -> acl::Rights {
    acl::Rights(rights.0)
}

const fn of_imap(rights: acl::Rights) -> Rights {
    Rights(rights.0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn deliverd_means_the_same_rights() {
        assert_eq!(imap::acl::LETTERS, ipc::acl::LETTERS);
    }
}
