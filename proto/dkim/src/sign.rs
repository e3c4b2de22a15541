//! Makes signatures: relaxed/relaxed, over the whole body, with what people see signed against additions, too.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use mail::address::Domain;

use crate::body::Hashes;
use crate::canon::{Canon, put_own};
use crate::claim::BodyHash;
use crate::field::{Header, Splitter};
use crate::verdict::Algorithm;

/// Fields that are signed once more than they are there, so that none can be added.
// RFC 6376 §5.4, §8.15.
const SEALED: [&str; 12] = [
    "From",
    "Reply-To",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
];
/// Fields that are signed where they are there; mailing lists add them.
const SIGNED: [&str; 5] = [
    "Sender",
    "List-Id",
    "List-Post",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
];
/// Characters of a line of `b=`, and at most of one of `h=` (RFC 5322 §2.1.1 recommends 78).
const LINE: usize = 72;

/// A private key of no use: neither Ed25519 nor RSA of 2048 to 8192 bits, in PKCS#8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadKey;

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an Ed25519 or RSA key (2048 to 8192 bits) in PKCS#8")
    }
}

impl std::error::Error for BadKey {}

/// Why a message cannot be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CannotSign {
    /// It does not begin with a field of its header, so that no field can be put above it.
    NoHeader,
    /// It has no From, or several.
    NotOneFrom,
    /// Its header is larger than 1 MiB or has more than 10,000 fields.
    HeaderTooLarge,
    /// The selector is none.
    BadSelector,
    /// The key could not be used.
    KeyFailed,
}

impl fmt::Display for CannotSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHeader => "the message does not begin with a header field",
            Self::NotOneFrom => "the message does not have exactly one From",
            Self::HeaderTooLarge => "the header is too large",
            Self::BadSelector => "the selector is not a name in the DNS",
            Self::KeyFailed => "the key could not be used",
        })
    }
}

impl std::error::Error for CannotSign {}

/// A private key that signs.
pub struct SigningKey {
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm().as_str())
    }
}

impl SigningKey {
    /// A key from PKCS#8 in DER.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, BadKey> {
        let ed25519 = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Pair::Ed25519);
        let pair = ed25519.or_else(|_| RsaKeyPair::from_pkcs8(der).map(Pair::Rsa));
        pair.map(|pair| Self { pair }).map_err(|_| BadKey)
    }

    /// What it signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::Rsa(_) => Algorithm::RsaSha256,
            Pair::Ed25519(_) => Algorithm::Ed25519Sha256,
        }
    }

    /// The text of the TXT record at `SELECTOR._domainkey.DOMAIN`; longer than one string of a record may be.
    ///
    /// # Errors
    /// [`BadKey`] if the key cannot be written.
    // RFC 6376 §3.6.1; RFC 8463 §4.2: of an Ed25519 key only its octets.
    pub fn record(&self) -> Result<String, BadKey> {
        let (kind, octets) = match &self.pair {
            Pair::Rsa(pair) => {
                let der: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| BadKey)?;
                ("rsa", der.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => ("ed25519", pair.public_key().as_ref().to_vec()),
        };
        let text = mail::encode::base64(&octets);
        Ok(format!("v=DKIM1; k={kind}; p={text}"))
    }

    /// Signs a hash.
    fn sign(&self, hash: &digest::Digest) -> Result<Vec<u8>, CannotSign> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign_digest(&RSA_PKCS1_SHA256, hash, &mut signature)
                    .map_err(|_| CannotSign::KeyFailed)?;
                Ok(signature)
            }
            Pair::Ed25519(pair) => {
                let signature = pair.try_sign(hash.as_ref());
                let signature = signature.map_err(|_| CannotSign::KeyFailed)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }
}

/// Takes a message, from the first octet of its header with CRLF line ends, and signs it at its end.
#[derive(Debug)]
pub struct Signer<'a> {
    key: &'a SigningKey,
    domain: Domain,
    selector: String,
    splitter: Splitter,
    hashes: Hashes,
}

impl<'a> Signer<'a> {
    /// A signer for `domain`, whose key is found under `selector`.
    #[must_use]
    pub fn new(key: &'a SigningKey, domain: Domain, selector: &str) -> Self {
        let mut hashes = Hashes::default();
        hashes.want(&BodyHash::whole(Canon::Relaxed));
        Self {
            key,
            domain,
            selector: selector.to_owned(),
            splitter: Splitter::new(usize::MAX),
            hashes,
        }
    }

    /// Takes more of the message.
    pub fn feed(&mut self, input: &[u8]) {
        if let Some(body) = self.splitter.feed(input) {
            self.hashes.feed(body);
        }
    }

    /// The DKIM-Signature field with its CRLF, to be put above the message; `now` in seconds since 1970.
    ///
    /// # Errors
    /// [`CannotSign`].
    pub fn end(self, now: u64) -> Result<String, CannotSign> {
        let bytes = self.splitter.into_header();
        let bytes = bytes.ok_or(CannotSign::HeaderTooLarge)?;
        let header = Header::parse(&bytes).ok_or(CannotSign::HeaderTooLarge)?;
        if header.field(0).is_none_or(|field| field.start > 0) {
            return Err(CannotSign::NoHeader);
        }
        if header.named(b"from").len() != 1 {
            return Err(CannotSign::NotOneFrom);
        }
        if !crate::claim::is_selector(&self.selector) {
            return Err(CannotSign::BadSelector);
        }
        let names = names(&header);
        let hashed = self.hashes.end();
        let body = hashed.first().ok_or(CannotSign::KeyFailed)?;
        let mut field = format!(
            "DKIM-Signature: v=1; a={}; c=relaxed/relaxed;\r\n d={}; s={};\r\n t={now}; bh={};\r\n h={};\r\n b=",
            self.key.algorithm().as_str(),
            self.domain,
            self.selector,
            mail::encode::base64(body.hash.as_ref()),
            folded(&names),
        );
        let hash = hash(&header, &names, &field);
        let signature = mail::encode::base64(&self.key.sign(&hash)?);
        for (index, line) in signature.as_bytes().chunks(LINE).enumerate() {
            if index > 0 {
                field.push_str("\r\n  ");
            }
            field.extend(line.iter().copied().map(char::from));
        }
        field.push_str("\r\n");
        Ok(field)
    }
}

/// The fields to sign, each as often as it is to be named.
fn names(header: &Header<'_>) -> Vec<&'static str> {
    let count = |name: &str| header.named(name.to_ascii_lowercase().as_bytes()).len();
    let sealed = SEALED.into_iter().map(|name| (name, count(name) + 1));
    let signed = SIGNED.into_iter().map(|name| (name, count(name)));
    let all = sealed.chain(signed);
    all.flat_map(|(name, times)| std::iter::repeat_n(name, times))
        .collect()
}

/// The value of `h=` on lines of its own.
fn folded(names: &[&str]) -> String {
    let mut text = String::new();
    let mut line = 0;
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            text.push(':');
        }
        if line + name.len() > LINE {
            text.push_str("\r\n  ");
            line = 0;
        }
        text.push_str(name);
        line += name.len() + 1;
    }
    text
}

/// What is signed: the named fields, and the signature's own without a value of `b=`.
fn hash(header: &Header<'_>, names: &[&str], field: &str) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    let names: Vec<_> = names
        .iter()
        .map(|name| name.to_ascii_lowercase().into_bytes())
        .collect();
    header.put_signed(&names, None, Canon::Relaxed, &mut context);
    for own in mail::header::fields(field.as_bytes()) {
        let end = own.value.len();
        put_own(
            Canon::Relaxed,
            field.as_bytes(),
            &own,
            &(end..end),
            &mut context,
        );
    }
    context.finish()
}
