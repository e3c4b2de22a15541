//! Steps that change something, or which mailbox is selected.

use std::collections::{BTreeMap, BTreeSet};

use super::session::{Answer, Awareness, Kept, May, Selected, Slot, parse};
use super::sharing::spelled;
use super::steps::{FLEETING, MANY, Run};
use super::wire::{Flags, Line, numbers};

/// How STORE changes flags.
#[derive(Clone, Copy)]
enum Mode {
    Replace,
    Add,
    Remove,
}

impl Mode {
    fn apply(self, before: &Flags, flags: &Flags) -> Flags {
        match self {
            Self::Replace => flags.clone(),
            Self::Add => before | flags,
            Self::Remove => before - flags,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Replace => "",
            Self::Add => "+",
            Self::Remove => "-",
        }
    }
}

impl Run {
    pub(crate) fn select(&mut self, at: usize) -> Result<(), String> {
        let name = self.some_name(at);
        self.select_named(at, &name)
    }

    pub(crate) fn select_named(&mut self, at: usize, name: &str) -> Result<(), String> {
        self.keep(at);
        let session = &mut self.sessions[at];
        session.selected = None;
        session.saved.clear();
        let examines = self.dice.chance(15);
        let word = if examines { "EXAMINE" } else { "SELECT" };
        let rights = self.world.rights(session.who, name);
        let read_only = examines || !rights.changes_something();
        let refusal = self.world.refusal(session.who, name, "r");
        let mut command = format!("{word} {}", spelled(session.who, name));
        let kept = session.kept.clone();
        let kept = kept.filter(|kept| kept.name == *name && self.dice.chance(80));
        let kept = kept.filter(|_| session.awareness == Awareness::QResync);
        if let Some(kept) = &kept {
            let (validity, up_to) = (kept.validity, kept.known_up_to);
            let uids: Vec<String> = kept
                .view
                .iter()
                .filter_map(|one| Some(one.uid?.to_string()))
                .collect();
            let known = if self.dice.chance(50) && !uids.is_empty() && uids.len() < 200 {
                format!(" {}", uids.join(","))
            } else {
                String::new()
            };
            command += &format!(" (QRESYNC ({validity} {up_to}{known}))");
        } else if self.dice.chance(10) {
            command += " (CONDSTORE)";
            session.awareness = session.awareness.max(Awareness::CondStore);
        }
        if let Some(code) = refusal {
            let answer = session.run(&command, May::ALL, None)?;
            return expect(&answer, "NO", code);
        }
        let truth = self.world.mailbox_mut(name);
        let kept = kept.filter(|kept| kept.validity == truth.validity);
        let mut believed: BTreeMap<u32, Slot> = BTreeMap::new();
        for slot in kept.iter().flat_map(|kept| &kept.view) {
            if let Some(uid) = slot.uid {
                believed.insert(uid, slot.clone());
            }
        }
        let present: Vec<u32> = truth.present().map(|(uid, _)| uid).collect();
        let view = present.iter().map(|uid| {
            let fresh = Slot {
                uid: Some(*uid),
                selected: Some(truth.messages[uid].versions.len() - 1),
                ..Slot::default()
            };
            believed.remove(uid).unwrap_or(fresh)
        });
        session.selected = Some(Selected {
            name: name.to_owned(),
            generation: truth.generation,
            validity: truth.validity,
            read_only,
            view: view.collect(),
            known_up_to: 0,
            highest_told: truth.uid_next - 1,
            permanent: Flags::new(),
            is_unsure: false,
        });
        let answer = session.run(&command, May::ALL, Some(truth))?.ok()?;
        session.is_up_to_date(truth, true)?;
        session.knows_rights(&rights)?;
        let missing = believed.keys().find(|uid| !answer.earlier.contains(uid));
        if let Some(uid) = missing {
            return Err(format!("UID {uid} is gone and the client was not told"));
        }
        for (_, uid, _) in &answer.fetched {
            let modseq = uid.and_then(|uid| truth.messages[&uid].modseq());
            let known = kept.as_ref().map(|kept| kept.known_up_to);
            if known.is_none_or(|known| modseq.is_some_and(|modseq| modseq <= known)) {
                return Err(format!("UID {uid:?} {modseq:?} is no news since {known:?}"));
            }
        }
        let exists = answer.lines.contains(&Line::Exists(present.len()));
        let unseen = truth
            .present()
            .position(|(_, one)| !one.flags().contains("\\Seen"));
        let code = |name: &str| answer.codes.get(name).cloned();
        let expected = [
            ("UIDVALIDITY", Some(truth.validity.to_string())),
            ("UIDNEXT", Some(truth.uid_next.to_string())),
            ("HIGHESTMODSEQ", Some(truth.highest.to_string())),
            ("UNSEEN", unseen.map(|index| (index + 1).to_string())),
        ];
        for (name, expected) in expected {
            if code(name) != expected {
                return Err(format!("{name} {:?}, not {expected:?}", code(name)));
            }
        }
        let id = code("MAILBOXID").ok_or("no MAILBOXID")?;
        if !exists || *truth.id.get_or_insert(id.clone()) != id {
            return Err(format!("EXISTS or MAILBOXID {id}, not {:?}", truth.id));
        }
        let mode = if read_only { "READ-ONLY" } else { "READ-WRITE" };
        expect(&answer, "OK", mode)
    }

    /// A client that knows QRESYNC remembers what it knows.
    fn keep(&mut self, at: usize) {
        let session = &mut self.sessions[at];
        if let Some(selected) = &session.selected
            && session.awareness == Awareness::QResync
            && selected.view.iter().all(|slot| slot.uid.is_some())
        {
            session.kept = Some(Kept {
                name: selected.name.clone(),
                validity: selected.validity,
                known_up_to: selected.known_up_to,
                view: selected.view.clone(),
            });
        }
    }

    /// The connection breaks, and the client comes back to what it knew.
    pub(crate) fn come_back(&mut self, at: usize) -> Result<(), String> {
        self.keep(at);
        self.reconnect(at);
        let Some(kept) = &self.sessions[at].kept else {
            return Ok(());
        };
        let name = kept.name.clone();
        self.sessions[at]
            .run("ENABLE QRESYNC", May::ALL, None)?
            .ok()?;
        self.sessions[at].awareness = Awareness::QResync;
        self.select_named(at, &name)
    }

    pub(crate) fn close(&mut self, at: usize) -> Result<(), String> {
        let expunges = self.rights(at).has("e");
        if self.sessions[at].selected.as_ref().unwrap().is_unsure {
            return self.noop(at);
        }
        self.keep(at);
        let selected = self.sessions[at].selected.take().unwrap();
        self.sessions[at].saved.clear();
        let name = selected.name;
        if self.dice.chance(50) {
            self.sessions[at].run("UNSELECT", May::ALL, None)?.ok()?;
            return Ok(());
        }
        if !selected.read_only && expunges {
            self.remove_deleted(&name, None);
        }
        self.sessions[at].run("CLOSE", May::ALL, None)?.ok()?;
        self.settle(&name)
    }

    /// Whether something was removed.
    fn remove_deleted(&mut self, name: &str, among: Option<&BTreeSet<u32>>) {
        let mailbox = self.world.mailbox_mut(name);
        let present = mailbox.present();
        let deleted = present.filter(|(_, one)| one.flags().contains("\\Deleted"));
        let deleted = deleted.map(|(uid, _)| uid);
        let deleted = deleted.filter(|uid| among.is_none_or(|some| some.contains(uid)));
        for uid in deleted.collect::<Vec<u32>>() {
            mailbox.remove(uid);
        }
    }

    pub(crate) fn append(&mut self, at: usize) -> Result<(), String> {
        let name = self.some_name(at);
        let who = self.who(at);
        let (content, text) = self.letter();
        let flags = if self.dice.chance(50) {
            self.some_flags()
        } else {
            Flags::new()
        };
        let date = self.world.contents[content].date.clone().unwrap();
        let size = text.len();
        let list = list(&flags);
        let target = spelled(who, &name);
        let command = format!("APPEND {target} ({list}) \"{date}\" {{{size}+}}\r\n{text}");
        let refusal = self.world.refusal_of_transfer(who, &name, "i");
        let flags = self.world.rights(who, &name).among(&flags);
        let uid = match refusal {
            Some(_) => 0,
            None => self.world.mailbox_mut(&name).add(content, flags),
        };
        let answer = match self.sessions[at].selected {
            Some(_) => self.say(at, &command, May::ALL)?,
            None => self.sessions[at].run(&command, May::ALL, None)?,
        };
        if let Some(code) = refusal {
            return expect(&answer, "NO", code);
        }
        let (code, value) = answer.ok()?.code();
        let expected = format!("{} {uid}", self.world.mailbox(&name).validity);
        if (code.as_str(), &value) != ("APPENDUID", &expected) {
            return Err(format!("{code} {value}, not APPENDUID {expected}"));
        }
        self.all_is_told(at)?;
        self.settle(&name)
    }

    pub(crate) fn expunge(&mut self, at: usize) -> Result<(), String> {
        let name = self.name(at);
        let by_uid =
            self.dice.chance(40) && !self.sessions[at].selected.as_ref().unwrap().view.is_empty();
        let (command, among): (String, Option<BTreeSet<u32>>) = if by_uid {
            let (set, places) = self.some(at, true);
            let uids = places.into_iter().map(|place| self.uid(at, place));
            (format!("UID EXPUNGE {set}"), Some(uids.collect()))
        } else {
            ("EXPUNGE".to_owned(), None)
        };
        if self.sessions[at].selected.as_ref().unwrap().read_only {
            let answer = self.say(at, &command, May::ALL)?;
            return expect(&answer, "NO", "READ-ONLY");
        }
        let is_some = among.as_ref().is_none_or(|some| !some.is_empty());
        if let Some(code) = self
            .world
            .refusal(self.who(at), &name, "e")
            .filter(|_| is_some)
        {
            let answer = self.say(at, &command, May::ALL)?;
            return expect(&answer, "NO", code);
        }
        self.remove_deleted(&name, among.as_ref());
        let answer = self.say(at, &command, May::ALL)?.ok()?;
        if is_some {
            self.all_is_told(at)?;
        }
        self.settle(&name)?;
        self.check_highest(at, &answer)
    }

    // RFC 7162 §3.2.7.
    fn check_highest(&self, at: usize, answer: &Answer) -> Result<(), String> {
        let (code, value) = answer.code();
        let highest = self.world.mailbox(&self.name(at)).highest;
        if self.sessions[at].awareness == Awareness::QResync
            && (code != "HIGHESTMODSEQ" || parse::<u64>(&value)? != highest)
        {
            return Err(format!("{code} {value}, not HIGHESTMODSEQ {highest}"));
        }
        Ok(())
    }

    /// Removes half of a mailbox.
    pub(crate) fn thin_out(&mut self, at: usize) -> Result<(), String> {
        let name = self.name(at);
        let deleted = Flags::from(["\\Deleted".to_owned()]);
        let view = &self.sessions[at].selected.as_ref().unwrap().view;
        let half = view.len().min(MANY / 2);
        let uids: Vec<u32> = view[..half].iter().filter_map(|slot| slot.uid).collect();
        for uid in uids {
            let mailbox = self.world.mailbox_mut(&name);
            let flags = mailbox.messages[&uid].flags() | &deleted;
            mailbox.set(uid, flags);
        }
        let command = format!("STORE 1:{half} +FLAGS (\\Deleted)");
        self.say(at, &command, May::HELD)?.ok()?;
        self.all_but_gone_is_told(at)?;
        self.settle(&name)?;
        self.remove_deleted(&name, None);
        let answer = self.say(at, "EXPUNGE", May::ALL)?.ok()?;
        self.all_is_told(at)?;
        self.settle(&name)?;
        self.check_highest(at, &answer)
    }

    pub(crate) fn store(&mut self, at: usize) -> Result<(), String> {
        let name = self.name(at);
        let by_uid = self.dice.chance(50);
        let (set, places) = self.some(at, by_uid);
        let flags = self.some_flags();
        let mode = *self
            .dice
            .pick(&[Mode::Replace, Mode::Add, Mode::Add, Mode::Remove]);
        let silent = self.dice.chance(40);
        let highest = self.world.mailbox(&name).highest;
        let since = self.dice.chance(20).then(|| {
            let place = self
                .dice
                .below(self.sessions[at].selected.as_ref().unwrap().view.len());
            let some = self.world.mailbox(&name).messages[&self.uid(at, place)].modseq();
            *self
                .dice
                .pick(&[highest, some.unwrap(), some.unwrap() - 1, 0])
        });
        let condition =
            since.map_or_else(String::new, |since| format!(" (UNCHANGEDSINCE {since})"));
        let command = format!(
            "{}STORE {set}{condition} {}FLAGS{} ({})",
            if by_uid { "UID " } else { "" },
            mode.word(),
            if silent { ".SILENT" } else { "" },
            list(&flags)
        );
        let session = &mut self.sessions[at];
        if since.is_some() {
            session.awareness = session.awareness.max(Awareness::CondStore);
        }
        let may = if by_uid { May::ALL } else { May::HELD };
        let selected = session.selected.as_ref().unwrap();
        if selected.read_only {
            let answer = self.say(at, &command, may)?;
            return expect(&answer, "NO", "READ-ONLY");
        }
        let rights = self.world.rights(session.who, &name);
        let is_refused = match mode {
            Mode::Replace => ["\\Seen", "\\Deleted", "\\Draft"]
                .iter()
                .all(|flag| !rights.marks(flag)),
            Mode::Add | Mode::Remove => rights.among(&flags).is_empty(),
        };
        if is_refused && !places.is_empty() {
            let answer = self.say(at, &command, may)?;
            return expect(&answer, "NO", "NOPERM");
        }
        // What is to come of it, by UID: left alone, or whether it changes.
        let (mut left_alone, mut changes) = (BTreeSet::new(), BTreeMap::new());
        for place in &places {
            let uid = selected.view[*place].uid.unwrap();
            let mailbox = self.world.mailboxes.get_mut(&name).unwrap();
            let message = &mailbox.messages[&uid];
            if message.is_gone {
                continue;
            }
            if since.is_some_and(|since| message.modseq().unwrap() > since) {
                left_alone.insert(if by_uid { uid } else { *place as u32 + 1 });
            } else {
                let wanted = mode.apply(message.flags(), &flags);
                let flags = rights.limit(message.flags(), &wanted);
                changes.insert(uid, mailbox.set(uid, flags));
            }
        }
        let answer = self.say(at, &command, may)?.ok()?;
        let (code, value) = answer.code();
        let told = if code == "MODIFIED" {
            value
        } else {
            String::new()
        };
        let told: BTreeSet<u32> = numbers(&told).ok_or("MODIFIED")?.into_iter().collect();
        if told != left_alone {
            return Err(format!("MODIFIED {told:?}, not {left_alone:?}"));
        }
        let awareness = self.sessions[at].awareness;
        for (uid, is_changed) in &changes {
            let about = answer
                .fetched
                .iter()
                .filter(|(_, told, _)| *told == Some(*uid));
            let has = |item: &str| about.clone().any(|(_, _, items)| items.contains_key(item));
            if !silent && !has("FLAGS") {
                return Err(format!("the new flags of UID {uid} are not told"));
            }
            if *is_changed && awareness > Awareness::Plain && !has("MODSEQ") {
                return Err(format!("the new MODSEQ of UID {uid} is not told"));
            }
            let view = &mut self.sessions[at].selected.as_mut().unwrap().view;
            if let Some(slot) = view.iter_mut().find(|slot| slot.uid == Some(*uid))
                && !has("FLAGS")
            {
                let before = slot.flags.take();
                slot.flags =
                    before.map(|before| rights.limit(&before, &mode.apply(&before, &flags)));
                // What they are now it cannot know, and is not told.
                slot.selected = None;
                slot.modseq = slot.modseq.filter(|_| has("MODSEQ") || !is_changed);
            }
        }
        if !places.is_empty() {
            self.told_by(at, by_uid)?;
        }
        self.settle(&name)
    }

    pub(crate) fn told_by(&mut self, at: usize, by_uid: bool) -> Result<(), String> {
        if by_uid {
            self.all_is_told(at)
        } else {
            self.all_but_gone_is_told(at)
        }
    }

    pub(crate) fn copy(&mut self, at: usize) -> Result<(), String> {
        self.transfer(at, "COPY")
    }

    pub(crate) fn move_some(&mut self, at: usize) -> Result<(), String> {
        self.transfer(at, "MOVE")
    }

    fn transfer(&mut self, at: usize, word: &str) -> Result<(), String> {
        let (name, to) = (self.name(at), self.some_name(at));
        let who = self.who(at);
        let by_uid = self.dice.chance(50);
        let (set, places) = self.some(at, by_uid);
        let prefix = if by_uid { "UID " } else { "" };
        let command = format!("{prefix}{word} {set} {}", spelled(who, &to));
        let moves = word == "MOVE";
        if moves && self.sessions[at].selected.as_ref().unwrap().read_only {
            let answer = self.say(at, &command, May::ALL)?;
            return expect(&answer, "NO", "READ-ONLY");
        }
        let uids: Vec<u32> = places.iter().map(|place| self.uid(at, *place)).collect();
        let refusal = |name: &str, letters| self.world.refusal_of_transfer(who, name, letters);
        let of_source = refusal(&name, "te").filter(|_| moves);
        let refusal = of_source.or_else(|| refusal(&to, "i"));
        if let Some(code) = refusal {
            let answer = self.say(at, &command, May::ALL)?;
            let is_nothing = uids.is_empty() && answer.is_ok();
            return if is_nothing {
                Ok(())
            } else {
                expect(&answer, "NO", code)
            };
        }
        let rights = self.world.rights(who, &to);
        let (mut source, mut target) = (Vec::new(), Vec::new());
        for uid in uids.iter().copied() {
            let message = self.world.mailbox(&name).messages[&uid].clone();
            if !message.is_gone {
                source.push(uid);
                let copy = self.world.mailbox_mut(&to);
                target.push(copy.add(message.content, rights.among(message.flags())));
            }
        }
        if moves {
            let from = self.world.mailbox_mut(&name);
            source.iter().for_each(|uid| from.remove(*uid));
        }
        let answer = self.say(at, &command, May::ALL)?.ok()?;
        let mut told = answer.codes.get("COPYUID").cloned().filter(|_| moves);
        let (code, value) = answer.code();
        if code == "COPYUID" && !moves {
            told = Some(value);
        }
        let told = told.map(|told| {
            let mut words = told.split(' ').map(str::to_owned);
            let mut word = || words.next().unwrap_or_default();
            (word(), numbers(&word()), numbers(&word()))
        });
        let validity = self.world.mailbox(&to).validity.to_string();
        let expected = (validity, Some(source.clone()), Some(target));
        if told.as_ref() != Some(&expected).filter(|_| !source.is_empty()) {
            return Err(format!("COPYUID {told:?}, not {expected:?}"));
        }
        if !uids.is_empty() {
            self.all_is_told(at)?;
        }
        if moves && name == to && !source.is_empty() {
            // Two changes in one: what the first was is asked for.
            self.learn(&to, "1:*")?;
        }
        self.settle(&name)?;
        self.settle(&to)?;
        if moves && !source.is_empty() {
            self.check_highest(at, &answer)?;
        }
        Ok(())
    }

    /// A mailbox comes, goes, or gets another name, whoever has it selected.
    pub(crate) fn rename_or_delete(&mut self, at: usize) -> Result<(), String> {
        if self.who(at) != 0 {
            return self.share(at);
        }
        let [a, b] = FLEETING;
        let (from, to) = if self.dice.chance(50) { (a, b) } else { (b, a) };
        let has = |run: &Self, name: &str| run.world.mailboxes.contains_key(name);
        let command = match (has(self, from), has(self, to)) {
            (true, false) => format!("RENAME {from} {to}"),
            (true, true) => format!("DELETE {from}"),
            (false, _) => format!("CREATE {from}"),
        };
        let affected = self.sessions[at]
            .selected
            .as_ref()
            .is_some_and(|one| one.name == from);
        let is_selected = self.sessions[at].selected.is_some();
        let answer = if affected || !is_selected {
            // Whoever does that to the mailbox it has selected has none selected any more, and hears nothing of it.
            self.sessions[at].selected = None;
            self.sessions[at].saved.clear();
            self.sessions[at].run(&command, May::ALL, None)?
        } else {
            self.say(at, &command, May::ALL)?
        };
        answer.ok()?;
        if let Some(mut mailbox) = self.world.mailboxes.remove(from) {
            if command.starts_with("RENAME") {
                self.world.generations += 1;
                mailbox.generation = self.world.generations;
                self.world.mailboxes.insert(to.into(), mailbox);
                self.throw_out()?;
                // It was read anew: a message may be taken to have changed later than it did (docs/store.md).
                self.learn(to, "1:*")?;
                self.world.mailbox_mut(to).may_have_changed();
                return self.settle(to);
            }
        } else {
            self.world.create(from);
            self.settle(from)?;
        }
        self.throw_out()
    }
}

fn list(flags: &Flags) -> String {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.join(" ")
}

/// The answer is that word with that code.
pub(crate) fn expect(answer: &Answer, word: &str, code: &str) -> Result<(), String> {
    if answer.result.starts_with(word) && answer.code().0 == code {
        Ok(())
    } else {
        Err(format!("expected {word} [{code}]: {}", answer.result))
    }
}
