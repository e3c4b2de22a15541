//! Takes out of an answer of DNS what has no business in it, before DNSSEC is checked. What is checked costs time (CVE-2023-50387), and
//! what stands beside an answer could make a forged one look as if nothing had to be proven.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use hickory_resolver::net::xfer::DnsHandle;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, RRSIG};
use hickory_resolver::proto::op::{DnsRequest, DnsResponse, Query};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::answer::MAX_ALIASES;

/// Records of the kind that was asked for.
const MAX_RECORDS: usize = 64;
/// Keys of a zone, and marks of them. The root has three to five.
const MAX_KEYS: usize = 16;
/// Signatures in one section. Each of them may be tried with two keys.
const MAX_SIGNATURES: usize = 24;
/// Records that deny; three are enough (RFC 5155 §7.2.2).
const MAX_DENIALS: usize = 8;

/// Asks, and sifts the answers.
#[derive(Clone)]
pub(super) struct Sieve<H>(pub(super) H);

impl<H: DnsHandle> DnsHandle for Sieve<H> {
    type Response = Sifted<H::Response>;
    type Runtime = H::Runtime;

    fn is_using_edns(&self) -> bool {
        self.0.is_using_edns()
    }

    fn send(&self, request: DnsRequest) -> Self::Response {
        Sifted {
            query: request.queries.first().cloned(),
            answers: self.0.send(request),
        }
    }
}

/// Sifted answers.
pub(super) struct Sifted<S> {
    query: Option<Query>,
    answers: S,
}

impl<S> Stream for Sifted<S>
where
    S: Stream<Item = Result<DnsResponse, NetError>> + Unpin,
{
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let answer = ready!(Pin::new(&mut self.answers).poll_next(cx));
        Poll::Ready(match (answer, &self.query) {
            (Some(answer), Some(query)) => Some(sift(answer, query)),
            (answer, _) => answer,
        })
    }
}

fn sift(answer: Result<DnsResponse, NetError>, query: &Query) -> Result<DnsResponse, NetError> {
    let kind = query.query_type();
    match answer {
        Ok(mut response) => {
            let answers = mem::take(&mut response.answers);
            let names = chain(query.name(), &answers);
            response.answers = sift_answers(answers, &names, kind);
            let signers = wildcard_signers(&response.answers);
            let authorities = mem::take(&mut response.authorities);
            response.authorities = sift_authorities(authorities, &names, &signers, kind);
            response.additionals.clear();
            Ok(response)
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(mut none))) => {
            let names = [query.name().clone()];
            let authorities = none.authorities.take();
            let authorities = authorities.map_or_else(Vec::new, |all| all.to_vec());
            let authorities = sift_authorities(authorities, &names, &[], kind);
            none.authorities = (!authorities.is_empty()).then(|| authorities.into());
            none.soa = none.soa.filter(|soa| soa.name.zone_of(query.name()));
            none.ns = None;
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
        }
        other => other,
    }
}

/// The name that was asked for, and those it is an alias of.
fn chain(asked: &Name, answers: &[Record]) -> Vec<Name> {
    let mut names = vec![asked.clone()];
    while let Some(last) = names.last().filter(|_| names.len() <= MAX_ALIASES) {
        let target = answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == *last => Some(target.0.clone()),
            _ => None,
        });
        match target {
            Some(target) => names.push(target),
            None => break,
        }
    }
    names
}

fn sift_answers(answers: Vec<Record>, names: &[Name], kind: RecordType) -> Vec<Record> {
    let is_wanted = |of: RecordType| of == kind || of == RecordType::CNAME;
    let mut counted = Counted::default();
    let mut kept = answers;
    kept.retain(|record| {
        let wanted = match signature(record) {
            Some(signature) => is_wanted(signature.input().type_covered),
            None => is_wanted(record.data.record_type()),
        };
        wanted && names.contains(&record.name) && counted.has_room(record.data.record_type())
    });
    kept
}

/// Who signed what was made from a wildcard (RFC 4035 §5.3.4).
fn wildcard_signers(answers: &[Record]) -> Vec<Name> {
    let made = |record: &Record| {
        let input = signature(record)?.input();
        (input.num_labels < record.name.num_labels()).then(|| input.signer_name.clone())
    };
    answers.iter().filter_map(made).collect()
}

/// Only what says something about the names counts. An unsigned zone elsewhere proves nothing about them; nor does one that holds what the
/// last alias names about a wildcard before it.
fn sift_authorities(
    mut authorities: Vec<Record>,
    names: &[Name],
    wildcard_signers: &[Name],
    kind: RecordType,
) -> Vec<Record> {
    let is_above = |zone: &Name| names.iter().any(|name| zone.zone_of(name));
    let speaks = |signature: &RRSIG| {
        let signer = &signature.input().signer_name;
        is_above(signer) && (wildcard_signers.is_empty() || wildcard_signers.contains(signer))
    };
    let denials: Vec<(Name, RecordType)> = authorities
        .iter()
        .filter_map(|record| Some((record, signature(record)?)))
        .filter(|(_, signature)| speaks(signature))
        .map(|(record, signature)| (record.name.clone(), signature.input().type_covered))
        .collect();
    let mut counted = Counted::default();
    authorities.retain(|record| {
        let of = record.data.record_type();
        let wanted = match (signature(record), of) {
            (Some(signature), _) => speaks(signature),
            (None, RecordType::SOA) => {
                wildcard_signers.is_empty()
                    && names.last().is_some_and(|name| record.name.zone_of(name))
            }
            (None, RecordType::NSEC | RecordType::NSEC3) => denials
                .iter()
                .any(|(owner, covered)| *owner == record.name && *covered == of),
            (None, RecordType::NS) => kind == RecordType::NS && is_above(&record.name),
            (None, _) => false,
        };
        wanted && counted.has_room(of)
    });
    authorities
}

pub(super) fn signature(record: &Record) -> Option<&RRSIG> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) => Some(signature),
        _ => None,
    }
}

/// How many records of each kind are kept. What is cut off was too much, and its signatures do not fit the rest.
#[derive(Default)]
struct Counted {
    keys: usize,
    signatures: usize,
    denials: usize,
    others: usize,
}

impl Counted {
    fn has_room(&mut self, kind: RecordType) -> bool {
        let (count, most) = match kind {
            RecordType::DNSKEY | RecordType::DS => (&mut self.keys, MAX_KEYS),
            RecordType::RRSIG => (&mut self.signatures, MAX_SIGNATURES),
            RecordType::NSEC | RecordType::NSEC3 => (&mut self.denials, MAX_DENIALS),
            _ => (&mut self.others, MAX_RECORDS),
        };
        *count += 1;
        *count <= most
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::rdata::{A, NULL};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn record(owner: &str, kind: RecordType) -> Record {
        let data = match kind {
            RecordType::A => RData::A(A::new(127, 0, 0, 1)),
            code => RData::Unknown {
                code,
                rdata: NULL::with(vec![0]),
            },
        };
        Record::from_rdata(name(owner), 60, data)
    }

    #[test]
    fn what_is_too_much_to_be_checked_is_cut_off() {
        let mut counted = Counted::default();
        let mut room = |kind| (0..1000).filter(|_| counted.has_room(kind)).count();
        assert_eq!(room(RecordType::DNSKEY) + room(RecordType::DS), MAX_KEYS);
        assert_eq!(room(RecordType::RRSIG), MAX_SIGNATURES);
        assert_eq!(
            room(RecordType::NSEC) + room(RecordType::NSEC3),
            MAX_DENIALS
        );
        assert_eq!(room(RecordType::A), MAX_RECORDS);
        let names = [name("a.test.")];
        let many = vec![record("a.test.", RecordType::DNSKEY); 1000];
        let kept = sift_answers(many, &names, RecordType::DNSKEY);
        assert_eq!(kept.len(), MAX_KEYS);
    }

    #[test]
    fn only_what_was_asked_for_is_left() {
        let names = [name("a.test."), name("b.test.")];
        let answers = vec![
            record("a.test.", RecordType::A),
            record("B.test.", RecordType::A),
            record("c.test.", RecordType::A),
            record("a.test.", RecordType::TXT),
        ];
        let kept = sift_answers(answers, &names, RecordType::A);
        let owners: Vec<_> = kept.iter().map(|record| record.name.to_string()).collect();
        assert_eq!(owners, ["a.test.", "B.test."]);
    }
}
