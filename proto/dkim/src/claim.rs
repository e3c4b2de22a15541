//! What a signature says of itself: DKIM-Signature (RFC 6376 §3.5) and the like of ARC (RFC 8617 §4.1).

use std::ops::Range;

use aws_lc_rs::digest;
use mail::address::Domain;

use crate::body::Hashed;
use crate::canon::{Canon, put_own};
use crate::field::Header;
use crate::key::Key;
use crate::tag::{self, Tags};
use crate::verdict::{Algorithm, Flaw, Signature, Verdict};
use crate::verify::Moment;

/// Longest `i=` that is taken: a local part and a domain are shorter.
const MAX_IDENTITY: usize = 320;
/// Longest name in the DNS (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;
/// Characters of `b=` that name a signature among others (RFC 6008 §4).
const SHOWN: usize = 8;

/// Who signed, with which key.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) domain: Domain,
    pub(crate) selector: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) signature: Vec<u8>,
    /// Where the value of `b=` lies in the value of the field.
    pub(crate) hole: Range<usize>,
}

/// The body that was signed.
#[derive(Debug)]
pub(crate) struct BodyHash {
    pub(crate) canon: Canon,
    /// How much of it, in octets of its form.
    pub(crate) length: Option<u64>,
    hash: Vec<u8>,
}

/// A signature that can be verified.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) mark: Mark,
    pub(crate) body: BodyHash,
    /// The field's place in the header.
    place: usize,
    canon: Canon,
    /// The names of `h=` in lower case.
    names: Vec<Vec<u8>>,
    /// The domain of `i=` is that of `d=`.
    exact: bool,
    made: Option<u64>,
    expires: Option<u64>,
}

/// Reads the DKIM-Signature field at `place`.
pub(crate) fn read(header: &Header<'_>, place: usize) -> (Signature, Result<Claim, Flaw>) {
    let value = header.field(place).map_or(&b""[..], |field| field.value);
    let mut shown = Signature {
        verdict: Verdict::PermError,
        flaw: Some(Flaw::Malformed),
        domain: None,
        identity: None,
        selector: None,
        algorithm: None,
        signature: String::new(),
        testing: false,
        limited: false,
    };
    let Some(tags) = Tags::parse(value) else {
        return (shown, Err(Flaw::Malformed));
    };
    shown.domain = domain(&tags).ok();
    shown.selector = selector(&tags).ok();
    shown.algorithm = algorithm(&tags).ok();
    shown.identity = identity(&tags).or_else(|| {
        let domain = shown.domain.as_ref().filter(|_| tags.value("i").is_none());
        domain.map(|domain| format!("@{domain}"))
    });
    shown.signature = first_characters(&tags);
    shown.limited = tags.value("l").is_some();
    let claim = claim(&tags, place);
    if let Err(flaw) = &claim {
        shown.settle(Err(*flaw));
    }
    (shown, claim)
}

fn first_characters(tags: &Tags<'_>) -> String {
    let text = tags.compact("b").unwrap_or_default();
    let alphabet = text.into_iter().map(char::from).filter(is_base64);
    alphabet.take(SHOWN).collect()
}

fn is_base64(character: &char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '+' | '/' | '=')
}

fn claim(tags: &Tags<'_>, place: usize) -> Result<Claim, Flaw> {
    match tags.value("v") {
        None => return Err(Flaw::Missing("v")),
        Some(b"1") => {}
        Some(_) => return Err(Flaw::Bad("v")),
    }
    let mut claim = Claim::read(tags, place)?;
    claim.exact = is_exact(tags, &claim.mark.domain)?;
    Ok(claim)
}

/// Whether the domain of `i=` is that of `d=` itself.
// RFC 6376 §3.5: the domain of i= must be the same as, or a subdomain of, the value of d=.
fn is_exact(tags: &Tags<'_>, domain: &Domain) -> Result<bool, Flaw> {
    if tags.value("i").is_none() {
        return Ok(true);
    }
    let identity = identity(tags).ok_or(Flaw::Bad("i"))?;
    let (_, named) = identity.rsplit_once('@').ok_or(Flaw::Bad("i"))?;
    let named = Domain::parse(named).map_err(|_| Flaw::Bad("i"))?;
    let rest = named.as_str().strip_suffix(domain.as_str());
    match rest {
        Some("") => Ok(true),
        Some(below) if below.ends_with('.') => Ok(false),
        _ => Err(Flaw::ForeignIdentity),
    }
}

/// The value of `i=`, without folding.
fn identity(tags: &Tags<'_>) -> Option<String> {
    let text = String::from_utf8(tags.compact("i")?).ok()?;
    (text.len() <= MAX_IDENTITY && !text.contains(char::is_control)).then_some(text)
}

fn domain(tags: &Tags<'_>) -> Result<Domain, Flaw> {
    let missing_or_bad = missing_or_bad(tags, "d");
    let domain = tags.text("d").and_then(|text| Domain::parse(text).ok());
    domain
        .filter(|domain| !domain.is_literal())
        .ok_or(missing_or_bad)
}

fn missing_or_bad(tags: &Tags<'_>, tag: &'static str) -> Flaw {
    if tags.value(tag).is_some() {
        Flaw::Bad(tag)
    } else {
        Flaw::Missing(tag)
    }
}

// RFC 6376 §3.1: selector = sub-domain *( "." sub-domain ); RFC 8616 §4: U-labels become A-labels for the DNS.
fn selector(tags: &Tags<'_>) -> Result<String, Flaw> {
    let text = tags.text("s").ok_or(missing_or_bad(tags, "s"))?;
    if !text.is_ascii() {
        let labels = Domain::parse(text).map_err(|_| Flaw::Bad("s"))?;
        return Ok(labels.as_str().to_owned());
    }
    if is_selector(text) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(Flaw::Bad("s"))
    }
}

/// Whether this is a selector in A-labels.
#[must_use]
pub fn is_selector(text: &str) -> bool {
    text.split('.').all(|label| {
        let mut letters = label.bytes();
        (1..=63).contains(&label.len())
            && letters.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

// RFC 8301 §3.1: rsa-sha1 must not be used for signing or verifying.
fn algorithm(tags: &Tags<'_>) -> Result<Algorithm, Flaw> {
    match tags.value("a") {
        None => Err(Flaw::Missing("a")),
        Some(b"rsa-sha256") => Ok(Algorithm::RsaSha256),
        Some(b"ed25519-sha256") => Ok(Algorithm::Ed25519Sha256),
        Some(b"rsa-sha1") => Err(Flaw::Sha1),
        Some(_) => Err(Flaw::UnknownAlgorithm),
    }
}

fn base64(tags: &Tags<'_>, tag: &'static str) -> Result<Vec<u8>, Flaw> {
    let text = tags.compact(tag).ok_or(Flaw::Missing(tag))?;
    if text.is_empty() || !text.iter().all(|byte| is_base64(&char::from(*byte))) {
        return Err(Flaw::Bad(tag));
    }
    Ok(mail::decode::base64(&text))
}

/// A tag of digits.
fn number(tags: &Tags<'_>, tag: &'static str) -> Result<Option<u64>, Flaw> {
    let Some(text) = tags.text(tag) else {
        return tags.value(tag).map_or(Ok(None), |_| Err(Flaw::Bad(tag)));
    };
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if is_digits => Ok(Some(number)),
        _ => Err(Flaw::Bad(tag)),
    }
}

impl Mark {
    /// What all signatures say.
    pub(crate) fn read(tags: &Tags<'_>) -> Result<Self, Flaw> {
        let mark = Self {
            algorithm: algorithm(tags)?,
            domain: domain(tags)?,
            selector: selector(tags)?,
            signature: base64(tags, "b")?,
            hole: tags.place("b").ok_or(Flaw::Missing("b"))?,
        };
        if mark.question().len() > MAX_NAME {
            return Err(Flaw::Bad("s"));
        }
        Ok(mark)
    }

    /// The name in the DNS where the key is.
    // RFC 6376 §3.6.2.1.
    pub(crate) fn question(&self) -> String {
        format!("{}._domainkey.{}", self.selector, self.domain)
    }
}

impl BodyHash {
    /// The wish for the hash of a whole body, which is not known yet.
    pub(crate) fn whole(canon: Canon) -> Self {
        Self {
            canon,
            length: None,
            hash: Vec::new(),
        }
    }

    fn read(tags: &Tags<'_>, canon: Canon) -> Result<Self, Flaw> {
        Ok(Self {
            canon,
            length: number(tags, "l")?,
            hash: base64(tags, "bh")?,
        })
    }

    /// Compares the body as it came; returns how many of its octets are not covered.
    fn check(&self, hashes: &[Hashed]) -> Result<u64, Flaw> {
        let hashed = hashes.iter().find(|hashed| hashed.is(self));
        let hashed = hashed.ok_or(Flaw::BodyChanged)?;
        let covered = self.length.unwrap_or(hashed.length);
        // RFC 6376 §3.5: l= must not be larger than the canonicalized body.
        let uncovered = hashed.length.checked_sub(covered);
        let uncovered = uncovered.ok_or(Flaw::TooLittleBody)?;
        if hashed.hash.as_ref() == self.hash {
            Ok(uncovered)
        } else {
            Err(Flaw::BodyChanged)
        }
    }
}

impl Claim {
    /// What DKIM-Signature and ARC-Message-Signature have in common.
    pub(crate) fn read(tags: &Tags<'_>, place: usize) -> Result<Self, Flaw> {
        let mark = Mark::read(tags)?;
        let (canon, body) = canons(tags)?;
        let (made, expires) = (number(tags, "t")?, number(tags, "x")?);
        if made
            .zip(expires)
            .is_some_and(|(made, expires)| expires < made)
        {
            return Err(Flaw::Bad("x"));
        }
        // RFC 6376 §3.5: q= must name a way to get the key that is known, and there is only the one.
        let known = |value| tag::parts(value).any(|way| way.eq_ignore_ascii_case(b"dns/txt"));
        if tags.value("q").is_some_and(|value| !known(value)) {
            return Err(Flaw::Bad("q"));
        }
        Ok(Self {
            mark,
            body: BodyHash::read(tags, body)?,
            place,
            canon,
            names: names(tags)?,
            exact: true,
            made,
            expires,
        })
    }

    /// Whether `h=` names this field.
    pub(crate) fn names(&self, name: &[u8]) -> bool {
        self.names.iter().any(|named| named == name)
    }

    /// The verdict; `testing` becomes whether the key is marked so.
    pub(crate) fn judge(
        &self,
        header: &Header<'_>,
        hashes: &[Hashed],
        moment: &Moment<'_>,
        testing: &mut bool,
    ) -> Result<(), Flaw> {
        if self.made.is_some_and(|made| made > moment.latest()) {
            return Err(Flaw::InFuture);
        }
        if self.expires.is_some_and(|expires| moment.now > expires) {
            return Err(Flaw::Expired);
        }
        let key = Key::find(&self.mark, moment.answers)?;
        *testing = key.testing;
        if key.strict && !self.exact {
            return Err(Flaw::StrictKey);
        }
        let uncovered = self.body.check(hashes)?;
        key.verify(&self.digest(header), &self.mark.signature)?;
        if uncovered > 0 {
            return Err(Flaw::Uncovered(uncovered));
        }
        Ok(())
    }

    /// The hash that was signed.
    // RFC 6376 §3.7.
    fn digest(&self, header: &Header<'_>) -> digest::Digest {
        let mut context = digest::Context::new(&digest::SHA256);
        header.put_signed(&self.names, Some(self.place), self.canon, &mut context);
        if let Some(field) = header.field(self.place) {
            let bytes = header.bytes();
            put_own(self.canon, bytes, field, &self.mark.hole, &mut context);
        }
        context.finish()
    }
}

/// The forms of header and body.
// RFC 6376 §3.5: without c= both are simple, and a form that stands alone is the header's.
fn canons(tags: &Tags<'_>) -> Result<(Canon, Canon), Flaw> {
    let Some(value) = tags.value("c") else {
        return Ok((Canon::Simple, Canon::Simple));
    };
    let slash = memchr::memchr(b'/', value).unwrap_or(value.len());
    let (header, body) = value.split_at(slash);
    let body = body.strip_prefix(b"/").unwrap_or(b"simple");
    let canon = |name: &[u8]| match name {
        b"simple" => Ok(Canon::Simple),
        b"relaxed" => Ok(Canon::Relaxed),
        _ => Err(Flaw::Bad("c")),
    };
    Ok((canon(header)?, canon(body)?))
}

fn names(tags: &Tags<'_>) -> Result<Vec<Vec<u8>>, Flaw> {
    let value = tags.value("h").ok_or(Flaw::Missing("h"))?;
    let names: Vec<_> = tag::parts(value).map(<[u8]>::to_ascii_lowercase).collect();
    let is_name = |name: &Vec<u8>| !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    if !names.iter().all(is_name) {
        return Err(Flaw::Bad("h"));
    }
    // RFC 6376 §5.4: From must be signed.
    if !names.iter().any(|name| name == b"from") {
        return Err(Flaw::FromNotSigned);
    }
    Ok(names)
}
