//! What those who watch a user's mailboxes are told of them.

use std::sync::Arc;

use ipc::Refusal;
use ipc::acl::Rights;
use ipc::session::{Happening, MailboxInfo, What};

use super::mailbox::{Mailbox, State};
use super::name::MailboxName;
use super::user::{Tree, User};
use super::watch::{Note, Watch};

impl User {
    /// From now on it hears what happens to the mailboxes.
    pub(crate) fn watch(&self, watch: &Arc<Watch>) {
        self.watchers.add(watch);
    }

    /// Notes that annotations of a mailbox were changed; of the account if it has no name.
    pub(crate) fn tell_annotated(&self, mailbox: &str, entries: &[String]) {
        for entry in entries {
            self.watchers.tell(|| Note::Annotated {
                mailbox: mailbox.to_owned(),
                entry: entry.clone(),
            });
        }
    }

    /// What happened, with the mailboxes as they are now. Of one that is gone it is not told any more what happened to its messages.
    pub(crate) fn describe_all(&self, notes: Vec<Note>) -> Result<Vec<Happening>, Refusal> {
        self.check()?;
        let tree = self.tree();
        let describe = |note| {
            let (name, what) = match note {
                Note::Touched(name, touch) => (name, What::Messages(touch)),
                Note::Created(name) => (name, What::Created),
                Note::Deleted(name) => (name, What::Deleted),
                Note::Renamed { from, to } => (to, What::RenamedFrom(from)),
                Note::Subscribed(name) => (name, What::Subscribed),
                Note::Annotated { mailbox, entry } => (mailbox, What::Annotated(entry)),
            };
            let mailbox = tree.describe(&name)?;
            let is_over = match what {
                What::Messages(_) | What::Created | What::RenamedFrom(_) => !mailbox.exists,
                What::Deleted => mailbox.exists,
                What::Subscribed => false,
                What::Annotated(_) => !name.is_empty() && !mailbox.exists,
            };
            Ok((!is_over).then_some(Happening { mailbox, what }))
        };
        notes
            .into_iter()
            .map(describe)
            .filter_map(Result::transpose)
            .collect()
    }
}

impl Mailbox {
    /// Has those who watch its user's mailboxes hear of its changes from now on.
    pub(super) fn let_watch(&self, state: &mut State) {
        let file_name = self.path().rsplit_once('/').map(|(_, file_name)| file_name);
        if let Some(name) = file_name.and_then(MailboxName::from_file_name) {
            let watchers = Arc::clone(&self.watchers);
            state.feed.watched_by(watchers, name.as_str().to_owned());
        }
    }
}

impl Tree {
    /// A line of the listing.
    pub(super) fn describe(&self, name: &str) -> Result<MailboxInfo, Refusal> {
        let known = MailboxName::parse(name).ok();
        let mailbox = known.as_ref().and_then(|known| self.mailboxes.get(known));
        Ok(MailboxInfo {
            name: name.to_owned(),
            exists: mailbox.is_some(),
            subscribed: self.registry.subscribed.contains(name),
            special_use: mailbox.map(Mailbox::special_use).transpose()?.flatten(),
            has_children: known
                .is_some_and(|known| self.mailboxes.range(known.children()).next().is_some()),
            rights: Rights::ALL,
        })
    }
}
