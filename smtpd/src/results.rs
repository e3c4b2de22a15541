//! What was found out about a message: how it is written down, and what is done because of it.

use std::net::IpAddr;

use daemon::config::{HostName, Measure, Measures, Unanswered};
use dkim::{ChainVerdict, Outcome, Sealer, Signature};
use ipc::queue::MAX_REASON;
use mail::address::{Domain, ReversePath};
use sender::attested;
use sender::dmarc::{self, Policy};
use sender::results::Field;
use sender::spf;
use smtp::reply::Reply;
use smtp::server::Author;
use tracing::info;

use crate::judge::{Iprev, Spf};
use crate::measure::{Cause, Disposition};
use crate::words;

/// DMARC has nothing to say.
pub(crate) const NOTHING: dmarc::Outcome = dmarc::Outcome {
    verdict: dmarc::Verdict::None,
    policy: Policy::None,
    published: Policy::None,
};

/// DMARC was not over in time.
pub(crate) const NO_ANSWER: dmarc::Outcome = dmarc::Outcome {
    verdict: dmarc::Verdict::TempError,
    policy: Policy::None,
    published: Policy::None,
};

/// All of it.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) client: IpAddr,
    pub(crate) hello: Spf,
    pub(crate) mail: Spf,
    pub(crate) sender: ReversePath,
    pub(crate) iprev: Iprev,
    pub(crate) signed: Outcome,
    pub(crate) author: Author,
    pub(crate) dmarc: dmarc::Outcome,
    /// How many of the newest sealers of the chain are believed that DMARC passed before they got the message.
    pub(crate) vouchers: usize,
}

impl Findings {
    /// What DMARC is to look at; `None` when there is no one author.
    pub(crate) fn dmarc_subject(&self, message: u64) -> Option<dmarc::Subject> {
        let Author::One(author) = &self.author else {
            return None;
        };
        let domains = |verdict| {
            let of = self.signed.signatures.iter();
            let of = of.filter(move |signature| signature.verdict == verdict);
            of.filter_map(|signature| Some(signature.domain.as_ref()?.as_str().to_owned()))
        };
        let mail = |verdict| {
            let domain = Some(self.mail.domain.clone());
            domain.filter(|_| self.mail.verdict == verdict)
        };
        let unsure = domains(dkim::Verdict::TempError);
        Some(dmarc::Subject {
            author: author.domain().as_str().to_owned(),
            spf: mail(spf::Verdict::Pass),
            dkim: domains(dkim::Verdict::Pass).collect(),
            unsure: unsure.chain(mail(spf::Verdict::TempError)).collect(),
            // The lowest bits are the same for all messages of this process.
            lot: u8::try_from((message >> 8) % 100).unwrap_or(0),
        })
    }

    /// Looks who of those in `trusted` says that DMARC passed for the author, where it does not here.
    // RFC 8617 §7.2: whom a chain is believed depends on all who have sealed since; the newest signature covers the message as it came.
    pub(crate) fn look_for_vouchers(&mut self, trusted: &[HostName]) {
        let Author::One(author) = &self.author else {
            return;
        };
        let is_trusted = |sealer: &&Sealer| {
            let domain = sealer.domain.as_str();
            trusted
                .iter()
                .any(|one| one.as_str().eq_ignore_ascii_case(domain))
        };
        let author = author.domain().as_str();
        let believed = self.signed.chain.sealers.iter().rev();
        let mut believed = believed.take_while(is_trusted);
        let found = believed.position(|sealer| attested::passed(&sealer.results, author));
        let is_needed = self.dmarc.verdict == dmarc::Verdict::Fail && !self.signed.chain.limited;
        self.vouchers = found.filter(|_| is_needed).map_or(0, |place| place + 1);
    }

    /// What a report about DMARC says of a chain that is believed (RFC 8617 §7.2.2).
    pub(crate) fn vouched(&self) -> Option<String> {
        let sealers = &self.signed.chain.sealers;
        let numbered = sealers.iter().enumerate().rev().take(self.vouchers);
        let mut text = String::from("arc=pass");
        for (place, sealer) in numbered {
            let number = place + 1;
            let (domain, selector) = (&sealer.domain, &sealer.selector);
            text += &format!(" as[{number}].d={domain} as[{number}].s={selector}");
        }
        (self.vouchers > 0).then_some(text)
    }

    pub(crate) fn log(&self) {
        info!(
            spf = self.mail.verdict.as_str(),
            dkim = self.signed.verdict().as_str(),
            dmarc = self.dmarc_word(),
            arc = self.signed.chain.verdict.as_str(),
            iprev = self.iprev.verdict.as_str(),
            "judged"
        );
    }

    fn dmarc_word(&self) -> &'static str {
        match self.author {
            // RFC 9989 §5.3.1: several authors, or none, cannot be checked.
            Author::Unclear | Author::Several(_) => "permerror",
            Author::Absent | Author::One(_) => self.dmarc.verdict.as_str(),
        }
    }

    /// The `Authentication-Results` field of the server `host`.
    pub(crate) fn field(&self, host: &str) -> String {
        let mut field = Field::new(host);
        let client = self.client.to_canonical().to_string();
        let name = self.iprev.name.as_deref();
        field.add(
            "iprev",
            self.iprev.verdict.as_str(),
            name,
            &[("policy.iprev", &client)],
        );
        let hello = &self.hello;
        let of_hello = [("smtp.helo", hello.domain.as_str())];
        field.add("spf", hello.verdict.as_str(), hello.problem, &of_hello);
        // RFC 8601 §2.7.2: of a null sender there is only the name in HELO.
        if let Some(address) = self.sender.address() {
            let sender = match address.is_ascii() {
                true => address.to_string(),
                false => address.domain().as_str().to_owned(),
            };
            let (verdict, problem) = (self.mail.verdict.as_str(), self.mail.problem);
            field.add("spf", verdict, problem, &[("smtp.mailfrom", &sender)]);
        }
        // DMARC before DKIM: of many signatures some may have to be left out.
        let author = match &self.author {
            Author::One(address) => Some(("header.from", address.domain().as_str())),
            Author::Absent | Author::Several(_) | Author::Unclear => None,
        };
        let wanted = format!("p={}", self.dmarc.published.as_str());
        let is_known = matches!(
            self.dmarc.verdict,
            dmarc::Verdict::Pass | dmarc::Verdict::Fail
        );
        let wanted = Some(wanted.as_str()).filter(|_| is_known);
        // RFC 8601 §2.2: the reason stands before what was looked at.
        let vouched = self.vouched();
        let reason = vouched.as_deref().map(|text| ("reason", text));
        let about: Vec<_> = reason.into_iter().chain(author).collect();
        field.add("dmarc", self.dmarc_word(), wanted, &about);
        if self.signed.signatures.is_empty() {
            field.add("dkim", "none", None, &[]);
        }
        for signature in &self.signed.signatures {
            add_signature(&mut field, signature);
        }
        let chain = &self.signed.chain;
        if chain.verdict != ChainVerdict::None {
            let flaw = chain.flaw.as_ref().map(ToString::to_string);
            field.add("arc", chain.verdict.as_str(), flaw.as_deref(), &[]);
        }
        field.finish()
    }

    /// What these measures come to.
    pub(crate) fn disposition(&self, measures: Measures) -> Disposition {
        if self.dmarc.verdict == dmarc::Verdict::Pass {
            return Disposition::ACCEPTED;
        }
        let is_open = self.dmarc.verdict == dmarc::Verdict::TempError
            || self.mail.verdict == spf::Verdict::TempError;
        let (measure, cause) = self.strictest(measures);
        Disposition {
            measure,
            cause,
            is_put_off: is_open && measures.unanswered == Unanswered::Defer,
        }
    }

    /// The strictest measure against anything that was found; of those alike the one whose reply says most.
    fn strictest(&self, measures: Measures) -> (Measure, Cause) {
        let is_unclear = matches!(self.author, Author::Unclear | Author::Several(_));
        let of_dmarc = match self.dmarc.policy {
            _ if self.vouchers > 0 => Measure::Accept,
            Policy::Reject => measures.dmarc_reject,
            Policy::Quarantine => measures.dmarc_quarantine,
            Policy::None => Measure::Accept,
        };
        let is_spf_bad = self.mail.verdict == spf::Verdict::Fail;
        let is_forged = self.signed.verdict() == dkim::Verdict::Fail;
        let mut strictest = (Measure::Accept, Cause::Nothing);
        for (is_found, measure, cause) in [
            (is_unclear, measures.unclear_author, Cause::UnclearAuthor),
            (true, of_dmarc, Cause::Dmarc(self.dmarc.policy)),
            (is_spf_bad, measures.spf_fail, Cause::Spf),
            (is_forged, measures.dkim_fail, Cause::Dkim),
        ] {
            if is_found && measure > strictest.0 {
                strictest = (measure, cause);
            }
        }
        strictest
    }

    /// What was found, with the key of the configuration that says what is done about it; bounded and without control characters.
    pub(crate) fn reason(&self, cause: Cause) -> String {
        let words = match (cause, &self.author) {
            (Cause::Dmarc(_), Author::One(author)) => {
                format!("neither SPF nor DKIM speaks for {}", author.domain())
            }
            (Cause::Dmarc(_) | Cause::Nothing, _) => "judged".to_owned(),
            (Cause::UnclearAuthor, _) => "it has no one author".to_owned(),
            (Cause::Spf, _) => {
                let client = self.client.to_canonical();
                format!("{client} may not send mail of {} (SPF)", self.mail.domain)
            }
            (Cause::Dkim, _) => "no DKIM signature is good".to_owned(),
        };
        let mut reason = format!("quarantine by {}: {words}", cause.key());
        reason.retain(|c| !c.is_control());
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        reason
    }

    /// What the client is told when these are the dispositions for the recipients, and none of them takes the message.
    pub(crate) fn refusal(&self, dispositions: &[Disposition]) -> Option<Reply> {
        if !dispositions.iter().all(|one| one.is_refused()) {
            return None;
        }
        // Where only one waits for an answer, the others can be told the same then.
        let rejected = |one: &Disposition| one.measure == Measure::Reject;
        if !dispositions.iter().all(rejected) {
            return Some(words::unanswered());
        }
        let author = match &self.author {
            Author::One(address) => address.domain().as_str(),
            Author::Unclear | Author::Several(_) | Author::Absent => "",
        };
        Some(match dispositions.first()?.cause {
            Cause::Dmarc(policy) => words::dmarc_failed(author, policy.as_str()),
            Cause::Spf => {
                let client = self.client.to_canonical();
                let explanation = self.mail.explanation.as_deref();
                words::spf_failed(client, &self.mail.domain, explanation)
            }
            Cause::Dkim => words::dkim_failed(),
            Cause::UnclearAuthor | Cause::Nothing => words::author_unclear(),
        })
    }
}

fn add_signature(field: &mut Field, signature: &Signature) {
    let flaw = signature.flaw.map(|flaw| flaw.to_string());
    let domain = signature.domain.as_ref().map(Domain::as_str);
    let algorithm = signature.algorithm.map(|algorithm| algorithm.as_str());
    let properties = [
        ("header.d", domain),
        ("header.i", signature.identity.as_deref()),
        ("header.s", signature.selector.as_deref()),
        ("header.a", algorithm),
        (
            "header.b",
            Some(signature.signature.as_str()).filter(|text| !text.is_empty()),
        ),
    ];
    let known = properties
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let known: Vec<_> = known.collect();
    field.add("dkim", signature.verdict.as_str(), flaw.as_deref(), &known);
}

#[cfg(test)]
mod tests {
    use dkim::Chain;
    use mail::address::Address;
    use sender::iprev;

    use super::*;

    const PASS: &str = "mx; dmarc=pass header.from=shop.example";
    const FAIL: &str = "mx; dmarc=fail header.from=shop.example";

    fn spf() -> Spf {
        Spf {
            domain: "list.example".into(),
            verdict: spf::Verdict::None,
            problem: None,
            explanation: None,
        }
    }

    /// Mail of shop.example that fails, whose chain these have sealed.
    fn findings(sealers: &[(&str, &str)]) -> Findings {
        let sealer = |(domain, results): &(&str, &str)| Sealer {
            domain: Domain::parse(domain).unwrap(),
            selector: "s".into(),
            results: results.as_bytes().to_vec(),
        };
        Findings {
            client: IpAddr::from([192, 0, 2, 1]),
            hello: spf(),
            mail: spf(),
            sender: ReversePath::Null,
            iprev: Iprev {
                verdict: iprev::Verdict::Pass,
                name: None,
            },
            signed: Outcome {
                signatures: Vec::new(),
                passed_over: 0,
                header_too_large: false,
                chain: Chain {
                    verdict: ChainVerdict::Pass,
                    flaw: None,
                    sealers: sealers.iter().map(sealer).collect(),
                    limited: false,
                },
            },
            author: Author::One(Address::parse("a@shop.example").unwrap()),
            dmarc: dmarc::Outcome {
                verdict: dmarc::Verdict::Fail,
                policy: Policy::Reject,
                published: Policy::Reject,
            },
            vouchers: 0,
        }
    }

    /// How many are believed when list.example and relay.example are trusted.
    fn vouchers(mut findings: Findings) -> usize {
        let trusted = ["list.example", "relay.example"];
        let trusted = trusted.map(|name| String::from(name).try_into().unwrap());
        findings.look_for_vouchers(&trusted);
        findings.vouchers
    }

    #[test]
    fn the_newest_sealers_are_believed_as_far_as_they_are_trusted() {
        const LIST: &str = "list.example";
        for (sealers, believed) in [
            (&[][..], 0),
            (&[(LIST, PASS)], 1),
            (&[(LIST, FAIL)], 0),
            (&[("evil.example", PASS)], 0),
            (&[("sub.list.example", PASS)], 0),
            (&[(LIST, PASS), ("relay.example", FAIL)], 2),
            (&[(LIST, PASS), ("evil.example", PASS)], 0),
            (&[("evil.example", PASS), (LIST, FAIL)], 0),
            (&[("evil.example", FAIL), (LIST, PASS)], 1),
            (&[(LIST, PASS), ("evil.example", FAIL), (LIST, FAIL)], 0),
        ] {
            assert_eq!(vouchers(findings(sealers)), believed, "{sealers:?}");
        }
    }

    #[test]
    fn a_chain_changes_nothing_where_it_is_not_about_that() {
        let sealed = || findings(&[("list.example", PASS)]);
        assert_eq!(vouchers(sealed()), 1);
        let mut other = sealed();
        other.author = Author::One(Address::parse("a@bank.example").unwrap());
        assert_eq!(vouchers(other), 0);
        let mut several = sealed();
        several.author = Author::Several(Vec::new());
        assert_eq!(vouchers(several), 0);
        let mut partial = sealed();
        partial.signed.chain.limited = true;
        assert_eq!(vouchers(partial), 0);
        let mut passing = sealed();
        passing.dmarc.verdict = dmarc::Verdict::Pass;
        assert_eq!(vouchers(passing), 0);
    }

    #[test]
    fn why_a_message_is_in_quarantine_is_told_in_few_words() {
        let mut findings = findings(&[]);
        let author = format!("a@{}.example", vec!["x".repeat(60); 3].join("."));
        findings.author = Author::One(Address::parse(&author).unwrap());
        // What the client calls itself is what SPF is about where there is no sender.
        findings.mail.domain = format!("\u{1b}[2J{}", "ä".repeat(MAX_REASON));
        for cause in [Cause::Dmarc(Policy::Reject), Cause::Spf] {
            let reason = findings.reason(cause);
            assert!(
                (MAX_REASON - 1..=MAX_REASON).contains(&reason.len()),
                "{reason}"
            );
            assert!(!reason.contains(char::is_control), "{reason}");
            assert!(reason.starts_with(&format!("quarantine by {}: ", cause.key())));
        }
    }

    #[test]
    fn who_is_believed_about_dmarc_is_not_believed_about_spf() {
        let mut findings = findings(&[("list.example", PASS)]);
        findings.vouchers = 1;
        findings.mail.verdict = spf::Verdict::Fail;
        let general = daemon::config::Authentication::default().measures();
        let measure = |measures| findings.disposition(measures).measure;
        assert_eq!(measure(general), Measure::Accept);
        let strict = Measures {
            spf_fail: Measure::Junk,
            ..general
        };
        assert_eq!(measure(strict), Measure::Junk);
    }
}
