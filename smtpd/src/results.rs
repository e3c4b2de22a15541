//! What was found out about a message: how it is written down, and what is done because of it.

use std::net::IpAddr;

use daemon::config::{Authentication, Measure, Unanswered};
use dkim::{ChainVerdict, Outcome, Signature};
use ipc::delivery::Destination;
use mail::address::{Domain, ReversePath};
use sender::dmarc::{self, Policy};
use sender::results::Field;
use sender::spf;
use smtp::reply::Reply;
use smtp::server::Author;
use tracing::info;

use crate::judge::{Iprev, Spf};
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
        field.add("dmarc", self.dmarc_word(), wanted, author.as_slice());
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

    /// Where the message goes that users of these domains get.
    ///
    /// # Errors
    /// What the client is told if it is not to be taken.
    pub(crate) fn measure(
        &self,
        rules: &Authentication,
        domains: &[Domain],
    ) -> Result<Destination, Reply> {
        let is_lenient = |domain: &Domain| {
            let mut lenient = rules.lenient_domains.iter();
            lenient.any(|one| one.as_str().eq_ignore_ascii_case(domain.as_str()))
        };
        let passed = self.dmarc.verdict == dmarc::Verdict::Pass;
        if passed || domains.iter().any(is_lenient) {
            return Ok(Destination::Inbox);
        }
        let destination = self.strictest(rules)?;
        let is_open = self.dmarc.verdict == dmarc::Verdict::TempError
            || self.mail.verdict == spf::Verdict::TempError;
        match rules.unanswered {
            Unanswered::Defer if is_open => Err(words::unanswered()),
            Unanswered::Defer | Unanswered::Accept => Ok(destination),
        }
    }

    /// What the strictest measure against anything that was found comes to.
    fn strictest(&self, rules: &Authentication) -> Result<Destination, Reply> {
        let (is_unclear, author) = match &self.author {
            Author::Unclear | Author::Several(_) => (true, ""),
            Author::Absent => (false, ""),
            Author::One(address) => (false, address.domain().as_str()),
        };
        let taken = |is_found, measure| match is_found {
            true => measure,
            false => Measure::Accept,
        };
        let policy = self.dmarc.policy;
        let of_author = taken(is_unclear, rules.unclear_author);
        let of_dmarc = match policy {
            Policy::Reject => rules.dmarc_reject,
            Policy::Quarantine => rules.dmarc_quarantine,
            Policy::None => Measure::Accept,
        };
        let of_spf = taken(self.mail.verdict == spf::Verdict::Fail, rules.spf_fail);
        let is_forged = self.signed.verdict() == dkim::Verdict::Fail;
        let of_dkim = taken(is_forged, rules.dkim_fail);
        if of_author == Measure::Reject {
            return Err(words::author_unclear());
        }
        if of_dmarc == Measure::Reject {
            return Err(words::dmarc_failed(author, policy.as_str()));
        }
        if of_spf == Measure::Reject {
            let Spf {
                domain,
                explanation,
                ..
            } = &self.mail;
            let client = self.client.to_canonical();
            return Err(words::spf_failed(client, domain, explanation.as_deref()));
        }
        if of_dkim == Measure::Reject {
            return Err(words::dkim_failed());
        }
        let is_junk = [of_author, of_dmarc, of_spf, of_dkim].contains(&Measure::Junk);
        Ok(match is_junk {
            true => Destination::Junk,
            false => Destination::Inbox,
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
