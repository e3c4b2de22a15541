//! Mail addresses: what may stand between the angle brackets of `MAIL FROM:<…>` and `RCPT TO:<…>`.
//!
//! Everything here is parsed once and correct from then on: a [`Domain`] is lower-case and in
//! A-labels, an [`Address`] holds its local part without quotes and quotes it again when shown.

use alloc::string::{String, ToString};
use core::fmt::{self, Write};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

// RFC 5321 §4.5.3.1.1: a local part has at most 64 octets.
const MAX_LOCAL: usize = 64;
// RFC 5321 §4.5.3.1.2: a domain has at most 255 octets.
const MAX_DOMAIN: usize = 255;
// RFC 5321 §4.5.3.1.3: a path has at most 256 octets, of which two are the angle brackets.
const MAX_ADDRESS: usize = 254;
// RFC 1035 §2.3.4: a label has at most 63 octets.
const MAX_LABEL: usize = 63;

/// Why a text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressError {
    /// There is no `@`.
    NoDomain,
    /// Nothing stands before the `@`.
    EmptyLocalPart,
    /// The local part has more than 64 octets.
    LocalPartTooLong,
    /// The local part holds a character that is not allowed there, or a quote that does not end.
    BadLocalPart,
    /// Domain or address as a whole is too long.
    TooLong,
    /// The domain is neither a host name nor an address literal.
    BadDomain,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDomain => "an address needs a domain: local@domain",
            Self::EmptyLocalPart => "the part before the @ is empty",
            Self::LocalPartTooLong => "the part before the @ is longer than 64 octets",
            Self::BadLocalPart => "the part before the @ holds a character that is not allowed",
            Self::TooLong => "the address is too long",
            Self::BadDomain => "the domain is not a valid host name or address literal",
        })
    }
}

impl core::error::Error for AddressError {}

/// A mail domain: a host name in lower-case A-labels (`xn--bcher-kva.example`), or an address
/// literal (`[192.0.2.1]`, `[IPv6:2001:db8::1]`).
///
/// Two domains that mean the same compare equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(String);

impl Domain {
    /// Parses a host name (U-labels allowed) or an address literal.
    ///
    /// # Errors
    /// [`AddressError::BadDomain`] or [`AddressError::TooLong`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > MAX_DOMAIN {
            return Err(AddressError::TooLong);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(AddressError::BadDomain)?;
            return parse_literal(inner).map(Self::from_ip);
        }
        let name = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            to_a_labels(text)?
        };
        check_host_name(&name)?;
        Ok(Self(name))
    }

    /// The address literal for `ip`.
    #[must_use]
    pub fn from_ip(ip: IpAddr) -> Self {
        let mut text = String::new();
        // Invariant: writing to a String cannot fail.
        let _ = match ip {
            IpAddr::V4(v4) => write!(text, "[{v4}]"),
            IpAddr::V6(v6) => write!(text, "[IPv6:{v6}]"),
        };
        Self(text)
    }

    /// The canonical text, brackets of a literal included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is an address literal.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.0.starts_with('[')
    }

    /// The IP address of an address literal; `None` for a host name.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        let inner = self.0.strip_prefix('[')?.strip_suffix(']')?;
        parse_literal(inner).ok()
    }

    /// The domain as people read it, with A-labels turned into U-labels where that is possible.
    #[must_use]
    pub fn to_unicode(&self) -> String {
        if self.is_literal() {
            return self.0.clone();
        }
        let (name, valid) =
            Uts46::new().to_unicode(self.0.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow);
        match valid {
            Ok(()) => name.into_owned(),
            Err(_) => self.0.clone(),
        }
    }
}

impl FromStr for Domain {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// RFC 5321 §4.1.3: IPv4-address-literal or "IPv6:" IPv6-addr. General-address-literals have no
// registered tag, so there is none to accept.
fn parse_literal(inner: &str) -> Result<IpAddr, AddressError> {
    let ip = match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => {
            let v6 = inner.get(5..).unwrap_or_default();
            Ipv6Addr::from_str(v6).ok().map(IpAddr::V6)
        }
        _ => Ipv4Addr::from_str(inner).ok().map(IpAddr::V4),
    };
    ip.ok_or(AddressError::BadDomain)
}

fn to_a_labels(text: &str) -> Result<String, AddressError> {
    Uts46::new()
        .to_ascii(
            text.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::CheckFirstLast,
            DnsLength::Verify,
        )
        .map(alloc::borrow::Cow::into_owned)
        .map_err(|_| AddressError::BadDomain)
}

fn check_host_name(name: &str) -> Result<(), AddressError> {
    if name.len() > MAX_DOMAIN {
        return Err(AddressError::TooLong);
    }
    if !name.split('.').all(is_label) {
        return Err(AddressError::BadDomain);
    }
    // A name whose last label is a number would be read as an IPv4 address by resolvers.
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AddressError::BadDomain);
    }
    Ok(())
}

// RFC 5321 §4.1.2 sub-domain (deviation): the underscore is accepted too, real senders use it.
fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= MAX_LABEL
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// A mailbox address: a local part, held without quotes, and a [`Domain`].
///
/// `==` compares the local part exactly; look-ups use [`Address::key`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    local: String,
    domain: Domain,
}

impl Address {
    /// Puts an address together; `local` is the local part without quotes.
    ///
    /// # Errors
    /// Empty or too long parts, and control characters in the local part.
    pub fn new(local: &str, domain: Domain) -> Result<Self, AddressError> {
        if local.is_empty() {
            return Err(AddressError::EmptyLocalPart);
        }
        if local.chars().any(char::is_control) {
            return Err(AddressError::BadLocalPart);
        }
        let written = written_len(local);
        if written > MAX_LOCAL {
            return Err(AddressError::LocalPartTooLong);
        }
        if written + 1 + domain.as_str().len() > MAX_ADDRESS {
            return Err(AddressError::TooLong);
        }
        Ok(Self {
            local: local.to_string(),
            domain,
        })
    }

    /// Parses `local@domain`, where the local part may be a quoted string.
    ///
    /// # Errors
    /// An [`AddressError`] that says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.starts_with('"') {
            let (local, rest) = parse_quoted(text)?;
            let domain = rest.strip_prefix('@').ok_or(AddressError::NoDomain)?;
            return Self::new(&local, Domain::parse(domain)?);
        }
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::NoDomain)?;
        if local.is_empty() {
            return Err(AddressError::EmptyLocalPart);
        }
        if !is_dot_string(local) {
            return Err(AddressError::BadLocalPart);
        }
        Self::new(local, Domain::parse(domain)?)
    }

    /// The local part without quotes.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Whether the address can be sent without SMTPUTF8 (the domain always can).
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.local.is_ascii()
    }

    /// The form by which addresses are looked up: lower-case, local part without quotes.
    #[must_use]
    pub fn key(&self) -> String {
        let mut key = self.local.to_lowercase();
        key.push('@');
        key.push_str(self.domain.as_str());
        key
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local) {
            return write!(f, "{}@{}", self.local, self.domain);
        }
        f.write_char('"')?;
        for c in self.local.chars() {
            if matches!(c, '"' | '\\') {
                f.write_char('\\')?;
            }
            f.write_char(c)?;
        }
        write!(f, "\"@{}", self.domain)
    }
}

// RFC 5321 §4.1.2 Quoted-string, with RFC 6531 §3.3 UTF8-non-ascii; control characters are
// refused by `Address::new`. Returns the text without quotes and what follows it.
fn parse_quoted(text: &str) -> Result<(String, &str), AddressError> {
    let mut local = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((local, text.get(at + 1..).unwrap_or_default())),
            '\\' => match chars.next() {
                Some((_, escaped)) if matches!(escaped, ' '..='~') => local.push(escaped),
                _ => return Err(AddressError::BadLocalPart),
            },
            _ => local.push(c),
        }
    }
    Err(AddressError::BadLocalPart)
}

// RFC 5321 §4.1.2 Dot-string = Atom *("." Atom), atoms widened by RFC 6531 §3.3.
fn is_dot_string(local: &str) -> bool {
    local
        .split('.')
        .all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

// RFC 5322 §3.2.3 atext.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(
            c,
            '!' | '#'
                | '$'
                | '%'
                | '&'
                | '\''
                | '*'
                | '+'
                | '-'
                | '/'
                | '='
                | '?'
                | '^'
                | '_'
                | '`'
                | '{'
                | '|'
                | '}'
                | '~'
        )
        || (!c.is_ascii() && !c.is_control())
}

// How many octets the local part takes when shown.
fn written_len(local: &str) -> usize {
    if is_dot_string(local) {
        return local.len();
    }
    let escapes = local.bytes().filter(|b| matches!(b, b'"' | b'\\')).count();
    local.len() + escapes + 2
}

/// Where a message says it comes from: `MAIL FROM:<…>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReversePath {
    /// `<>`: a report; nobody is to be told if it cannot be delivered.
    Null,
    /// An address that takes reports.
    Address(Address),
}

impl ReversePath {
    /// Parses what stands between the angle brackets; the empty text is [`ReversePath::Null`].
    ///
    /// # Errors
    /// As [`Address::parse`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Ok(Self::Null);
        }
        Address::parse(text).map(Self::Address)
    }

    /// The address, if it is not `<>`.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Null => None,
            Self::Address(address) => Some(address),
        }
    }

    /// Whether the path can be sent without SMTPUTF8.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.address().is_none_or(Address::is_ascii)
    }
}

impl FromStr for ReversePath {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

/// Shows what stands between the angle brackets: nothing for [`ReversePath::Null`].
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Where a message is to go: `RCPT TO:<…>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForwardPath {
    /// `<postmaster>` without a domain, which every server must accept.
    Postmaster,
    /// An address.
    Address(Address),
}

impl ForwardPath {
    /// Parses what stands between the angle brackets.
    ///
    /// # Errors
    /// As [`Address::parse`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        // RFC 5321 §4.1.1.3: "Postmaster" without a domain, in any case.
        if text.eq_ignore_ascii_case("postmaster") {
            return Ok(Self::Postmaster);
        }
        Address::parse(text).map(Self::Address)
    }

    /// The address meant; a bare postmaster is the one at `host`.
    #[must_use]
    pub fn at(self, host: &Domain) -> Address {
        match self {
            Self::Address(address) => address,
            Self::Postmaster => Address {
                local: "postmaster".to_string(),
                domain: host.clone(),
            },
        }
    }
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postmaster => f.write_str("postmaster"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use proptest::prelude::*;

    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn a_domain_is_lower_cased() {
        assert_eq!(domain("Example.ORG").as_str(), "example.org");
    }

    #[test]
    fn u_labels_become_a_labels_and_compare_equal() {
        assert_eq!(domain("Bücher.example"), domain("XN--bcher-kva.example"));
        assert_eq!(domain("bücher.example").as_str(), "xn--bcher-kva.example");
        assert_eq!(
            domain("xn--bcher-kva.example").to_unicode(),
            "bücher.example"
        );
    }

    #[test]
    fn literals_are_parsed_and_normalised() {
        assert_eq!(
            domain("[127.0.0.1]").ip(),
            Some("127.0.0.1".parse().unwrap())
        );
        assert_eq!(
            domain("[ipv6:2001:DB8:0::1]").as_str(),
            "[IPv6:2001:db8::1]"
        );
        assert!(domain("[127.0.0.1]").is_literal());
        assert!(!domain("example.org").is_literal());
    }

    #[test]
    fn bad_domains_are_refused() {
        for text in [
            "",
            ".",
            "a..b",
            ".a",
            "a.",
            "-a.b",
            "a-.b",
            "a b",
            "[1.2.3]",
            "[1.2.3.4",
            "[::1]",
            "[IPv6:x]",
            "[tag:x]",
            "127.0.0.1",
            "a@b",
            "a\r\nb",
            "é\u{0}.x",
            "a/b",
            "[]",
        ] {
            assert_eq!(
                Domain::parse(text),
                Err(AddressError::BadDomain),
                "{text:?}"
            );
        }
        let label = "a".repeat(64);
        assert_eq!(Domain::parse(&label), Err(AddressError::BadDomain));
        let long = format!("{}org", "abcdefg.".repeat(32));
        assert_eq!(Domain::parse(&long), Err(AddressError::TooLong));
    }

    #[test]
    fn the_quoted_local_part_is_held_without_quotes() {
        let a = address(r#""John \"J\" Doe"@example.org"#);
        assert_eq!(a.local(), r#"John "J" Doe"#);
        assert_eq!(format!("{a}"), r#""John \"J\" Doe"@example.org"#);
    }

    #[test]
    fn needless_quotes_vanish() {
        assert_eq!(
            format!("{}", address(r#""john"@example.org"#)),
            "john@example.org"
        );
    }

    #[test]
    fn an_at_sign_may_stand_in_quotes() {
        let a = address(r#""a@b"@example.org"#);
        assert_eq!(a.local(), "a@b");
        assert_eq!(a.domain().as_str(), "example.org");
    }

    #[test]
    fn utf8_local_parts_are_accepted_and_flagged() {
        assert!(!address("grüße@example.org").is_ascii());
        assert!(address("a@bücher.example").is_ascii());
    }

    #[test]
    fn the_key_is_lower_case() {
        assert_eq!(address("Alice.B@Example.ORG").key(), "alice.b@example.org");
        assert_eq!(address("ÄB@Example.ORG").key(), "äb@example.org");
    }

    #[test]
    fn bad_addresses_are_refused() {
        use AddressError::*;
        for (text, error) in [
            ("alice", NoDomain),
            ("", NoDomain),
            ("@example.org", EmptyLocalPart),
            (r#"""@example.org"#, EmptyLocalPart),
            ("a..b@example.org", BadLocalPart),
            (".a@example.org", BadLocalPart),
            ("a b@example.org", BadLocalPart),
            ("a@b@example.org", BadLocalPart),
            ("a\u{7f}@example.org", BadLocalPart),
            ("\"a\nb\"@example.org", BadLocalPart),
            ("\"a\u{0}\"@example.org", BadLocalPart),
            (r#""a\"@example.org"#, BadLocalPart),
            (r#""\ä"@example.org"#, BadLocalPart),
            (r#""a"b@example.org"#, NoDomain),
            ("a\u{85}b@example.org", BadLocalPart),
            ("a@", BadDomain),
            (";sleep 5;@example.org", BadLocalPart),
            ("<a@example.org>", BadLocalPart),
        ] {
            assert_eq!(Address::parse(text), Err(error), "{text:?}");
        }
        let long = format!("{}@example.org", "a".repeat(65));
        assert_eq!(Address::parse(&long), Err(LocalPartTooLong));
        // RFC 5321 §4.5.3.1.3: a path has 256 octets with its brackets.
        let of = |local: usize| {
            let labels = ["d".repeat(63), "d".repeat(63), "d".repeat(62)].join(".");
            Address::parse(&format!("{}@{labels}", "a".repeat(local)))
        };
        assert!(of(63).is_ok());
        assert_eq!(of(64), Err(TooLong));
    }

    #[test]
    fn the_null_path_is_the_empty_text() {
        assert_eq!(ReversePath::parse(""), Ok(ReversePath::Null));
        assert_eq!(format!("{}", ReversePath::Null), "");
        assert!(ReversePath::Null.is_ascii());
    }

    #[test]
    fn a_bare_postmaster_is_the_one_of_the_host() {
        let path = ForwardPath::parse("PostMaster").unwrap();
        assert_eq!(path, ForwardPath::Postmaster);
        assert_eq!(
            path.at(&domain("mx.example.org")),
            address("postmaster@mx.example.org")
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_parses_back(local in "\\PC{1,30}", host in "[a-z]{1,9}(\\.[a-z]{1,9}){0,3}") {
            if let Ok(a) = Address::new(&local, domain(&host)) {
                prop_assert_eq!(Address::parse(&a.to_string()), Ok(a));
            }
        }

        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC{0,80}") {
            if let Ok(a) = Address::parse(&text) {
                prop_assert_eq!(Address::parse(&a.to_string()), Ok(a));
            }
        }
    }
}
