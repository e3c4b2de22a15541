//! Places for blocking work, shared so that no customer's work keeps others waiting.
//!
//! A piece of work takes a place, and waits where all are taken. Those who wait are served in turn by party, not by who came first:
//! a party waits for one piece of work of each of the others, however many each of them has. And no customer has more than
//! [`MOST`] places at once, so that work that is slow leaves some for the others.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// Pieces of blocking work at once. Many, because writers wait for the disk together and share a flush.
pub(super) const PLACES: usize = 64;
/// Those of one customer.
const MOST: usize = PLACES / 4 * 3;

/// Whose work it is.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Party {
    /// Nobody's in particular: deliveries, the operator, what deliverd does by itself.
    House,
    /// That of the mail sessions of a tenant's users.
    Tenant(String),
    /// That of a domain's that belongs to no tenant.
    Domain(String),
}

impl Party {
    /// Places it may have at once.
    const fn most(&self) -> usize {
        match self {
            Self::House => PLACES,
            Self::Tenant(_) | Self::Domain(_) => MOST,
        }
    }
}

/// All places.
#[derive(Debug)]
pub(crate) struct Jobs {
    state: Mutex<State>,
    /// Told when the last piece of work ended.
    emptied: Notify,
}

/// A free place means that nobody waits who may take it.
#[derive(Debug)]
struct State {
    free: usize,
    is_closed: bool,
    /// Those who work or wait.
    lines: HashMap<Arc<Party>, Line>,
    /// Who waits and may have another place, the next one first; each of them once.
    turns: VecDeque<Arc<Party>>,
}

#[derive(Debug, Default)]
struct Line {
    at_work: usize,
    waiting: VecDeque<oneshot::Sender<Place>>,
}

/// The right to work; it goes to somebody else when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    jobs: Arc<Jobs>,
    /// `None` when it was given back.
    party: Option<Arc<Party>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(party) = self.party.take() {
            self.jobs.give_back(party);
        }
    }
}

/// There are no places any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl Jobs {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                free: PLACES,
                is_closed: false,
                lines: HashMap::new(),
                turns: VecDeque::new(),
            }),
            emptied: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, when it is this party's turn.
    ///
    /// # Errors
    /// [`Closed`].
    pub(crate) async fn take(self: &Arc<Self>, party: &Arc<Party>) -> Result<Place, Closed> {
        let turn = {
            let mut state = self.lock();
            if state.is_closed {
                return Err(Closed);
            }
            if state.seat(party) {
                return Ok(self.place(Arc::clone(party)));
            }
            state.queue(party)
        };
        turn.await.map_err(|_| Closed)
    }

    /// Takes a place if there is one at once.
    pub(crate) fn try_take(self: &Arc<Self>, party: &Arc<Party>) -> Option<Place> {
        let mut state = self.lock();
        let is_seated = !state.is_closed && state.seat(party);
        is_seated.then(|| self.place(Arc::clone(party)))
    }

    /// Gives out no more places, and waits until those who work or wait are done.
    pub(crate) async fn close(&self) {
        self.lock().is_closed = true;
        while self.lock().free < PLACES {
            self.emptied.notified().await;
        }
    }

    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Pieces of a party's work that wait.
    #[cfg(test)]
    pub(super) fn waiting(&self, party: &Party) -> usize {
        let state = self.lock();
        state.lines.get(party).map_or(0, |line| line.waiting.len())
    }

    fn place(self: &Arc<Self>, party: Arc<Party>) -> Place {
        Place {
            jobs: Arc::clone(self),
            party: Some(party),
        }
    }

    fn give_back(self: &Arc<Self>, party: Arc<Party>) {
        let mut returned = vec![party];
        let mut is_empty = false;
        while !returned.is_empty() {
            let called = {
                let mut state = self.lock();
                returned.drain(..).for_each(|party| state.leave(&party));
                let called = state.call();
                is_empty = state.free == PLACES;
                called
            };
            for (party, turn) in called {
                // Whoever waited gave up at this moment: it is the next one's turn.
                if let Err(mut place) = turn.send(self.place(party)) {
                    returned.extend(place.party.take());
                }
            }
        }
        if is_empty {
            self.emptied.notify_one();
        }
    }
}

impl State {
    /// Gives the party a place if one is free and it may have another.
    fn seat(&mut self, party: &Arc<Party>) -> bool {
        let at_work = self.lines.get(party).map_or(0, |line| line.at_work);
        if self.free == 0 || at_work >= party.most() {
            return false;
        }
        self.free -= 1;
        self.lines.entry(Arc::clone(party)).or_default().at_work += 1;
        true
    }

    /// Has the party wait.
    fn queue(&mut self, party: &Arc<Party>) -> oneshot::Receiver<Place> {
        let (turn, place) = oneshot::channel();
        let line = self.lines.entry(Arc::clone(party)).or_default();
        line.waiting.push_back(turn);
        if line.waiting.len() == 1 && line.at_work < party.most() {
            self.turns.push_back(Arc::clone(party));
        }
        place
    }

    /// Takes a place back.
    fn leave(&mut self, party: &Arc<Party>) {
        self.free += 1;
        let Some(line) = self.lines.get_mut(party) else {
            return;
        };
        let had_most = line.at_work == party.most();
        line.at_work -= 1;
        if line.waiting.is_empty() {
            if line.at_work == 0 {
                self.lines.remove(party);
            }
        } else if had_most {
            self.turns.push_back(Arc::clone(party));
        }
    }

    /// Gives free places to those whose turn it is.
    fn call(&mut self) -> Vec<(Arc<Party>, oneshot::Sender<Place>)> {
        let mut called = Vec::new();
        while self.free > 0 {
            let Some(party) = self.turns.pop_front() else {
                break;
            };
            let Some(line) = self.lines.get_mut(&party) else {
                continue;
            };
            while let Some(turn) = line.waiting.pop_front() {
                if !turn.is_closed() {
                    line.at_work += 1;
                    self.free -= 1;
                    called.push((Arc::clone(&party), turn));
                    break;
                }
            }
            if !line.waiting.is_empty() && line.at_work < party.most() {
                self.turns.push_back(party);
            } else if line.waiting.is_empty() && line.at_work == 0 {
                self.lines.remove(&party);
            }
        }
        called
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn tenant(name: &str) -> Arc<Party> {
        Arc::new(Party::Tenant(name.into()))
    }

    type Turn = Pin<Box<dyn Future<Output = Result<Place, Closed>>>>;

    /// Asks for a place; the place, or what waits for it.
    fn ask(jobs: &Arc<Jobs>, party: &Arc<Party>) -> Result<Place, Turn> {
        let (jobs, party) = (Arc::clone(jobs), Arc::clone(party));
        let mut turn: Turn = Box::pin(async move { jobs.take(&party).await });
        match poll(&mut turn) {
            Some(place) => Ok(place.unwrap()),
            None => Err(turn),
        }
    }

    fn poll(turn: &mut Turn) -> Option<Result<Place, Closed>> {
        match turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    fn take(jobs: &Arc<Jobs>, party: &Arc<Party>, count: usize) -> Vec<Place> {
        let place = |_| ask(jobs, party).unwrap_or_else(|_| panic!("no place"));
        (0..count).map(place).collect()
    }

    fn wait(jobs: &Arc<Jobs>, party: &Arc<Party>, count: usize) -> Vec<Turn> {
        let turn = |_| ask(jobs, party).err().unwrap();
        (0..count).map(turn).collect()
    }

    /// Those who have got a place since, and how many wait on.
    fn served(turns: &mut Vec<Turn>) -> Vec<Place> {
        let mut places = Vec::new();
        turns.retain_mut(|turn| match poll(turn) {
            Some(place) => {
                places.push(place.unwrap());
                false
            }
            None => true,
        });
        places
    }

    fn is_as_new(jobs: &Jobs) -> bool {
        let state = jobs.lock();
        state.free == PLACES && state.lines.is_empty() && state.turns.is_empty()
    }

    #[test]
    fn a_customer_leaves_some_places_to_others() {
        let jobs = Jobs::new();
        let (busy, other) = (tenant("busy"), tenant("other"));
        let mut held = take(&jobs, &busy, MOST);
        let mut more = wait(&jobs, &busy, 1);
        assert!(jobs.try_take(&busy).is_none());
        held.extend(take(&jobs, &other, 1));
        held.extend(take(&jobs, &Arc::new(Party::House), PLACES - MOST - 1));
        assert!(jobs.try_take(&other).is_none());
        // The place of another is none for who has most already.
        held.pop();
        assert!(served(&mut more).is_empty());
        held.swap_remove(0);
        assert_eq!(served(&mut more).len(), 1);
        drop(held);
        assert!(is_as_new(&jobs));
    }

    #[test]
    fn who_waits_is_served_by_party_and_not_by_who_came_first() {
        let jobs = Jobs::new();
        let (busy, second, third) = (tenant("busy"), tenant("second"), tenant("third"));
        let house = Arc::new(Party::House);
        let mut held = take(&jobs, &house, PLACES);
        let mut flood = wait(&jobs, &busy, 1000);
        let mut others = wait(&jobs, &second, 2);
        others.extend(wait(&jobs, &third, 1));
        // One of the flood, one of each of the others, and so on.
        let mut working = Vec::new();
        for (of_flood, of_others) in [(1, 0), (0, 1), (0, 1), (1, 0), (0, 1), (1, 0), (1, 0)] {
            held.pop();
            let (flooding, other) = (served(&mut flood), served(&mut others));
            assert_eq!((flooding.len(), other.len()), (of_flood, of_others));
            working.extend(flooding.into_iter().chain(other));
        }
        drop((held, working, flood, others));
        assert!(is_as_new(&jobs));
    }

    #[test]
    fn who_gave_up_waiting_keeps_no_place() {
        let jobs = Jobs::new();
        let (one, other) = (tenant("one"), tenant("other"));
        let mut held = take(&jobs, &Arc::new(Party::House), PLACES);
        drop(wait(&jobs, &one, 5));
        let mut turns = wait(&jobs, &other, 1);
        let unheard = wait(&jobs, &one, 1);
        held.pop();
        assert!(served(&mut turns).is_empty());
        // It was given the place, and goes without having looked.
        drop(unheard);
        let last = served(&mut turns);
        assert_eq!(last.len(), 1);
        drop(last);
        drop(held);
        assert!(is_as_new(&jobs));
    }

    #[tokio::test]
    async fn a_close_waits_for_those_who_work_and_lets_nobody_in() {
        let jobs = Jobs::new();
        let one = tenant("one");
        let held = take(&jobs, &Arc::new(Party::House), PLACES);
        let mut waiting = wait(&jobs, &one, 1);
        let mut closing = pin!(jobs.close());
        let mut context = Context::from_waker(Waker::noop());
        assert!(closing.as_mut().poll(&mut context).is_pending());
        drop(held);
        assert!(closing.as_mut().poll(&mut context).is_pending());
        let last = served(&mut waiting);
        assert_eq!(last.len(), 1);
        drop(last);
        closing.await;
        assert_eq!(jobs.take(&one).await.err(), Some(Closed));
        assert!(jobs.try_take(&one).is_none());
    }
}
