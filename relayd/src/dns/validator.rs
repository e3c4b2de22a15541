//! Looks up what decides where mail goes, and checks it from the keys of the root zone down (RFC 4035 §5).
//!
//! Of an answer that is forged nothing is believed, not even that there is none. How much may have to be checked is bounded by
//! [`super::sieve`], the rounds of a hash by [`ROUNDS`], and all of it by [`PATIENCE`].

use std::sync::Arc;
use std::time::Duration;

use daemon::config::{Dnssec, DnssecMode};
use hickory_resolver::caching_client::CachingClient;
use hickory_resolver::config::{NameServerConfig, ResolverOpts};
use hickory_resolver::net::dnssec::DnssecDnsHandle;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::RetryDnsHandle;
use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::proto::op::{DnsRequestOptions, Query};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::SetUpError;
use super::answer::{Answer, Found};
use super::sieve::Sieve;
use super::wildcard::Second;

/// Longest look-up, with all that has to be looked up to check it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to see whether signatures are passed on.
const TRIAL: Duration = Duration::from_secs(5);
/// After this it is tried again whether they are.
const AGAIN: Duration = Duration::from_mins(10);
/// Rounds of the hash of NSEC3 (RFC 9276 §3.2): with more nothing vouches for an answer; with more again it is not believed.
const ROUNDS: (u16, u16) = (50, 150);
/// Answers that are remembered.
const MAX_ANSWERS: u64 = 2048;
/// Checks that are remembered.
const MAX_CHECKS: usize = 16_384;

type Asked = Sieve<RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>>;
type Checked = Second<DnssecDnsHandle<Asked>>;

/// Asks and checks. Cheap to clone.
#[derive(Clone)]
pub(super) struct Validator {
    client: CachingClient<Checked>,
    options: DnsRequestOptions,
    is_required: bool,
    ability: Arc<Mutex<Ability>>,
}

/// Whether the DNS server passes signatures on.
#[derive(Debug, Clone, Copy)]
enum Ability {
    /// It does not, or has not been tried; it is tried from then on.
    Unseen(Option<Instant>),
    /// It did once. Who could make it seem otherwise now could also forge answers.
    Seen,
}

impl std::fmt::Debug for Validator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Validator")
    }
}

impl Validator {
    /// Asks `servers`; `None` where nothing is to be checked.
    ///
    /// # Errors
    /// [`SetUpError`], also for trust anchors that are none.
    pub(super) fn new(
        servers: &[NameServerConfig],
        mut options: ResolverOpts,
        rules: &Dnssec,
    ) -> Result<Option<Self>, SetUpError> {
        let is_required = match rules.mode {
            DnssecMode::Off => return Ok(None),
            DnssecMode::Auto => false,
            DnssecMode::Require => true,
        };
        options.validate = true;
        let attempts = options.attempts;
        let tls = TlsConfig::new().map_err(|error| SetUpError(error.to_string()))?;
        let context = Arc::new(PoolContext::new(options, tls));
        let provider = TokioRuntimeProvider::default();
        let pool = NameServerPool::from_config(servers.iter().cloned(), context, provider);
        let asked = Sieve(RetryDnsHandle::new(pool, attempts));
        let checked = DnssecDnsHandle::with_trust_anchor(asked, Arc::new(anchors(rules)?))
            .nsec3_iteration_limits(Some(ROUNDS.0), Some(ROUNDS.1))
            .validation_cache_size(MAX_CHECKS);
        let mut options = DnsRequestOptions::default();
        options.recursion_desired = true;
        options.use_edns = true;
        options.edns_set_dnssec_ok = true;
        Ok(Some(Self {
            client: CachingClient::new(MAX_ANSWERS, Second(checked), true),
            options,
            is_required,
            ability: Arc::new(Mutex::new(Ability::Unseen(None))),
        }))
    }

    /// The answer to a question. The error is a reason that may be gone the next time.
    pub(super) async fn look_up(&self, name: &Name, kind: RecordType) -> Result<Answer, String> {
        let looked_up = self
            .client
            .lookup(Query::query(name.clone(), kind), self.options);
        match timeout(PATIENCE, looked_up).await {
            Ok(result) => Answer::read(name, kind, result),
            Err(_) => Err("it took too long to check the answer by DNSSEC".into()),
        }
    }

    /// Whether answers are to be checked now.
    pub(super) async fn is_on(&self) -> bool {
        if self.is_required {
            return true;
        }
        // Held until it is known: nobody may go unchecked while another tries.
        let mut ability = self.ability.lock().await;
        match *ability {
            Ability::Seen => return true,
            Ability::Unseen(Some(again)) if Instant::now() < again => return false,
            Ability::Unseen(_) => {}
        }
        match self.try_root().await {
            Ok(()) => {
                info!("the DNS server passes signatures on: answers are checked from now on");
                *ability = Ability::Seen;
                true
            }
            Err(reason) => {
                warn!(
                    reason,
                    "no answer of DNS can be checked, so no domain can demand TLS by DANE: let relay.dns name a server that passes DNSSEC on, such as unbound"
                );
                *ability = Ability::Unseen(Some(Instant::now() + AGAIN));
                false
            }
        }
    }

    /// Looks up the name servers of the root zone: that needs its keys, and a signature with one of them.
    async fn try_root(&self) -> Result<(), String> {
        let root = Name::root();
        let tried = timeout(TRIAL, self.look_up(&root, RecordType::NS)).await;
        let answer = tried.map_err(|_| "there was no answer about the root zone".to_owned())??;
        match (answer.found, answer.is_secure) {
            (Found::Records(_), true) => Ok(()),
            _ => Err("nothing vouches for what it says of the root zone".into()),
        }
    }
}

fn anchors(rules: &Dnssec) -> Result<TrustAnchors, SetUpError> {
    if rules.trust_anchors.is_empty() {
        return Ok(TrustAnchors::default());
    }
    let text = rules.trust_anchors.join("\n") + "\n";
    let wrong = |why: String| SetUpError(format!("relay.dnssec.trust_anchors: {why}"));
    let anchors: TrustAnchors = text.parse().map_err(|error| wrong(format!("{error}")))?;
    match anchors.is_empty() {
        true => Err(wrong("no key of the root zone is among them".into())),
        false => Ok(anchors),
    }
}
