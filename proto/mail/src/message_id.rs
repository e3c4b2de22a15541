//! Finds the message identifiers in `Message-ID`, `In-Reply-To` and `References`.

use alloc::borrow::Cow;

/// The identifiers in `value`, folded or not, in order, without their brackets. What is between them is passed over.
// RFC 5322 §3.6.4: msg-id = "<" id-left "@" id-right ">". Those without an @ exist, and serve as well.
pub fn ids(value: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let mut rest = value;
    core::iter::from_fn(move || {
        loop {
            rest = &rest[memchr::memchr(b'<', rest)? + 1..];
            let end = memchr::memchr2(b'<', b'>', rest)?;
            let (id, behind) = rest.split_at(end);
            rest = behind;
            if behind.starts_with(b">") {
                let id = normal(id);
                if !id.is_empty() {
                    return Some(id);
                }
            }
        }
    })
}

/// What all spellings of an identifier have in common: no blanks, no quotes.
// RFC 5256 §3, REFERENCES: <"a"@b> and <a@b> are the same.
fn normal(id: &[u8]) -> Cow<'_, [u8]> {
    let is_noise = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\\');
    if !id.iter().any(is_noise) {
        return Cow::Borrowed(id);
    }
    Cow::Owned(id.iter().copied().filter(|byte| !is_noise(byte)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn found(value: &str) -> Vec<Vec<u8>> {
        ids(value.as_bytes()).map(Cow::into_owned).collect()
    }

    #[test]
    fn identifiers_are_found_however_they_are_written() {
        assert_eq!(found("<a@x> <b@y>\r\n\t<c@z>"), [b"a@x", b"b@y", b"c@z"]);
        assert_eq!(found("<a@x><b@y>, your <c@z> of"), [b"a@x", b"b@y", b"c@z"]);
        assert_eq!(found("<\"a\"@x> <\"\\a\"@x> <a\r\n @x>"), [b"a@x"; 3]);
        assert_eq!(found("<broken <a@x> <> b@y <cut"), [b"a@x"]);
        assert_eq!(found("<plain>"), [b"plain"]);
        assert!(found("").is_empty());
    }

    #[test]
    fn a_megabyte_of_brackets_ends() {
        assert_eq!(ids(&b"<".repeat(1 << 20)).count(), 0);
        assert_eq!(ids(&b"<>".repeat(1 << 19)).count(), 0);
        assert_eq!(ids(&b"<\"<a>".repeat(1 << 18)).count(), 1 << 18);
    }
}
