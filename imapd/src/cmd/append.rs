//! APPEND: the message flows to deliverd as it arrives.

use std::time::Duration;

use imap::command::Append;
use imap::fragment::Fragment;
use imap::parse;
use imap::response::{self, Code};
use imap::state;
use tokio::time::timeout;
use tracing::info;

use super::{Session, out_of_place};
use crate::ask::Upload;
use crate::session::User;
use crate::view::{Expunges, store_form};
use crate::wire::{Close, TOO_LONG, TOO_SLOW, Wire};
use crate::words::Tagged;

/// How long the next piece of a message may take to come.
const PATIENCE: Duration = Duration::from_mins(5);

/// How a message was announced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Literal {
    /// Bytes of it.
    pub(crate) size: u64,
    /// Whether the client waits for the continuation request.
    pub(crate) waits: bool,
    /// Whether NUL may be in it.
    pub(crate) binary: bool,
}

/// Takes the message whose literal was announced behind `head`.
pub(crate) async fn append(
    session: &mut Session,
    head: &[u8],
    literal: Literal,
) -> Result<(), Close> {
    let append = match parse::append(session.dialect, head) {
        Ok(append) => append,
        Err(bad) => {
            session.wire.fragmenter.refuse();
            return session.complain(bad.tag.as_deref(), &bad.error.to_string());
        }
    };
    if literal.binary && session.off().has("BINARY") {
        session.wire.fragmenter.refuse();
        return session.refuse_what_is_off(&append.tag, "BINARY");
    }
    if let Err(text) = state::check_append(session.state()) {
        session.wire.fragmenter.refuse();
        return session.complain(Some(&append.tag), text);
    }
    let tagged = receive(session, append, literal).await?;
    session.finish(Expunges::Allowed, &tagged).await
}

async fn receive(session: &mut Session, append: Append, literal: Literal) -> Result<Tagged, Close> {
    let tag = append.tag.as_str();
    let Literal {
        size,
        waits,
        binary,
    } = literal;
    let Some(user) = &session.user else {
        session.wire.fragmenter.refuse();
        return Ok(out_of_place(tag));
    };
    if size == 0 {
        session.wire.fragmenter.refuse();
        return Ok(Tagged::no(tag, None, "a message is not empty"));
    }
    let mut upload = match user.mail.open_append(append.mailbox.clone(), size).await {
        Ok(upload) => upload,
        Err(error) => {
            session.wire.fragmenter.refuse();
            return Ok(Tagged::refused_target(tag, &error));
        }
    };
    session.wire.fragmenter.accept();
    if waits {
        response::continuation("send the message", &mut session.wire.out);
    }
    session.wire.flush().await?;
    match carry(&mut session.wire, &mut upload, binary).await? {
        Cargo::Good => commit(user, append, upload, size).await,
        Cargo::Malformed(text) => {
            user.mail.abort(upload).await;
            session.count_mistake()?;
            Ok(Tagged::bad(tag, text))
        }
    }
}

enum Cargo {
    Good,
    Malformed(&'static str),
}

/// Carries the message over, to its end even if it is no good, so that nothing of it is taken for a command.
async fn carry(wire: &mut Wire, upload: &mut Upload, binary: bool) -> Result<Cargo, Close> {
    let mut has_nul = false;
    loop {
        match wire.fragmenter.next() {
            Some(Fragment::Chunk(bytes)) => {
                // RFC 3501 §9: a literal holds no NUL; RFC 3516 §4.4: a literal8 may.
                has_nul |= !binary && bytes.contains(&0);
                upload.write(&bytes).await;
            }
            Some(Fragment::MessageEnd { clean }) => {
                return Ok(match (clean, has_nul) {
                    (true, false) => Cargo::Good,
                    (true, true) => {
                        Cargo::Malformed("a message with NUL is announced with ~{SIZE}")
                    }
                    (false, _) => {
                        Cargo::Malformed("expected the end of the command behind the message")
                    }
                });
            }
            Some(Fragment::Overflow) => return Err(TOO_LONG),
            // Inside of a message there is nothing else.
            Some(_) => {}
            None => match timeout(PATIENCE, wire.read_message()).await {
                Ok(read) => read?,
                Err(_) => return Err(TOO_SLOW),
            },
        }
    }
}

async fn commit(user: &User, append: Append, upload: Upload, size: u64) -> Result<Tagged, Close> {
    let tag = append.tag.as_str();
    let (bits, keywords) = store_form(&append.flags);
    let committed = user
        .mail
        .commit(upload, bits, keywords, append.internal_date);
    Ok(match committed.await {
        Ok((uid_validity, uid)) => {
            info!(size, uid, mailbox = append.mailbox, "appended");
            // RFC 4315 §3.
            if user.mail.off.has("UIDPLUS") {
                return Ok(Tagged::ok(tag, "appended"));
            }
            Tagged::ok_with(tag, &Code::AppendUid(uid_validity, uid), "appended")
        }
        Err(error) => Tagged::refused_target(tag, &error),
    })
}
