//! The chain of those who passed a message on, each of whom says what it was before (ARC, RFC 8617).

use std::fmt;

use aws_lc_rs::digest;
use mail::address::Domain;

use crate::body::Hashed;
use crate::canon::{Canon, put_field, put_own};
use crate::claim::{Claim, Mark};
use crate::field::Header;
use crate::key::Key;
use crate::tag::Tags;
use crate::verdict::Flaw;
use crate::verify::Moment;

/// RFC 8617 §4.2.1: an instance is 1 to 50.
const MAX_SETS: u8 = 50;

/// Whether a chain holds (RFC 8617 §4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainVerdict {
    /// There is no chain.
    None,
    /// It holds, and the newest link covers the message as it came.
    Pass,
    /// It does not. This says nothing against the message.
    Fail,
}

impl ChainVerdict {
    /// The word in an Authentication-Results field.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }
}

/// What is wrong with a chain. `Display` gives a short reason in US-ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainFlaw {
    /// A field is missing, malformed, there twice, or of an instance that there cannot be.
    Broken,
    /// It has more sets than are looked at.
    TooLong,
    /// Whoever added the newest set found that the chain had failed before.
    FailedBefore,
    /// The newest ARC-Message-Signature does not hold.
    Message(Flaw),
    /// The ARC-Seal of this instance does not hold.
    Seal(u8, Flaw),
}

impl fmt::Display for ChainFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken => f.write_str("the chain has a gap or a malformed field"),
            Self::TooLong => f.write_str("the chain is too long"),
            Self::FailedBefore => f.write_str("the chain had failed before"),
            Self::Message(flaw) => write!(f, "newest ARC-Message-Signature: {flaw}"),
            Self::Seal(instance, flaw) => write!(f, "ARC-Seal {instance}: {flaw}"),
        }
    }
}

/// Who added a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealer {
    /// `d=` of the ARC-Seal.
    pub domain: Domain,
    /// `s=` of the ARC-Seal in lower-case A-labels.
    pub selector: String,
    /// What it found: its ARC-Authentication-Results on one line, after `i=`; its octets are whatever the sealer wrote.
    pub results: Vec<u8>,
}

/// A chain and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Whether it holds.
    pub verdict: ChainVerdict,
    /// Why it does not.
    pub flaw: Option<ChainFlaw>,
    /// Who added the sets, the oldest first. Empty unless the chain holds; who trusts a chain trusts them all.
    pub sealers: Vec<Sealer>,
    /// The newest ARC-Message-Signature has `l=`: more may stand behind what it covers.
    pub limited: bool,
}

impl Chain {
    pub(crate) fn none() -> Self {
        Self {
            verdict: ChainVerdict::None,
            flaw: None,
            sealers: Vec::new(),
            limited: false,
        }
    }

    fn failed(flaw: ChainFlaw) -> Self {
        Self {
            verdict: ChainVerdict::Fail,
            flaw: Some(flaw),
            ..Self::none()
        }
    }

    /// Who added the newest set of a chain that holds.
    #[must_use]
    pub fn newest(&self) -> Option<&Sealer> {
        self.sealers.last()
    }
}

/// A chain whose fields are all there.
#[derive(Debug)]
pub(crate) struct Draft {
    /// The newest ARC-Message-Signature.
    pub(crate) message: Claim,
    limited: bool,
    sets: Vec<Set>,
}

#[derive(Debug)]
struct Set {
    /// Places of ARC-Authentication-Results, ARC-Message-Signature and ARC-Seal.
    places: [usize; 3],
    seal: Mark,
}

impl Draft {
    /// The names of the keys.
    pub(crate) fn questions(&self) -> impl Iterator<Item = String> {
        let seals = self.sets.iter().map(|set| set.seal.question());
        seals.chain([self.message.mark.question()])
    }
}

/// Collects the chain of a header.
// RFC 8617 §5.2, steps 1 to 3.
pub(crate) fn read(header: &Header<'_>, most: u8) -> Result<Option<Draft>, ChainFlaw> {
    let kinds: [&[usize]; 3] = [
        header.named(b"arc-authentication-results"),
        header.named(b"arc-message-signature"),
        header.named(b"arc-seal"),
    ];
    let length = kinds[2].len();
    if kinds.iter().all(|places| places.is_empty()) {
        return Ok(None);
    }
    if length > usize::from(most.min(MAX_SETS)) {
        return Err(ChainFlaw::TooLong);
    }
    if kinds.iter().any(|places| places.len() != length) {
        return Err(ChainFlaw::Broken);
    }
    let mut sets = vec![[None; 3]; length];
    for (kind, places) in kinds.into_iter().enumerate() {
        for place in places {
            let value = header.field(*place).map_or(&b""[..], |field| field.value);
            let instance = instance(value, kind == 0).ok_or(ChainFlaw::Broken)?;
            let set = sets.get_mut(instance - 1).ok_or(ChainFlaw::Broken)?;
            set[kind] = Some(*place);
        }
    }
    // As many fields of each kind as sets, and none without its place: then none was there twice.
    let sets: Option<Vec<_>> = sets
        .into_iter()
        .map(|[results, message, seal]| Some([results?, message?, seal?]))
        .collect();
    draft(header, sets.ok_or(ChainFlaw::Broken)?).map(Some)
}

fn draft(header: &Header<'_>, places: Vec<[usize; 3]>) -> Result<Draft, ChainFlaw> {
    let newest = places.last().map_or(0, |places| places[1]);
    let mut sets = Vec::with_capacity(places.len());
    let last = places.len() - 1;
    for (index, places) in places.into_iter().enumerate() {
        let value = header
            .field(places[2])
            .map_or(&b""[..], |field| field.value);
        let tags = Tags::parse(value).ok_or(ChainFlaw::Broken)?;
        match tags.value("cv") {
            Some(b"fail") if index == last => return Err(ChainFlaw::FailedBefore),
            Some(b"none") if index == 0 => {}
            Some(b"pass") if index > 0 => {}
            _ => return Err(ChainFlaw::Broken),
        }
        // RFC 8617 §4.1.3: there must be no h= in an ARC-Seal.
        if tags.value("h").is_some() {
            return Err(ChainFlaw::Broken);
        }
        let number = u8::try_from(index + 1).unwrap_or(MAX_SETS);
        let seal = Mark::read(&tags).map_err(|flaw| ChainFlaw::Seal(number, flaw))?;
        sets.push(Set { places, seal });
    }
    let value = header.field(newest).map_or(&b""[..], |field| field.value);
    let tags = Tags::parse(value).ok_or(ChainFlaw::Broken)?;
    let message = Claim::read(&tags, newest).map_err(ChainFlaw::Message)?;
    // RFC 8617 §4.1.2: ARC-Seal must not be in the h= of an ARC-Message-Signature.
    if message.names(b"arc-seal") {
        return Err(ChainFlaw::Message(Flaw::Bad("h")));
    }
    Ok(Draft {
        message,
        limited: tags.value("l").is_some(),
        sets,
    })
}

/// The instance of a field, which is at least 1.
// RFC 8617 §4.1.1: "i=" instance ";" stands before the results, which are no tags.
fn instance(value: &[u8], is_results: bool) -> Option<usize> {
    let value = if is_results {
        value.get(..memchr::memchr(b';', value)?)?
    } else {
        value
    };
    let tags = Tags::parse(value)?;
    let text = tags.text("i")?;
    let is_number = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_number)?;
    (1..=usize::from(MAX_SETS))
        .contains(&number)
        .then_some(number)
}

/// The verdict on what was collected.
pub(crate) fn judge(
    draft: Result<Option<Draft>, ChainFlaw>,
    header: &Header<'_>,
    hashes: &[Hashed],
    moment: &Moment<'_>,
) -> Chain {
    let draft = match draft {
        Ok(Some(draft)) => draft,
        Ok(None) => return Chain::none(),
        Err(flaw) => return Chain::failed(flaw),
    };
    if let Err(flaw) = draft.verify(header, hashes, moment) {
        return Chain::failed(flaw);
    }
    Chain {
        verdict: ChainVerdict::Pass,
        flaw: None,
        limited: draft.limited,
        sealers: draft
            .sets
            .into_iter()
            .map(|set| set.sealer(header))
            .collect(),
    }
}

impl Draft {
    // RFC 8617 §5.2, steps 4 and 6. Older ARC-Message-Signatures need not hold any more.
    fn verify(
        &self,
        header: &Header<'_>,
        hashes: &[Hashed],
        moment: &Moment<'_>,
    ) -> Result<(), ChainFlaw> {
        let mut testing = false;
        self.message
            .judge(header, hashes, moment, &mut testing)
            .map_err(ChainFlaw::Message)?;
        // Each seal covers all fields of the sets before it (RFC 8617 §5.1.1), so the hash goes on from one to the next.
        let mut context = digest::Context::new(&digest::SHA256);
        for (number, set) in (1..).zip(&self.sets) {
            set.verify(header, &mut context, moment)
                .map_err(|flaw| ChainFlaw::Seal(number, flaw))?;
        }
        Ok(())
    }
}

impl Set {
    fn sealer(self, header: &Header<'_>) -> Sealer {
        let text = header
            .field(self.places[0])
            .map(mail::header::Field::unfolded)
            .unwrap_or_default();
        let start = memchr::memchr(b';', &text).map_or(text.len(), |found| found + 1);
        Sealer {
            domain: self.seal.domain,
            selector: self.seal.selector,
            results: text.get(start..).unwrap_or_default().trim_ascii().to_vec(),
        }
    }

    /// Verifies the seal and adds the set to what the next one covers.
    fn verify(
        &self,
        header: &Header<'_>,
        context: &mut digest::Context,
        moment: &Moment<'_>,
    ) -> Result<(), Flaw> {
        let key = Key::find(&self.seal, moment.answers)?;
        let [results, message, seal] = self.places.map(|place| header.field(place));
        let (Some(results), Some(message), Some(seal)) = (results, message, seal) else {
            return Err(Flaw::Malformed);
        };
        let bytes = header.bytes();
        put_field(Canon::Relaxed, bytes, results, context);
        put_field(Canon::Relaxed, bytes, message, context);
        let mut sealed = context.clone();
        put_own(Canon::Relaxed, bytes, seal, &self.seal.hole, &mut sealed);
        key.verify(&sealed.finish(), &self.seal.signature)?;
        put_field(Canon::Relaxed, bytes, seal, context);
        Ok(())
    }
}
