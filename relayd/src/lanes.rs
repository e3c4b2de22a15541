//! Whose turn it is: one lane per destination, served round-robin, so that a slow or crowded destination holds up only itself.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};

use mail::address::Domain;
use smtp::parameter::Priority;

use crate::queue::QueueId;

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The servers of a domain.
    Domain(Domain),
    /// The one server that takes everything.
    Smarthost,
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
    /// How urgent it is.
    pub priority: Priority,
}

#[derive(Debug, Default)]
struct Lane {
    /// The most urgent first, of them the one that came first.
    waiting: BTreeMap<(Reverse<Priority>, u64), QueueId>,
    active: usize,
}

/// All lanes.
#[derive(Debug)]
pub struct Lanes {
    lanes: HashMap<Destination, Lane>,
    /// Destinations with waiting jobs, each once; the first has the next turn.
    ring: VecDeque<Destination>,
    active: usize,
    /// Jobs that ever came.
    count: u64,
    most: usize,
    most_per_destination: usize,
}

impl Lanes {
    /// No jobs; at most `most` at once, and `most_per_destination` to one domain.
    #[must_use]
    pub fn new(most: usize, most_per_destination: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            ring: VecDeque::new(),
            active: 0,
            count: 0,
            most,
            most_per_destination,
        }
    }

    /// Lines a job up.
    pub fn push(&mut self, job: Job) {
        let lane = self.lanes.entry(job.destination.clone()).or_default();
        if lane.waiting.is_empty() {
            self.ring.push_back(job.destination);
        }
        self.count += 1;
        lane.waiting
            .insert((Reverse(job.priority), self.count), job.id);
    }

    /// The next job that may start now; it counts as active until [`Lanes::done`].
    pub fn start_next(&mut self) -> Option<Job> {
        if self.active >= self.most {
            return None;
        }
        for _ in 0..self.ring.len() {
            let destination = self.ring.pop_front()?;
            let limit = match destination {
                Destination::Domain(_) => self.most_per_destination,
                Destination::Smarthost | Destination::Here => self.most,
            };
            let Some(lane) = self.lanes.get_mut(&destination) else {
                continue;
            };
            let next = if lane.active < limit {
                lane.waiting.pop_first()
            } else {
                None
            };
            if !lane.waiting.is_empty() {
                self.ring.push_back(destination.clone());
            }
            if let Some(((Reverse(priority), _), id)) = next {
                lane.active += 1;
                self.active += 1;
                return Some(Job {
                    id,
                    destination,
                    priority,
                });
            }
        }
        None
    }

    /// A job is over.
    pub fn done(&mut self, destination: &Destination) {
        self.active = self.active.saturating_sub(1);
        if let Some(lane) = self.lanes.get_mut(destination) {
            lane.active = lane.active.saturating_sub(1);
            if lane.active == 0 && lane.waiting.is_empty() {
                self.lanes.remove(destination);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(domain: &str) -> Job {
        let destination = Destination::Domain(Domain::parse(domain).unwrap());
        Job {
            id: QueueId::generate().unwrap(),
            destination,
            priority: Priority::default(),
        }
    }

    fn started(lanes: &mut Lanes) -> Vec<String> {
        std::iter::from_fn(|| lanes.start_next())
            .map(|job| match job.destination {
                Destination::Domain(domain) => domain.to_string(),
                Destination::Smarthost => "smarthost".into(),
                Destination::Here => "here".into(),
            })
            .collect()
    }

    #[test]
    fn a_crowded_destination_does_not_hold_up_the_others() {
        let mut lanes = Lanes::new(4, 5);
        (0..100).for_each(|_| lanes.push(job("crowd.example")));
        lanes.push(job("a.example"));
        lanes.push(job("b.example"));
        assert_eq!(
            started(&mut lanes),
            ["crowd.example", "a.example", "b.example", "crowd.example"]
        );
    }

    #[test]
    fn no_domain_gets_more_than_its_limit() {
        let mut lanes = Lanes::new(50, 2);
        (0..5).for_each(|_| lanes.push(job("a.example")));
        assert_eq!(started(&mut lanes).len(), 2);
        lanes.done(&job("a.example").destination);
        assert_eq!(started(&mut lanes).len(), 1);
    }

    #[test]
    fn the_most_urgent_of_a_lane_goes_first() {
        let mut lanes = Lanes::new(1, 1);
        let parse = smtp::parameter::MailParameters::parse;
        let jobs: Vec<_> = ["-1", "0", "7", "0"]
            .map(|text| Job {
                priority: parse(&format!("MT-PRIORITY={text}"))
                    .unwrap()
                    .priority
                    .unwrap(),
                ..job("a.example")
            })
            .into();
        jobs.iter().for_each(|job| lanes.push(job.clone()));
        for place in [2, 1, 3, 0] {
            let next = lanes.start_next().unwrap();
            assert_eq!(next, jobs[place]);
            lanes.done(&next.destination);
        }
    }

    #[test]
    fn lanes_that_are_empty_are_forgotten() {
        let mut lanes = Lanes::new(50, 2);
        lanes.push(job("a.example"));
        started(&mut lanes);
        lanes.done(&job("a.example").destination);
        assert!(lanes.lanes.is_empty() && lanes.ring.is_empty() && lanes.active == 0);
    }

    #[test]
    fn the_smarthost_may_have_all_connections() {
        let mut lanes = Lanes::new(10, 2);
        (0..20).for_each(|_| {
            lanes.push(Job {
                id: QueueId::generate().unwrap(),
                destination: Destination::Smarthost,
                priority: Priority::default(),
            });
        });
        assert_eq!(started(&mut lanes).len(), 10);
    }
}
