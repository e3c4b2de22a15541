//! Makes signatures: relaxed/relaxed, over the whole body, with what people see signed against additions, too.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use mail::address::Domain;

use crate::canon::{Canon, put_own};
use crate::extract::{Extract, HASH, SEALED, SIGNED, is_signable};
use crate::field::Header;
use crate::verdict::Algorithm;

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
    /// What is to be signed is not made of the fields that are signed, and of nothing else.
    NotFields,
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
            Self::NotFields => "it is not made of header fields that are signed",
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

/// What a signature says.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    /// [`crate::Signable::fields`].
    pub fields: &'a [u8],
    /// [`crate::Signable::body_hash`].
    pub body_hash: &'a [u8; HASH],
    /// Who signs.
    pub domain: &'a Domain,
    /// Where its key is found.
    pub selector: &'a str,
    /// When, in seconds since 1970.
    pub at: u64,
    /// Until when it counts.
    pub until: Option<u64>,
}

impl SigningKey {
    /// The DKIM-Signature field with its CRLF, to be put above the message. Whatever the statement is, nothing is signed but a header
    /// with such a field at its end.
    ///
    /// # Errors
    /// [`CannotSign`].
    pub fn state(&self, statement: &Statement<'_>) -> Result<String, CannotSign> {
        let header = signed_only(statement.fields)?;
        if header.named(b"from").len() != 1 {
            return Err(CannotSign::NotOneFrom);
        }
        if !crate::claim::is_selector(statement.selector) {
            return Err(CannotSign::BadSelector);
        }
        let names = names(&header);
        let until = statement.until.map(|until| format!(" x={until};"));
        let mut field = format!(
            "DKIM-Signature: v=1; a={}; c=relaxed/relaxed;\r\n d={}; s={};\r\n t={};{} bh={};\r\n h={};\r\n b=",
            self.algorithm().as_str(),
            statement.domain,
            statement.selector,
            statement.at,
            until.unwrap_or_default(),
            mail::encode::base64(statement.body_hash),
            folded(&names),
        );
        let hash = hash(&header, &names, &field);
        let signature = mail::encode::base64(&self.sign(&hash)?);
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

/// A header all of whose octets belong to fields that are signed.
fn signed_only(fields: &[u8]) -> Result<Header<'_>, CannotSign> {
    if fields.len() > mail::header::MAX_HEADER_BYTES {
        return Err(CannotSign::HeaderTooLarge);
    }
    let header = Header::parse(fields).ok_or(CannotSign::HeaderTooLarge)?;
    let mut end = 0;
    for field in header.fields() {
        if field.start != end || !is_signable(field.name) {
            return Err(CannotSign::NotFields);
        }
        end = field.end;
    }
    match end == fields.len() && end > 0 {
        true => Ok(header),
        false => Err(CannotSign::NotFields),
    }
}

/// Takes a message, from the first octet of its header with CRLF line ends, and signs it at its end.
#[derive(Debug)]
pub struct Signer<'a> {
    key: &'a SigningKey,
    domain: Domain,
    selector: String,
    extract: Extract,
}

impl<'a> Signer<'a> {
    /// A signer for `domain`, whose key is found under `selector`.
    #[must_use]
    pub fn new(key: &'a SigningKey, domain: Domain, selector: &str) -> Self {
        Self {
            key,
            domain,
            selector: selector.to_owned(),
            extract: Extract::default(),
        }
    }

    /// Takes more of the message.
    pub fn feed(&mut self, input: &[u8]) {
        self.extract.feed(input);
    }

    /// The DKIM-Signature field with its CRLF, to be put above the message; `now` in seconds since 1970.
    ///
    /// # Errors
    /// [`CannotSign`].
    pub fn end(self, now: u64) -> Result<String, CannotSign> {
        let signable = self.extract.end()?;
        // Without a single field that is signed there is no From either.
        if signable.fields.is_empty() {
            return Err(CannotSign::NotOneFrom);
        }
        self.key.state(&Statement {
            fields: &signable.fields,
            body_hash: &signable.body_hash,
            domain: &self.domain,
            selector: &self.selector,
            at: now,
            until: None,
        })
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
