//! By what SORT orders messages (RFC 5256 §3, RFC 5957), and a form of it that compares byte by byte.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// A place is cut off behind so many bytes: messages that differ only beyond stay in the order of the mailbox.
pub const MAX_PLACE: usize = 400;

/// What messages are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortKey {
    /// ARRIVAL: the INTERNALDATE.
    Arrival,
    /// CC: the mailbox of the first address.
    Cc,
    /// DATE: when it was sent, or else came.
    Date,
    /// DISPLAYFROM: how the first address is shown (RFC 5957).
    DisplayFrom,
    /// DISPLAYTO
    DisplayTo,
    /// FROM
    From,
    /// RELEVANCY: the score of a fuzzy search, the highest first (RFC 6203 §6).
    Relevancy,
    /// SIZE
    Size,
    /// SUBJECT: the base subject.
    Subject,
    /// TO
    To,
}

/// What messages are compared by, and which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Criterion {
    /// By what.
    pub key: SortKey,
    /// The largest first.
    pub reverse: bool,
}

impl SortKey {
    /// Whether it is in the header of a message, not beside it.
    #[must_use]
    pub const fn is_in_header(self) -> bool {
        !matches!(self, Self::Arrival | Self::Relevancy | Self::Size)
    }
}

/// The place of a message among others. Those of the same criteria compare as they say.
#[derive(Debug, Clone, Default)]
pub struct Place(Vec<u8>);

impl Place {
    /// Adds a number.
    pub fn push_number(&mut self, number: i64, reverse: bool) {
        // Negative ones come first.
        let bytes = (number ^ i64::MIN).to_be_bytes();
        self.push(&bytes, reverse);
    }

    /// Adds a text, which is folded already.
    pub fn push_text(&mut self, text: &str, reverse: bool) {
        // Where one text begins another it comes before it. No text has NUL then.
        let bytes = text.bytes().filter(|byte| *byte != 0).take(MAX_PLACE);
        let bytes: Vec<u8> = bytes.chain([0]).collect();
        self.push(&bytes, reverse);
    }

    fn push(&mut self, bytes: &[u8], reverse: bool) {
        let turn = if reverse { 0xff } else { 0 };
        let room = MAX_PLACE.saturating_sub(self.0.len());
        self.0
            .extend(bytes.iter().take(room).map(|byte| byte ^ turn));
    }

    /// The bytes that compare.
    #[must_use]
    pub fn into_bytes(self) -> Box<[u8]> {
        self.0.into_boxed_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use core::cmp::Ordering;
    use proptest::prelude::*;

    fn turned(order: Ordering, reverse: bool) -> Ordering {
        if reverse { order.reverse() } else { order }
    }

    proptest! {
        #[test]
        fn places_compare_as_what_is_in_them(
            one in (any::<i64>(), "[a-cü]{0,3}", -2_i64..2),
            two in (any::<i64>(), "[a-cü]{0,3}", -2_i64..2),
            reverse in any::<[bool; 3]>(),
        ) {
            let place = |(first, text, last): &(i64, String, i64)| {
                let mut place = Place::default();
                place.push_number(*last, reverse[0]);
                place.push_text(text, reverse[1]);
                place.push_number(*first, reverse[2]);
                place.into_bytes()
            };
            let expected = turned(one.2.cmp(&two.2), reverse[0])
                .then(turned(one.1.cmp(&two.1), reverse[1]))
                .then(turned(one.0.cmp(&two.0), reverse[2]));
            prop_assert_eq!(place(&one).cmp(&place(&two)), expected);
        }
    }

    #[test]
    fn a_place_is_short_whatever_the_texts() {
        let mut place = Place::default();
        for _ in 0..9 {
            place.push_text(&"x\0".repeat(1 << 20), true);
        }
        assert_eq!(place.into_bytes().len(), MAX_PLACE);
    }
}
