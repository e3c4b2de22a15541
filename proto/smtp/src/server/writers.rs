//! Whom a header names as its authors and senders.

use alloc::vec::Vec;

use mail::address::Address;
use mail::mailbox_list;

use super::{Agents, Author};

// Longest field read; an address with a name needs a tenth of it.
const MAX_VALUE: usize = 8 * 1024;
// Most addresses read of all fields together: each may be asked about.
const MAX_ADDRESSES: usize = 20;

/// A field that names somebody who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    From,
    Sender,
    ResentFrom,
    ResentSender,
}

impl Field {
    /// The field of that name (RFC 5322 §3.6.2, §3.6.6).
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        let fields: [(&[u8], Self); 4] = [
            (b"From", Self::From),
            (b"Sender", Self::Sender),
            (b"Resent-From", Self::ResentFrom),
            (b"Resent-Sender", Self::ResentSender),
        ];
        let is_it = |(known, _): &&(&[u8], Self)| known.eq_ignore_ascii_case(name);
        fields.iter().find(is_it).map(|(_, field)| *field)
    }
}

/// What those fields say.
#[derive(Debug, Default)]
pub(super) struct WriterWatch {
    reading: Option<Field>,
    value: Vec<u8>,
    from_fields: usize,
    sender_fields: usize,
    authors: Vec<Address>,
    agents: Vec<Address>,
    is_author_unclear: bool,
    is_agent_unclear: bool,
}

impl WriterWatch {
    /// A field begins.
    pub(super) fn begin(&mut self, field: Field) {
        match field {
            Field::From => self.from_fields += 1,
            Field::Sender => self.sender_fields += 1,
            Field::ResentFrom | Field::ResentSender => {}
        }
        self.reading = Some(field);
    }

    /// An octet of the field, without line ends.
    pub(super) fn note(&mut self, b: u8) {
        // One octet too many is kept, so that a value that is too long shows.
        if self.reading.is_some() && self.value.len() <= MAX_VALUE {
            self.value.push(b);
        }
    }

    /// The field is over.
    pub(super) fn end(&mut self) {
        let Some(field) = self.reading.take() else {
            return;
        };
        let value = core::mem::take(&mut self.value);
        let is_list = matches!(field, Field::From | Field::ResentFrom);
        let left = MAX_ADDRESSES - self.authors.len() - self.agents.len();
        let addresses =
            addresses(&value).filter(|all| all.len() <= left && (is_list || all.len() == 1));
        match (field, addresses) {
            (Field::From, Some(addresses)) => self.authors.extend(addresses),
            (_, Some(addresses)) => self.agents.extend(addresses),
            (Field::From, None) => self.is_author_unclear = true,
            (_, None) => self.is_agent_unclear = true,
        }
    }

    /// The header ended at a line that is no field, behind which others may still see fields.
    pub(super) fn cut(&mut self) {
        self.is_author_unclear = true;
    }

    /// Whom the header names; to be asked when it is over.
    pub(super) fn judge(mut self) -> (Author, Agents) {
        self.end();
        let author = match self.authors.pop() {
            _ if self.is_author_unclear || self.from_fields > 1 => Author::Unclear,
            None => Author::Absent,
            Some(only) if self.authors.is_empty() => Author::One(only),
            Some(last) => {
                self.authors.push(last);
                Author::Several(self.authors)
            }
        };
        let agents = match self.is_agent_unclear || self.sender_fields > 1 {
            true => Agents::Unclear,
            false => Agents::Named {
                addresses: self.agents,
                has_sender: self.sender_fields == 1,
            },
        };
        (author, agents)
    }
}

/// The addresses of a field; `None` unless there is one at least, and nothing else.
fn addresses(value: &[u8]) -> Option<Vec<Address>> {
    match value.len() > MAX_VALUE {
        true => None,
        false => mailbox_list::addresses(value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::header::{HeaderLimits, HeaderWatch};
    use super::*;

    const LIMITS: HeaderLimits = HeaderLimits {
        octets: 500_000,
        fields: 5000,
        hops: 100,
    };

    fn writers(header: &[u8]) -> (Author, Agents) {
        let mut watch = HeaderWatch::new(LIMITS);
        watch.feed(header);
        watch.writers()
    }

    fn author(header: &[u8]) -> Author {
        writers(header).0
    }

    fn parse(addresses: &[&str]) -> Vec<Address> {
        let parse = |text: &&str| Address::parse(text).unwrap();
        addresses.iter().map(parse).collect()
    }

    #[test]
    fn one_from_field_with_one_address_names_the_author() {
        let alice = Author::One(Address::parse("alice@example.org").unwrap());
        for from in [
            "From: alice@example.org\r\n\r\n",
            "Subject: x\r\nfrom : \"A, B\" <alice@example.org>\r\nTo: bob@example.org\r\n\r\n",
            "From: Alice\r\n <alice@example.org> (me)\r\n\r\nFrom: bob@example.org\r\n",
            "From-Line: bob@example.org\r\nFrom: alice@example.org\r\nFro: bob@example.org\r\n\r\n",
        ] {
            assert_eq!(author(from.as_bytes()), alice, "{from}");
        }
        assert_eq!(
            author(b"Subject: x\r\n\r\nFrom: bob@example.org\r\n"),
            Author::Absent
        );
    }

    #[test]
    fn whoever_hides_the_author_is_unclear() {
        for from in [
            "From: a@example.org\r\nFrom: b@example.org\r\n\r\n",
            "From: a@example.org, b\r\n\r\n",
            "From: a@example.org, friends: b@example.org;\r\n\r\n",
            "From: a@example.org\r\nfrom : \r\n\r\n",
            "From: friends: a@example.org;\r\n\r\n",
            "From: <a@example.org b@example.org>\r\n\r\n",
            "From: <@example.com:a@example.org>\r\n\r\n",
            "From: nobody\r\n\r\n",
            "From:\r\n\r\n",
            "hello\r\nFrom: a@example.org\r\n\r\n",
        ] {
            assert_eq!(author(from.as_bytes()), Author::Unclear, "{from}");
        }
        let long = alloc::format!("From: {}<a@example.org>\r\n\r\n", "x".repeat(9000));
        assert_eq!(author(long.as_bytes()), Author::Unclear);
    }

    #[test]
    fn each_of_several_authors_is_named() {
        let several = |addresses| Author::Several(parse(addresses));
        let header = b"From: A <a@example.org>,\r\n b@example.org\r\n\r\n";
        assert_eq!(author(header), several(&["a@example.org", "b@example.org"]));
        let many = |count: usize| {
            let list = alloc::vec!["a@example.org"; count].join(", ");
            alloc::format!("From: {list}\r\n\r\n")
        };
        assert_eq!(
            author(many(MAX_ADDRESSES).as_bytes()),
            several(&["a@example.org"; MAX_ADDRESSES])
        );
        assert_eq!(author(many(MAX_ADDRESSES + 1).as_bytes()), Author::Unclear);
    }

    #[test]
    fn whoever_sends_for_the_author_is_named() {
        let named = |addresses: &[&str], has_sender| Agents::Named {
            addresses: parse(addresses),
            has_sender,
        };
        for (header, agents) in [
            ("From: a@example.org\r\n", named(&[], false)),
            ("Sender: b@example.org\r\n", named(&["b@example.org"], true)),
            (
                "Resent-From: b@example.org, c@example.org\r\nResent-Sender: d@example.org\r\nResent-From: e@example.org",
                named(
                    &[
                        "b@example.org",
                        "c@example.org",
                        "d@example.org",
                        "e@example.org",
                    ],
                    false,
                ),
            ),
            (
                "Sender: a@example.org\r\nSENDER: a@example.org\r\n",
                Agents::Unclear,
            ),
            ("Sender: a@example.org, b@example.org\r\n", Agents::Unclear),
            ("Sender:\r\n", Agents::Unclear),
            ("Resent-From: x: a@example.org;\r\n", Agents::Unclear),
            (
                "Resent-Sender: a@example.org, b@example.org\r\n",
                Agents::Unclear,
            ),
        ] {
            assert_eq!(writers(header.as_bytes()).1, agents, "{header}");
        }
        let many = "Resent-From: a@example.org\r\n".repeat(MAX_ADDRESSES + 1);
        assert_eq!(writers(many.as_bytes()).1, Agents::Unclear);
    }
}
