//! Logins in several messages, message by message.

use hmac::digest::Digest;
use mail::encode::base64;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use sha2::Sha256;

use super::super::Patience;
use super::super::password::mac;
use super::*;

struct World {
    _temp: tempfile::TempDir,
    accounts: Arc<Accounts>,
    doorman: Arc<Doorman>,
    exchanges: Exchanges,
}

const PATIENCE: Patience = Patience {
    account: 3,
    network: 30,
    window: 60,
    lockout: 60,
};

fn alice() -> Owner {
    Owner {
        local: "alice".into(),
        domain: "a.example".into(),
    }
}

fn world() -> World {
    let temp = tempfile::tempdir().unwrap();
    let accounts = Arc::new(Accounts::cheap(temp.path()));
    accounts.add_domain("a.example", None).unwrap();
    let limits = ipc::quota::Limits::default();
    let password = Secret::new("password");
    accounts.add_user(&alice(), &password, limits).unwrap();
    World {
        _temp: temp,
        doorman: Arc::new(Doorman::new(Arc::clone(&accounts), PATIENCE).unwrap()),
        accounts,
        exchanges: Exchanges::default(),
    }
}

impl World {
    async fn begin(&self, mechanism: &str, message: &str) -> Result<Challenge, Refusal> {
        let start = LoginStart {
            mechanism: mechanism.into(),
            message: Secret::new(message),
            client: "192.0.2.1".into(),
            binding: Some(b"channel".to_vec()),
            certificates: Vec::new(),
        };
        match self.doorman.begin(&self.exchanges, start).await? {
            Step::Challenged(challenge) => Ok(challenge),
            Step::Admitted(owner) => panic!("{} was let in", owner.address()),
        }
    }

    async fn proceed(&self, id: u64, message: &str) -> Result<Step, Refusal> {
        let message = Secret::new(message);
        self.doorman.proceed(&self.exchanges, id, &message).await
    }

    /// Does what a client with this password does.
    async fn scram(&self, user: &str, password: &[u8]) -> Result<Owner, Refusal> {
        let bare = format!("n={user},r=abc");
        let first = format!("p=tls-exporter,,{bare}");
        let Challenge { exchange, message } = self.begin("SCRAM-SHA-256-PLUS", &first).await?;
        let said = String::from_utf8(message.reveal().to_vec()).unwrap();
        let (last, server) = respond(&bare, &said, password, b"p=tls-exporter,,channel");
        let Step::Challenged(verdict) = self.proceed(exchange, &last).await? else {
            panic!("our proof was not shown");
        };
        assert_eq!(verdict.message.reveal(), server.as_bytes());
        match self.proceed(verdict.exchange, "").await? {
            Step::Admitted(owner) => Ok(owner),
            Step::Challenged(_) => panic!("there is nothing more to say"),
        }
    }
}

// RFC 5802 §3, from the client's side: its last message, and the server's.
fn respond(bare: &str, said: &str, password: &[u8], binding: &[u8]) -> (String, String) {
    let parts: Vec<&str> = said.split(',').collect();
    let salt = mail::decode::base64_strict(&parts[1].as_bytes()[2..]).unwrap();
    let iterations = parts[2][2..].parse().unwrap();
    let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, &salt, iterations);
    let without = format!("c={},{}", base64(binding), parts[0]);
    let message = format!("{bare},{said},{without}");
    let client_key = mac(&salted, b"Client Key");
    let signature = mac(&Sha256::digest(&client_key), message.as_bytes());
    let proof: Vec<u8> = client_key
        .iter()
        .zip(signature)
        .map(|(a, b)| a ^ b)
        .collect();
    let server = mac(&mac(&salted, b"Server Key"), message.as_bytes());
    (
        format!("{without},p={}", base64(&proof)),
        format!("v={}", base64(&server)),
    )
}

#[tokio::test]
async fn the_right_password_opens_and_the_proof_is_mutual() {
    let world = world();
    assert_eq!(
        world.scram("alice@a.example", b"password").await,
        Ok(alice())
    );
    assert_eq!(
        world.scram("ALICE@A.example", b"password").await,
        Ok(alice())
    );
    assert!(world.exchanges.lock().open.is_empty());
}

#[tokio::test]
async fn wrong_passwords_count_and_lock_out_and_nobody_learns_who_exists() {
    let world = world();
    for user in ["alice@a.example", "nobody@a.example"] {
        for wait in [1, 2, 4] {
            assert_eq!(
                world.scram(user, b"passwore").await,
                Err(Refusal::BadCredentials { wait }),
                "{user}"
            );
        }
        assert_eq!(
            world.scram(user, b"password").await,
            Err(Refusal::TooManyFailures)
        );
        // Whoever is not heard is not told salt and iterations either.
        let first = format!("n,,n={user},r=abc");
        let begun = world.begin("SCRAM-SHA-256", &first).await;
        assert_eq!(begun.err(), Some(Refusal::TooManyFailures));
    }
    // A name that is no address is counted for its network alone.
    assert_eq!(
        world.scram("nonsense", b"x").await,
        Err(Refusal::BadCredentials { wait: 8 })
    );
}

#[tokio::test]
async fn a_device_with_a_former_password_counts_once_and_locks_nobody_out() {
    let world = world();
    for new in ["another1", "another2", "another3"] {
        let new = Secret::new(new);
        world.accounts.set_password(&alice(), &new).unwrap();
    }
    let user = "alice@a.example";
    for old in [&b"password"[..], b"another1"] {
        for _ in 0..20 {
            let refused = world.scram(user, old).await;
            assert!(matches!(refused, Err(Refusal::BadCredentials { .. })));
        }
    }
    assert_eq!(world.scram(user, b"another3").await, Ok(alice()));
    // The two old ones have used two of the three failures there are.
    let guessed = world.scram(user, b"a guess").await;
    assert_eq!(guessed, Err(Refusal::BadCredentials { wait: 8 }));
    let locked = Err(Refusal::TooManyFailures);
    assert_eq!(world.scram(user, b"another3").await, locked);
}

#[tokio::test]
async fn a_former_password_opens_nothing_and_is_told_as_late_as_a_guess() {
    let world = world();
    let new = Secret::new("another1");
    world.accounts.set_password(&alice(), &new).unwrap();
    for wait in [1, 2, 4, 8, 8] {
        let refused = world.scram("alice@a.example", b"password").await;
        assert_eq!(refused, Err(Refusal::BadCredentials { wait }));
    }
}

#[tokio::test]
async fn no_more_than_the_last_passwords_are_known() {
    let world = world();
    for new in ["another1", "another2", "another3", "another4"] {
        let new = Secret::new(new);
        world.accounts.set_password(&alice(), &new).unwrap();
    }
    let user = "alice@a.example";
    for _ in 0..3 {
        let refused = world.scram(user, b"password").await;
        assert!(matches!(refused, Err(Refusal::BadCredentials { .. })));
    }
    let locked = Err(Refusal::TooManyFailures);
    assert_eq!(world.scram(user, b"another4").await, locked);
}

#[tokio::test]
async fn salt_and_iterations_of_nobody_are_like_those_of_somebody() {
    let world = world();
    let told = async |user: &str| {
        let first = format!("n,,n={user},r=abc");
        let challenge = world.begin("SCRAM-SHA-256", &first).await.unwrap();
        let said = String::from_utf8(challenge.message.reveal().to_vec()).unwrap();
        let (nonce, rest) = said.split_once(',').unwrap();
        (nonce.len(), rest.len(), rest.to_owned())
    };
    let (somebody, nobody) = (told("alice@a.example").await, told("bob@a.example").await);
    assert_eq!((somebody.0, somebody.1), (nobody.0, nobody.1));
    assert_eq!(told("BOB@a.example").await.2, nobody.2);
    assert_eq!(told("alice@a.example").await.2, somebody.2);
    assert_ne!(told("carol@a.example").await.2, nobody.2);
}

#[tokio::test]
async fn a_response_is_taken_once_and_only_in_its_turn() {
    let world = world();
    let (bare, user) = ("n=alice@a.example,r=abc", "n,,n=alice@a.example,r=abc");
    let Challenge { exchange, message } = world.begin("SCRAM-SHA-256", user).await.unwrap();
    let said = String::from_utf8(message.reveal().to_vec()).unwrap();
    let (last, _) = respond(bare, &said, b"password", b"n,,");
    let Ok(Step::Challenged(verdict)) = world.proceed(exchange, &last).await else {
        panic!("our proof was not shown");
    };
    let more = world.proceed(verdict.exchange, "x").await;
    assert!(matches!(more, Err(Refusal::Invalid(_))));
    let again = world.proceed(exchange, &last).await;
    assert!(matches!(again, Err(Refusal::UnknownHandle)));
    // Another login has another nonce, so what was heard of one opens no other.
    let other = world.begin("SCRAM-SHA-256", user).await.unwrap();
    let replayed = world.proceed(other.exchange, &last).await;
    assert!(matches!(replayed, Err(Refusal::Invalid(_))));
}

#[tokio::test]
async fn a_password_that_changes_meanwhile_opens_nothing() {
    let world = world();
    let (bare, user) = ("n=alice@a.example,r=abc", "n,,n=alice@a.example,r=abc");
    let Challenge { exchange, message } = world.begin("SCRAM-SHA-256", user).await.unwrap();
    let said = String::from_utf8(message.reveal().to_vec()).unwrap();
    let new = Secret::new("another1");
    world.accounts.set_password(&alice(), &new).unwrap();
    let (last, _) = respond(bare, &said, b"password", b"n,,");
    let judged = world.proceed(exchange, &last).await;
    assert!(matches!(judged, Err(Refusal::Busy)));
}

#[tokio::test]
async fn nobody_acts_for_others_and_unknown_mechanisms_are_none() {
    let world = world();
    for (mechanism, message) in [
        ("SCRAM-SHA-256", "n,a=bob@a.example,n=alice@a.example,r=abc"),
        ("SCRAM-SHA-256", "y,,n=alice@a.example,r=abc"),
        ("SCRAM-SHA-1", "n,,n=alice@a.example,r=abc"),
        ("EXTERNAL", "alice@a.example"),
    ] {
        let begun = world.begin(mechanism, message).await;
        assert!(matches!(begun, Err(Refusal::Invalid(_))), "{message}");
    }
    let own = "n,a=Alice@a.example,n=alice@a.example,r=abc";
    assert!(world.begin("SCRAM-SHA-256", own).await.is_ok());
}

#[tokio::test]
async fn a_certificate_opens_nothing_that_no_authority_here_vouches_for() {
    let mut world = world();
    let (ours, theirs) = (authority(), authority());
    let begin = async |world: &World, named: &str, by: &CertifiedIssuer<'static, KeyPair>| {
        let start = LoginStart {
            mechanism: "EXTERNAL".into(),
            message: Secret::new(named),
            client: "192.0.2.1".into(),
            binding: None,
            certificates: vec![certificate_of_alice(by)],
        };
        match world.doorman.begin(&world.exchanges, start).await {
            Ok(Step::Admitted(owner)) => Ok(owner),
            Ok(Step::Challenged(_)) => panic!("a challenge"),
            Err(refusal) => Err(refusal),
        }
    };
    let no_login = || Err(Refusal::Invalid("the certificate is no login here".into()));
    assert_eq!(begin(&world, "", &ours).await, no_login());
    let directory = tempfile::tempdir().unwrap();
    let doorman = Doorman::new(Arc::clone(&world.accounts), PATIENCE).unwrap();
    world.doorman = Arc::new(doorman.trusting(Some(directory.path())));
    assert_eq!(begin(&world, "", &ours).await, no_login());
    let file = directory.path().join("client-ca.crt");
    std::fs::write(&file, ours.pem()).unwrap();
    assert_eq!(begin(&world, "", &ours).await, Ok(alice()));
    assert_eq!(begin(&world, "alice@a.example", &ours).await, Ok(alice()));
    let other = begin(&world, "bob@a.example", &ours).await;
    assert!(matches!(other, Err(Refusal::Invalid(_))));
    assert_eq!(begin(&world, "", &theirs).await, no_login());
    std::fs::write(&file, "nothing").unwrap();
    assert_eq!(begin(&world, "", &ours).await, Err(Refusal::Busy));
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn certificate_of_alice(by: &CertifiedIssuer<'static, KeyPair>) -> Vec<u8> {
    let mut params = CertificateParams::default();
    let name = "alice@a.example".try_into().unwrap();
    params.subject_alt_names = vec![SanType::Rfc822Name(name)];
    let key = KeyPair::generate().unwrap();
    params.signed_by(&key, by).unwrap().der().to_vec()
}

#[tokio::test]
async fn a_token_opens_for_its_user_and_a_false_one_is_explained_first() {
    let world = world();
    let token = world.accounts.issue_token(&alice()).unwrap();
    let token = str::from_utf8(token.reveal()).unwrap();
    let begin = async |mechanism: &str, message: String| {
        let start = LoginStart {
            mechanism: mechanism.into(),
            message: Secret::new(message),
            client: "192.0.2.1".into(),
            binding: None,
            certificates: Vec::new(),
        };
        world.doorman.begin(&world.exchanges, start).await
    };
    for (mechanism, message) in [
        ("OAUTHBEARER", format!("n,,\x01auth=Bearer {token}\x01\x01")),
        (
            "OAUTHBEARER",
            format!("n,a=alice@a.example,\x01auth=Bearer {token}\x01\x01"),
        ),
        (
            "XOAUTH2",
            format!("user=alice@a.example\x01auth=Bearer {token}\x01\x01"),
        ),
    ] {
        let step = begin(mechanism, message).await;
        assert!(matches!(step, Ok(Step::Admitted(owner)) if owner == alice()));
    }
    for (mechanism, message) in [
        ("OAUTHBEARER", "n,,\x01auth=Bearer x\x01\x01".to_owned()),
        (
            "OAUTHBEARER",
            format!("n,a=bob@a.example,\x01auth=Bearer {token}\x01\x01"),
        ),
        (
            "XOAUTH2",
            format!("user=bob@a.example\x01auth=Bearer {token}\x01\x01"),
        ),
    ] {
        let Ok(Step::Challenged(challenge)) = begin(mechanism, message).await else {
            panic!("no explanation");
        };
        assert!(challenge.message.reveal().starts_with(b"{\"status\":"));
        let end = world.proceed(challenge.exchange, "\x01").await;
        assert!(matches!(end, Err(Refusal::BadCredentials { .. })));
    }
}

#[tokio::test]
async fn who_guesses_tokens_is_locked_out_and_who_has_an_old_one_is_not() {
    let world = world();
    let token = world.accounts.issue_token(&alice()).unwrap();
    let token = str::from_utf8(token.reveal()).unwrap();
    let say = async |token: &str| {
        let message = format!("user=alice@a.example\x01auth=Bearer {token}\x01\x01");
        let begun = world.begin("XOAUTH2", &message).await?;
        let end = world.proceed(begun.exchange, "\x01").await;
        Err::<(), _>(end.err().unwrap())
    };
    for wait in [1, 2, 4, 8, 8, 8, 8, 8, 8] {
        let again = say("ended").await;
        assert_eq!(again, Err(Refusal::BadCredentials { wait }));
    }
    for guess in ["a", "b"] {
        let guessed = say(guess).await;
        assert_eq!(guessed, Err(Refusal::BadCredentials { wait: 8 }));
    }
    assert_eq!(say("c").await, Err(Refusal::TooManyFailures));
    assert_eq!(say(token).await, Err(Refusal::TooManyFailures));
}

#[tokio::test]
async fn a_certificate_opens_for_the_account_it_names() {
    let world = world();
    let present = async |named: &str, identities: &[&str]| {
        let identities: Vec<String> = identities.iter().map(ToString::to_string).collect();
        world.doorman.admit_named(named, &identities).await
    };
    let (own, other) = ("Alice@a.example", "nobody@a.example");
    assert_eq!(present("", &[own]).await, Ok(alice()));
    assert_eq!(present("alice@a.example", &[own]).await, Ok(alice()));
    assert_eq!(present("alice@a.example", &[other, own]).await, Ok(alice()));
    for (named, identities) in [
        ("", &[][..]),
        ("", &[own, other]),
        ("alice@a.example", &[]),
        ("alice@a.example", &[other]),
        ("alice@a.example", &["alice@b.example"]),
        ("", &["alice@a.example\0@b.example"]),
    ] {
        let refused = present(named, identities).await;
        assert!(
            matches!(refused, Err(Refusal::Invalid(_))),
            "{named} {identities:?}"
        );
    }
    assert_eq!(
        present("", &[other]).await,
        Err(Refusal::BadCredentials { wait: 1 })
    );
}

#[tokio::test]
async fn logins_that_nobody_ends_are_bounded() {
    let world = world();
    let who = || Exchange {
        who: Who::new("a@b", "192.0.2.1"),
        state: State::Denied { wait: 0 },
    };
    for _ in 0..MAX_OPEN {
        world.exchanges.challenge(who(), "x").unwrap();
    }
    let refused = world.exchanges.challenge(who(), "x");
    assert!(matches!(refused, Err(Refusal::Busy)));
    let long_ago = Instant::now().checked_sub(LIFETIME).unwrap();
    for (_, since) in world.exchanges.lock().open.values_mut() {
        *since = long_ago;
    }
    assert!(world.exchanges.challenge(who(), "x").is_ok());
    assert_eq!(world.exchanges.lock().open.len(), 1);
}
#[tokio::test]
async fn a_client_that_takes_too_long_begins_anew() {
    let world = world();
    let user = "n,,n=alice@a.example,r=abc";
    let Challenge { exchange, .. } = world.begin("SCRAM-SHA-256", user).await.unwrap();
    let long_ago = Instant::now().checked_sub(LIFETIME).unwrap();
    for (_, since) in world.exchanges.lock().open.values_mut() {
        *since = long_ago;
    }
    let late = world.proceed(exchange, "").await;
    assert!(matches!(late, Err(Refusal::UnknownHandle)));
}
