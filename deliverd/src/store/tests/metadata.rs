//! What users write down about mailboxes and accounts.

use ipc::metadata::{Annotation, AnnotationChange, MAX_BYTES, MAX_ENTRIES, MAX_VALUE};
use ipc::session::SpecialUse;

use super::*;

fn change(name: &str, value: Option<&[u8]>) -> AnnotationChange {
    AnnotationChange {
        name: name.to_owned(),
        value: value.map(Vec::from),
    }
}

fn listed(all: Vec<Annotation>) -> Vec<(String, Vec<u8>)> {
    let pairs = all.into_iter().map(|one| (one.name, one.value));
    pairs.collect()
}

fn of(world: &World, mailbox: &str) -> Vec<(String, Vec<u8>)> {
    listed(world.mailbox(mailbox).annotations().unwrap())
}

fn pair(name: &str, value: &[u8]) -> (String, Vec<u8>) {
    (name.to_owned(), value.to_vec())
}

#[test]
fn annotations_are_on_disk_readable_and_go_where_the_mailbox_goes() {
    let mut world = world();
    let user = world.user();
    user.create_mailbox(&name("work"), None).unwrap();
    let changes = vec![
        change("/private/comment", Some("für mich".as_bytes())),
        change("/shared/odd", Some(b"\xff\0")),
        change("/shared/bell", Some(b"\x07")),
        change("/shared/gone", Some(b"x")),
        change("/shared/gone", None),
    ];
    world.mailbox("work").annotate(changes).unwrap();
    let expected = [
        pair("/private/comment", "für mich".as_bytes()),
        pair("/shared/bell", b"\x07"),
        pair("/shared/odd", b"\xff\0"),
    ];
    assert_eq!(of(&world, "work"), expected);
    let text = std::fs::read_to_string(world.path("work/metadata.json")).unwrap();
    assert!(text.contains(r#""/private/comment": "für mich""#), "{text}");
    assert!(text.contains(r#""base64": "/wA=""#), "{text}");
    world.crash();
    world
        .user()
        .rename_mailbox(&name("work"), &name("play"))
        .unwrap();
    assert_eq!(of(&world, "play"), expected);
    assert!(world.user().create_mailbox(&name("work"), None).is_ok());
    assert_eq!(of(&world, "work"), []);
    let user = world.user();
    let play = world.mailbox("play");
    user.delete_mailbox(&name("play")).unwrap();
    assert_eq!(play.annotations(), Err(Refusal::NoSuchMailbox));
    let late = play.annotate(vec![change("/shared/a", Some(b"x"))]);
    assert_eq!(late, Err(Refusal::NoSuchMailbox));
    user.create_mailbox(&name("play"), None).unwrap();
    assert_eq!(of(&world, "play"), []);
    // Where nothing is left there is no file.
    world
        .mailbox("work")
        .annotate(vec![change("/shared/a", Some(b"x"))])
        .unwrap();
    world
        .mailbox("work")
        .annotate(vec![change("/shared/a", None)])
        .unwrap();
    assert!(!world.path("work/metadata.json").exists());
}

#[test]
fn there_are_no_more_than_agreed_and_all_changes_are_made_or_none() {
    let world = world();
    let inbox = world.inbox();
    let numbered = |number: usize, value| change(&format!("/shared/{number:03}"), Some(value));
    let many = (0..MAX_ENTRIES).map(|number| numbered(number, b"x"));
    inbox.annotate(many.collect()).unwrap();
    let before = of(&world, "INBOX");
    assert_eq!(before.len(), MAX_ENTRIES);
    let more = vec![numbered(0, b"y"), numbered(MAX_ENTRIES, b"x")];
    assert_eq!(inbox.annotate(more), Err(Refusal::OverQuota));
    assert_eq!(of(&world, "INBOX"), before);
    let instead = vec![change("/shared/000", None), numbered(MAX_ENTRIES, b"x")];
    inbox.annotate(instead).unwrap();
    // By size, too.
    let sent = world.mailbox("Sent");
    let large = vec![b'x'; MAX_VALUE];
    let count = MAX_BYTES / (MAX_VALUE + 11);
    let all: Vec<_> = (0..count).map(|number| numbered(number, &large)).collect();
    sent.annotate(all).unwrap();
    let too_much = vec![numbered(count, &large), numbered(count + 1, &large)];
    assert_eq!(sent.annotate(too_much), Err(Refusal::OverQuota));
    // What cannot be asked for.
    let long = vec![b'x'; MAX_VALUE + 1];
    for wrong in [
        vec![change("/shared/a", Some(&long))],
        vec![change("/shared/A", Some(b"x"))],
        vec![change("/public/a", Some(b"x"))],
        vec![change("/shared/a", None); MAX_ENTRIES + 1],
    ] {
        assert!(matches!(sent.annotate(wrong), Err(Refusal::Invalid(_))));
    }
}

#[test]
fn an_account_has_private_annotations_of_its_own() {
    let mut world = world();
    let user = world.user();
    user.annotate(vec![change("/private/comment", Some(b"x"))])
        .unwrap();
    let shared = user.annotate(vec![change("/shared/comment", Some(b"x"))]);
    assert!(matches!(shared, Err(Refusal::Invalid(_))));
    drop(user);
    world.crash();
    let user = world.user();
    let expected = [pair("/private/comment", b"x")];
    assert_eq!(listed(user.annotations().unwrap()), expected);
    assert_eq!(of(&world, "INBOX"), []);
    world.store().set_aside(&owner("alice")).unwrap();
    let late = user.annotate(vec![change("/private/comment", None)]);
    assert_eq!(late, Err(Refusal::NoSuchUser));
}

#[test]
fn what_a_mailbox_is_for_is_told_and_not_changed_that_way() {
    let world = world();
    assert_eq!(of(&world, "Sent"), [pair("/private/specialuse", b"\\Sent")]);
    let usage = vec![
        change("/shared/a", Some(b"x")),
        change("/private/specialuse", Some(b"\\Trash")),
    ];
    assert_eq!(
        world.mailbox("Sent").annotate(usage),
        Err(Refusal::NotPermitted)
    );
    assert_eq!(
        world.mailbox("Sent").special_use(),
        Ok(Some(SpecialUse::Sent))
    );
    assert!(!world.path("Sent/metadata.json").exists());
}

#[test]
fn f3_half_written_damaged_and_overgrown_files_do_no_harm() {
    let mut world = world();
    world.inbox();
    std::fs::write(world.path("INBOX/.metadata.json.new"), "{\"/sha").unwrap();
    std::fs::write(world.path("INBOX/metadata.json"), "{\"/sha").unwrap();
    world.crash();
    assert_eq!(of(&world, "INBOX"), []);
    world
        .inbox()
        .annotate(vec![change("/shared/a", Some(b"x"))])
        .unwrap();
    assert!(!world.path("INBOX/.metadata.json.new").exists());
    assert_eq!(of(&world, "INBOX"), [pair("/shared/a", b"x")]);
    // Written by hand: more than fits into an answer, names that are none, and a use that is not the mailbox's.
    let long = "x".repeat(MAX_VALUE);
    let by_hand = (0..8).map(|number| format!("\"/shared/{number}\":\"{long}\","));
    let by_hand: String = by_hand.collect();
    let text = format!(
        "{{{by_hand}\"/Shared/B\":\"x\",\"/private/specialuse\":\"\\\\Junk\",\"/private/a\":\"x\"}}"
    );
    std::fs::write(world.path("INBOX/metadata.json"), text).unwrap();
    let told = of(&world, "INBOX");
    assert_eq!(told[0], pair("/private/a", b"x"));
    let sizes = told.iter().map(|(name, value)| name.len() + value.len());
    assert!(sizes.sum::<usize>() <= MAX_BYTES && told.len() == 3);
    // It may become less, not more.
    let inbox = world.inbox();
    let more = vec![change("/shared/new", Some(b"x"))];
    assert_eq!(inbox.annotate(more), Err(Refusal::OverQuota));
    inbox.annotate(vec![change("/shared/0", None)]).unwrap();
}
