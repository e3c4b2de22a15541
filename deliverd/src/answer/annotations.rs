//! What users write down about their mailboxes and accounts, and about mailboxes of others.

use std::sync::Arc;

use daemon::channel::Answered;
use ipc::Refusal;
use ipc::acl::Rights;
use ipc::metadata::{Annotation, AnnotationChange};
use ipc::session::SessionAnswer;

use super::House;
use super::reach::Reached;
use crate::store::User;

/// What everybody sees who may see anything.
const SHARED: &str = "/shared/";

/// Reads them, of a mailbox or of the account.
pub(super) async fn read(
    house: &Arc<House>,
    user: &Arc<User>,
    mailbox: Option<(Reached, Rights)>,
) -> Result<Answered<SessionAnswer>, Refusal> {
    let user = Arc::clone(user);
    let read = house.work(move |_| match mailbox {
        Some((reached, _)) if reached.visit.is_none() => reached.mailbox.annotations(),
        // RFC 5464 §3.3: what is private is each reader's own.
        Some((reached, _)) => {
            let mut all = user.notes_on(&reached.mailbox)?;
            let of_owner = reached.mailbox.annotations()?.into_iter();
            all.extend(of_owner.filter(|one| one.name.starts_with(SHARED)));
            Ok(all)
        }
        None => user.annotations(),
    });
    Ok(Answered::plain(SessionAnswer::Annotations(fitting(
        read.await?,
    ))))
}

/// As many as are told of one mailbox. Together a reader's own and the owner's may be more.
fn fitting(mut all: Vec<Annotation>) -> Vec<Annotation> {
    let mut room = ipc::metadata::MAX_BYTES;
    all.retain(|one| {
        let size = one.name.len() + one.value.len();
        let fits = size <= room;
        room -= if fits { size } else { 0 };
        fits
    });
    all.truncate(ipc::metadata::MAX_ENTRIES);
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// Changes them, and tells those who watch.
pub(super) async fn change(
    house: &Arc<House>,
    user: &Arc<User>,
    mailbox: Option<(Reached, Rights)>,
    changes: Vec<AnnotationChange>,
) -> Result<Answered<SessionAnswer>, Refusal> {
    let user = Arc::clone(user);
    let change = house.work(move |_| {
        let entries: Vec<String> = changes.iter().map(|change| change.name.clone()).collect();
        let Some((reached, rights)) = mailbox else {
            user.annotate(changes)?;
            user.tell_annotated("", &entries);
            return Ok(());
        };
        let Some(visit) = &reached.visit else {
            reached.mailbox.annotate(changes)?;
            user.tell_annotated(reached.name.as_str(), &entries);
            return Ok(());
        };
        let shared = entries.iter().filter(|name| name.starts_with(SHARED));
        match shared.count() {
            0 => user.note_on(&reached.mailbox, changes),
            // They lie in two files, and could not be changed all or none.
            count if count < entries.len() => Err(Refusal::Invalid(
                "change private and shared entries of a mailbox of somebody else one after the other".into(),
            )),
            _ if !rights.has(Rights::WRITE) => Err(Refusal::NoRight),
            _ => {
                reached.mailbox.annotate(changes)?;
                visit.user.tell_annotated(reached.name.as_str(), &entries);
                Ok(())
            }
        }
    });
    change.await?;
    Ok(Answered::plain(SessionAnswer::Done))
}
