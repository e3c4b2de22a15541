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
