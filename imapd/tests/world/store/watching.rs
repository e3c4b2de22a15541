//! Sessions that watch all mailboxes.

use daemon::channel::Answered;
use ipc::Refusal;
use ipc::session::{Happening, SessionAnswer, SessionEvent, Touch, What};

use super::{Peer, State, Store};

/// What a session has yet to ask for.
#[derive(Default)]
pub(super) struct Watch {
    happenings: Vec<Happening>,
    lost: bool,
}

impl Store {
    /// Every session that watches has lost what happened.
    pub(crate) fn lose_happenings(&self) {
        let state = self.state.lock().unwrap();
        for peer in state.peers() {
            if let Some(watch) = peer.watch.lock().unwrap().as_mut() {
                watch.lost = true;
                let _ = peer.events.send(SessionEvent::Happened);
            }
        }
    }

    /// A mailbox appears before the answer to the next SELECT.
    pub(crate) fn create_at_select(&self, name: &str) {
        self.state.lock().unwrap().appears = Some(name.into());
    }

    /// A mailbox appears, and that those who watch were told so was lost.
    pub(crate) fn create_unheard(&self, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.mailboxes.entry(name.into()).or_default();
        let mailbox = state.info(name);
        for peer in state.peers() {
            if let Some(watch) = peer.watch.lock().unwrap().as_mut() {
                watch.happenings.push(Happening {
                    mailbox: mailbox.clone(),
                    what: What::Created,
                });
            }
        }
    }

    /// How many sessions watch.
    pub(crate) fn watching(&self) -> usize {
        let state = self.state.lock().unwrap();
        let watching = |peer: &std::sync::Arc<Peer>| peer.watch.lock().unwrap().is_some();
        state.peers().filter(watching).count()
    }
}

impl State {
    pub(super) fn happened(&self, name: &str, what: &What) {
        let mailbox = self.info(name);
        for peer in self.peers() {
            let mut watch = peer.watch.lock().unwrap();
            let Some(watch) = watch.as_mut() else {
                continue;
            };
            let known = watch.happenings.iter_mut().find_map(|known| {
                let is_it = known.mailbox.name == name;
                match &mut known.what {
                    What::Messages(touch) if is_it => Some(touch),
                    _ => None,
                }
            });
            match (known, what) {
                (Some(known), What::Messages(touch)) => *known = known.and(*touch),
                _ => watch.happenings.push(Happening {
                    mailbox: mailbox.clone(),
                    what: what.clone(),
                }),
            }
            if watch.happenings.len() == 1 {
                let _ = peer.events.send(SessionEvent::Happened);
            }
        }
    }

    pub(super) fn touched(&self, name: &str, event: &SessionEvent) {
        let (mut new, mut gone, mut flags) = (false, false, false);
        match event {
            SessionEvent::Added(_) => new = true,
            SessionEvent::Removed(_) => gone = true,
            SessionEvent::Changed(_) => flags = true,
            _ => return,
        }
        let touch = Touch { new, gone, flags };
        self.happened(name, &What::Messages(touch));
    }

    /// Pages of two, so that paging is seen to work.
    pub(super) fn fetch(peer: &Peer) -> SessionAnswer {
        let mut watch = peer.watch.lock().unwrap();
        let (mut happenings, mut lost) = (Vec::new(), false);
        if let Some(watch) = watch.as_mut() {
            happenings = std::mem::take(&mut watch.happenings);
            lost = std::mem::take(&mut watch.lost);
            if happenings.len() > 2 {
                watch.happenings = happenings.split_off(2);
            }
        }
        SessionAnswer::HappeningsListed {
            happenings,
            more: watch
                .as_ref()
                .is_some_and(|watch| !watch.happenings.is_empty()),
            lost,
        }
    }

    pub(super) fn watch(peer: &Peer, wanted: bool) -> Result<Answered<SessionAnswer>, Refusal> {
        *peer.watch.lock().unwrap() = wanted.then(Watch::default);
        Ok(Answered::plain(SessionAnswer::Done))
    }
}
