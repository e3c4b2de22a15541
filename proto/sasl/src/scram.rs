//! SCRAM (RFC 5802): what the client says first and last. Strict: what could be read in two ways is not read.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use crate::Malformed;

/// Longest message of a client, in octets.
const MAX_MESSAGE: usize = 4096;
/// Longest nonce of a client, in octets.
const MAX_NONCE: usize = 512;
/// Octets of a proof: those of SHA-256.
const PROOF: usize = 32;

/// What the client says about channel binding (RFC 5802 §6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flag {
    /// `n`: it has none.
    Unable,
    /// `y`: it has, and thinks that we have not.
    NotOffered,
    /// `p`: it binds to a channel of this type.
    Bound(String),
}

/// The first message of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFirst {
    /// Channel binding.
    pub flag: Flag,
    /// Whom the user wants to act as.
    pub authzid: Option<String>,
    /// The user.
    pub user: String,
    /// What the client made up.
    pub nonce: String,
    /// Everything before [`ClientFirst::bare`]: flag and authzid, as they came.
    pub header: String,
    /// What goes into the proof.
    pub bare: String,
}

/// The last message of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFinal {
    /// The header of the first message again, and what the channel is bound to.
    pub binding: Vec<u8>,
    /// Both nonces.
    pub nonce: String,
    /// That the client knows the password.
    pub proof: [u8; PROOF],
    /// What goes into the proof.
    pub without_proof: String,
}

impl ClientFirst {
    /// Reads the first message.
    ///
    /// # Errors
    /// [`Malformed`], also for mandatory extensions, of which we know none.
    // RFC 5802 §7: client-first-message = gs2-header client-first-message-bare.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let text = text(message)?;
        let (flag, rest) = text.split_once(',').ok_or(Malformed)?;
        let (authzid, bare) = rest.split_once(',').ok_or(Malformed)?;
        let authzid = match authzid {
            "" => None,
            given => Some(name(value(given, "a=")?)?),
        };
        let mut parts = bare.split(',');
        let user = name(value(parts.next().ok_or(Malformed)?, "n=")?)?;
        let nonce = value(parts.next().ok_or(Malformed)?, "r=")?;
        if !is_nonce(nonce) || !parts.all(is_extension) {
            return Err(Malformed);
        }
        Ok(Self {
            flag: parse_flag(flag)?,
            authzid,
            user,
            nonce: nonce.to_owned(),
            header: text
                .strip_suffix(bare)
                .map(ToOwned::to_owned)
                .ok_or(Malformed)?,
            bare: bare.to_owned(),
        })
    }
}

impl ClientFinal {
    /// Reads the last message.
    ///
    /// # Errors
    /// [`Malformed`], also when anything stands behind the proof.
    // RFC 5802 §7: client-final-message = channel-binding "," nonce ["," extensions] "," proof.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let (without_proof, proof) = text(message)?.rsplit_once(",p=").ok_or(Malformed)?;
        let mut parts = without_proof.split(',');
        let binding = value(parts.next().ok_or(Malformed)?, "c=")?;
        let nonce = value(parts.next().ok_or(Malformed)?, "r=")?;
        if nonce.is_empty() || !parts.all(is_extension) {
            return Err(Malformed);
        }
        Ok(Self {
            binding: base64(binding)?,
            nonce: nonce.to_owned(),
            proof: base64(proof)?.try_into().map_err(|_| Malformed)?,
            without_proof: without_proof.to_owned(),
        })
    }
}

fn text(message: &[u8]) -> Result<&str, Malformed> {
    let text = core::str::from_utf8(message).map_err(|_| Malformed)?;
    match text.len() > MAX_MESSAGE || text.contains('\0') {
        true => Err(Malformed),
        false => Ok(text),
    }
}

fn value<'a>(part: &'a str, attribute: &str) -> Result<&'a str, Malformed> {
    part.strip_prefix(attribute).ok_or(Malformed)
}

fn base64(text: &str) -> Result<Vec<u8>, Malformed> {
    mail::decode::base64_strict(text.as_bytes()).ok_or(Malformed)
}

fn parse_flag(text: &str) -> Result<Flag, Malformed> {
    let is_type = |name: &str| {
        let mut octets = name.bytes();
        !name.is_empty() && octets.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
    };
    match text {
        "n" => Ok(Flag::Unable),
        "y" => Ok(Flag::NotOffered),
        _ => {
            let name = value(text, "p=")?;
            is_type(name)
                .then(|| Flag::Bound(name.to_owned()))
                .ok_or(Malformed)
        }
    }
}

// RFC 5802 §7: in a saslname "," is "=2C" and "=" is "=3D", and nothing else is escaped.
pub(crate) fn name(escaped: &str) -> Result<String, Malformed> {
    let mut pieces = escaped.split('=');
    let mut name = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (sign, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            (None, None) => return Err(Malformed),
        };
        name.push(sign);
        name.push_str(rest);
    }
    match name.is_empty() || escaped.contains(',') {
        true => Err(Malformed),
        false => Ok(name),
    }
}

// RFC 5802 §7: printable = %x21-2B / %x2D-7E.
fn is_nonce(text: &str) -> bool {
    (1..=MAX_NONCE).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b',')
}

// RFC 5802 §5.1: what is not known is ignored; "m" is a mandatory extension. An attribute that has a meaning elsewhere must
// not stand here: somebody else may read it with that meaning.
fn is_extension(part: &str) -> bool {
    let Some((name, value)) = part.split_once('=') else {
        return false;
    };
    let is_free = matches!(name.as_bytes(), [letter]
        if letter.is_ascii_alphabetic() && !b"anrmcpsive".contains(&letter.to_ascii_lowercase()));
    is_free && !value.is_empty()
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    fn first(text: &str) -> Result<ClientFirst, Malformed> {
        ClientFirst::parse(text.as_bytes())
    }

    fn last(text: &str) -> Result<ClientFinal, Malformed> {
        ClientFinal::parse(text.as_bytes())
    }

    const PROOF_TEXT: &str = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    // RFC 7677 §3.
    #[test]
    fn the_messages_of_the_rfc_are_read() {
        let read = first("n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        assert_eq!(read.flag, Flag::Unable);
        assert_eq!((read.user.as_str(), read.authzid), ("user", None));
        assert_eq!(read.nonce, "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(read.header, "n,,");
        assert_eq!(read.bare, "n=user,r=rOprNGfwEbeRWgbNEkqO");
        let without = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let read = last(&format!("{without},p={PROOF_TEXT}")).unwrap();
        assert_eq!(read.binding, b"n,,");
        assert_eq!(
            read.nonce,
            "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
        );
        assert_eq!(read.without_proof, without);
    }

    #[test]
    fn names_and_flags_are_read() {
        let read = first("p=tls-exporter,a=b=2Cb,n=a=3Da=2C,r=x").unwrap();
        assert_eq!(read.flag, Flag::Bound("tls-exporter".to_string()));
        assert_eq!(read.authzid.as_deref(), Some("b,b"));
        assert_eq!(read.user, "a=a,");
        assert_eq!(read.header, "p=tls-exporter,a=b=2Cb,");
        assert_eq!(first("y,,n=a,r=x").unwrap().flag, Flag::NotOffered);
        assert!(first("n,,n=a,r=x,x=optional").is_ok());
    }

    #[test]
    fn what_is_no_first_message_is_refused() {
        for text in [
            "",
            "n",
            "n,",
            "n,,",
            "n,,n=a",
            "n,,r=x,n=a",
            "n,,n=,r=x",
            "n,,n=a,r=",
            "n,,n=a,r=x y",
            "n,,n=a,r=\u{e9}",
            "x,,n=a,r=x",
            "N,,n=a,r=x",
            "n=,,n=a,r=x",
            "p,,n=a,r=x",
            "p=,,n=a,r=x",
            "p=tls_unique,,n=a,r=x",
            "n,b,n=a,r=x",
            "n,a=,n=a,r=x",
            "n,,n=a=2c,r=x",
            "n,,n=a=,r=x",
            "n,,n=a\0,r=x",
            // Extensions: mandatory, with a known name, without one, empty.
            "n,,m=1,n=a,r=x",
            "n,,n=a,r=x,m=1",
            "n,,n=a,r=x,n=b",
            "n,,n=a,r=x,p=b",
            "n,,n=a,r=x,",
            "n,,n=a,r=x,xy=1",
            "n,,n=a,r=x,x=",
        ] {
            assert_eq!(first(text), Err(Malformed), "{text:?}");
        }
        assert!(first(&format!("n,,n={},r=x", "a".repeat(MAX_MESSAGE))).is_err());
        assert!(first(&format!("n,,n=a,r={}", "a".repeat(MAX_NONCE + 1))).is_err());
    }

    #[test]
    fn what_is_no_last_message_is_refused() {
        for text in [
            "",
            "c=biws,r=x",
            "c=biws,p=",
            "r=x,c=biws,p=",
            "c=biws,r=,p=",
            "c=biw,r=x,p=",
            "c=biws,r=x,m=1,p=",
            "c=biws,r=x,c=biws,p=",
        ] {
            assert_eq!(last(&format!("{text}{PROOF_TEXT}")), Err(Malformed));
        }
        for proof in ["", "AAAA", "!", &format!("{PROOF_TEXT},x=1")] {
            assert_eq!(last(&format!("c=biws,r=x,p={proof}")), Err(Malformed));
        }
        assert!(last(&format!("c=biws,r=x,x=1,p={PROOF_TEXT}")).is_ok());
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(bytes: Vec<u8>, text in "[ynp=,arcm2CD3x+/-]{0,40}") {
            let _ = (ClientFirst::parse(&bytes), ClientFinal::parse(&bytes));
            let _ = (first(&text), last(&text));
        }
    }
}
