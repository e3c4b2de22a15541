//! All at once: eight threads, each with a client of its own, on the same mailboxes. What they do to one another is not known, so less can be
//! said of single responses; but each removes only what it brought, and has a keyword that nobody else sets, so in the end it is known what
//! must be there, and what each client believes must be that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;

use super::dice::Dice;
use super::session::{Answer, Awareness, May, Selected, Session, Slot, parse};
use super::steps::SESSIONS;
use super::wire::{self, Flags, Line, numbers};

const NAMES: [&str; 2] = ["INBOX", "Work"];
/// More messages than these are not brought by one client.
const MANY: usize = 40;

/// What all threads know.
#[derive(Default)]
struct Shared {
    /// UIDs that were given, by mailbox.
    given: Mutex<BTreeSet<(String, u32)>>,
    errors: Mutex<Vec<String>>,
}

impl Shared {
    fn give(&self, name: &str, uid: u32) -> Result<(), String> {
        if self.given.lock().unwrap().insert((name.to_owned(), uid)) {
            Ok(())
        } else {
            Err(format!("UID {uid} of {name} was given twice"))
        }
    }
}

struct Member<'a> {
    session: Session,
    keyword: String,
    dice: Dice,
    shared: &'a Shared,
    /// What it brought and did not remove.
    mine: BTreeSet<(String, u32)>,
    removed: BTreeSet<(String, u32)>,
    /// Where it set its keyword last, and took it away.
    marked: BTreeMap<(String, u32), bool>,
}

/// `steps` of each client. The mailboxes are empty before.
pub(crate) fn all_at_once(address: SocketAddr, seed: u64, steps: usize) -> Result<(), String> {
    let mut first = Session::log_in(address, 0);
    first.is_witness = true;
    first.run("CREATE Work", May::ALL, None)?.ok()?;
    let shared = Shared::default();
    let mut members: Vec<Member<'_>> = (0..SESSIONS)
        .map(|number| Member {
            session: Session::log_in(address, 0),
            keyword: format!("mark{number}"),
            dice: Dice::new(seed * 100 + number as u64),
            shared: &shared,
            mine: BTreeSet::new(),
            removed: BTreeSet::new(),
            marked: BTreeMap::new(),
        })
        .collect();
    std::thread::scope(|scope| {
        for (number, member) in members.iter_mut().enumerate() {
            scope.spawn(move || {
                for step in 0..steps {
                    if !member.shared.errors.lock().unwrap().is_empty() {
                        return;
                    }
                    if let Err(error) = member.step() {
                        let transcript = member.session.transcript(usize::MAX);
                        let error =
                            format!("{transcript}\n--- client {number}, step {step}: {error}");
                        member.shared.errors.lock().unwrap().push(error);
                    }
                }
            });
        }
    });
    if let Some(error) = shared.errors.lock().unwrap().first() {
        return Err(error.clone());
    }
    let mut truth = BTreeMap::new();
    for name in NAMES {
        truth.insert(name, contents(&mut first, name)?);
    }
    for (number, member) in members.iter_mut().enumerate() {
        member.check(&truth).map_err(|error| {
            let transcript = member.session.transcript(usize::MAX);
            format!("{transcript}\n--- client {number} in the end: {error}")
        })?;
    }
    let gone: BTreeSet<&(String, u32)> = members.iter().flat_map(|one| &one.removed).collect();
    for (name, uid) in shared.given.lock().unwrap().iter() {
        let is_there = truth[name.as_str()].contains_key(uid);
        if is_there == gone.contains(&(name.clone(), *uid)) {
            return Err(format!(
                "UID {uid} of {name}: {is_there}, and it should not be so"
            ));
        }
    }
    Ok(())
}

/// Flags and MODSEQs by UID, as who has just come sees them.
fn contents(session: &mut Session, name: &str) -> Result<BTreeMap<u32, (Flags, u64)>, String> {
    session
        .run(&format!("EXAMINE {name}"), May::ALL, None)?
        .ok()?;
    let answer = session
        .run("UID FETCH 1:* (FLAGS MODSEQ)", May::ALL, None)?
        .ok()?;
    let told = answer.lines.iter().filter_map(|line| match line {
        Line::Fetch(_, items) => Some(items),
        _ => None,
    });
    told.map(|items| {
        let modseq = parse(&items["MODSEQ"])?;
        Ok((
            parse(&items["UID"])?,
            (wire::flags(&items["FLAGS"]), modseq),
        ))
    })
    .collect()
}

impl Member<'_> {
    fn say(&mut self, command: &str, may: May) -> Result<Answer, String> {
        self.session.run(command, may, None)
    }

    fn name(&self) -> String {
        self.session.selected.as_ref().unwrap().name.clone()
    }

    fn view(&self) -> &[Slot] {
        &self.session.selected.as_ref().unwrap().view
    }

    /// Those it may remove in the selected mailbox, of which it was told.
    fn own(&mut self) -> Vec<u32> {
        let name = self.name();
        let told = self.view().iter().filter_map(|slot| slot.uid);
        let told: Vec<u32> = told.collect();
        let is_mine = |uid: &u32| self.mine.contains(&(name.clone(), *uid));
        let own: Vec<u32> = told.into_iter().filter(is_mine).collect();
        let some = own.len().min(3);
        own[..self.dice.below(some + 1)].to_vec()
    }

    fn step(&mut self) -> Result<(), String> {
        if self.session.selected.is_none() {
            return self.select();
        }
        let count = self.view().len();
        match self.dice.below(40) {
            0 => self.select(),
            1 => {
                let (word, level) = *self.dice.pick(&[
                    ("CONDSTORE", Awareness::CondStore),
                    ("QRESYNC", Awareness::QResync),
                ]);
                self.session.awareness = self.session.awareness.max(level);
                self.say(&format!("ENABLE {word}"), May::ALL)?.ok()?;
                Ok(())
            }
            2..=9 if self.mine.len() < MANY => self.append(),
            10..=12 => self.copy_or_move("MOVE"),
            13..=14 if self.mine.len() < MANY => self.copy_or_move("COPY"),
            15..=18 => self.expunge(),
            19..=21 => {
                self.say("NOOP", May::ALL)?.ok()?;
                Ok(())
            }
            22..=24 => self.idle(),
            _ if count == 0 => self.append(),
            25..=29 => self.mark(),
            30..=34 => self.store_any(),
            _ => self.look(),
        }?;
        self.name_new()
    }

    /// What is new gets its UIDs.
    fn name_new(&mut self) -> Result<(), String> {
        let unknown = self.view().iter().position(|slot| slot.uid.is_none());
        if let Some(first) = unknown {
            let may = May {
                expunge: false,
                fetch: true,
            };
            self.say(&format!("FETCH {}:* (UID)", first + 1), may)?
                .ok()?;
        }
        Ok(())
    }

    fn select(&mut self) -> Result<(), String> {
        let name = *self.dice.pick(&NAMES);
        self.session.selected = Some(Selected {
            name: name.into(),
            generation: 0,
            validity: 0,
            read_only: false,
            view: Vec::new(),
            known_up_to: 0,
            highest_told: 0,
            permanent: Flags::new(),
            is_unsure: false,
        });
        self.say(&format!("SELECT {name}"), May::ALL)?.ok()?;
        self.name_new()
    }

    fn append(&mut self) -> Result<(), String> {
        let name = *self.dice.pick(&NAMES);
        let text = "Subject: x\r\n\r\nx\r\n";
        let size = text.len();
        let answer = self
            .say(&format!("APPEND {name} {{{size}+}}\r\n{text}"), May::ALL)?
            .ok()?;
        let (_, value) = answer.code();
        let (_, uid) = value.split_once(' ').ok_or("no APPENDUID")?;
        self.take_in(name, &[parse(uid)?])
    }

    fn take_in(&mut self, name: &str, uids: &[u32]) -> Result<(), String> {
        for uid in uids {
            self.shared.give(name, *uid)?;
            self.mine.insert((name.to_owned(), *uid));
        }
        Ok(())
    }

    fn leave(&mut self, name: &str, uids: &[u32]) {
        for uid in uids {
            self.mine.remove(&(name.to_owned(), *uid));
            self.removed.insert((name.to_owned(), *uid));
        }
    }

    fn copy_or_move(&mut self, word: &str) -> Result<(), String> {
        let (name, own) = (self.name(), self.own());
        let to = *self.dice.pick(&NAMES);
        if own.is_empty() {
            return Ok(());
        }
        let answer = self
            .say(&format!("UID {word} {} {to}", set(&own)), May::ALL)?
            .ok()?;
        let told = match word {
            "MOVE" => answer.codes.get("COPYUID").cloned(),
            _ => Some(answer.code().1),
        };
        let told = told.ok_or("no COPYUID")?;
        let mut words = told.split(' ').skip(1);
        let mut uids = || words.next().and_then(numbers).ok_or("no COPYUID");
        let (source, target) = (uids()?, uids()?);
        if source != own || target.len() != own.len() {
            return Err(format!("COPYUID {told}, not of {own:?}"));
        }
        if word == "MOVE" {
            self.leave(&name, &own);
        }
        self.take_in(to, &target)
    }

    fn expunge(&mut self) -> Result<(), String> {
        let (name, own) = (self.name(), self.own());
        if own.is_empty() {
            return Ok(());
        }
        self.say(
            &format!("UID STORE {} +FLAGS.SILENT (\\Deleted)", set(&own)),
            May::ALL,
        )?
        .ok()?;
        self.forget_belief(&own);
        self.leave(&name, &own);
        let command = match self.dice.chance(50) {
            true => "EXPUNGE".into(),
            false => format!("UID EXPUNGE {}", set(&own)),
        };
        self.say(&command, May::ALL)?.ok()?;
        let left = self
            .view()
            .iter()
            .find(|slot| slot.uid.is_some_and(|uid| own.contains(&uid)));
        left.map_or(Ok(()), |slot| {
            Err(format!("{slot:?} was expunged and is not told"))
        })
    }

    /// They are about to go.
    fn forget_belief(&mut self, uids: &[u32]) {
        for slot in &mut self.session.selected.as_mut().unwrap().view {
            if slot.uid.is_some_and(|uid| uids.contains(&uid)) {
                (slot.flags, slot.modseq) = (None, None);
            }
        }
    }

    fn idle(&mut self) -> Result<(), String> {
        let tag = self.session.begin("IDLE")?;
        let mut answer = Answer::default();
        loop {
            let line = self.session.line()?;
            let Some(line) = line.strip_prefix("* ") else {
                break;
            };
            self.session
                .hear(Line::read(line)?, May::ALL, None, &mut answer)?;
        }
        self.session.note("C: DONE".into());
        self.session
            .client
            .send(b"DONE\r\n")
            .map_err(|error| error.to_string())?;
        self.session.end(&tag, May::ALL, None)?.ok()?;
        Ok(())
    }

    /// Sets its keyword, or takes it away, silently or not.
    fn mark(&mut self) -> Result<(), String> {
        let name = self.name();
        let place = self.dice.below(self.view().len());
        let Some(uid) = self.view()[place].uid else {
            return Ok(());
        };
        let (adds, silent, by_uid) = (
            self.dice.chance(60),
            self.dice.chance(60),
            self.dice.chance(50),
        );
        let what = if by_uid {
            format!("UID STORE {uid}")
        } else {
            format!("STORE {}", place + 1)
        };
        let (sign, word) = (
            if adds { '+' } else { '-' },
            if silent { ".SILENT" } else { "" },
        );
        let may = if by_uid { May::ALL } else { May::HELD };
        let command = format!("{what} {sign}FLAGS{word} ({})", self.keyword);
        let answer = self.say(&command, may)?.ok()?;
        self.marked.insert((name, uid), adds);
        let is_told = |item: &str| {
            let about = answer
                .fetched
                .iter()
                .filter(|(_, told, _)| *told == Some(uid));
            about
                .into_iter()
                .any(|(_, _, items)| items.contains_key(item))
        };
        if !silent || is_told("FLAGS") {
            return Ok(());
        }
        let keyword = self.keyword.clone();
        let view = &mut self.session.selected.as_mut().unwrap().view;
        if let Some(slot) = view.iter_mut().find(|slot| slot.uid == Some(uid)) {
            // What a client takes for granted (RFC 3501 §6.4.6): the flags it knew, and what it ordered.
            if let Some(flags) = &mut slot.flags {
                if adds {
                    flags.insert(keyword);
                } else {
                    flags.remove(&keyword);
                }
            }
            slot.modseq = slot.modseq.filter(|_| is_told("MODSEQ"));
        }
        Ok(())
    }

    /// Flags that all set.
    fn store_any(&mut self) -> Result<(), String> {
        let first = self.dice.below(self.view().len()) + 1;
        let last = (first + self.dice.below(4)).min(self.view().len());
        let flag = *self.dice.pick(&["\\Seen", "\\Flagged", "\\Answered"]);
        let sign = *self.dice.pick(&["+", "-"]);
        self.say(
            &format!("STORE {first}:{last} {sign}FLAGS ({flag})"),
            May::HELD,
        )?
        .ok()?;
        Ok(())
    }

    fn look(&mut self) -> Result<(), String> {
        let count = self.view().len();
        let first = self.dice.below(count) + 1;
        let (command, may) = match self.dice.below(4) {
            0 => (
                format!("FETCH {first}:* (FLAGS)"),
                May {
                    expunge: false,
                    fetch: true,
                },
            ),
            1 => {
                self.session.awareness = self.session.awareness.max(Awareness::CondStore);
                (
                    format!("FETCH {first} (UID FLAGS MODSEQ)"),
                    May {
                        expunge: false,
                        fetch: true,
                    },
                )
            }
            2 => ("SEARCH SEEN".into(), May::HELD),
            _ => ("UID SEARCH UNSEEN".into(), May::ALL),
        };
        let answer = self.say(&command, may)?.ok()?;
        for line in &answer.lines {
            if let Line::Found(_, found, _) = line
                && command.starts_with("SEARCH")
                && found.iter().any(|number| *number as usize > count)
            {
                return Err(format!("found {found:?} of {count}"));
            }
        }
        Ok(())
    }

    /// When all is done: what it believes is what is there, and so is what it did.
    fn check(&mut self, truth: &BTreeMap<&str, BTreeMap<u32, (Flags, u64)>>) -> Result<(), String> {
        for ((name, uid), is_marked) in &self.marked {
            let message = truth[name.as_str()].get(uid);
            if message.is_some_and(|(flags, _)| flags.contains(&self.keyword) != *is_marked) {
                return Err(format!(
                    "UID {uid} of {name} should be marked: {is_marked}; {message:?}"
                ));
            }
        }
        if self.session.selected.is_none() {
            return Ok(());
        }
        self.say("NOOP", May::ALL)?.ok()?;
        let truth = &truth[self.name().as_str()];
        if truth.len() != self.view().len() {
            return Err(format!(
                "{} messages are told of, there are {}",
                self.view().len(),
                truth.len()
            ));
        }
        for (slot, (uid, (flags, modseq))) in self.view().iter().zip(truth) {
            let is_right = slot.uid.is_none_or(|told| told == *uid)
                && slot.flags.as_ref().is_none_or(|told| told == flags)
                && slot.modseq.is_none_or(|told| told == *modseq);
            if !is_right {
                return Err(format!(
                    "it believes {slot:?}, but there is {uid} {flags:?} {modseq}"
                ));
            }
        }
        Ok(())
    }
}

fn set(uids: &[u32]) -> String {
    let uids: Vec<String> = uids.iter().map(u32::to_string).collect();
    uids.join(",")
}
