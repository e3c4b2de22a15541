//! Commands: one line in, one [`Command`] out.

use alloc::string::{String, ToString};
use core::fmt;

use mail::address::{AddressError, Domain, ForwardPath, ReversePath};

use crate::auth::Mechanism;
use crate::parameter::{self, MailParameters, RcptParameters};
use crate::xclient::Xclient;

/// A command that is well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `EHLO name`.
    Ehlo(HelloName),
    /// `HELO name`.
    Helo(HelloName),
    /// `LHLO name`, the `EHLO` of LMTP.
    Lhlo(HelloName),
    /// `MAIL FROM:<…> …`.
    Mail(Mail),
    /// `RCPT TO:<…> …`.
    Rcpt(Rcpt),
    /// `DATA`.
    Data,
    /// `BDAT size [LAST]`.
    Bdat {
        /// How many octets of the message follow the line.
        size: u64,
        /// They are the last ones.
        last: bool,
    },
    /// `RSET`.
    Rset,
    /// `NOOP`.
    Noop,
    /// `QUIT`.
    Quit,
    /// `VRFY …`.
    Vrfy,
    /// `HELP`.
    Help,
    /// `STARTTLS`.
    StartTls,
    /// `AUTH mechanism [initial-response]`.
    Auth {
        /// How.
        mechanism: Mechanism,
        /// The initial response, still in base64; `=` (empty) becomes the empty text.
        initial: Option<String>,
    },
    /// `XCLIENT attribute=value …`.
    Xclient(Xclient),
}

/// What `MAIL` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Who is told if it cannot be delivered.
    pub sender: ReversePath,
    /// RFC 1870: how large the message will be.
    pub size: Option<u64>,
    /// What the body holds.
    pub body: BodyType,
    /// RFC 6531: addresses and header may be UTF-8.
    pub smtputf8: bool,
    /// What else the sender wants.
    pub parameters: MailParameters,
}

/// What `RCPT` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rcpt {
    /// To whom.
    pub path: ForwardPath,
    /// What the sender wants for it.
    pub parameters: RcptParameters,
}

/// What a message's body holds, as its sender declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyType {
    /// Lines of ASCII.
    SevenBit,
    /// RFC 6152: lines with octets above 127.
    EightBit,
    /// RFC 3030 §3: any octets, not even in lines.
    Binary,
}

/// The name a client gives itself, safe to show in a header or a log.
///
/// RFC 5321 §4.1.4 forbids refusing mail because the name is not true, so no more than its letters
/// are checked: `ALPHA DIGIT - . _ : [ ]`, or a host name with U-labels (kept as A-labels).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloName(String);

impl HelloName {
    const MAX: usize = 255;

    /// Parses the argument of `EHLO` and `HELO`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > Self::MAX {
            return None;
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        if text.bytes().all(plain) {
            return Some(Self(text.into()));
        }
        Domain::parse(text).ok().map(|name| Self(name.to_string()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HelloName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a line is not a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// No such command.
    Unknown,
    /// A command of SMTP that we do not have.
    NotImplemented,
    /// `BDAT` that does not say how many octets follow it, which are no commands.
    Bdat,
    /// A request line of HTTP: somebody uses a browser to speak to us (ALPACA).
    Http,
    /// The line is not UTF-8.
    NotUtf8,
    /// The command is known; this is how it is written.
    Syntax(&'static str),
    /// The address is wrong.
    Address(AddressError),
    /// A parameter has an impossible value or comes twice.
    BadParameter(&'static str),
    /// A parameter that we did not offer.
    UnknownParameter,
    /// A SASL mechanism that we did not offer.
    UnknownMechanism,
}

impl Command {
    /// Parses a line, which comes without its CRLF.
    ///
    /// # Errors
    /// A [`CommandError`] that says what is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        let line = core::str::from_utf8(line).map_err(|_| CommandError::NotUtf8)?;
        // RFC 5321 §2.3.8 asks to tolerate trailing white space.
        let line = line.trim_end_matches([' ', '\t']);
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let verb = verb.to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => parse_hello(rest, "EHLO host.name").map(Self::Ehlo),
            "HELO" => parse_hello(rest, "HELO host.name").map(Self::Helo),
            "LHLO" => parse_hello(rest, "LHLO host.name").map(Self::Lhlo),
            "MAIL" => parse_mail(rest).map(Self::Mail),
            "RCPT" => parse_rcpt(rest).map(Self::Rcpt),
            "DATA" => alone(rest, Self::Data, "DATA"),
            "RSET" => alone(rest, Self::Rset, "RSET"),
            "QUIT" => alone(rest, Self::Quit, "QUIT"),
            "STARTTLS" => alone(rest, Self::StartTls, "STARTTLS"),
            "NOOP" => Ok(Self::Noop),
            "HELP" => Ok(Self::Help),
            "VRFY" if rest.is_empty() => Err(CommandError::Syntax("VRFY address")),
            "VRFY" => Ok(Self::Vrfy),
            "AUTH" => parse_auth(rest),
            "BDAT" => parse_bdat(rest).ok_or(CommandError::Bdat),
            "XCLIENT" => Xclient::parse(rest).map(Self::Xclient),
            "EXPN" | "TURN" | "ETRN" | "SEND" | "SOML" | "SAML" => {
                Err(CommandError::NotImplemented)
            }
            "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE"
            | "PATCH" | "PRI" | "HOST:" => Err(CommandError::Http),
            _ => Err(CommandError::Unknown),
        }
    }
}

fn alone(rest: &str, command: Command, usage: &'static str) -> Result<Command, CommandError> {
    if rest.is_empty() {
        Ok(command)
    } else {
        Err(CommandError::Syntax(usage))
    }
}

fn parse_hello(rest: &str, usage: &'static str) -> Result<HelloName, CommandError> {
    HelloName::parse(rest).ok_or(CommandError::Syntax(usage))
}

// RFC 5321 §4.1.1.2: "MAIL FROM:" Reverse-path [SP Mail-parameters].
fn parse_mail(rest: &str) -> Result<Mail, CommandError> {
    const USAGE: &str = "MAIL FROM:<address>";
    let (path, parameters) = parse_path(rest, "FROM:", USAGE)?;
    let mut mail = Mail {
        sender: ReversePath::parse(path).map_err(CommandError::Address)?,
        size: None,
        body: BodyType::SevenBit,
        smtputf8: false,
        parameters: MailParameters::default(),
    };
    let mut seen = Seen::default();
    for parameter in parameter::words(parameters) {
        parse_parameter(parameter, &mut mail, &mut seen)?;
    }
    Ok(mail)
}

/// The parameters of `MAIL` met so far.
#[derive(Default)]
struct Seen {
    size: bool,
    body: bool,
    smtputf8: bool,
    auth: bool,
}

fn parse_parameter(text: &str, mail: &mut Mail, seen: &mut Seen) -> Result<(), CommandError> {
    let (key, value) = parameter::split(text);
    match key.as_str() {
        "SIZE" => {
            once(&mut seen.size, "SIZE")?;
            mail.size = Some(parse_size(value).ok_or(CommandError::BadParameter("SIZE"))?);
        }
        "BODY" => {
            once(&mut seen.body, "BODY")?;
            mail.body = parse_body(value).ok_or(CommandError::BadParameter("BODY"))?;
        }
        "SMTPUTF8" => {
            once(&mut seen.smtputf8, "SMTPUTF8")?;
            if value.is_some() {
                return Err(CommandError::BadParameter("SMTPUTF8"));
            }
            mail.smtputf8 = true;
        }
        // RFC 4954 §5: from peers that are not trusted to say it, AUTH= counts as AUTH=<>.
        "AUTH" => {
            once(&mut seen.auth, "AUTH")?;
            if value.is_none_or(str::is_empty) {
                return Err(CommandError::BadParameter("AUTH"));
            }
        }
        key => mail.parameters.take(key, value)?,
    }
    Ok(())
}

fn once(seen: &mut bool, key: &'static str) -> Result<(), CommandError> {
    if core::mem::replace(seen, true) {
        return Err(CommandError::BadParameter(key));
    }
    Ok(())
}

// RFC 1870 §3: size-value = 1*20DIGIT. What does not fit is larger than any limit.
fn parse_size(value: Option<&str>) -> Option<u64> {
    let value = value.filter(|v| (1..=20).contains(&v.len()))?;
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u64::MAX))
}

// RFC 6152 §2: body-value = "7BIT" / "8BITMIME"; RFC 3030 §3 adds "BINARYMIME".
fn parse_body(value: Option<&str>) -> Option<BodyType> {
    match value?.to_ascii_uppercase().as_str() {
        "7BIT" => Some(BodyType::SevenBit),
        "8BITMIME" => Some(BodyType::EightBit),
        "BINARYMIME" => Some(BodyType::Binary),
        _ => None,
    }
}

// RFC 3030 §2: "BDAT" SP chunk-size [SP "LAST"].
fn parse_bdat(rest: &str) -> Option<Command> {
    let (size, mark) = match rest.split_once(' ') {
        Some((size, mark)) => (size, Some(mark)),
        None => (rest, None),
    };
    let size = parse_size(Some(size))?;
    let last = mark.is_some();
    mark.is_none_or(|mark| mark.eq_ignore_ascii_case("LAST"))
        .then_some(Command::Bdat { size, last })
}

// RFC 5321 §4.1.1.3: "RCPT TO:" Forward-path [SP Rcpt-parameters].
fn parse_rcpt(rest: &str) -> Result<Rcpt, CommandError> {
    let (path, parameters) = parse_path(rest, "TO:", "RCPT TO:<address>")?;
    Ok(Rcpt {
        path: ForwardPath::parse(path).map_err(CommandError::Address)?,
        parameters: RcptParameters::parse(parameters)?,
    })
}

// Splits `FROM:<path> parameters` into the path without brackets and source route, and the rest.
fn parse_path<'a>(
    rest: &'a str,
    keyword: &str,
    usage: &'static str,
) -> Result<(&'a str, &'a str), CommandError> {
    let error = CommandError::Syntax(usage);
    let (head, tail) = rest.split_at_checked(keyword.len()).ok_or(error.clone())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return Err(error);
    }
    // RFC 5321 §3.3 allows no space after the colon (deviation): many clients send one.
    let tail = tail
        .trim_start_matches(' ')
        .strip_prefix('<')
        .ok_or(error.clone())?;
    let end = path_end(tail).ok_or(error.clone())?;
    let (path, after) = tail.split_at_checked(end).ok_or(error.clone())?;
    let after = after.strip_prefix('>').ok_or(error.clone())?;
    if !after.is_empty() && !after.starts_with(' ') {
        return Err(error);
    }
    Ok((strip_route(path), after.trim_start_matches(' ')))
}

// Where the ">" stands that no quotes enclose.
fn path_end(path: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, b) in path.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

// RFC 5321 §4.1.1.3, appendix C: a source route "@a,@b:" is accepted and ignored.
fn strip_route(path: &str) -> &str {
    if !path.starts_with('@') {
        return path;
    }
    path.split_once(':').map_or(path, |(_, address)| address)
}

// RFC 4954 §4: "AUTH" SP mechanism [SP initial-response].
fn parse_auth(rest: &str) -> Result<Command, CommandError> {
    const USAGE: &str = "AUTH mechanism [initial-response]";
    let mut words = rest.split(' ');
    let name = words.next().filter(|name| !name.is_empty());
    let name = name.ok_or(CommandError::Syntax(USAGE))?;
    let mechanism = Mechanism::parse(name).ok_or(CommandError::UnknownMechanism)?;
    let initial = words.next().map(|text| if text == "=" { "" } else { text });
    if words.next().is_some() {
        return Err(CommandError::Syntax(USAGE));
    }
    Ok(Command::Auth {
        mechanism,
        initial: initial.map(Into::into),
    })
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn parse(line: &str) -> Result<Command, CommandError> {
        Command::parse(line.as_bytes())
    }

    fn mail(line: &str) -> Mail {
        match parse(line) {
            Ok(Command::Mail(mail)) => mail,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn verbs_are_known_in_any_case() {
        assert_eq!(parse("data"), Ok(Command::Data));
        assert_eq!(parse("qUiT  "), Ok(Command::Quit));
        assert_eq!(parse("NOOP whatever"), Ok(Command::Noop));
        assert_eq!(parse(""), Err(CommandError::Unknown));
        assert_eq!(parse("DATA now"), Err(CommandError::Syntax("DATA")));
    }

    #[test]
    fn mail_takes_its_parameters() {
        let m = mail("MAIL FROM:<a@b.example> SIZE=10 body=8bitmime SMTPUTF8 AUTH=<>");
        assert_eq!(format!("{}", m.sender), "a@b.example");
        assert_eq!(m.size, Some(10));
        assert!(m.body == BodyType::EightBit && m.smtputf8);
        assert_eq!(mail("MAIL FROM:<> BODY=binarymime").body, BodyType::Binary);
        assert_eq!(mail("mail from: <>").sender, ReversePath::Null);
        assert_eq!(
            mail("MAIL FROM:<> SIZE=99999999999999999999").size,
            Some(u64::MAX)
        );
    }

    #[test]
    fn bad_parameters_are_refused() {
        use CommandError::*;
        for (parameters, error) in [
            ("SIZE", BadParameter("SIZE")),
            ("SIZE=", BadParameter("SIZE")),
            ("SIZE=-1", BadParameter("SIZE")),
            ("SIZE=1 SIZE=2", BadParameter("SIZE")),
            ("BODY=BINARY", BadParameter("BODY")),
            ("SMTPUTF8=yes", BadParameter("SMTPUTF8")),
            ("AUTH=", BadParameter("AUTH")),
            ("RET=HDRS RET=HDRS", BadParameter("RET")),
            ("RETURN=HDRS", UnknownParameter),
        ] {
            assert_eq!(
                parse(&format!("MAIL FROM:<> {parameters}")),
                Err(error),
                "{parameters}"
            );
        }
        assert_eq!(parse("RCPT TO:<a@b> SIZE=1"), Err(UnknownParameter));
        let twice = parse("RCPT TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER");
        assert_eq!(twice, Err(BadParameter("NOTIFY")));
    }

    #[test]
    fn paths_are_read_with_their_quotes() {
        let rcpt = |line: &str| match parse(line) {
            Ok(Command::Rcpt(rcpt)) => format!("{}", rcpt.path),
            other => format!("{other:?}"),
        };
        assert_eq!(rcpt(r#"RCPT TO:<"a>b"@c>"#), r#""a>b"@c"#);
        assert_eq!(rcpt(r#"RCPT TO:<"a\">b"@c>"#), r#""a\">b"@c"#);
        assert_eq!(rcpt("RCPT TO:<@x,@y:a@c>"), "a@c");
        assert_eq!(rcpt("RCPT TO:<PostMaster>"), "postmaster");
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for line in [
            "RCPT",
            "RCPT TO",
            "RCPT TO:",
            "RCPT TO:a@b",
            "RCPT TO:<a@b",
            "RCPT FROM:<a@b>",
            "RCPT TO:<a@b>x",
            "RCPT TO:a@b>",
            "RCPT TO :<a@b>",
            "RCPT OF:<a@b>",
        ] {
            assert_eq!(
                parse(line),
                Err(CommandError::Syntax("RCPT TO:<address>")),
                "{line}"
            );
        }
        for line in [
            "RCPT TO:<>",
            r#"RCPT TO:<""@d>"#,
            "RCPT TO:<;sleep 5;>",
            "RCPT TO:<alice>",
        ] {
            assert!(
                matches!(parse(line), Err(CommandError::Address(_))),
                "{line}"
            );
        }
        assert_eq!(
            Command::parse(b"RCPT TO:<\xc3@d>"),
            Err(CommandError::NotUtf8)
        );
    }

    #[test]
    fn hello_names_are_checked_for_letters_only() {
        for name in [
            "localhost",
            "[127.0.0.1]",
            "[IPv6:::1]",
            "my_pc",
            "1.2.3.4",
            "bücher.example",
        ] {
            assert!(HelloName::parse(name).is_some(), "{name}");
        }
        for name in ["", "a b", "a(b", "<x>", "a\tb", "ü ü"] {
            assert!(HelloName::parse(name).is_none(), "{name}");
        }
    }

    #[test]
    fn auth_takes_an_initial_response() {
        let auth = |initial: Option<&str>| {
            Ok(Command::Auth {
                mechanism: Mechanism::Plain,
                initial: initial.map(Into::into),
            })
        };
        assert_eq!(parse("AUTH plain"), auth(None));
        assert_eq!(parse("AUTH PLAIN ="), auth(Some("")));
        assert_eq!(parse("AUTH PLAIN AGEAYg=="), auth(Some("AGEAYg==")));
        assert_eq!(parse("AUTH CRAM-MD5"), Err(CommandError::UnknownMechanism));
        assert!(parse("AUTH").is_err() && parse("AUTH PLAIN a b").is_err());
    }

    #[test]
    fn bdat_says_how_many_octets_follow() {
        let bdat = |size, last| Ok(Command::Bdat { size, last });
        assert_eq!(parse("BDAT 0"), bdat(0, false));
        assert_eq!(parse("bdat 86 last"), bdat(86, true));
        assert_eq!(parse("BDAT 18446744073709551616"), bdat(u64::MAX, false));
        for rest in [
            "",
            " LAST",
            " -1",
            " +1",
            " 0x10",
            " 1 LAST x",
            " 1 MORE",
            " 1  LAST",
            "  1",
        ] {
            assert_eq!(
                parse(&format!("BDAT{rest}")),
                Err(CommandError::Bdat),
                "{rest:?}"
            );
        }
    }

    #[test]
    fn http_is_recognised() {
        assert_eq!(parse("GET / HTTP/1.1"), Err(CommandError::Http));
        assert_eq!(parse("POST /x HTTP/1.0"), Err(CommandError::Http));
    }

    proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(line: Vec<u8>, rest in "\\PC{0,60}") {
            let _ = Command::parse(&line);
            for verb in ["MAIL FROM:", "RCPT TO:<", "AUTH ", "EHLO "] {
                let _ = parse(&format!("{verb}{rest}"));
            }
        }
    }
}
