//! Which of a transaction's recipients may not get its message at once, and the copy that is made for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipc::queue::{Envelope, Recipient};
use mail::address::Domain;
use smtp::command::Mail;
use smtp::parameter::MailParameters;

use super::{Desk, OpenMessage};
use crate::custody::Custody;
use crate::measure::Rule;

impl Desk {
    /// Under which rule a recipient of that domain is, if they are not all alike.
    pub(super) fn rule(&self, domain: &Domain) -> Option<Rule> {
        self.judge.as_ref()?.rule(domain)
    }

    /// Whether the message may have to be held for any of these.
    pub(super) fn may_hold(
        &self,
        message: &OpenMessage,
        local: &BTreeSet<String>,
        remote: &BTreeSet<String>,
    ) -> bool {
        // Where there is one, nobody logs in, and all mail is judged.
        let Some(judge) = &self.judge else {
            return false;
        };
        let mut all = local.iter().chain(remote);
        all.any(|one| judge.may_hold(&message.ways.to(one)))
    }

    /// Begins a copy for those for whom it may have to be held; `onward` is how it goes to servers elsewhere.
    pub(super) fn begin_custody(
        &self,
        message: &OpenMessage,
        mail: &Mail,
        onward: &Envelope,
        recipients: Vec<Recipient>,
    ) -> Custody {
        // Nobody knows when it is released.
        let parameters = MailParameters {
            by: None,
            ..mail.parameters.clone()
        };
        let envelope = Envelope {
            reverse_path: message.sender.clone(),
            parameters: parameters.to_string(),
            ..onward.clone()
        };
        let onward = &onward.reverse_path;
        let onward = (*onward != message.sender).then(|| onward.clone());
        let (ask, context) = (Arc::clone(&self.ask), self.context(message.id));
        let named = message.recipients.iter();
        let named = named.map(|(path, _)| path.clone().at(&self.home)).collect();
        Custody::new(ask, context, envelope, onward, recipients, named)
    }
}
