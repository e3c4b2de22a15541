//! What FUZZY means here (RFC 6203): the words of a text, in whatever order, case and accents, and nearly as they are written.
//!
//! A text is found where each of its words is: as it is, as the beginning of a longer word, or with one letter more, less, other, or
//! two changed round (in words of four letters and more). How well says a score for each word; that of the text is their mean, and
//! 100 where it stands as it was given. The same message always has the same score.

use imap::casemap;

use super::search_text::Needle;

/// So many words of a text are looked for; what is behind them makes no difference.
const MAX_WORDS: usize = 16;
/// Words are compared up to so many letters.
const MAX_LETTERS: usize = 40;
/// Words of fewer letters have to be there as they are, or as a beginning.
const MIN_LETTERS: usize = 4;

/// Scores of a word: as it is, as a beginning, with another letter.
const SAME: u8 = 90;
const BEGINS: u8 = 60;
const NEARLY: u8 = 30;
/// The score of a text that stands as it was given.
pub const WHOLE: u8 = 100;

/// What is looked for, prepared once for many messages.
#[derive(Debug, Clone)]
pub struct Fuzzy {
    words: Vec<Word>,
    whole: Needle,
}

/// The letters of a word.
type Word = Vec<char>;

impl Fuzzy {
    /// Prepares `text` for looking it up.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut words = Vec::new();
        each_word(&casemap::fold(text), |word| {
            if words.len() < MAX_WORDS && !words.contains(word) {
                words.push(word.clone());
            }
        });
        Self {
            words,
            whole: Needle::new(text),
        }
    }

    /// The text as it was given.
    #[must_use]
    pub const fn whole(&self) -> &Needle {
        &self.whole
    }

    /// A look at a message, in which nothing was seen yet.
    #[must_use]
    pub fn look(&self) -> Look<'_> {
        Look {
            fuzzy: self,
            best: vec![0; self.words.len()],
            is_whole: false,
        }
    }

    /// Bytes of memory that it takes, roughly.
    #[must_use]
    pub fn memory(&self) -> usize {
        let words = self.words.iter();
        words.map(|word| size_of_val(word.as_slice()) + 32).sum()
    }
}

/// How well what is looked for was found so far.
#[derive(Debug)]
pub struct Look<'a> {
    fuzzy: &'a Fuzzy,
    /// A score for each word.
    best: Vec<u8>,
    is_whole: bool,
}

impl Look<'_> {
    /// Looks at a piece of text, folded. Returns whether nothing better can be found.
    pub fn at(&mut self, folded: &str) -> bool {
        self.is_whole = self.is_whole || self.fuzzy.whole.is_in_folded(folded.as_bytes());
        if !self.is_whole && !self.best.is_empty() {
            each_word(folded, |found| {
                for (word, best) in self.fuzzy.words.iter().zip(&mut self.best) {
                    if *best < SAME {
                        *best = compare(word, found).max(*best);
                    }
                }
            });
        }
        self.is_whole
    }

    /// 1 to 100; 0 where it is not found.
    #[must_use]
    pub fn score(&self) -> u8 {
        if self.is_whole {
            return WHOLE;
        }
        if self.best.contains(&0) {
            return 0;
        }
        let sum: usize = self.best.iter().map(|score| usize::from(*score)).sum();
        let mean = sum.checked_div(self.best.len());
        mean.and_then(|mean| u8::try_from(mean).ok()).unwrap_or(0)
    }
}

/// Shows the words of a folded text, without accents: letters and digits that stand together.
fn each_word(folded: &str, mut show: impl FnMut(&Word)) {
    let mut word = Word::new();
    for letter in folded.chars() {
        if is_accent(letter) {
            continue;
        }
        if letter.is_alphanumeric() {
            if word.len() < MAX_LETTERS {
                word.push(letter);
            }
        } else if !word.is_empty() {
            show(&word);
            word.clear();
        }
    }
    if !word.is_empty() {
        show(&word);
    }
}

// The blocks of combining marks in Unicode; folding has taken letters apart.
const fn is_accent(letter: char) -> bool {
    matches!(letter, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

fn compare(wanted: &[char], found: &[char]) -> u8 {
    if wanted == found {
        SAME
    } else if found.starts_with(wanted) {
        BEGINS
    } else if wanted.len() >= MIN_LETTERS && is_near(wanted, found) {
        NEARLY
    } else {
        0
    }
}

/// Whether two words that are not the same differ in one letter, or in the order of two.
fn is_near(a: &[char], b: &[char]) -> bool {
    if a.len().abs_diff(b.len()) > 1 {
        return false;
    }
    let same = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (
        a.get(same..).unwrap_or_default(),
        b.get(same..).unwrap_or_default(),
    );
    match (a, b) {
        ([x, y, a @ ..], [p, q, b @ ..]) if x == q && y == p && a == b => true,
        ([_, a @ ..], [_, b @ ..]) if a == b => true,
        ([_, rest @ ..], b) if rest == b => true,
        (a, [_, rest @ ..]) => a == rest,
        (_, []) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(wanted: &str, texts: &[&str]) -> u8 {
        let fuzzy = Fuzzy::new(wanted);
        let mut look = fuzzy.look();
        for text in texts {
            look.at(&casemap::fold(text));
        }
        look.score()
    }

    // RFC 6203 §3 has "IMAP break".
    #[test]
    fn words_are_found_in_any_order_and_nearly_as_they_are() {
        for (text, expected) in [
            ("An IMAP break", WHOLE),
            ("break of imap", SAME),
            ("IMAP: breaking news", (SAME + BEGINS) / 2),
            ("IMAP4 is breaking", BEGINS),
            ("breka imap", (SAME + NEARLY) / 2),
            ("beak imap", (SAME + NEARLY) / 2),
            ("bread imap", (SAME + NEARLY) / 2),
            ("broken imap", 0),
            ("break", 0),
            ("", 0),
        ] {
            assert_eq!(score("IMAP break", &[text]), expected, "{text}");
        }
        assert_eq!(score("imap break", &["break", "imap"]), SAME);
        assert_eq!(score("helo", &["Hello"]), NEARLY);
        assert_eq!(score("abc", &["abd"]), 0);
    }

    #[test]
    fn accents_and_case_make_no_difference() {
        assert_eq!(score("grusse", &["Schöne GRÜSSE"]), SAME);
        assert_eq!(score("GRÜSSE", &["schöne grusse"]), SAME);
        assert_eq!(score("Ångström", &["angstrom"]), SAME);
    }

    #[test]
    fn what_has_no_words_is_found_as_it_is() {
        assert_eq!(score("!?", &["what!?"]), WHOLE);
        assert_eq!(score("!?", &["what?!"]), 0);
        assert_eq!(score("", &[]), 0);
        assert_eq!(score("", &["x"]), WHOLE);
    }

    #[test]
    fn long_words_and_many_words_are_cut() {
        let long = "x".repeat(1 << 20);
        assert_eq!(score(&format!("{long}y"), &[&format!("{long}z")]), SAME);
        let words: String = (0..1000).map(|n| format!("word{n} ")).collect();
        assert_eq!(Fuzzy::new(&words).words.len(), MAX_WORDS);
        assert!(Fuzzy::new(&words).memory() < 8000);
        // A word that comes again is none more.
        let again = "word ".repeat(MAX_WORDS);
        assert_eq!(score(&format!("{again} other"), &["word"]), 0);
    }

    #[test]
    fn one_letter_is_near_and_two_are_not() {
        let near = |a: &str, b: &str| {
            let letters = |text: &str| text.chars().collect::<Word>();
            let (a, b) = (letters(a), letters(b));
            assert_eq!(is_near(&a, &b), is_near(&b, &a));
            is_near(&a, &b)
        };
        for (a, b) in [
            ("abcd", "abxd"),
            ("abcd", "abd"),
            ("abcd", "bcd"),
            ("abcd", "abc"),
            ("abcd", "abdc"),
            ("abcd", "bacd"),
        ] {
            assert!(near(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("abcd", "axxd"),
            ("abcd", "ab"),
            ("abcd", "dbca"),
            ("abcd", "cdab"),
            ("abcde", "abdcx"),
        ] {
            assert!(!near(a, b), "{a} {b}");
        }
    }
}
