//! The hashes of a body: in one pass, each distinct one once.

use std::fmt;

use aws_lc_rs::digest;

use crate::canon::{Body, Canon, Sink};
use crate::claim::BodyHash;

/// Octets that are collected before they are hashed: a canonical body comes word by word.
const BUFFER: usize = 4096;

/// All hashes of one body that signatures ask for.
#[derive(Debug, Default)]
pub(crate) struct Hashes {
    streams: Vec<Stream>,
}

/// A body in one form.
#[derive(Debug)]
struct Stream {
    canon: Canon,
    body: Body,
    taps: Taps,
}

/// Those who hash one form, each up to its own length.
#[derive(Debug, Default)]
struct Taps {
    buffer: Vec<u8>,
    taps: Vec<Tap>,
    length: u64,
}

struct Tap {
    limit: Option<u64>,
    context: digest::Context,
    left: u64,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tap({:?})", self.limit)
    }
}

/// A finished hash.
#[derive(Debug)]
pub(crate) struct Hashed {
    canon: Canon,
    limit: Option<u64>,
    /// The hash of what `l=` covers.
    pub(crate) hash: digest::Digest,
    /// Octets of the whole canonical body.
    pub(crate) length: u64,
}

impl Hashed {
    /// Whether this is the hash that is asked for.
    pub(crate) fn is(&self, wish: &BodyHash) -> bool {
        self.canon == wish.canon && self.limit == wish.length
    }
}

impl Hashes {
    /// Asks for a hash, before any of the body.
    pub(crate) fn want(&mut self, wish: &BodyHash) {
        let known = self
            .streams
            .iter()
            .position(|stream| stream.canon == wish.canon);
        let place = known.unwrap_or_else(|| {
            self.streams.push(Stream {
                canon: wish.canon,
                body: Body::new(wish.canon),
                taps: Taps::default(),
            });
            self.streams.len() - 1
        });
        if let Some(stream) = self.streams.get_mut(place) {
            stream.taps.want(wish.length);
        }
    }

    /// Takes more of the body.
    pub(crate) fn feed(&mut self, input: &[u8]) {
        for stream in &mut self.streams {
            stream.body.feed(input, &mut stream.taps);
        }
    }

    /// The hashes, at the end of the body.
    pub(crate) fn end(self) -> Vec<Hashed> {
        let mut hashed = Vec::new();
        for mut stream in self.streams {
            stream.body.end(&mut stream.taps);
            stream.taps.flush();
            let length = stream.taps.length;
            hashed.extend(stream.taps.taps.into_iter().map(|tap| Hashed {
                canon: stream.canon,
                limit: tap.limit,
                hash: tap.context.finish(),
                length,
            }));
        }
        hashed
    }
}

impl Taps {
    fn want(&mut self, limit: Option<u64>) {
        if !self.taps.iter().any(|tap| tap.limit == limit) {
            self.taps.push(Tap {
                limit,
                context: digest::Context::new(&digest::SHA256),
                left: limit.unwrap_or(u64::MAX),
            });
        }
    }

    fn flush(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.hash(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
    }

    fn hash(&mut self, octets: &[u8]) {
        for tap in &mut self.taps {
            let most = usize::try_from(tap.left).unwrap_or(usize::MAX);
            let covered = octets.get(..most).unwrap_or(octets);
            tap.context.update(covered);
            tap.left -= covered.len() as u64;
        }
    }
}

impl Sink for Taps {
    fn put(&mut self, octets: &[u8]) {
        self.length += octets.len() as u64;
        if self.buffer.len() + octets.len() > BUFFER {
            self.flush();
        }
        if octets.len() > BUFFER {
            self.hash(octets);
        } else {
            self.buffer.extend_from_slice(octets);
        }
    }
}
