//! What was found out about a message: how it is written down, and what is done because of it.

use std::net::IpAddr;

use daemon::config::{Measure, Measures, Unanswered};
use dkim::{ChainVerdict, Outcome, Signature};
use ipc::queue::MAX_REASON;
use mail::address::{Domain, ReversePath};
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
