//! A report as the JSON document of RFC 8460 §4.4.

use std::collections::BTreeMap;

use mail::date::format_rfc3339;
use serde_json::{Map, Value, json};

use super::row::{Failure, Means, Policy, Row};
use crate::aggregate::kind::Meta;

/// Connections that were secure, and how many failed by what.
type Count<'a> = (u64, Vec<(&'a Failure, u64)>);

/// The document.
#[must_use]
pub fn document(meta: &Meta, rows: &[(Row, u64)]) -> String {
    let mut policies: BTreeMap<&Policy, Count<'_>> = BTreeMap::new();
    for (row, count) in rows {
        let (good, bad) = policies.entry(&row.policy).or_default();
        match &row.failure {
            None => *good += count,
            Some(failure) => bad.push((failure, *count)),
        }
    }
    let policies = policies.into_iter();
    let policies = policies.map(|(policy, (good, bad))| told(meta, policy, good, &bad));
    let contact = meta.contact.as_ref().unwrap_or(&meta.email);
    json!({
        "organization-name": meta.organization,
        "date-range": {
            "start-datetime": format_rfc3339(meta.begin),
            // The last second of it.
            "end-datetime": format_rfc3339(meta.end - 1),
        },
        "contact-info": contact,
        "report-id": meta.id,
        "policies": policies.collect::<Value>(),
    })
    .to_string()
}

fn told(meta: &Meta, policy: &Policy, good: u64, bad: &[(&Failure, u64)]) -> Value {
    let mut what = json!({
        "policy-type": policy.means.as_str(),
        "policy-domain": meta.domain,
    });
    if policy.means != Means::NoPolicyFound {
        what["policy-string"] = json!(policy.lines);
    }
    if !policy.hosts.is_empty() {
        what["mx-host"] = json!(policy.hosts);
    }
    let failed: u64 = bad.iter().map(|(_, count)| count).sum();
    let mut told = json!({
        "policy": what,
        "summary": {"total-successful-session-count": good, "total-failure-session-count": failed},
    });
    if !bad.is_empty() {
        told["failure-details"] = bad.iter().map(|(one, count)| detail(one, *count)).collect();
    }
    told
}

fn detail(failure: &Failure, count: u64) -> Value {
    let mut told = Map::new();
    let mut tell = |key: &str, value: Value| told.insert(key.to_owned(), value);
    tell("result-type", failure.result.as_str().into());
    if let Some(from) = failure.from {
        tell("sending-mta-ip", from.to_canonical().to_string().into());
    }
    if !failure.host.is_empty() {
        tell("receiving-mx-hostname", failure.host.as_str().into());
    }
    if let Some(to) = failure.to {
        tell("receiving-ip", to.to_canonical().to_string().into());
    }
    if !failure.reason.is_empty() {
        tell("failure-reason-code", failure.reason.as_str().into());
    }
    tell("failed-session-count", count.into());
    told.into()
}

#[cfg(test)]
mod tests {
    use super::super::row::{Fault, Flaw};
    use super::*;
    use crate::aggregate::xml::tests::meta;

    #[test]
    fn what_happened_under_one_policy_stands_together() {
        let sts = Policy::sts(["version: STSv1".into()], &["*.a.example".into()]);
        let failure = Failure {
            from: Some([192, 0, 2, 1].into()),
            to: Some([192, 0, 2, 2].into()),
            ..Flaw::new(Fault::CertificateExpired, "\"expired\"").at("mx.a.example")
        };
        let row = |policy: &Policy, failure: Option<&Failure>| Row {
            policy: policy.clone(),
            failure: failure.cloned(),
        };
        let rows = [
            (row(&sts, None), 7),
            (row(&Policy::none(), None), 1),
            (row(&sts, Some(&failure)), 2),
        ];
        let document: Value = serde_json::from_str(&document(&meta(), &rows)).unwrap();
        assert_eq!(
            document,
            json!({
                "organization-name": "R & D <x>",
                "date-range": {"start-datetime": "1970-01-01T00:00:00Z", "end-datetime": "1970-01-01T23:59:59Z"},
                "contact-info": "dmarc@example.test",
                "report-id": "0123abcd",
                "policies": [
                    {
                        "policy": {
                            "policy-type": "sts",
                            "policy-string": ["version: STSv1"],
                            "policy-domain": "a.example",
                            "mx-host": ["*.a.example"],
                        },
                        "summary": {"total-successful-session-count": 7, "total-failure-session-count": 2},
                        "failure-details": [{
                            "result-type": "certificate-expired",
                            "sending-mta-ip": "192.0.2.1",
                            "receiving-mx-hostname": "mx.a.example",
                            "receiving-ip": "192.0.2.2",
                            "failure-reason-code": "\"expired\"",
                            "failed-session-count": 2,
                        }],
                    },
                    {
                        "policy": {"policy-type": "no-policy-found", "policy-domain": "a.example"},
                        "summary": {"total-successful-session-count": 1, "total-failure-session-count": 0},
                    },
                ],
            })
        );
    }
}
