//! How the results of SEARCH and SORT are wanted (RFC 4731, RFC 5182, RFC 5267, RFC 9394), and how they are told.

use alloc::vec::Vec;
use core::ops::Range;

use crate::command::Numbering;
use crate::dialect::Dialect;
use crate::write;

/// `RETURN (…)`. None of them, and nothing but [`Return::save`], is no wish: then all are told, or none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Return {
    /// MIN: the smallest number, or the first in the order of SORT.
    pub min: bool,
    /// MAX: the largest number, or the last.
    pub max: bool,
    /// COUNT: how many there are.
    pub count: bool,
    /// ALL: all of them.
    pub all: bool,
    /// SAVE: for later commands, as `$` (RFC 5182).
    pub save: bool,
    /// PARTIAL: some of them (RFC 9394 §3.1).
    pub partial: Option<Window>,
    /// CONTEXT: the same search will be asked for again. Nothing is done about that (RFC 5267 §4.2).
    pub context: bool,
    /// UPDATE: what changes in the results is told, too (RFC 5267 §4.3).
    pub update: bool,
    /// RELEVANCY: how well each matches (RFC 6203 §4).
    pub relevancy: bool,
}

/// Some of what was found, counted in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first, from 1.
    pub first: u32,
    /// The last, not below the first.
    pub last: u32,
    /// Counted from the end: the last one is 1.
    pub from_end: bool,
}

impl Window {
    /// How many there can be in it.
    #[must_use]
    pub const fn width(&self) -> u32 {
        (self.last - self.first).saturating_add(1)
    }

    /// The places of so many that are in it.
    #[must_use]
    pub fn range(&self, count: usize) -> Range<usize> {
        let at = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let (start, end) = (at(self.first).saturating_sub(1), at(self.last));
        let (start, end) = (start.min(count), end.min(count));
        match self.from_end {
            false => start..end,
            true => count - end..count - start,
        }
    }

    /// The part of `found` that is in it.
    #[must_use]
    pub fn of<'a, T>(&self, found: &'a [T]) -> &'a [T] {
        found.get(self.range(found.len())).unwrap_or_default()
    }

    fn write(&self, out: &mut Vec<u8>) {
        for (index, number) in [self.first, self.last].into_iter().enumerate() {
            if index > 0 {
                out.push(b':');
            }
            if self.from_end {
                out.push(b'-');
            }
            write::number(u64::from(number), out);
        }
    }
}

impl Return {
    /// The part of what was found that `$` means from now on.
    // RFC 5182 §2.4, RFC 9394 §3.1: what is told as MIN and MAX if nothing else is, what is in the window, or all.
    #[must_use]
    pub fn saved<T: Copy>(&self, found: &[T]) -> Vec<T> {
        if let Some(window) = &self.partial {
            return window.of(found).to_vec();
        }
        if self.all || self.count || !(self.min || self.max) {
            return found.to_vec();
        }
        let min = found.first().filter(|_| self.min);
        let max = found
            .last()
            .filter(|_| self.max && (found.len() > 1 || !self.min));
        min.into_iter().chain(max).copied().collect()
    }

    /// Writes `* ESEARCH (TAG "a") UID COUNT 3 ALL 2,10:11` about what was found, in its order. `scores`: those of all of it, if they
    /// are wanted. `modseq`: the largest modification
    /// sequence of what is told, if the client asks for that (RFC 7162 §3.1.10).
    // RFC 4731 §3.1: what there is none of is left out, but for COUNT.
    pub fn write(
        &self,
        correlator: Correlator<'_>,
        by: Numbering,
        found: &[u32],
        scores: &[u8],
        modseq: Option<u64>,
        out: &mut Vec<u8>,
    ) {
        correlator.begin(by, out);
        let mut item = |name: &[u8], number: u64| {
            out.extend_from_slice(name);
            write::number(number, out);
        };
        if let Some(min) = found.first().filter(|_| self.min) {
            item(b" MIN ", u64::from(*min));
        }
        if let Some(max) = found.last().filter(|_| self.max) {
            item(b" MAX ", u64::from(*max));
        }
        if self.count {
            item(b" COUNT ", found.len() as u64);
        }
        let is_all = self.all || !(self.min || self.max || self.count || self.partial.is_some());
        if is_all && !found.is_empty() {
            out.extend_from_slice(b" ALL ");
            write::ranges(&joined(found), out);
        }
        if let Some(window) = &self.partial {
            out.extend_from_slice(b" PARTIAL (");
            window.write(out);
            out.push(b' ');
            match window.of(found) {
                [] => out.extend_from_slice(b"NIL"),
                some => write::ranges(&joined(some), out),
            }
            out.push(b')');
        }
        if self.relevancy {
            let scores = match &self.partial {
                Some(window) => window.of(scores),
                None => scores,
            };
            out.extend_from_slice(b" RELEVANCY (");
            for (index, score) in scores.iter().enumerate() {
                if index > 0 {
                    out.push(b' ');
                }
                write::number(u64::from(*score), out);
            }
            out.push(b')');
        }
        if let Some(modseq) = modseq {
            out.extend_from_slice(b" MODSEQ ");
            write::number(modseq, out);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Whether anything is told: a search that only saves is silent.
    #[must_use]
    pub const fn is_told(&self) -> bool {
        let is_asked = self.min || self.max || self.count || self.all || self.partial.is_some();
        let is_asked = is_asked || self.relevancy;
        is_asked || !self.save
    }
}

/// To which command a response belongs, and about which mailbox it is.
#[derive(Debug, Clone, Copy)]
pub struct Correlator<'a> {
    /// The tag of the command.
    pub tag: &'a str,
    /// Where the answer is not about the selected mailbox alone (RFC 7377 §2.2).
    pub mailbox: Option<Located<'a>>,
}

/// A mailbox in a response.
#[derive(Debug, Clone, Copy)]
pub struct Located<'a> {
    /// Its name.
    pub name: &'a str,
    /// UIDVALIDITY
    pub uid_validity: u32,
    /// How the client reads it.
    pub dialect: Dialect,
}

impl Correlator<'_> {
    /// Writes `* ESEARCH (TAG "a" MAILBOX b UIDVALIDITY 7) UID`.
    pub(crate) fn begin(&self, by: Numbering, out: &mut Vec<u8>) {
        // A tag has no character that would need a backslash (RFC 3501 §9).
        out.extend_from_slice(b"* ESEARCH (TAG \"");
        out.extend_from_slice(self.tag.as_bytes());
        out.push(b'"');
        if let Some(located) = &self.mailbox {
            out.extend_from_slice(b" MAILBOX ");
            write::mailbox_name(located.name, located.dialect, out);
            out.extend_from_slice(b" UIDVALIDITY ");
            write::number(u64::from(located.uid_validity), out);
        }
        out.push(b')');
        if by == Numbering::Uid {
            out.extend_from_slice(b" UID");
        }
    }
}

/// Joins what follows one another, and leaves the order as it is.
// RFC 5267 §3: the order of what SORT tells counts.
pub(crate) fn joined(numbers: &[u32]) -> Vec<(u32, u32)> {
    let runs = numbers.chunk_by(|a, b| a.checked_add(1) == Some(*b));
    let ends = |run: &[u32]| Some((*run.first()?, *run.last()?));
    runs.filter_map(ends).collect()
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    fn window(first: u32, last: u32, from_end: bool) -> Window {
        Window {
            first,
            last,
            from_end,
        }
    }

    fn told(wanted: Return, found: &[u32], modseq: Option<u64>) -> String {
        let mut out = Vec::new();
        let correlator = Correlator {
            tag: "A1",
            mailbox: None,
        };
        wanted.write(
            correlator,
            Numbering::Uid,
            found,
            &[4, 99, 42],
            modseq,
            &mut out,
        );
        let line = String::from_utf8(out).unwrap();
        let line = line.strip_prefix("* ESEARCH (TAG \"A1\") UID").unwrap();
        String::from(line.strip_suffix("\r\n").unwrap())
    }

    // RFC 7377 §2.2.
    #[test]
    fn a_response_says_about_which_mailbox_it_is() {
        let written = |name, dialect| {
            let correlator = Correlator {
                tag: "tag1",
                mailbox: Some(Located {
                    name,
                    uid_validity: 503,
                    dialect,
                }),
            };
            let mut out = Vec::new();
            correlator.begin(Numbering::Uid, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            written("folder2/b \"ü", Dialect::REV1),
            "* ESEARCH (TAG \"tag1\" MAILBOX \"folder2/b \\\"&APw-\" UIDVALIDITY 503) UID"
        );
        let utf8 = Dialect {
            utf8: true,
            ..Dialect::REV1
        };
        assert_eq!(
            written("ü", utf8),
            "* ESEARCH (TAG \"tag1\" MAILBOX \"ü\" UIDVALIDITY 503) UID"
        );
    }

    #[test]
    fn a_window_is_cut_at_both_ends() {
        let found = [2, 4, 6, 8, 10];
        for (first, last, from_end, expected) in [
            (1, 2, false, [2, 4].as_slice()),
            (4, 100, false, &[8, 10]),
            (6, 7, false, &[]),
            (1, 2, true, &[8, 10]),
            (4, 100, true, &[2, 4]),
            (6, 7, true, &[]),
            (1, u32::MAX, false, &found),
            (u32::MAX, u32::MAX, true, &[]),
        ] {
            assert_eq!(window(first, last, from_end).of(&found), expected);
        }
        assert_eq!(window(1, 9, true).of(&[0; 0]), [0; 0]);
    }

    // RFC 4731 §3.1, RFC 9394 §3.1, RFC 7162 §3.1.10.
    #[test]
    fn what_is_wanted_is_told() {
        let found = [2, 10, 11];
        let all = Return::default();
        assert_eq!(told(all, &found, None), " ALL 2,10:11");
        assert_eq!(told(all, &[], None), "");
        let some = Return {
            min: true,
            max: true,
            count: true,
            ..Return::default()
        };
        assert_eq!(
            told(some, &found, Some(9)),
            " MIN 2 MAX 11 COUNT 3 MODSEQ 9"
        );
        assert_eq!(told(some, &[], None), " COUNT 0");
        let partial = |from_end| Return {
            partial: Some(window(1, 2, from_end)),
            ..Return::default()
        };
        assert_eq!(told(partial(false), &found, None), " PARTIAL (1:2 2,10)");
        assert_eq!(told(partial(true), &found, None), " PARTIAL (-1:-2 10:11)");
        assert_eq!(told(partial(true), &[], None), " PARTIAL (-1:-2 NIL)");
    }

    // RFC 6203 §4.
    #[test]
    fn scores_are_those_of_what_is_told() {
        let wanted = |partial| Return {
            relevancy: true,
            partial,
            ..Return::default()
        };
        let found = [1, 5, 10];
        assert_eq!(
            told(wanted(None), &found, None),
            " ALL 1,5,10 RELEVANCY (4 99 42)"
        );
        assert_eq!(
            told(wanted(Some(window(1, 2, true))), &found, Some(7)),
            " PARTIAL (-1:-2 5,10) RELEVANCY (99 42) MODSEQ 7"
        );
    }

    // RFC 5267 §3.
    #[test]
    fn the_order_of_a_sort_is_told() {
        let sorted = [5, 6, 7, 2, 1, 9, 8, u32::MAX, 3];
        let all = Return::default();
        assert_eq!(told(all, &sorted, None), " ALL 5:7,2,1,9,8,4294967295,3");
        let some = Return {
            min: true,
            max: true,
            partial: Some(window(3, 5, false)),
            ..all
        };
        assert_eq!(
            told(some, &sorted, None),
            " MIN 5 MAX 3 PARTIAL (3:5 7,2,1)"
        );
        assert_eq!(some.saved(&sorted), [7, 2, 1]);
    }

    // RFC 5182 §2.4.
    #[test]
    fn what_is_saved_is_what_was_asked_for() {
        let found = [2, 10, 11];
        let wanted = |min, max, count| Return {
            min,
            max,
            count,
            save: true,
            ..Return::default()
        };
        assert_eq!(wanted(false, false, false).saved(&found), found);
        assert_eq!(wanted(true, false, false).saved(&found), [2]);
        assert_eq!(wanted(false, true, false).saved(&found), [11]);
        assert_eq!(wanted(true, true, false).saved(&found), [2, 11]);
        assert_eq!(wanted(true, true, false).saved(&[7]), [7]);
        assert_eq!(wanted(true, true, true).saved(&found), found);
        assert!(!wanted(false, false, false).is_told());
        assert!(wanted(true, false, false).is_told());
        assert!(Return::default().is_told());
        let partial = Return {
            partial: Some(window(2, 2, false)),
            ..wanted(false, false, true)
        };
        assert_eq!(partial.saved(&found), [10]);
    }
}
