//! DKIM and ARC: what is said of a message is the same however it is cut, and what is signed here is believed here.

use dkim::{
    Answer, Answers, CannotSign, ChainVerdict, Limits, Outcome, Signer, SigningKey, Verdict,
    Verifier,
};

use super::pieces::Connection;

const NOW: u64 = 1_700_000_000;
/// PKCS#8 of the key of RFC 8463 A.2.
const KEY: [u8; 48] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];

/// The first line is digits for how the rest, a message, is cut. Its fields called Key are the answer of the DNS.
///
/// # Panics
/// When a property does not hold.
pub fn check(data: &[u8]) {
    let message = Connection::new(data);
    let keys = mail::header::fields(message.bytes).filter(|field| field.is("key"));
    let keys = keys.map(|field| field.unfolded().into_owned()).collect();
    let answer = Answer::Records(keys);
    let whole = judge([message.bytes], &answer);
    assert_eq!(judge(message.pieces(), &answer), whole);
    assert!(
        whole.signatures.len() <= Limits::default().signatures,
        "all were looked at"
    );
    for signature in &whole.signatures {
        assert_eq!(
            signature.passes(),
            signature.flaw.is_none(),
            "{signature:?}"
        );
        assert!(signature.signature.len() <= 8, "{signature:?}");
        let identity = signature.identity.as_deref().unwrap_or_default();
        assert!(!identity.contains(char::is_control), "{signature:?}");
        let reason = signature.flaw.map(|flaw| flaw.to_string());
        assert!(
            reason.is_none_or(|reason| reason.is_ascii()),
            "{signature:?}"
        );
    }
    let holds = whole.chain.verdict == ChainVerdict::Pass;
    assert_eq!(holds, !whole.chain.sealers.is_empty(), "{:?}", whole.chain);
    sign(&message);
}

fn judge<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, answer: &Answer) -> Outcome {
    let mut verifier = Verifier::new(Limits::default());
    pieces.into_iter().for_each(|piece| verifier.feed(piece));
    let evidence = verifier.end();
    let names = evidence.questions();
    assert!(
        names
            .iter()
            .all(|name| name.is_ascii() && name.len() <= 253),
        "{names:?}"
    );
    let answers: Answers = names
        .into_iter()
        .map(|name| (name, answer.clone()))
        .collect();
    evidence.judge(&answers, NOW)
}

fn sign(message: &Connection<'_>) {
    let key = SigningKey::from_pkcs8(&KEY).expect("the key is one");
    let domain = mail::address::Domain::parse("example.org").expect("it is a domain");
    let mut signer = Signer::new(&key, domain, "s");
    message
        .pieces()
        .into_iter()
        .for_each(|piece| signer.feed(piece));
    let field = match signer.end(NOW) {
        Ok(field) => field,
        Err(CannotSign::NotOneFrom | CannotSign::NoHeader) => return,
        Err(refused) => panic!("{refused}"),
    };
    let record = key.record().expect("the key can be written");
    let answer = Answer::Records(vec![record.into_bytes()]);
    let outcome = judge([field.as_bytes(), message.bytes], &answer);
    let ours = outcome
        .signatures
        .first()
        .map(|signature| signature.verdict);
    assert_eq!(ours, Some(Verdict::Pass), "{field}");
}
