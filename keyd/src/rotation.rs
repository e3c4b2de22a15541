//! What becomes of keys with time: successors for old ones, an end for retired ones.

use daemon::config::Dkim;
use dkim::KeyKind;
use tracing::{error, info};

use crate::cabinet::{Cabinet, Fault};
use crate::key::{Key, Name, State};

const DAY: i64 = 86_400;
/// Days after which a key that is gone is forgotten, too: its record can have been removed since.
const REMEMBERED: i64 = 365;

/// When what is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Seconds after which a key that signs gets a successor, if ever.
    rotate: Option<i64>,
    /// Seconds for which a signature counts, and a retired key stays.
    pub overlap: i64,
}

impl Rules {
    /// As the configuration says.
    #[must_use]
    pub fn new(config: &Dkim) -> Self {
        let rotate = i64::from(config.rotate_days.value());
        let overlap = i64::try_from(config.overlap_days.value()).unwrap_or(i64::MAX);
        Self {
            rotate: (rotate > 0).then_some(rotate * DAY),
            overlap: overlap.saturating_mul(DAY),
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make a key.
    Create(String, KeyKind),
    /// Destroy the private part of this one.
    Destroy(Name),
    /// Forget this one.
    Forget(Name),
}

/// What is due at `now`.
#[must_use]
pub fn due(keys: &[Key], rules: &Rules, now: i64) -> Vec<Step> {
    let mut steps = Vec::new();
    for key in keys {
        let age = now.saturating_sub(key.since);
        match key.state {
            State::Signing if rules.rotate.is_some_and(|most| age >= most) => {
                steps.extend(successor(keys, key));
            }
            State::Retired if age >= rules.overlap => {
                steps.push(Step::Destroy(key.name.clone()));
            }
            State::Gone if age >= REMEMBERED * DAY => {
                steps.push(Step::Forget(key.name.clone()));
            }
            State::Pending | State::Signing | State::Retired | State::Gone => {}
        }
    }
    steps
}

/// The key that is to be made beside one that signs, unless one waits to take its place.
#[must_use]
pub fn successor(keys: &[Key], key: &Key) -> Option<Step> {
    let waits = |other: &Key| other.state == State::Pending && other.is_like(key);
    let is_wanted = !keys.iter().any(waits);
    is_wanted.then(|| Step::Create(key.name.domain.clone(), key.kind))
}

/// Does what is due. What cannot be done is due again at the next turn, and keeps nothing else waiting.
pub fn turn(cabinet: &Cabinet, rules: &Rules, now: i64) {
    for step in due(&cabinet.all(), rules, now) {
        if let Err(error) = take(cabinet, &step, now) {
            error!(?step, %error, "what time has made due of a key could not be done; it is tried again");
        }
    }
}

fn take(cabinet: &Cabinet, step: &Step, now: i64) -> Result<(), Fault> {
    match step {
        Step::Create(domain, kind) => {
            let key = cabinet.create(domain, None, *kind, now)?;
            info!(name = %key.name, record = key.record, "publish the record of this key, so that it takes the place of the one that signs");
        }
        Step::Destroy(name) => {
            cabinet.destroy(name, now)?;
            info!(%name, "the overlap is over: the record of this key can be removed");
        }
        Step::Forget(name) => cabinet.remove(name)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn rules(rotate: u32, overlap: u64) -> Rules {
        let text = format!("{{\"rotate_days\": {rotate}, \"overlap_days\": {overlap}}}");
        Rules::new(&serde_json::from_str(&text).unwrap())
    }

    fn key(selector: &str, state: State, days: i64) -> Key {
        Key {
            name: Name::new("a.example", selector).unwrap(),
            kind: KeyKind::Rsa2048,
            state,
            created: 0,
            since: NOW - days * DAY,
            record: String::new(),
        }
    }

    #[test]
    fn an_old_key_gets_one_successor_and_a_young_one_none() {
        let create = Step::Create("a.example".into(), KeyKind::Rsa2048);
        let old = key("a", State::Signing, 90);
        assert_eq!(
            due(std::slice::from_ref(&old), &rules(90, 14), NOW),
            [create]
        );
        assert_eq!(due(std::slice::from_ref(&old), &rules(91, 14), NOW), []);
        assert_eq!(due(std::slice::from_ref(&old), &rules(0, 14), NOW), []);
        let waiting = key("b", State::Pending, 0);
        assert_eq!(due(&[old.clone(), waiting], &rules(90, 14), NOW), []);
        // One of another kind takes no place of this one.
        let other = Key {
            kind: KeyKind::Ed25519,
            ..key("c", State::Pending, 0)
        };
        assert_eq!(due(&[old, other], &rules(90, 14), NOW).len(), 1);
    }

    #[test]
    fn a_retired_key_is_destroyed_after_the_overlap_and_forgotten_much_later() {
        let retired = key("a", State::Retired, 14);
        let name = retired.name.clone();
        let keys = [retired];
        assert_eq!(due(&keys, &rules(0, 14), NOW), [Step::Destroy(name)]);
        assert_eq!(due(&keys, &rules(0, 15), NOW), []);
        // A clock that was set back destroys nothing.
        assert_eq!(due(&keys, &rules(1, 14), NOW - 400 * DAY), []);
        let gone = key("a", State::Gone, 365);
        let name = gone.name.clone();
        assert_eq!(due(&[gone], &rules(0, 14), NOW), [Step::Forget(name)]);
        assert_eq!(due(&[key("a", State::Gone, 364)], &rules(0, 14), NOW), []);
    }

    #[test]
    fn a_year_of_rotations_leaves_at_every_moment_one_key_that_signs() {
        let home = tempfile::tempdir().unwrap();
        let cabinet = Cabinet::open(home.path(), NOW).unwrap();
        let rules = rules(90, 14);
        let first = cabinet.create("a.example", None, KeyKind::Ed25519, NOW);
        cabinet.activate(&first.unwrap().name, NOW).unwrap();
        let mut used = std::collections::BTreeSet::new();
        for day in 0..365 {
            let now = NOW + day * DAY;
            turn(&cabinet, &rules, now);
            let signing = cabinet.signing("a.example").unwrap();
            let [signing] = signing.as_slice() else {
                panic!("{signing:?}")
            };
            used.insert(signing.key.name.clone());
            // Its record is published a week later.
            let waits = cabinet.all().into_iter();
            let waits = waits.filter(|key| key.state == State::Pending);
            for key in waits.filter(|key| now - key.created >= 7 * DAY) {
                cabinet.note_seen(&key.name, now).unwrap();
            }
            // Of what signed in the last two weeks nothing is destroyed.
            for key in cabinet.all() {
                let is_early = key.state == State::Gone && now - key.created < (90 + 14) * DAY;
                assert!(!is_early, "{key:?}");
            }
        }
        assert_eq!(used.len(), 4, "{used:?}");
    }
}
