//! What relayd may ask: signatures of mail, and which records are to be looked for.
//!
//! relayd talks to the network and may have been taken over by it. Whatever it sends, what is signed is a header that ends with a
//! DKIM-Signature field of keyd's own making, for a domain that an author in its only From has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use daemon::channel::{Answered, Events, Service};
use dkim::Statement;
use ipc::signing::{
    MAX_FIELDS, MAX_PIECE, MAX_SIGNING, Order, SigningAnswer, SigningEdge, SigningRequest,
    WAITING_PER_FRAME, Waiting,
};
use ipc::{Call, Refusal};
use mail::address::Domain;
use tracing::{debug, warn};

use super::{refusal, with_keys};
use crate::cabinet::{Cabinet, Entry};
use crate::clock;
use crate::key::{Name, State};
use crate::rotation::Rules;

/// Messages of which pieces are kept at once on a channel. Beyond that the oldest is forgotten: nobody wants it any more.
const MAX_KEPT: usize = 64;

/// Answers relayd.
#[derive(Debug)]
pub struct Signing {
    /// The keys.
    pub cabinet: Arc<Cabinet>,
    /// How long a signature counts.
    pub rules: Rules,
}

/// The pieces of one channel, by the numbers of their orders.
#[derive(Debug, Default)]
pub struct Pieces(Mutex<BTreeMap<u64, Vec<u8>>>);

impl Service<SigningEdge> for Signing {
    type Peer = Pieces;

    fn open(&self, _events: Events<SigningEdge>) -> Pieces {
        Pieces::default()
    }

    async fn answer(
        &self,
        peer: Arc<Pieces>,
        call: Call<SigningRequest>,
    ) -> Result<Answered<SigningAnswer>, Refusal> {
        let answer = match call.request {
            SigningRequest::Keep { number, piece } => {
                peer.keep(number, &piece)?;
                SigningAnswer::Kept
            }
            SigningRequest::Sign(order) => {
                let fields = peer.complete(&order)?;
                let fields = self.sign(&order, &fields).await?;
                SigningAnswer::Signed { fields }
            }
            SigningRequest::ListWaiting { after } => self.waiting(after.as_deref())?,
            SigningRequest::NoteSeen { name } => {
                let name = Name::of_record(&name).map_err(invalid)?;
                let work = move |cabinet: &Cabinet| cabinet.note_seen(&name, clock::now());
                with_keys(&self.cabinet, work).await?;
                SigningAnswer::Noted
            }
        };
        Ok(Answered::plain(answer))
    }
}

impl Pieces {
    fn keep(&self, number: u64, piece: &[u8]) -> Result<(), Refusal> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fields = kept.entry(number).or_default();
        if piece.len() > MAX_PIECE || fields.len() + piece.len() > MAX_FIELDS {
            kept.remove(&number);
            return Err(Refusal::MessageTooLarge);
        }
        fields.extend_from_slice(piece);
        if kept.len() > MAX_KEPT {
            kept.pop_first();
        }
        Ok(())
    }

    /// All fields of an order.
    fn complete(&self, order: &Order) -> Result<Vec<u8>, Refusal> {
        let kept = match order.kept {
            None => Vec::new(),
            Some(number) => {
                let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                kept.remove(&number).ok_or(Refusal::UnknownHandle)?
            }
        };
        if order.fields.len() > MAX_PIECE || kept.len() + order.fields.len() > MAX_FIELDS {
            return Err(Refusal::MessageTooLarge);
        }
        Ok([kept, order.fields.clone()].concat())
    }
}

impl Signing {
    async fn sign(&self, order: &Order, fields: &[u8]) -> Result<String, Refusal> {
        let domain = Domain::parse(&order.domain).map_err(invalid)?;
        let authors = dkim::authors(fields).ok_or_else(|| {
            warn!(%domain, "asked to sign a header without one From that names addresses and nothing else");
            invalid("the header has not one From that names addresses and nothing else")
        })?;
        if !authors.iter().any(|author| *author.domain() == domain) {
            warn!(%domain, "asked to sign for a domain that no author has");
            return Err(invalid("no author in From has this domain"));
        }
        let at = u64::try_from(clock::now()).unwrap_or(0);
        let mut signed = String::new();
        let keys = self.cabinet.signing(domain.as_str()).map_err(refusal)?;
        for entry in keys.into_iter().take(MAX_SIGNING) {
            let statement = Statement {
                fields,
                body_hash: &order.body_hash,
                domain: &domain,
                selector: &entry.key.name.selector,
                at,
                until: Some(at.saturating_add_signed(self.rules.overlap)),
            };
            self.prepare(&entry).await?;
            let key = self.cabinet.open_key(&entry).map_err(refusal)?;
            let field = key.state(&statement).map_err(|error| {
                warn!(%domain, %error, "a header cannot be signed");
                invalid(error)
            })?;
            signed.push_str(&field);
        }
        debug!(%domain, octets = signed.len(), "signed");
        Ok(signed)
    }

    /// Reads the file of a key if that was not done yet.
    async fn prepare(&self, entry: &Arc<Entry>) -> Result<(), Refusal> {
        if entry.is_open() {
            return Ok(());
        }
        let entry = Arc::clone(entry);
        let open = move |cabinet: &Cabinet| cabinet.open_key(&entry).map(drop);
        with_keys(&self.cabinet, open).await
    }

    fn waiting(&self, after: Option<&str>) -> Result<SigningAnswer, Refusal> {
        let after = after.map(Name::of_record).transpose().map_err(invalid)?;
        let all = self.cabinet.all().into_iter();
        let waits = all.filter(|key| {
            key.state == State::Pending && after.as_ref().is_none_or(|after| key.name > *after)
        });
        let mut keys: Vec<_> = waits
            .take(WAITING_PER_FRAME + 1)
            .map(|key| Waiting {
                name: key.name.record(),
                record: key.record,
            })
            .collect();
        let more = keys.len() > WAITING_PER_FRAME;
        keys.truncate(WAITING_PER_FRAME);
        Ok(SigningAnswer::Waiting { keys, more })
    }
}

fn invalid(reason: impl std::fmt::Display) -> Refusal {
    Refusal::Invalid(reason.to_string())
}

#[cfg(test)]
mod tests {
    use daemon::config::Dkim;
    use dkim::{Answer, Answers, KeyKind, Limits, Verdict, Verifier};

    use super::*;

    const FROM: &str = "From: Alice <alice@a.example>\r\n";

    struct World {
        signing: Signing,
        _home: tempfile::TempDir,
    }

    fn world() -> World {
        let home = tempfile::tempdir().unwrap();
        let cabinet = Cabinet::open(home.path(), clock::now()).unwrap();
        for kind in [KeyKind::Ed25519, KeyKind::Rsa2048] {
            let key = cabinet.create("a.example", None, kind, clock::now());
            cabinet.activate(&key.unwrap().name, clock::now()).unwrap();
        }
        let signing = Signing {
            cabinet: Arc::new(cabinet),
            rules: Rules::new(&Dkim::default()),
        };
        World {
            signing,
            _home: home,
        }
    }

    fn order(domain: &str, fields: &str) -> Order {
        let mut extract = dkim::Extract::default();
        extract.feed(b"From: x\r\n\r\nHi.\r\n");
        Order {
            domain: domain.into(),
            kept: None,
            fields: fields.as_bytes().to_vec(),
            body_hash: extract.end().unwrap().body_hash,
        }
    }

    impl World {
        async fn sign(&self, domain: &str, fields: &str) -> Result<String, Refusal> {
            let order = order(domain, fields);
            self.signing.sign(&order, &order.fields).await
        }

        /// Whether what was signed is believed.
        fn verdicts(&self, message: &str) -> Vec<Verdict> {
            let mut verifier = Verifier::new(Limits::default());
            verifier.feed(message.as_bytes());
            let mut answers = Answers::new();
            for key in self.signing.cabinet.all() {
                let record = Answer::Records(vec![key.record.into_bytes()]);
                answers.insert(key.name.record(), record);
            }
            let at = u64::try_from(clock::now()).unwrap();
            let outcome = verifier.end().judge(&answers, at);
            let verdict = |signature: &dkim::Signature| match signature.passes() {
                true => Verdict::Pass,
                false => Verdict::Fail,
            };
            outcome.signatures.iter().map(verdict).collect()
        }
    }

    #[tokio::test]
    async fn each_key_that_signs_makes_a_field_that_is_believed_for_a_while() {
        let world = world();
        let fields = format!("{FROM}Subject: Hi\r\n");
        let signed = world.sign("a.example", &fields).await.unwrap();
        assert_eq!(signed.matches("DKIM-Signature: v=1;").count(), 2);
        assert_eq!(signed.matches(" x=").count(), 2);
        let message = format!("{signed}Received: by us\r\n{fields}\r\nHi.\r\n");
        assert_eq!(world.verdicts(&message), [Verdict::Pass; 2]);
        let changed = message.replace("Subject: Hi", "Subject: Ho");
        assert_eq!(world.verdicts(&changed), [Verdict::Fail; 2]);
        let added = message.replace(FROM, &format!("{FROM}From: eve@b.example\r\n"));
        assert_eq!(world.verdicts(&added), [Verdict::Fail; 2]);
    }

    #[tokio::test]
    async fn a_domain_without_a_key_that_signs_has_no_signature() {
        let world = world();
        let from = "From: alice@b.example\r\n";
        assert_eq!(world.sign("b.example", from).await.unwrap(), "");
        let key = world
            .signing
            .cabinet
            .create("b.example", None, KeyKind::Ed25519, 0);
        assert_eq!(world.sign("b.example", from).await.unwrap(), "");
        let name = key.unwrap().name;
        let seen = SigningRequest::NoteSeen {
            name: name.record(),
        };
        let call = Call {
            id: 1,
            deadline_ms: 1000,
            context: ipc::Context::default(),
            request: seen,
        };
        world.signing.answer(Arc::default(), call).await.unwrap();
        assert!(!world.sign("b.example", from).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn nothing_is_signed_but_a_header_of_a_domain_that_an_author_has() {
        let world = world();
        for (domain, fields) in [
            ("a.example", ""),
            ("a.example", "Subject: no author\r\n"),
            ("a.example", "From: eve@b.example\r\n"),
            ("a.example", "From: \"alice@a.example\" <eve@b.example>\r\n"),
            ("a.example", &format!("{FROM}{FROM}")),
            ("a.example", "From: friends: alice@a.example;\r\n"),
            // What is no field that is signed: other text, other fields, a body, an end without a line end.
            ("a.example", &format!("to be signed\r\n{FROM}")),
            ("a.example", &format!("{FROM}\r\nto be signed\r\n")),
            ("a.example", &format!("{FROM}to be signed\r\n")),
            ("a.example", &format!("{FROM}X-Other: x\r\n")),
            (
                "a.example",
                &format!("{FROM}DKIM-Signature: v=1; d=b.example\r\n"),
            ),
            ("a.example", "\r\n"),
            ("example", FROM),
            ("sub.a.example", FROM),
            ("a.example; d=b.example", FROM),
            ("", FROM),
        ] {
            let signed = world.sign(domain, fields).await;
            assert!(
                matches!(signed, Err(Refusal::Invalid(_))),
                "{domain} {fields:?}"
            );
        }
        // Without DKIM-Signature in front, the same is signed.
        assert!(!world.sign("a.example", FROM).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn pieces_are_put_together_and_bounded() {
        let world = world();
        let pieces = Pieces::default();
        pieces.keep(7, b"From: Alice\r\n <alice@a.ex").unwrap();
        pieces.keep(7, b"ample>\r\nSub").unwrap();
        let last = Order {
            kept: Some(7),
            ..order("a.example", "ject: Hi\r\n")
        };
        let fields = pieces.complete(&last).unwrap();
        assert_eq!(
            fields,
            b"From: Alice\r\n <alice@a.example>\r\nSubject: Hi\r\n"
        );
        assert!(world.signing.sign(&last, &fields).await.is_ok());
        assert_eq!(pieces.complete(&last), Err(Refusal::UnknownHandle));
        let long = vec![b'x'; MAX_PIECE + 1];
        assert_eq!(pieces.keep(8, &long), Err(Refusal::MessageTooLarge));
        for _ in 0..MAX_FIELDS / MAX_PIECE {
            pieces.keep(9, &long[1..]).unwrap();
        }
        assert_eq!(pieces.keep(9, &long[1..]), Err(Refusal::MessageTooLarge));
        for number in 100..1000 {
            pieces.keep(number, b"x").unwrap();
        }
        assert_eq!(pieces.0.lock().unwrap().len(), MAX_KEPT);
        let large = Order {
            fields: long,
            ..order("a.example", "")
        };
        assert_eq!(pieces.complete(&large), Err(Refusal::MessageTooLarge));
    }
}
