//! The examples that the RFCs give.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use dkim::{Algorithm, Answer, Answers, ChainVerdict, Flaw, Limits, Outcome, Verdict, Verifier};

/// The message of both, RFC 6376 A.2 and RFC 8463 A.3.
const MESSAGE: &str = "From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
";

/// RFC 6376 C: the key of the example.
const BRISBANE_RSA: &str = "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQ\
DwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gb\
to/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB";

/// RFC 6376 A.2, with the indentation it was signed with.
const SIGNED_6376: &str = "DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
      4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
";

/// RFC 8463 A.2: the two keys.
const BRISBANE_ED25519: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
const TEST_RSA: &str = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR\
iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5Q\
jvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB";

/// RFC 8463 A.3.
const SIGNED_8463: &str = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
";

const NOW: u64 = 1_700_000_000;

fn judge(message: &str, records: &[(&str, &str)]) -> Outcome {
    let message = message.replace('\n', "\r\n");
    let mut verifier = Verifier::new(Limits::default());
    verifier.feed(message.as_bytes());
    let evidence = verifier.end();
    let wanted: Vec<_> = records.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(evidence.questions(), wanted);
    let answers = records.iter().map(|(name, text)| {
        let records = Answer::Records(vec![text.as_bytes().to_vec()]);
        ((*name).to_owned(), records)
    });
    evidence.judge(&answers.collect::<Answers>(), NOW)
}

#[test]
fn rfc_6376_appendix_a() {
    // Simple canonicalization keeps the second space that is in some prints of the example and was not signed.
    let message = MESSAGE.replace("game.  Are", "game. Are");
    let records = [("brisbane._domainkey.example.com", BRISBANE_RSA)];
    let outcome = judge(&format!("{SIGNED_6376}{message}"), &records);
    let signature = &outcome.signatures[0];
    assert_eq!(signature.flaw, None);
    assert!(signature.passes());
    assert_eq!(signature.domain.as_ref().unwrap().as_str(), "example.com");
    assert_eq!(
        signature.identity.as_deref(),
        Some("joe@football.example.com")
    );
    assert_eq!(signature.selector.as_deref(), Some("brisbane"));
    assert_eq!(signature.signature, "AuUoFEfD");
    assert_eq!(outcome.chain.verdict, ChainVerdict::None);
    let changed = judge(&format!("{SIGNED_6376}{MESSAGE}"), &records);
    assert_eq!(changed.signatures[0].flaw, Some(Flaw::BodyChanged));
}

#[test]
fn rfc_8463_appendix_a() {
    let records = [
        ("brisbane._domainkey.football.example.com", BRISBANE_ED25519),
        ("test._domainkey.football.example.com", TEST_RSA),
    ];
    let outcome = judge(&format!("{SIGNED_8463}{MESSAGE}"), &records);
    let flaws: Vec<_> = outcome.signatures.iter().map(|s| s.flaw).collect();
    assert_eq!(flaws, [None, None]);
    assert_eq!(
        outcome.signatures[0].algorithm,
        Some(Algorithm::Ed25519Sha256)
    );
    assert_eq!(outcome.signatures[1].algorithm, Some(Algorithm::RsaSha256));
    let relaxed = MESSAGE
        .replace("Subject: Is", "SUBJECT :  Is")
        .replace("game.  Are", "game. \t Are");
    let outcome = judge(&format!("{SIGNED_8463}{relaxed}\n \n\n"), &records);
    assert_eq!(outcome.verdict(), Verdict::Pass);
    let changed = MESSAGE.replace("dinner", "Dinner");
    let outcome = judge(&format!("{SIGNED_8463}{changed}"), &records);
    for signature in &outcome.signatures {
        assert_eq!(signature.flaw, Some(Flaw::HeaderChanged));
        assert_eq!(signature.verdict, Verdict::Fail);
    }
    let added = format!("{SIGNED_8463}Subject: another\n{MESSAGE}");
    assert_eq!(judge(&added, &records).verdict(), Verdict::Fail);
}
