//! Keywords: free flags of messages, one small text file per shard under `.keywords/`.
//!
//! A line is a UID and its keywords, `00000041 $Forwarded work`. In memory a message has one bit per keyword of its mailbox's
//! table.

use std::collections::BTreeMap;

use ipc::Refusal;
use ipc::session::{MAX_KEYWORD_LEN, MAX_KEYWORDS};

use super::message_file;

/// Directory of the keyword files in a mailbox.
pub(crate) const DIRECTORY: &str = ".keywords";

/// The keyword file of a shard.
pub(super) fn path(shard: u32) -> String {
    format!("{DIRECTORY}/{}", message_file::shard_name(shard))
}

/// The keywords a mailbox knows; bit i of a record belongs to the i-th.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table(Vec<String>);

/// The keywords of an index; what is no keyword has no place in the table, and the bits behind it change their meaning – the index
/// has a checksum.
impl FromIterator<String> for Table {
    fn from_iter<T: IntoIterator<Item = String>>(names: T) -> Self {
        Self(names.into_iter().take(MAX_KEYWORDS).collect())
    }
}

impl Table {
    pub(crate) fn names(&self) -> &[String] {
        &self.0
    }

    /// The bits of `names`; unknown ones are added. All or nothing: on a refusal the table is as before.
    pub(crate) fn bits(&mut self, names: &[String]) -> Result<u64, Refusal> {
        let known = self.0.len();
        let mut bits = 0;
        for name in names {
            match self.bit(name) {
                Ok(bit) => bits |= bit,
                Err(refusal) => {
                    self.0.truncate(known);
                    return Err(refusal);
                }
            }
        }
        Ok(bits)
    }

    /// The bits of those of `names` that are known.
    pub(crate) fn known_bits(&self, names: &[String]) -> u64 {
        names
            .iter()
            .filter_map(|name| self.position(name))
            .fold(0, |bits, at| bits | 1 << at)
    }

    /// The keywords that `bits` stand for.
    pub(crate) fn named(&self, bits: u64) -> Vec<String> {
        self.0
            .iter()
            .enumerate()
            .filter(|(at, _)| bits & 1 << at != 0)
            .map(|(_, name)| name.clone())
            .collect()
    }

    fn bit(&mut self, name: &str) -> Result<u64, Refusal> {
        if let Some(at) = self.position(name) {
            return Ok(1 << at);
        }
        if !is_keyword(name) {
            return Err(Refusal::Invalid(
                "a keyword holds a character that is not allowed, or is too long".into(),
            ));
        }
        if self.0.len() >= MAX_KEYWORDS {
            return Err(Refusal::TooManyKeywords);
        }
        self.0.push(name.to_owned());
        Ok(1 << (self.0.len() - 1))
    }

    // RFC 9051 §2.3.2: keywords are compared without case.
    fn position(&self, name: &str) -> Option<usize> {
        self.0
            .iter()
            .position(|known| known.eq_ignore_ascii_case(name))
    }
}

// RFC 9051 §9: flag-keyword is an atom.
fn is_keyword(name: &str) -> bool {
    let is_atom_char = |byte: u8| byte.is_ascii_graphic() && !b"(){%*\"\\]".contains(&byte);
    !name.is_empty() && name.len() <= MAX_KEYWORD_LEN && name.bytes().all(is_atom_char)
}

/// The text of a shard's file: messages without keywords have no line.
pub(crate) fn format<'a>(messages: impl Iterator<Item = (u32, u64)> + 'a, table: &Table) -> String {
    let lines = messages.filter(|(_, bits)| *bits != 0);
    lines
        .map(|(uid, bits)| format!("{uid:08} {}\n", table.named(bits).join(" ")))
        .collect()
}

/// Reads a shard's file. What is no keyword or one too many for the table is left out.
pub(crate) fn parse(text: &[u8], table: &mut Table) -> BTreeMap<u32, u64> {
    let mut messages = BTreeMap::new();
    for line in String::from_utf8_lossy(text).lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(uid) = words.next().and_then(|uid| uid.parse::<u32>().ok()) else {
            continue;
        };
        let bits = words
            .filter_map(|word| table.bit(word).ok())
            .fold(0, |bits, bit| bits | bit);
        *messages.entry(uid).or_insert(0) |= bits;
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_survives_the_round_trip() {
        let mut table = Table::default();
        let bits = table.bits(&["$Forwarded".into(), "work".into()]).unwrap();
        let text = format([(41, bits), (42, 0)].into_iter(), &table);
        assert_eq!(text, "00000041 $Forwarded work\n");
        let mut fresh = Table::default();
        assert_eq!(
            parse(text.as_bytes(), &mut fresh),
            BTreeMap::from([(41, 3)])
        );
        assert_eq!(fresh.names(), ["$Forwarded", "work"]);
    }

    #[test]
    fn injected_keywords_are_refused() {
        let mut table = Table::default();
        for name in [
            "",
            "a b",
            "a\r\nb",
            "a)",
            "(",
            "\\Seen",
            "a\"",
            "é",
            "a]",
            "*",
            "%",
            &"x".repeat(101),
        ] {
            assert!(table.bits(&[name.to_owned()]).is_err(), "{name:?}");
        }
        assert!(table.names().is_empty());
    }

    #[test]
    fn the_same_keyword_in_another_case_is_the_same() {
        let mut table = Table::default();
        assert_eq!(table.bits(&["Work".into()]), table.bits(&["wORK".into()]));
        assert_eq!(table.names(), ["Work"]);
    }

    #[test]
    fn the_table_holds_64_keywords_and_a_refusal_adds_none() {
        let mut table = Table::default();
        let names: Vec<String> = (0..MAX_KEYWORDS).map(|at| format!("k{at}")).collect();
        assert_eq!(table.bits(&names[..63]), Ok(u64::MAX >> 1));
        assert_eq!(
            table.bits(&["a".into(), "b".into()]),
            Err(Refusal::TooManyKeywords)
        );
        assert_eq!(table.bits(&names), Ok(u64::MAX));
    }

    #[test]
    fn garbage_in_a_file_is_passed_over() {
        let mut table = Table::default();
        let messages = parse(
            b"\xff\xfe\nx y\n\n00000001\n00000002 ok (bad) ok2\n99999999999 z\n",
            &mut table,
        );
        assert_eq!(messages, BTreeMap::from([(1, 0), (2, 3)]));
    }
}
