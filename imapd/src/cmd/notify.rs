//! NOTIFY (RFC 5465): what the client hears unasked, of the selected mailbox and of others.
//!
//! deliverd says that something happened to the account's mailboxes and keeps what, within bounds, until it is asked. So a client
//! that does not read costs no more than one that does, and who does not want to hear of a mailbox costs one look at its name.

use daemon::channel::CallError;
use imap::capability::Off;
use imap::command::{FetchItem, StatusItem};
use imap::metadata;
use imap::notify::{Candidate, Events, Filter, Group, Notify};
use imap::response::{Code, Kind};
use imap::sync::Awareness;
use imap::write::{self, Listed};
use ipc::acl::OTHER_USERS;
use ipc::session::{Happening, MailboxInfo, SpecialUse, What};
use tracing::debug;

use super::list::{self, Tells};
use super::{Session, desk, fetch, out_of_place, status};
use crate::session::farewell;
use crate::view::{Expunges, Fate, Wanted};
use crate::wire::Close;
use crate::words::Tagged;

/// What a client has asked for with NOTIFY. Without a group it hears of nothing.
#[derive(Debug)]
pub(crate) struct Wishes {
    groups: Vec<Group>,
    /// deliverd tells what happens to mailboxes that are not selected.
    watches: bool,
}

impl Wishes {
    /// The events of the selected mailbox, and whether they may come at any time.
    fn selected(&self) -> Option<(&Events, bool)> {
        self.groups.iter().find_map(|group| match &group.filter {
            Filter::Selected => Some((&group.events, true)),
            Filter::SelectedDelayed => Some((&group.events, false)),
            Filter::Inboxes
            | Filter::Personal
            | Filter::Subscribed
            | Filter::Subtree(_)
            | Filter::Mailboxes(_) => None,
        })
    }

    /// The events of a mailbox that is not selected.
    // §6: the first group a mailbox belongs to counts.
    fn events_of(&self, mailbox: Candidate<'_>) -> Option<&Events> {
        let mut groups = self.groups.iter();
        let group = groups.find(|group| group.filter.is_of(mailbox));
        group.map(|group| &group.events)
    }
}

/// Which changes of the selected mailbox are told.
// §3.1: who never gave NOTIFY hears of all, as with SELECTED-DELAYED; who gave it and named no selected mailbox, of none.
pub(super) fn wanted(wishes: Option<&Wishes>) -> Wanted {
    let Some(wishes) = wishes else {
        return Wanted::ALL;
    };
    match wishes.selected() {
        None => Wanted::NOTHING,
        Some((events, _)) => Wanted {
            messages: events.messages,
            flags: events.flags,
        },
    }
}

pub(super) async fn notify(
    session: &mut Session,
    tag: &str,
    wanted: Notify,
) -> Result<Tagged, Close> {
    let (status, groups) = match wanted {
        // §5: nothing changes then.
        Notify::Unsupported => {
            let text = "there are no such events here";
            return Ok(Tagged::no(tag, Some(&Code::BadEvent), text));
        }
        Notify::Nothing => (false, Vec::new()),
        Notify::Set { status, groups } => (status, groups),
    };
    let Some(user) = &session.user else {
        return Ok(out_of_place(tag));
    };
    let is_other = |group: &Group| {
        let is_selected = matches!(group.filter, Filter::Selected | Filter::SelectedDelayed);
        !is_selected && group.events != Events::default()
    };
    let watches = groups.iter().any(is_other);
    let watched = session.wishes.as_ref().is_some_and(|known| known.watches);
    // Before it is told how mailboxes are, so that nothing can happen in between.
    if (watches || watched)
        && let Err(error) = user.mail.watch(watches).await
    {
        return Ok(Tagged::refused(tag, &error));
    }
    // §3.1: FlagChange is told with HIGHESTMODSEQ, so the client knows CONDSTORE.
    let tells_flags = |group: &Group| is_other(group) && group.events.flags;
    if !session.off().has("CONDSTORE") && groups.iter().any(tells_flags) {
        session.learn(Awareness::CondStore);
    }
    let wishes = Box::new(Wishes { groups, watches });
    if let Some(view) = &mut session.view {
        view.wanted = self::wanted(Some(&wishes));
    }
    session.wishes = Some(wishes);
    match status {
        true => Box::pin(tell_all(session, tag)).await,
        false => Ok(Tagged::ok(tag, "you will be told")),
    }
}

/// Tells how all mailboxes are that are not selected and of whose messages the client wants to hear.
async fn tell_all(session: &mut Session, tag: &str) -> Result<Tagged, Close> {
    let Some(user) = &session.user else {
        return Ok(out_of_place(tag));
    };
    let mailboxes = match user.mail.list_own().await {
        Ok(mailboxes) => mailboxes,
        Err(error) => return Ok(Tagged::refused(tag, &error)),
    };
    for mailbox in mailboxes.iter().filter(|mailbox| mailbox.exists) {
        let wanted = |events: &Events| events.messages.then_some(events.flags);
        if let Some(Some(flags)) = session.events_of(mailbox).map(wanted)
            && let Err(error) = session.tell_status(&mailbox.name, flags).await
        {
            return Ok(Tagged::refused(tag, &error));
        }
        session.wire.flush_if_full().await?;
    }
    Ok(Tagged::ok(tag, "you will be told"))
}

/// What decides to which groups a mailbox belongs.
pub(super) fn candidate(mailbox: &MailboxInfo) -> Candidate<'_> {
    Candidate {
        name: &mailbox.name,
        // Mail for a user goes there.
        is_inbox: mailbox.name == "INBOX" || mailbox.special_use == Some(SpecialUse::Junk),
        is_personal: !mailbox.name.starts_with(OTHER_USERS),
        is_subscribed: mailbox.subscribed,
    }
}

impl Session {
    fn events_of(&self, mailbox: &MailboxInfo) -> Option<&Events> {
        self.wishes.as_ref()?.events_of(candidate(mailbox))
    }

    /// Tells what may be told while no command is under way.
    pub(crate) async fn push(&mut self) -> Result<(), Close> {
        self.tell_selected().await?;
        self.tell_happenings().await?;
        self.wire.flush().await?;
        self.wire.settle();
        Ok(())
    }

    /// Tells what happened to the selected mailbox, if that is wanted.
    async fn tell_selected(&mut self) -> Result<(), Close> {
        let selected = self.wishes.as_ref().and_then(|wishes| wishes.selected());
        let at_once = match selected {
            Some((_, at_once)) => at_once,
            // RFC 5267 §4.3.2: at any time, what is only told in answers aside.
            None if self.is_following() => false,
            None => return Ok(()),
        };
        self.note_events()?;
        self.refresh().await?;
        self.tell(match at_once {
            true => Expunges::Allowed,
            false => Expunges::Held,
        })
        .await
    }

    /// Tells what happened to mailboxes that are not selected.
    pub(crate) async fn tell_happenings(&mut self) -> Result<(), Close> {
        loop {
            let Some(user) = &self.user else {
                return Ok(());
            };
            let watches = self.wishes.as_ref().is_some_and(|wishes| wishes.watches);
            if !watches || !user.mail.take_rung() {
                return Ok(());
            }
            loop {
                let Some(user) = &self.user else {
                    return Ok(());
                };
                // Boxed, all of it: who idles waits in the same place, and as a rule without having asked for any of this.
                let happened = Box::pin(user.mail.happenings()).await;
                let happened = happened.map_err(|_| farewell(Fate::Selected))?;
                if happened.lost {
                    // Of this mailbox nothing was lost, and it is the last the client hears.
                    Box::pin(self.tell_selected()).await?;
                    return Box::pin(self.give_up_watching()).await;
                }
                for happening in &happened.happenings {
                    Box::pin(self.tell_happening(happening)).await?;
                    self.wire.flush_if_full().await?;
                }
                if !happened.more {
                    break;
                }
            }
        }
    }

    // §5: NOTIFICATIONOVERFLOW, and then as after NOTIFY NONE.
    async fn give_up_watching(&mut self) -> Result<(), Close> {
        let code = Code::NotificationOverflow;
        let text = "too much happened at once, look and give NOTIFY again";
        self.wire.say(Kind::Ok, Some(&code), text);
        let nothing = Wishes {
            groups: Vec::new(),
            watches: false,
        };
        self.wishes = Some(Box::new(nothing));
        if let Some(view) = &mut self.view {
            view.wanted = Wanted::NOTHING;
        }
        match &self.user {
            Some(user) => {
                let unwatched = user.mail.watch(false).await;
                unwatched.map_err(|_| farewell(Fate::Selected))
            }
            None => Ok(()),
        }
    }

    async fn tell_happening(&mut self, happening: &Happening) -> Result<(), Close> {
        let Happening { mailbox, what } = happening;
        let Some(wishes) = &self.wishes else {
            return Ok(());
        };
        let found = match what {
            // Who hears of those subscribed to hears of one that is not any more.
            What::Subscribed => wishes.events_of(Candidate {
                is_subscribed: true,
                ..candidate(mailbox)
            }),
            What::RenamedFrom(before) => wishes.events_of(candidate(mailbox)).or_else(|| {
                wishes.events_of(Candidate {
                    name: before,
                    ..candidate(mailbox)
                })
            }),
            // §5.7: the server has no mailbox that a group could be of.
            What::Annotated(_) if mailbox.name.is_empty() => {
                let groups = wishes.groups.iter().map(|group| &group.events);
                groups.into_iter().find(|events| events.server_annotations)
            }
            What::Messages(_) | What::Created | What::Deleted | What::Annotated(_) => {
                wishes.events_of(candidate(mailbox))
            }
        };
        let Some(events) = found else {
            return Ok(());
        };
        let off = self.off();
        let out = &mut self.wire.out;
        match what {
            What::Messages(touch) => {
                let flags = events.flags;
                let is_wanted =
                    events.messages && (touch.new || touch.gone) || flags && touch.flags;
                if is_wanted
                    && let Err(CallError::Unavailable) =
                        self.tell_status(&mailbox.name, flags).await
                {
                    return Err(farewell(Fate::Selected));
                }
            }
            What::Created | What::Deleted if events.names => {
                let listed = Listed {
                    attributes: &attributes(mailbox, events, off),
                    name: &mailbox.name,
                    ..Listed::default()
                };
                write::list("LIST", &listed, self.dialect, out);
            }
            What::RenamedFrom(before) if events.names => {
                let listed = Listed {
                    attributes: &attributes(mailbox, events, off),
                    name: &mailbox.name,
                    old_name: Some(before),
                    ..Listed::default()
                };
                write::list("LIST", &listed, self.dialect, out);
            }
            What::Subscribed if events.subscriptions => {
                let listed = Listed {
                    attributes: &attributes(mailbox, events, off),
                    name: &mailbox.name,
                    ..Listed::default()
                };
                write::list("LIST", &listed, self.dialect, out);
            }
            // §5.6, §5.7; RFC 5464 §4.4.2: by their names only.
            What::Annotated(entry)
                if events.annotations && !mailbox.name.is_empty()
                    || events.server_annotations && mailbox.name.is_empty() =>
            {
                metadata::write_changed(&mailbox.name, entry, self.dialect, out);
            }
            What::Created
            | What::Deleted
            | What::RenamedFrom(_)
            | What::Subscribed
            | What::Annotated(_) => {}
        }
        Ok(())
    }

    /// Tells how a mailbox is now, if it is there and not selected.
    // §3.1, §5.1–5.3: MESSAGES, UIDNEXT and UIDVALIDITY for messages, UIDVALIDITY and HIGHESTMODSEQ for flags.
    async fn tell_status(&mut self, name: &str, flags: bool) -> Result<(), CallError> {
        let is_selected = |view: &crate::view::View| view.name == name;
        let Some(user) = self.user.as_ref() else {
            return Ok(());
        };
        if self.view.as_ref().is_some_and(is_selected) {
            return Ok(());
        }
        let mut items = vec![
            StatusItem::Messages,
            StatusItem::UidNext,
            StatusItem::UidValidity,
        ];
        if flags {
            items.push(StatusItem::Unseen);
        }
        if self.awareness >= Awareness::CondStore {
            items.push(StatusItem::HighestModSeq);
        }
        match status::look(user, self.house.append_limit, name, &items).await {
            Ok(found) => {
                status::tell(name, &items, &found, self.dialect, &mut self.wire.out);
                Ok(())
            }
            Err(CallError::Refused(refusal)) => {
                debug!(%refusal, "no status of a mailbox that changed");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Shows the last messages of which the client was told, as it wished.
    pub(crate) async fn show_new(&mut self, count: usize) -> Result<(), Close> {
        let selected = self.wishes.as_ref().and_then(|wishes| wishes.selected());
        let items: Vec<FetchItem> =
            selected.map_or_else(Vec::new, |(events, _)| events.fetch.clone());
        if items.is_empty() {
            return Ok(());
        }
        let house = std::sync::Arc::clone(&self.house);
        let Some(desk) = desk(self) else {
            return Ok(());
        };
        let end = desk.view.len();
        let places = end.saturating_sub(count)..end;
        fetch::show(desk, &house.budget, places, items).await
    }
}

// §5.4, §5.5: as LIST with extended options would show it.
fn attributes(mailbox: &MailboxInfo, events: &Events, off: Off) -> Vec<&'static str> {
    let tells = Tells {
        missing: true,
        subscribed: events.subscriptions,
    };
    list::attributes(Some(mailbox), tells, off)
}
