//! The base subject: what is left of a subject when all that replies, forwards and lists put around it is taken off (RFC 5256 §2.1).
//!
//! Work is linear in the length of the subject.

use alloc::string::String;
use alloc::vec::Vec;

/// What messages of one conversation have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BaseSubject {
    /// What is left. Comparing it in any case is up to others.
    pub text: String,
    /// Whether the rest says that it is a reply or a forward.
    pub is_reply: bool,
}

impl BaseSubject {
    /// Extracts it from a subject whose encoded words are decoded.
    #[must_use]
    pub fn of(subject: &str) -> Self {
        let is_blank = |letter: char| matches!(letter, ' ' | '\t' | '\r' | '\n');
        let words = subject.split(is_blank).filter(|word| !word.is_empty());
        let subject = words.collect::<Vec<_>>().join(" ");
        let (mut rest, mut is_reply) = (subject.as_str(), false);
        loop {
            rest = without_trailers(rest, &mut is_reply);
            rest = without_leaders(rest, &mut is_reply);
            let Some(inner) = forwarded(rest) else {
                break;
            };
            rest = inner;
            is_reply = true;
        }
        Self {
            text: rest.into(),
            is_reply,
        }
    }
}

// RFC 5256 §5: subj-trailer = "(fwd)" / WSP.
fn without_trailers<'a>(mut text: &'a str, is_reply: &mut bool) -> &'a str {
    const FORWARDED: &str = "(fwd)";
    loop {
        text = text.trim_end_matches(' ');
        let start = text.len().wrapping_sub(FORWARDED.len());
        match text.get(start..) {
            Some(end) if end.eq_ignore_ascii_case(FORWARDED) => text = &text[..start],
            _ => return text,
        }
        *is_reply = true;
    }
}

// RFC 5256 §5: subj-leader = (*subj-blob subj-refwd) / WSP; §2.1 step 4: blobs alone go, too, but for the last if nothing is behind it.
fn without_leaders<'a>(mut text: &'a str, is_reply: &mut bool) -> &'a str {
    loop {
        text = text.trim_start_matches(' ');
        let (mut last, mut rest) = (text, text);
        while let Some(behind) = behind_blob(rest) {
            (last, rest) = (rest, behind);
        }
        match behind_mark(rest) {
            Some(behind) => text = behind,
            None if rest.is_empty() => return last,
            None => return rest,
        }
        *is_reply = true;
    }
}

// RFC 5256 §5: subj-blob = "[" *BLOBCHAR "]" *WSP. What is not ASCII is let in: the names of lists are in all languages.
fn behind_blob(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?;
    let end = inner.find(['[', ']'])?;
    let behind = inner[end..].strip_prefix(']')?;
    Some(behind.trim_start_matches(' '))
}

// RFC 5256 §5: subj-refwd = ("re" / ("fw" ["d"])) *WSP [subj-blob] ":".
fn behind_mark(text: &str) -> Option<&str> {
    let words = ["re", "fwd", "fw"].into_iter();
    let behind = words.filter_map(|word| behind_word(text, word)).next()?;
    let behind = behind.trim_start_matches(' ');
    behind_blob(behind).unwrap_or(behind).strip_prefix(':')
}

fn behind_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (start, behind) = text.split_at_checked(word.len())?;
    start.eq_ignore_ascii_case(word).then_some(behind)
}

// RFC 5256 §5: subj-fwd = "[fwd:" subject "]".
fn forwarded(text: &str) -> Option<&str> {
    behind_word(text, "[fwd:")?.strip_suffix(']')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn base(subject: &str) -> (String, bool) {
        let BaseSubject { text, is_reply } = BaseSubject::of(subject);
        (text, is_reply)
    }

    #[test]
    fn what_others_put_around_a_subject_is_taken_off() {
        for (subject, text, is_reply) in [
            ("", "", false),
            ("  plain \t\r\n  text ", "plain text", false),
            ("Re: a", "a", true),
            ("RE : Fw:fWd: a", "a", true),
            ("re[2]: a", "a", true),
            ("re [x] : a", "a", true),
            ("[list] Re: [list] a", "a", true),
            ("[list] [other] a", "a", false),
            ("[list] [other]", "[other]", false),
            ("[list]", "[list]", false),
            ("[Müller-Liste] a", "a", false),
            ("Re: [list]", "[list]", true),
            ("[list] re:", "", true),
            ("a (fwd)", "a", true),
            ("a (Fwd) (fwd)  ", "a", true),
            ("(fwd)", "", true),
            ("[fwd: a]", "a", true),
            ("[Fwd: Re: [x] a (fwd)] (fwd)", "a", true),
            ("[fwd: [fwd: a]]", "a", true),
            ("[fwd: a] b", "b", false),
            ("[fwd:]", "", true),
            ("[fwd:", "[fwd:", false),
            ("Regarding: a", "Regarding: a", false),
            ("fwdx: a", "fwdx: a", false),
            ("re a", "re a", false),
            ("[open a", "[open a", false),
            ("[a [b] c", "[a [b] c", false),
            ("ré: ü", "ré: ü", false),
            ("ü(fwd)", "ü", true),
        ] {
            assert_eq!(base(subject), (text.into(), is_reply), "{subject:?}");
        }
    }

    // Each of these takes minutes where work is quadratic.
    #[test]
    fn a_megabyte_of_marks_ends() {
        for mark in [
            "re:", "[a]", "[", "[fwd:", "(fwd)", "re [", "[fwd:[a]", "fw[a]", " ", "[a]re:", "]",
        ] {
            let marks = mark.repeat((1 << 20) / mark.len());
            let ends = "]".repeat(200_000);
            for subject in [marks.clone(), [marks.as_str(), "x", &ends].concat()] {
                let BaseSubject { text, .. } = BaseSubject::of(&subject);
                assert!(text.len() <= subject.len());
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_extracted_is_part_of_the_subject_and_stays_what_it_is(
            subject in "([Rr]e|[Ff][Ww]d?|:|\\[|\\]|fwd|\\(fwd\\)|[ \t]|a|ü){0,12}",
        ) {
            let once = BaseSubject::of(&subject);
            prop_assert!(!once.text.starts_with(' ') && !once.text.ends_with(' '));
            let again = BaseSubject::of(&once.text);
            prop_assert_eq!(&again.text, &once.text);
            prop_assert!(!again.is_reply);
            let reply = BaseSubject::of(&alloc::format!("Re: [x] {subject}"));
            if !once.text.is_empty() {
                prop_assert_eq!(reply.text, once.text);
            }
        }
    }
}
