//! A key as it lies in its file.

use std::fmt;

use dkim::{KeyKind, SigningKey};
use ipc::keys::{KeyInfo, KeyState};
use mail::address::Domain;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// The version of the format.
const VERSION: u32 = 1;
/// Between the selector and the domain in the name of a record (RFC 6376 §3.6.2.1).
const INFIX: &str = "._domainkey.";
/// What the names of files end with.
const SUFFIX: &str = ".key";
/// Octets of a name in DNS (RFC 1035 §2.3.4), in text form.
const MAX_NAME: usize = 253;
/// Octets of a file's name, with room for the end that it has while it is written.
const MAX_FILE_NAME: usize = 250;

/// Whose key it is, and under which name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The domain in lower case, international labels in their `xn--` form.
    pub domain: String,
    /// One label.
    pub selector: String,
}

/// A name nobody can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// The domain.
    #[error("\"{0}\" is not a domain")]
    Domain(String),
    /// The selector.
    #[error("\"{0}\" is not a selector: up to 63 letters, digits and hyphens, small ones only")]
    Selector(String),
    /// Both together.
    #[error("selector and domain are too long together for a name in DNS")]
    TooLong,
}

impl Name {
    /// A name that can be one in DNS and one of a file.
    ///
    /// # Errors
    /// [`BadName`].
    pub fn new(domain: &str, selector: &str) -> Result<Self, BadName> {
        let parsed = Domain::parse(domain).ok().filter(|one| !one.is_literal());
        let parsed = parsed.ok_or_else(|| BadName::Domain(domain.to_owned()))?;
        let is_letter =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=63).contains(&selector.len()) || !selector.bytes().all(is_letter) {
            return Err(BadName::Selector(selector.to_owned()));
        }
        let name = Self {
            domain: parsed.as_str().to_ascii_lowercase(),
            selector: selector.to_owned(),
        };
        let length = name.record().len();
        if length > MAX_NAME || length + SUFFIX.len() > MAX_FILE_NAME {
            return Err(BadName::TooLong);
        }
        Ok(name)
    }

    /// The name of its record.
    #[must_use]
    pub fn record(&self) -> String {
        format!("{}{INFIX}{}", self.selector, self.domain)
    }

    /// The key whose record has this name.
    ///
    /// # Errors
    /// [`BadName`].
    pub fn of_record(name: &str) -> Result<Self, BadName> {
        let (selector, domain) = name
            .split_once(INFIX)
            .ok_or_else(|| BadName::Selector(name.to_owned()))?;
        Self::new(domain, selector)
    }

    /// The name of its file.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{}{SUFFIX}", self.record())
    }

    /// The key whose file has this name, if any has.
    #[must_use]
    pub fn of_file(name: &str) -> Option<Self> {
        let found = Self::of_record(name.strip_suffix(SUFFIX)?).ok()?;
        (found.file() == name).then_some(found)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.record())
    }
}

/// Where a key is in its life, as the file has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// [`KeyState::Pending`].
    Pending,
    /// [`KeyState::Signing`].
    Signing,
    /// [`KeyState::Retired`].
    Retired,
    /// [`KeyState::Gone`]; the file holds no private key any more.
    Gone,
}

impl From<State> for KeyState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Signing => Self::Signing,
            State::Retired => Self::Retired,
            State::Gone => Self::Gone,
        }
    }
}

/// What is known of a key without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Whose.
    pub name: Name,
    /// Of which kind.
    pub kind: KeyKind,
    /// Where it is in its life.
    pub state: State,
    /// When it was made, Unix seconds.
    pub created: i64,
    /// When it came into its state.
    pub since: i64,
    /// What its record says.
    pub record: String,
}

impl Key {
    /// The same in another state.
    #[must_use]
    pub fn turned(&self, state: State, now: i64) -> Self {
        Self {
            state,
            since: now,
            ..self.clone()
        }
    }

    /// Whether the two make signatures of one kind, so that one of them is enough.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let is_rsa = |kind| match kind {
            KeyKind::Ed25519 => false,
            KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => true,
        };
        self.name.domain == other.name.domain && is_rsa(self.kind) == is_rsa(other.kind)
    }

    /// What others may know.
    #[must_use]
    pub fn info(&self) -> KeyInfo {
        KeyInfo {
            domain: self.name.domain.clone(),
            selector: self.name.selector.clone(),
            kind: self.kind.as_str().to_owned(),
            state: self.state.into(),
            created: self.created,
            since: self.since,
            record: self.record.clone(),
        }
    }
}

/// A private key in base64; never shown, and overwritten when it is dropped.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Private(String);

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A key with what is secret of it.
#[derive(Debug)]
pub struct Whole {
    /// What is known of it.
    pub key: Key,
    private: Option<Private>,
}

/// What is in a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    kind: String,
    state: State,
    created: i64,
    since: i64,
    record: String,
    /// PKCS #8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    private: Option<Private>,
}

/// A file that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the file does not hold a key as keyd writes it")]
pub struct Damaged;

impl Whole {
    /// A new key, which waits.
    ///
    /// # Errors
    /// When the library makes none.
    pub fn generate(name: Name, kind: KeyKind, now: i64) -> Result<Self, dkim::BadKey> {
        let mut der = kind.generate()?;
        let record = SigningKey::from_pkcs8(&der).and_then(|key| key.record());
        let private = Private(mail::encode::base64(&der));
        der.zeroize();
        let key = Key {
            name,
            kind,
            state: State::Pending,
            created: now,
            since: now,
            record: record?,
        };
        Ok(Self {
            key,
            private: Some(private),
        })
    }

    /// The same in another state; in the last one without what is secret.
    #[must_use]
    pub fn turned(self, state: State, now: i64) -> Self {
        Self {
            key: self.key.turned(state, now),
            private: self.private.filter(|_| state != State::Gone),
        }
    }

    /// What signs.
    ///
    /// # Errors
    /// [`Damaged`]; and for a key that is gone.
    pub fn signing_key(&self) -> Result<SigningKey, Damaged> {
        let private = self.private.as_ref().ok_or(Damaged)?;
        let mut der = mail::decode::base64_strict(private.0.as_bytes()).ok_or(Damaged)?;
        let key = SigningKey::from_pkcs8(&der).map_err(|_| Damaged);
        der.zeroize();
        key
    }

    /// The text of a file.
    ///
    /// # Errors
    /// Never for what a key is made of; serde's interface allows for it.
    pub fn write(&self) -> serde_json::Result<Vec<u8>> {
        let private = self.private.as_ref();
        serde_json::to_vec(&Written {
            version: VERSION,
            kind: self.key.kind.as_str().to_owned(),
            state: self.key.state,
            created: self.key.created,
            since: self.key.since,
            record: self.key.record.clone(),
            private: private.map(|private| Private(private.0.clone())),
        })
    }

    /// The key in the file of this name.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn read(name: Name, text: &[u8]) -> Result<Self, Damaged> {
        let written: Written = serde_json::from_slice(text).map_err(|_| Damaged)?;
        let is_whole = written.private.is_some() != (written.state == State::Gone);
        if written.version != VERSION || !is_whole {
            return Err(Damaged);
        }
        let key = Key {
            name,
            kind: written.kind.parse().map_err(|_| Damaged)?,
            state: written.state,
            created: written.created,
            since: written.since,
            record: written.record,
        };
        Ok(Self {
            key,
            private: written.private,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_of_a_record_and_of_a_file_and_back() {
        let name = Name::new("Example.ORG", "r20260101").unwrap();
        assert_eq!(name.record(), "r20260101._domainkey.example.org");
        assert_eq!(Name::of_record(&name.record()), Ok(name.clone()));
        assert_eq!(Name::of_file(&name.file()), Some(name));
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for (domain, selector) in [
            ("../x", "a"),
            ("a/b", "a"),
            ("[192.0.2.1]", "a"),
            ("", "a"),
            ("a.example", ""),
            ("a.example", "../a"),
            ("a.example", "a.b"),
            ("a.example", "A"),
            ("a.example", "a_"),
            ("a.example", &"a".repeat(64)),
            (&format!("{}example", "a.".repeat(115)), "abcdefghijklmnop"),
        ] {
            assert!(Name::new(domain, selector).is_err(), "{domain} {selector}");
        }
        for file in ["a.key", "a._domainkey.Example.org.key", "a._domainkey..key"] {
            assert_eq!(Name::of_file(file), None, "{file}");
        }
    }

    #[test]
    fn what_is_gone_holds_no_secret_and_nothing_shows_one() {
        let name = Name::new("a.example", "s").unwrap();
        let whole = Whole::generate(name.clone(), KeyKind::Ed25519, 7).unwrap();
        let text = whole.write().unwrap();
        let secret = whole.private.as_ref().unwrap().0.clone();
        assert!(!format!("{whole:?}").contains(&secret));
        assert!(String::from_utf8(text.clone()).unwrap().contains(&secret));
        let read = Whole::read(name.clone(), &text).unwrap();
        assert_eq!(read.key, whole.key);
        assert_eq!(
            read.signing_key().unwrap().record().unwrap(),
            whole.key.record
        );
        let gone = read.turned(State::Gone, 9);
        assert!(gone.signing_key().is_err());
        let text = String::from_utf8(gone.write().unwrap()).unwrap();
        assert!(!text.contains(&secret));
        assert_eq!(Whole::read(name, text.as_bytes()).unwrap().key, gone.key);
    }
}
