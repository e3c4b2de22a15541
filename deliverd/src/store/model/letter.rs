//! The messages: all their bytes follow from a number that stands in the first line.

use super::super::dice::Dice;

const HEADER: &str = "Number: ";
/// Every other message has only these: the journal packs some of them.
const WORDS: [&[u8; 8]; 4] = [b"the mail", b" was cut", b" off and", b" came.\r\n"];

/// How many bytes the message of that number has: 30 to 260,000, most of them few.
pub(super) fn size_of(number: u64) -> usize {
    let mut dice = Dice::new(number);
    match dice.below(60) {
        0 => 131_000 + dice.below(130_000),
        1..=4 => 5_000 + dice.below(90_000),
        _ => 30 + dice.below(1_500),
    }
}

/// The message of that number.
pub(super) fn bytes_of(number: u64) -> Vec<u8> {
    let size = size_of(number);
    let mut dice = Dice::new(!number);
    let mut bytes = format!("{HEADER}{number:016x}\r\n").into_bytes();
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
pub(super) fn number_of(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.strip_prefix(HEADER.as_bytes())?.get(..16)?;
    let number = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (bytes_of(number) == bytes).then_some(number)
}
