//! A workload on a recorded disk, and what power cuts at any moment of it leave.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::super::Store;
use super::super::dice::Dice;
use super::ledger::{Message, Messages, Place};
use super::recorded_disk::{DISK_SIZE, FileSystem, RecordedDisk, Recording};
use super::seclusion::skip;
use super::verdict::{self, Found, Loss};
use super::workload::Workload;
use super::write_log::{Cut, Flushes};
use super::{FOLDERS, OWNERS, letter, survey};

/// A UID shortly before the end of a shard, of a message that was put there by hand: the workload goes on in the next shard.
const UID_BY_HAND: u32 = 985;
/// Numbers no client gives to a message.
const NUMBER_BY_HAND: u64 = u64::MAX;
const NUMBER_AFTERWARDS: u64 = u64::MAX - 1;

/// What the environment asks for.
pub(super) struct Settings {
    pub(super) cuts: usize,
    file_system: FileSystem,
    pub(super) seed: u64,
    /// Where to keep the disk of the first cut that lost something.
    image: Option<PathBuf>,
}

impl Settings {
    fn read() -> Self {
        let number = |name: &str, default: u64| {
            std::env::var(name).map_or(default, |text| {
                text.parse()
                    .unwrap_or_else(|_| panic!("{name} must be a number"))
            })
        };
        let file_system = match std::env::var("RMAIL_POWER_CUT_FILE_SYSTEM").as_deref() {
            Err(_) | Ok("ext4") => FileSystem::Ext4,
            Ok("ext4-fast-commit") => FileSystem::Ext4FastCommit,
            Ok("xfs") => FileSystem::Xfs,
            Ok(other) => panic!("RMAIL_POWER_CUT_FILE_SYSTEM: {other} is not known here"),
        };
        Self {
            cuts: usize::try_from(number("RMAIL_POWER_CUTS", 60)).unwrap(),
            file_system,
            seed: number("RMAIL_POWER_CUT_SEED", 1),
            image: std::env::var_os("RMAIL_POWER_CUT_IMAGE").map(PathBuf::from),
        }
    }
}

/// A workload, and all that happened on its disk meanwhile.
pub(super) struct Experiment {
    pub(super) settings: Settings,
    recording: Recording,
    workload: Workload,
}

impl Experiment {
    /// `None`, with a printed reason, where this machine cannot do it.
    pub(super) fn run() -> Option<Self> {
        let settings = Settings::read();
        let made = RecordedDisk::new(settings.file_system, make_by_hand);
        let disk = made.map_err(|reason| skip(&reason)).ok()?;
        let begun = Instant::now();
        let workload = Workload::run(&disk, made_by_hand(), settings.seed);
        let duration = begun.elapsed();
        let recording = disk.finish().unwrap();
        let operations: Vec<usize> = workload
            .ledgers
            .iter()
            .map(|ledger| ledger.operations.len())
            .collect();
        let (entries, flushes) = recording.log.len();
        println!(
            "{:?}, seed {}: {} operations in {duration:.1?}, {entries} entries in the log, {flushes} of them flushes",
            settings.file_system,
            settings.seed,
            operations.iter().sum::<usize>()
        );
        assert_eq!(recording.log.acknowledged(), operations);
        Some(Self {
            settings,
            recording,
            workload,
        })
    }

    /// Cuts the power at many moments and names what was lost.
    pub(super) fn cut(&self, flushes: Flushes, count: usize) -> Vec<(String, Loss)> {
        let begun = Instant::now();
        let mut losses = Vec::new();
        for cut in self.cuts(flushes, count) {
            losses.extend(self.losses(&cut, &cut.acknowledged, &self.recording));
        }
        println!(
            "{count} power cuts in {:.1?}: {} losses",
            begun.elapsed(),
            losses.len()
        );
        losses
    }

    /// Cuts the power at many moments.
    pub(super) fn cuts(&self, flushes: Flushes, count: usize) -> impl Iterator<Item = Cut> {
        let base = self.recording.base.clone();
        let dice = Dice::new(self.settings.seed);
        let cuts = self.recording.log.cuts(base, flushes, count, dice);
        cuts.map(Result::unwrap)
    }

    /// What a power cut lost, of a disk that `recording` is about.
    pub(super) fn losses(
        &self,
        cut: &Cut,
        acknowledged: &[usize],
        recording: &Recording,
    ) -> Vec<(String, Loss)> {
        let losses = recording
            .mount(&cut.image)
            .and_then(|mount| self.losses_in(mount.path(), acknowledged))
            .unwrap_or_else(|why| vec![Loss::Unusable(why)]);
        if let Some(path) = &self.settings.image
            && !losses.is_empty()
            && !path.exists()
        {
            cut.image.write(path, DISK_SIZE).unwrap();
        }
        let Cut {
            after, survival, ..
        } = cut;
        let moment = format!("after entry {after} ({survival:?}, acknowledged {acknowledged:?})");
        losses
            .into_iter()
            .map(|loss| (moment.clone(), loss))
            .collect()
    }

    /// What is lost in a store that is opened after a power cut, used, and opened again. An error if it cannot be used.
    fn losses_in(&self, directory: &Path, acknowledged: &[usize]) -> Result<Vec<Loss>, String> {
        let explain = |refusal| format!("{refusal:?}");
        let Workload {
            ledgers,
            uid_validity,
        } = &self.workload;
        let store = Store::open(directory)?;
        let mut found = survey::findings(&store).map_err(explain)?;
        let mut losses = verdict::losses(ledgers, acknowledged, &found);
        losses.extend(survey::torn(directory).into_iter().map(Loss::Kept));
        let now = survey::uid_validity(&store).map_err(explain)?;
        let message = Message::new(NUMBER_AFTERWARDS, 0, BTreeSet::new());
        for (mailbox, highest) in verdict::highest_uids(ledgers, acknowledged) {
            if now[&mailbox] != uid_validity[&mailbox] {
                losses.push(Loss::UidValidity(mailbox));
            }
            let uid = survey::append(&store, mailbox, &message).map_err(explain)?;
            let place = Place { mailbox, uid };
            if uid <= highest {
                losses.push(Loss::Uid(place));
            }
            let (id, email_id) = survey::ids(&store, place).map_err(explain)?;
            let new = Found {
                number: Some(NUMBER_AFTERWARDS),
                flags: 0,
                keywords: BTreeSet::new(),
                id,
                email_id,
            };
            found.insert(place, new);
        }
        losses.extend(verdict::twice(&found).map(|(first, second)| Loss::Twice(first, second)));
        drop(store);
        let again = survey::findings(&Store::open(directory)?).map_err(explain)?;
        losses.extend(verdict::differences(&found, &again));
        Ok(losses)
    }
}

/// A user whose mailboxes were made by hand.
fn make_by_hand(root: &Path) -> io::Result<()> {
    let (local, domain) = OWNERS[0];
    let mailboxes = root.join(format!(
        "mailstore/domains/{domain}/users/{local}/mailboxes"
    ));
    for (uid_validity, folder) in (1_700_000_000..).zip(FOLDERS) {
        std::fs::create_dir_all(mailboxes.join(folder).join("0000"))?;
        std::fs::write(
            mailboxes.join(folder).join("status.json"),
            format!(r#"{{"uid_validity": {uid_validity}, "uid_next": 1}}"#),
        )?;
    }
    let file = format!("INBOX/0000/{UID_BY_HAND:08}_.eml");
    std::fs::write(mailboxes.join(file), letter::bytes_of(NUMBER_BY_HAND))
}

fn made_by_hand() -> Messages {
    let place = Place {
        mailbox: 0,
        uid: UID_BY_HAND,
    };
    let message = Message::new(NUMBER_BY_HAND, 0, BTreeSet::new());
    Messages::from([(place, message)])
}
