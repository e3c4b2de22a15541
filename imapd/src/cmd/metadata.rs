//! GETMETADATA and SETMETADATA, and what LIST tells of annotations.

use daemon::channel::CallError;
use daemon::config::ServerMetadata;
use imap::dialect::Dialect;
use imap::metadata::{self, Depth, Get, Set};
use imap::response::Code;
use ipc::Refusal;
use ipc::metadata::{Annotation, AnnotationChange, MAX_BYTES, MAX_ENTRIES, MAX_VALUE};

use super::{Session, out_of_place};
use crate::words::Tagged;

// RFC 5464 §4.2.
pub(super) async fn get(session: &mut Session, tag: &str, get: Get) -> Tagged {
    let Some(user) = &session.user else {
        return out_of_place(tag);
    };
    let mailbox = Some(get.mailbox.clone()).filter(|mailbox| !mailbox.is_empty());
    let is_server = mailbox.is_none();
    let mut known = match user.mail.annotations(mailbox).await {
        Ok(known) => known,
        Err(error) => return Tagged::refused(tag, &error),
    };
    if is_server {
        known.extend(of_server(&session.house.metadata));
    }
    let longest = tell(&get, &known, session.dialect, &mut session.wire.out);
    match longest {
        Some(size) => {
            let code = Code::MetadataLongEntries(size);
            Tagged::ok_with(tag, &code, "longer values were left out")
        }
        None => Tagged::ok(tag, "that is all"),
    }
}

/// What the administrator says about the server.
// RFC 5464 §6.2.1.
fn of_server(metadata: &ServerMetadata) -> impl Iterator<Item = Annotation> {
    let entries = [
        ("/shared/admin", &metadata.admin),
        ("/shared/comment", &metadata.comment),
    ];
    let annotation = |(name, text): (&str, &Option<_>)| {
        text.as_ref()
            .map(|text: &daemon::config::ServerText| Annotation {
                name: name.to_owned(),
                value: text.as_str().as_bytes().to_vec(),
            })
    };
    let found: Vec<_> = entries.into_iter().filter_map(annotation).collect();
    found.into_iter()
}

/// Writes what is asked for. Returns the size of the longest value that was left out.
fn tell(get: &Get, known: &[Annotation], dialect: Dialect, out: &mut Vec<u8>) -> Option<u64> {
    let is_asked = |name: &str| get.entries.iter().any(|asked| get.depth.means(asked, name));
    let (mut told, mut longest) = (Vec::new(), None);
    for Annotation { name, value } in known.iter().filter(|one| is_asked(&one.name)) {
        let size = value.len() as u64;
        // RFC 5464 §4.2.1: longer ones are left out, and the size of the longest is told.
        if get.max_size.is_some_and(|most| size > most) {
            longest = longest.max(Some(size));
        } else {
            told.push((name.as_str(), Some(value.as_slice())));
        }
    }
    // RFC 5464 §4.4.1: what was named and is not there is NIL.
    if get.depth == Depth::Zero {
        for asked in &get.entries {
            let is_known = known.iter().any(|one| one.name == *asked);
            let is_told = told.iter().any(|(name, _)| name == asked);
            if !is_known && !is_told {
                told.push((asked, None));
            }
        }
    }
    metadata::write(&get.mailbox, &told, dialect, out);
    longest
}

// RFC 5464 §4.3: all or none.
pub(super) async fn set(session: &Session, tag: &str, set: Set) -> Tagged {
    let Some(user) = &session.user else {
        return out_of_place(tag);
    };
    let mailbox = Some(set.mailbox).filter(|mailbox| !mailbox.is_empty());
    let is_shared = |(name, _): &(String, _)| !name.starts_with("/private/");
    if mailbox.is_none() && set.changes.iter().any(is_shared) {
        let code = Code::NoPerm;
        let text = "what all users share of the server is set by the administrator";
        return Tagged::no(tag, Some(&code), text);
    }
    let length = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
    if set
        .changes
        .iter()
        .any(|(_, value)| length(value) > MAX_VALUE)
    {
        let code = Code::MetadataMaxSize(MAX_VALUE as u64);
        return Tagged::no(tag, Some(&code), "the value is too long");
    }
    let sizes = set.changes.iter();
    let size: usize = sizes.map(|(name, value)| name.len() + length(value)).sum();
    if size > MAX_BYTES || set.changes.len() > MAX_ENTRIES {
        return too_many(tag);
    }
    let changes = set.changes.into_iter();
    let changes = changes.map(|(name, value)| AnnotationChange { name, value });
    match user.mail.annotate(mailbox, changes.collect()).await {
        Ok(()) => Tagged::ok(tag, "noted"),
        Err(CallError::Refused(Refusal::OverQuota)) => too_many(tag),
        Err(error) => Tagged::refused(tag, &error),
    }
}

fn too_many(tag: &str) -> Tagged {
    let code = Code::MetadataTooMany;
    let text = "a mailbox has at most 64 entries, of 12 KiB all together";
    Tagged::no(tag, Some(&code), text)
}

/// Writes the entries that LIST was asked for.
// RFC 9590 §3.
pub(super) fn tell_listed(
    mailbox: &str,
    entries: &[String],
    known: &[Annotation],
    dialect: Dialect,
    out: &mut Vec<u8>,
) {
    let value = |asked: &String| {
        let found = known.iter().find(|one| one.name == *asked);
        found.map(|one| one.value.as_slice())
    };
    let told: Vec<_> = entries
        .iter()
        .map(|asked| (asked.as_str(), value(asked)))
        .collect();
    metadata::write(mailbox, &told, dialect, out);
}
