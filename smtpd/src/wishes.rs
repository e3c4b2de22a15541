//! What the sender wants of each recipient (RFC 3461): said to relayd, which takes the mail on or reports about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipc::Context;
use ipc::queue::{Envelope, Recipient, Standing};
use smtp::original::OriginalRecipient;
use smtp::parameter::{Notify, RcptParameters};
use tracing::warn;

use crate::ask::{Ask, Problem};

/// What relayd puts of a message into a report that somebody has it: no more than its header.
const MAX_KEPT: usize = 32 * 1024;

/// What the sender of a transaction wants.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// The parameters of those for whom there are any.
    parameters: BTreeMap<String, String>,
    /// Those that have the message once it is accepted, and of whom the sender wants to be told.
    notices: Vec<Recipient>,
}

impl Wishes {
    /// Notes what is wanted of the recipient `address`, whose mail goes to these users here and addresses elsewhere.
    pub(crate) fn note(
        &mut self,
        address: &str,
        mut parameters: RcptParameters,
        local: &[String],
        remote: &[String],
    ) {
        if parameters.is_empty() {
            return;
        }
        let is_alias = !remote.iter().any(|one| one == address);
        // RFC 3461 §5.2.7: the sender knows the address it wrote, not the one that an alias makes of it.
        if is_alias && parameters.original.is_none() {
            parameters.original = OriginalRecipient::of(address);
        }
        let wants_success = parameters.notify().success;
        let standing = match (local.len(), remote.len()) {
            (1, 0) => Some(Standing::Delivered),
            // RFC 3461 §5.2.7: who wrote to a list is told that it is one, and nothing of each who is on it.
            (here, elsewhere) if here + elsewhere > 1 => Some(Standing::Expanded),
            _ => None,
        };
        if let Some(standing) = standing.filter(|_| wants_success) {
            self.notices.push(Recipient {
                address: address.to_owned(),
                parameters: parameters.to_string(),
                standing,
            });
        }
        if let Some(Standing::Expanded) = standing {
            parameters.notify = parameters.notify.map(|notify| Notify {
                success: false,
                ..notify
            });
        }
        for one in local.iter().chain(remote) {
            let text = parameters.to_string();
            self.parameters.entry(one.clone()).or_insert(text);
        }
    }

    /// Forgets what was noted of a recipient that was the last and is refused after all; it had added these.
    pub(crate) fn take_back<'a>(&mut self, address: &str, added: impl Iterator<Item = &'a String>) {
        for one in added {
            self.parameters.remove(one);
        }
        self.notices.pop_if(|last| last.address == address);
    }

    /// What relayd is told of one who is to have the message.
    pub(crate) fn of(&mut self, address: String, standing: Standing) -> Recipient {
        Recipient {
            parameters: self.parameters.remove(&address).unwrap_or_default(),
            address,
            standing,
        }
    }

    /// What relayd is told of those that will have the message; of users here nothing yet if it `is_held`.
    pub(crate) fn into_notices(self, is_held: bool) -> Vec<Recipient> {
        let mut notices = self.notices;
        notices.retain(|one| !is_held || one.standing != Standing::Delivered);
        notices
    }
}

/// The news that some have a message of which nothing goes elsewhere.
#[derive(Debug)]
pub(crate) struct Notice {
    ask: Arc<Ask>,
    context: Context,
    envelope: Envelope,
    recipients: Vec<Recipient>,
    /// The beginning of the message.
    kept: Vec<u8>,
}

impl Notice {
    pub(crate) fn new(
        ask: Arc<Ask>,
        context: Context,
        envelope: Envelope,
        recipients: Vec<Recipient>,
    ) -> Self {
        let kept = Vec::new();
        Self {
            ask,
            context,
            envelope,
            recipients,
            kept,
        }
    }

    /// Keeps only the news of those recipients, and tells whether there are any.
    pub(crate) fn is_about(&mut self, recipient: impl Fn(&str) -> bool) -> bool {
        self.recipients.retain(|one| recipient(&one.address));
        !self.recipients.is_empty()
    }

    /// Notes a piece of the message.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let room = MAX_KEPT - self.kept.len();
        let piece = bytes.get(..room).unwrap_or(bytes);
        self.kept.extend_from_slice(piece);
    }

    /// Hands the news to relayd. The mail is delivered already and must not be sent again, so a failure costs the sender the
    /// report and nothing else.
    pub(crate) async fn hand_over(self) {
        if let Err(problem) = self.try_hand_over().await {
            warn!(%problem, "delivered, but the sender will not be told of it: relayd did not take the report");
        }
    }

    async fn try_hand_over(self) -> Result<(), Problem> {
        let mut outlet = self.ask.open_queue(self.context, self.envelope).await?;
        outlet.add_queue_recipients(&self.recipients).await?;
        outlet.write(&self.kept).await;
        outlet.commit(Vec::new()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "list@example.org";

    fn noted(address: &str, parameters: &str, local: &[&str], remote: &[&str]) -> Vec<Recipient> {
        let own = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (local, remote) = (own(local), own(remote));
        let mut wishes = Wishes::default();
        let parameters = RcptParameters::parse(parameters).unwrap();
        wishes.note(address, parameters, &local, &remote);
        let mut all: Vec<_> = remote
            .into_iter()
            .map(|one| wishes.of(one, Standing::Waiting))
            .collect();
        all.extend(wishes.into_notices(false));
        all
    }

    fn recipient(address: &str, parameters: &str, standing: Standing) -> Recipient {
        Recipient {
            address: address.into(),
            parameters: parameters.into(),
            standing,
        }
    }

    #[test]
    fn who_is_elsewhere_keeps_what_was_said() {
        for parameters in ["", "NOTIFY=SUCCESS", "NOTIFY=NEVER ORCPT=rfc822;x@y"] {
            assert_eq!(
                noted("a@far.example", parameters, &[], &["a@far.example"]),
                [recipient("a@far.example", parameters, Standing::Waiting)]
            );
        }
    }

    #[test]
    fn an_alias_of_one_is_followed_and_its_name_kept() {
        assert_eq!(
            noted("a@example.org", "NOTIFY=SUCCESS", &[], &["b@far.example"]),
            [recipient(
                "b@far.example",
                "NOTIFY=SUCCESS ORCPT=rfc822;a@example.org",
                Standing::Waiting
            )]
        );
    }

    #[test]
    fn who_is_here_is_told_of_only_if_that_is_wanted() {
        let wanted = noted(
            "a@example.org",
            "NOTIFY=SUCCESS,DELAY",
            &["a@example.org"],
            &[],
        );
        let parameters = "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@example.org";
        let expected = recipient("a@example.org", parameters, Standing::Delivered);
        assert_eq!(wanted, [expected]);
        for parameters in ["", "NOTIFY=NEVER", "NOTIFY=FAILURE,DELAY"] {
            assert_eq!(
                noted("a@example.org", parameters, &["a@example.org"], &[]),
                []
            );
        }
    }

    #[test]
    fn who_writes_to_a_list_is_told_that_it_is_one() {
        let parameters = "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;list@example.org";
        assert_eq!(
            noted(
                LIST,
                "NOTIFY=SUCCESS,FAILURE",
                &["a@example.org"],
                &["b@far.example"]
            ),
            [
                recipient(
                    "b@far.example",
                    "NOTIFY=FAILURE ORCPT=rfc822;list@example.org",
                    Standing::Waiting
                ),
                recipient(LIST, parameters, Standing::Expanded),
            ]
        );
    }
}
