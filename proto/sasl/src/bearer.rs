//! OAUTHBEARER (RFC 7628) and XOAUTH2: a token, and perhaps whose it is.

use alloc::borrow::ToOwned;
use alloc::string::String;

use crate::scram::name;
use crate::{Malformed, Message};

// RFC 7628 §3.1: kvsep = %x01.
const SEPARATOR: char = '\u{1}';

/// What the client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// Who the client says it is. OAUTHBEARER can leave it to the token.
    pub user: Option<String>,
    /// The token.
    pub token: Message,
}

/// Reads the message of OAUTHBEARER. Host and port in it are not looked at: who we are, TLS has settled.
///
/// # Errors
/// [`Malformed`].
// RFC 7628 §3.1: client-resp = gs2-header kvsep *kvpair kvsep.
pub fn parse_oauthbearer(message: &[u8]) -> Result<Bearer, Malformed> {
    let (header, pairs) = divide(message)?;
    let header = header.strip_suffix(',').ok_or(Malformed)?;
    let user = match header.split_once(',') {
        Some(("n" | "y", "")) => None,
        Some(("n" | "y", authzid)) => Some(name(authzid.strip_prefix("a=").ok_or(Malformed)?)?),
        _ => return Err(Malformed),
    };
    let token = find_token(pairs)?;
    Ok(Bearer { user, token })
}

/// Reads the message of XOAUTH2: `user=`, separator, `auth=Bearer`, space, token, two separators.
///
/// # Errors
/// [`Malformed`].
pub fn parse_xoauth2(message: &[u8]) -> Result<Bearer, Malformed> {
    let (user, pairs) = divide(message)?;
    let user = user.strip_prefix("user=").filter(|user| !user.is_empty());
    let user = user.ok_or(Malformed)?;
    let token = find_token(pairs)?;
    Ok(Bearer {
        user: Some(user.to_owned()),
        token,
    })
}

// What stands before the first separator, and the pairs behind it.
fn divide(message: &[u8]) -> Result<(&str, &str), Malformed> {
    let text = core::str::from_utf8(message).map_err(|_| Malformed)?;
    if text.contains('\0') {
        return Err(Malformed);
    }
    text.split_once(SEPARATOR).ok_or(Malformed)
}

// RFC 7628 §3.1: kvpair = key "=" value kvsep, one of them "auth".
fn find_token(pairs: &str) -> Result<Message, Malformed> {
    let pairs = pairs.strip_suffix(SEPARATOR).ok_or(Malformed)?;
    let mut token = None;
    for pair in pairs.split_terminator(SEPARATOR) {
        let (key, value) = pair.split_once('=').ok_or(Malformed)?;
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err(Malformed);
        }
        if key == "auth" && token.replace(value).is_some() {
            return Err(Malformed);
        }
    }
    if !pairs.ends_with(SEPARATOR) {
        return Err(Malformed);
    }
    // RFC 6750 §2.1, with a scheme in any case: RFC 9110 §11.1.
    let (scheme, token) = token.and_then(|v| v.split_once(' ')).ok_or(Malformed)?;
    if !scheme.eq_ignore_ascii_case("Bearer") || !is_token(token) {
        return Err(Malformed);
    }
    Ok(Message::new(token.as_bytes().to_vec()))
}

// RFC 6750 §2.1: b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"=".
fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let is_octet = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
    !body.is_empty() && body.bytes().all(is_octet)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    // RFC 7628 §4.1.
    #[test]
    fn the_message_of_the_rfc_is_read() {
        let text = "n,a=user@example.com,\x01host=server.example.com\x01port=143\x01\
                    auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01";
        let read = parse_oauthbearer(text.as_bytes()).unwrap();
        assert_eq!(read.user.as_deref(), Some("user@example.com"));
        assert_eq!(
            read.token.octets(),
            b"vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
        );
        let read = parse_oauthbearer(b"n,,\x01auth=bearer x\x01\x01").unwrap();
        assert_eq!(read.user, None);
    }

    #[test]
    fn xoauth2_is_read() {
        let read = parse_xoauth2(b"user=a@b.example\x01auth=Bearer x-Y_z\x01\x01").unwrap();
        assert_eq!(read.user.as_deref(), Some("a@b.example"));
        assert_eq!(read.token.octets(), b"x-Y_z");
    }

    #[test]
    fn what_is_no_such_message_is_refused() {
        for text in [
            "",
            "\x01",
            "n,,",
            "n,,\x01",
            "n,,\x01\x01",
            "n,\x01auth=Bearer x\x01\x01",
            "p=tls-exporter,,\x01auth=Bearer x\x01\x01",
            "n,a=\0x,\x01auth=Bearer x\x01\x01",
            "n,b=x,\x01auth=Bearer x\x01\x01",
            "n,,\x01auth=Bearer x\x01",
            "n,,\x01auth=Bearer x",
            "n,,\x01auth=Bearer \x01\x01",
            "n,,\x01auth=Bearer x y\x01\x01",
            "n,,\x01auth=Bearer =\x01\x01",
            "n,,\x01auth=Basic x\x01\x01",
            "n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01",
            "n,,\x01host\x01auth=Bearer x\x01\x01",
            "n,,\x01=1\x01auth=Bearer x\x01\x01",
            "n,,\x01auth=Bearer x\x01\x01\x01",
            "n,,\x01auth=Bearer x\x01\x01more",
        ] {
            assert_eq!(
                parse_oauthbearer(text.as_bytes()),
                Err(Malformed),
                "{text:?}"
            );
        }
        for text in [
            "user=\x01auth=Bearer x\x01\x01",
            "a@b\x01auth=Bearer x\x01\x01",
            "user=a@b\x01\x01",
            "user=a@b\x01auth=Bearer x\x01",
        ] {
            assert_eq!(parse_xoauth2(text.as_bytes()), Err(Malformed), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(bytes: Vec<u8>, text in "[nauthBer=, \x01x]{0,40}") {
            let _ = (parse_oauthbearer(&bytes), parse_xoauth2(&bytes));
            let _ = (parse_oauthbearer(text.as_bytes()), parse_xoauth2(text.as_bytes()));
        }
    }
}
