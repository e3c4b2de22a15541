//! The ways to log in that are offered.

use serde::{Deserialize, Serialize};

/// A SASL mechanism, by its registered name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum SaslMechanism {
    /// The client's certificate.
    #[serde(rename = "EXTERNAL")]
    External,
    /// A password that is proved, bound to the TLS channel.
    #[serde(rename = "SCRAM-SHA-256-PLUS")]
    ScramSha256Plus,
    /// A password that is proved.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// A token.
    #[serde(rename = "OAUTHBEARER")]
    OAuthBearer,
    /// A token, in the form older than the standard.
    #[serde(rename = "XOAUTH2")]
    XOAuth2,
    /// A password.
    #[serde(rename = "PLAIN")]
    Plain,
    /// A password, in the form of old clients.
    #[serde(rename = "LOGIN")]
    Login,
}

/// Mechanisms, at least one and each once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Vec<SaslMechanism>", into = "Vec<SaslMechanism>")]
pub struct Mechanisms(Vec<SaslMechanism>);

impl Mechanisms {
    /// These.
    #[must_use]
    pub fn as_slice(&self) -> &[SaslMechanism] {
        &self.0
    }
}

impl Default for Mechanisms {
    fn default() -> Self {
        use SaslMechanism::{
            External, Login, OAuthBearer, Plain, ScramSha256, ScramSha256Plus, XOAuth2,
        };
        Self(vec![
            External,
            ScramSha256Plus,
            ScramSha256,
            OAuthBearer,
            XOAuth2,
            Plain,
            Login,
        ])
    }
}

impl TryFrom<Vec<SaslMechanism>> for Mechanisms {
    type Error = String;

    fn try_from(all: Vec<SaslMechanism>) -> Result<Self, String> {
        let mut rest = all.as_slice();
        while let Some((first, others)) = rest.split_first() {
            if others.contains(first) {
                return Err(format!("{first:?} is there twice"));
            }
            rest = others;
        }
        match all.is_empty() {
            true => Err("without a mechanism nobody can log in: name at least one".into()),
            false => Ok(Self(all)),
        }
    }
}

impl From<Mechanisms> for Vec<SaslMechanism> {
    fn from(mechanisms: Mechanisms) -> Self {
        mechanisms.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_named_once_and_as_it_is_registered() {
        let read = |text: &str| serde_json::from_str::<Mechanisms>(text);
        let all = r#"["EXTERNAL","SCRAM-SHA-256-PLUS","SCRAM-SHA-256","OAUTHBEARER","XOAUTH2","PLAIN","LOGIN"]"#;
        assert_eq!(read(all).unwrap(), Mechanisms::default());
        assert_eq!(serde_json::to_string(&Mechanisms::default()).unwrap(), all);
        for (text, words) in [
            ("[]", "nobody can log in"),
            (r#"["PLAIN", "LOGIN", "PLAIN"]"#, "twice"),
            (r#"["plain"]"#, "unknown variant"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
