//! Lists in DNS of whose mail is wanted and whose is not (RFC 5782): each has its score, and together they decide.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daemon::Stop;
use daemon::config::{DnsList, DnsLists, Listed};
use ipc::Context;
use ipc::dns::{Found, Kind, Record};
use mail::address::Domain;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::ask::Ask;
use crate::dns::reverse_under;

/// How long the lists are waited for. What has not come by then adds nothing: mail must not wait for somebody's list.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the lists are tested.
const TEST_PERIOD: Duration = Duration::from_hours(1);
/// Characters shown of a list's reason.
const MAX_REASON: usize = 200;

/// What is looked for in the lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A client.
    Address(IpAddr),
    /// A sender's domain.
    Domain(Domain),
}

/// What the lists say of a subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opinion {
    /// All scores together.
    pub score: i32,
    /// The list with the highest score, and the name of its entry.
    worst: Option<(i32, String, String)>,
}

/// All lists.
#[derive(Debug)]
pub struct Lists {
    lists: Vec<List>,
    reject_score: i32,
}

#[derive(Debug)]
struct List {
    config: DnsList,
    /// It lists what no list may have an entry for.
    is_broken: AtomicBool,
}

impl Lists {
    /// Those of the configuration.
    #[must_use]
    pub fn new(config: &DnsLists) -> Arc<Self> {
        let list = |config: &DnsList| List {
            config: config.clone(),
            is_broken: AtomicBool::new(false),
        };
        Arc::new(Self {
            lists: config.lists.iter().map(list).collect(),
            reject_score: i32::try_from(config.reject_score.value()).unwrap_or(i32::MAX),
        })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// Whether mail with this score is not wanted.
    #[must_use]
    pub fn reject(&self, score: i32) -> bool {
        score >= self.reject_score
    }

    /// What the lists say of a subject.
    pub async fn judge(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        context: Context,
        of: &Subject,
    ) -> Opinion {
        let mut asked = JoinSet::new();
        for at in 0..self.lists.len() {
            let (lists, ask, of) = (Arc::clone(self), Arc::clone(ask), of.clone());
            asked.spawn(async move { lists.lists.get(at)?.judge(&ask, context, &of).await });
        }
        let mut opinion = Opinion::default();
        let all = timeout(PATIENCE, async {
            while let Some(judged) = asked.join_next().await {
                if let Ok(Some(said)) = judged {
                    opinion.add(said);
                }
            }
        });
        if all.await.is_err() {
            debug!(
                ?of,
                "a list has not answered in time and counts for nothing"
            );
        }
        opinion
    }

    /// Tests the lists now and then, until the daemon stops.
    pub async fn keep_testing(self: Arc<Self>, ask: Arc<Ask>, stop: Stop) {
        loop {
            for list in &self.lists {
                list.test(&ask).await;
            }
            tokio::select! {
                () = sleep(TEST_PERIOD) => {}
                () = stop.requested() => return,
            }
        }
    }
}

impl Opinion {
    fn add(&mut self, (score, zone, name): (i32, String, String)) {
        self.score = self.score.saturating_add(score);
        if self.worst.as_ref().is_none_or(|(worst, ..)| score > *worst) {
            self.worst = Some((score, zone, name));
        }
    }

    /// Both together.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut both = self.clone();
        let score = both.score.saturating_add(other.score);
        if let Some(worst) = &other.worst {
            both.add(worst.clone());
        }
        both.score = score;
        both
    }

    /// The zone that weighs most, and the reason it gives (RFC 5782 §2.1), if any.
    pub async fn reason(&self, ask: &Ask, context: Context) -> (String, String) {
        let Some((_, zone, name)) = &self.worst else {
            return (String::new(), String::new());
        };
        let reason = match ask.look_up(context, name, Kind::Txt).await {
            Found::Records(records) => records.into_iter().find_map(text).unwrap_or_default(),
            Found::NoData | Found::NoSuchName | Found::TooLarge | Found::Fault => String::new(),
        };
        (zone.clone(), reason)
    }
}

// Somebody else's words are shown to the client, so they are ASCII and short.
fn text(record: Record) -> Option<String> {
    let Record::Txt(text) = record else {
        return None;
    };
    let plain = text.into_iter().filter(|b| (b' '..=b'~').contains(b));
    Some(plain.take(MAX_REASON).map(char::from).collect())
}

impl List {
    async fn judge(
        &self,
        ask: &Ask,
        context: Context,
        of: &Subject,
    ) -> Option<(i32, String, String)> {
        let name = self.entry(of)?;
        if self.is_broken.load(Ordering::Relaxed) {
            return None;
        }
        let zone = self.config.zone.as_str();
        let key = "smtp.dns_lists.lists";
        let Some(replies) = self.replies(ask, context, &name).await else {
            ask.note(key, || format!("{zone} has no entry {name}"));
            return None;
        };
        let score = self.score(&replies);
        ask.note(key, || {
            format!("{zone} has the entry {name} with {replies:?}: score {score}")
        });
        debug!(zone, name, ?replies, score, "listed");
        Some((score, zone.to_owned(), name))
    }

    /// The name of the entry that there is if the subject is listed.
    fn entry(&self, of: &Subject) -> Option<String> {
        let zone = self.config.zone.as_str();
        match (self.config.of, of) {
            (Listed::Address, Subject::Address(address)) => Some(reverse_under(*address, zone)),
            (Listed::SenderDomain, Subject::Domain(domain)) => Some(format!("{domain}.{zone}")),
            (Listed::Address, Subject::Domain(_)) | (Listed::SenderDomain, Subject::Address(_)) => {
                None
            }
        }
    }

    /// What the list replies, as far as it is a reply; `None` for nothing.
    async fn replies(&self, ask: &Ask, context: Context, name: &str) -> Option<Vec<Ipv4Addr>> {
        let addresses = ask.ipv4(context, name).await.ok()?;
        let replies: Vec<_> = addresses.into_iter().filter(|one| is_reply(*one)).collect();
        (!replies.is_empty()).then_some(replies)
    }

    fn score(&self, replies: &[Ipv4Addr]) -> i32 {
        if self.config.replies.is_empty() {
            return self.config.score.into();
        }
        let matched = self
            .config
            .replies
            .iter()
            .filter(|rule| replies.iter().any(|reply| rule.reply.contains(*reply)));
        matched.map(|rule| i32::from(rule.score)).sum()
    }

    // RFC 5782 §5: every list of addresses has an entry for 127.0.0.2 and none for 127.0.0.1; every list of names has one for TEST
    // and none for INVALID. A list that was given up often lists everybody.
    async fn test(&self, ask: &Ask) {
        let zone = self.config.zone.as_str();
        let names = match self.config.of {
            Listed::Address => ["1.0.0.127", "2.0.0.127"],
            Listed::SenderDomain => ["invalid", "test"],
        };
        let [never, always] = names.map(|name| format!("{name}.{zone}"));
        let context = Context::default();
        let Ok(found) = ask.ipv4(context, &never).await else {
            return debug!(zone, "the list cannot be tested now");
        };
        let is_broken = !found.is_empty();
        self.is_broken.store(is_broken, Ordering::Relaxed);
        let key = "smtp.dns_lists";
        if is_broken {
            warn!(
                key,
                zone,
                entry = never,
                "the list is ignored: it has an entry that no list has; remove it"
            );
        } else if ask
            .ipv4(context, &always)
            .await
            .is_ok_and(|found| found.is_empty())
        {
            warn!(
                key,
                zone,
                entry = always,
                "the list has not the entry that every list has: is its zone right, and does it serve your resolver?"
            );
        }
    }
}

// RFC 5782 §2.3: entries have addresses in 127.0.0.0/8; others come from whoever took the domain over. 127.255.255.0/24 is how lists
// say that they do not serve this resolver.
fn is_reply(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    first == 127 && (second, third) != (255, 255)
}
