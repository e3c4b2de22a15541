//! SPF records (RFC 7208 §4.5, §4.6, §5, §6, §12).

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::Verdict;
use super::text::{Place, Text};

/// A record whose syntax is right from end to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) directives: Vec<Directive>,
    pub(super) redirect: Option<Text>,
    pub(super) explanation: Option<Text>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    /// The verdict when the mechanism matches.
    pub(super) verdict: Verdict,
    pub(super) mechanism: Mechanism,
}

/// Domains that are left out are the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mechanism {
    All,
    Include(Text),
    A(Option<Text>, Lengths),
    Mx(Option<Text>, Lengths),
    Ptr(Option<Text>),
    Ip4(Ipv4Addr, u32),
    Ip6(Ipv6Addr, u32),
    Exists(Text),
}

/// How many bits of an address count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lengths {
    pub(super) v4: u32,
    pub(super) v6: u32,
}

impl Mechanism {
    /// The text in it.
    pub(super) fn text(&self) -> Option<&Text> {
        match self {
            Self::Include(text) | Self::Exists(text) => Some(text),
            Self::A(text, _) | Self::Mx(text, _) | Self::Ptr(text) => text.as_ref(),
            Self::All | Self::Ip4(..) | Self::Ip6(..) => None,
        }
    }

    /// Whether DNS is asked for it (RFC 7208 §4.6.4).
    pub(super) const fn asks(&self) -> bool {
        !matches!(self, Self::All | Self::Ip4(..) | Self::Ip6(..))
    }
}

/// Whether a TXT record is an SPF record of this version, good or bad.
pub(super) fn is_spf(text: &[u8]) -> bool {
    const VERSION: &[u8] = b"v=spf1";
    text.split_at_checked(VERSION.len())
        .is_some_and(|(version, rest)| {
            version.eq_ignore_ascii_case(VERSION) && matches!(rest.first(), None | Some(b' '))
        })
}

impl Record {
    /// Reads a record for which [`is_spf`] is true; `None` when there is an error anywhere in it.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok()?;
        let mut record = Self {
            directives: Vec::new(),
            redirect: None,
            explanation: None,
        };
        for term in text.split(' ').skip(1).filter(|term| !term.is_empty()) {
            match modifier(term) {
                Some((name, value)) => record.take_modifier(name, value)?,
                None => record.directives.push(Directive::parse(term)?),
            }
        }
        Some(record)
    }

    fn take_modifier(&mut self, name: &str, value: &str) -> Option<()> {
        let place = match name {
            _ if name.eq_ignore_ascii_case("redirect") => &mut self.redirect,
            _ if name.eq_ignore_ascii_case("exp") => &mut self.explanation,
            // What is not known yet is passed over, but not what is no macro-string.
            _ => {
                let is_text = Text::parse(value, Place::Explanation).is_some();
                return is_text.then_some(());
            }
        };
        let text = Text::parse_domain(value)?;
        place.replace(text).is_none().then_some(())
    }
}

/// The name and the value, if the term has the form of a modifier.
fn modifier(term: &str) -> Option<(&str, &str)> {
    let (name, value) = term.split_once('=')?;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(good);
    is_name.then_some((name, value))
}

impl Directive {
    fn parse(term: &str) -> Option<Self> {
        let (verdict, term) = match term.as_bytes().first()? {
            b'+' => (Verdict::Pass, term.get(1..)?),
            b'-' => (Verdict::Fail, term.get(1..)?),
            b'~' => (Verdict::SoftFail, term.get(1..)?),
            b'?' => (Verdict::Neutral, term.get(1..)?),
            _ => (Verdict::Pass, term),
        };
        let end = term.find([':', '/']).unwrap_or(term.len());
        let (name, rest) = term.split_at(end);
        let mechanism = Mechanism::parse(&name.to_ascii_lowercase(), rest)?;
        Some(Self { verdict, mechanism })
    }
}

impl Mechanism {
    // `rest` is empty or begins with ":" or "/".
    fn parse(name: &str, rest: &str) -> Option<Self> {
        Some(match name {
            "all" if rest.is_empty() => Self::All,
            "include" => Self::Include(Text::parse_domain(rest.strip_prefix(':')?)?),
            "exists" => Self::Exists(Text::parse_domain(rest.strip_prefix(':')?)?),
            "ptr" => Self::Ptr(domain(rest)?),
            "a" | "mx" => {
                let (rest, v6) = length(rest, "//", 128)?;
                let (rest, v4) = length(rest, "/", 32)?;
                let (text, lengths) = (domain(rest)?, Lengths { v4, v6 });
                match name {
                    "a" => Self::A(text, lengths),
                    _ => Self::Mx(text, lengths),
                }
            }
            "ip4" => {
                let (address, bits) = length(rest.strip_prefix(':')?, "/", 32)?;
                Self::Ip4(address.parse().ok()?, bits)
            }
            "ip6" => {
                let (address, bits) = length(rest.strip_prefix(':')?, "/", 128)?;
                Self::Ip6(address.parse().ok()?, bits)
            }
            _ => return None,
        })
    }
}

/// What stands behind a colon, or nothing.
fn domain(rest: &str) -> Option<Option<Text>> {
    match rest.strip_prefix(':') {
        Some(text) => Text::parse_domain(text).map(Some),
        None => rest.is_empty().then_some(None),
    }
}

/// Takes a prefix length off the end; `most` if there is none.
fn length<'a>(rest: &'a str, slash: &str, most: u32) -> Option<(&'a str, u32)> {
    let front = rest.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = rest.get(front.len()..)?;
    match front.strip_suffix(slash) {
        // A domain may have slashes and digits, too; whether it may end so is looked at later.
        None => Some((rest, most)),
        Some(_) if digits.is_empty() => None,
        Some(_) if digits.len() > 1 && digits.starts_with('0') => None,
        Some(front) => {
            let bits = digits.parse().ok().filter(|bits| *bits <= most)?;
            Some((front, bits))
        }
    }
}

/// The record among those of a name.
pub(super) enum Selected {
    None,
    One(Record),
    /// More than one, or one with an error.
    Bad(&'static str),
}

/// Chooses (RFC 7208 §4.5).
pub(super) fn select(texts: &[Vec<u8>]) -> Selected {
    let mut records = texts.iter().filter(|text| is_spf(text));
    match (records.next(), records.next()) {
        (None, _) => Selected::None,
        (Some(text), None) => match Record::parse(text) {
            Some(record) => Selected::One(record),
            None => Selected::Bad("syntax error in the SPF record"),
        },
        (Some(_), Some(_)) => Selected::Bad("more than one SPF record"),
    }
}

/// Texts of an explanation are ASCII (RFC 7208 §6.2).
pub(super) fn explanation(texts: &[Vec<u8>]) -> Option<Text> {
    let [text] = texts else { return None };
    let text = String::from_utf8(text.clone()).ok()?;
    Text::parse(&text, Place::Explanation)
}
