//! Whose turn it is: each party in turn, and of one party's mail each destination in turn, so that neither who sends much nor a slow
//! or crowded destination holds up others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use mail::address::Domain;
use smtp::parameter::Priority;

use crate::detour::Detour;
use crate::queue::QueueId;
use crate::turns::{Party, Rank};

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The servers of a domain.
    Domain(Domain),
    /// The one server that takes everything.
    Smarthost,
    /// A server the operator chose for some messages.
    Chosen(Detour),
    /// Users here.
    Here,
}

/// A turn: take this message there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Which message.
    pub id: QueueId,
    /// Where to.
    pub destination: Destination,
    /// Whose it is, and how urgent.
    pub rank: Rank,
}

/// The most urgent first, of them the one that came first.
type Waiting = BTreeMap<(Reverse<Priority>, u64), QueueId>;

/// What one party has.
#[derive(Debug, Default)]
struct Share {
    active: usize,
    /// None of them is empty.
    waiting: HashMap<Destination, Waiting>,
    /// The destinations in `waiting` that are not known to be crowded, each once; the first has the next turn.
    ring: VecDeque<Destination>,
}

/// What is under way to one destination.
#[derive(Debug, Default)]
struct Lane {
    active: usize,
    /// Parties that wait until it is less crowded, each once.
    parked: Vec<Arc<Party>>,
}

/// All of them.
#[derive(Debug)]
pub struct Lanes {
    shares: HashMap<Arc<Party>, Share>,
    lanes: HashMap<Destination, Lane>,
    /// Parties whose share has a destination in its ring and may have one job more, each once; the first has the next turn.
    ring: VecDeque<Arc<Party>>,
    active: usize,
    /// Jobs that ever came.
    count: u64,
    most: usize,
    most_per_destination: usize,
}

impl Lanes {
    /// No jobs; at most `most` at once, and `most_per_destination` to one domain. No party has more than three quarters of them.
    #[must_use]
    pub fn new(most: usize, most_per_destination: usize) -> Self {
        Self {
            shares: HashMap::new(),
            lanes: HashMap::new(),
            ring: VecDeque::new(),
            active: 0,
            count: 0,
            most,
            most_per_destination,
        }
    }

    const fn most_per_party(&self) -> usize {
        self.most - self.most / 4
    }

    const fn most_to(&self, destination: &Destination) -> usize {
        match destination {
            Destination::Domain(_) | Destination::Chosen(_) => self.most_per_destination,
            Destination::Smarthost | Destination::Here => self.most,
        }
    }

    /// Lines a job up.
    pub fn push(&mut self, job: Job) {
        let Job {
            id,
            destination,
            rank: Rank { party, priority },
        } = job;
        self.count += 1;
        let share = self.shares.entry(Arc::clone(&party)).or_default();
        let waiting = share.waiting.entry(destination.clone()).or_default();
        let is_first = waiting.is_empty();
        waiting.insert((Reverse(priority), self.count), id);
        if is_first {
            self.offer(&party, destination);
        }
    }

    /// Gives a party a turn at a destination for which it has something.
    fn offer(&mut self, party: &Arc<Party>, destination: Destination) {
        let most = self.most_per_party();
        if let Some(share) = self.shares.get_mut(party) {
            share.ring.push_back(destination);
            if share.ring.len() == 1 && share.active < most {
                self.ring.push_back(Arc::clone(party));
            }
        }
    }

    /// The next job that may start now; it counts as active until [`Lanes::done`].
    pub fn start_next(&mut self) -> Option<Job> {
        if self.active >= self.most {
            return None;
        }
        loop {
            let party = self.ring.pop_front()?;
            let destination = self.shares.get_mut(&party)?.ring.pop_front()?;
            let limit = self.most_to(&destination);
            let lane = self.lanes.entry(destination.clone()).or_default();
            let is_crowded = lane.active >= limit;
            if is_crowded {
                lane.parked.push(Arc::clone(&party));
            } else {
                lane.active += 1;
            }
            let most = self.most_per_party();
            let share = self.shares.get_mut(&party)?;
            if is_crowded {
                if !share.ring.is_empty() {
                    self.ring.push_front(party);
                }
                continue;
            }
            let waiting = share.waiting.get_mut(&destination)?;
            let ((Reverse(priority), _), id) = waiting.pop_first()?;
            if waiting.is_empty() {
                share.waiting.remove(&destination);
            } else {
                share.ring.push_back(destination.clone());
            }
            share.active += 1;
            self.active += 1;
            if !share.ring.is_empty() && share.active < most {
                self.ring.push_back(Arc::clone(&party));
            }
            return Some(Job {
                id,
                destination,
                rank: Rank { party, priority },
            });
        }
    }

    /// A job is over.
    pub fn done(&mut self, job: &Job) {
        self.active = self.active.saturating_sub(1);
        let most = self.most_per_party();
        let party = &job.rank.party;
        if let Some(share) = self.shares.get_mut(party) {
            let had_most = share.active == most;
            share.active = share.active.saturating_sub(1);
            if share.active == 0 && share.waiting.is_empty() {
                self.shares.remove(party);
            } else if had_most && !share.ring.is_empty() {
                self.ring.push_back(Arc::clone(party));
            }
        }
        let Some(lane) = self.lanes.get_mut(&job.destination) else {
            return;
        };
        lane.active = lane.active.saturating_sub(1);
        let parked = std::mem::take(&mut lane.parked);
        if lane.active == 0 {
            self.lanes.remove(&job.destination);
        }
        for party in parked {
            self.offer(&party, job.destination.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job_of(party: &Arc<Party>, domain: &str) -> Job {
        let destination = Destination::Domain(Domain::parse(domain).unwrap());
        Job {
            id: QueueId::generate().unwrap(),
            destination,
            rank: Rank {
                party: Arc::clone(party),
                priority: Priority::default(),
            },
        }
    }

    fn job(domain: &str) -> Job {
        job_of(&Arc::default(), domain)
    }

    fn start(lanes: &mut Lanes) -> Vec<Job> {
        std::iter::from_fn(|| lanes.start_next()).collect()
    }

    fn name(job: &Job) -> String {
        match &job.destination {
            Destination::Domain(domain) => domain.to_string(),
            Destination::Smarthost => "smarthost".into(),
            Destination::Chosen(detour) => detour.to_string(),
            Destination::Here => "here".into(),
        }
    }

    fn started(lanes: &mut Lanes) -> Vec<String> {
        start(lanes).iter().map(name).collect()
    }

    fn tenant(name: &str) -> Arc<Party> {
        Arc::new(Party::Tenant(name.into()))
    }

    fn is_as_new(lanes: &Lanes) -> bool {
        lanes.shares.is_empty() && lanes.lanes.is_empty() && lanes.ring.is_empty()
    }

    #[test]
    fn a_crowded_destination_does_not_hold_up_the_others() {
        let mut lanes = Lanes::new(5, 5);
        (0..100).for_each(|_| lanes.push(job("crowd.example")));
        lanes.push(job("a.example"));
        lanes.push(job("b.example"));
        assert_eq!(
            started(&mut lanes),
            ["crowd.example", "a.example", "b.example", "crowd.example"]
        );
    }

    // Of ten thousand messages that all wait for servers that do not answer, to as many domains.
    #[test]
    fn a_newsletter_holds_up_nobody_elses_mail() {
        let mut lanes = Lanes::new(8, 2);
        let (busy, second, third) = (tenant("busy"), tenant("second"), tenant("third"));
        for number in 0..10_000 {
            lanes.push(job_of(&busy, &format!("d{number}.example")));
        }
        let mut running = start(&mut lanes);
        assert_eq!(running.len(), 6);
        // Others begin at once …
        lanes.push(job_of(&second, "a.example"));
        lanes.push(job_of(&second, "b.example"));
        running.extend(start(&mut lanes));
        assert_eq!(running.len(), 8);
        // … or, where they too have all there is, with the next job that ends, whosever it is.
        lanes.push(job_of(&second, "c.example"));
        lanes.push(job_of(&third, "d1.example"));
        let mut order = Vec::new();
        for _ in 0..4 {
            lanes.done(&running.remove(0));
            let next = start(&mut lanes);
            assert_eq!(next.len(), 1);
            order.push(name(&next[0]));
            running.extend(next);
        }
        assert_eq!(
            order,
            ["c.example", "d1.example", "d6.example", "d7.example"]
        );
    }

    #[test]
    fn a_place_at_a_crowded_destination_goes_to_each_party_in_turn() {
        let mut lanes = Lanes::new(8, 2);
        let (busy, other) = (tenant("busy"), tenant("other"));
        (0..50).for_each(|_| lanes.push(job_of(&busy, "crowd.example")));
        let mut running = start(&mut lanes);
        (0..3).for_each(|_| lanes.push(job_of(&other, "crowd.example")));
        let mut turns = Vec::new();
        for _ in 0..6 {
            lanes.done(&running.remove(0));
            let next = start(&mut lanes);
            turns.extend(next.iter().map(|job| Arc::clone(&job.rank.party)));
            running.extend(next);
        }
        let of_other = turns.iter().filter(|party| **party == other).count();
        assert_eq!((turns.len(), of_other), (6, 3));
        while let Some(job) = running.pop() {
            lanes.done(&job);
            running.extend(start(&mut lanes));
        }
        assert!(is_as_new(&lanes));
    }

    #[test]
    fn no_domain_gets_more_than_its_limit() {
        let mut lanes = Lanes::new(50, 2);
        (0..5).for_each(|_| lanes.push(job("a.example")));
        let running = start(&mut lanes);
        assert_eq!(running.len(), 2);
        lanes.done(&running[0]);
        assert_eq!(started(&mut lanes).len(), 1);
    }

    #[test]
    fn of_one_partys_mail_to_one_destination_the_most_urgent_goes_first() {
        let priority = |text: &str| {
            let parameters = format!("MT-PRIORITY={text}");
            let parameters = smtp::parameter::MailParameters::parse(&parameters);
            parameters.unwrap().priority.unwrap()
        };
        let mut lanes = Lanes::new(1, 1);
        let mut jobs = Vec::new();
        for text in ["0", "-2", "4", "4"] {
            let mut job = job("a.example");
            job.rank.priority = priority(text);
            jobs.push(job.clone());
            lanes.push(job);
        }
        for expected in [2, 3, 0, 1] {
            let next = lanes.start_next().unwrap();
            assert_eq!(next.id, jobs[expected].id);
            lanes.done(&next);
        }
        assert!(is_as_new(&lanes));
    }

    #[test]
    fn to_the_smarthost_go_as_many_as_there_may_be() {
        let mut lanes = Lanes::new(8, 2);
        for party in [tenant("busy"), tenant("other")] {
            (0..20).for_each(|_| {
                lanes.push(Job {
                    destination: Destination::Smarthost,
                    ..job_of(&party, "a.example")
                });
            });
        }
        assert_eq!(started(&mut lanes).len(), 8);
    }
}
