//! Destinations that cannot be reached are left alone for a while, so that what waits for them costs neither them nor us a connection a message.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use smtp::client::Outcome;

use crate::attempt::Finding;
use crate::lanes::Destination;

/// Attempts in a row that reach nobody, before a destination rests.
const PATIENCE: u32 = 2;
/// No rest is longer, in seconds.
const LONGEST: i64 = 15 * 60;
/// Seconds one attempt has to find out whether somebody is there again. The others wait for it.
const PROBE: i64 = 5 * 60;
/// Destinations that are remembered.
const MOST: usize = 10_000;

/// How long rests are.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Seconds of the first one. Each is twice as long as the one before, up to a quarter of an hour.
    pub first: u32,
    /// By how many thousandths longer than that, so that not all end together.
    pub spread: u32,
}

/// Who cannot be reached.
#[derive(Debug, Default)]
pub struct Rests(Mutex<HashMap<Destination, Trouble>>);

#[derive(Debug)]
struct Trouble {
    /// What the last attempt brought.
    last: Finding,
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// So many attempts in a row have reached nobody.
    Failing(u32),
    /// Nobody goes there before this Unix second; so many rests were before.
    Resting { until: i64, before: u32 },
    /// One has gone there to look, and until this Unix second nobody else does.
    Probing { until: i64, before: u32 },
}

impl Trouble {
    /// Whether the destination rests, or did so a while ago.
    const fn is_fresh(&self, now: i64) -> bool {
        match self.stage {
            Stage::Failing(_) => false,
            Stage::Resting { until, .. } | Stage::Probing { until, .. } => until + LONGEST > now,
        }
    }
}

impl Rests {
    fn lock(&self) -> MutexGuard<'_, HashMap<Destination, Trouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of a message for a destination that is left alone. `None` lets it try; after a rest that is one at a time.
    pub fn instead(&self, destination: &Destination, now: i64) -> Option<Finding> {
        let mut all = self.lock();
        let Trouble { last, stage } = all.get_mut(destination)?;
        match *stage {
            Stage::Failing(_) => None,
            Stage::Resting { until, before } | Stage::Probing { until, before } if until <= now => {
                let until = now.saturating_add(PROBE);
                *stage = Stage::Probing { until, before };
                None
            }
            Stage::Resting { .. } | Stage::Probing { .. } => Some(Finding {
                text: format!("not tried again yet: {}", last.text),
                ..last.clone()
            }),
        }
    }

    /// Takes in what an attempt brought.
    pub fn note(&self, destination: &Destination, findings: &[Finding], now: i64, pace: Pace) {
        let mut all = self.lock();
        let Some(last) = findings.first().filter(|_| findings.iter().all(is_nobody)) else {
            all.remove(destination);
            return;
        };
        if all.len() >= MOST && !all.contains_key(destination) {
            all.retain(|_, trouble| trouble.is_fresh(now));
            if all.len() >= MOST {
                // What is not remembered is tried each time.
                return;
            }
        }
        let trouble = all.entry(destination.clone()).or_insert_with(|| Trouble {
            last: last.clone(),
            stage: Stage::Failing(0),
        });
        trouble.last = last.clone();
        let rest = |before: u32| {
            let pause = i64::from(pace.first) << before.min(10);
            let pause = pause.min(LONGEST);
            let longer = pause * i64::from(pace.spread) / 1000;
            let until = now.saturating_add(pause + longer);
            Stage::Resting { until, before }
        };
        trouble.stage = match trouble.stage {
            Stage::Failing(before) if before + 1 < PATIENCE => Stage::Failing(before + 1),
            Stage::Failing(_) => rest(0),
            // It was under way before that, or is somebody's last attempt.
            resting @ Stage::Resting { until, .. } if until > now => resting,
            Stage::Resting { before, .. } | Stage::Probing { before, .. } => {
                rest(before.saturating_add(1))
            }
        };
    }

    /// Lets all be tried at once: the operator wants that.
    pub fn end_all(&self) {
        self.lock().clear();
    }
}

/// Whether nobody was reached: DNS does not answer, no server takes a connection (RFC 3463 §3.5).
fn is_nobody(finding: &Finding) -> bool {
    finding.outcome == Outcome::Temporary
        && !finding.remote
        && matches!(finding.status.as_str(), "4.4.1" | "4.4.3" | "4.4.4")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::address::Domain;

    fn domain(name: &str) -> Destination {
        Destination::Domain(Domain::parse(name).unwrap())
    }

    const PACE: Pace = Pace {
        first: 60,
        spread: 0,
    };

    fn nobody() -> Vec<Finding> {
        vec![Finding::ours("4.4.1", "connection refused".into())]
    }

    #[test]
    fn a_rest_begins_when_nobody_answers_again_and_grows() {
        let (rests, dead) = (Rests::default(), domain("dead.example"));
        rests.note(&dead, &nobody(), 0, PACE);
        assert_eq!(rests.instead(&dead, 0), None);
        rests.note(&dead, &nobody(), 0, PACE);
        let mut now = 0;
        for pause in [60, 120, 240, 480, 900, 900] {
            let instead = rests.instead(&dead, now + pause - 1).unwrap();
            assert_eq!(instead.status, "4.4.1");
            assert_eq!(instead.text, "not tried again yet: connection refused");
            // What was under way all the time does not make it longer.
            rests.note(&dead, &nobody(), now + pause - 1, PACE);
            now += pause;
            assert_eq!(rests.instead(&dead, now), None);
            assert!(
                rests.instead(&dead, now).is_some(),
                "a second one goes, too"
            );
            rests.note(&dead, &nobody(), now, PACE);
        }
        assert_eq!(rests.instead(&domain("other.example"), 0), None);
    }

    #[test]
    fn a_rest_ends_with_any_answer_or_when_the_operator_wants() {
        let (rests, dead) = (Rests::default(), domain("dead.example"));
        let fall = || {
            rests.note(&dead, &nobody(), 0, PACE);
            rests.note(&dead, &nobody(), 0, PACE);
            assert!(rests.instead(&dead, 1).is_some());
        };
        fall();
        let refused = Finding {
            remote: true,
            ..Finding::ours("4.3.2", "come back later".into())
        };
        // To one of its recipients a server has said something.
        let some = [nobody(), vec![refused]].concat();
        rests.note(&dead, &some, 1, PACE);
        assert_eq!(rests.instead(&dead, 1), None);
        fall();
        rests.end_all();
        assert_eq!(rests.instead(&dead, 1), None);
    }

    #[test]
    fn who_went_to_look_and_never_came_back_is_followed_by_another() {
        let (rests, dead) = (Rests::default(), domain("dead.example"));
        let pace = Pace {
            first: 60,
            spread: 500,
        };
        rests.note(&dead, &nobody(), 0, pace);
        rests.note(&dead, &nobody(), 0, pace);
        assert!(rests.instead(&dead, 89).is_some());
        assert_eq!(rests.instead(&dead, 90), None);
        assert!(rests.instead(&dead, 90 + PROBE - 1).is_some());
        assert_eq!(rests.instead(&dead, 90 + PROBE), None);
    }

    #[test]
    fn only_so_many_are_remembered_and_not_for_ever() {
        let rests = Rests::default();
        for number in 0..=MOST {
            let dead = domain(&format!("d{number}.example"));
            rests.note(&dead, &nobody(), 0, PACE);
            rests.note(&dead, &nobody(), 0, PACE);
        }
        assert_eq!(rests.lock().len(), MOST);
        let late = domain("late.example");
        rests.note(&late, &nobody(), 60 + LONGEST - 1, PACE);
        assert!(!rests.lock().contains_key(&late));
        rests.note(&late, &nobody(), 60 + LONGEST, PACE);
        assert_eq!(rests.lock().len(), 1);
    }
}
