//! What of a message a signature of ours is about: the fields people see, and the hash of the body.

use mail::address::Address;
use mail::header::MAX_HEADER_BYTES;
use mail::mailbox_list;

use crate::body::Hashes;
use crate::canon::Canon;
use crate::claim::BodyHash;
use crate::field::{Header, Splitter};
use crate::sign::CannotSign;

/// Fields that are signed once more than they are there, so that none can be added.
// RFC 6376 §5.4, §8.15.
pub(crate) const SEALED: [&str; 12] = [
    "From",
    "Reply-To",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
];
/// Fields that are signed where they are there; mailing lists add them.
pub(crate) const SIGNED: [&str; 5] = [
    "Sender",
    "List-Id",
    "List-Post",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
];
/// Octets of a hash (SHA-256).
pub const HASH: usize = 32;
/// Longest From that is read; an address with a name needs a tenth of it.
const MAX_FROM: usize = 8 * 1024;

/// What of a message is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signable {
    /// The fields, as they stand in the header and in its order.
    pub fields: Vec<u8>,
    /// The hash of the body in its relaxed form.
    pub body_hash: [u8; HASH],
}

/// Takes a message, from the first octet of its header with CRLF line ends, and finds at its end what is signed.
#[derive(Debug)]
pub struct Extract {
    splitter: Splitter,
    hashes: Hashes,
}

impl Default for Extract {
    fn default() -> Self {
        let mut hashes = Hashes::default();
        hashes.want(&BodyHash::whole(Canon::Relaxed));
        Self {
            splitter: Splitter::new(usize::MAX),
            hashes,
        }
    }
}

impl Extract {
    /// Takes more of the message.
    pub fn feed(&mut self, input: &[u8]) {
        if let Some(body) = self.splitter.feed(input) {
            self.hashes.feed(body);
        }
    }

    /// What is signed.
    ///
    /// # Errors
    /// [`CannotSign::NoHeader`] or [`CannotSign::HeaderTooLarge`].
    pub fn end(self) -> Result<Signable, CannotSign> {
        let header = self.splitter.into_header();
        let header = header.ok_or(CannotSign::HeaderTooLarge)?;
        let parsed = Header::parse(&header).ok_or(CannotSign::HeaderTooLarge)?;
        if parsed.field(0).is_none_or(|first| first.start > 0) {
            return Err(CannotSign::NoHeader);
        }
        let signed = parsed.fields().iter();
        let signed = signed.filter(|field| is_signable(field.name));
        let octets = signed.filter_map(|field| header.get(field.start..field.end));
        let fields = octets.collect::<Vec<_>>().concat();
        let hashed = self.hashes.end();
        let hash = hashed.first().map(|hashed| hashed.hash.as_ref().try_into());
        match hash {
            Some(Ok(body_hash)) => Ok(Signable { fields, body_hash }),
            None | Some(Err(_)) => Err(CannotSign::KeyFailed),
        }
    }
}

/// Whether a field of this name is one that is signed.
pub(crate) fn is_signable(name: &[u8]) -> bool {
    let mut all = SEALED.iter().chain(&SIGNED);
    all.any(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

/// Whom the one From of a header names; `None` if there is none or another one, or if it names anything but addresses: another
/// reader may find others in it (VU#244112).
#[must_use]
pub fn authors(header: &[u8]) -> Option<Vec<Address>> {
    // Of a longer one not all is read.
    let header = Some(header).filter(|header| header.len() <= MAX_HEADER_BYTES)?;
    let header = Header::parse(header)?;
    let [place] = header.named(b"from") else {
        return None;
    };
    let from = header.field(*place)?;
    let value = Some(from.unfolded()).filter(|value| value.len() <= MAX_FROM)?;
    mailbox_list::addresses(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(header: &str) -> Option<Vec<String>> {
        let all = authors(header.as_bytes())?;
        Some(all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn authors_are_found_in_the_one_from_or_not_at_all() {
        let one = Some(vec!["a@b.example".to_owned()]);
        assert_eq!(names("To: x@y\r\nFrom: A <a@b.example>\r\n"), one);
        assert_eq!(names("from:\r\n \"x@y.example\" <a@b.example>\r\n"), one);
        let two = vec!["a@b.example".to_owned(), "c@d.example".to_owned()];
        assert_eq!(names("From: a@b.example, c@d.example\r\n"), Some(two));
        // Whom any reader may find in it.
        let all = names("From: a@b.example <c@d.example> <e@f.example>\r\n");
        assert_eq!(all.unwrap().len(), 3);
        for unclear in [
            "To: a@b.example\r\n",
            "From: a@b.example\r\nfrom: a@b.example\r\n",
            "From: friends: a@b.example;\r\n",
            "From: <@x.example:a@b.example>\r\n",
            "From: a\r\n",
            "From:\r\n",
        ] {
            assert_eq!(names(unclear), None, "{unclear}");
        }
        let long = format!("From: \"{}\" <a@b.example>\r\n", "x".repeat(MAX_FROM));
        assert_eq!(names(&long), None);
        // A second one cannot hide behind more than is read.
        let from = "From: a@b.example\r\n";
        for filler in [
            "To:\r\n".repeat(10_000),
            format!("To: {}\r\n", "x".repeat(1 << 20)),
        ] {
            assert_eq!(names(&format!("{from}{filler}{from}")), None);
        }
    }

    #[test]
    fn nothing_of_the_header_leaves_it_but_what_is_signed() {
        let mut extract = Extract::default();
        let message =
            b"Received: here\r\nFrom: a@b\r\n c\r\nX-Secret: x\r\nsubject: Hi\r\n\r\nbody\r\n";
        message.chunks(3).for_each(|piece| extract.feed(piece));
        let found = extract.end().unwrap();
        assert_eq!(found.fields, b"From: a@b\r\n c\r\nsubject: Hi\r\n");
    }

    #[test]
    fn what_begins_with_no_field_is_not_signed() {
        for message in [&b""[..], b"\r\nbody", b"no field\r\nFrom: a@b\r\n\r\n"] {
            let mut extract = Extract::default();
            extract.feed(message);
            assert_eq!(extract.end(), Err(CannotSign::NoHeader));
        }
    }
}
