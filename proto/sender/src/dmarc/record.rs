//! DMARC records (RFC 9989 §4.7, RFC 7489 §6.3).

use super::Policy;

/// What a domain wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) policy: Policy,
    /// Of domains below.
    pub(super) below: Option<Policy>,
    /// Of domains below that do not exist.
    pub(super) missing: Option<Policy>,
    pub(super) strict_dkim: bool,
    pub(super) strict_spf: bool,
    /// Of a hundred messages, how many the policy is for.
    pub(super) percent: u8,
    pub(super) suffix: Suffix,
    /// `t=y`: the policy is only tried.
    pub(super) is_test: bool,
    /// There is an address for reports.
    pub(super) wants_reports: bool,
}

/// Whether domains below the domain belong to others (`psd`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suffix {
    Yes,
    No,
    Unknown,
}

impl Record {
    /// Reads a TXT record; `None` when it is no DMARC record, or one to be treated as if it were not there.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok()?;
        let mut tags = text.split(';').filter_map(|tag| {
            let (name, value) = tag.split_once('=')?;
            Some((name.trim_matches(is_space), value.trim_matches(is_space)))
        });
        // A semicolon before the version is not allowed for, so the first tag is the first text.
        let starts = text.split(';').next()?.contains('=');
        if !starts || tags.next()? != ("v", "DMARC1") {
            return None;
        }
        let mut record = Self {
            policy: Policy::None,
            below: None,
            missing: None,
            strict_dkim: false,
            strict_spf: false,
            percent: 100,
            suffix: Suffix::Unknown,
            is_test: false,
            wants_reports: false,
        };
        let mut is_broken = false;
        for (name, value) in tags {
            let is = |word: &str| value.eq_ignore_ascii_case(word);
            let mut policy = || {
                let policy = Policy::parse(value);
                is_broken |= policy.is_none();
                policy
            };
            match name.to_ascii_lowercase().as_str() {
                "p" => record.policy = policy().unwrap_or(Policy::None),
                "sp" => record.below = policy(),
                "np" => record.missing = policy(),
                "adkim" => record.strict_dkim = is("s"),
                "aspf" => record.strict_spf = is("s"),
                "pct" => record.percent = value.parse().unwrap_or(100).min(100),
                "t" => record.is_test = is("y"),
                "psd" if is("y") => record.suffix = Suffix::Yes,
                "psd" if is("n") => record.suffix = Suffix::No,
                "rua" => record.wants_reports = value.to_ascii_lowercase().contains("mailto:"),
                // RFC 9989 §4.7: what is not known is passed over.
                _ => {}
            }
        }
        if record.is_test {
            record.percent = 0;
        }
        if is_broken {
            // RFC 9989 §4.7: whoever wants reports wants at least to watch.
            record = Self {
                policy: Policy::None,
                below: None,
                missing: None,
                ..record
            };
            return record.wants_reports.then_some(record);
        }
        Some(record)
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_in_any_order_after_the_version() {
        let text =
            b"v=DMARC1 ; adkim=s;P=Reject; np = quarantine;x=y; sp=none; pct=20; psd=n; aspf=r;";
        let record = Record::parse(text).unwrap();
        assert_eq!(
            (record.policy, record.below),
            (Policy::Reject, Some(Policy::None))
        );
        assert_eq!(record.missing, Some(Policy::Quarantine));
        assert!(record.strict_dkim && !record.strict_spf);
        assert_eq!((record.percent, record.suffix), (20, Suffix::No));
        assert_eq!(Record::parse(b"v=DMARC1;p=reject;t=y").unwrap().percent, 0);
        assert_eq!(Record::parse(b"v=DMARC1").unwrap().policy, Policy::None);
    }

    #[test]
    fn what_is_no_record_is_none() {
        for text in [
            "",
            "v=spf1 -all",
            "v=dmarc1; p=none",
            "p=reject; v=DMARC1",
            ";v=DMARC1;p=none",
            "v=DMARC1,p=none",
            "v=DMARC1; p=drop",
            "v=DMARC1; p=reject; sp=drop",
            "x;v=DMARC1;p=none",
        ] {
            assert_eq!(Record::parse(text.as_bytes()), None, "{text}");
        }
        let watched = b"v=DMARC1; p=drop; rua=mailto:d@example.com";
        assert_eq!(Record::parse(watched).unwrap().policy, Policy::None);
    }
}
