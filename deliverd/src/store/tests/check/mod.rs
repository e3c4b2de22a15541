//! The operator's tools: every kind of damage is made by hand, found, mended, and not found again, and the mail is the same.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use ipc::tools::{Deviation, Kind, Outcome, Remedy, Row, Scope, Seen, Work};

use super::super::check::{After, Order, Walker};
use super::*;

mod damage;
mod walks;

/// How the user is used while damage is made and mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Nobody opened it since the start.
    None,
    /// Its mailboxes are listed, none is in memory.
    Listed,
    /// Someone has INBOX selected.
    Selected,
}

/// Someone who has INBOX selected, and what was heard.
type Reader = (Arc<Mailbox>, Arc<Diary>);

const USES: [Use; 3] = [Use::None, Use::Listed, Use::Selected];
const INBOX: &str = "domains/example.test/users/alice/mailboxes/INBOX";
/// What is in INBOX, in the order of the UIDs.
const LETTERS: [&str; 3] = ["first", "second", "third"];

fn walk(store: &Store, work: Work, scope: &Scope) -> (Seen, Vec<Row>) {
    walk_from(store, work, scope, None, &|owner| owner.local == "alice")
}

fn walk_from(
    store: &Store,
    work: Work,
    scope: &Scope,
    from: Option<&str>,
    is_account: &dyn Fn(&Owner) -> bool,
) -> (Seen, Vec<Row>) {
    let is_account = |owner: &Owner| Ok(is_account(owner));
    let (mut seen, mut rows) = (Seen::default(), Vec::new());
    let mut after = from.map(str::to_owned);
    loop {
        // Each piece by a walker that knows nothing.
        let order = Order {
            work,
            scope,
            after: after.as_deref(),
            is_account: &is_account,
        };
        let piece = Walker::default().walk(store, &order).unwrap();
        seen.users += piece.seen.users;
        seen.mailboxes += piece.seen.mailboxes;
        seen.messages += piece.seen.messages;
        seen.bytes += piece.seen.bytes;
        seen.expunged_messages += piece.seen.expunged_messages;
        seen.expunged_bytes += piece.seen.expunged_bytes;
        rows.extend(piece.rows);
        match piece.after {
            After::Place(place) => after = Some(place),
            After::Tree(_) | After::Nothing => return (seen, rows),
        }
    }
}

fn deviations(store: &Store, work: Work) -> Vec<Deviation> {
    let (_, rows) = walk(store, work, &Scope::Everything);
    rows.into_iter()
        .map(|row| match row {
            Row::Deviation(deviation) => deviation,
            row => panic!("{row:?}"),
        })
        .collect()
}

fn kinds(deviations: &[Deviation]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = deviations.iter().map(|one| one.kind).collect();
    kinds.sort();
    kinds
}

/// A store with three letters in INBOX, and somebody who has it selected, if that is wanted.
fn used(how: Use) -> (World, Option<Reader>) {
    let mut world = world();
    for letter in LETTERS {
        world.append("INBOX", letter.as_bytes(), 0, &["work"]);
    }
    world.restart();
    let selected = match how {
        Use::None => None,
        Use::Listed => {
            world.user();
            None
        }
        Use::Selected => {
            let (inbox, diary) = (world.inbox(), Arc::new(Diary::default()));
            inbox
                .select(Arc::clone(&diary) as Arc<dyn Listener>)
                .unwrap();
            Some((inbox, diary))
        }
    };
    (world, selected)
}

fn letters(world: &World) -> Vec<String> {
    let inbox = world.inbox();
    let mut letters: Vec<String> = records(&inbox)
        .iter()
        .map(|record| String::from_utf8(read(&inbox, record.uid)).unwrap())
        .collect();
    letters.sort();
    letters
}

/// Makes damage, has it found and mended. `also` are letters the damage brought.
fn mends(kind: Kind, count: usize, also: &[&str], damage: impl Fn(&World)) {
    for how in USES {
        mends_while(how, kind, count, also, &damage);
    }
}

fn mends_while(how: Use, kind: Kind, count: usize, also: &[&str], damage: impl Fn(&World)) {
    let (world, _selected) = used(how);
    assert_eq!(deviations(world.store(), Work::Check), [], "{how:?}");
    damage(&world);
    let tree = all_files(&world.root());
    let found = deviations(world.store(), Work::Check);
    assert_eq!(kinds(&found), vec![kind; count], "{how:?} {found:?}");
    assert_eq!(all_files(&world.root()), tree, "a check changes nothing");
    assert!(found.iter().all(|one| one.outcome == Outcome::Found));
    let mended = deviations(world.store(), Work::Repair);
    assert_eq!(kinds(&mended), vec![kind; count], "{how:?} {mended:?}");
    for one in &mended {
        assert_eq!(one.outcome, Outcome::Mended, "{how:?} {one:?}");
    }
    assert_eq!(deviations(world.store(), Work::Check), [], "{how:?}");
    let mut expected: Vec<&str> = LETTERS.iter().chain(also).copied().collect();
    expected.sort_unstable();
    assert_eq!(letters(&world), expected, "{how:?}");
    assert_eq!(deviations(world.store(), Work::Check), [], "{how:?}");
}

/// Every file below a directory, its bytes and permissions.
fn all_files(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let stat = path.symlink_metadata().unwrap();
        let bytes = if stat.is_file() && !path.starts_with(root.join(".journal")) {
            std::fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        if stat.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
        found.insert(path, (stat.mode(), bytes));
    }
    found
}

/// A file as a message is, whole at once: it may be taken in at any time.
fn put(path: impl AsRef<Path>, text: &str) {
    let path = path.as_ref();
    let hidden = path.with_file_name(".put");
    std::fs::write(&hidden, text).unwrap();
    set_mode(&hidden, 0o440);
    std::fs::rename(hidden, path).unwrap();
}

/// Ends the work of other threads, also when an assertion fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn grow_old(path: impl AsRef<Path>) {
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let file = std::fs::File::open(path).unwrap();
    file.set_modified(long_ago).unwrap();
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A directory as the store makes it.
fn make_dir(path: impl AsRef<Path>) {
    std::fs::create_dir_all(&path).unwrap();
    set_mode(path, 0o700);
}

fn aside(world: &World) -> Vec<String> {
    files(&world.root().join(".aside"))
}
