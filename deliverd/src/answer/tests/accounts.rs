//! Logins, tokens, senders, and the operator's orders.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn submission_logins_and_senders_are_checked() {
    let world = world().await;
    let client = world.client::<SmtpEdge>("smtpd");
    let ask = async |request| {
        client
            .call(Context::default(), WITHIN, request)
            .await
            .map(|answered| answered.answer)
    };
    let login = SmtpRequest::Authenticate(credentials("alice@example.test", "password"));
    assert_eq!(
        ask(login).await,
        Ok(SmtpAnswer::Authenticated {
            account: "alice@example.test".into()
        })
    );
    let check = |sender: &str| SmtpRequest::CheckSender {
        account: "alice@example.test".into(),
        sender: sender.into(),
    };
    assert_eq!(
        ask(check("Alice@example.test")).await,
        Ok(SmtpAnswer::SenderAllowed)
    );
    assert_eq!(
        refused(ask(check("bob@example.test")).await),
        Refusal::SenderNotAllowed
    );
    assert_eq!(
        refused(ask(check("alice@foreign.test")).await),
        Refusal::SenderNotAllowed
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_stopped_after_the_configured_failures() {
    let world = world().await;
    for (guess, wait) in [("guess 1", 1), ("guess 2", 2), ("guess 3", 4)] {
        let login = world.login("alice@example.test", guess).await;
        assert_eq!(refused(login.map(|_| ())), Refusal::BadCredentials { wait });
    }
    assert_eq!(
        refused(
            world
                .login("alice@example.test", "password")
                .await
                .map(|_| ())
        ),
        Refusal::TooManyFailures
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_gets_tokens_and_health() {
    let world = world().await;
    let client = world.client::<ApiEdge>("apid");
    let ask = async |request| {
        client
            .call(Context::default(), WITHIN, request)
            .await
            .map(|answered| answered.answer)
    };
    assert_eq!(ask(ApiRequest::CheckHealth).await, Ok(ApiAnswer::Healthy));
    let answer = ask(ApiRequest::IssueToken(credentials(
        "bob@example.test",
        "password",
    )))
    .await
    .unwrap();
    assert!(
        matches!(answer, ApiAnswer::TokenIssued { token, expires_in: 3600, .. } if token.reveal().len() == 43)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_manages_domains_users_and_sees_usage() {
    let world = world().await;
    let done = Ok(StoreControlAnswer::Done);
    assert_eq!(
        world
            .control(StoreControlRequest::AddDomain {
                name: "Other.TEST".into(),
                tenant: None,
                duty: ipc::routing::Duty::Final,
            })
            .await,
        done
    );
    world.add_user("carol@other.test", 1000).await;
    world
        .deliver(&["carol@other.test"], b"hello")
        .await
        .unwrap();
    let domains = world
        .control(StoreControlRequest::ListDomains { after: None })
        .await
        .unwrap();
    let StoreControlAnswer::Domains {
        domains,
        more: false,
    } = domains
    else {
        panic!("{domains:?}")
    };
    let names: Vec<_> = domains.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["example.test", "other.test"]);
    let list = StoreControlRequest::ListUsers {
        domain: Some("other.test".into()),
        after: None,
    };
    let StoreControlAnswer::Users { users, .. } = world.control(list).await.unwrap() else {
        panic!()
    };
    assert_eq!(
        (
            users[0].address.as_str(),
            users[0].limits.bytes,
            users[0].usage.bytes,
            users[0].usage.messages
        ),
        ("carol@other.test", 1000, 5, 1)
    );
    let remove = || StoreControlRequest::RemoveDomain {
        name: "other.test".into(),
    };
    assert!(matches!(
        refused(world.control(remove()).await),
        Refusal::Invalid(_)
    ));
    world
        .control(StoreControlRequest::RemoveUser {
            address: "carol@other.test".into(),
        })
        .await
        .unwrap();
    assert_eq!(world.control(remove()).await, done);
    let password = StoreControlRequest::SetPassword {
        address: "bob@example.test".into(),
        password: Secret::new("changed!"),
    };
    assert_eq!(world.control(password).await, done);
    assert!(world.login("bob@example.test", "changed!").await.is_ok());
    let status = world
        .control(StoreControlRequest::ShowStatus)
        .await
        .unwrap();
    assert!(
        matches!(
            status,
            StoreControlAnswer::Status {
                domains: 1,
                users: 2,
                stored: 1,
                ..
            }
        ),
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_listed_on_from_a_name_that_is_quoted() {
    let world = world().await;
    world.add_user("\"a b\"@example.test", 0).await;
    let list = async |after: Option<String>| {
        let domain = None;
        let request = StoreControlRequest::ListUsers { domain, after };
        match world.control(request).await.unwrap() {
            StoreControlAnswer::Users { users, .. } => users,
            other => panic!("{other:?}"),
        }
    };
    let first = list(None).await.swap_remove(0).address;
    assert_eq!(first, "\"a b\"@example.test");
    let rest = list(Some(first)).await;
    let rest: Vec<_> = rest.iter().map(|user| user.address.as_str()).collect();
    assert_eq!(rest, ["alice@example.test", "bob@example.test"]);
}
