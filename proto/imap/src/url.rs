//! IMAP URLs (RFC 5092) that name a message or a part of one: `/INBOX;UIDVALIDITY=7/;UID=20/;SECTION=1.2`.

use alloc::string::String;
use alloc::vec::Vec;

use crate::body::{Partial, Section};
use crate::mailbox::normalize;
use crate::parse;

/// What a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// The server it says it is on; `None` for the one it is told to.
    pub server: Option<Server>,
    /// The mailbox; `None` for the one that is selected.
    pub mailbox: Option<String>,
    /// The UIDVALIDITY for which it is right.
    pub uid_validity: Option<u32>,
    /// The message.
    pub uid: u32,
    /// What of the message.
    pub section: Section,
    /// Which bytes of that.
    pub partial: Option<Partial>,
}

/// The server in a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Whose mail it is, if the URL says that.
    pub user: Option<String>,
    /// Its name.
    pub host: String,
}

impl Url {
    /// Reads a URL; `None` for what is none, or does not name a message. One that must be authorized (URLAUTH, RFC 4467) is none.
    // RFC 5092 §11: imessagepart, and the relative forms of §7 that begin with "/" or ";UID=".
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (server, path) = match strip_word(text, "imap://") {
            Some(rest) => {
                let slash = rest.find('/')?;
                (Some(Server::parse(&rest[..slash])?), &rest[slash..])
            }
            None => (None, text),
        };
        let (place, message) = match strip_word(path, ";UID=") {
            Some(message) if server.is_none() => (None, message),
            _ => {
                let path = path.strip_prefix('/')?;
                let at = find_word(path, "/;UID=")?;
                (Some(&path[..at]), &path[at + "/;UID=".len()..])
            }
        };
        let (mailbox, uid_validity) = match place {
            Some(place) => mailbox(place)?,
            None => (None, None),
        };
        let (message, partial) = cut(message, "/;PARTIAL=");
        let (uid, section) = cut(message, "/;SECTION=");
        Some(Self {
            server,
            mailbox,
            uid_validity,
            uid: number(uid)?,
            section: match section {
                Some(section) => parse::section(&decode(section)?)?,
                None => Section::default(),
            },
            partial: match partial {
                Some(partial) => Some(range(partial)?),
                None => None,
            },
        })
    }
}

impl Server {
    // RFC 5092 §11: iserver = [iuserinfo "@"] host [":" port].
    fn parse(text: &str) -> Option<Self> {
        let (user, host) = match text.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, text),
        };
        let host = host.split_once(':').map_or(host, |(host, _)| host);
        let user = match user {
            Some(user) => {
                let (user, _) = cut(user, ";AUTH=");
                Some(String::from_utf8(decode(user)?).ok()?)
            }
            None => None,
        };
        Some(Self {
            user: user.filter(|user| !user.is_empty()),
            host: host.into(),
        })
    }
}

/// The mailbox and the UIDVALIDITY that stands behind it.
fn mailbox(place: &str) -> Option<(Option<String>, Option<u32>)> {
    let (name, validity) = cut(place, ";UIDVALIDITY=");
    let validity = match validity {
        Some(validity) => Some(number(validity)?),
        None => None,
    };
    // RFC 5092 §3: a mailbox is UTF-8 here, whatever it is in commands.
    let name = normalize(String::from_utf8(decode(name)?).ok()?);
    (!name.is_empty()).then_some((Some(name), validity))
}

// RFC 5092 §11: partial-range = number ["." nz-number].
fn range(text: &str) -> Option<Partial> {
    let (origin, count) = match text.split_once('.') {
        Some((origin, count)) => (origin, Some(count)),
        None => (text, None),
    };
    let digits = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().ok()).flatten()
    };
    Some(Partial {
        origin: digits(origin)?,
        count: match count {
            Some(count) => digits(count).filter(|count| *count > 0)?,
            None => u64::MAX,
        },
    })
}

/// A number above 0.
fn number(text: &str) -> Option<u32> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_number)?;
    (number > 0).then_some(number)
}

/// What stands before `word`, in any case, and behind it.
fn cut<'a>(text: &'a str, word: &str) -> (&'a str, Option<&'a str>) {
    match find_word(text, word) {
        Some(at) => (&text[..at], Some(&text[at + word.len()..])),
        None => (text, None),
    }
}

fn find_word(text: &str, word: &str) -> Option<usize> {
    let mut places = text.as_bytes().windows(word.len());
    places.position(|place| place.eq_ignore_ascii_case(word.as_bytes()))
}

fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    (find_word(text.get(..word.len())?, word) == Some(0)).then(|| &text[word.len()..])
}

/// Undoes percent-encoding; `None` where something stands that a URL has only encoded.
// RFC 3986 §2.1, §2.3; RFC 5092 §11: bchar = achar / ":" / "@" / "/", and blanks, quotes and the like must be encoded.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let value = digit(bytes.next())? * 16 + digit(bytes.next())?;
                u8::try_from(value).ok()?
            }
            _ if byte.is_ascii_alphanumeric() || b"-._~!$'()*+,&=:@/".contains(&byte) => byte,
            _ => return None,
        };
        // What names a mailbox or a section has none of these.
        if byte.is_ascii_control() {
            return None;
        }
        decoded.push(byte);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::SectionText;
    use alloc::vec;

    #[test]
    fn a_url_names_a_message_or_a_part_of_one() {
        let url = Url::parse("/Drafts;UIDVALIDITY=385759045/;UID=20/;section=1.2.MIME").unwrap();
        assert_eq!(url.mailbox.as_deref(), Some("Drafts"));
        assert_eq!((url.uid_validity, url.uid), (Some(385_759_045), 20));
        assert_eq!(url.section.part, [1, 2]);
        assert_eq!(url.section.text, Some(SectionText::Mime));
        let text = "/inbox/;uid=7/;SECTION=HEADER.FIELDS%20(Date%20From)/;PARTIAL=0.1024";
        let url = Url::parse(text).unwrap();
        assert_eq!(url.mailbox.as_deref(), Some("INBOX"));
        let fields = SectionText::HeaderFields(vec!["Date".into(), "From".into()]);
        assert_eq!(url.section.text, Some(fields));
        let partial = Partial {
            origin: 0,
            count: 1024,
        };
        assert_eq!(url.partial, Some(partial));
        let url = Url::parse("/Entw%C3%BCrfe/2026/;UID=1/;PARTIAL=5").unwrap();
        assert_eq!(url.mailbox.as_deref(), Some("Entwürfe/2026"));
        let decomposed = Url::parse("/Entwu%CC%88rfe/2026/;UID=1").unwrap();
        assert_eq!(decomposed.mailbox, url.mailbox);
        assert_eq!(url.section, Section::default());
        assert_eq!(url.partial.unwrap().count, u64::MAX);
        let url = Url::parse(";UID=9/;SECTION=TEXT").unwrap();
        assert_eq!((url.mailbox, url.uid), (None, 9));
        let url = Url::parse("imap://al%40x;AUTH=*@mx.example.org:143/a/;UID=1").unwrap();
        let server = url.server.unwrap();
        assert_eq!(server.user.as_deref(), Some("al@x"));
        assert_eq!(server.host, "mx.example.org");
    }

    #[test]
    fn what_names_no_message_is_no_url() {
        for text in [
            "",
            "/",
            "/INBOX",
            "/INBOX/",
            "/INBOX;UIDVALIDITY=1",
            "/;UID=1",
            "INBOX/;UID=1",
            "/INBOX/;UID=",
            "/INBOX/;UID=0",
            "/INBOX/;UID=+1",
            "/INBOX/;UID=4294967296",
            "/INBOX/;UID=*",
            "/INBOX/;UID=1/",
            "/INBOX/;UID=1:2",
            "/INBOX;UIDVALIDITY=0/;UID=1",
            "/INBOX;UIDVALIDITY=x/;UID=1",
            "/INBOX/;UID=1/;SECTION=",
            "/INBOX/;UID=1/;SECTION=MIME",
            "/INBOX/;UID=1/;SECTION=1]",
            "/INBOX/;UID=1/;PARTIAL=",
            "/INBOX/;UID=1/;PARTIAL=1.0",
            "/INBOX/;UID=1/;PARTIAL=1.2.3",
            "/INBOX/;UID=1/;SECTION=TEXT;URLAUTH=anonymous:internal:91354a",
            "/INBOX/;UID=1;EXPIRE=2030-01-01T00:00:00Z",
            "/IN BOX/;UID=1",
            "/IN%0D%0ABOX/;UID=1",
            "/IN%GGBOX/;UID=1",
            "/IN%FFBOX/;UID=1",
            "/INBOX%/;UID=1",
            "/Entw\u{fc}rfe/;UID=1",
            "imap://host",
            "imap://host;UID=1",
            "imaps://host/INBOX/;UID=1",
            "http://host/INBOX/;UID=1",
        ] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
    }
}
