//! Search keys: as the client writes them, and whether a message matches.

use super::dice::Dice;
use super::truth::{Content, Version};
use super::wire::Flags;

#[derive(Debug, Clone)]
pub(crate) enum Key {
    All,
    Flag(&'static str, &'static str),
    Sequence(String, Vec<usize>),
    Uid(u32, u32),
    Subject(String),
    Body(String),
    Larger(u64),
    Smaller(u64),
    ModSeq(u64),
    Not(Box<Self>),
    Or(Box<Self>, Box<Self>),
    And(Box<Self>, Box<Self>),
}

/// A message under search.
#[derive(Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) number: usize,
    pub(crate) uid: u32,
    pub(crate) content: &'a Content,
    pub(crate) flags: &'a Flags,
    pub(crate) modseq: u64,
}

/// Flags, with the keys that search for them.
const FLAGS: [(&str, &str); 7] = [
    ("SEEN", "\\Seen"),
    ("ANSWERED", "\\Answered"),
    ("FLAGGED", "\\Flagged"),
    ("DELETED", "\\Deleted"),
    ("DRAFT", "\\Draft"),
    ("KEYWORD k1", "k1"),
    ("KEYWORD K2", "k2"),
];

impl Key {
    /// A random key; `count` messages have numbers, of UIDs up to `last`, and MODSEQs are like that one.
    pub(crate) fn random(
        dice: &mut Dice,
        depth: usize,
        count: usize,
        last: u32,
        modseq: u64,
    ) -> Self {
        let inner = |dice: &mut Dice| Box::new(Self::random(dice, depth - 1, count, last, modseq));
        match dice.below(if depth == 0 { 9 } else { 12 }) {
            0 => Self::All,
            1 | 2 => {
                let (key, flag) = *dice.pick(&FLAGS);
                Self::Flag(key, flag)
            }
            3 if count > 0 => {
                let (a, b) = (dice.below(count) + 1, dice.below(count) + 1);
                let text = if dice.chance(20) {
                    format!("{a}:*")
                } else {
                    format!("{a}:{b}")
                };
                let end = if text.ends_with('*') { count } else { b };
                Self::Sequence(text, vec![a.min(end), a.max(end)])
            }
            4 => {
                let first = dice.below(last as usize + 3) as u32 + 1;
                Self::Uid(first, first + dice.below(40) as u32)
            }
            5 => Self::Subject(format!("s{}", dice.below(12))),
            6 => Self::Body(format!("w{}", dice.below(8))),
            7 if dice.chance(50) => Self::Larger(dice.below(400) as u64),
            7 => Self::Smaller(dice.below(400) as u64 + 1),
            8 if dice.chance(30) => Self::ModSeq(modseq),
            9 => Self::Not(inner(dice)),
            10 => Self::Or(inner(dice), inner(dice)),
            11 => Self::And(inner(dice), inner(dice)),
            _ => Self::All,
        }
    }

    pub(crate) fn write(&self) -> String {
        match self {
            Self::All => "ALL".into(),
            Self::Flag(key, _) => (*key).into(),
            Self::Sequence(text, _) => text.clone(),
            Self::Uid(first, last) => format!("UID {first}:{last}"),
            Self::Subject(text) => format!("SUBJECT {text}"),
            Self::Body(text) => format!("BODY \"{text}\""),
            Self::Larger(size) => format!("LARGER {size}"),
            Self::Smaller(size) => format!("SMALLER {size}"),
            Self::ModSeq(modseq) => format!("MODSEQ {modseq}"),
            Self::Not(key) => format!("NOT {}", key.write()),
            Self::Or(a, b) => format!("OR {} {}", a.write(), b.write()),
            Self::And(a, b) => format!("({} {})", a.write(), b.write()),
        }
    }

    pub(crate) fn names_modseq(&self) -> bool {
        match self {
            Self::ModSeq(_) => true,
            Self::Not(key) => key.names_modseq(),
            Self::Or(a, b) | Self::And(a, b) => a.names_modseq() || b.names_modseq(),
            _ => false,
        }
    }

    pub(crate) fn matches(&self, one: Candidate<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Flag(_, flag) => one.flags.contains(*flag),
            Self::Sequence(_, ends) => ends[0] <= one.number && one.number <= ends[1],
            Self::Uid(first, last) => *first <= one.uid && one.uid <= *last,
            Self::Subject(text) => one.content.subject.contains(text.as_str()),
            Self::Body(text) => one.content.word.contains(text.as_str()),
            Self::Larger(size) => one.content.size.unwrap() > *size,
            Self::Smaller(size) => one.content.size.unwrap() < *size,
            Self::ModSeq(modseq) => one.modseq >= *modseq,
            Self::Not(key) => !key.matches(one),
            Self::Or(a, b) => a.matches(one) || b.matches(one),
            Self::And(a, b) => a.matches(one) && b.matches(one),
        }
    }

    /// Whether a message matches in any and in all of the versions from `from` on.
    pub(crate) fn range(
        &self,
        number: usize,
        uid: u32,
        content: &Content,
        some: &[Version],
    ) -> (bool, bool) {
        let matches = |version: &Version| {
            self.matches(Candidate {
                number,
                uid,
                content,
                flags: &version.flags,
                modseq: version.modseq.unwrap(),
            })
        };
        (some.iter().any(matches), some.iter().all(matches))
    }
}
