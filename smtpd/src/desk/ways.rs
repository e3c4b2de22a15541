//! Under which rules each address gets a message: those of all recipients whose mail goes there.

use std::collections::{BTreeMap, BTreeSet};

use crate::measure::Rule;

/// The rules by address, as far as any but the general ones count.
#[derive(Debug, Default)]
pub(super) struct Ways {
    rules: BTreeMap<String, BTreeSet<Rule>>,
    /// What the last recipient added.
    last: Option<(Rule, Vec<String>)>,
}

impl Ways {
    /// Notes a recipient under this rule, whose mail goes to these addresses. Without a rule there is nothing to note.
    pub(super) fn note<'a>(
        &mut self,
        rule: Option<Rule>,
        addresses: impl IntoIterator<Item = &'a String>,
    ) {
        let Some(rule) = rule else { return };
        let mut added = Vec::new();
        for address in addresses {
            let rules = self.rules.entry(address.clone()).or_default();
            if rules.insert(rule) {
                added.push(address.clone());
            }
        }
        self.last = Some((rule, added));
    }

    /// Forgets the last recipient.
    pub(super) fn take_back(&mut self) {
        let Some((rule, added)) = self.last.take() else {
            return;
        };
        for address in added {
            if let Some(rules) = self.rules.get_mut(&address) {
                rules.remove(&rule);
            }
        }
    }

    /// The rules under which the message comes to the address.
    pub(super) fn to(&self, address: &str) -> Vec<Rule> {
        let rules = self.rules.get(address).filter(|rules| !rules.is_empty());
        rules.map_or_else(
            || vec![Rule::default()],
            |rules| rules.iter().copied().collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use daemon::config::{Authentication, DomainMeasures};
    use mail::address::Domain;

    use super::*;
    use crate::measure::Rulebook;

    #[test]
    fn who_is_taken_back_leaves_only_what_others_brought() {
        let entry = |name: &str| DomainMeasures {
            names: vec![name.to_owned().try_into().unwrap()],
            ..DomainMeasures::default()
        };
        let book = Rulebook::new(&Authentication {
            domains: vec![entry("a.example"), entry("b.example")],
            ..Authentication::default()
        });
        let [a, b] = ["a.example", "b.example"]
            .map(|name| book.rule(&Domain::parse(name).unwrap()).unwrap());
        let [alice, bob] = ["alice", "bob"].map(str::to_owned);
        let mut ways = Ways::default();
        assert_eq!(ways.to(&alice), [Rule::default()]);
        ways.note(Some(a), [&alice]);
        ways.note(Some(b), [&alice, &bob]);
        assert_eq!((ways.to(&alice), ways.to(&bob)), (vec![a, b], vec![b]));
        ways.take_back();
        ways.take_back();
        assert_eq!(
            (ways.to(&alice), ways.to(&bob)),
            (vec![a], vec![Rule::default()])
        );
        // Another of the same domain adds nothing that could be taken back.
        ways.note(Some(a), [&alice]);
        ways.take_back();
        assert_eq!(ways.to(&alice), [a]);
    }
}
