//! Certificates of all kinds, shown by Postfix and by Exim: who demands nothing gets mail whatever they show, DANE wants the one that
//! DNSSEC tells of, MTA-STS one that is good for the server's name. Zones are signed by ldns and served by nsd, policies by Python.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};
use system_tests::certificate::{Authority, Certificate};
use system_tests::dns::NameServer;
use system_tests::mx::{Door, Exim, Mx};
use system_tests::patience::wait_for;
use system_tests::policies::Policies;
use system_tests::postfix::Postfix;
use system_tests::program;
use system_tests::system::Home;
use system_tests::zones::SignedZones;
use system_tests::{Options, System, skip_unless, skip_without};

/// What the server of `KIND.outside.test` shows; the last offers no TLS.
const KINDS: [&str; 5] = ["good", "expired", "other", "own", "none"];

/// Everything but what tells relayd about the domains.
struct World<M> {
    home: Home,
    options: Options,
    authority: Authority,
    doors: Vec<Door>,
    server: M,
}

impl<M: Mx> World<M> {
    fn prepare() -> Self {
        let options = Options::alice();
        let mut home = Home::prepare(&options);
        let directory = home.path().join("authority");
        let authority = Authority::make(&directory);
        home.trust(&authority.cert);
        let certificate = |kind: &str| match kind {
            "good" => Some(authority.sign(&[host(kind)], 2)),
            "expired" => Some(authority.sign(&[host(kind)], -1)),
            "other" => Some(authority.sign(&["elsewhere.test".to_owned()], 2)),
            "own" => Some(Certificate::make(&directory.join(kind), &host(kind))),
            _ => None,
        };
        let door = |(number, kind): (u8, &&str)| Door {
            address: Ipv4Addr::new(127, 0, 0, number),
            certificate: certificate(kind),
        };
        let doors: Vec<_> = (2..).zip(&KINDS).map(door).collect();
        Self {
            server: M::open(&doors, home.address("smtp")),
            home,
            options,
            authority,
            doors,
        }
    }

    /// The fingerprint of what the server of this kind shows.
    fn fingerprint(&self, kind: usize) -> Option<String> {
        self.doors[kind]
            .certificate
            .as_ref()
            .map(Certificate::fingerprint)
    }

    fn launch(self, relay: &Value) -> (System, M) {
        let mut all = json!({"port": self.server.port(), "retry_seconds": [600]});
        system_tests::options::lay_over(&mut all, relay);
        self.home.configure(&json!({"relay": all}));
        (System::launch(self.home, &self.options), self.server)
    }
}

fn host(kind: &str) -> String {
    format!("mx.{kind}.outside.test")
}

/// Below `test.`: the server of each domain is at the door of its kind.
fn records(domains: &[(&str, usize)]) -> String {
    let mut records = String::new();
    for (name, kind) in domains {
        let address = Ipv4Addr::new(127, 0, 0, u8::try_from(*kind).unwrap() + 2);
        writeln!(
            records,
            "{name}.outside MX 10 mx.{name}.outside\nmx.{name}.outside A {address}"
        )
        .unwrap();
    }
    records
}

fn all_kinds() -> Vec<(&'static str, usize)> {
    KINDS.into_iter().zip(0..).collect()
}

/// alice writes to carol at each domain.
const SEND: &str = r#"
with submission() as client:
    for name in names:
        text = f"From: {ALICE}\r\nTo: carol@{name}.outside.test\r\nSubject: to {name}\r\n\r\nsecret\r\n"
        assert client.sendmail(ALICE, f"carol@{name}.outside.test", text) == {}
"#;

fn send(system: &System, names: &[&str]) {
    system.python(SEND, &json!({"names": names}));
}

/// Whether what is delivered at the server of `name` came over TLS.
fn is_secured<M: Mx>(server: &M, name: &str) -> bool {
    let delivered = server.wait_for_text(&format!("\nSubject: to {name}\n"));
    let text = String::from_utf8_lossy(&delivered);
    text.contains("using TLSv1.3 with") || text.contains("with esmtps")
}

/// Waits until the mail to each of these was tried and did not go, for this reason.
#[track_caller]
fn expect_waiting(system: &System, wanted: &[(&str, &str)]) {
    let errors = || -> Vec<(String, String)> {
        let list = system
            .rmailctl(&["queue", "list", "--json"])
            .succeeded()
            .stdout;
        let list: Vec<Value> = serde_json::from_str(&list).unwrap();
        let recipients = list
            .iter()
            .flat_map(|one| one["recipients"].as_array().unwrap());
        let tried = recipients.filter(|one| one["attempts"] != 0);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        tried
            .map(|one| (text(&one["address"]), text(&one["last_error"])))
            .collect()
    };
    let all_tried = || (errors().len() == wanted.len()).then_some(());
    let tried = wait_for(Duration::from_secs(60), all_tried);
    assert!(
        tried.is_ok(),
        "{:?}\n{}",
        errors(),
        program::end_of(&system.log())
    );
    let errors = errors();
    for (name, reason) in wanted {
        let address = format!("carol@{name}.outside.test");
        let error = errors.iter().find(|(one, _)| *one == address);
        assert!(
            error.is_some_and(|(_, error)| error.contains(reason)),
            "{name}: {errors:?}"
        );
    }
}

/// Nothing else is there: `count` messages came, and no more.
fn expect_delivered<M: Mx>(server: &M, count: usize) {
    assert_eq!(server.delivered().len(), count, "{}", server.log());
}

macro_rules! skip_where_impossible {
    ($server:ty) => {
        skip_unless!(
            <$server>::is_possible(),
            "the mail server is not there, or only root can start it"
        );
        skip_without!("nsd", "ldns-signzone", "python3", "openssl");
    };
}

fn nobody_demands_anything<M: Mx>() {
    let world = World::<M>::prepare();
    let names = NameServer::with(&records(&all_kinds()), &[]);
    let (system, server) = world.launch(&json!({"dns": [names.address()]}));
    send(&system, &KINDS);
    for kind in KINDS {
        assert_eq!(is_secured(&server, kind), kind != "none", "{kind}");
    }
    expect_delivered(&server, KINDS.len());
}

#[test]
fn postfix_gets_mail_over_tls_whatever_it_shows() {
    skip_where_impossible!(Postfix);
    nobody_demands_anything::<Postfix>();
}

#[test]
fn exim_gets_mail_over_tls_whatever_it_shows() {
    skip_where_impossible!(Exim);
    nobody_demands_anything::<Exim>();
}

fn dane_demands<M: Mx>() {
    let world = World::<M>::prepare();
    let port = world.server.port();
    // Of the last the record tells of another certificate.
    let domains = [all_kinds(), vec![("wrong", 0)]].concat();
    let mut records = records(&domains);
    for (name, kind) in &domains {
        let told = world.fingerprint(if *name == "wrong" { 1 } else { *kind });
        let told = told.unwrap_or_else(|| "00".repeat(32));
        writeln!(records, "_{port}._tcp.mx.{name}.outside TLSA 3 0 1 {told}").unwrap();
    }
    let zones = SignedZones::serve(&records);
    let dnssec = json!({"mode": "require", "trust_anchors": [zones.anchor]});
    let dns = json!({"dns": [zones.server.address()], "dnssec": dnssec});
    let (system, server) = world.launch(&dns);
    let names: Vec<_> = domains.iter().map(|(name, _)| *name).collect();
    send(&system, &names);
    for kind in ["good", "expired", "other", "own"] {
        assert!(is_secured(&server, kind), "{kind}");
    }
    let waiting = [("none", "STARTTLS"), ("wrong", "TLSA")];
    expect_waiting(&system, &waiting);
    expect_delivered(&server, 4);
}

#[test]
fn postfix_gets_mail_if_it_shows_what_dane_tells_of() {
    skip_where_impossible!(Postfix);
    dane_demands::<Postfix>();
}

#[test]
fn exim_gets_mail_if_it_shows_what_dane_tells_of() {
    skip_where_impossible!(Exim);
    dane_demands::<Exim>();
}

/// All that MTA-STS is about: a policy for each domain, of which the last names another server.
fn with_policies<M: Mx>(mode: &str) -> (System, M, NameServer, Policies) {
    let world = World::<M>::prepare();
    let domains = [all_kinds(), vec![("elsewhere", 0)]].concat();
    let mut records = records(&domains);
    let (mut hosts, mut policies) = (Vec::new(), Vec::new());
    for (name, _) in &domains {
        writeln!(
            records,
            "mta-sts.{name}.outside A 127.0.0.1\n_mta-sts.{name}.outside TXT \"v=STSv1; id=1;\""
        )
        .unwrap();
        let mx = if *name == "elsewhere" {
            host("good")
        } else {
            host(name)
        };
        let text = format!("version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 86400\r\n");
        let host = format!("mta-sts.{name}.outside.test");
        hosts.push(host.clone());
        policies.push((host, text));
    }
    let certificate = world.authority.sign(&hosts, 2);
    let https = Policies::serve(&world.home.path().join("policies"), &certificate, &policies);
    let names = NameServer::with(&records, &[]);
    let sts = json!({"port": https.port()});
    let (system, server) = world.launch(&json!({"dns": [names.address()], "mta_sts": sts}));
    let all: Vec<_> = domains.iter().map(|(name, _)| *name).collect();
    send(&system, &all);
    (system, server, names, https)
}

fn an_enforced_policy_demands<M: Mx>() {
    let (system, server, _names, _https) = with_policies::<M>("enforce");
    assert!(is_secured(&server, "good"));
    let failed = "TLS with mx.";
    let waiting = [
        ("expired", failed),
        ("other", failed),
        ("own", failed),
        ("none", "STARTTLS"),
        ("elsewhere", "names: it gets no mail"),
    ];
    expect_waiting(&system, &waiting);
    expect_delivered(&server, 1);
}

#[test]
fn postfix_gets_mail_if_it_shows_what_an_enforced_policy_wants() {
    skip_where_impossible!(Postfix);
    an_enforced_policy_demands::<Postfix>();
}

#[test]
fn exim_gets_mail_if_it_shows_what_an_enforced_policy_wants() {
    skip_where_impossible!(Exim);
    an_enforced_policy_demands::<Exim>();
}

#[test]
fn a_policy_in_testing_holds_up_no_mail_to_postfix() {
    skip_where_impossible!(Postfix);
    let (system, server, _names, _https) = with_policies::<Postfix>("testing");
    for kind in KINDS.into_iter().chain(["elsewhere"]) {
        assert_eq!(is_secured(&server, kind), kind != "none", "{kind}");
    }
    let log = system.log();
    for kind in ["expired", "other", "own", "none", "elsewhere"] {
        let told = |line: &&str| {
            line.contains("policy") && line.contains("in testing") && line.contains(&host(kind))
        };
        assert!(
            log.lines().any(|line| told(&line)),
            "{kind}\n{}",
            program::end_of(&log)
        );
    }
}
