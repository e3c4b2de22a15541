//! What a test wants its system to be like.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Options of [`crate::System::start`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Laid over the harness's own `config.json`, object by object (RFC 7396: null removes a key).
    pub config: Value,
    /// Users made after the start, `address` and password.
    pub users: Vec<(String, String)>,
    /// Run everything as this user, when the test itself is root.
    pub run_as: Option<u32>,
    /// The system's own directory is made here.
    pub below: PathBuf,
}

/// Password of all users a test gets without asking for others.
pub const PASSWORD: &str = "correct horse battery";

impl Default for Options {
    /// `alice` and `bob` at `example.test`.
    fn default() -> Self {
        Self {
            config: Value::Object(serde_json::Map::new()),
            users: Vec::new(),
            run_as: None,
            below: "/tmp".into(),
        }
        .user("alice@example.test")
        .user("bob@example.test")
    }
}

impl Options {
    /// No users at all.
    #[must_use]
    pub fn without_users() -> Self {
        Self {
            users: Vec::new(),
            ..Self::default()
        }
    }

    /// Only alice: every user costs a password hash.
    #[must_use]
    pub fn alice() -> Self {
        Self::without_users().user("alice@example.test")
    }

    /// One more user, with [`PASSWORD`].
    #[must_use]
    pub fn user(mut self, address: &str) -> Self {
        self.users.push((address.to_owned(), PASSWORD.to_owned()));
        self
    }

    /// Makes the system's directory in that one, which every user may search.
    #[must_use]
    pub fn below(self, directory: &Path) -> Self {
        Self {
            below: directory.to_owned(),
            ..self
        }
    }

    /// Lays `patch` over the configuration.
    #[must_use]
    pub fn config(mut self, patch: &Value) -> Self {
        lay_over(&mut self.config, patch);
        self
    }

    /// Runs everything as the ordinary user `uid` when the test is root.
    #[must_use]
    pub const fn run_as(mut self, uid: u32) -> Self {
        self.run_as = Some(uid);
        self
    }
}

/// RFC 7396 §2, without removing what a patch sets to null in a patch.
pub fn lay_over(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(object) = target else {
        return;
    };
    for (key, change) in changes {
        lay_over(object.entry(key.clone()).or_insert(Value::Null), change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_changes_only_what_it_names() {
        let options = Options::default()
            .config(&json!({"smtp": {"port": 1}}))
            .config(&json!({"smtp": {"host": "::1"}}));
        assert_eq!(options.config, json!({"smtp": {"port": 1, "host": "::1"}}));
    }
}
