//! What a domain says by MTA-STS about its mail servers (RFC 8461 §3).

use serde::{Deserialize, Serialize};

/// Longest time a policy can be kept, in seconds (RFC 8461 §3.2).
const MAX_AGE: u64 = 31_557_600;
/// Longest name of a version (RFC 8461 §3.1).
const MAX_ID: usize = 32;

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What is to be done where it cannot be kept.
    pub mode: Mode,
    /// Seconds for which it holds after it was fetched.
    pub max_age: u64,
    /// Names of mail servers in lower case; `*.` stands for one label.
    pub mx: Vec<String>,
}

/// What is to be done where a policy cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// No mail is handed over.
    Enforce,
    /// It is handed over all the same.
    Testing,
    /// There is no policy any more.
    None,
}

/// Why a text is no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A line is not a name and a value.
    #[error("a line of it is not KEY: VALUE")]
    Line,
    /// Another version, or none.
    #[error("it is not of version STSv1")]
    Version,
    /// No mode that is known.
    #[error("its mode is none of enforce, testing and none")]
    Mode,
    /// No time, or none that can be read.
    #[error("its max_age is no number of seconds")]
    MaxAge,
    /// No servers, or what is no name of one.
    #[error("it names no mail server, or what is no name of one")]
    Mx,
}

impl Policy {
    /// Understands a text.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn parse(text: &[u8]) -> Result<Self, Invalid> {
        let text = std::str::from_utf8(text).map_err(|_| Invalid::Line)?;
        let (mut version, mut mode, mut max_age) = (None, None, None);
        let mut mx = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (key, value) = line.split_once(':').ok_or(Invalid::Line)?;
            let value = value.trim();
            // Of what may stand there once the first counts; what is not known is passed over.
            match key.trim() {
                "version" => _ = version.get_or_insert(value),
                "mode" => _ = mode.get_or_insert(value),
                "max_age" => _ = max_age.get_or_insert(value),
                "mx" => mx.push(pattern(value).ok_or(Invalid::Mx)?),
                _ => {}
            }
        }
        if version != Some("STSv1") {
            return Err(Invalid::Version);
        }
        let mode = match mode {
            Some("enforce") => Mode::Enforce,
            Some("testing") => Mode::Testing,
            Some("none") => Mode::None,
            _ => return Err(Invalid::Mode),
        };
        let digits =
            |text: &&str| text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
        let max_age = max_age.filter(digits).and_then(|text| text.parse().ok());
        if mx.is_empty() && mode != Mode::None {
            return Err(Invalid::Mx);
        }
        Ok(Self {
            mode,
            max_age: max_age
                .map(|age: u64| age.min(MAX_AGE))
                .ok_or(Invalid::MaxAge)?,
            mx,
        })
    }

    /// Its lines, as it is published (RFC 8461 §3.2).
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let mode = match self.mode {
            Mode::Enforce => "enforce",
            Mode::Testing => "testing",
            Mode::None => "none",
        };
        let first = ["version: STSv1".to_owned(), format!("mode: {mode}")];
        let age = format!("max_age: {}", self.max_age);
        let hosts = self.mx.iter().map(|host| format!("mx: {host}"));
        first.into_iter().chain([age]).chain(hosts)
    }

    /// Whether a host, in lower case, is one of those it names (RFC 8461 §4.1).
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        self.mx
            .iter()
            .any(|pattern| match pattern.strip_prefix("*.") {
                Some(parent) => host
                    .split_once('.')
                    .is_some_and(|(first, rest)| !first.is_empty() && rest == parent),
                None => host == pattern,
            })
    }
}

fn pattern(text: &str) -> Option<String> {
    let text = text.trim_end_matches('.').to_ascii_lowercase();
    let name = text.strip_prefix("*.").unwrap_or(&text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    (name.len() <= 253 && name.split('.').all(is_label)).then_some(text)
}

/// The name of the version that the TXT records at `_mta-sts` tell, if they tell of a policy: exactly one of them does (RFC 8461 §3.1).
#[must_use]
pub fn version<'a>(records: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let text = |record: &'a [u8]| std::str::from_utf8(record).ok();
    let mut told = records.filter_map(text).filter(|text| {
        text.split(';')
            .next()
            .is_some_and(|first| first.trim_end() == "v=STSv1")
    });
    let (Some(record), None) = (told.next(), told.next()) else {
        return None;
    };
    let mut fields = record.split(';').filter_map(|field| field.split_once('='));
    let (_, id) = fields.find(|(key, _)| key.trim() == "id")?;
    let id = id.trim();
    let is_good =
        (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_good.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard_is_understood() {
        // RFC 8461 §3.2.
        let text = "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmx: backupmx.example.com\nmax_age: 604800\n";
        let policy = Policy::parse(text.as_bytes()).unwrap();
        assert_eq!(policy.mode, Mode::Enforce);
        assert_eq!(policy.max_age, 604_800);
        assert_eq!(
            policy,
            Policy::parse(text.replace('\n', "\r\n").as_bytes()).unwrap()
        );
        for (host, wanted) in [
            ("mail.example.com", true),
            ("backupmx.example.com", true),
            ("www.example.net", true),
            ("example.net", false),
            ("a.b.example.net", false),
            ("example.com", false),
            ("x.mail.example.com", false),
            (".example.net", false),
        ] {
            assert_eq!(policy.names(host), wanted, "{host}");
        }
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        let parse = |text: &str| Policy::parse(text.as_bytes());
        let good = "version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 1\n";
        assert!(parse(good).is_ok());
        for (old, new, why) in [
            ("STSv1", "STSv2", Invalid::Version),
            ("version: STSv1\n", "", Invalid::Version),
            ("enforce", "Enforce", Invalid::Mode),
            ("mode: enforce\n", "", Invalid::Mode),
            ("mx: a.test\n", "", Invalid::Mx),
            ("a.test", "a..test", Invalid::Mx),
            ("a.test", "*", Invalid::Mx),
            ("a.test", "a.*.test", Invalid::Mx),
            ("a.test", "a test", Invalid::Mx),
            ("max_age: 1", "max_age: -1", Invalid::MaxAge),
            ("max_age: 1", "max_age: 12345678901", Invalid::MaxAge),
            ("max_age: 1", "max_age:", Invalid::MaxAge),
            ("max_age: 1\n", "", Invalid::MaxAge),
            ("mode", "mo\nde", Invalid::Line),
        ] {
            assert_eq!(parse(&good.replace(old, new)), Err(why), "{new}");
        }
        assert_eq!(Policy::parse(b"version: STSv1\xff"), Err(Invalid::Line));
        let none =
            parse("version: STSv1\nmode: none\nmax_age: 9999999999\nmax_age: x\nnew: x\n").unwrap();
        assert_eq!((none.mode, none.max_age), (Mode::None, MAX_AGE));
    }

    #[test]
    fn one_record_tells_the_version() {
        let tell = |records: &[&str]| version(records.iter().map(|text| text.as_bytes()));
        for record in [
            "v=STSv1; id=20160831085700Z;",
            "v=STSv1;id=20160831085700Z",
            "v=STSv1 ; x=y; id=20160831085700Z ;",
        ] {
            assert_eq!(
                tell(&[record, "v=spf1 -all"]).as_deref(),
                Some("20160831085700Z")
            );
        }
        for records in [
            &[][..],
            &["v=STSv2; id=1;"],
            &["id=1; v=STSv1;"],
            &["v=STSv1; id=1;", "v=STSv1; id=1;"],
            &["v=STSv1;"],
            &["v=STSv1; id=;"],
            &["v=STSv1; id=a-b;"],
            &["v=STSv1; id=123456789012345678901234567890123;"],
        ] {
            assert_eq!(tell(records), None, "{records:?}");
        }
    }
}
