//! CATENATE (RFC 4469): parts of a new message that are copied from messages that are here, named by URLs.

use daemon::channel::CallError;
use imap::response::Code;
use imap::url::Url;
use ipc::Refusal;
use tracing::error;

use super::append::{Intake, Stop};
use super::reading::work;
use crate::house::House;
use crate::message::Message;
use crate::render::{self, Cutting};
use crate::session::User;
use crate::view::View;
use crate::words::Tagged;

/// Bytes copied at once.
const PIECE: u64 = 128 * 1024;

/// What URLs are relative to.
pub(super) struct Base {
    host: String,
    account: String,
    /// The selected mailbox and its UIDVALIDITY.
    selected: Option<(String, u32)>,
}

impl Base {
    pub(super) fn new(user: &User, house: &House, view: Option<&View>) -> Self {
        Self {
            host: house.hostname.clone(),
            account: user.account.clone(),
            selected: view.map(|view| (view.name.clone(), view.uid_validity())),
        }
    }

    /// The mailbox of this account that a URL names, and the UIDVALIDITY it must have; `None` if it means something elsewhere, or
    /// somebody else's.
    fn place(&self, url: &Url) -> Option<(String, Option<u32>)> {
        if let Some(server) = &url.server {
            let is_ours = |user: &String| user.eq_ignore_ascii_case(&self.account);
            let is_here = server.host.eq_ignore_ascii_case(&self.host);
            if !is_here || !server.user.as_ref().is_none_or(is_ours) {
                return None;
            }
        }
        match &url.mailbox {
            Some(mailbox) => Some((mailbox.clone(), url.uid_validity)),
            None => {
                let (mailbox, uid_validity) = self.selected.clone()?;
                Some((mailbox, Some(uid_validity)))
            }
        }
    }
}

impl Intake<'_> {
    /// Copies what a URL names.
    pub(super) async fn copy(&mut self, url: &str) -> Result<(), Stop> {
        let Some((message, content)) = self.resolve(url).await? else {
            return Err(self.bad_url(url));
        };
        let size = match &content {
            Cutting::Range(range) => range.end - range.start,
            Cutting::Bytes(bytes) => bytes.len() as u64,
        };
        self.make_room(size).await?;
        let tag = self.head.tag.as_str();
        let Some((wire, upload)) = self.upload() else {
            return Ok(());
        };
        let copying = async {
            let range = match content {
                Cutting::Range(range) => range,
                Cutting::Bytes(bytes) => {
                    upload.write(&bytes).await;
                    return Ok(());
                }
            };
            let mut at = range.start;
            while at < range.end {
                let (end, source) = ((at + PIECE).min(range.end), message.clone());
                let piece = work(move || source.read(at, end)).await?;
                upload.write(&piece.map_err(unreadable)?).await;
                at = end;
            }
            Ok(())
        };
        let copied: Result<(), CallError> = wire.wait_for(tag, copying).await?;
        copied.map_err(|error| Stop::Say(Tagged::refused(tag, &error)))
    }

    /// The message a URL names, and which of its bytes. `None` if there is nothing of that name.
    async fn resolve(&self, url: &str) -> Result<Option<(Message, Cutting)>, Stop> {
        let Some(url) = Url::parse(url) else {
            return Ok(None);
        };
        let Some((mailbox, uid_validity)) = self.base.place(&url) else {
            return Ok(None);
        };
        let opened = self
            .user
            .mail
            .open_named(mailbox, uid_validity, url.uid)
            .await;
        let file = match opened {
            Ok(Some(file)) => file,
            Ok(None) | Err(CallError::Refused(Refusal::NoSuchMailbox)) => return Ok(None),
            Err(error) => return Err(self.failed(&error)),
        };
        let message = match Message::new(file) {
            Ok(message) => message,
            Err(error) => return Err(self.failed(&unreadable(error))),
        };
        let memory = render::memory_of_section(&url.section, message.size());
        let reserved = self.house.budget.reserve(memory).await;
        let source = message.clone();
        let found = work(move || render::cutting(&source, &url.section, url.partial)).await;
        drop(reserved);
        let found = found.and_then(|found| found.map_err(unreadable));
        let found = found.map_err(|error| self.failed(&error))?;
        Ok(found.map(|content| (message, content)))
    }

    fn failed(&self, error: &CallError) -> Stop {
        Stop::Say(Tagged::refused(self.tag(), error))
    }

    // RFC 4469 §4.
    fn bad_url(&self, url: &str) -> Stop {
        let code = Code::BadUrl(url);
        let text = "there is no such message, or no such part of it";
        Stop::Say(Tagged::no(self.tag(), Some(&code), text))
    }
}

fn unreadable(error: std::io::Error) -> CallError {
    error!(%error, "a message cannot be copied");
    CallError::Refused(Refusal::StorageFault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_nothing_of_others_and_nothing_elsewhere() {
        let base = Base {
            host: "mx.example.org".into(),
            account: "alice@example.org".into(),
            selected: Some(("Drafts".into(), 7)),
        };
        let place = |url: &str| base.place(&Url::parse(url).unwrap());
        let named = |validity| Some(("INBOX".to_owned(), validity));
        assert_eq!(place("/INBOX/;UID=1"), named(None));
        assert_eq!(place("/INBOX;UIDVALIDITY=3/;UID=1"), named(Some(3)));
        assert_eq!(place("imap://MX.example.org/INBOX/;UID=1"), named(None));
        let own = "imap://Alice%40example.org@mx.example.org/INBOX/;UID=1";
        assert_eq!(place(own), named(None));
        for other in [
            "imap://bob%40example.org@mx.example.org/INBOX/;UID=1",
            "imap://mx.example.net/INBOX/;UID=1",
            "imap://alice%40example.org@mx.example.net/INBOX/;UID=1",
        ] {
            assert_eq!(place(other), None, "{other}");
        }
        // What is relative to the selected mailbox means that one, not another that has its name now.
        assert_eq!(place(";UID=1"), Some(("Drafts".into(), Some(7))));
    }
}
