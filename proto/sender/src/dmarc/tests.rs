use super::*;
use alloc::string::ToString;
use alloc::vec;

type Zone<'a> = &'a [(&'a str, &'a str)];

/// What comes out, and what was asked; a text `!` is a server that does not answer.
fn check(zone: Zone<'_>, subject: Subject) -> (Outcome, Vec<String>) {
    let mut check = Check::new(subject);
    let mut asked = Vec::new();
    while let Some(question) = check.next() {
        let mut records = Vec::new();
        let of: Vec<_> = zone.iter().filter(|(at, _)| *at == question.name).collect();
        for (_, text) in &of {
            match question.kind {
                Kind::Txt => records.push(dns::Record::Text(text.as_bytes().to_vec())),
                Kind::A if *text == "A" => {
                    records.push(dns::Record::Address([192, 0, 2, 1].into()));
                }
                _ => {}
            }
        }
        let is_faulty = of.iter().any(|(_, text)| *text == "!");
        check.answer(match is_faulty {
            true => Answer::Fault,
            false => Answer::Records(records),
        });
        asked.push(question.name);
        assert!(asked.len() < 100, "{asked:?}");
    }
    (check.outcome().unwrap(), asked)
}

fn spf(author: &str, domain: &str) -> Subject {
    Subject {
        author: author.into(),
        spf: Some(domain.into()),
        ..Subject::default()
    }
}

fn dkim(author: &str, domain: &str) -> Subject {
    Subject {
        author: author.into(),
        dkim: vec![domain.into()],
        ..Subject::default()
    }
}

fn verdict(zone: Zone<'_>, subject: Subject) -> Verdict {
    check(zone, subject).0.verdict
}

const REJECT: &str = "v=DMARC1; p=reject";

#[test]
fn relaxed_alignment_is_by_organization_and_strict_by_name() {
    let zone: Zone<'_> = &[("_dmarc.example.com", REJECT)];
    for (author, domain, wanted) in [
        ("example.com", "example.com", Verdict::Pass),
        ("Example.com", "bounce.EXAMPLE.com", Verdict::Pass),
        ("a.example.com", "b.example.com", Verdict::Pass),
        ("example.com", "evilexample.com", Verdict::Fail),
        ("example.com", "com", Verdict::Fail),
        ("example.com", "example.com.evil.test", Verdict::Fail),
    ] {
        assert_eq!(
            verdict(zone, spf(author, domain)),
            wanted,
            "{author} {domain}"
        );
        assert_eq!(
            verdict(zone, dkim(author, domain)),
            wanted,
            "{author} {domain}"
        );
    }
    let zone: Zone<'_> = &[("_dmarc.example.com", "v=DMARC1; p=reject; adkim=s; aspf=r")];
    assert_eq!(
        verdict(zone, spf("example.com", "a.example.com")),
        Verdict::Pass
    );
    assert_eq!(
        verdict(zone, dkim("example.com", "a.example.com")),
        Verdict::Fail
    );
    assert_eq!(
        verdict(zone, dkim("example.com", "example.com")),
        Verdict::Pass
    );
}

#[test]
fn a_domain_that_publishes_nothing_wants_nothing() {
    let (outcome, asked) = check(&[], spf("a.example.com", "evil.test"));
    assert_eq!(
        (outcome.verdict, outcome.policy),
        (Verdict::None, Policy::None)
    );
    assert_eq!(
        asked,
        ["_dmarc.a.example.com", "_dmarc.example.com", "_dmarc.com"]
    );
    let two: Zone<'_> = &[
        ("_dmarc.example.com", REJECT),
        ("_dmarc.example.com", REJECT),
    ];
    assert_eq!(verdict(two, spf("example.com", "evil.test")), Verdict::None);
    assert_eq!(
        check(&[], spf("[192.0.2.1]", "evil.test")).1,
        Vec::<String>::new()
    );
}

#[test]
fn domains_below_have_their_own_policy() {
    let text = "v=DMARC1; p=reject; sp=quarantine; np=reject";
    let zone: Zone<'_> = &[("_dmarc.example.com", text), ("real.example.com", "A")];
    let policy = |author| check(zone, spf(author, "evil.test")).0.policy;
    assert_eq!(policy("example.com"), Policy::Reject);
    assert_eq!(policy("real.example.com"), Policy::Quarantine);
    assert_eq!(policy("made-up.example.com"), Policy::Reject);
    let zone: Zone<'_> = &[
        ("_dmarc.example.com", "v=DMARC1; p=reject; sp=none"),
        ("_dmarc.a.example.com", "v=DMARC1; p=quarantine"),
    ];
    let policy = |author| check(zone, spf(author, "evil.test")).0.policy;
    assert_eq!(policy("a.example.com"), Policy::Quarantine);
    assert_eq!(policy("b.example.com"), Policy::None);
}

#[test]
fn what_a_policy_is_not_for_is_treated_one_step_milder() {
    for (text, lot, policy) in [
        ("v=DMARC1; p=reject; pct=30", 29, Policy::Reject),
        ("v=DMARC1; p=reject; pct=30", 30, Policy::Quarantine),
        ("v=DMARC1; p=quarantine; pct=0", 0, Policy::None),
        ("v=DMARC1; p=reject; t=y", 0, Policy::Quarantine),
        ("v=DMARC1; p=reject; t=n", 99, Policy::Reject),
    ] {
        let subject = Subject {
            lot,
            ..spf("example.com", "evil.test")
        };
        let (outcome, _) = check(&[("_dmarc.example.com", text)], subject);
        assert_eq!(
            (outcome.verdict, outcome.policy),
            (Verdict::Fail, policy),
            "{text}"
        );
    }
}

// RFC 9989 §4.10, Appendix B.
#[test]
fn a_public_suffix_ends_an_organization() {
    let zone: Zone<'_> = &[
        ("_dmarc.bank", "v=DMARC1; p=none; np=reject; psd=y"),
        ("_dmarc.giant.bank", REJECT),
    ];
    assert_eq!(
        verdict(zone, spf("mail.giant.bank", "giant.bank")),
        Verdict::Pass
    );
    assert_eq!(
        verdict(zone, spf("giant.bank", "other.bank")),
        Verdict::Fail
    );
    // No record of its own: the one of the suffix is for it.
    let (outcome, _) = check(zone, spf("made-up.bank", "other.bank"));
    assert_eq!(
        (outcome.verdict, outcome.policy),
        (Verdict::Fail, Policy::Reject)
    );
    // A domain may be an organization inside another.
    let zone: Zone<'_> = &[
        ("_dmarc.example.com", REJECT),
        ("_dmarc.own.example.com", "v=DMARC1; p=reject; psd=n"),
    ];
    assert_eq!(
        verdict(zone, spf("own.example.com", "example.com")),
        Verdict::Fail
    );
    assert_eq!(
        verdict(zone, spf("example.com", "own.example.com")),
        Verdict::Fail
    );
    assert_eq!(
        verdict(zone, spf("a.own.example.com", "b.own.example.com")),
        Verdict::Pass
    );
}

#[test]
fn the_walk_takes_eight_steps_at_most() {
    let (_, asked) = check(
        &[],
        spf("a.b.c.d.e.f.g.h.i.j.mail.example.com", "evil.test"),
    );
    assert_eq!(asked.len(), MAX_STEPS);
    assert_eq!(asked[0], "_dmarc.a.b.c.d.e.f.g.h.i.j.mail.example.com");
    assert_eq!(asked[1], "_dmarc.g.h.i.j.mail.example.com");
    assert_eq!(asked[7], "_dmarc.com");
    let many = Subject {
        dkim: (0..10)
            .map(|n| n.to_string() + ".x.x.x.x.x.x.example.com")
            .collect(),
        ..spf("example.com", "evil.test")
    };
    let zone: Zone<'_> = &[
        ("_dmarc.example.com", REJECT),
        ("_dmarc.x.example.com", "v=DMARC1; psd=n"),
    ];
    let (outcome, asked) = check(zone, many);
    assert_eq!(outcome.verdict, Verdict::Fail);
    assert!(asked.len() <= 2 + 10 * MAX_STEPS, "{}", asked.len());
}

#[test]
fn who_is_too_long_to_be_asked_has_no_record_and_is_no_way_around_one() {
    let below = alloc::format!("{}.{}", vec!["x".repeat(60); 3].join("."), "y".repeat(56));
    let author = alloc::format!("{below}.example.com");
    assert!(is_name(&author) && !is_name(&record_name(&author)));
    let zone: Zone<'_> = &[("_dmarc.example.com", REJECT)];
    let (outcome, asked) = check(zone, spf(&author, "evil.test"));
    assert_eq!(outcome.policy, Policy::Reject);
    assert!(asked.iter().all(|name| is_name(name)), "{asked:?}");
}

#[test]
fn without_an_answer_nothing_is_a_failure() {
    let silent: Zone<'_> = &[("_dmarc.example.com", "!")];
    assert_eq!(
        verdict(silent, spf("example.com", "evil.test")),
        Verdict::TempError
    );
    let above: Zone<'_> = &[
        ("_dmarc.a.example.com", REJECT),
        ("_dmarc.example.com", "!"),
    ];
    let (outcome, _) = check(above, spf("a.example.com", "b.example.com"));
    assert_eq!(
        (outcome.verdict, outcome.policy),
        (Verdict::TempError, Policy::None)
    );
    assert_eq!(
        verdict(above, spf("a.example.com", "a.example.com")),
        Verdict::Pass
    );
    let zone: Zone<'_> = &[("_dmarc.example.com", REJECT)];
    for (domain, wanted) in [
        ("a.example.com", Verdict::TempError),
        ("evil.test", Verdict::Fail),
    ] {
        let subject = Subject {
            author: "example.com".into(),
            unsure: vec![domain.into()],
            ..Subject::default()
        };
        assert_eq!(verdict(zone, subject), wanted, "{domain}");
    }
}
