//! The configuration as a file: what is read, and what is refused with which words.

use super::*;

const SMALL: &str = r#"{
  "version": 1,
  "hostname": "mail.example.com",
  "tls": {"cert_file": "/etc/rmail/tls/cert.pem", "key_file": "/etc/rmail/tls/key.pem"}
}"#;

fn refused(text: &str) -> String {
    let (place, reason) = Config::parse(text).unwrap_err();
    ConfigError {
        file: "c.json".into(),
        place,
        reason,
    }
    .to_string()
}

#[test]
fn host_name_version_and_certificate_are_enough() {
    let config = Config::parse(SMALL).unwrap();
    assert_eq!(config.smtp.port, 25);
    assert_eq!(config.imap.imaps_port, 993);
    assert_eq!(config.exchange_api.port, 9002);
    assert_eq!(
        config.relay.retry_seconds.as_slice(),
        [60, 300, 900, 1800, 3600, 14400, 28800, 86400]
    );
}

#[test]
fn a_written_configuration_reads_back_as_itself() {
    let config = Config::parse(SMALL).unwrap();
    assert_eq!(
        Config::parse(&serde_json::to_string_pretty(&config).unwrap()).unwrap(),
        config
    );
}

#[test]
fn an_unknown_key_is_refused_with_its_path_line_and_the_keys_there_are() {
    let error =
        refused(&SMALL.replace("\"tls\": {", "\"smtp\": {\n  \"prot\": 25},\n  \"tls\": {"));
    assert!(error.starts_with("c.json:5:"), "{error}");
    assert!(
        error.contains("smtp.prot") && error.contains("`submission_port`"),
        "{error}"
    );
}

#[test]
fn a_wrong_type_is_refused_with_its_path_and_line() {
    let error =
        refused(&SMALL.replace("\"tls\": {", "\"imap\": {\"port\": \"143\"},\n  \"tls\": {"));
    assert!(
        error.starts_with("c.json:4:") && error.contains("imap.port"),
        "{error}"
    );
}

#[test]
fn an_impossible_port_is_refused() {
    let error = refused(&SMALL.replace("\"tls\": {", "\"imap\": {\"port\": 70000},\n  \"tls\": {"));
    assert!(
        error.contains("imap.port") && error.contains("70000"),
        "{error}"
    );
}

#[test]
fn fewer_recipients_than_the_rfc_wants_are_refused_with_the_minimum() {
    let error = refused(&SMALL.replace(
        "\"tls\": {",
        "\"smtp\": {\"max_recipients\": 5},\n  \"tls\": {",
    ));
    assert!(
        error.contains("smtp.max_recipients") && error.contains("at least 100"),
        "{error}"
    );
}

#[test]
fn two_listeners_on_one_port_are_refused_with_the_line_of_the_second() {
    let error = refused(&SMALL.replace(
        "\"tls\": {",
        "\"imap\": {\n    \"port\": 25},\n  \"smtp\": {\"host\": \"::\"},\n  \"tls\": {",
    ));
    assert!(
        error.starts_with("c.json:5:") && error.contains("smtp.port"),
        "{error}"
    );
}

#[test]
fn a_relative_path_is_refused() {
    let error = refused(&SMALL.replace("/etc/rmail/tls/key.pem", "key.pem"));
    assert!(
        error.starts_with("c.json:4:")
            && error.contains("tls.key_file")
            && error.contains("absolute"),
        "{error}"
    );
}

#[test]
fn a_path_that_leads_up_is_refused() {
    let error = refused(&SMALL.replace("/etc/rmail/tls/key.pem", "/etc/rmail/../key.pem"));
    assert!(error.contains("tls.key_file: must be"), "{error}");
}

#[test]
fn a_relative_password_file_is_refused_with_its_key() {
    let relay = "\"relay\": {\"smarthost\": \"a.test\", \"smarthost_username\": \"u\", \"smarthost_password_file\": \"pw\"},\n \"tls\": {";
    let error = refused(&SMALL.replace("\"tls\": {", relay));
    assert!(
        error.starts_with("c.json:4:") && error.contains("relay.smarthost_password_file: must"),
        "{error}"
    );
}

#[test]
fn an_address_is_no_name_of_ours() {
    for address in ["192.0.2.1", "2001:db8::1"] {
        let error = refused(&SMALL.replace("mail.example.com", address));
        assert!(error.starts_with("c.json:3:"), "{error}");
        let domains = format!("\"domains\": [\"{address}\"],\n  \"tls\": {{");
        let error = refused(&SMALL.replace("\"tls\": {", &domains));
        assert!(
            error.contains("domains: ") && error.contains("not a name"),
            "{error}"
        );
    }
}

#[test]
fn a_server_elsewhere_has_a_port() {
    for key in ["port", "smarthost_port"] {
        let relay = format!("\"relay\": {{\"{key}\": 0}},\n \"tls\": {{");
        let error = refused(&SMALL.replace("\"tls\": {", &relay));
        assert!(
            error.contains(&format!("relay.{key}: 0 is no port")),
            "{error}"
        );
    }
}

#[test]
fn the_number_that_means_no_user_is_none() {
    for number in ["0", "4294967295"] {
        let users = format!("\"users\": {{\"smtpd\": {number}}},\n \"tls\": {{");
        let error = refused(&SMALL.replace("\"tls\": {", &users));
        assert!(error.contains("users.smtpd"), "{error}");
    }
}

#[test]
fn text_behind_the_end_is_refused() {
    assert!(refused(&format!("{SMALL}\n{{}}")).contains("after the end"));
}

#[test]
fn a_version_of_the_future_is_refused() {
    assert!(
        refused(&SMALL.replace("\"version\": 1", "\"version\": 2")).contains("reads version 1")
    );
}

#[test]
fn a_missing_file_says_how_to_make_one() {
    let error = Config::read(Path::new("/nonexistent/config.json"))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "/nonexistent/config.json: no such file; `rmailctl init` writes one"
    );
}

#[test]
fn measures_for_domains_are_read_and_doubted() {
    let with = |authentication: &str| {
        SMALL.replace(
            "\"tls\": {",
            &format!("\"authentication\": {authentication},\n  \"tls\": {{"),
        )
    };
    let domains =
        r#"{"domains": [{"names": ["A.example"], "spf_fail": "junk"}, {"names": ["b.example"]}]}"#;
    let config = Config::parse(&with(domains)).unwrap();
    let entry = &config.authentication.domains[0];
    assert_eq!(entry.names[0].as_str(), "a.example");
    assert_eq!(
        (entry.spf_fail, entry.dkim_fail),
        (Some(Measure::Junk), None)
    );
    for (wrong, words) in [
        (r#"{"domains": [{"names": []}]}"#, "names no domain"),
        (
            r#"{"domains": [{"names": ["a.example"]}, {"names": ["A.example"]}]}"#,
            "there twice",
        ),
        (
            r#"{"domains": [{"names": ["a.example"], "lenient": true}]}"#,
            "lenient",
        ),
    ] {
        let error = refused(&with(wrong));
        assert!(
            error.contains("authentication.domains") && error.contains(words),
            "{error}"
        );
    }
}

#[test]
fn quarantine_needs_the_queue() {
    for authentication in [
        r#"{"spf_fail": "quarantine"}"#,
        r#"{"domains": [{"names": ["a.example"], "unclear_author": "quarantine"}]}"#,
    ] {
        let text = SMALL.replace(
            "\"tls\": {",
            &format!("\"authentication\": {authentication},\n  \"tls\": {{"),
        );
        Config::parse(&text).unwrap();
        let text = text.replace(
            "\"tls\": {",
            "\"relay\": {\"enabled\": false},\n  \"tls\": {",
        );
        let error = refused(&text);
        assert!(error.contains("relay.enabled"), "{error}");
    }
}
