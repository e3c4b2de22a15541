//! Whether mail is who it says it is: few questions whatever DNS says, no verdict that a stranger can bend, and no forged result left.

use std::borrow::Cow;
use std::net::IpAddr;

use mail::header::fields;
use sender::dns::{Answer, Question, Record};
use sender::results::{Field, MAX_SIZE};
use sender::strip::Strip;
use sender::{dmarc, iprev, spf};

use super::pieces::Connection;

/// More than one of these checks may ask.
const MAX_QUESTIONS: usize = 150;
const HOST: &str = "mx.example.org";

/// The first line is digits for how the rest, a message, is cut. Its fields called Client, Helo, From and Signed say who is checked,
/// and each one called Answer is what DNS says to a question, over and over.
///
/// # Panics
/// When a property does not hold.
pub fn check(data: &[u8]) {
    let message = Connection::new(data);
    let zone = Zone::new(message.bytes);
    check_host(&zone);
    check_author(&zone);
    check_results(&message);
}

/// Whom a message is about, and what DNS says.
struct Zone {
    client: IpAddr,
    helo: String,
    sender: (String, String),
    signed: Vec<String>,
    answers: Vec<Answer>,
}

impl Zone {
    fn new(message: &[u8]) -> Self {
        let values = |name: &str| {
            let all = fields(message).filter(|field| field.is(name));
            let all = all.map(|field| String::from_utf8_lossy(&field.unfolded()).trim().to_owned());
            all.collect::<Vec<_>>()
        };
        let first = |name: &str| values(name).into_iter().next();
        let sender = first("from").unwrap_or_default();
        let (local, domain) = sender.rsplit_once('@').unwrap_or(("bob", "example.com"));
        let client = first("client").and_then(|client| client.parse().ok());
        Self {
            client: client.unwrap_or_else(|| [192, 0, 2, 7].into()),
            helo: first("helo").unwrap_or_default(),
            sender: (local.to_owned(), domain.to_owned()),
            signed: values("signed").into_iter().take(4).collect(),
            answers: values("answer").iter().map(|text| answer(text)).collect(),
        }
    }

    /// Asks until nothing is left to be asked; whoever is asked about must be a name that can be asked for.
    fn ask<C>(
        &self,
        mut check: C,
        next: fn(&C) -> Option<Question>,
        take: fn(&mut C, Answer),
    ) -> C {
        let mut answers = self.answers.iter().cycle();
        for _ in 0..MAX_QUESTIONS {
            let Some(question) = next(&check) else {
                return check;
            };
            let good = |label: &str| (1..=63).contains(&label.len());
            let is_name = question.name.len() <= 253 && question.name.split('.').all(good);
            assert!(is_name, "{question:?}");
            take(
                &mut check,
                answers.next().cloned().unwrap_or(Answer::NoSuchName),
            );
        }
        panic!("asks on and on");
    }
}

/// `!`, `?` and `#` are failures; else there are records with `|` between them: addresses, names behind `@`, texts.
fn answer(text: &str) -> Answer {
    let record = |text: &str| match (text.parse(), text.strip_prefix('@')) {
        (Ok(address), _) => Record::Address(address),
        (_, Some(name)) => Record::Name(name.into()),
        (_, None) => Record::Text(text.into()),
    };
    match text {
        "" => Answer::Records(Vec::new()),
        "!" => Answer::NoSuchName,
        "?" => Answer::Fault,
        "#" => Answer::Unusable,
        text => Answer::Records(text.split('|').map(record).collect()),
    }
}

fn check_host(zone: &Zone) {
    let names = zone.ask(
        iprev::Check::new(zone.client),
        iprev::Check::next,
        iprev::Check::answer,
    );
    assert!(names.names().len() <= iprev::MAX_NAMES, "names");
    let passes = names.verdict() == Some(iprev::Verdict::Pass);
    assert_eq!(passes, !names.names().is_empty(), "iprev");

    let said = spf_of(zone, zone.client);
    let plain = |words: &str| words.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    assert!(said.1.as_deref().is_none_or(plain), "{said:?}");
    assert!(said.1.is_none() || said.0 == spf::Verdict::Fail, "{said:?}");
    if let IpAddr::V4(v4) = zone.client {
        assert_eq!(spf_of(zone, v4.to_ipv6_mapped().into()), said, "mapped");
    }
}

fn spf_of(zone: &Zone, client: IpAddr) -> (spf::Verdict, Option<String>, Option<&'static str>) {
    let (local, domain) = &zone.sender;
    let subject = spf::Subject::mail(client, &zone.helo, Some((local, domain)));
    let check = zone.ask(
        spf::Check::new(subject),
        spf::Check::next,
        spf::Check::answer,
    );
    let verdict = check.verdict().expect("nothing is asked, so it is over");
    let is_error = matches!(verdict, spf::Verdict::PermError | spf::Verdict::TempError);
    assert_eq!(is_error, check.problem().is_some(), "{verdict:?}");
    (
        verdict,
        check.explanation().map(str::to_owned),
        check.problem(),
    )
}

fn check_author(zone: &Zone) {
    let subject = |lot| dmarc::Subject {
        author: zone.sender.1.clone(),
        spf: zone.signed.first().cloned(),
        dkim: zone.signed.iter().skip(1).cloned().collect(),
        unsure: Vec::new(),
        lot,
    };
    let outcome = |subject: dmarc::Subject| {
        let check = dmarc::Check::new(subject);
        let check = zone.ask(check, dmarc::Check::next, dmarc::Check::answer);
        check.outcome().expect("nothing is asked, so it is over")
    };
    let all = outcome(subject(0));
    let few = outcome(subject(99));
    assert_eq!((few.verdict, few.published), (all.verdict, all.published));
    assert!(few.policy <= all.policy && all.policy <= all.published);
    let fails = all.verdict == dmarc::Verdict::Fail;
    assert!(fails || all.policy == dmarc::Policy::None, "{all:?}");
    if all.verdict == dmarc::Verdict::Pass {
        let top = |domain: &str| domain.rsplit('.').next().map(str::to_ascii_lowercase);
        let author = top(&zone.sender.1);
        let is_near = |domain: &String| top(domain) == author;
        assert!(zone.signed.iter().any(is_near), "passes for a stranger");
    }
    let mut shouted = subject(0);
    shouted.author.make_ascii_uppercase();
    assert_eq!(outcome(shouted), all, "case");
}

fn check_results(message: &Connection<'_>) {
    let (clean, removed) = strip(HOST, &[message.bytes]);
    assert_eq!(strip(HOST, &message.pieces()), (clean.clone(), removed));
    assert_eq!(strip(HOST, &[&clean]), (clean.clone(), 0), "a second time");
    assert!(clean.len() <= message.bytes.len(), "it grew");
    for field in fields(&clean).filter(|field| field.is("authentication-results")) {
        assert!(!is_ours(field.unfolded()), "{field:?}");
    }
    let others = |bytes: &[u8]| {
        let all = fields(bytes).filter(|field| !field.is("authentication-results"));
        all.map(|field| field.unfolded().into_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(others(&clean), others(message.bytes), "other fields");

    let text = String::from_utf8_lossy(message.bytes);
    let (front, back) = text.split_at(text.floor_char_boundary(text.len() / 2));
    let mut field = Field::new(HOST);
    field.add("spf", "fail", Some(front), &[("smtp.mailfrom", back)]);
    field.add("dmarc", "none", None, &[("header.from", front)]);
    let field = field.finish();
    assert!(field.len() <= MAX_SIZE && field.is_ascii(), "{field}");
    assert_eq!(fields(field.as_bytes()).count(), 1, "{field}");
    assert_eq!(strip(HOST, &[field.as_bytes()]), (Vec::new(), 1), "{field}");
}

fn strip(host: &str, pieces: &[&[u8]]) -> (Vec<u8>, usize) {
    let (mut strip, mut out) = (Strip::new(host), Vec::new());
    pieces.iter().for_each(|piece| strip.feed(piece, &mut out));
    strip.finish(&mut out);
    (out, strip.removed())
}

/// Whether who reads this field plainly takes it for our word.
fn is_ours(value: Cow<'_, [u8]>) -> bool {
    let value = value.trim_ascii_start();
    let Some((host, rest)) = value.split_at_checked(HOST.len()) else {
        return false;
    };
    let ends = rest.first().is_none_or(|byte| b"; \t(".contains(byte));
    host.eq_ignore_ascii_case(HOST.as_bytes()) && ends
}
