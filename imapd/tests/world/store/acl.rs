//! Who may do what: enough of deliverd's rules that imapd's words can be seen. Whether they hold is tested where they are kept.

use super::*;

const OWNER: &str = "alice@example.org";

impl Store {
    /// Somebody else shares a mailbox with one message.
    pub(crate) fn share(&self, name: &str, letters: &str) {
        let mut state = self.state.lock().unwrap();
        let mailbox = Mailbox {
            owner: Some("fred@example.org".into()),
            acl: BTreeMap::from([(OWNER.to_owned(), Rights::parse(letters).unwrap())]),
            ..Mailbox::default()
        };
        state.mailboxes.insert(name.to_owned(), mailbox);
        state.append(
            name,
            b"Subject: x\r\n\r\ny\r\n".to_vec(),
            0,
            &[],
            1_000_000_000,
        );
    }

    /// It may be used in another way from now on.
    pub(crate) fn change_rights(&self, name: &str, letters: &str) {
        let rights = Rights::parse(letters).unwrap();
        let mut state = self.state.lock().unwrap();
        let mailbox = state.mailbox(name).unwrap();
        mailbox.acl.insert(OWNER.to_owned(), rights);
        state.tell(name, || SessionEvent::Rights(rights));
    }
}

impl State {
    /// What the account may do.
    pub(super) fn rights(&self, name: &str) -> Rights {
        match self.mailboxes.get(name) {
            Some(mailbox) if mailbox.owner.is_some() => mailbox.acl[OWNER],
            _ => Rights::ALL,
        }
    }

    pub(super) fn acl(&mut self, request: SessionRequest) -> Result<SessionAnswer, Refusal> {
        let administered = |state: &Self, name: &str| {
            let rights = state.rights(name);
            match state.mailboxes.contains_key(name) {
                true if rights.has(Rights::ADMINISTER) => Ok(()),
                true if rights.has(Rights::LOOKUP) => Err(Refusal::NoRight),
                _ => Err(Refusal::NoSuchMailbox),
            }
        };
        let known = |name: &str| match name.trim_start_matches('-') {
            OWNER => Err(Refusal::NotPermitted),
            "anyone" => Ok(()),
            name if name.ends_with("@example.org") => Ok(()),
            _ => Err(Refusal::NoSuchUser),
        };
        Ok(match request {
            SessionRequest::ListShared { .. } => {
                let shared = self.mailboxes.iter().filter(|(_, one)| one.owner.is_some());
                let seen = shared.filter(|(name, _)| self.rights(name).has(Rights::LOOKUP));
                SessionAnswer::SharedMailboxes {
                    mailboxes: seen.map(|(name, _)| self.info(name)).collect(),
                    next: None,
                }
            }
            SessionRequest::ReadAcl { mailbox } => {
                administered(self, &mailbox)?;
                let entries = self.mailbox(&mailbox)?.acl.iter();
                let entries = entries.map(|(identifier, rights)| AclEntry {
                    identifier: identifier.clone(),
                    rights: *rights,
                });
                SessionAnswer::Acl {
                    owner: OWNER.into(),
                    entries: entries.collect(),
                }
            }
            SessionRequest::ChangeAcl {
                mailbox,
                identifier,
                change,
            } => {
                administered(self, &mailbox)?;
                known(&identifier)?;
                let acl = &mut self.mailbox(&mailbox)?.acl;
                let before = acl.get(&identifier).copied().unwrap_or_default();
                let now = match change {
                    RightsChange::Set(rights) => rights,
                    RightsChange::Add(rights) => before.and(rights),
                    RightsChange::Remove(rights) => before.without(rights),
                };
                match now {
                    Rights::NONE => acl.remove(&identifier),
                    now => acl.insert(identifier, now),
                };
                // Few, so that it is soon seen that there are too many.
                if acl.len() > 4 {
                    return Err(Refusal::OverQuota);
                }
                SessionAnswer::Done
            }
            SessionRequest::ListRights {
                mailbox,
                identifier,
            } => {
                administered(self, &mailbox)?;
                let (given, possible) = match known(&identifier) {
                    Ok(()) => (Rights::NONE, Rights::ALL),
                    Err(Refusal::NotPermitted) => (Rights::ALL, Rights::NONE),
                    Err(refusal) => return Err(refusal),
                };
                SessionAnswer::Rights { given, possible }
            }
            SessionRequest::MyRights { mailbox } => {
                self.mailbox(&mailbox)?;
                SessionAnswer::Rights {
                    given: self.rights(&mailbox),
                    possible: Rights::NONE,
                }
            }
            other => unreachable!("{other:?}"),
        })
    }
}
