//! Mail of strangers is put off once (RFC 6647).

use ipc::greylist::{Acquaintance, Triple};
use mail::address::ForwardPath;
use smtp::server::Answer;
use tracing::{info, warn};

use super::Desk;
use super::admission::is_postmaster;
use crate::words;

impl Desk {
    /// From now on recipients are put off if their mail comes from strangers, if `is_reserved`.
    pub fn be_reserved(&mut self, is_reserved: bool) {
        self.is_reserved = is_reserved;
    }

    /// What becomes of a recipient who was granted: a stranger's does not stay one. Others hear at once why they are refused, and nothing
    /// is remembered of them.
    pub(super) async fn put_off_recipient(&mut self, path: &ForwardPath, answer: Answer) -> Answer {
        let is_asked = self.is_reserved
            && self.login.account().is_none()
            && !self.pass.is_exempt()
            && !is_postmaster(path);
        let key = "smtp.greylisting";
        if !is_asked || answer != Answer::Granted {
            if self.is_reserved && answer == Answer::Granted {
                let text = "not asked of who has logged in or is exempt, and never for postmaster";
                self.ask.note(key, || text.to_owned());
            }
            return answer;
        }
        let address = path.clone().at(&self.home).to_string();
        let network = self.pass.network();
        let triple = Triple {
            network: network.clone(),
            sender: self.sender.to_lowercase(),
            recipient: address.to_lowercase(),
        };
        match self.ask.greet(self.context(0), triple).await {
            Ok(Acquaintance::Known) => {
                self.ask.note(key, || {
                    format!("mail like this from {network} is known, or has waited long enough")
                });
                answer
            }
            Ok(Acquaintance::Stranger { wait }) => {
                self.ask.note(key, || {
                    format!("mail like this from {network} is not known; it waits {wait} s")
                });
                info!(key, network, recipient = address, wait, "put off");
                self.targets.take_back(&address);
                Answer::Refused(words::put_off(path, wait))
            }
            // Mail for users here needs no relayd.
            Err(problem) => {
                warn!(%problem, "cannot ask relayd whether the sender is a stranger, mail is taken");
                answer
            }
        }
    }
}
