//! How well a message matches a fuzzy search (RFC 6203 §4).

use crate::search::{Key, Subject, Within};
use crate::sequence::Ranges;

/// The highest score there is.
pub const HIGHEST: u8 = 100;

impl<S> Key<S> {
    /// Whether FUZZY is anywhere in it.
    #[must_use]
    pub fn is_fuzzy(&self) -> bool {
        match self {
            Self::Fuzzy(_) => true,
            Self::Not(key) => key.is_fuzzy(),
            Self::Or(a, b) => a.is_fuzzy() || b.is_fuzzy(),
            Self::And(keys) => keys.iter().any(Self::is_fuzzy),
            _ => false,
        }
    }
}

impl Key<Ranges> {
    /// The score of a message that matches, 1 to 100. It depends on the texts that are looked for with FUZZY: of several that must all
    /// be there it is the mean, of alternatives the better one. Other keys match or do not, and count for nothing; nor do texts of
    /// which is not known how near they are.
    #[must_use]
    pub fn relevancy(&self, subject: &impl Subject) -> u8 {
        let score = self.score(subject, false);
        score.map_or(HIGHEST, |score| score.clamp(1, HIGHEST))
    }

    fn score(&self, subject: &impl Subject, is_fuzzy: bool) -> Option<u8> {
        match self {
            Self::Header { .. } | Self::Body(_) | Self::Text(_) if is_fuzzy => {
                self.nearness(subject)
            }
            Self::Fuzzy(key) => key.score(subject, true),
            Self::Or(a, b) => {
                let scores = [a.score(subject, is_fuzzy), b.score(subject, is_fuzzy)];
                // An alternative that is not there says nothing about the other.
                scores
                    .into_iter()
                    .flatten()
                    .filter(|score| *score > 0)
                    .max()
            }
            Self::And(keys) => {
                let scores = keys.iter().filter_map(|key| key.score(subject, is_fuzzy));
                let (sum, count) = scores.fold((0_usize, 0_usize), |(sum, count), score| {
                    (sum + usize::from(score), count + 1)
                });
                let mean = sum.checked_div(count)?;
                u8::try_from(mean).ok()
            }
            _ => None,
        }
    }

    /// How near the text of a key is; `None` where that is not known, or the key has no text.
    pub(crate) fn nearness(&self, subject: &impl Subject) -> Option<u8> {
        match self {
            Self::Header { name, text } => subject.nearness(Within::Field(name), text),
            Self::Body(text) => subject.nearness(Within::Body, text),
            Self::Text(text) => subject.nearness(Within::Text, text),
            _ => None,
        }
    }
}
