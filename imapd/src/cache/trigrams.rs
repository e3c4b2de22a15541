//! A map of the letters that stand together in a text, three bytes at a time: it says of most texts that something is not in them
//! without a look at them.

/// Bits of a map for each byte of text; a little less than half of them are set then.
const BITS_PER_BYTE: usize = 1;

/// The hashes of all that stands together in `text`.
fn hashes(text: &[u8]) -> impl Iterator<Item = u32> {
    text.array_windows().map(|[a, b, c]| {
        let number = u32::from_le_bytes([*a, *b, *c, 0]);
        // Knuth's multiplicative hash: the high bits depend on all of it.
        number.wrapping_mul(0x9e37_79b1)
    })
}

/// The map of `text`.
pub(super) fn map(text: &[u8]) -> Vec<u8> {
    let mut map = vec![0; length_of(text.len())];
    let bits = map.len() * 8;
    for hash in hashes(text) {
        let bit = place(hash, bits);
        if let Some(byte) = map.get_mut(bit / 8) {
            *byte |= 1 << (bit % 8);
        }
    }
    map
}

/// How many bytes the map of a text of so many bytes has.
pub(super) const fn length_of(text: usize) -> usize {
    (text * BITS_PER_BYTE).div_ceil(8)
}

/// False if `wanted` is not in the text of which this is the map.
pub(super) fn may_have(map: &[u8], wanted: &[u8]) -> bool {
    let bits = map.len() * 8;
    hashes(wanted).all(|hash| {
        let bit = place(hash, bits);
        map.get(bit / 8)
            .is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    })
}

const fn place(hash: u32, bits: usize) -> usize {
    ((hash as u64 * bits as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(text: &[u8], wanted: &[u8]) -> bool {
        may_have(&map(text), wanted)
    }

    #[test]
    fn whatever_is_in_a_text_is_not_ruled_out() {
        let text = "from: jürgen müller <j@example.org>\u{fffd}ünd noch mehr".as_bytes();
        for start in 0..text.len() {
            for end in start..=text.len() {
                assert!(may(text, &text[start..end]));
            }
        }
        assert!(may(b"", b"ab"));
        assert!(!may(b"", b"abc"));
        assert!(!may(b"ab", b"abc"));
    }

    #[test]
    fn most_of_what_is_not_in_a_text_is_ruled_out() {
        let text: String = (0..400)
            .map(|number| format!("{} ", number * 7919))
            .collect();
        let words = (0..1000).map(|number| format!("word{number}"));
        let passed = words
            .filter(|word| may(text.as_bytes(), word.as_bytes()))
            .count();
        assert!(passed < 100, "{passed} of 1000");
    }
}
