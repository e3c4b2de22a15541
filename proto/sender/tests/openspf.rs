//! The openspf test suite for RFC 7208 (release 2014.04, with the additions of pyspf 2.0.14), in JSON and without its comments.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::collections::BTreeMap;
use std::net::IpAddr;

use sender::dns::{Answer, Kind, Question, Record};
use sender::spf::{Check, Subject};
use serde_json::Value;

/// What there is in DNS: types and values.
type Zone = BTreeMap<String, Vec<(String, String)>>;

fn look_up(zone: &Zone, question: &Question) -> Answer {
    let kind = match question.kind {
        Kind::A => "A",
        Kind::Aaaa => "AAAA",
        Kind::Mx => "MX",
        Kind::Txt => "TXT",
        Kind::Ptr => "PTR",
    };
    let mut name = question.name.to_lowercase();
    // A chain of aliases, which may bite its own tail.
    for _ in 0..8 {
        let Some(all) = zone.get(&name) else {
            return Answer::NoSuchName;
        };
        let of = |kind: &str| {
            let all = all.iter().filter(|one| one.0 == kind);
            all.map(|one| one.1.clone()).collect::<Vec<_>>()
        };
        let found = of(kind);
        if let Some(alias) = of("CNAME").first() {
            name = alias.trim_end_matches('.').to_lowercase();
            continue;
        }
        if found.is_empty() && !of("TIMEOUT").is_empty() {
            return Answer::Fault;
        }
        let record = |value: String| match question.kind {
            Kind::A | Kind::Aaaa => Record::Address(value.parse().unwrap()),
            Kind::Mx | Kind::Ptr => Record::Name(value),
            Kind::Txt => Record::Text(value.into_bytes()),
        };
        return Answer::Records(found.into_iter().map(record).collect());
    }
    Answer::Fault
}

fn zone(value: &Value) -> Zone {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let record = |value: &Value| (text(&value[0]), text(&value[1]));
    let all = value.as_object().unwrap().iter();
    all.map(|(name, all)| {
        (
            name.clone(),
            all.as_array().unwrap().iter().map(record).collect(),
        )
    })
    .collect()
}

#[test]
fn every_case_of_the_suite_has_the_verdict_it_wants() {
    let text = include_str!("openspf/rfc7208.json");
    let scenarios: Value = serde_json::from_str(text).unwrap();
    let (mut count, mut wrong) = (0, Vec::new());
    for scenario in scenarios.as_array().unwrap() {
        let zone = zone(&scenario["zone"]);
        for (name, case) in scenario["tests"].as_object().unwrap() {
            count += 1;
            let text = |key: &str| case[key].as_str().unwrap();
            let address: IpAddr = text("host").parse().unwrap();
            let sender = text("mailfrom").rsplit_once('@');
            let mut check = Check::new(Subject::mail(address, text("helo"), sender));
            let mut asked = 0;
            while let Some(question) = check.next() {
                check.answer(look_up(&zone, &question));
                asked += 1;
                assert!(asked < 150, "{name} asks on and on");
            }
            let verdict = check.verdict().unwrap().as_str();
            let wanted = case["result"].as_array().unwrap();
            let words = match case["explanation"].as_str() {
                None => true,
                Some("DEFAULT") => check.explanation().is_none(),
                words => check.explanation() == words,
            };
            if !wanted.iter().any(|one| one == verdict) || !words {
                wrong.push(format!(
                    "{name}: {verdict} {:?} {:?}, not {wanted:?} {}",
                    check.problem(),
                    check.explanation(),
                    case["explanation"]
                ));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(count, 203);
}
