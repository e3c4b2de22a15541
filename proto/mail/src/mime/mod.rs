//! Finds the parts of a MIME message: where each begins and ends, what it is, what it is inside of.
//!
//! The result is a flat list of byte ranges in the order of the message. Nothing is copied but the
//! content types, and nothing is decoded.

mod boundary;
mod skeleton;
mod walk;

use alloc::vec::Vec;
use core::ops::Range;

use crate::content::{ContentType, Encoding};
use crate::header::{self, Fields};

pub use self::skeleton::Skeleton;

/// Parts nested deeper than this are not looked into.
pub const MAX_DEPTH: usize = 100;
/// After this many parts the rest of the message belongs to the last one.
pub const MAX_PARTS: usize = 10_000;
/// After this many parameters of content types, those of the other parts are left out: each takes
/// many times the memory of the few bytes it may be written in. Boundaries are found all the same.
pub const MAX_PARAMETERS: usize = 50_000;

/// A message with its parts.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    bytes: &'a [u8],
    parts: Vec<Part>,
}

/// One part: the message itself, a part of a multipart, or the message inside a `message/rfc822`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The index of the part this one is directly inside of; `None` for the message itself.
    pub parent: Option<usize>,
    /// The index of the first part inside.
    pub first_child: Option<usize>,
    /// The index of the next part inside the same parent.
    pub next_sibling: Option<usize>,
    /// How many parts this one is inside of, at most [`MAX_DEPTH`].
    pub depth: usize,
    /// The header with the empty line that ends it.
    pub header: Range<usize>,
    /// The body; the line end before a boundary is not part of it.
    pub body: Range<usize>,
    /// The number of line ends in the body.
    pub lines: usize,
    /// What is inside.
    pub structure: Structure,
    /// The content type, or the one that holds when none is given or it cannot be kept.
    pub content_type: ContentType,
    /// The content transfer encoding.
    pub encoding: Encoding,
}

/// How a part's body divides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Structure {
    /// Not at all. A multipart without a boundary is such a part and called `text/plain`; one that
    /// is too deep to look into is called `application/octet-stream`.
    Leaf,
    /// Into the parts that are its children; there may be none.
    Multipart,
    /// It is a whole message: its one child.
    Message,
}

impl<'a> Message<'a> {
    /// Finds the parts of the message `bytes`, in one pass over them.
    #[must_use]
    pub fn walk(bytes: &'a [u8]) -> Self {
        let parts = walk::walk(bytes);
        Self { bytes, parts }
    }

    /// The whole message.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// All parts, in the order of their beginnings. The first is the message itself.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The parts directly inside `part`.
    pub fn children<'m>(&'m self, part: &Part) -> impl Iterator<Item = &'m Part> + use<'m> {
        children(&self.parts, part)
    }

    /// The bytes of the header of `part`.
    #[must_use]
    pub fn header(&self, part: &Part) -> &'a [u8] {
        &self.bytes[part.header.clone()]
    }

    /// The bytes of the body of `part`, still encoded.
    #[must_use]
    pub fn body(&self, part: &Part) -> &'a [u8] {
        &self.bytes[part.body.clone()]
    }

    /// The header fields of `part`.
    #[must_use]
    pub fn fields(&self, part: &Part) -> Fields<'a> {
        header::fields(self.header(part))
    }
}

/// Those of `parts` that are directly inside `part`, which is one of them.
pub fn children<'m>(parts: &'m [Part], part: &Part) -> impl Iterator<Item = &'m Part> + use<'m> {
    let mut next = part.first_child;
    core::iter::from_fn(move || {
        let child = parts.get(next?)?;
        next = child.next_sibling;
        Some(child)
    })
}
