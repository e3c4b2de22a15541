//! Clients that use a store at the same time and note what they were told.

use std::collections::{BTreeMap, BTreeSet};

use ipc::session::FlagChange;
use ipc::snapshot::flag;

use super::super::dice::Dice;
use super::super::{FlagOrder, Owner, Store, ranges};
use super::ledger::{Change, Ledger, Message, Messages, Operation, Place};
use super::recorded_disk::{Acknowledgements, RecordedDisk};
use super::survey::{self, inbox_of, owner_of};
use super::{MAILBOXES, OWNERS};

/// How many clients there are at the same time.
const CLIENTS: usize = 4;
/// The store is opened so many times.
const ROUNDS: usize = 2;
/// What each client does in a round.
const OPERATIONS: usize = 45;
/// Flags that come and go; `\Deleted` is only set on what is removed next.
const FLAGS: [u8; 4] = [flag::SEEN, flag::ANSWERED, flag::FLAGGED, flag::DRAFT];
const KEYWORDS: [&str; 5] = ["$Forwarded", "work", "later", "$Junk", "x"];

/// What all clients did, and the UIDVALIDITY of each mailbox that came to be.
pub(super) struct Workload {
    pub(super) ledgers: Vec<Ledger>,
    pub(super) uid_validity: BTreeMap<usize, u32>,
}

/// One client.
struct Client<'a> {
    number: u64,
    store: &'a Store,
    dice: Dice,
    acknowledgements: Acknowledgements,
    ledger: Ledger,
    /// What is in its mailboxes now.
    messages: Messages,
}

impl Workload {
    /// Lets the clients work on a store on `disk`. `made_by_hand` is there already.
    pub(super) fn run(disk: &RecordedDisk, made_by_hand: Messages, seed: u64) -> Self {
        let mut ledgers: Vec<Ledger> = (0..CLIENTS).map(|_| Ledger::default()).collect();
        ledgers[0].start = made_by_hand;
        let mut uid_validity = BTreeMap::new();
        for round in 0..ROUNDS {
            let store = Store::open(disk.path()).unwrap();
            ledgers = std::thread::scope(|scope| {
                let store = &store;
                let clients: Vec<_> = (0..)
                    .zip(ledgers.drain(..))
                    .map(|(number, ledger)| {
                        let acknowledgements = disk.acknowledgements(number).unwrap();
                        let number = number as u64;
                        let dice = Dice::new(seed ^ (round as u64) << 32 ^ number << 40);
                        scope.spawn(move || {
                            Client::new(number, store, dice, acknowledgements, ledger).work()
                        })
                    })
                    .collect();
                let ledgers = clients.into_iter().map(|client| client.join().unwrap());
                ledgers.collect()
            });
            uid_validity = survey::uid_validity(&store).unwrap();
        }
        Self {
            ledgers,
            uid_validity,
        }
    }
}

impl<'a> Client<'a> {
    fn new(
        number: u64,
        store: &'a Store,
        dice: Dice,
        acknowledgements: Acknowledgements,
        ledger: Ledger,
    ) -> Self {
        Self {
            number,
            store,
            dice,
            acknowledgements,
            messages: ledger.after(ledger.operations.len()),
            ledger,
        }
    }

    fn work(mut self) -> Ledger {
        for _ in 0..OPERATIONS {
            match self.dice.below(18) {
                0..=3 => self.deliver(1),
                4..=5 => self.deliver(2),
                6 => self.deliver(OWNERS.len()),
                7..=8 => self.append(),
                16..=17 => self.append_together(),
                9..=11 => self.change_flags(),
                12 => self.expunge(),
                13 => self.copy(),
                _ => self.move_away(),
            }
        }
        self.ledger
    }

    /// The store said that an operation is done: first the disk hears of it, then `changes` finds out what it did.
    fn acknowledged(&mut self, changes: impl FnOnce(&Self) -> Vec<Change>) {
        self.acknowledgements
            .write(self.ledger.operations.len() + 1)
            .unwrap();
        let changes = changes(self);
        let is_whole = false;
        let operation = Operation { changes, is_whole };
        operation.apply(&mut self.messages);
        self.ledger.operations.push(operation);
    }

    /// A message came; the client asks what it is known by.
    fn puts(&self, place: Place, message: Message) -> Change {
        let ids = survey::ids(self.store, place).unwrap();
        Change::puts(place, message.known_by(ids))
    }

    fn new_number(&self) -> u64 {
        self.number << 32 | self.ledger.operations.len() as u64
    }

    fn deliver(&mut self, recipients: usize) {
        let number = self.new_number();
        let first = self.dice.below(OWNERS.len());
        let recipients: Vec<usize> = (0..recipients)
            .map(|at| (first + at) % OWNERS.len())
            .collect();
        let owners: Vec<Owner> = recipients.iter().map(|at| owner_of(*at)).collect();
        let incoming = survey::incoming(self.store, number).unwrap();
        self.store.deliver(incoming, &owners).unwrap();
        self.acknowledged(|client| {
            let places = recipients.into_iter().map(|owner| {
                let inbox = inbox_of(owner);
                survey::find(client.store, inbox, number).unwrap()
            });
            let message = Message::new(number, 0, BTreeSet::new());
            places
                .map(|place| client.puts(place, message.clone()))
                .collect()
        });
    }

    fn append(&mut self) {
        let number = self.new_number();
        let message = Message::new(number, self.some_flags(), self.some_keywords());
        let mailbox = self.dice.below(MAILBOXES);
        let uid = survey::append(self.store, mailbox, &message).unwrap();
        let place = Place { mailbox, uid };
        self.acknowledged(|client| vec![client.puts(place, message)]);
    }

    fn append_together(&mut self) {
        let mailbox = self.dice.below(MAILBOXES);
        let count = 2 + self.dice.below(4) as u64;
        let messages: Vec<Message> = (0..count)
            .map(|at| {
                let number = self.new_number() | (at + 1) << 20;
                Message::new(number, self.some_flags(), self.some_keywords())
            })
            .collect();
        let uids = survey::append_together(self.store, mailbox, &messages).unwrap();
        self.acknowledged(|client| {
            let puts = uids.into_iter().zip(messages);
            puts.map(|(uid, message)| client.puts(Place { mailbox, uid }, message))
                .collect()
        });
        if let Some(last) = self.ledger.operations.last_mut() {
            last.is_whole = true;
        }
    }

    fn change_flags(&mut self) {
        let Some((mailbox, uids)) = self.some_messages() else {
            return;
        };
        let change = self
            .dice
            .choose(&[FlagChange::Add, FlagChange::Remove, FlagChange::Replace]);
        let (flags, keywords) = (self.some_flags(), self.some_keywords());
        self.store_flags(mailbox, &uids, change, flags, &keywords);
    }

    fn store_flags(
        &mut self,
        mailbox: usize,
        uids: &[u32],
        change: FlagChange,
        flags: u8,
        keywords: &BTreeSet<String>,
    ) {
        let order = FlagOrder {
            change,
            flags,
            keywords: keywords.iter().cloned().collect(),
            unchanged_since: None,
            heard: u64::MAX,
        };
        survey::mailbox(self.store, mailbox)
            .and_then(|mailbox| mailbox.store_flags(&ranges(uids), &order))
            .unwrap();
        self.acknowledged(|client| {
            let changes = uids.iter().map(|&uid| {
                let place = Place { mailbox, uid };
                let mut message = client.messages[&place].clone();
                match change {
                    FlagChange::Add => {
                        message.flags |= flags;
                        message.keywords.extend(keywords.iter().cloned());
                    }
                    FlagChange::Remove => {
                        message.flags &= !flags;
                        message.keywords.retain(|word| !keywords.contains(word));
                    }
                    FlagChange::Replace => {
                        message.flags = flags;
                        message.keywords.clone_from(keywords);
                    }
                }
                Change::puts(place, message)
            });
            changes.collect()
        });
    }

    fn expunge(&mut self) {
        let Some((mailbox, uids)) = self.some_messages() else {
            return;
        };
        self.store_flags(
            mailbox,
            &uids,
            FlagChange::Add,
            flag::DELETED,
            &BTreeSet::new(),
        );
        survey::mailbox(self.store, mailbox)
            .and_then(|mailbox| mailbox.expunge(Some(&ranges(&uids))))
            .unwrap();
        self.acknowledged(|_| {
            let places = uids.into_iter().map(|uid| Place { mailbox, uid });
            places.map(Change::removes).collect()
        });
    }

    fn copy(&mut self) {
        self.transfer(false);
    }

    fn move_away(&mut self) {
        self.transfer(true);
    }

    /// To another mailbox of the same owner, or the same mailbox.
    fn transfer(&mut self, moves: bool) {
        let Some((mailbox, uids)) = self.some_messages() else {
            return;
        };
        let per_owner = MAILBOXES / OWNERS.len();
        let target = mailbox / per_owner * per_owner + self.dice.below(per_owner);
        let uids = ranges(&uids);
        let [source, to] = [mailbox, target].map(|at| survey::mailbox(self.store, at).unwrap());
        let transfer = if moves {
            source.move_to(&uids, &to)
        } else {
            source.copy(&uids, &to)
        };
        let transfer = transfer.unwrap();
        self.acknowledged(|client| {
            let pairs = transfer.source.into_iter().zip(transfer.target);
            let changes = pairs.flat_map(|(from, uid)| {
                let from = Place { mailbox, uid: from };
                let to = Place {
                    mailbox: target,
                    uid,
                };
                let message = &client.messages[&from];
                let comes = if moves {
                    message.clone()
                } else {
                    message.copy()
                };
                let comes = client.puts(to, comes);
                [Some(comes), moves.then(|| Change::moves(from, to))]
            });
            changes.flatten().collect()
        });
    }

    /// Up to five of the client's messages in one mailbox, ascending.
    fn some_messages(&mut self) -> Option<(usize, Vec<u32>)> {
        let places: Vec<Place> = self.messages.keys().copied().collect();
        if places.is_empty() {
            return None;
        }
        let mailbox = self.dice.choose(&places).mailbox;
        let mut uids: Vec<u32> = places
            .iter()
            .filter(|place| place.mailbox == mailbox)
            .map(|place| place.uid)
            .collect();
        let count = 1 + self.dice.below(5);
        while uids.len() > count {
            uids.remove(self.dice.below(uids.len()));
        }
        Some((mailbox, uids))
    }

    fn some_flags(&mut self) -> u8 {
        FLAGS
            .iter()
            .filter(|_| self.dice.below(2) == 0)
            .fold(0, |flags, flag| flags | flag)
    }

    fn some_keywords(&mut self) -> BTreeSet<String> {
        KEYWORDS
            .iter()
            .filter(|_| self.dice.below(4) == 0)
            .map(|word| (*word).to_owned())
            .collect()
    }
}
