use std::os::unix::fs::PermissionsExt;

use super::*;

const DOMAIN: &str = "a.example";
const NOW: i64 = 1_800_000_000;

fn open(home: &Path) -> Cabinet {
    Cabinet::open(home, NOW).unwrap()
}

fn states(cabinet: &Cabinet) -> Vec<(String, State)> {
    let all = cabinet.all().into_iter();
    all.map(|key| (key.name.selector, key.state)).collect()
}

fn name(selector: &str) -> Name {
    Name::new(DOMAIN, selector).unwrap()
}

fn create(cabinet: &Cabinet, selector: &str) -> Key {
    let made = cabinet.create(DOMAIN, Some(selector), KeyKind::Ed25519, NOW);
    made.unwrap()
}

#[test]
fn a_key_is_in_its_state_after_a_restart_and_its_file_is_for_nobody_else() {
    let home = tempfile::tempdir().unwrap();
    let cabinet = open(home.path());
    for selector in ["a", "b", "c", "d"] {
        create(&cabinet, selector);
    }
    cabinet.activate(&name("a"), NOW).unwrap();
    cabinet.activate(&name("b"), NOW + 1).unwrap();
    cabinet.activate(&name("c"), NOW + 2).unwrap();
    cabinet.destroy(&name("b"), NOW + 3).unwrap();
    let wanted = [
        ("a".to_owned(), State::Retired),
        ("b".to_owned(), State::Gone),
        ("c".to_owned(), State::Signing),
        ("d".to_owned(), State::Pending),
    ];
    assert_eq!(states(&cabinet), wanted);
    let before = cabinet.all();
    drop(cabinet);
    let cabinet = open(home.path());
    assert_eq!(cabinet.all(), before);
    for entry in std::fs::read_dir(home.path()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn what_was_being_written_when_it_died_never_was() {
    let home = tempfile::tempdir().unwrap();
    let cabinet = open(home.path());
    let key = create(&cabinet, "a");
    drop(cabinet);
    // The new state was written beside it, wholly or in part, and not renamed.
    let file = home.path().join(key.name.file());
    let text = std::fs::read_to_string(&file).unwrap();
    let turned = text.replace("pending", "signing");
    assert_ne!(turned, text);
    for length in [0, 1, turned.len() / 2, turned.len()] {
        let new = home.path().join(format!("{}.new", key.name.file()));
        std::fs::write(&new, &turned[..length]).unwrap();
        let cabinet = open(home.path());
        assert_eq!(cabinet.all(), std::slice::from_ref(&key));
        assert!(!new.exists());
    }
}

#[test]
fn of_two_that_sign_after_a_crash_the_older_one_is_retired() {
    let home = tempfile::tempdir().unwrap();
    let cabinet = open(home.path());
    create(&cabinet, "a");
    create(&cabinet, "b");
    let rsa = cabinet.create(DOMAIN, Some("c"), KeyKind::Rsa2048, NOW);
    cabinet.activate(&rsa.unwrap().name, NOW).unwrap();
    cabinet.activate(&name("b"), NOW + 5).unwrap();
    // As if it had died in the middle of activating "a".
    cabinet.turn(&name("a"), State::Signing, NOW + 7).unwrap();
    assert_eq!(cabinet.signing(DOMAIN).unwrap().len(), 3);
    drop(cabinet);
    let cabinet = open(home.path());
    let wanted = [
        ("a".to_owned(), State::Signing),
        ("b".to_owned(), State::Retired),
        ("c".to_owned(), State::Signing),
    ];
    assert_eq!(states(&cabinet), wanted);
}

#[test]
fn no_mail_goes_out_as_if_a_domain_had_no_key_while_one_is_damaged() {
    let home = tempfile::tempdir().unwrap();
    let cabinet = open(home.path());
    let key = create(&cabinet, "a");
    drop(cabinet);
    std::fs::write(home.path().join(key.name.file()), "{}").unwrap();
    let cabinet = open(home.path());
    assert!(matches!(cabinet.signing(DOMAIN), Err(Fault::Damaged)));
    assert!(cabinet.signing("b.example").unwrap().is_empty());
    let (page, _) = cabinet.page(None, None, 10);
    assert_eq!(page[0].state, KeyState::Damaged);
    cabinet.remove(&key.name).unwrap();
    assert!(cabinet.signing(DOMAIN).unwrap().is_empty());
}

#[test]
fn each_order_is_refused_where_the_state_does_not_allow_it() {
    let home = tempfile::tempdir().unwrap();
    let cabinet = open(home.path());
    create(&cabinet, "a");
    let again = cabinet.create(DOMAIN, Some("a"), KeyKind::Ed25519, NOW);
    assert!(matches!(again, Err(Fault::Exists)));
    assert!(matches!(
        cabinet.retire(&name("a"), NOW),
        Err(Fault::WrongState(_))
    ));
    cabinet.activate(&name("a"), NOW).unwrap();
    assert!(matches!(
        cabinet.activate(&name("a"), NOW),
        Err(Fault::WrongState(_))
    ));
    assert!(matches!(
        cabinet.remove(&name("a")),
        Err(Fault::WrongState(_))
    ));
    cabinet.retire(&name("a"), NOW).unwrap();
    // Back again, as long as it is there.
    cabinet.activate(&name("a"), NOW).unwrap();
    cabinet.retire(&name("a"), NOW).unwrap();
    // Its record is still in DNS; that must not bring it back.
    cabinet.note_seen(&name("a"), NOW).unwrap();
    assert_eq!(states(&cabinet), [("a".to_owned(), State::Retired)]);
    cabinet.destroy(&name("a"), NOW).unwrap();
    assert!(matches!(
        cabinet.activate(&name("a"), NOW),
        Err(Fault::WrongState(_))
    ));
    cabinet.remove(&name("a")).unwrap();
    assert!(matches!(cabinet.remove(&name("a")), Err(Fault::NotFound)));
}

#[test]
fn selectors_are_made_up_and_keys_of_a_domain_are_bounded() {
    let home = tempfile::tempdir().unwrap();
    let cabinet = open(home.path());
    let made = |kind| {
        cabinet
            .create(DOMAIN, None, kind, NOW)
            .unwrap()
            .name
            .selector
    };
    assert_eq!(made(KeyKind::Ed25519), "e20270115");
    assert_eq!(made(KeyKind::Ed25519), "e20270115-2");
    assert_eq!(made(KeyKind::Rsa2048), "r20270115");
    for _ in 3..MAX_KEYS {
        made(KeyKind::Ed25519);
    }
    let more = cabinet.create(DOMAIN, None, KeyKind::Ed25519, NOW);
    assert!(matches!(more, Err(Fault::TooMany)));
    assert!(
        cabinet
            .create("b.example", None, KeyKind::Ed25519, NOW)
            .is_ok()
    );
    let (first, more) = cabinet.page(Some(DOMAIN), None, 10);
    assert!(first.len() == 10 && more);
    let last = name(&first[9].selector);
    let (rest, more) = cabinet.page(Some(DOMAIN), Some(&last), 10);
    assert!(rest.len() == MAX_KEYS - 10 && !more);
}

#[test]
fn only_one_may_hold_the_keys() {
    let home = tempfile::tempdir().unwrap();
    let _cabinet = open(home.path());
    let second = Cabinet::open(home.path(), NOW).unwrap_err();
    assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
}
