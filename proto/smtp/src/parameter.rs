//! The parameters of `MAIL` and `RCPT` that travel with an envelope from server to server: what the sender wants besides
//! delivery. They are written, kept and passed on in the form in which they came.

use alloc::string::String;
use core::fmt;

use crate::command::CommandError;
use crate::deliver_by::DeliverBy;
use crate::hold::Hold;
use crate::original::OriginalRecipient;
use crate::xtext;

/// RFC 3461 §4.4: longest `ENVID`.
const MAX_ENVELOPE_ID: usize = 100;
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
    use alloc::string::ToString;

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
        fn what_is_read_is_written_and_read_again(text in "(NOTIFY=|BY=|ENVID=|)[ -~]{0,40}") {
            if let Ok(read) = RcptParameters::parse(&text) {
                prop_assert_eq!(RcptParameters::parse(&read.to_string()), Ok(read));
            }
            if let Ok(read) = MailParameters::parse(&text) {
                prop_assert_eq!(MailParameters::parse(&read.to_string()), Ok(read));
            }
        }
    }
}
