//! The commands, a file for each or for each family. Each returns the last line of its answer.

mod acl;
pub(crate) mod append;
mod batches;
mod beside;
mod catenate;
pub(crate) mod context;
mod copy;
mod exchange;
mod expunge;
mod fetch;
mod idle;
mod limit;
mod list;
mod login;
mod mailbox;
mod metadata;
mod multisearch;
pub(crate) mod notify;
mod order;
pub(crate) mod query;
mod quota;
mod reading;
mod replace;
mod search;
mod select;
mod sending;
mod status;
mod store;
mod sync;

use imap::append::Head;
use imap::command::{Command, Numbering};
use imap::esearch::Return;
use imap::response::{Code, Kind};
use imap::switch;
use imap::sync::{Awareness, Extension};
use imap::write;

use crate::session::{Session, User};
use crate::view::{Expunges, View};
use crate::wire::{Close, Wire};
use crate::words::Tagged;

/// What a command leads to.
pub(crate) enum Done {
    /// An answer.
    Say(Tagged),
    /// An answer, then TLS.
    StartTls(Tagged),
    /// An answer, then compression.
    Compress(Tagged),
    /// An answer, then the end.
    LogOut(Tagged),
}

/// Whether messages may be said to be gone in the answer to a command.
// RFC 3501 §7.4.1; §6.4.8 lets the UID forms do it.
pub(crate) const fn expunges(command: &Command) -> Expunges {
    match command {
        Command::Fetch {
            by: Numbering::Sequence,
            ..
        }
        | Command::Store {
            by: Numbering::Sequence,
            ..
        }
        | Command::Search {
            by: Numbering::Sequence,
            ..
        }
        | Command::Sort {
            by: Numbering::Sequence,
            ..
        }
        | Command::Thread {
            by: Numbering::Sequence,
            ..
        } => Expunges::Held,
        Command::Expunge(_) | Command::Move { .. } => Expunges::Due,
        _ => Expunges::Allowed,
    }
}

/// Performs a command that may be given now.
// All that wait but IDLE are boxed, so that a session that idles stays small.
pub(crate) async fn execute(
    session: &mut Session,
    tag: &str,
    command: Command,
) -> Result<Done, Close> {
    let tagged = match command {
        Command::Capability => {
            let list = session.capabilities();
            write::capability(&list, &mut session.wire.out);
            Tagged::ok(tag, "that is all")
        }
        Command::Noop => Box::pin(catch_up(session, tag, "nothing done")).await,
        // Nothing was acknowledged that is not on disk.
        Command::Check => Box::pin(catch_up(session, tag, "everything is on disk")).await,
        Command::Id => {
            // RFC 2971 §3.3: a server may tell its name; its version is nobody's business before login.
            write::id("rmail", &mut session.wire.out);
            Tagged::ok(tag, "pleased to meet you")
        }
        Command::Enable(extensions) => enable(session, tag, &extensions),
        Command::Compress => return compress(session, tag),
        Command::Unauthenticate => {
            session.forget_user();
            Tagged::ok(tag, "nobody is logged in any more")
        }
        Command::Namespace => acl::namespace(session, tag).await,
        Command::Acl(order) => acl::acl(session, tag, order).await,
        Command::Logout => {
            session.wire.say(Kind::Bye, None, "goodbye");
            return Ok(Done::LogOut(Tagged::ok(tag, "logged out")));
        }
        Command::StartTls => return start_tls(session, tag),
        Command::Login(credentials) => Box::pin(login::login(session, tag, &credentials)).await?,
        Command::Authenticate { mechanism, initial } => {
            Box::pin(login::authenticate(session, tag, &mechanism, initial)).await?
        }
        Command::Select {
            mailbox,
            asked,
            read_only,
            condstore,
            resync,
        } => {
            if condstore || resync.is_some() {
                session.learn(Awareness::CondStore);
            }
            let name = select::Name { mailbox, asked };
            Box::pin(select::select(session, tag, name, read_only, resync)).await?
        }
        Command::Close => Box::pin(select::close(session, tag)).await?,
        Command::Unselect => Box::pin(select::unselect(session, tag)).await?,
        Command::Create {
            mailbox,
            asked,
            special_use,
        } => {
            let name = select::Name { mailbox, asked };
            Box::pin(mailbox::create(session, tag, name, special_use)).await
        }
        Command::Delete(name) => Box::pin(mailbox::delete(session, tag, name)).await,
        Command::Rename { from, to } => Box::pin(mailbox::rename(session, tag, from, to)).await,
        Command::Subscribe(name) => Box::pin(mailbox::subscribe(session, tag, name, true)).await,
        Command::Unsubscribe(name) => Box::pin(mailbox::subscribe(session, tag, name, false)).await,
        Command::List(list) => Box::pin(list::list(session, tag, &list)).await?,
        Command::Lsub { reference, pattern } => {
            Box::pin(list::lsub(session, tag, &reference, &pattern)).await?
        }
        Command::Status { mailbox, items } => {
            Box::pin(status::status(session, tag, mailbox, &items)).await
        }
        Command::GetMetadata(get) => Box::pin(metadata::get(session, tag, get)).await,
        Command::SetMetadata(set) => Box::pin(metadata::set(session, tag, set)).await,
        Command::GetQuota(root) => Box::pin(quota::get(session, tag, &root)).await,
        Command::GetQuotaRoot(mailbox) => Box::pin(quota::get_root(session, tag, &mailbox)).await,
        Command::SetQuota => quota::set(tag),
        Command::Expunge(set) => Box::pin(expunge::expunge(session, tag, set.as_ref())).await,
        Command::Search {
            by,
            results,
            charset,
            key,
        } => {
            // RFC 9051 §6.4.4: ESEARCH answers all searches.
            let results = results.or_else(|| session.dialect.rev2.then(Return::default));
            let order = search::Order { by, results, key };
            Box::pin(search::search(session, tag, charset.as_deref(), order)).await?
        }
        Command::UidBatches { size, batches } => {
            Box::pin(batches::uid_batches(session, tag, size, batches)).await?
        }
        Command::MultiSearch(search) => {
            Box::pin(multisearch::esearch(session, tag, search)).await?
        }
        Command::CancelUpdate(tags) => context::cancel(session, tag, &tags),
        Command::Sort {
            by,
            results,
            criteria,
            charset,
            key,
        } => {
            let order = order::Sort {
                by,
                results,
                criteria,
                key,
            };
            Box::pin(order::sort(session, tag, &charset, order)).await?
        }
        Command::Thread {
            by,
            algorithm,
            charset,
            key,
        } => {
            let searched = (charset.as_str(), key);
            Box::pin(order::thread(session, tag, by, algorithm, searched)).await?
        }
        Command::Fetch {
            by,
            set,
            items,
            changed_since,
            partial,
        } => {
            let limits = fetch::Modifiers {
                changed_since,
                partial,
            };
            Box::pin(fetch::fetch(session, tag, by, &set, items, limits)).await?
        }
        Command::Store {
            by,
            set,
            unchanged_since,
            mode,
            silent,
            flags,
        } => {
            let order = store::Order {
                by,
                unchanged_since,
                mode,
                silent,
                flags,
            };
            Box::pin(store::store(session, tag, &set, order)).await?
        }
        Command::Copy { by, set, to } => Box::pin(copy::copy(session, tag, by, &set, to)).await?,
        Command::Move { by, set, to } => {
            Box::pin(copy::move_to(session, tag, by, &set, to)).await?
        }
        Command::Idle => idle::idle(session, tag).await?,
        Command::Append {
            replaces,
            mailbox,
            steps,
        } => {
            let head = Head {
                tag: tag.to_owned(),
                replaces,
                mailbox,
            };
            Box::pin(append::without_literal(session, head, steps)).await?
        }
        Command::Notify(wanted) => Box::pin(notify::notify(session, tag, wanted)).await?,
    };
    Ok(Done::Say(tagged))
}

// RFC 5161 §3.2: what is told is what is switched on by this command; RFC 7162 §3.2.3: QRESYNC brings CONDSTORE.
fn enable(session: &mut Session, tag: &str, extensions: &[Extension]) -> Tagged {
    let (before, spoken) = (session.awareness, session.dialect);
    let (mut dialect, off) = (spoken, session.off());
    for extension in extensions {
        if off.has(switch::name(*extension)) {
            continue;
        }
        match extension {
            Extension::CondStore => session.learn(Awareness::CondStore),
            Extension::QResync => session.learn(Awareness::QResync),
            Extension::Utf8Accept => dialect.utf8 = true,
            Extension::Rev2 => dialect.rev2 = true,
            Extension::UidOnly => dialect.uid_only = true,
        }
    }
    session.speak(dialect);
    if dialect.uid_only {
        context::give_up_numbers(session);
    }
    let levels = [
        (Awareness::CondStore, Extension::CondStore),
        (Awareness::QResync, Extension::QResync),
    ];
    let is_new = |level: &Awareness| before < *level && *level <= session.awareness;
    let enabled = levels.into_iter().filter(|(level, _)| is_new(level));
    let mut enabled: Vec<Extension> = enabled.map(|(_, extension)| extension).collect();
    enabled.extend((dialect.utf8 && !spoken.utf8).then_some(Extension::Utf8Accept));
    enabled.extend((dialect.rev2 && !spoken.rev2).then_some(Extension::Rev2));
    enabled.extend((dialect.uid_only && !spoken.uid_only).then_some(Extension::UidOnly));
    write::enabled(&enabled, &mut session.wire.out);
    Tagged::ok(tag, "that is all")
}

// RFC 3501 §6.1.2: NOOP is how clients ask for news, so they hear of everything that happened before.
async fn catch_up(session: &Session, tag: &str, text: &str) -> Tagged {
    if let (Some(user), Some(_)) = (&session.user, &session.view)
        && let Err(error) = user.mail.catch_up().await
    {
        return Tagged::refused(tag, &error);
    }
    Tagged::ok(tag, text)
}

fn start_tls(session: &mut Session, tag: &str) -> Result<Done, Close> {
    if session.wire.is_secure() {
        session.count_mistake()?;
        return Ok(Done::Say(Tagged::bad(tag, "TLS is active already")));
    }
    Ok(Done::StartTls(Tagged::ok(tag, "begin TLS now")))
}

// RFC 4978 §3: nothing may come behind it before its answer, so nobody can tell what such bytes would mean.
fn compress(session: &mut Session, tag: &str) -> Result<Done, Close> {
    if session.wire.is_compressed() {
        return Ok(Done::Say(Tagged::no(
            tag,
            Some(&Code::CompressionActive),
            "compression is active already",
        )));
    }
    if !session.wire.fragmenter.is_idle() {
        return Err(SAID_TOO_SOON);
    }
    Ok(Done::Compress(Tagged::ok(tag, "compression begins now")))
}

const SAID_TOO_SOON: Close = Close::Bye {
    code: Some(Code::ClientBug),
    text: "nothing may follow COMPRESS before its answer",
};

/// The parts of a session that commands on messages work with.
pub(crate) struct Desk<'a> {
    pub(crate) wire: &'a mut Wire,
    pub(crate) user: &'a User,
    pub(crate) view: &'a mut View,
}

/// The desk; `None` where no mailbox is selected, which [`imap::state`] has ruled out before.
pub(crate) const fn desk(session: &mut Session) -> Option<Desk<'_>> {
    match (&session.user, &mut session.view) {
        (Some(user), Some(view)) => Some(Desk {
            wire: &mut session.wire,
            user,
            view,
        }),
        _ => None,
    }
}

impl Desk<'_> {
    /// Gives away what was worked out, if it is much; what is to be said is said before.
    pub(crate) async fn give_many(&mut self) -> Result<(), Close> {
        if self.view.notes.are_many() {
            self.wire.flush().await?;
            self.view.notes.give(&self.user.mail).await;
        }
        Ok(())
    }

    /// Notes all changes that are there.
    pub(crate) fn note_events(&mut self) {
        while let Some(event) = self.user.mail.try_event() {
            self.view.note(event);
        }
    }
}

/// The answer where no mailbox is selected, or nobody logged in.
pub(crate) fn out_of_place(tag: &str) -> Tagged {
    Tagged::bad(tag, "select a mailbox first")
}

/// The answer to a sequence number that is no message's.
pub(crate) fn no_such_number(tag: &str) -> Tagged {
    Tagged::bad(tag, "there are not so many messages")
}

/// The answer to a change in a mailbox that was opened with EXAMINE.
pub(crate) fn is_read_only(tag: &str) -> Tagged {
    Tagged::no(
        tag,
        Some(&Code::ReadOnly),
        "the mailbox is open for reading only",
    )
}
