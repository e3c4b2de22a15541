//! APPEND and REPLACE: messages flow to deliverd as they arrive, one (RFC 3501) or several that are kept together (RFC 3502).

use std::time::Duration;

use imap::append::{Head, Step};
use imap::flag::Flag;
use imap::fragment::Fragment;
use imap::parse::append::{Reader, begin};
use imap::response::{self, Code, Kind};
use imap::{state, switch, uid_only};
use ipc::session::APPENDS_TOGETHER;
use tokio::time::timeout;
use tracing::info;

use super::catenate::Base;
use super::{Session, limit, out_of_place};
use crate::ask::{HELD, Upload, Wish};
use crate::house::House;
use crate::session::{User, not_offered};
use crate::view::{Expunges, store_form};
use crate::wire::{Close, TOO_LONG, TOO_SLOW, Wire};
use crate::words::Tagged;

/// How long the next piece of a message may take to come.
const PATIENCE: Duration = Duration::from_mins(5);

/// A literal that was announced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Literal {
    /// Bytes of it.
    pub(crate) size: u64,
    /// Whether the client waits for the continuation request.
    pub(crate) waits: bool,
    /// Whether NUL may be in it.
    pub(crate) binary: bool,
}

/// Takes the messages of which the first literal was announced behind `head`.
pub(crate) async fn append(
    session: &mut Session,
    head: &[u8],
    literal: Literal,
) -> Result<(), Close> {
    let (head, steps, reader) = match begin(session.dialect, head) {
        Ok(begun) => begun,
        Err(bad) => {
            session.wire.fragmenter.refuse();
            return session.complain(bad.tag.as_deref(), &bad.error.to_string());
        }
    };
    let is_off = |name: &&str| session.off().has(name);
    if let Some(missing) = head.replaces.map(|_| "REPLACE").filter(is_off) {
        session.wire.fragmenter.refuse();
        return session.refuse_what_is_off(&head.tag, missing);
    }
    if let Err(text) = state::check_append(&head, session.state()) {
        session.wire.fragmenter.refuse();
        return session.complain(Some(&head.tag), text);
    }
    if session.dialect.uid_only && uid_only::names_number(&head) {
        session.wire.fragmenter.refuse();
        return session.refuse_numbers(&head.tag);
    }
    let tagged = take(session, head, steps, Some((reader, literal))).await?;
    session.finish(Expunges::Allowed, &tagged).await
}

/// Takes messages that are put together of nothing but what is here.
pub(super) async fn without_literal(
    session: &mut Session,
    head: Head,
    steps: Vec<Step>,
) -> Result<Tagged, Close> {
    take(session, head, steps, None).await
}

async fn take(
    session: &mut Session,
    head: Head,
    steps: Vec<Step>,
    coming: Option<(Reader, Literal)>,
) -> Result<Tagged, Close> {
    let replaces = match super::replace::pick(session, &head).await {
        Ok(replaces) => replaces,
        Err(tagged) => {
            if coming.is_some() {
                session.wire.fragmenter.refuse();
            }
            return Ok(tagged);
        }
    };
    let Session {
        wire,
        house,
        user: Some(user),
        view,
        ..
    } = &mut *session
    else {
        session.wire.fragmenter.refuse();
        return Ok(out_of_place(&head.tag));
    };
    let (reader, literal) = coming.unzip();
    let mut intake = Intake {
        wire,
        house,
        user,
        base: Base::new(user, house, view.as_ref()),
        head: &head,
        replaces,
        literal,
        draft: None,
        begun: 0,
        kept: 0,
    };
    let outcome = match intake.receive(steps, reader).await {
        Ok(()) => intake.commit().await,
        Err(stop) => Err(stop),
    };
    match outcome {
        Ok(_) if replaces.is_some() => super::replace::conclude(session, &head.tag).await,
        Ok(tagged) => Ok(tagged),
        Err(Stop::Close(close)) => Err(close),
        Err(Stop::Say(tagged)) => {
            intake.give_up().await;
            Ok(tagged)
        }
        Err(Stop::Malformed(text)) => {
            intake.give_up().await;
            session.count_mistake()?;
            Ok(Tagged::bad(&head.tag, &text))
        }
    }
}

/// Why nothing comes of an APPEND.
pub(super) enum Stop {
    /// This answer tells.
    Say(Tagged),
    /// It is no APPEND.
    Malformed(String),
    /// The connection ends.
    Close(Close),
}

impl From<Close> for Stop {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

/// An APPEND under way.
pub(super) struct Intake<'a> {
    pub(super) wire: &'a mut Wire,
    pub(super) house: &'a House,
    pub(super) user: &'a User,
    /// What URLs are relative to.
    pub(super) base: Base,
    pub(super) head: &'a Head,
    /// UID of the message that goes when the new one is there.
    replaces: Option<u32>,
    /// A literal that was announced, and neither accepted nor refused.
    literal: Option<Literal>,
    /// The message that comes, or has come last.
    draft: Option<Draft>,
    /// Messages so far.
    begun: usize,
    /// Messages that wait for the others at deliverd.
    kept: usize,
}

/// A message that comes.
struct Draft {
    wish: Wish,
    upload: Option<Upload>,
    size: u64,
}

/// What comes behind a literal.
enum After {
    Literal(Vec<u8>),
    End(Vec<u8>),
}

impl Intake<'_> {
    pub(super) fn tag(&self) -> &str {
        &self.head.tag
    }

    async fn receive(&mut self, steps: Vec<Step>, reader: Option<Reader>) -> Result<(), Stop> {
        let mut after = self.perform(steps).await?;
        let Some(mut reader) = reader else {
            return Ok(());
        };
        while let Some(behind) = after {
            let steps = match behind {
                After::Literal(text) => reader.go_on(&text, true),
                After::End(text) => reader.go_on(&text, false),
            };
            let steps = steps.map_err(|error| Stop::Malformed(error.to_string()))?;
            after = self.perform(steps).await?;
        }
        Ok(())
    }

    /// Does what was read; what comes behind the literal, if that was the last.
    async fn perform(&mut self, steps: Vec<Step>) -> Result<Option<After>, Stop> {
        self.doubt(switch::missing_in_append(&steps, self.user.mail.off))?;
        for step in steps {
            match step {
                Step::Begin {
                    flags,
                    internal_date,
                } => self.begin(&flags, internal_date).await?,
                Step::Catenate => {}
                Step::Url(url) => self.copy(&url).await?,
                Step::Literal => return self.carry().await.map(Some),
                // RFC 6855 §4.
                Step::Utf8Literal if self.literal.is_some_and(|literal| !literal.binary) => {
                    return Err(Stop::Malformed("expected ~{SIZE} behind UTF8 (".into()));
                }
                Step::Utf8Literal => return self.carry().await.map(Some),
                Step::End => self.end()?,
            }
        }
        Ok(None)
    }

    /// Stops if something is needed that the account is not offered.
    fn doubt(&self, missing: Option<&str>) -> Result<(), Stop> {
        missing.map_or(Ok(()), |missing| Err(Stop::Malformed(not_offered(missing))))
    }

    async fn begin(&mut self, flags: &[Flag], internal_date: Option<i64>) -> Result<(), Stop> {
        self.begun += 1;
        // RFC 8508 has one message for one, whatever MULTIAPPEND allows.
        if self.begun > 1 && self.replaces.is_some() {
            return Err(Stop::Malformed("REPLACE takes one message".into()));
        }
        // RFC 9738 §3.1.
        let most = self.user.limits.saving;
        if let Some(most) = most.filter(|most| self.begun > *most as usize) {
            return Err(Stop::Say(limit::too_many(self.tag(), most)));
        }
        if self.begun > APPENDS_TOGETHER {
            let text = format!("at most {APPENDS_TOGETHER} messages at once");
            return Err(Stop::Say(Tagged::no(self.tag(), Some(&Code::Limit), &text)));
        }
        self.keep().await?;
        let (flags, keywords) = store_form(flags);
        let wish = Wish {
            flags,
            keywords,
            internal_date,
        };
        self.draft = Some(Draft {
            wish,
            upload: None,
            size: 0,
        });
        Ok(())
    }

    // RFC 3502 §6.3.11: a message of no bytes ends it all.
    fn end(&self) -> Result<(), Stop> {
        match &self.draft {
            Some(draft) if draft.size > 0 => Ok(()),
            Some(_) | None => Err(Stop::Say(Tagged::no(
                self.tag(),
                None,
                "a message is not empty",
            ))),
        }
    }

    /// Has deliverd keep the message that came last.
    async fn keep(&mut self) -> Result<(), Stop> {
        if let Some(Draft {
            wish,
            upload: Some(upload),
            ..
        }) = self.draft.take()
        {
            let kept = self.user.mail.keep(upload, wish).await;
            kept.map_err(|error| self.refused(&error))?;
            self.kept += 1;
        }
        Ok(())
    }

    /// Makes room for so many more bytes of the message that comes, before any of them is read.
    pub(super) async fn make_room(&mut self, more: u64) -> Result<(), Stop> {
        let limit = u64::from(self.house.append_limit);
        let Some(draft) = &mut self.draft else {
            return Ok(());
        };
        let size = draft.size.saturating_add(more);
        if draft.size > 0 && size > limit {
            // RFC 4469 §4: the sum counts.
            return Err(Stop::Say(Tagged::no(
                &self.head.tag,
                Some(&Code::TooBig),
                "the message would be too large",
            )));
        }
        draft.size = size;
        // What comes in any case, and is small, need not be announced.
        let comes = self.literal.is_some_and(|literal| !literal.waits);
        let outcome = match &mut draft.upload {
            Some(upload) => self.user.mail.extend(upload, size).await,
            None if comes && size <= HELD && self.replaces.is_none() => {
                draft.upload = Some(Upload::Held {
                    mailbox: self.head.mailbox.clone(),
                    bytes: Vec::new(),
                });
                Ok(())
            }
            None => {
                let mailbox = self.head.mailbox.clone();
                let opened = self.user.mail.open_append(mailbox, size).await;
                opened.map(|upload| draft.upload = Some(upload))
            }
        };
        outcome.map_err(|error| self.refused(&error))
    }

    pub(super) fn upload(&mut self) -> Option<(&mut Wire, &mut Upload)> {
        let upload = self.draft.as_mut()?.upload.as_mut()?;
        Some((self.wire, upload))
    }

    fn refused(&self, error: &daemon::channel::CallError) -> Stop {
        Stop::Say(Tagged::refused_target(self.tag(), error))
    }

    /// Carries a literal over, to its end even if it is no good, so that nothing of it is taken for a command.
    async fn carry(&mut self) -> Result<After, Stop> {
        let Some(Literal {
            size,
            waits,
            binary,
        }) = self.literal
        else {
            return Err(Stop::Malformed("expected a literal".into()));
        };
        let is_off = |name: &&str| self.user.mail.off.has(name);
        self.doubt(binary.then_some("BINARY").filter(is_off))?;
        self.make_room(size).await?;
        self.literal = None;
        self.wire.fragmenter.accept();
        if waits {
            response::continuation("send the message", &mut self.wire.out);
        }
        self.wire.flush().await?;
        let mut has_nul = false;
        let after = loop {
            match self.wire.fragmenter.next() {
                Some(Fragment::Chunk(bytes)) => {
                    // RFC 3501 §9: a literal holds no NUL; RFC 3516 §4.4: a literal8 may.
                    has_nul |= !binary && bytes.contains(&0);
                    if let Some((_, upload)) = self.upload() {
                        upload.write(&bytes).await;
                    }
                }
                Some(Fragment::Message {
                    head,
                    size,
                    waits,
                    binary,
                }) => {
                    self.literal = Some(Literal {
                        size,
                        waits,
                        binary,
                    });
                    break After::Literal(head);
                }
                Some(Fragment::MessageEnd { rest }) => break After::End(rest),
                // A URL that comes as a literal.
                Some(Fragment::Continue) => {
                    response::continuation("go on", &mut self.wire.out);
                    self.wire.flush().await?;
                }
                Some(Fragment::TooLarge(_)) => {
                    return Err(Stop::Malformed("the literal is too large".into()));
                }
                Some(Fragment::Overflow) => return Err(TOO_LONG.into()),
                // Inside of an APPEND there are none.
                Some(Fragment::Command(_)) => {}
                None => match timeout(PATIENCE, self.wire.read_message()).await {
                    Ok(read) => read?,
                    Err(_) => return Err(TOO_SLOW.into()),
                },
            }
        };
        match has_nul {
            true => {
                let text = "a message with NUL is announced with ~{SIZE}";
                Err(Stop::Malformed(text.into()))
            }
            false => Ok(after),
        }
    }

    // RFC 4315 §3; RFC 3502 §6.3.11: several messages come into the mailbox together or not at all.
    async fn commit(&mut self) -> Result<Tagged, Stop> {
        let mailbox = &self.head.mailbox;
        if self.kept == 0
            && let Some(Draft {
                wish,
                upload: Some(upload),
                size,
            }) = self.draft.take()
        {
            let committed = self.user.mail.commit(upload, wish, self.replaces).await;
            let (uid_validity, uid) = committed.map_err(|error| self.refused(&error))?;
            info!(size, uid, mailbox, "appended");
            let uids = [(uid, uid)];
            let code = self.told(Code::AppendUid(uid_validity, &uids));
            if self.replaces.is_some() {
                // RFC 8508 §4: before the old one is said to be gone.
                self.wire
                    .say(Kind::Ok, code.as_ref(), "the new message is there");
            }
            return Ok(self.appended(code));
        }
        self.keep().await?;
        let committed = self.user.mail.commit_kept().await;
        let (uid_validity, uids) = committed.map_err(|error| self.refused(&error))?;
        info!(
            messages = self.kept,
            mailbox = self.head.mailbox,
            "appended"
        );
        let code = self.told(Code::AppendUid(uid_validity, &uids));
        Ok(self.appended(code))
    }

    /// Only who is offered UIDPLUS hears of UIDs.
    fn told<'c>(&self, code: Code<'c>) -> Option<Code<'c>> {
        (!self.user.mail.off.has("UIDPLUS")).then_some(code)
    }

    fn appended(&self, code: Option<Code<'_>>) -> Tagged {
        match code {
            Some(code) => Tagged::ok_with(self.tag(), &code, "appended"),
            None => Tagged::ok(self.tag(), "appended"),
        }
    }

    /// Nothing comes of it: what was announced is not read, and what came is forgotten.
    async fn give_up(&mut self) {
        if self.literal.take().is_some() {
            self.wire.fragmenter.refuse();
        }
        if let Some(upload) = self.draft.take().and_then(|draft| draft.upload) {
            self.user.mail.abort(upload).await;
        }
        if self.kept > 0 {
            self.user.mail.forget_kept().await;
        }
    }
}
