//! The first frame each way on every channel: who speaks which version.

use crate::frame::{Decode, Encode};

/// The version of the frames in this crate. Raised with every change of a message; versions N and N−1 talk.
pub const VERSION: u16 = 8;

/// The oldest version this build still talks to.
pub const OLDEST: u16 = 8;

/// First frame in both directions.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// [`VERSION`] of the sender.
    pub version: u16,
    /// Package version of the sender, for the log.
    pub build: String,
    /// The edge the sender believes it is on, [`crate::Edge::NAME`].
    pub edge: String,
}

impl Hello {
    /// What this build says on the edge `edge`.
    #[must_use]
    pub fn ours(edge: &str) -> Self {
        Self {
            version: VERSION,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            edge: edge.to_owned(),
        }
    }

    /// Whether this build can talk to the sender on the edge `edge`.
    #[must_use]
    pub fn is_compatible(&self, edge: &str) -> bool {
        (OLDEST..=VERSION + 1).contains(&self.version) && self.edge == edge
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_build_on_the_same_edge_is_compatible() {
        assert!(Hello::ours("a").is_compatible("a"));
        assert!(!Hello::ours("a").is_compatible("b"));
    }

    #[test]
    fn a_version_two_ahead_is_refused() {
        let hello = Hello {
            version: VERSION + 2,
            ..Hello::ours("a")
        };
        assert!(!hello.is_compatible("a"));
    }
}
