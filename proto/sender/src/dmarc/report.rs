//! Where a domain wants its aggregate reports (`rua`; RFC 9989 §4.7, RFC 7489 §6.2), and who else takes them (RFC 7489 §7.1).

use alloc::string::String;
use alloc::vec::Vec;

use super::record::Record;
use super::{only, texts};
use crate::dns;

/// Addresses read of one record, at most.
const MAX_URIS: usize = 16;

/// An address for reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportUri {
    /// As it stands in the record, percent-decoded: perhaps no address at all.
    pub address: String,
    /// Octets that a report may have there.
    pub limit: Option<u64>,
}

/// Where reports go about the domain that has these TXT records at `_dmarc`. Empty where it wants none.
#[must_use]
pub fn report_uris(records: &[dns::Record]) -> Vec<ReportUri> {
    let record = only(records).filter(|text| Record::parse(text).is_some());
    record.map(uris).unwrap_or_default()
}

/// RFC 7489 §7.1: whether a domain with these TXT records at `<about>._report._dmarc` takes reports about another; the addresses to
/// which it wants them instead, if it names any.
#[must_use]
pub fn permission(records: &[dns::Record]) -> Option<Vec<ReportUri>> {
    let mut given = texts(records).filter(|text| is_dmarc(text)).peekable();
    given.peek()?;
    Some(given.flat_map(uris).take(MAX_URIS).collect())
}

// The version must come first; nothing else is needed.
fn is_dmarc(text: &[u8]) -> bool {
    let first = text.split(|byte| *byte == b';').next().unwrap_or_default();
    let mut parts = first.split(|byte| *byte == b'=').map(<[u8]>::trim_ascii);
    (parts.next(), parts.next(), parts.next()) == (Some(b"v"), Some(b"DMARC1"), None)
}

fn uris(record: &[u8]) -> Vec<ReportUri> {
    let Ok(text) = str::from_utf8(record) else {
        return Vec::new();
    };
    let tags = text.split(';').filter_map(|tag| tag.split_once('='));
    let lists = tags.filter(|(name, _)| name.trim().eq_ignore_ascii_case("rua"));
    let all = lists.flat_map(|(_, list)| list.split(','));
    all.filter_map(|uri| ReportUri::parse(uri.trim()))
        .take(MAX_URIS)
        .collect()
}

impl ReportUri {
    /// `mailto:reports@example.com!10m`. Other schemes are passed over.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        const SCHEME: &str = "mailto:";
        let scheme = uri.get(..SCHEME.len())?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return None;
        }
        let rest = uri.get(SCHEME.len()..)?;
        // An exclamation mark of the address itself is encoded (RFC 7489 §6.2).
        let (address, limit) = match rest.split_once('!') {
            Some((address, limit)) => (address, Some(size(limit)?)),
            None => (rest, None),
        };
        // RFC 6068: header fields may follow; they are of no use here.
        let address = address.split('?').next().unwrap_or_default();
        let address = decode(address)?;
        Some(Self { address, limit })
    }
}

// RFC 7489 §6.2: a number, with a unit of powers of 1,024.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().unwrap_or(u64::MAX);
    is_number.then(|| 1024_u64.pow(power).saturating_mul(number))
}

fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn records(texts: &[&str]) -> Vec<dns::Record> {
        let record = |text: &&str| dns::Record::Text(text.as_bytes().to_vec());
        texts.iter().map(record).collect()
    }

    fn uri(address: &str, limit: Option<u64>) -> ReportUri {
        let address = address.into();
        ReportUri { address, limit }
    }

    #[test]
    fn addresses_and_their_limits_are_read_in_order() {
        let text = "v=DMARC1; p=none; rua=mailto:a@example.com!10m, MAILTO:b%21%2c@example.net , https://example.com/x,\
                    mailto:c@example.com!50,mailto:d@example.com?subject=x!2K,mailto:e@example.com!x,mailto:f%zz@x.test";
        assert_eq!(
            report_uris(&records(&["v=spf1 -all", text])),
            [
                uri("a@example.com", Some(10 << 20)),
                uri("b!,@example.net", None),
                uri("c@example.com", Some(50)),
                uri("d@example.com", Some(2048)),
            ]
        );
        let huge = "v=DMARC1;rua=mailto:a@b!99999999999999999999999t";
        assert_eq!(report_uris(&records(&[huge])), [uri("a@b", Some(u64::MAX))]);
    }

    #[test]
    fn whoever_publishes_none_or_two_records_gets_nothing() {
        for texts in [
            vec![],
            vec!["v=DMARC1; p=none"],
            vec!["v=DMARC1; rua=mailto:a@b", "v=DMARC1; rua=mailto:a@b"],
            vec!["rua=mailto:a@b; v=DMARC1"],
        ] {
            assert_eq!(report_uris(&records(&texts)), [], "{texts:?}");
        }
        let many = String::from("v=DMARC1;p=none;rua=") + &"mailto:a@b,".repeat(1000);
        assert_eq!(report_uris(&records(&[&many])).len(), MAX_URIS);
    }

    #[test]
    fn a_permission_needs_the_version_and_may_name_another_address() {
        for (texts, wanted) in [
            (vec![], None),
            (vec!["hello"], None),
            (vec!["p=none; v=DMARC1"], None),
            (vec!["v=DMARC1"], Some(vec![])),
            (vec!["x", "v = DMARC1 ;"], Some(vec![])),
            (
                vec!["v=DMARC1; rua=mailto:other@example.net"],
                Some(vec![uri("other@example.net", None)]),
            ),
        ] {
            assert_eq!(permission(&records(&texts)), wanted, "{texts:?}");
        }
    }
}
