//! XCLIENT, as Postfix has it (XCLIENT_README): a proxy says who its client is.
//!
//! ```text
//! xclient   = "XCLIENT" 1*(SP attribute "=" xtext)
//! attribute = "NAME" / "ADDR" / "PORT" / "PROTO" / "HELO" / "LOGIN" / "DESTADDR" / "DESTPORT"
//! ```

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};

use crate::command::{CommandError, HelloName};

/// The attributes in the order in which they are offered.
pub const ATTRIBUTES: &str = "NAME ADDR PORT PROTO HELO DESTADDR DESTPORT";
/// How the command is written.
const USAGE: &str = "XCLIENT attribute=value ...";

/// What a proxy says of its client. What it leaves out stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Xclient {
    /// The address.
    pub address: Option<IpAddr>,
    /// The port; of use in logs only.
    pub port: Option<u16>,
    /// What it called itself.
    pub hello: Option<HelloName>,
    /// Whether that was with EHLO.
    pub is_extended: bool,
    /// Who logged in at the proxy.
    pub login: Option<String>,
}

/// Which attributes came.
#[derive(Default)]
struct Seen(Vec<String>);

impl Xclient {
    /// Parses what stands behind the verb.
    ///
    /// # Errors
    /// [`CommandError::Syntax`], or `BadParameter` for an attribute that is unknown, has an impossible value or comes twice.
    pub fn parse(rest: &str) -> Result<Self, CommandError> {
        let mut said = Self::default();
        let mut seen = Seen::default();
        for attribute in rest.split(' ').filter(|text| !text.is_empty()) {
            let (name, value) = attribute
                .split_once('=')
                .ok_or(CommandError::Syntax(USAGE))?;
            let name = name.to_ascii_uppercase();
            let value = decode(value).ok_or(CommandError::BadParameter("of XCLIENT"))?;
            said.take(&name, &value)?;
            seen.note(name)?;
        }
        match seen.0.is_empty() {
            true => Err(CommandError::Syntax(USAGE)),
            false => Ok(said),
        }
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), CommandError> {
        // What the proxy does not know, or cannot find out at the moment.
        let value = Some(value).filter(|value| !is_absent(value));
        let bad = |key| CommandError::BadParameter(key);
        match (name, value) {
            // Everything that is decided by the address needs one.
            ("ADDR", value) => {
                let address = value.and_then(parse_address).ok_or(bad("ADDR"))?;
                self.address = Some(address);
            }
            ("PORT", Some(value)) => self.port = Some(parse_port(value).ok_or(bad("PORT"))?),
            ("HELO", Some(value)) => {
                self.hello = Some(HelloName::parse(value).ok_or(bad("HELO"))?);
            }
            ("PROTO", Some(value)) => {
                let is_plain = value.eq_ignore_ascii_case("SMTP");
                if !is_plain && !value.eq_ignore_ascii_case("ESMTP") {
                    return Err(bad("PROTO"));
                }
                self.is_extended = !is_plain;
            }
            ("LOGIN", Some(value)) => self.login = Some(value.into()),
            // Names are found out, not believed; the rest is of no use here. They are checked all the same.
            ("NAME", Some(value)) => drop(HelloName::parse(value).ok_or(bad("NAME"))?),
            ("DESTADDR", Some(value)) => drop(parse_address(value).ok_or(bad("DESTADDR"))?),
            ("DESTPORT", Some(value)) => drop(parse_port(value).ok_or(bad("DESTPORT"))?),
            ("PORT" | "HELO" | "PROTO" | "LOGIN" | "NAME" | "DESTADDR" | "DESTPORT", None) => {}
            _ => return Err(bad("of XCLIENT")),
        }
        Ok(())
    }
}

impl Seen {
    fn note(&mut self, name: String) -> Result<(), CommandError> {
        if self.0.contains(&name) {
            return Err(CommandError::BadParameter("of XCLIENT"));
        }
        self.0.push(name);
        Ok(())
    }
}

fn is_absent(value: &str) -> bool {
    let is = |word: &str| value.eq_ignore_ascii_case(word);
    is("[UNAVAILABLE]") || is("[TEMPUNAVAIL]")
}

fn parse_address(text: &str) -> Option<IpAddr> {
    let head = text.get(..5).unwrap_or_default();
    let address = match head.eq_ignore_ascii_case("IPV6:") {
        true => text.get(5..)?.parse::<Ipv6Addr>().ok()?.into(),
        false => text.parse::<IpAddr>().ok()?,
    };
    Some(address.to_canonical())
}

fn parse_port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

// The xtext of DSN, which XCLIENT_README names: it has "+" and two upper case hexadecimal digits for what cannot stand for itself.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'+' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            b'=' => return None,
            b'!'..=b'~' => b,
            _ => return None,
        });
    }
    let text = String::from_utf8(out).ok()?;
    let is_clean = !text.is_empty() && !text.chars().any(char::is_control);
    is_clean.then_some(text)
}

fn digit(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attributes_are_read() {
        let said = Xclient::parse(
            "name=spike.example ADDR=IPv6:2001:db8::1 PORT=4711 PROTO=ESMTP HELO=[IPv6:2001:db8::1] \
             LOGIN=al+2Bice@example.org DESTADDR=192.0.2.1 DESTPORT=587",
        );
        let said = said.unwrap();
        assert_eq!(said.address, "2001:db8::1".parse().ok());
        assert_eq!(said.port, Some(4711));
        assert!(said.is_extended);
        assert_eq!(said.hello.unwrap().as_str(), "[IPv6:2001:db8::1]");
        assert_eq!(said.login.unwrap(), "al+ice@example.org");
        let mapped = Xclient::parse("ADDR=::ffff:192.0.2.7").unwrap();
        assert_eq!(mapped.address, "192.0.2.7".parse().ok());
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let said = Xclient::parse("NAME=[UNAVAILABLE] LOGIN=[unavailable] HELO=[TEMPUNAVAIL]");
        assert_eq!(said, Ok(Xclient::default()));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for rest in [
            "",
            "ADDR",
            "ADDR=",
            "ADDR=[UNAVAILABLE]",
            "ADDR=localhost",
            "ADDR=IPV6:192.0.2.1",
            "ADDR=192.0.2.1 ADDR=192.0.2.2",
            "ADDR=192.0.2.1 addr=192.0.2.1",
            "PORT=65536",
            "PORT=+2B1",
            "PROTO=LMTP",
            "HELO=a+20b",
            "LOGIN=a+0D+0Ab",
            "LOGIN=a+4",
            "LOGIN=a+zz",
            "LOGIN=+FF",
            "LOGIN=a=b",
            "NAME=<>",
            "DESTADDR=x",
            "DESTPORT=-1",
            "COLOUR=red",
        ] {
            assert!(Xclient::parse(rest).is_err(), "{rest}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(rest in "\\PC{0,80}") {
            let _ = Xclient::parse(&rest);
            for name in ["ADDR=", "LOGIN=", "PORT=", "HELO=", "ADDR=IPV6:"] {
                let _ = Xclient::parse(&alloc::format!("{name}{rest}"));
            }
        }
    }
}
