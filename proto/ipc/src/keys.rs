//! rmailctl → keyd: the keys that sign mail.

use crate::edge::{Edge, Silence};
use crate::frame::{Decode, Encode};

/// How many keys one [`KeyAnswer::Keys`] shows.
pub const KEYS_PER_FRAME: usize = 8;

/// Where a key is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum KeyState {
    /// Its record is to be published; it signs once that is seen in DNS.
    Pending,
    /// It signs.
    Signing,
    /// It signs no more; its record stays until the mail it has signed has been read.
    Retired,
    /// The private key is destroyed, the record can go.
    Gone,
    /// Its file cannot be read; mail of the domain waits.
    Damaged,
}

impl KeyState {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Signing => "signing",
            Self::Retired => "retired",
            Self::Gone => "gone",
            Self::Damaged => "damaged",
        }
    }
}

/// A key, less what is secret of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct KeyInfo {
    /// Whose.
    pub domain: String,
    /// Under which its record is found.
    pub selector: String,
    /// `ed25519`, `rsa2048`, `rsa3072` or `rsa4096`; empty for one that is damaged.
    pub kind: String,
    /// Where it is in its life.
    pub state: KeyState,
    /// When it was made, Unix seconds.
    pub created: i64,
    /// When it came into its state.
    pub since: i64,
    /// What its record says; empty for one that is damaged.
    pub record: String,
}

/// Orders of the operator to keyd.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum KeyRequest {
    /// Show the keys, by domain and selector.
    ListKeys {
        /// Only of this domain.
        domain: Option<String>,
        /// Behind this domain and selector.
        after: Option<(String, String)>,
    },
    /// Make a key, which waits until its record is seen in DNS.
    CreateKey {
        /// Whose.
        domain: String,
        /// Made up if not given.
        selector: Option<String>,
        /// [`KeyInfo::kind`].
        kind: String,
    },
    /// Sign with a key that waits or is retired, whatever DNS says.
    ActivateKey {
        /// Whose.
        domain: String,
        /// Which.
        selector: String,
    },
    /// Sign with it no more.
    RetireKey {
        /// Whose.
        domain: String,
        /// Which.
        selector: String,
    },
    /// Destroy a key that does not sign.
    RemoveKey {
        /// Whose.
        domain: String,
        /// Which.
        selector: String,
    },
    /// Make a key of the same kind beside each that signs for the domain and has no successor yet. Once the record of the new one is seen
    /// it signs, and the old one is retired.
    RotateKeys {
        /// Whose.
        domain: String,
    },
}

/// What keyd answers to a [`KeyRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum KeyAnswer {
    /// To [`KeyRequest::ListKeys`]; to the others, the keys that were made or changed.
    Keys {
        /// At most [`KEYS_PER_FRAME`].
        keys: Vec<KeyInfo>,
        /// There are more.
        more: bool,
    },
    /// To [`KeyRequest::RemoveKey`].
    KeyRemoved,
}

/// rmailctl asks keyd.
#[derive(Debug)]
pub struct KeyControlEdge;

impl Edge for KeyControlEdge {
    type Request = KeyRequest;
    type Answer = KeyAnswer;
    type Event = Silence;
    const NAME: &'static str = "rmailctl-keyd";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Return, frame};

    #[test]
    fn a_page_of_the_longest_keys_fits_into_a_frame() {
        let key = KeyInfo {
            domain: "x".repeat(253),
            selector: "x".repeat(253),
            kind: "rsa4096".into(),
            state: KeyState::Gone,
            created: 0,
            since: 0,
            record: "x".repeat(1024),
        };
        let answer: Return<KeyAnswer, Silence> = Return::Answer {
            id: u64::MAX,
            result: Ok(KeyAnswer::Keys {
                keys: vec![key; KEYS_PER_FRAME],
                more: true,
            }),
        };
        assert!(frame::encode(&answer).is_ok());
    }
}
