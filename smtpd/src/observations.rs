//! What relayd is told about mail whose author's domain wants reports (RFC 9990).
//!
//! No message waits for it: it is said beside the session, and while relayd is away, or has more to hear than [`MAX_OPEN`], it is not said.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use daemon::config::AggregateReports;
use ipc::Context;
use ipc::observation::{
    Disposition, DkimResult, MAX_SIGNATURES, MAX_TEXT, Observation, Policy, Published, Reason,
    SignatureResult, SpfResult,
};
use mail::address::Address;
use sender::dmarc::{self, Basis};
use sender::spf;
use smtp::server::Author;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::ask::Ask;
use crate::measure::{Applied, Override};
use crate::results::Findings;

/// Observations on their way, at most.
const MAX_OPEN: usize = 256;
/// How long relayd may take over one.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of so many that are lost one is logged.
const LOGGED: u64 = 1000;

/// Tells relayd.
#[derive(Debug, Clone)]
pub(crate) struct Observations {
    rules: AggregateReports,
    slots: Arc<Semaphore>,
    /// Messages relayd did not hear of.
    lost: Arc<AtomicU64>,
}

impl Observations {
    pub(crate) fn new(rules: &AggregateReports) -> Self {
        Self {
            rules: rules.clone(),
            slots: Arc::new(Semaphore::new(MAX_OPEN)),
            lost: Arc::default(),
        }
    }

    /// Whether mail to these recipients is told of.
    pub(crate) fn concern(&self, recipients: &[Address]) -> bool {
        let mut recipients = recipients.iter();
        let is_for_reports = |one: &Address| self.rules.is_for_reports(&one.to_string());
        self.rules.enabled && !recipients.all(is_for_reports)
    }

    /// Tells of a message that was judged like this. `envelope_to`: the domain of all its recipients, if there is one.
    pub(crate) fn tell(
        &self,
        ask: &Arc<Ask>,
        context: Context,
        findings: &Findings,
        basis: Option<Basis>,
        applied: &Applied,
        envelope_to: Option<&str>,
    ) {
        let basis = basis.filter(|basis| basis.wants_reports);
        let told = basis.and_then(|basis| observe(findings, basis, applied, envelope_to));
        let Some(observation) = told else {
            return;
        };
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            lose(&self.lost, "too many are on their way");
            return;
        };
        let (ask, lost) = (Arc::clone(ask), Arc::clone(&self.lost));
        tokio::spawn(async move {
            if let Err(problem) = ask.report(context, PATIENCE, observation).await {
                debug!(%problem, "relayd did not take an observation");
                lose(&lost, "relayd did not take them");
            }
            drop(slot);
        });
    }
}

fn lose(lost: &AtomicU64, reason: &str) {
    let messages = lost.fetch_add(1, Ordering::Relaxed);
    if messages.is_multiple_of(LOGGED) {
        warn!(
            messages = messages + 1,
            reason,
            key = "authentication.aggregate_reports",
            "messages since the start that no report will tell of"
        );
    }
}

fn observe(
    findings: &Findings,
    basis: Basis,
    applied: &Applied,
    envelope_to: Option<&str>,
) -> Option<Observation> {
    let Author::One(author) = &findings.author else {
        return None;
    };
    let (disposition, reason) = fate(&findings.dmarc, &basis, applied)?;
    let signatures = findings.signed.signatures.iter().filter_map(|one| {
        Some(SignatureResult {
            domain: one.domain.as_ref()?.as_str().to_owned(),
            selector: bounded(one.selector.as_deref()?),
            result: dkim(one.verdict),
        })
    });
    let sender = findings.sender.address();
    Some(Observation {
        source: findings.client.to_canonical(),
        header_from: bounded(author.domain().as_str()),
        envelope_from: sender.map_or(String::new(), |one| bounded(one.domain().as_str())),
        envelope_to: envelope_to.map(bounded),
        disposition,
        reason,
        dkim_aligned: basis.dkim_aligned,
        spf_aligned: basis.spf_aligned,
        signatures: signatures.take(MAX_SIGNATURES).collect(),
        spf_domain: bounded(&findings.mail.domain),
        spf: spf_result(findings.mail.verdict),
        published: Published {
            domain: basis.domain,
            policy: policy(basis.policy),
            below: basis.below.map(policy),
            missing: basis.missing.map(policy),
            strict_dkim: basis.strict_dkim,
            strict_spf: basis.strict_spf,
            is_test: basis.is_test,
        },
    })
}

/// What became of a message, and why not what its domain publishes; `None` if that is not known yet.
fn fate(
    dmarc: &dmarc::Outcome,
    basis: &Basis,
    applied: &Applied,
) -> Option<(Disposition, Option<Reason>)> {
    match dmarc.verdict {
        dmarc::Verdict::None | dmarc::Verdict::TempError => return None,
        dmarc::Verdict::Pass if dmarc.published == dmarc::Policy::None => {
            return Some((Disposition::None, None));
        }
        dmarc::Verdict::Pass => return Some((Disposition::Pass, None)),
        dmarc::Verdict::Fail => {}
    }
    let reason = applied.reason.as_ref().map(|reason| match reason {
        Override::LocalPolicy => Reason::LocalPolicy(None),
        Override::Vouched(chain) => Reason::LocalPolicy(Some(bounded(chain))),
        Override::SampledOut if basis.is_test => Reason::TestMode,
        Override::SampledOut => Reason::SampledOut,
    });
    let disposition = match applied.disposition {
        dmarc::Policy::None => Disposition::None,
        dmarc::Policy::Quarantine => Disposition::Quarantine,
        dmarc::Policy::Reject => Disposition::Reject,
    };
    Some((disposition, reason))
}

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

const fn policy(policy: dmarc::Policy) -> Policy {
    match policy {
        dmarc::Policy::None => Policy::None,
        dmarc::Policy::Quarantine => Policy::Quarantine,
        dmarc::Policy::Reject => Policy::Reject,
    }
}

const fn dkim(verdict: dkim::Verdict) -> DkimResult {
    match verdict {
        dkim::Verdict::None => DkimResult::None,
        dkim::Verdict::Pass => DkimResult::Pass,
        dkim::Verdict::Fail => DkimResult::Fail,
        dkim::Verdict::Policy => DkimResult::Policy,
        dkim::Verdict::Neutral => DkimResult::Neutral,
        dkim::Verdict::TempError => DkimResult::TempError,
        dkim::Verdict::PermError => DkimResult::PermError,
    }
}

const fn spf_result(verdict: spf::Verdict) -> SpfResult {
    match verdict {
        spf::Verdict::None => SpfResult::None,
        spf::Verdict::Neutral => SpfResult::Neutral,
        spf::Verdict::Pass => SpfResult::Pass,
        spf::Verdict::Fail => SpfResult::Fail,
        spf::Verdict::SoftFail => SpfResult::SoftFail,
        spf::Verdict::TempError => SpfResult::TempError,
        spf::Verdict::PermError => SpfResult::PermError,
    }
}

#[cfg(test)]
mod tests {
    use daemon::config::Measure::{Accept, Junk, Quarantine, Reject};
    use sender::dmarc::Verdict::{Fail, Pass, TempError};

    use super::*;
    use crate::measure;

    const QUARANTINE: dmarc::Policy = dmarc::Policy::Quarantine;
    const REJECT: dmarc::Policy = dmarc::Policy::Reject;

    fn basis(is_test: bool) -> Basis {
        Basis {
            domain: "a.example".into(),
            policy: REJECT,
            below: None,
            missing: None,
            strict_dkim: false,
            strict_spf: false,
            is_test,
            wants_reports: true,
            dkim_aligned: false,
            spf_aligned: false,
        }
    }

    #[test]
    fn what_became_of_a_message_and_why_is_told() {
        const NONE: dmarc::Policy = dmarc::Policy::None;
        let local = Some(Reason::LocalPolicy(None));
        for (verdict, policy, published, is_test, measure, wanted) in [
            (
                Pass,
                NONE,
                REJECT,
                false,
                Accept,
                Some((Disposition::Pass, None)),
            ),
            (
                Pass,
                NONE,
                NONE,
                false,
                Accept,
                Some((Disposition::None, None)),
            ),
            (
                Fail,
                REJECT,
                REJECT,
                false,
                Reject,
                Some((Disposition::Reject, None)),
            ),
            (
                Fail,
                REJECT,
                REJECT,
                false,
                Junk,
                Some((Disposition::Quarantine, local.clone())),
            ),
            (
                Fail,
                REJECT,
                REJECT,
                false,
                Quarantine,
                Some((Disposition::Quarantine, local.clone())),
            ),
            (
                Fail,
                QUARANTINE,
                REJECT,
                true,
                Junk,
                Some((Disposition::Quarantine, Some(Reason::TestMode))),
            ),
            (
                Fail,
                QUARANTINE,
                REJECT,
                false,
                Junk,
                Some((Disposition::Quarantine, Some(Reason::SampledOut))),
            ),
            (
                Fail,
                NONE,
                NONE,
                false,
                Reject,
                Some((Disposition::Reject, local.clone())),
            ),
            (TempError, NONE, REJECT, false, Accept, None),
        ] {
            let outcome = dmarc::Outcome {
                verdict,
                policy,
                published,
            };
            let dispositions = [measure::Disposition {
                measure,
                ..measure::Disposition::ACCEPTED
            }];
            let applied = Applied::new(outcome, measure != Reject, &dispositions);
            let told = fate(&outcome, &basis(is_test), &applied);
            assert_eq!(told, wanted, "{outcome:?} {measure:?}");
        }
    }
}
