//! What users write down about their mailboxes and accounts.

use std::sync::Arc;

use daemon::channel::Answered;
use ipc::Refusal;
use ipc::metadata::AnnotationChange;
use ipc::session::SessionAnswer;

use super::House;
use crate::store::{Mailbox, User};

/// Reads them, of a mailbox or of the account.
pub(super) async fn read(
    house: &Arc<House>,
    user: &Arc<User>,
    mailbox: Option<Arc<Mailbox>>,
) -> Result<Answered<SessionAnswer>, Refusal> {
    let user = Arc::clone(user);
    let read = house.work(move |_| match mailbox {
        Some(mailbox) => mailbox.annotations(),
        None => user.annotations(),
    });
    Ok(Answered::plain(SessionAnswer::Annotations(read.await?)))
}

/// Changes them, and tells those who watch.
pub(super) async fn change(
    house: &Arc<House>,
    user: &Arc<User>,
    mailbox: Option<(String, Arc<Mailbox>)>,
    changes: Vec<AnnotationChange>,
) -> Result<Answered<SessionAnswer>, Refusal> {
    let user = Arc::clone(user);
    let change = house.work(move |_| {
        let entries: Vec<String> = changes.iter().map(|change| change.name.clone()).collect();
        let name = match mailbox {
            Some((name, mailbox)) => {
                mailbox.annotate(changes)?;
                name
            }
            None => {
                user.annotate(changes)?;
                String::new()
            }
        };
        user.tell_annotated(&name, &entries);
        Ok(())
    });
    change.await?;
    Ok(Answered::plain(SessionAnswer::Done))
}
