//! What DNS answers, and whether DNSSEC vouches for it (RFC 4033 §5).

use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

/// Aliases that are followed, one after the other.
pub(super) const MAX_ALIASES: usize = 12;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) found: Found,
    /// DNSSEC vouches for all of it: each alias on the way, and what is at its end.
    pub(super) is_secure: bool,
    /// The name at the end of the aliases, if there are any.
    pub(super) canonical: Option<Name>,
    /// DNSSEC vouches for the first alias.
    pub(super) is_alias_secure: bool,
}

/// What was found.
#[derive(Debug)]
pub(super) enum Found {
    Records(Vec<RData>),
    /// The name exists, such a record does not.
    Empty,
    NoSuchName,
}

impl Answer {
    /// Understands what the resolver says. The error is a reason that may be gone the next time.
    pub(super) fn read(
        query: &Name,
        kind: RecordType,
        result: Result<Lookup, NetError>,
    ) -> Result<Self, String> {
        match result {
            Ok(lookup) => Ok(Self::of_records(query, kind, lookup.answers())),
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Self::of_denial(&none),
            // Too many rounds of a hash to check what there is not (RFC 9276 §3.2): nothing vouches for it, and it counts.
            Err(NetError::Dns(DnsError::Nsec {
                response,
                proof: Proof::Insecure,
                ..
            })) => {
                let denied = || Self::denied(response.metadata.response_code, false);
                match response.answers.is_empty() {
                    true => denied(),
                    false => Ok(Self {
                        is_secure: false,
                        is_alias_secure: false,
                        ..Self::of_records(query, kind, &response.answers)
                    }),
                }
            }
            Err(NetError::Dns(DnsError::DnssecBogus | DnsError::Nsec { .. })) => {
                Err("DNSSEC says that the answer is forged, or its signatures are wrong or have expired".into())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Of a name that cannot exist.
    pub(super) fn no_such_name() -> Self {
        Self {
            found: Found::NoSuchName,
            is_secure: false,
            canonical: None,
            is_alias_secure: false,
        }
    }

    fn of_records(query: &Name, kind: RecordType, answers: &[Record]) -> Self {
        let alias = |name: &Name| {
            answers.iter().find_map(|record| match &record.data {
                RData::CNAME(target) if record.name == *name => Some((record.proof, &target.0)),
                _ => None,
            })
        };
        let (mut end, mut proofs) = (query, Vec::new());
        while let Some((proof, target)) = alias(end).filter(|_| proofs.len() < MAX_ALIASES) {
            proofs.push(proof);
            end = target;
        }
        let is_secure = |proof: &Proof| *proof == Proof::Secure;
        let found = |record: &&Record| record.data.record_type() == kind;
        let records: Vec<_> = answers.iter().filter(found).collect();
        let vouched = |record: &&Record| record.name == *end && is_secure(&record.proof);
        Self {
            is_secure: !records.is_empty()
                && proofs.iter().all(is_secure)
                && records.iter().all(vouched),
            canonical: (!proofs.is_empty()).then(|| end.clone()),
            is_alias_secure: proofs.first().is_some_and(is_secure),
            found: match records.is_empty() {
                true => Found::Empty,
                false => Found::Records(records.iter().map(|one| one.data.clone()).collect()),
            },
        }
    }

    fn of_denial(none: &NoRecords) -> Result<Self, String> {
        let authorities = none.authorities.iter().flat_map(|all| all.iter());
        let mut proven = authorities.filter(|record| record.proof == Proof::Secure);
        let is_proof = |record: &Record| {
            let kind = record.data.record_type();
            matches!(kind, RecordType::NSEC | RecordType::NSEC3)
        };
        Self::denied(none.response_code, proven.any(is_proof))
    }

    fn denied(code: ResponseCode, is_secure: bool) -> Result<Self, String> {
        let found = match code {
            ResponseCode::NXDomain => Found::NoSuchName,
            ResponseCode::NoError => Found::Empty,
            other => return Err(other.to_string()),
        };
        Ok(Self {
            found,
            is_secure,
            canonical: None,
            is_alias_secure: false,
        })
    }
}
