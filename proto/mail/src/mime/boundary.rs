//! Knows which boundaries are being waited for, and recognises their lines.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// A line that is one of the boundaries waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delimiter {
    /// The level of the multipart whose boundary it is.
    pub(super) level: usize,
    /// Whether it is the last one.
    pub(super) closing: bool,
}

/// The boundaries of all open multiparts.
///
/// Each is found by its whole text, so a line costs the same however many are open, and a boundary
/// that begins like another one is never taken for it.
#[derive(Debug, Default)]
pub(super) struct Boundaries {
    levels: BTreeMap<Vec<u8>, Vec<usize>>,
}

impl Boundaries {
    pub(super) fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.levels.clear();
    }

    /// From now on `text` separates the parts of the multipart at `level`.
    pub(super) fn open(&mut self, text: Vec<u8>, level: usize) {
        self.levels.entry(text).or_default().push(level);
    }

    /// `text` does so no more; a multipart further out with the same boundary has it back.
    pub(super) fn close(&mut self, text: &[u8]) {
        if let Some(levels) = self.levels.get_mut(text) {
            levels.pop();
            if levels.is_empty() {
                self.levels.remove(text);
            }
        }
    }

    /// What `line`, without its line end, separates.
    // RFC 2046 §5.1.1: "--" boundary ["--"] *LWSP-char.
    pub(super) fn delimiter(&self, line: &[u8]) -> Option<Delimiter> {
        let text = trim_end(line.strip_prefix(b"--")?);
        if let Some(level) = self.innermost(text) {
            return Some(Delimiter {
                level,
                closing: false,
            });
        }
        let level = self.innermost(text.strip_suffix(b"--")?)?;
        Some(Delimiter {
            level,
            closing: true,
        })
    }

    fn innermost(&self, text: &[u8]) -> Option<usize> {
        self.levels.get(text)?.last().copied()
    }
}

/// `text` without blanks at its end.
pub(super) fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t' | b'\r'] = text {
        text = rest;
    }
    text
}
