//! Reads the address lists of `From`, `To` and their kin, as IMAP's ENVELOPE wants to show them.

use alloc::vec::Vec;

use crate::address::{Address, Domain};
use crate::lexer::Lexer;

/// Further entries of one list are not read.
pub const MAX_ENTRIES: usize = 1_000;

/// One entry of an address list. Texts are unquoted; encoded words stay encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// One mailbox.
    Mailbox(Mailbox),
    /// A group of this name begins.
    GroupStart(Vec<u8>),
    /// The group ends.
    GroupEnd,
}

/// One mailbox of an address list, however badly written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mailbox {
    /// The display name, or the comment after the address that stands for it.
    pub name: Option<Vec<u8>>,
    /// The obsolete source route, `@a,@b`.
    pub route: Option<Vec<u8>>,
    /// What is before the `@`.
    pub local: Vec<u8>,
    /// What is after the `@`, up to the `>` if there is one; empty if there is no `@`.
    pub domain: Vec<u8>,
}

/// Reads the value of an address list field, folded or not.
// RFC 5322 §3.4, with the obsolete forms of §4.4.
#[must_use]
pub fn parse(value: &[u8]) -> Vec<Entry> {
    let mut parser = Parser {
        lexer: Lexer::new(value),
        entries: Vec::new(),
        in_group: false,
        comment: None,
    };
    while parser.entries.len() < MAX_ENTRIES && parser.entry() {}
    if parser.in_group {
        parser.entries.push(Entry::GroupEnd);
    }
    parser.entries
}

/// The addresses of a field; `None` unless there is one at least, and nothing else: no group, no route, nothing that is no address.
#[must_use]
pub fn addresses(value: &[u8]) -> Option<Vec<Address>> {
    let read = |entry: &Entry| match entry {
        Entry::Mailbox(mailbox) if mailbox.route.is_none() => mailbox.address(),
        Entry::Mailbox(_) | Entry::GroupStart(_) | Entry::GroupEnd => None,
    };
    // Of more entries not all were read.
    let entries = Some(parse(value)).filter(|all| all.len() < MAX_ENTRIES)?;
    let addresses: Option<Vec<_>> = entries.iter().map(read).collect();
    addresses.filter(|all| !all.is_empty())
}

impl Mailbox {
    fn address(&self) -> Option<Address> {
        let local = core::str::from_utf8(&self.local).ok()?;
        let domain = Domain::parse(core::str::from_utf8(&self.domain).ok()?).ok()?;
        Address::new(local, domain).ok()
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    entries: Vec<Entry>,
    in_group: bool,
    /// The last comment of the current entry.
    comment: Option<&'a [u8]>,
}

impl Parser<'_> {
    /// Reads up to one entry; `false` at the end of the field.
    fn entry(&mut self) -> bool {
        self.comment = None;
        let words = self.words();
        let Some(byte) = self.lexer.peek() else {
            self.bare_words(words);
            return false;
        };
        match byte {
            b'<' => self.angle_address(words),
            b'@' => {
                let domain = self.at_domain();
                self.blanks();
                self.mailbox(None, None, words.joined(), domain);
            }
            b':' if !self.in_group => {
                self.lexer.advance();
                self.in_group = true;
                self.entries.push(Entry::GroupStart(words.text));
            }
            b';' => {
                self.lexer.advance();
                self.bare_words(words);
                if self.in_group {
                    self.in_group = false;
                    self.entries.push(Entry::GroupEnd);
                }
            }
            _ => {
                // A comma, or a special that has no meaning here.
                self.lexer.advance();
                self.bare_words(words);
            }
        }
        true
    }

    /// Words that no address follows: some programs write a local user's name alone.
    fn bare_words(&mut self, words: Words) {
        if !words.text.is_empty() {
            self.mailbox(None, None, words.joined(), Vec::new());
        }
    }

    // RFC 5322 §4.4: obs-angle-addr may hold a route before the address.
    fn angle_address(&mut self, name: Words) {
        self.lexer.advance();
        let mut route = Vec::new();
        loop {
            self.blanks();
            match self.lexer.peek() {
                Some(b'@') => {
                    if !route.is_empty() {
                        route.push(b',');
                    }
                    route.push(b'@');
                    route.extend_from_slice(&self.at_domain());
                }
                Some(b',' | b':') => self.lexer.advance(),
                _ => break,
            }
        }
        let local = self.words().joined();
        let mut domain = if self.lexer.peek() == Some(b'@') {
            self.at_domain()
        } else {
            Vec::new()
        };
        let rest = self.lexer.run(|byte| !b">,;".contains(&byte));
        // Kept, so that nobody takes for an address what others may read as another one.
        if !domain.is_empty() && !rest.is_empty() {
            domain.push(b' ');
            domain.extend_from_slice(&crate::header::unfold(rest));
        }
        self.lexer.accept(b'>');
        self.blanks();
        let name = Some(name.text).filter(|name| !name.is_empty());
        let route = Some(route).filter(|route| !route.is_empty());
        self.mailbox(name, route, local, domain);
    }

    fn mailbox(
        &mut self,
        name: Option<Vec<u8>>,
        route: Option<Vec<u8>>,
        local: Vec<u8>,
        domain: Vec<u8>,
    ) {
        let comment = self.comment.filter(|comment| !comment.is_empty());
        let name = name.or_else(|| comment.map(|text| crate::header::unfold(text).into_owned()));
        self.entries.push(Entry::Mailbox(Mailbox {
            name,
            route,
            local,
            domain,
        }));
    }

    /// The domain after the `@` that comes next.
    fn at_domain(&mut self) -> Vec<u8> {
        self.lexer.advance();
        let mut domain = Vec::new();
        loop {
            self.blanks();
            let piece = self.lexer.run(is_word);
            domain.extend_from_slice(piece);
            if self.lexer.peek() == Some(b'[') {
                domain.extend(self.domain_literal());
            } else if piece.is_empty() || !(piece.ends_with(b".") || self.dot_follows()) {
                return domain;
            }
        }
    }

    // RFC 5322 §4.4: obs-domain allows blanks around its dots.
    fn dot_follows(&mut self) -> bool {
        self.blanks();
        self.lexer.peek() == Some(b'.')
    }

    fn domain_literal(&mut self) -> Vec<u8> {
        let mut literal = self.lexer.run(|byte| !b"]>,\r\n".contains(&byte)).to_vec();
        if self.lexer.accept(b']') {
            literal.push(b']');
        }
        literal
    }

    /// The atoms and quoted strings that come next.
    fn words(&mut self) -> Words {
        let mut words = Words::default();
        loop {
            let separated = self.blanks();
            let text = match self.lexer.peek() {
                Some(b'"') => self.lexer.quoted_string(),
                Some(byte) if is_word(byte) => self.lexer.run(is_word).to_vec(),
                _ => return words,
            };
            if separated && !words.text.is_empty() {
                words.gaps.push(words.text.len());
                words.text.push(b' ');
            }
            words.text.extend(text);
        }
    }

    /// Passes over blanks and comments; whether there were any.
    fn blanks(&mut self) -> bool {
        let separated = matches!(self.lexer.peek(), Some(b' ' | b'\t' | b'\r' | b'\n' | b'('));
        if let Some(comment) = self.lexer.skip_blanks() {
            self.comment = Some(comment);
        }
        separated
    }
}

/// Words with one blank between those that were apart.
#[derive(Default)]
struct Words {
    text: Vec<u8>,
    gaps: Vec<usize>,
}

impl Words {
    /// The words as a local part, where blanks between words mean nothing.
    // RFC 5322 §4.4: obs-local-part allows blanks around its dots.
    fn joined(self) -> Vec<u8> {
        let mut gaps = self.gaps.iter().peekable();
        let text = self.text.iter().enumerate();
        text.filter(|(index, _)| gaps.next_if_eq(&index).is_none())
            .map(|(_, &byte)| byte)
            .collect()
    }
}

/// Whether `byte` is part of an atom; dots and 8-bit text are taken in too.
fn is_word(byte: u8) -> bool {
    let special = matches!(
        byte,
        b'(' | b')' | b'<' | b'>' | b'[' | b']' | b':' | b';' | b'@' | b'\\' | b',' | b'"'
    );
    byte > b' ' && byte != 0x7f && !special
}
