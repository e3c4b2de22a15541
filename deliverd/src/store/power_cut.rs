//! What a power cut leaves of the store: every write to a real file system is recorded, replayed up to random moments, and what
//! clients were told by then must be there.
//!
//! Clients use a store on a disk that records ([`recorded_disk`], [`workload`]). After each operation that the store acknowledged
//! they write its number behind the file system, so that it stands in the same log. The log says what a cut at any moment can
//! leave ([`write_log`]); that is mounted, the store opened, and compared with what the clients noted ([`ledger`], [`verdict`]).
//!
//! This needs root, FUSE, loop devices and the programs of `tests/PACKAGES`; without them the tests say that they skip.
//!
//! | variable | meaning |
//! |---|---|
//! | `RMAIL_POWER_CUTS` | how many cuts, 60 if it is not set |
//! | `RMAIL_POWER_CUT_FILE_SYSTEM` | `ext4` (if it is not set), `ext4-fast-commit` or `xfs` |
//! | `RMAIL_POWER_CUT_SEED` | another number is another workload and other cuts |
//! | `RMAIL_POWER_CUT_IMAGE` | a file for the disk as the first cut left it that lost something |
//! | `RMAIL_REQUIRE_POWER_CUTS` | if set, these tests fail where they would skip |

mod experiment;
mod image;
pub(super) mod ledger;
pub(super) mod letter;
pub(super) mod recorded_disk;
pub(super) mod seclusion;
pub(super) mod survey;
pub(super) mod verdict;
mod workload;
mod write_log;

use self::experiment::Experiment;
use self::recorded_disk::RecordedDisk;
use self::seclusion::secluded;
use self::verdict::Loss;
use self::write_log::Flushes;
use super::Store;
use super::dice::Dice;

/// Whose mail it is; recipients of one domain share a file.
pub(super) const OWNERS: [(&str, &str); 4] = [
    ("alice", "one.test"),
    ("bob", "one.test"),
    ("carol", "two.test"),
    ("dave", "two.test"),
];
/// The mailboxes of each.
pub(super) const FOLDERS: [&str; 3] = ["INBOX", "Archive", "Trash"];
/// The mailboxes are numbered, those of one owner in a row.
pub(super) const MAILBOXES: usize = OWNERS.len() * FOLDERS.len();
/// How many cuts the tests make that must find losses.
const CONTROL_CUTS: usize = 20;
/// How many writes a disk that ignores flushes may lose.
const CACHED_WRITES: usize = 200;
/// A command that makes each fsync of another command a success that does nothing.
const WITHOUT_FLUSHES: [&str; 9] = [
    "strace",
    "-f",
    "--seccomp-bpf",
    "-qqq",
    "-o",
    "/dev/null",
    "-e",
    "trace=fsync,fdatasync",
    "--inject=fsync,fdatasync:retval=0",
];
/// How many recoveries are recorded to cut the power in them.
const RECOVERIES: usize = 4;
/// So many losses are named in full.
const NAMED: usize = 20;

fn assert_nothing_is_lost(losses: &[(String, Loss)]) {
    let named: String = losses
        .iter()
        .take(NAMED)
        .map(|(moment, loss)| format!("{moment}: {loss}\n"))
        .collect();
    assert!(losses.is_empty(), "{} losses:\n{named}", losses.len());
}

#[test]
fn no_power_cut_loses_what_was_acknowledged() {
    secluded(no_power_cut_loses_what_was_acknowledged, &[], || {
        let Some(experiment) = Experiment::run() else {
            return;
        };
        let count = experiment.settings.cuts;
        assert_nothing_is_lost(&experiment.cut(Flushes::Honoured, count));
    });
}

#[test]
fn no_power_cut_while_the_store_recovers_from_another_loses_what_was_acknowledged() {
    let test = no_power_cut_while_the_store_recovers_from_another_loses_what_was_acknowledged;
    secluded(test, &[], || {
        let Some(experiment) = Experiment::run() else {
            return;
        };
        let count = experiment.settings.cuts / RECOVERIES;
        let mut losses = Vec::new();
        for first in experiment.cuts(Flushes::Honoured, RECOVERIES) {
            let disk = RecordedDisk::with_content(first.image).unwrap();
            drop(survey::findings(&Store::open(disk.path()).unwrap()).unwrap());
            let recovery = disk.finish().unwrap();
            let dice = Dice::new(experiment.settings.seed);
            let base = recovery.base.clone();
            for second in recovery.log.cuts(base, Flushes::Honoured, count, dice) {
                let acknowledged = &first.acknowledged;
                losses.extend(experiment.losses(&second.unwrap(), acknowledged, &recovery));
            }
        }
        assert_nothing_is_lost(&losses);
    });
}

#[test]
fn on_a_disk_that_ignores_flushes_the_same_test_finds_lost_messages_and_flags() {
    let test = on_a_disk_that_ignores_flushes_the_same_test_finds_lost_messages_and_flags;
    secluded(test, &[], || {
        let Some(experiment) = Experiment::run() else {
            return;
        };
        let losses = experiment.cut(Flushes::Ignored(CACHED_WRITES), CONTROL_CUTS);
        let has = |is: fn(&Loss) -> bool| losses.iter().any(|(_, loss)| is(loss));
        assert!(has(|loss| matches!(loss, Loss::Message(..))));
        assert!(has(|loss| matches!(loss, Loss::Flags(..))));
    });
}

#[test]
fn where_the_system_does_not_flush_the_same_test_finds_lost_messages() {
    let test = where_the_system_does_not_flush_the_same_test_finds_lost_messages;
    secluded(test, &WITHOUT_FLUSHES, || {
        let Some(experiment) = Experiment::run() else {
            return;
        };
        let losses = experiment.cut(Flushes::Honoured, CONTROL_CUTS);
        assert!(
            losses
                .iter()
                .any(|(_, loss)| matches!(loss, Loss::Message(..)))
        );
    });
}
