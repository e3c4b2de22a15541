//! The parameters of `MAIL` and `RCPT` that travel with an envelope from server to server: what the sender wants besides
//! delivery. They are written, kept and passed on in the form in which they came.

use alloc::string::{String, ToString};
use core::fmt;

use crate::command::CommandError;
use crate::deliver_by::DeliverBy;
use crate::hold::Hold;
use crate::xtext;

/// RFC 3461 §4.4: longest `ENVID`.
const MAX_ENVELOPE_ID: usize = 100;
/// RFC 3461 §4.2: longest `ORCPT`.
const MAX_ORIGINAL: usize = 500;

/// What a sender wants for the whole message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// RFC 3461 §4.3: how much of the message a report about a failure shows.
    pub ret: Option<Return>,
    /// RFC 3461 §4.4: the sender's name for this transaction, printable ASCII.
    pub envelope_id: Option<String>,
    /// RFC 8689: over verified TLS all the way, or not at all.
    pub require_tls: bool,
    /// RFC 6710: which of the mail that is due goes first.
    pub priority: Option<Priority>,
    /// RFC 4865: not before then.
    pub hold: Option<Hold>,
    /// RFC 2852: by then, or it is late.
    pub by: Option<DeliverBy>,
}

/// From -9 to 9; mail without one has 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(i8);

/// How much of the message a report shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    /// All of it.
    Full,
    /// Its header.
    Headers,
}

/// What a sender wants for one recipient.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RcptParameters {
    /// RFC 3461 §4.1: of what the sender is told.
    pub notify: Option<Notify>,
    /// RFC 3461 §4.2: whom the sender named first.
    pub original: Option<OriginalRecipient>,
}

/// Of what the sender is told; of nothing with `NEVER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notify {
    /// Delivered, or handed to a server that will not tell.
    pub success: bool,
    /// Given up.
    pub failure: bool,
    /// Not delivered after some hours.
    pub delay: bool,
}

/// An address as the sender wrote it, of any address type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalRecipient {
    /// In lower case: `rfc822`, `utf-8` (RFC 6533 §3) or another type.
    kind: String,
    /// Decoded, without controls; ASCII unless the type is `utf-8`.
    address: String,
}

impl MailParameters {
    /// Reads what [`fmt::Display`] writes.
    ///
    /// # Errors
    /// A [`CommandError`] that names the parameter.
    pub fn parse(text: &str) -> Result<Self, CommandError> {
        let mut parameters = Self::default();
        for word in words(text) {
            let (key, value) = split(word);
            parameters.take(&key, value)?;
        }
        Ok(parameters)
    }

    /// Takes the parameter with the name `key`, in upper case.
    pub(crate) fn take(&mut self, key: &str, value: Option<&str>) -> Result<(), CommandError> {
        match key {
            "RET" => put(&mut self.ret, value.and_then(Return::parse), "RET"),
            "ENVID" => put(&mut self.envelope_id, value.and_then(envelope_id), "ENVID"),
            "MT-PRIORITY" => {
                let priority = value.and_then(Priority::parse);
                put(&mut self.priority, priority, "MT-PRIORITY")
            }
            // RFC 4865 §4.1: one of the two.
            "HOLDFOR" => put(&mut self.hold, value.and_then(Hold::parse_for), "HOLDFOR"),
            "HOLDUNTIL" => put(
                &mut self.hold,
                value.and_then(Hold::parse_until),
                "HOLDUNTIL",
            ),
            "BY" => put(&mut self.by, value.and_then(DeliverBy::parse), "BY"),
            // RFC 8689 §2: it has no value.
            "REQUIRETLS" if self.require_tls || value.is_some() => {
                Err(CommandError::BadParameter("REQUIRETLS"))
            }
            "REQUIRETLS" => {
                self.require_tls = true;
                Ok(())
            }
            _ => Err(CommandError::UnknownParameter),
        }
    }

    /// Whether any of DSN is asked for.
    #[must_use]
    pub const fn wants_dsn(&self) -> bool {
        self.ret.is_some() || self.envelope_id.is_some()
    }
}

impl fmt::Display for MailParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Line::new(f);
        match self.ret {
            Some(Return::Full) => line.word(format_args!("RET=FULL"))?,
            Some(Return::Headers) => line.word(format_args!("RET=HDRS"))?,
            None => {}
        }
        if let Some(id) = &self.envelope_id {
            line.word(format_args!("ENVID={}", xtext::encode(id)))?;
        }
        if self.require_tls {
            line.word(format_args!("REQUIRETLS"))?;
        }
        if let Some(Priority(number)) = self.priority {
            line.word(format_args!("MT-PRIORITY={number}"))?;
        }
        if let Some(hold) = &self.hold {
            line.word(format_args!("{hold}"))?;
        }
        if let Some(by) = &self.by {
            line.word(format_args!("BY={by}"))?;
        }
        Ok(())
    }
}

impl RcptParameters {
    /// Reads what [`fmt::Display`] writes.
    ///
    /// # Errors
    /// A [`CommandError`] that names the parameter.
    pub fn parse(text: &str) -> Result<Self, CommandError> {
        let mut parameters = Self::default();
        for word in words(text) {
            let (key, value) = split(word);
            match key.as_str() {
                "NOTIFY" => put(
                    &mut parameters.notify,
                    value.and_then(Notify::parse),
                    "NOTIFY",
                ),
                "ORCPT" => {
                    let original = value.and_then(OriginalRecipient::parse);
                    put(&mut parameters.original, original, "ORCPT")
                }
                _ => Err(CommandError::UnknownParameter),
            }?;
        }
        Ok(parameters)
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Of what the sender is told, whether it said so or not.
    #[must_use]
    pub fn notify(&self) -> Notify {
        // RFC 3461 §4.1: without NOTIFY, of failures; of delays too if we like.
        self.notify.unwrap_or(Notify {
            success: false,
            failure: true,
            delay: true,
        })
    }
}

impl fmt::Display for RcptParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Line::new(f);
        if let Some(notify) = &self.notify {
            line.word(format_args!("NOTIFY={notify}"))?;
        }
        if let Some(original) = &self.original {
            line.word(format_args!("ORCPT={original}"))?;
        }
        Ok(())
    }
}

impl Priority {
    // RFC 6710 §9: ["-"] one digit, no "-0".
    fn parse(text: &str) -> Option<Self> {
        let digit = |text: &str| match text.as_bytes() {
            [digit @ b'0'..=b'9'] => i8::try_from(digit - b'0').ok(),
            _ => None,
        };
        match text.strip_prefix('-') {
            Some(rest) => digit(rest)
                .filter(|number| *number > 0)
                .map(|number| Self(-number)),
            None => digit(text).map(Self),
        }
    }
}

impl Return {
    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "FULL" => Some(Self::Full),
            "HDRS" => Some(Self::Headers),
            _ => None,
        }
    }
}

impl Notify {
    /// Of nothing.
    pub const NEVER: Self = Self {
        success: false,
        failure: false,
        delay: false,
    };

    // RFC 3461 §4.1: "NEVER", or a list of the others, each once.
    fn parse(text: &str) -> Option<Self> {
        let mut notify = Self::NEVER;
        if text.eq_ignore_ascii_case("NEVER") {
            return Some(notify);
        }
        for word in text.split(',') {
            let place = match word.to_ascii_uppercase().as_str() {
                "SUCCESS" => &mut notify.success,
                "FAILURE" => &mut notify.failure,
                "DELAY" => &mut notify.delay,
                _ => return None,
            };
            if core::mem::replace(place, true) {
                return None;
            }
        }
        Some(notify)
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, wanted) in [
            ("SUCCESS", self.success),
            ("FAILURE", self.failure),
            ("DELAY", self.delay),
        ] {
            if wanted {
                write!(f, "{separator}{name}")?;
                separator = ",";
            }
        }
        match separator {
            "" => f.write_str("NEVER"),
            _ => Ok(()),
        }
    }
}

impl OriginalRecipient {
    /// The address of a `RCPT` that gave none itself (RFC 3461 §5.2.7); `None` when it is longer than `ORCPT` may be.
    #[must_use]
    pub fn of(address: &str) -> Option<Self> {
        let kind = match address.is_ascii() {
            true => "rfc822",
            false => "utf-8",
        };
        let original = Self {
            kind: kind.into(),
            address: address.into(),
        };
        (original.to_string().len() <= MAX_ORIGINAL).then_some(original)
    }

    // RFC 3461 §4.2: addr-type ";" xtext; RFC 6533 §3 has another code for the type utf-8.
    fn parse(text: &str) -> Option<Self> {
        let (kind, address) = text
            .split_once(';')
            .filter(|_| text.len() <= MAX_ORIGINAL)?;
        let kind = Some(kind)
            .filter(|kind| is_atom(kind))?
            .to_ascii_lowercase();
        let address = match kind.as_str() {
            "utf-8" => unescape(address)?,
            _ => xtext::decode(address)?,
        };
        (!address.trim().is_empty()).then_some(Self { kind, address })
    }

    /// The value of the field `Original-Recipient` of a report (RFC 3464 §2.3.1), ASCII.
    #[must_use]
    pub fn field(&self) -> String {
        match self.kind.as_str() {
            "utf-8" => alloc::format!("utf-8; {}", escape(&self.address)),
            kind => alloc::format!("{kind}; {}", self.address),
        }
    }
}

/// As in `ORCPT=`, in ASCII.
impl fmt::Display for OriginalRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.as_str() {
            "utf-8" => write!(f, "utf-8;{}", escape(&self.address)),
            kind => write!(f, "{kind};{}", xtext::encode(&self.address)),
        }
    }
}

/// `utf-8-addr-xtext` of RFC 6533 §3: an address in printable ASCII that stands in any parameter and any field.
#[must_use]
pub fn escape(address: &str) -> String {
    let mut out = String::with_capacity(address.len());
    for c in address.chars() {
        match c {
            '!'..='~' if !matches!(c, '\\' | '+' | '=') => out.push(c),
            c => out.push_str(&alloc::format!("\\x{{{:02X}}}", u32::from(c))),
        }
    }
    out
}

// RFC 6533 §3: both utf-8-addr-xtext and utf-8-addr-unitext.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = match c {
            '\\' => {
                let (digits, after) = rest.strip_prefix("\\x{")?.split_once('}')?;
                out.push(code_point(digits)?);
                after
            }
            '+' | '=' => return None,
            c if c.is_control() || c == ' ' => return None,
            c => {
                out.push(c);
                rest.get(c.len_utf8()..)?
            }
        };
    }
    Some(out)
}

fn code_point(digits: &str) -> Option<char> {
    let is_hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    if !(2..=6).contains(&digits.len()) || !digits.bytes().all(is_hex) {
        return None;
    }
    let c = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
    (!c.is_control()).then_some(c)
}

fn is_atom(text: &str) -> bool {
    let special = |b: u8| b"()<>[]:;@\\,.\"".contains(&b);
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !special(b))
}

// RFC 3461 §4.4.
fn envelope_id(text: &str) -> Option<String> {
    let text = Some(text).filter(|text| (1..=MAX_ENVELOPE_ID).contains(&text.len()))?;
    xtext::decode(text)
}

/// The parameters in what follows a path.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !word.is_empty())
}

/// The name of a parameter in upper case, and its value.
pub(crate) fn split(word: &str) -> (String, Option<&str>) {
    match word.split_once('=') {
        Some((key, value)) => (key.to_ascii_uppercase(), Some(value)),
        None => (word.to_ascii_uppercase(), None),
    }
}

// A parameter that makes sense and did not come before.
fn put<T>(place: &mut Option<T>, value: Option<T>, key: &'static str) -> Result<(), CommandError> {
    if place.is_some() || value.is_none() {
        return Err(CommandError::BadParameter(key));
    }
    *place = value;
    Ok(())
}

/// Writes words with spaces between them.
struct Line<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    is_empty: bool,
}

impl<'a, 'b> Line<'a, 'b> {
    fn new(out: &'a mut fmt::Formatter<'b>) -> Self {
        let is_empty = true;
        Self { out, is_empty }
    }

    fn word(&mut self, word: fmt::Arguments<'_>) -> fmt::Result {
        if !core::mem::take(&mut self.is_empty) {
            self.out.write_str(" ")?;
        }
        self.out.write_fmt(word)
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use proptest::prelude::*;

    use super::*;

    fn rcpt(text: &str) -> RcptParameters {
        RcptParameters::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"))
    }

    #[test]
    fn dsn_parameters_are_written_as_they_were_read() {
        for text in [
            "",
            "NOTIFY=NEVER",
            "NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;bob+2Bx@example.org",
            "NOTIFY=DELAY",
            "ORCPT=utf-8;j\\x{F6}rg@example.org",
            "ORCPT=x400;/C+3Dde/",
        ] {
            assert_eq!(rcpt(text).to_string(), text);
        }
        for (text, dsn) in [
            ("RET=FULL", true),
            ("RET=HDRS ENVID=QQ+2B314159 REQUIRETLS", true),
            ("ENVID=a+20b", true),
            ("REQUIRETLS", false),
            ("MT-PRIORITY=-9", false),
            ("HOLDFOR=60", false),
            ("BY=60;RT", false),
            ("HOLDUNTIL=2026-11-27T23:15:07Z", false),
            ("REQUIRETLS MT-PRIORITY=9", false),
        ] {
            let parameters = MailParameters::parse(text).unwrap();
            assert_eq!(parameters.wants_dsn(), dsn);
            assert_eq!(parameters.to_string(), text);
        }
    }

    #[test]
    fn lists_that_contradict_themselves_are_refused() {
        for value in [
            "",
            "=",
            "=NEVER,FAILURE",
            "=FAILURE,NEVER",
            "=SUCCESS,SUCCESS",
            "=SUCCESS,",
            "=ALWAYS",
            "=SUCCESS NOTIFY=FAILURE",
        ] {
            assert_eq!(
                RcptParameters::parse(&format!("NOTIFY{value}")),
                Err(CommandError::BadParameter("NOTIFY")),
                "{value}"
            );
        }
        assert_eq!(rcpt("notify=never").notify().to_string(), "NEVER");
        assert_eq!(rcpt("").notify().to_string(), "FAILURE,DELAY");
    }

    #[test]
    fn original_recipients_are_typed_and_bounded() {
        for value in [
            "bob@example.org",
            ";bob@example.org",
            "rfc 822;b@c",
            "rfc822;",
            "rfc822;+20",
            "rfc822;b+0D+0A@c",
            "rfc822;j\u{f6}rg@c",
            "utf-8;b\\x{0A}@c",
            "utf-8;b\\x{f6}@c",
            "utf-8;b\\x{D800}@c",
            "utf-8;b\\x{F6@c",
            "utf-8;b+20@c",
        ] {
            let text = format!("ORCPT={value}");
            let refused = RcptParameters::parse(&text).unwrap_err();
            assert_eq!(refused, CommandError::BadParameter("ORCPT"), "{value}");
        }
        let long = |n: usize| format!("ORCPT=rfc822;{}", "x".repeat(n));
        assert!(RcptParameters::parse(&long(493)).is_ok());
        assert!(RcptParameters::parse(&long(494)).is_err());
    }

    #[test]
    fn an_original_recipient_in_utf8_becomes_ascii_on_the_way() {
        let parameters = rcpt("ORCPT=UTF-8;j\u{f6}rg@example.org");
        let original = parameters.original.unwrap();
        assert_eq!(original.to_string(), "utf-8;j\\x{F6}rg@example.org");
        assert_eq!(original.field(), "utf-8; j\\x{F6}rg@example.org");
        assert_eq!(
            OriginalRecipient::of("j\u{f6}rg@example.org"),
            Some(original)
        );
        let plain = OriginalRecipient::of("a+b@example.org").unwrap();
        assert_eq!(plain.to_string(), "rfc822;a+2Bb@example.org");
        assert_eq!(plain.field(), "rfc822; a+b@example.org");
        assert_eq!(OriginalRecipient::of(&"\u{f6}".repeat(100)), None);
    }

    #[test]
    fn envelope_ids_are_printable_and_bounded() {
        for value in ["", &"x".repeat(101), "a=b", "+0A", "\u{e9}"] {
            assert_eq!(
                MailParameters::parse(&format!("ENVID={value}")),
                Err(CommandError::BadParameter("ENVID")),
                "{value}"
            );
        }
        assert!(MailParameters::parse(&format!("ENVID={}", "x".repeat(100))).is_ok());
        assert_eq!(
            MailParameters::parse("RET=FULL RET=FULL"),
            Err(CommandError::BadParameter("RET"))
        );
        for text in ["REQUIRETLS=yes", "REQUIRETLS=", "REQUIRETLS REQUIRETLS"] {
            assert_eq!(
                MailParameters::parse(text),
                Err(CommandError::BadParameter("REQUIRETLS")),
                "{text}"
            );
        }
        for (text, key) in [
            ("HOLDFOR=0", "HOLDFOR"),
            ("BY=0;R", "BY"),
            ("BY=1;R BY=1;R", "BY"),
            ("HOLDUNTIL=tomorrow", "HOLDUNTIL"),
            ("HOLDFOR=1 HOLDUNTIL=2026-11-27T23:15:07Z", "HOLDUNTIL"),
        ] {
            let refused = MailParameters::parse(text);
            assert_eq!(refused, Err(CommandError::BadParameter(key)), "{text}");
        }
        for value in [
            "",
            "=",
            "=10",
            "=-10",
            "=+1",
            "=-0",
            "=x",
            "=1 MT-PRIORITY=1",
        ] {
            assert_eq!(
                MailParameters::parse(&format!("MT-PRIORITY{value}")),
                Err(CommandError::BadParameter("MT-PRIORITY")),
                "{value}"
            );
        }
        assert_eq!(
            MailParameters::parse("RET=BODY"),
            Err(CommandError::BadParameter("RET"))
        );
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_and_read_again(
            notify in "(NEVER|SUCCESS|FAILURE,DELAY|)",
            kind in "(rfc822|utf-8|x400)",
            address in "\\PC{1,40}",
            id in "[ -~]{1,40}",
        ) {
            let text = format!("NOTIFY={notify} ORCPT={kind};{address}");
            if let Ok(read) = RcptParameters::parse(&text) {
                prop_assert_eq!(RcptParameters::parse(&read.to_string()), Ok(read));
            }
            if let Ok(read) = MailParameters::parse(&format!("ENVID={id}")) {
                prop_assert_eq!(MailParameters::parse(&read.to_string()), Ok(read));
            }
        }
    }
}
