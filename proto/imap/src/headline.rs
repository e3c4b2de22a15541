//! Reads back from an ENVELOPE, as [`crate::envelope::write`] writes it, what messages are sorted by.

use alloc::borrow::Cow;
use alloc::vec::Vec;

/// A text of an envelope; `None` for NIL.
pub type Text<'a> = Option<Cow<'a, [u8]>>;

/// The beginning of an envelope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headline<'a> {
    /// The Date field.
    pub date: Text<'a>,
    /// The Subject field, with its encoded words.
    pub subject: Text<'a>,
    /// The first address in From.
    pub from: Address<'a>,
    /// The first address in To.
    pub to: Address<'a>,
    /// The first address in Cc.
    pub cc: Address<'a>,
}

/// An address, or the beginning of a group, which has no host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address<'a> {
    /// The display name, with its encoded words.
    pub name: Text<'a>,
    /// What is before the `@`.
    pub mailbox: Text<'a>,
    /// What is behind.
    pub host: Text<'a>,
}

impl<'a> Headline<'a> {
    /// Reads it; `None` if this is no envelope.
    #[must_use]
    pub fn read(envelope: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(envelope.strip_prefix(b"(")?);
        let date = reader.text()?;
        reader.byte(b' ')?;
        let subject = reader.text()?;
        // Sender and Reply-To stand between From and To.
        let mut lists: [Address<'a>; 5] = Default::default();
        for first in &mut lists {
            reader.byte(b' ')?;
            *first = reader.first_address()?;
        }
        let [from, _, _, to, cc] = lists;
        Some(Self {
            date,
            subject,
            from,
            to,
            cc,
        })
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn accept(&mut self, word: &[u8]) -> bool {
        let rest = self.0.strip_prefix(word);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn byte(&mut self, byte: u8) -> Option<()> {
        self.accept(&[byte]).then_some(())
    }

    fn text(&mut self) -> Option<Text<'a>> {
        if self.accept(b"NIL") {
            return Some(None);
        }
        if self.accept(b"{") {
            let end = self.0.iter().position(|byte| *byte == b'}')?;
            let length = core::str::from_utf8(&self.0[..end]).ok()?.parse().ok()?;
            self.0 = self.0[end..].strip_prefix(b"}\r\n")?;
            return Some(Some(Cow::Borrowed(self.0.split_off(..length)?)));
        }
        self.byte(b'"')?;
        let is_end = |byte: &u8| matches!(byte, b'"' | b'\\');
        let plain = self.0.iter().position(is_end)?;
        let start = self.0.split_off(..plain)?;
        if self.accept(b"\"") {
            return Some(Some(Cow::Borrowed(start)));
        }
        let mut text: Vec<u8> = start.to_vec();
        loop {
            match *self.0.split_off_first()? {
                b'"' => return Some(Some(Cow::Owned(text))),
                b'\\' => text.push(*self.0.split_off_first()?),
                byte => text.push(byte),
            }
        }
    }

    /// The first address of a list; the others are passed over.
    fn first_address(&mut self) -> Option<Address<'a>> {
        if self.accept(b"NIL") {
            return Some(Address::default());
        }
        self.byte(b'(')?;
        let first = self.address()?;
        while !self.accept(b")") {
            self.address()?;
        }
        Some(first)
    }

    fn address(&mut self) -> Option<Address<'a>> {
        self.byte(b'(')?;
        let mut texts: [Text<'a>; 4] = Default::default();
        for (index, text) in texts.iter_mut().enumerate() {
            if index > 0 {
                self.byte(b' ')?;
            }
            *text = self.text()?;
        }
        self.byte(b')')?;
        let [name, _, mailbox, host] = texts;
        Some(Address {
            name,
            mailbox,
            host,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope;
    use alloc::format;
    use proptest::prelude::*;

    fn owned(text: &str) -> Text<'static> {
        Some(Cow::Owned(text.as_bytes().to_vec()))
    }

    #[test]
    fn what_is_in_an_envelope_is_read_back() {
        let header = "Date: yesterday\r\nSubject: a \"b\\c\" ü\r\nFrom: \"A \\\" B\" <a@x>, c@y\r\n\
            Reply-To: r@x\r\nTo: friends: d@z, e@z;\r\nMessage-ID: <i@x>\r\n\r\n";
        let mut written = Vec::new();
        envelope::write(header.as_bytes(), &mut written);
        let read = Headline::read(&written).unwrap();
        assert_eq!(read.date, owned("yesterday"));
        assert_eq!(read.subject, owned("a \"b\\c\" ü"));
        let address = |name, mailbox, host| Address {
            name,
            mailbox,
            host,
        };
        assert_eq!(read.from, address(owned("A \" B"), owned("a"), owned("x")));
        assert_eq!(read.to, address(None, owned("friends"), None));
        assert_eq!(read.cc, Address::default());
        for end in 0..written.len() - 30 {
            assert_eq!(Headline::read(&written[..end]), None);
        }
    }

    proptest! {
        #[test]
        fn every_envelope_can_be_read(
            date in "[ -~]{0,20}",
            subject in proptest::collection::vec(any::<u8>(), 0..60),
            from in "[ -~ü]{0,40}",
            to in "[a-c@<>,;: \"()\\\\]{0,40}",
        ) {
            let subject = subject.into_iter().filter(|byte| !b"\r\n".contains(byte));
            let mut header = format!("Date: {date}\r\nFrom: {from}\r\nTo: {to}\r\nSubject: ").into_bytes();
            header.extend(subject);
            header.extend_from_slice(b"\r\n\r\n");
            let mut written = Vec::new();
            envelope::write(&header, &mut written);
            let read = Headline::read(&written).unwrap();
            prop_assert_eq!(read.date.unwrap(), date.trim_ascii().as_bytes());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Headline::read(&bytes);
            let _ = Headline::read(&[b"(NIL NIL ((".as_slice(), &bytes].concat());
        }
    }
}
