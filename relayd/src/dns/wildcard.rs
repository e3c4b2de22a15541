//! Believes in answers made from a wildcard that hickory-net 0.26.3 takes for forged though they are proven: of a name right below the
//! wildcard it wants a proof that the wildcard itself does not exist.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use hickory_resolver::net::xfer::DnsHandle;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::dnssec::rdata::sig::SigInput;
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, NSEC};
use hickory_resolver::proto::op::{DnsRequest, DnsResponse, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::sieve::signature;

/// Asks who checks, and looks again at what is said to be forged.
#[derive(Clone)]
pub(super) struct Second<H>(pub(super) H);

impl<H: DnsHandle> DnsHandle for Second<H> {
    type Response = Opinions<H::Response>;
    type Runtime = H::Runtime;

    fn is_verifying_dnssec(&self) -> bool {
        self.0.is_verifying_dnssec()
    }

    fn is_using_edns(&self) -> bool {
        self.0.is_using_edns()
    }

    fn send(&self, request: DnsRequest) -> Self::Response {
        Opinions(self.0.send(request))
    }
}

/// Answers looked at again.
pub(super) struct Opinions<S>(S);

impl<S> Stream for Opinions<S>
where
    S: Stream<Item = Result<DnsResponse, NetError>> + Unpin,
{
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll_next(cx)) {
            Some(Err(NetError::Dns(DnsError::Nsec {
                query, response, ..
            }))) if is_proven(&query, &response) => Some(Ok(*response)),
            other => other,
        })
    }
}

/// RFC 4035 §5.3.4: who signed the wildcard says that the name itself does not exist. Right below the wildcard nothing comes closer.
fn is_proven(query: &Query, response: &DnsResponse) -> bool {
    let (name, kind) = (query.name(), query.query_type());
    let is_answer = |record: &Record| {
        let of = record.record_type();
        record.name == *name && (of == kind || of == RecordType::CNAME)
    };
    let made: Vec<_> = response.answers.iter().filter_map(made).collect();
    let Some((first, input)) = made.first() else {
        return false;
    };
    response.metadata.response_code == ResponseCode::NoError
        && response.answers.iter().any(is_answer)
        // What was not signed at all is not said to be secure; it is only no proof of a forgery.
        && response.answers.iter().all(|record| record.proof != Proof::Bogus)
        && made.iter().all(|(record, _)| record.name == *name)
        && first.proof == Proof::Secure
        && input.num_labels + 1 == name.num_labels()
        && response.authorities.iter().any(|record| {
            record.proof == Proof::Secure
                && matches!(&record.data, RData::DNSSEC(DNSSECRData::NSEC(nsec))
                    if input.signer_name.zone_of(&record.name) && denies(&record.name, nsec, name))
        })
}

/// A signature over what was made from a wildcard.
fn made(record: &Record) -> Option<(&Record, &SigInput)> {
    let input = signature(record)?.input();
    (input.num_labels < record.name.num_labels()).then_some((record, input))
}

/// Whether an NSEC record says that a name does not exist (RFC 4035 §5.4).
fn denies(owner: &Name, nsec: &NSEC, name: &Name) -> bool {
    let next = nsec.next_domain_name();
    // The last one of a zone names the first.
    let is_between = owner < name && (name < next || next <= owner);
    // RFC 6840 §4.1: a zone that was delegated knows what is below; its parent does not.
    let types = nsec.type_set();
    let is_cut = types.contains(RecordType::NS) && !types.contains(RecordType::SOA);
    let is_alias = types.contains(RecordType::DNAME);
    is_between && !(owner.zone_of(name) && (is_cut || is_alias)) && !name.zone_of(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_between_two_names_is_denied() {
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let check = |owner: &str, next: &str, types: &[RecordType], asked: &str| {
            let nsec = NSEC::new(name(next), types.iter().copied());
            denies(&name(owner), &nsec, &name(asked))
        };
        let a = [RecordType::A];
        assert!(check("a.test.", "c.test.", &a, "b.test."));
        assert!(!check("a.test.", "c.test.", &a, "c.test."));
        assert!(!check("a.test.", "c.test.", &a, "a.test."));
        assert!(!check("a.test.", "c.test.", &a, "d.test."));
        assert!(check("c.test.", "test.", &a, "d.test."));
        assert!(!check("c.test.", "test.", &a, "b.test."));
        assert!(check("a.test.", "c.test.", &a, "x.a.test."));
        let cut = [RecordType::NS];
        assert!(!check("a.test.", "c.test.", &cut, "x.a.test."));
        assert!(check("a.test.", "c.test.", &cut, "b.test."));
        // It exists, though it has no record.
        assert!(!check("a.test.", "x.b.test.", &a, "b.test."));
    }
}
