//! Lists of tags, as DKIM-Signature fields, the fields of ARC and key records are (RFC 6376 §3.2).

use std::collections::BTreeMap;
use std::ops::Range;

/// The tags of one list.
#[derive(Debug)]
pub(crate) struct Tags<'a> {
    text: &'a [u8],
    /// Where the value of each lies, blanks around it included.
    places: BTreeMap<&'a [u8], Range<usize>>,
    first: &'a [u8],
}

impl<'a> Tags<'a> {
    /// `None` for what is no list, or has a tag twice.
    // RFC 6376 §3.2: tag-list = tag-spec *( ";" tag-spec ) [ ";" ]; tags with duplicate names must not occur.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        let mut tags = Self {
            text,
            places: BTreeMap::new(),
            first: b"",
        };
        let mut start = 0;
        while start < text.len() {
            let rest = text.get(start..)?;
            let end = memchr::memchr(b';', rest).map_or(text.len(), |found| start + found);
            let spec = text.get(start..end)?;
            if end == text.len() && is_blank(spec) {
                break;
            }
            let equals = memchr::memchr(b'=', spec)?;
            let name = spec.get(..equals)?.trim_ascii();
            let value = start + equals + 1..end;
            if !is_name(name) || !text.get(value.clone())?.iter().all(is_value) {
                return None;
            }
            if tags.places.is_empty() {
                tags.first = name;
            }
            if tags.places.insert(name, value).is_some() {
                return None;
            }
            start = end + 1;
        }
        Some(tags)
    }

    /// The value of a tag, without blanks around it.
    pub(crate) fn value(&self, name: &str) -> Option<&'a [u8]> {
        let place = self.place(name)?;
        self.text.get(place).map(<[u8]>::trim_ascii)
    }

    /// The value of a tag as text; `None` also if it is not UTF-8.
    // RFC 8616 §4: U-labels may stand in these fields.
    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.value(name)?).ok()
    }

    /// The value of a tag without any blanks and line ends.
    pub(crate) fn compact(&self, name: &str) -> Option<Vec<u8>> {
        let value = self.value(name)?.iter().copied();
        Some(value.filter(|byte| !byte.is_ascii_whitespace()).collect())
    }

    /// Where the value of a tag lies in the text, blanks around it included.
    pub(crate) fn place(&self, name: &str) -> Option<Range<usize>> {
        self.places.get(name.as_bytes()).cloned()
    }

    /// The name of the tag that stands first.
    pub(crate) fn first(&self) -> &'a [u8] {
        self.first
    }
}

/// The parts of a value between colons, without blanks around them.
pub(crate) fn parts(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b':').map(<[u8]>::trim_ascii)
}

fn is_blank(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_whitespace)
}

// RFC 6376 §3.2: tag-name = ALPHA *ALNUMPUNC.
fn is_name(name: &[u8]) -> bool {
    name.first().is_some_and(u8::is_ascii_alphabetic)
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

// RFC 6376 §3.2: VALCHAR and folding white space. RFC 8616 §4 adds UTF-8.
fn is_value(byte: &u8) -> bool {
    byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t' | b'\r' | b'\n') || *byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_around_names_and_values_do_not_count() {
        let tags = Tags::parse(b" v = 1 ;\r\n\tb=a b\r\n c; ").unwrap();
        assert_eq!(tags.value("v"), Some(&b"1"[..]));
        assert_eq!(tags.compact("b"), Some(b"abc".to_vec()));
        assert_eq!(tags.first(), b"v");
        assert_eq!(tags.value("B"), None);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in [
            "v=1; v=1", "v", "v=1;;a=2", "=1", "1a=2", "a b=1", "a=\u{1}", ";",
        ] {
            assert!(Tags::parse(text.as_bytes()).is_none(), "{text}");
        }
        assert!(Tags::parse(b"").is_some());
    }
}
