//! The way of a message through its verification: fed, ended, asked for, judged.

use std::collections::{BTreeMap, BTreeSet};

use crate::arc::{self, Chain};
use crate::body::{Hashed, Hashes};
use crate::claim::{self, Claim};
use crate::field::{Header, Splitter};
use crate::verdict::{Flaw, Outcome, Signature};

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// DKIM-Signature fields, from the top; the others are only counted.
    pub signatures: usize,
    /// Sets of a chain of ARC; a longer chain fails. At most 50 (RFC 8617 §4.2.1).
    pub sets: u8,
    /// Octets of a header; of a larger one nothing is looked at. At most 1 MiB.
    pub header: usize,
    /// Seconds by which a signer's clock may be ahead.
    pub drift: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            signatures: 10,
            sets: 50,
            header: mail::header::MAX_HEADER_BYTES,
            drift: 300,
        }
    }
}

/// What the DNS says about one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Its TXT records, the strings of each put together.
    Records(Vec<Vec<u8>>),
    /// There is no such name, or no TXT record under it.
    Missing,
    /// No answer, or one that cannot be trusted; it may be different later.
    Failed,
}

/// The answers, by the names of [`Evidence::questions`]. A name that is not there counts as [`Answer::Failed`].
pub type Answers = BTreeMap<String, Answer>;

/// When a message is judged, and by what.
#[derive(Debug)]
pub(crate) struct Moment<'a> {
    pub(crate) answers: &'a Answers,
    /// Seconds since 1970.
    pub(crate) now: u64,
    drift: u64,
}

impl Moment<'_> {
    /// When the signature may have been made at the latest.
    pub(crate) fn latest(&self) -> u64 {
        self.now.saturating_add(self.drift)
    }
}

/// Takes a message as it came, from the first octet of its header.
///
/// It holds the header and nothing of the body.
#[derive(Debug)]
pub struct Verifier {
    limits: Limits,
    splitter: Splitter,
    /// What the header says; known when the body begins.
    opened: Option<Opened>,
}

/// What a header says.
#[derive(Debug)]
struct Opened {
    claims: Vec<(Signature, Result<Claim, Flaw>)>,
    passed_over: usize,
    chain: Result<Option<arc::Draft>, arc::ChainFlaw>,
    hashes: Hashes,
    too_many_fields: bool,
}

impl Verifier {
    /// A verifier before the first octet of a message.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            splitter: Splitter::new(limits.header),
            opened: None,
        }
    }

    /// Takes more of the message.
    pub fn feed(&mut self, input: &[u8]) {
        let was_in_body = self.splitter.is_in_body();
        let Some(body) = self.splitter.feed(input) else {
            return;
        };
        if !was_in_body {
            self.opened = self.splitter.header().map(|h| Opened::read(h, self.limits));
        }
        if let Some(opened) = &mut self.opened {
            opened.hashes.feed(body);
        }
    }

    /// The end of the message.
    #[must_use]
    pub fn end(self) -> Evidence {
        let limits = self.limits;
        let header = self.splitter.into_header();
        // A message may end with its header.
        let read = || header.as_deref().map(|h| Opened::read(h, limits));
        let opened = self.opened.or_else(read);
        let header_too_large = opened.as_ref().is_none_or(|opened| opened.too_many_fields);
        let opened = opened.unwrap_or_else(Opened::nothing);
        Evidence {
            header: header.unwrap_or_default(),
            claims: opened.claims,
            passed_over: opened.passed_over,
            chain: opened.chain,
            hashes: opened.hashes.end(),
            header_too_large,
            drift: limits.drift,
        }
    }
}

impl Opened {
    fn nothing() -> Self {
        Self {
            claims: Vec::new(),
            passed_over: 0,
            chain: Ok(None),
            hashes: Hashes::default(),
            too_many_fields: false,
        }
    }

    fn read(header: &[u8], limits: Limits) -> Self {
        let Some(header) = Header::parse(header) else {
            return Self {
                too_many_fields: true,
                ..Self::nothing()
            };
        };
        let places = header.named(b"dkim-signature");
        let looked_at = places.iter().take(limits.signatures);
        let claims: Vec<_> = looked_at.map(|p| claim::read(&header, *p)).collect();
        let chain = arc::read(&header, limits.sets);
        let mut hashes = Hashes::default();
        for claim in claims.iter().filter_map(|(_, claim)| claim.as_ref().ok()) {
            hashes.want(&claim.body);
        }
        if let Ok(Some(draft)) = &chain {
            hashes.want(&draft.message.body);
        }
        Self {
            passed_over: places.len() - claims.len(),
            claims,
            chain,
            hashes,
            too_many_fields: false,
        }
    }
}

/// A message that has come to its end: the keys are missing.
#[derive(Debug)]
pub struct Evidence {
    header: Vec<u8>,
    claims: Vec<(Signature, Result<Claim, Flaw>)>,
    passed_over: usize,
    chain: Result<Option<arc::Draft>, arc::ChainFlaw>,
    hashes: Vec<Hashed>,
    header_too_large: bool,
    drift: u64,
}

impl Evidence {
    /// The names whose TXT records are wanted, each once, in lower-case A-labels without a dot at the end.
    ///
    /// At most [`Limits::signatures`] + [`Limits::sets`] + 1.
    #[must_use]
    pub fn questions(&self) -> Vec<String> {
        let claims = self
            .claims
            .iter()
            .filter_map(|(_, claim)| claim.as_ref().ok());
        let mut names: BTreeSet<_> = claims.map(|claim| claim.mark.question()).collect();
        if let Ok(Some(draft)) = &self.chain {
            names.extend(draft.questions());
        }
        names.into_iter().collect()
    }

    /// The verdict, by the answers to the questions and the time in seconds since 1970.
    #[must_use]
    pub fn judge(self, answers: &Answers, now: u64) -> Outcome {
        let moment = Moment {
            answers,
            now,
            drift: self.drift,
        };
        // Only a header that can be taken apart has claims.
        let header = Header::parse(&self.header).filter(|_| !self.header_too_large);
        let mut signatures = Vec::new();
        for (mut shown, claim) in self.claims {
            if let (Ok(claim), Some(header)) = (claim, &header) {
                let result = claim.judge(header, &self.hashes, &moment, &mut shown.testing);
                shown.settle(result);
            }
            signatures.push(shown);
        }
        let chain = header.map_or_else(Chain::none, |header| {
            arc::judge(self.chain, &header, &self.hashes, &moment)
        });
        Outcome {
            signatures,
            passed_over: self.passed_over,
            header_too_large: self.header_too_large,
            chain,
        }
    }
}
