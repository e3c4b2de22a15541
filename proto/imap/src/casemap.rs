//! i;unicode-casemap (RFC 5051): the form of a text in which it is compared, whatever its case.

use alloc::string::String;

use unicode_normalization::char::decompose_compatible;

/// Each letter in title case, and taken apart. A part of a word has the form of that part of the whole.
// RFC 5051 §2: titlecase by UnicodeData.txt, then decomposition of any type, as often as there is one. Nothing is put in order behind
// that, and what comes out of it keeps its case.
#[must_use]
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_uppercase();
    }
    let mut folded = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii() {
            folded.push(letter.to_ascii_uppercase());
        } else {
            decompose_compatible(titlecase(letter), |part| folded.push(part));
        }
    }
    folded
}

/// The titlecase property of a letter, or itself if it has none.
// Rust knows upper case. Title case is the same but for the ranges here; where upper case is several letters, UnicodeData.txt has
// one for Greek with a subscript iota, and none for others.
fn titlecase(letter: char) -> char {
    match letter {
        'Ǆ'..='ǆ' => 'ǅ',
        'Ǉ'..='ǉ' => 'ǈ',
        'Ǌ'..='ǌ' => 'ǋ',
        'Ǳ'..='ǳ' => 'ǲ',
        // Georgian has capitals for whole words only.
        'ა'..='ჿ' => letter,
        'ᾀ'..='ᾇ' | 'ᾐ'..='ᾗ' | 'ᾠ'..='ᾧ' => moved(letter, 8),
        'ᾳ' | 'ῃ' | 'ῳ' => moved(letter, 9),
        _ => {
            let mut upper = letter.to_uppercase();
            match (upper.next(), upper.next()) {
                (Some(one), None) => one,
                _ => letter,
            }
        }
    }
}

fn moved(letter: char, by: u32) -> char {
    char::from_u32(u32::from(letter) + by).unwrap_or(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 5051 §2 has the first as its example.
    #[test]
    fn letters_are_in_title_case_and_taken_apart() {
        for (text, folded) in [
            ("Ǆ", "Dz\u{30c}"),
            ("ǆǅ", "Dz\u{30c}Dz\u{30c}"),
            ("Grüße", "GRU\u{308}ßE"),
            ("ΣσςΣ", "ΣΣΣΣ"),
            ("Ἄᾳ", "Α\u{313}\u{301}Α\u{345}"),
            ("ᾐῳ", "Η\u{313}\u{345}Ω\u{345}"),
            ("ſﬁ", "Sfi"),
            ("ｆｕｌｌ", "FULL"),
            ("각", "\u{1100}\u{1161}\u{11a8}"),
            ("საქართველო", "საქართველო"),
            ("ı", "I"),
            ("İ", "I\u{307}"),
            ("½", "1\u{2044}2"),
            ("i\0_~", "I\0_~"),
        ] {
            assert_eq!(fold(text), folded, "{text}");
        }
    }

    #[test]
    fn a_folded_text_stays_as_long_as_a_few_times_itself() {
        // What is kept of messages is cut by the length of what is folded.
        let longest =
            ('\0'..=char::MAX).map(|letter| fold(&String::from(letter)).len() / letter.len_utf8());
        assert_eq!(longest.max(), Some(11));
    }
}
