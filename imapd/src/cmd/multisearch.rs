//! ESEARCH (RFC 7377): the mailboxes are searched one after the other, those that are not selected over a mail session beside.

use std::sync::Arc;

use daemon::channel::CallError;
use imap::command::Numbering;
use imap::esearch::{Correlator, Return};
use imap::multisearch::{MultiSearch, Source};
use imap::response::{Code, Kind};
use imap::search::Key;
use imap::sequence::Ranges;
use imap::sync::Awareness;
use ipc::Refusal;
use tokio::time::Instant;
use tracing::debug;

use super::limit::Cut;
use super::query::Sought;
use super::search::{self, Found, Search};
use super::{Desk, Session, context, desk, notify, out_of_place};
use crate::session::User;
use crate::view::{View, number_of};
use crate::wire::{Close, NEWS_EVERY};
use crate::words::Tagged;

/// What is looked for in each mailbox.
struct Task {
    results: Return,
    key: Key,
    is_aware: bool,
}

pub(super) async fn esearch(
    session: &mut Session,
    tag: &str,
    MultiSearch {
        sources,
        results,
        charset,
        key,
        ..
    }: MultiSearch,
) -> Result<Tagged, Close> {
    if let Some(tagged) = search::refuse_charset(session, tag, charset.as_deref())? {
        return Ok(tagged);
    }
    // In the selected mailbox it also concerns what is saved.
    let is_only_selected = sources.iter().all(|source| *source == Source::Selected);
    if let Some(tagged) = search::bad_charset(tag, charset.as_deref()).filter(|_| !is_only_selected)
    {
        return Ok(tagged);
    }
    let results = results.unwrap_or_default();
    // §2.1.
    if results.save && !is_only_selected {
        session.count_mistake()?;
        return Ok(Tagged::bad(
            tag,
            "SAVE goes with the selected mailbox alone",
        ));
    }
    let names = match names(session, &sources, is_only_selected).await {
        Ok(names) => names,
        Err(error) => return Ok(Tagged::refused(tag, &error)),
    };
    let task = Task {
        results,
        is_aware: key.names_modseq(),
        key,
    };
    if task.is_aware {
        session.learn(Awareness::CondStore);
    }
    let (mut beside, mut looked, mut is_selected_searched) = (None, Looked::default(), false);
    let mut told = Instant::now();
    for name in names {
        if is_selected(session, &name) {
            is_selected_searched = true;
            let found = in_selected(session, tag, charset.as_deref(), &task).await?;
            match found {
                Ok(found) => looked.add(found),
                Err(tagged) => return Ok(tagged),
            }
        } else {
            match in_other(session, tag, &mut beside, name, &task).await? {
                Ok(found) => looked.add(found),
                // It went meanwhile, or may not be read.
                Err(CallError::Refused(
                    refusal @ (Refusal::NoSuchMailbox | Refusal::NotPermitted | Refusal::NoRight),
                )) => {
                    debug!(%refusal, "a mailbox is not searched");
                }
                Err(error) => return Ok(Tagged::refused(tag, &error)),
            }
        }
        if told.elapsed() >= NEWS_EVERY && !session.off().has("INPROGRESS") {
            told = Instant::now();
            let code = Code::InProgress(tag);
            session.wire.say(Kind::Ok, Some(&code), "still at it");
            session.wire.flush().await?;
        }
        session.wire.flush_if_full().await?;
    }
    if results.update && !is_selected_searched {
        let text = "only the selected mailbox is kept up to date, and it is not searched";
        session.wire.say(Kind::No, Some(&Code::NoUpdate(tag)), text);
    }
    Ok(match looked.cut {
        Some(cut) => cut.too_many(tag),
        None => search::outcome(tag, looked.unreadable),
    })
}

/// How well a mailbox was looked through.
#[derive(Default)]
struct Looked {
    /// A message that might match could not be read.
    unreadable: bool,
    /// It has more messages than may be looked at.
    cut: Option<Cut>,
}

impl Looked {
    fn add(&mut self, other: Self) {
        self.unreadable |= other.unreadable;
        self.cut = self.cut.or(other.cut);
    }
}

/// The mailboxes that are searched, ordered by name.
async fn names(
    session: &Session,
    sources: &[Source],
    is_only_selected: bool,
) -> Result<Vec<String>, CallError> {
    let selected = session.view.as_ref().map(|view| view.name.clone());
    if is_only_selected {
        return Ok(selected.into_iter().collect());
    }
    let Some(user) = &session.user else {
        return Ok(Vec::new());
    };
    let mut all = user.mail.list().await?;
    all.retain(|mailbox| {
        let candidate = notify::candidate(mailbox);
        let mut sources = sources.iter();
        mailbox.exists && sources.any(|source| source.is_of(candidate, selected.as_deref()))
    });
    Ok(all.into_iter().map(|mailbox| mailbox.name).collect())
}

fn is_selected(session: &Session, name: &str) -> bool {
    let view = session.view.as_ref();
    view.is_some_and(|view| view.name == name)
}

/// Searches the selected mailbox, or gives the answer.
async fn in_selected(
    session: &mut Session,
    tag: &str,
    charset: Option<&str>,
    task: &Task,
) -> Result<Result<Looked, Tagged>, Close> {
    let results = task.results;
    let request = context::begin(session, tag, Numbering::Uid, Some(results), &task.key)?;
    let request = match request {
        Ok(request) => request.map(context::Request::located),
        Err(tagged) => return Ok(Err(tagged)),
    };
    let found = search::find(session, tag, charset, results.save, task.key.clone());
    let mut findings = match found.await? {
        Ok(findings) => findings,
        Err(tagged) => return Ok(Err(tagged)),
    };
    let house = Arc::clone(&session.house);
    let Some(mut desk) = desk(session) else {
        return Ok(Err(out_of_place(tag)));
    };
    if let Some(request) = request {
        request.keep(&mut desk, &house, &mut findings, None);
    }
    tell(&mut desk, tag, task, &findings.found);
    if results.save && !findings.unreadable {
        search::save(desk.view, &results.saved(&findings.found));
    }
    Ok(Ok(Looked {
        unreadable: findings.unreadable,
        cut: findings.cut,
    }))
}

/// Searches a mailbox that is not selected.
async fn in_other(
    session: &mut Session,
    tag: &str,
    beside: &mut Option<User>,
    name: String,
    task: &Task,
) -> Result<Result<Looked, CallError>, Close> {
    let Some(user) = &session.user else {
        return Ok(Err(CallError::Unavailable));
    };
    if beside.is_none() {
        match user.mail.beside().await {
            Ok(mail) => {
                *beside = Some(User {
                    account: user.account.clone(),
                    mail,
                    limits: user.limits,
                });
            }
            Err(error) => return Ok(Err(error)),
        }
    }
    let Some(user) = beside.as_ref() else {
        return Ok(Err(CallError::Unavailable));
    };
    let selection = match user.mail.select(name.clone(), true).await {
        Ok(selection) => selection,
        Err(error) => return Ok(Err(error)),
    };
    let mut view = View::new(name, selection);
    view.dialect = session.dialect;
    let house = Arc::clone(&session.house);
    let mut desk = Desk {
        wire: &mut session.wire,
        user,
        view: &mut view,
    };
    let last = number_of(desk.view.len()).saturating_sub(1);
    let last_uid = match desk.last_uid().await {
        Ok(last_uid) => last_uid,
        Err(error) => return Ok(Err(error)),
    };
    // RFC 5182: what was saved is of the selected mailbox.
    let sought = Arc::new(Sought::new(
        task.key.clone(),
        last,
        last_uid,
        &Ranges::default(),
    ));
    let mut search = Search::new(&sought, &house.budget, desk.view);
    let (places, cut) = match desk.within(&sought.key).await {
        Ok(limited) => limited,
        Err(error) => return Ok(Err(error)),
    };
    let places = places.into_iter().flatten();
    if let Err(error) = search.run(&mut desk, places).await? {
        return Ok(Err(error));
    }
    tell(&mut desk, tag, task, &search.found);
    let unreadable = search.unreadable;
    view.notes.give(&user.mail).await;
    Ok(Ok(Looked { unreadable, cut }))
}

/// Tells what was found in a mailbox, if anything was (§2.2).
fn tell(desk: &mut Desk<'_>, tag: &str, task: &Task, found: &[Found]) {
    let results = task.results;
    if found.is_empty() || !results.is_told() {
        return;
    }
    let uids: Vec<u32> = found.iter().map(Found::uid).collect();
    let told = results.saved(found);
    let highest = told.iter().map(Found::modseq).max();
    let correlator = Correlator {
        tag,
        mailbox: Some(desk.view.located()),
    };
    let highest = highest.filter(|_| task.is_aware);
    let scores = search::scores(results, found);
    let mut line = Vec::new();
    results.write(
        correlator,
        Numbering::Uid,
        &uids,
        &scores,
        highest,
        &mut line,
    );
    desk.wire.out.append(&mut line);
}
