//! Who else works with the mailboxes, and what they may do there (RFC 4314); steps that change that, or ask for it.

use std::collections::BTreeSet;

use super::changing::expect;
use super::session::{Answer, May, Session};
use super::steps::{FLEETING, NAMES, Run};
use super::truth::{Mailbox, World};
use super::wire::{Flags, Line};

/// Whose mailboxes they are, and who visits them; the first has most of them.
pub(crate) const ACCOUNTS: [&str; 3] = ["alice", "bob", "carol"];
/// A mailbox of each of the others, as the first would name it.
pub(crate) const ABROAD: [&str; 2] = [
    "Other Users/bob@example.test/INBOX",
    "Other Users/carol@example.test/INBOX",
];
const OTHERS: &str = "Other Users/";
const LETTERS: &str = "lrswipkxtea";
/// Any of these shows that a mailbox is there.
const SHOWING: &str = "lrikxa";
/// Without any of these it is read only.
const CHANGING: &str = "ieswt";

/// Rights, by their letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rights(BTreeSet<char>);

impl Rights {
    pub(crate) fn of(letters: &str) -> Self {
        Self(letters.chars().collect())
    }

    pub(crate) fn has(&self, letters: &str) -> bool {
        letters.chars().all(|letter| self.0.contains(&letter))
    }

    fn has_some(&self, letters: &str) -> bool {
        letters.chars().any(|letter| self.0.contains(&letter))
    }

    /// Whether something may be changed at all.
    pub(crate) fn changes_something(&self) -> bool {
        self.has_some(CHANGING)
    }

    /// Whether a flag may be changed.
    pub(crate) fn marks(&self, flag: &str) -> bool {
        self.has(match flag {
            "\\Seen" => "s",
            "\\Deleted" => "t",
            _ => "w",
        })
    }

    /// Those of `flags` that may be changed.
    pub(crate) fn among(&self, flags: &Flags) -> Flags {
        let may = flags.iter().filter(|flag| self.marks(flag));
        may.cloned().collect()
    }

    /// What the flags become that should become `wanted`.
    pub(crate) fn limit(&self, before: &Flags, wanted: &Flags) -> Flags {
        let kept = before.iter().filter(|flag| !self.marks(flag));
        kept.cloned().chain(self.among(wanted)).collect()
    }
}

/// Who a mailbox is of.
pub(crate) fn owner(name: &str) -> usize {
    let of_others = name.strip_prefix(OTHERS);
    let local = of_others.and_then(|rest| rest.split('@').next());
    local.map_or(0, |local| {
        ACCOUNTS.iter().position(|one| *one == local).unwrap()
    })
}

/// The name a mailbox has for somebody, without quotes.
fn named(who: usize, name: &str) -> String {
    let owner = owner(name);
    let own = match name.strip_prefix(OTHERS) {
        Some(rest) => rest.split_once('/').unwrap().1,
        None => name,
    };
    match owner == who {
        true => own.into(),
        false => format!("{OTHERS}{}@example.test/{own}", ACCOUNTS[owner]),
    }
}

/// The same, as it is written in commands.
pub(crate) fn spelled(who: usize, name: &str) -> String {
    format!("\"{}\"", named(who, name))
}

impl Mailbox {
    /// What somebody may do with it who is not its owner.
    fn rights(&self, who: usize) -> Rights {
        let address = format!("{}@example.test", ACCOUNTS[who]);
        let given = |names: [&str; 2]| {
            let entries = names.iter().filter_map(|name| self.acl.get(*name));
            entries.flat_map(|entry| entry.0.clone()).collect()
        };
        let all: BTreeSet<char> = given([&address, "anyone"]);
        let taken: BTreeSet<char> = given([&format!("-{address}"), "-anyone"]);
        Rights(&all - &taken)
    }
}

impl World {
    /// What somebody may do with a mailbox; nothing with one that is not there.
    pub(crate) fn rights(&self, who: usize, name: &str) -> Rights {
        match self.mailboxes.get(name) {
            None => Rights::default(),
            Some(_) if owner(name) == who => Rights::of(LETTERS),
            Some(mailbox) => mailbox.rights(who),
        }
    }

    /// The code of the answer where somebody needs `letters` and has not all of them. What may not be seen is as if it were not there.
    pub(crate) fn refusal(&self, who: usize, name: &str, letters: &str) -> Option<&'static str> {
        let rights = self.rights(who, name);
        if self.mailboxes.contains_key(name) && rights.has(letters) {
            return None;
        }
        Some(match rights.has("l") {
            true => "NOPERM",
            false => "NONEXISTENT",
        })
    }

    /// The same to COPY, MOVE and APPEND, which say TRYCREATE of all that is not there.
    pub(crate) fn refusal_of_transfer(
        &self,
        who: usize,
        name: &str,
        letters: &str,
    ) -> Option<&'static str> {
        Some(match self.refusal(who, name, letters)? {
            "NONEXISTENT" => "TRYCREATE",
            code => code,
        })
    }
}

impl Session {
    /// Whether the client was told which flags it can keep: PERMANENTFLAGS.
    pub(crate) fn knows_rights(&self, rights: &Rights) -> Result<(), String> {
        let Some(selected) = &self.selected else {
            return Ok(());
        };
        for flag in ["\\Seen", "\\Deleted", "\\Flagged", "\\*"] {
            let may = !selected.read_only && rights.marks(flag);
            if selected.permanent.contains(flag) != may {
                return Err(format!(
                    "{:?} is what it was told of its flags, it has {rights:?}",
                    selected.permanent
                ));
            }
        }
        Ok(())
    }
}

impl Run {
    pub(crate) fn who(&self, at: usize) -> usize {
        self.sessions[at].who
    }

    /// What a session may do with the mailbox it has selected.
    pub(crate) fn rights(&self, at: usize) -> Rights {
        self.world.rights(self.who(at), &self.name(at))
    }

    /// A mailbox of anybody, or none.
    pub(crate) fn some_name(&mut self, at: usize) -> String {
        let chance = self.dice.below(100);
        let some: &[&str] = match (self.who(at), chance) {
            (_, 0..10) => &FLEETING,
            (0, 10..14) | (1.., 30..33) => &ABROAD,
            (who @ 1.., 10..30) => &ABROAD[who - 1..who],
            _ => &NAMES,
        };
        (*self.dice.pick(some)).into()
    }

    /// Gives a command that is not about the selected mailbox, whether there is one or not.
    fn say_anywhere(&mut self, at: usize, command: &str) -> Result<Answer, String> {
        match self.sessions[at].selected {
            Some(_) => self.say(at, command, May::ALL),
            None => self.sessions[at].run(command, May::ALL, None),
        }
    }

    /// What the others begin with.
    pub(crate) fn share_all(&mut self) -> Result<(), String> {
        for name in NAMES {
            for (whom, letters) in [("bob", "lrswite"), ("carol", "lrs")] {
                let command = format!("SETACL {} {whom} {letters}", spelled(0, name));
                self.witnesses[0].run(&command, May::ALL, None)?.ok()?;
                let entry = (format!("{whom}@example.test"), Rights::of(letters));
                self.world.mailbox_mut(name).acl.extend([entry]);
            }
        }
        Ok(())
    }

    /// Rights are changed or asked for.
    pub(crate) fn share(&mut self, at: usize) -> Result<(), String> {
        match self.dice.below(10) {
            0..=1 => self.ask_rights(at),
            2 => self.list_others(at),
            _ => self.change_rights(at),
        }
    }

    fn change_rights(&mut self, at: usize) -> Result<(), String> {
        let (who, name) = (self.who(at), self.some_name(at));
        let owner = owner(&name);
        let address = |whom: usize| format!("{}@example.test", ACCOUNTS[whom]);
        // Whoever is not the owner changes nothing of its own: it could shut itself out.
        let others = (0..ACCOUNTS.len()).filter(|whom| *whom != owner && *whom != who);
        let mut whom: Vec<String> = others.map(address).collect();
        if owner == who {
            let denied: Vec<String> = whom.iter().map(|one| format!("-{one}")).collect();
            whom.extend(whom.clone());
            whom.extend(denied);
            whom.extend(["anyone".into(), "-anyone".into()]);
        }
        let whom = self.dice.pick(&whom).clone();
        let share = match whom.starts_with('-') {
            true => 20,
            false => 75,
        };
        let letters: String = LETTERS
            .chars()
            .filter(|_| self.dice.chance(share))
            .collect();
        let sign = match self.dice.below(10) {
            0..=1 if !letters.is_empty() => "+",
            2..=3 if !letters.is_empty() => "-",
            _ => "",
        };
        let spelled = spelled(who, &name);
        let removes = self.dice.chance(8);
        let command = match removes {
            true => format!("DELETEACL {spelled} {whom}"),
            false => format!("SETACL {spelled} {whom} \"{sign}{letters}\""),
        };
        if let Some(code) = self.world.refusal(who, &name, "a") {
            let answer = self.say_anywhere(at, &command)?;
            return expect(&answer, "NO", code);
        }
        let before: Vec<Rights> = (0..ACCOUNTS.len())
            .map(|who| self.world.rights(who, &name))
            .collect();
        self.say_anywhere(at, &command)?.ok()?;
        let acl = &mut self.world.mailbox_mut(&name).acl;
        let known = acl.remove(&whom).unwrap_or_default().0;
        let letters = Rights::of(&letters).0;
        let left = match sign {
            _ if removes => BTreeSet::new(),
            "+" => &known | &letters,
            "-" => &known - &letters,
            _ => letters,
        };
        if !left.is_empty() {
            acl.insert(whom, Rights(left));
        }
        let mut shut_out = Vec::new();
        for (other, session) in self.sessions.iter_mut().enumerate() {
            let Some(selected) = session.selected.as_mut().filter(|one| one.name == name) else {
                continue;
            };
            let now = self.world.rights(session.who, &name);
            if !now.has("r") {
                shut_out.push(other);
            }
            selected.is_unsure |= now != before[session.who];
        }
        self.shut_out(&name, &shut_out)
    }

    /// Those who may not read any more hear nothing of what happens from now on.
    fn shut_out(&mut self, name: &str, those: &[usize]) -> Result<(), String> {
        if those.is_empty() {
            return Ok(());
        }
        let content = self.bring(name)?;
        let truth = self.world.mailboxes.get_mut(name).unwrap();
        for at in those {
            let session = &mut self.sessions[*at];
            let may = May {
                expunge: session.idle.is_some(),
                fetch: false,
            };
            loop {
                let line = session.line()?;
                let line = line.strip_prefix("* ").ok_or("expected BYE")?.to_owned();
                match Line::read(&line)? {
                    Line::Bye(_) => break,
                    line => session.hear(line, may, Some(truth), &mut Answer::default())?,
                }
            }
            if let Ok(line) = session.line() {
                return Err(format!("session {at} hears more: {line}"));
            }
        }
        truth.add(content, Flags::new());
        self.settle(name)?;
        those.iter().for_each(|at| self.reconnect(*at));
        Ok(())
    }

    fn ask_rights(&mut self, at: usize) -> Result<(), String> {
        let (who, name) = (self.who(at), self.some_name(at));
        let command = format!("MYRIGHTS {}", spelled(who, &name));
        let answer = self.say_anywhere(at, &command)?;
        let rights = self.world.rights(who, &name);
        if !rights.has_some(SHOWING) {
            return expect(&answer, "NO", "NONEXISTENT");
        }
        let answer = answer.ok()?;
        let told = answer.lines.iter().find_map(|line| match line {
            Line::Other(text) => text.strip_prefix("MYRIGHTS ")?.rsplit_once(' '),
            _ => None,
        });
        let (_, letters) = told.ok_or("no MYRIGHTS")?;
        // RFC 4314 §2.1.1: the rights of the older ACL are told, too.
        let letters = letters.trim_end_matches(['c', 'd']);
        if Rights::of(letters) != rights {
            return Err(format!("MYRIGHTS {letters}, not {rights:?}"));
        }
        Ok(())
    }

    /// LIST shows those of others that may be seen, and nothing else of them.
    fn list_others(&mut self, at: usize) -> Result<(), String> {
        let who = self.who(at);
        let answer = self.say_anywhere(at, "LIST \"\" \"Other Users/*\"")?.ok()?;
        let told = answer.lines.iter().filter_map(|line| match line {
            Line::Other(text) => text.strip_prefix("LIST "),
            _ => None,
        });
        let is_mailbox =
            |text: &&str| !text.contains("\\NonExistent") && !text.contains("\\Noselect");
        let told = told.filter(is_mailbox);
        let names = told.filter_map(|text| text.split_once("\"/\" "));
        let names = names.map(|(_, name)| name.trim_matches('"').to_owned());
        let told: BTreeSet<String> = names.collect();
        let others = self.world.mailboxes.keys();
        let others = others.filter(|name| owner(name) != who);
        let seen = others.filter(|name| self.world.rights(who, name).has("l"));
        let seen: BTreeSet<String> = seen.map(|name| named(who, name)).collect();
        if told != seen {
            return Err(format!("LIST shows {told:?}, not {seen:?}"));
        }
        Ok(())
    }
}
