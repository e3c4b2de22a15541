//! What the operator may ask: everything about keys but the keys.

use std::sync::Arc;

use daemon::channel::{Answered, Events, Service};
use dkim::KeyKind;
use ipc::keys::{KEYS_PER_FRAME, KeyAnswer, KeyControlEdge, KeyRequest};
use ipc::{Call, Refusal};
use mail::address::Domain;

use super::with_keys;
use crate::cabinet::{Cabinet, Fault};
use crate::clock;
use crate::key::{Key, Name, State};
use crate::rotation::{Step, successor};

/// Answers the operator.
#[derive(Debug)]
pub struct Operator {
    /// The keys.
    pub cabinet: Arc<Cabinet>,
}

impl Service<KeyControlEdge> for Operator {
    type Peer = ();

    fn open(&self, _events: Events<KeyControlEdge>) {}

    async fn answer(
        &self,
        _peer: Arc<()>,
        call: Call<KeyRequest>,
    ) -> Result<Answered<KeyAnswer>, Refusal> {
        let answer = match call.request {
            KeyRequest::ListKeys { domain, after } => self.list(domain, after)?,
            KeyRequest::CreateKey {
                domain,
                selector,
                kind,
            } => {
                let kind: KeyKind = kind.parse().map_err(|_| no_kind(&kind))?;
                let make = move |cabinet: &Cabinet| {
                    cabinet.create(&domain, selector.as_deref(), kind, clock::now())
                };
                changed(vec![with_keys(&self.cabinet, make).await?])
            }
            KeyRequest::ActivateKey { domain, selector } => {
                let name = name(&domain, &selector)?;
                let work = move |cabinet: &Cabinet| cabinet.activate(&name, clock::now());
                changed(with_keys(&self.cabinet, work).await?)
            }
            KeyRequest::RetireKey { domain, selector } => {
                let name = name(&domain, &selector)?;
                let work = move |cabinet: &Cabinet| cabinet.retire(&name, clock::now());
                changed(vec![with_keys(&self.cabinet, work).await?])
            }
            KeyRequest::RemoveKey { domain, selector } => {
                let name = name(&domain, &selector)?;
                with_keys(&self.cabinet, move |cabinet| cabinet.remove(&name)).await?;
                KeyAnswer::KeyRemoved
            }
            KeyRequest::RotateKeys { domain } => {
                let domain = canonical(&domain)?;
                let work = move |cabinet: &Cabinet| rotate(cabinet, &domain);
                changed(with_keys(&self.cabinet, work).await?)
            }
        };
        Ok(Answered::plain(answer))
    }
}

impl Operator {
    fn list(
        &self,
        domain: Option<String>,
        after: Option<(String, String)>,
    ) -> Result<KeyAnswer, Refusal> {
        let domain = domain.as_deref().map(canonical).transpose()?;
        let after = after
            .map(|(domain, selector)| name(&domain, &selector))
            .transpose()?;
        let page = self
            .cabinet
            .page(domain.as_deref(), after.as_ref(), KEYS_PER_FRAME);
        let (keys, more) = page;
        Ok(KeyAnswer::Keys { keys, more })
    }
}

/// Makes a successor for each key of the domain that signs and has none; at most one of each kind signs.
fn rotate(cabinet: &Cabinet, domain: &str) -> Result<Vec<Key>, Fault> {
    let keys = cabinet.all();
    let signing = keys
        .iter()
        .filter(|key| key.name.domain == domain && key.state == State::Signing);
    if signing.clone().next().is_none() {
        return Err(Fault::WrongState(
            "no key signs for the domain: make one with rmailctl dkim create",
        ));
    }
    let mut made = Vec::new();
    for key in signing {
        if let Some(Step::Create(domain, kind)) = successor(&keys, key) {
            made.push(cabinet.create(&domain, None, kind, clock::now())?);
        }
    }
    if made.is_empty() {
        return Err(Fault::WrongState(
            "a successor waits already: publish its record (rmailctl dkim show), and it signs once that is seen",
        ));
    }
    Ok(made)
}

fn changed(keys: Vec<Key>) -> KeyAnswer {
    KeyAnswer::Keys {
        keys: keys.iter().map(Key::info).collect(),
        more: false,
    }
}

fn name(domain: &str, selector: &str) -> Result<Name, Refusal> {
    Name::new(domain, selector).map_err(|bad| Refusal::Invalid(bad.to_string()))
}

fn canonical(domain: &str) -> Result<String, Refusal> {
    match Domain::parse(domain) {
        Ok(parsed) if !parsed.is_literal() => Ok(parsed.as_str().to_ascii_lowercase()),
        Ok(_) | Err(_) => Err(Refusal::Invalid(format!("\"{domain}\" is not a domain"))),
    }
}

fn no_kind(kind: &str) -> Refusal {
    let all = KeyKind::ALL.map(KeyKind::as_str).join(", ");
    Refusal::Invalid(format!("\"{kind}\" is no kind of key: {all}"))
}
