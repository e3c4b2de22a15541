//! What was found out about who sent a message, for `rmailctl explain`.

use daemon::config::Measure;
use sender::dmarc;
use smtp::server::Author;

use crate::ask::Ask;
use crate::judge::Spf;
use crate::measure::{Cause, Disposition};
use crate::results::Findings;

const SECTION: &str = "authentication.enabled";

impl Findings {
    /// Notes all of it, and which measures are taken because of it for the recipients.
    pub(crate) fn note(&self, ask: &Ask, dispositions: &[Disposition]) {
        if !ask.rehearses() {
            return;
        }
        self.note_found(ask);
        self.note_measures(ask, dispositions);
    }

    fn note_found(&self, ask: &Ask) {
        let name = self.iprev.name.as_deref().unwrap_or("no name");
        let verdict = self.iprev.verdict.as_str();
        ask.note(SECTION, || {
            format!("iprev={verdict}: {} has {name}", self.client.to_canonical())
        });
        let hello = ("HELO", &self.hello);
        // RFC 7208 §2.4: of a null sender there is only the name in HELO.
        let mail = self.sender.address().map(|_| ("MAIL FROM", &self.mail));
        for (whose, spf) in [Some(hello), mail].into_iter().flatten() {
            ask.note(SECTION, || words(whose, spf));
        }
        if self.signed.signatures.is_empty() {
            ask.note(SECTION, || "dkim=none: there is no signature".to_owned());
        }
        for signature in &self.signed.signatures {
            let domain = signature.domain.as_ref();
            let domain = domain.map_or("?", mail::address::Domain::as_str);
            let selector = signature.selector.as_deref().unwrap_or("?");
            let flaw = signature.flaw.as_ref().map(|flaw| format!(": {flaw}"));
            ask.note(SECTION, || {
                let verdict = signature.verdict.as_str();
                let flaw = flaw.unwrap_or_default();
                format!("dkim={verdict} of {domain} (selector {selector}){flaw}")
            });
        }
        if self.signed.passed_over > 0 {
            let text = || {
                format!(
                    "{} more signatures are not looked at",
                    self.signed.passed_over
                )
            };
            ask.note(SECTION, text);
        }
        let chain = &self.signed.chain;
        let flaw = chain.flaw.as_ref().map(|flaw| format!(": {flaw}"));
        ask.note(SECTION, || {
            format!("arc={}{}", chain.verdict.as_str(), flaw.unwrap_or_default())
        });
        ask.note(SECTION, || match &self.author {
            Author::One(author) => {
                let outcome = &self.dmarc;
                let (verdict, policy) = (outcome.verdict.as_str(), outcome.published.as_str());
                let domain = author.domain();
                format!(
                    "dmarc={verdict} for the author's domain {domain}, which publishes p={policy}"
                )
            }
            Author::Absent => "dmarc=none: there is no From field".to_owned(),
            Author::Several(_) | Author::Unclear => {
                "dmarc=permerror: From does not name one author".to_owned()
            }
        });
    }

    fn note_measures(&self, ask: &Ask, dispositions: &[Disposition]) {
        if self.dmarc.verdict == dmarc::Verdict::Pass {
            return ask.note(SECTION, || {
                "DMARC vouches for it, so no measure is taken".to_owned()
            });
        }
        if let Some(chain) = self.vouched() {
            ask.note("authentication.trusted_arc_sealers", || {
                format!("{chain}: that DMARC fails counts for nothing")
            });
        }
        // Recipients in different domains may have different ones.
        let mut told = Vec::new();
        for one in dispositions {
            if one.is_put_off {
                ask.note("authentication.unanswered", || {
                    "DNS does not answer, so it is put off".to_owned()
                });
            }
            if one.cause == Cause::Nothing || told.contains(one) {
                continue;
            }
            told.push(*one);
            ask.note(one.cause.key(), || {
                let measure = match one.measure {
                    Measure::Accept => "accept",
                    Measure::Junk => "junk",
                    Measure::Quarantine => "quarantine",
                    Measure::Reject => "reject",
                };
                format!("the measure against this is {measure}; authentication.domains has others for some domains")
            });
        }
    }
}

fn words(whose: &str, spf: &Spf) -> String {
    let problem = spf.problem.map(|problem| format!(": {problem}"));
    let (verdict, domain) = (spf.verdict.as_str(), &spf.domain);
    format!(
        "spf={verdict} for {domain} in {whose}{}",
        problem.unwrap_or_default()
    )
}
