//! Random operations of several clients at once, with clean stops, crashes, kills, damage and edits by hand in between: the store
//! is always what a simple model in memory says.
//!
//! The clients ([`client`]) do the same in the store and in the model ([`state`]) and compare both at each SELECT ([`verify`]);
//! listeners keep a view of their own ([`view`]). Some rounds are done by a child process, which is killed (SIGKILL) in the middle
//! of its work: what it said to be acknowledged ([`pipe`]) must be there, what was under way is there wholly or not at all.
//! Between two processes files are edited by hand ([`by_hand`]), and damaged where nobody needs them ([`tamper`]). What this
//! found stands in [`found`] in its smallest form.
//!
//! | variable | meaning |
//! |---|---|
//! | `RMAIL_MODEL_ROUNDS` | how often the store is opened, 16 times if it is not set |
//! | `RMAIL_MODEL_SEED` | the seed that a failed run printed; without it each run is another one |

mod by_hand;
mod client;
mod found;
mod kept;
mod letter;
mod pipe;
mod state;
mod tamper;
mod verify;
mod view;

use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use self::client::Client;
use self::pipe::Line;
use self::state::{Change, Model, Saved, What};
use super::dice::Dice;
use super::{Owner, Selection, Store, clock};

/// Whose mail it is.
const OWNERS: [(&str, &str); 3] = [
    ("alice", "one.test"),
    ("bob", "one.test"),
    ("carol", "two.test"),
];
/// How many clients work at the same time.
const CLIENTS: usize = 4;
/// What each does in a round.
const STEPS: usize = 60;
/// How many operations are acknowledged at most before a process is killed.
const BEFORE_KILL: usize = 300;
/// A message shortly before the end of a shard.
const HIGH_UID: u32 = 900;
/// Tells a child process where the store is, and the seed of its work.
const CHILD: &str = "RMAIL_MODEL_CHILD";
const CHILD_SEED: &str = "RMAIL_MODEL_CHILD_SEED";
/// Where the child finds the model.
const SAVED: &str = "model.json";

fn owner(user: usize) -> Owner {
    let (local, domain) = OWNERS[user];
    Owner {
        local: local.into(),
        domain: domain.into(),
    }
}

fn user_name(user: usize) -> String {
    let (local, domain) = OWNERS[user];
    format!("{local}@{domain}")
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} must be a number"))
    })
}

#[test]
fn the_store_is_always_what_the_model_says() {
    let seed = number("RMAIL_MODEL_SEED", clock::micros());
    println!("RMAIL_MODEL_SEED={seed}");
    let temp = tempfile::tempdir().unwrap();
    let model = begin(temp.path());
    for round in 0..number("RMAIL_MODEL_ROUNDS", 16) {
        let mut dice = Dice::new(seed ^ round << 48);
        let mut under_way = Vec::new();
        if dice.once_in(2) {
            under_way = kill(temp.path(), &model, &mut dice);
            tamper::always(temp.path(), &mut dice);
        }
        println!("round {round}: the store is opened");
        let store = Store::open(temp.path()).unwrap();
        verify::all(&model, &store, &under_way);
        println!("  clients work");
        work(temp.path(), &store, &model, &mut dice);
        verify::all(&model, &store, &[]);
        let is_clean = dice.once_in(2);
        if is_clean {
            store.save();
        }
        drop(store);
        println!("  it stopped, clean: {is_clean}");
        forget_views(&model);
        if is_clean {
            tamper::when_clean(temp.path(), &model, &mut dice);
        }
        tamper::always(temp.path(), &mut dice);
    }
    let store = Store::open(temp.path()).unwrap();
    verify::all(&model, &store, &[]);
}

/// A store with its users, and what is known of it.
fn begin(directory: &Path) -> Model {
    let model = Model::new();
    let store = Store::open(directory).unwrap();
    for user in 0..OWNERS.len() {
        let (existing, subscribed) = verify::listing(&verify::user_of(&store, user));
        let made = existing.into_iter().map(|name| (name, What::Made(0)));
        let subscribed = subscribed
            .into_iter()
            .map(|name| (name, What::Subscribed(true)));
        let all = made.chain(subscribed);
        model.apply(
            all.map(|(folder, what)| Change { user, folder, what })
                .collect(),
        );
    }
    store.save();
    drop(store);
    let tree = model.trees[0].read().unwrap();
    let mut folder = tree.cell("INBOX").folder.lock().unwrap();
    let path = directory.join(by_hand::place(0, "INBOX"));
    by_hand::add_as(&path, &mut folder, HIGH_UID, model.next_number());
    drop(folder);
    drop(tree);
    model
}

/// Clients work in this process.
fn work(directory: &Path, store: &Store, model: &Model, dice: &mut Dice) {
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let dice = Dice::new(dice.roll());
            let mut client = Client {
                number,
                directory,
                store,
                model,
                dice,
                pipe: None,
            };
            scope.spawn(move || {
                for _ in 0..STEPS {
                    client.step();
                }
            });
        }
    });
}

/// Clients work in another process until it is killed. Gives what was under way.
fn kill(directory: &Path, model: &Model, dice: &mut Dice) -> Vec<Vec<Change>> {
    let saved = serde_json::to_vec(&model.save()).unwrap();
    std::fs::write(directory.join(SAVED), saved).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::model::a_child_process_to_be_killed"])
        .args(["--ignored", "--nocapture"])
        .env(CHILD, directory)
        .env(CHILD_SEED, dice.roll().to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut left = dice.below(BEFORE_KILL);
    let mut under_way: [Vec<Change>; CLIENTS] = Default::default();
    let mut is_killed = false;
    loop {
        if left == 0 && !is_killed {
            let moment = Duration::from_micros(dice.roll() % 5_000);
            std::thread::sleep(moment);
            child.kill().unwrap();
            is_killed = true;
        }
        match pipe::read(&mut lines) {
            Some(Line::Begun(client, changes)) => under_way[client] = changes,
            Some(Line::Done(client, changes)) => {
                under_way[client].clear();
                model.apply(changes);
                left = left.saturating_sub(1);
            }
            None => break,
        }
    }
    child.wait().unwrap();
    assert!(is_killed, "the child process found something");
    model.skip_numbers();
    println!("  a child process was killed; under way: {under_way:?}");
    under_way.into()
}

#[test]
#[ignore = "the model test runs it in a process of its own"]
fn a_child_process_to_be_killed() {
    let Some(directory) = std::env::var_os(CHILD) else {
        return;
    };
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
    let directory = Path::new(&directory);
    let saved = std::fs::read(directory.join(SAVED)).unwrap();
    let saved: Saved = serde_json::from_slice(&saved).unwrap();
    let model = Model::restore(saved);
    let store = Store::open(directory).unwrap();
    let pipe = pipe::Writer::default();
    let mut dice = Dice::new(number(CHILD_SEED, 0));
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let mut client = Client {
                number,
                directory,
                store: &store,
                model: &model,
                dice: Dice::new(dice.roll()),
                pipe: Some(&pipe),
            };
            scope.spawn(move || {
                loop {
                    client.step();
                }
            });
        }
    });
}

/// Listeners end with their process.
fn forget_views(model: &Model) {
    for tree in &model.trees {
        for cell in tree.read().unwrap().folders.values() {
            cell.views.lock().unwrap().clear();
        }
    }
}
