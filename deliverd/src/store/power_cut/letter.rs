//! The messages of the workload: all their bytes follow from a number that stands in the first line.

use super::super::dice::Dice;

const HEADER: &str = "Message-Number: ";
/// Every other message has only these: the journal packs some of them.
const WORDS: [&[u8; 8]; 4] = [b"the mail", b" was cut", b" off and", b" came.\r\n"];

/// The message of that number: 100 bytes to 300 KiB, most of them small.
pub(in crate::store) fn bytes_of(number: u64) -> Vec<u8> {
    let mut dice = Dice::new(number);
    let size = match dice.below(10) {
        0..=4 => 100 + dice.below(2_000),
        5..=7 => 2_000 + dice.below(20_000),
        8 => 20_000 + dice.below(100_000),
        _ => 120_000 + dice.below(187_000),
    };
    let mut bytes = format!("{HEADER}{number:016x}\r\n\r\n").into_bytes();
    while bytes.len() < size {
        if number.is_multiple_of(2) {
            bytes.extend_from_slice(WORDS[dice.below(WORDS.len())]);
        } else {
            bytes.extend_from_slice(&dice.roll().to_le_bytes());
        }
    }
    bytes.truncate(size);
    bytes
}

/// The number of a message that is whole, byte by byte.
pub(in crate::store) fn number_of(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.strip_prefix(HEADER.as_bytes())?.get(..16)?;
    let number = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (bytes_of(number) == bytes).then_some(number)
}
