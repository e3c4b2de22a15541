//! One step at a time: a session of many says something, what must come of it is worked out first, and all that is said is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use system_tests::System;
use system_tests::smtp;

use super::dice::Dice;
use super::session::{Answer, Awareness, May, Session, parse};
use super::sharing::{ABROAD, ACCOUNTS, owner, spelled};
use super::truth::{Content, World};
use super::wire::{Flags, Line};

pub(crate) const SESSIONS: usize = 8;
/// Whose they are.
const WHOSE: [usize; SESSIONS] = [0, 0, 0, 0, 0, 1, 1, 2];
/// The largest mailbox, over several pages of the view.
const BIG: usize = 2_500;
/// More messages are not left in the others for long.
pub(crate) const MANY: usize = 60;
pub(crate) const NAMES: [&str; 7] = [
    "INBOX",
    "INBOX",
    "Work",
    "Work",
    "Work/Sub",
    "L&AOQ-ger",
    "Big",
];
/// Deleted, made and renamed now and then.
pub(crate) const FLEETING: [&str; 2] = ["Here", "There"];
const FLAGS: [&str; 8] = [
    "\\Seen",
    "\\Answered",
    "\\Flagged",
    "\\Deleted",
    "\\Draft",
    "k1",
    "k2",
    "$Work",
];

pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) sessions: Vec<Session>,
    /// They look at what nobody else is told of; each is of one of the accounts, and selects only for reading.
    pub(crate) witnesses: Vec<Session>,
    pub(crate) dice: Dice,
    imap: SocketAddr,
    smtp: SocketAddr,
    next: usize,
}

impl Run {
    pub(crate) fn begin(system: &System, seed: u64) -> Result<Self, String> {
        let imap = system.address("imap");
        let mut run = Self {
            world: World::default(),
            sessions: WHOSE.map(|who| Session::log_in(imap, who)).into(),
            witnesses: (0..ACCOUNTS.len())
                .map(|who| Session::log_in(imap, who))
                .collect(),
            dice: Dice::new(seed),
            imap,
            smtp: system.address("smtp"),
            next: 0,
        };
        for witness in &mut run.witnesses {
            witness.is_witness = true;
        }
        for name in NAMES.iter().chain(&FLEETING).chain(&ABROAD) {
            if run.world.mailboxes.contains_key(*name) {
                continue;
            }
            if !name.ends_with("INBOX") {
                run.witnesses[0]
                    .run(&format!("CREATE {name}"), May::ALL, None)?
                    .ok()?;
            }
            run.world.create(name);
            run.settle(name)?;
        }
        for name in NAMES.into_iter().chain(ABROAD) {
            for _ in 0..6 {
                run.append_by_witness(name)?;
            }
        }
        while run.world.mailbox("Big").messages.len() < BIG {
            run.double("Big")?;
        }
        run.share_all()?;
        Ok(run)
    }

    fn append_by_witness(&mut self, name: &str) -> Result<(), String> {
        let content = self.bring(name)?;
        self.world.mailbox_mut(name).add(content, Flags::new());
        self.settle(name)
    }

    /// Brings a message of which the model does not know yet.
    pub(crate) fn bring(&mut self, name: &str) -> Result<usize, String> {
        let (content, text) = self.letter();
        let date = self.world.contents[content].date.clone().unwrap();
        let size = text.len();
        let (witness, name) = self.witness(name);
        let command = format!("APPEND {name} \"{date}\" {{{size}+}}\r\n{text}");
        witness.run(&command, May::ALL, None)?.ok()?;
        Ok(content)
    }

    fn double(&mut self, name: &str) -> Result<(), String> {
        let (witness, spelled) = self.witness(name);
        for command in [
            format!("SELECT {spelled}"),
            format!("COPY 1:* {spelled}"),
            "UNSELECT".into(),
        ] {
            witness.run(&command, May::ALL, None)?.ok()?;
        }
        let mailbox = self.world.mailbox_mut(name);
        let all: Vec<usize> = mailbox.present().map(|(_, one)| one.content).collect();
        for content in all {
            mailbox.add(content, Flags::new());
        }
        self.settle(name)
    }

    /// A new message, and its bytes.
    pub(crate) fn letter(&mut self) -> (usize, String) {
        let number = self.next;
        self.next += 1;
        let subject = format!("s{} of {number}", self.dice.below(12));
        let word = format!("w{}", self.dice.below(8));
        let fill = "x".repeat(self.dice.below(300));
        let text = format!(
            "From: a@x.test\r\nMessage-ID: <{number}@x.test>\r\nSubject: {subject}\r\n\r\n{word} {fill}\r\n"
        );
        let (day, second) = (self.dice.below(27) + 1, self.dice.below(86_400));
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        self.world.contents.push(Content {
            subject,
            word,
            size: Some(text.len() as u64),
            date: Some(format!(
                "{day:2}-Jan-2024 {hour:02}:{minute:02}:{second:02} +0000"
            )),
            email_id: None,
        });
        (self.world.contents.len() - 1, text)
    }

    /// Mail from outside, into INBOX.
    pub(crate) fn deliver(&mut self) -> Result<(), String> {
        let (content, text) = self.letter();
        let sent = smtp::Client::hello(self.smtp).and_then(|mut client| {
            client.deliver("a@x.test", "alice@example.test", text.as_bytes())
        });
        sent.map_err(|error| format!("SMTP: {error}"))?;
        let known = &mut self.world.contents[content];
        // Trace fields come in front, and it arrives now.
        (known.size, known.date) = (None, None);
        let uid = self.world.mailbox_mut("INBOX").add(content, Flags::new());
        self.settle("INBOX")?;
        self.learn("INBOX", &uid.to_string())
    }

    /// Asks for what only the server can know, and notes it.
    pub(crate) fn learn(&mut self, name: &str, set: &str) -> Result<(), String> {
        let (witness, spelled) = self.witness(name);
        let examine = format!("EXAMINE {spelled}");
        witness.run(&examine, May::ALL, None)?.ok()?;
        let command = format!("UID FETCH {set} (RFC822.SIZE INTERNALDATE MODSEQ FLAGS)");
        let answer = witness.run(&command, May::ALL, None)?.ok()?;
        witness.run("UNSELECT", May::ALL, None)?.ok()?;
        for line in answer.lines {
            let Line::Fetch(_, items) = line else {
                continue;
            };
            let uid: u32 = parse(&items["UID"])?;
            let mailbox = self.world.mailboxes.get_mut(name).unwrap();
            let message = mailbox.messages.get_mut(&uid);
            let message = message.ok_or(format!("{name} has UID {uid}"))?;
            let last = message.versions.last_mut().unwrap();
            let modseq = Some(parse(&items["MODSEQ"])?);
            if modseq < last.modseq {
                return Err(format!("MODSEQ of UID {uid} went back to {modseq:?}"));
            }
            last.modseq = modseq;
            let content = &mut self.world.contents[message.content];
            content.size = Some(parse(&items["RFC822.SIZE"])?);
            content.date = Some(items["INTERNALDATE"].clone());
        }
        Ok(())
    }

    /// Asks for the state of a mailbox and compares all of it.
    pub(crate) fn settle(&mut self, name: &str) -> Result<(), String> {
        let items = "MESSAGES UIDNEXT UIDVALIDITY UNSEEN DELETED SIZE HIGHESTMODSEQ RECENT";
        let (witness, spelled) = self.witness(name);
        let command = format!("STATUS {spelled} ({items})");
        let answer = witness.run(&command, May::ALL, None)?.ok()?;
        let mut status = answer.lines.into_iter().filter_map(|line| match line {
            Line::Status(_, status) => Some(status),
            _ => None,
        });
        let status = status.next().ok_or("no STATUS")?;
        let contents = &self.world.contents;
        let mailbox = self.world.mailboxes.get_mut(name).unwrap();
        if mailbox.validity == 0 {
            mailbox.validity = u32::try_from(status["UIDVALIDITY"]).unwrap();
        }
        let count = |wanted: &dyn Fn(&Flags) -> bool| {
            mailbox
                .present()
                .filter(|(_, one)| wanted(one.flags()))
                .count() as u64
        };
        let sizes = mailbox.present().map(|(_, one)| contents[one.content].size);
        let mut expected = BTreeMap::from([
            ("MESSAGES", count(&|_| true)),
            ("UIDNEXT", u64::from(mailbox.uid_next)),
            ("UIDVALIDITY", u64::from(mailbox.validity)),
            ("UNSEEN", count(&|flags| !flags.contains("\\Seen"))),
            ("DELETED", count(&|flags| flags.contains("\\Deleted"))),
            ("RECENT", 0),
        ]);
        if let Some(size) = sizes.sum::<Option<u64>>() {
            expected.insert("SIZE", size);
        }
        for (item, expected) in expected {
            if status[item] != expected {
                return Err(format!(
                    "STATUS {name}: {item} {}, not {expected}",
                    status[item]
                ));
            }
        }
        mailbox.settle(status["HIGHESTMODSEQ"])
    }

    /// One step of the session `at`.
    pub(crate) fn take_step(&mut self, at: usize) -> Result<(), String> {
        if self.dice.chance(2) {
            self.deliver()?;
        }
        if self.sessions[at].idle.is_some() {
            return self.end_idle(at);
        }
        if self.dice.chance(3) {
            return self.share(at);
        }
        let Some(selected) = &self.sessions[at].selected else {
            return match self.dice.below(20) {
                0 => self.append(at),
                1 => self.rename_or_delete(at),
                _ => self.select(at),
            };
        };
        if selected.view.iter().any(|slot| slot.uid.is_none()) {
            return self.noop(at);
        }
        if self.world.mailbox(&selected.name).present().count() > MANY
            && selected.name != "Big"
            && !selected.read_only
            && self.rights(at).has("te")
        {
            return self.thin_out(at);
        }
        let count = selected.view.len();
        match self.dice.below(100) {
            0..=9 => self.noop(at),
            10..=12 => self.select(at),
            13..=14 => self.close(at),
            15..=22 => self.append(at),
            23..=26 => self.expunge(at),
            27..=28 => self.begin_idle(at),
            29 => self.come_back(at),
            30 => self.enable(at),
            31 if self.dice.chance(30) => self.rename_or_delete(at),
            31 => self.ask_for_nobody(at),
            _ if count == 0 => self.append(at),
            32..=54 => self.store(at),
            55..=72 => self.fetch(at),
            73..=84 => self.search(at),
            85..=87 => self.sort(at),
            88..=89 => self.save(at),
            90..=95 => self.copy(at),
            _ => self.move_some(at),
        }
    }

    /// Some of the messages that the client has numbers for: the set as it is written, and their places.
    pub(crate) fn some(&mut self, at: usize, by_uid: bool) -> (String, Vec<usize>) {
        let session = &self.sessions[at];
        let view = &session.selected.as_ref().unwrap().view;
        let dice = &mut self.dice;
        if !session.saved.is_empty() && dice.chance(25) {
            let is_saved = |index: &usize| {
                let uid = view[*index].uid;
                uid.is_some_and(|uid| session.saved.contains(&uid))
            };
            let places: Vec<usize> = (0..view.len()).filter(is_saved).collect();
            if places.len() <= 20 {
                return ("$".into(), places);
            }
        }
        let mut ranges = Vec::new();
        let mut places = BTreeSet::new();
        for _ in 0..=dice.below(3) {
            let first = dice.below(view.len());
            let last = (first + dice.below(5)).min(view.len() - 1);
            let is_last = dice.chance(5) && view.len() - first < 10;
            let last = if is_last { view.len() - 1 } else { last };
            let name = |index: usize| match by_uid {
                true => view[index].uid.unwrap() as usize,
                false => index + 1,
            };
            places.extend(first..=last);
            ranges.push(match (is_last, first == last) {
                (true, _) => format!("{}:*", name(first)),
                (false, true) => format!("{}", name(first)),
                (false, false) if dice.chance(20) => format!("{}:{}", name(last), name(first)),
                (false, false) => format!("{}:{}", name(first), name(last)),
            });
        }
        (ranges.join(","), places.into_iter().collect())
    }

    pub(crate) fn some_flags(&mut self) -> Flags {
        let count = self.dice.below(3) + 1;
        let dice = &mut self.dice;
        (0..count)
            .map(|_| (*dice.pick(&FLAGS)).to_owned())
            .collect()
    }

    /// The witness of a mailbox's owner, and how that writes its name.
    fn witness(&mut self, name: &str) -> (&mut Session, String) {
        let who = owner(name);
        (&mut self.witnesses[who], spelled(who, name))
    }

    /// The name of the mailbox that a session has selected.
    pub(crate) fn name(&self, at: usize) -> String {
        self.sessions[at].selected.as_ref().unwrap().name.clone()
    }

    /// The UID at a place.
    pub(crate) fn uid(&self, at: usize, place: usize) -> u32 {
        self.sessions[at].selected.as_ref().unwrap().view[place]
            .uid
            .unwrap()
    }

    /// Gives a command in the selected mailbox.
    pub(crate) fn say(&mut self, at: usize, command: &str, may: May) -> Result<Answer, String> {
        let name = self.name(at);
        let truth = self.world.mailboxes.get_mut(&name);
        self.sessions[at].run(command, may, truth)
    }

    /// The session knows everything.
    pub(crate) fn all_is_told(&mut self, at: usize) -> Result<(), String> {
        self.told(at, true)
    }

    /// The session knows everything but, perhaps, what is gone.
    pub(crate) fn all_but_gone_is_told(&mut self, at: usize) -> Result<(), String> {
        self.told(at, false)
    }

    fn told(&mut self, at: usize, all: bool) -> Result<(), String> {
        if self.sessions[at].selected.is_some() {
            let truth = &self.world.mailboxes[&self.name(at)];
            self.sessions[at].is_up_to_date(truth, all)?;
            if all {
                let rights = self.rights(at);
                self.sessions[at].knows_rights(&rights)?;
                let truth = &self.world.mailboxes[&self.name(at)];
                // What came and went meanwhile is not told any more. (While it idles that may still come.)
                let next = truth.uid_next;
                let selected = self.sessions[at].selected.as_mut().unwrap();
                (selected.highest_told, selected.is_unsure) = (next - 1, false);
            }
        }
        Ok(())
    }

    pub(crate) fn reconnect(&mut self, at: usize) {
        let log = std::mem::take(&mut self.sessions[at].log);
        let kept = self.sessions[at].kept.take();
        self.sessions[at] = Session::log_in(self.imap, WHOSE[at]);
        self.sessions[at].log = log;
        self.sessions[at].note("-- a new connection".into());
        self.sessions[at].kept = kept;
    }

    pub(crate) fn noop(&mut self, at: usize) -> Result<(), String> {
        let command = *self.dice.pick(&["NOOP", "CHECK"]);
        self.say(at, command, May::ALL)?.ok()?;
        self.all_is_told(at)
    }

    fn enable(&mut self, at: usize) -> Result<(), String> {
        let (word, level) = *self.dice.pick(&[
            ("CONDSTORE", Awareness::CondStore),
            ("QRESYNC", Awareness::QResync),
        ]);
        let session = &mut self.sessions[at];
        session.awareness = session.awareness.max(level);
        self.say(at, &format!("ENABLE {word}"), May::ALL)?.ok()?;
        Ok(())
    }

    /// A number that is no message's.
    fn ask_for_nobody(&mut self, at: usize) -> Result<(), String> {
        let count = self.sessions[at].selected.as_ref().unwrap().view.len();
        let command = format!("FETCH {} (FLAGS)", count + 1);
        let answer = self.say(at, &command, May::HELD)?;
        if !answer.result.starts_with("BAD") {
            return Err(format!("{} messages, and {}", count, answer.result));
        }
        Ok(())
    }

    fn begin_idle(&mut self, at: usize) -> Result<(), String> {
        let name = self.name(at);
        let session = &mut self.sessions[at];
        let tag = session.begin("IDLE")?;
        let mut answer = Answer::default();
        loop {
            let line = session.line()?;
            if line.starts_with('+') {
                session.idle = Some(tag);
                return Ok(());
            }
            let line = line.strip_prefix("* ").ok_or("expected + or news")?;
            let truth = self.world.mailboxes.get_mut(&name);
            session.hear(Line::read(line)?, May::ALL, truth, &mut answer)?;
        }
    }

    fn end_idle(&mut self, at: usize) -> Result<(), String> {
        let name = self.name(at);
        let truth = self.world.mailbox_mut(&name);
        let session = &mut self.sessions[at];
        if self.dice.chance(50) {
            return session.watch(truth);
        }
        let tag = session.idle.take().unwrap();
        session.note("C: DONE".into());
        session
            .client
            .send(b"DONE\r\n")
            .map_err(|error| error.to_string())?;
        session.end(&tag, May::ALL, Some(truth))?.ok()?;
        Ok(())
    }

    /// Whoever had a mailbox selected that is gone hears BYE, and comes back.
    pub(crate) fn throw_out(&mut self) -> Result<(), String> {
        for at in 0..self.sessions.len() {
            let Some(selected) = &self.sessions[at].selected else {
                continue;
            };
            if self.world.is_current(&selected.name, selected.generation) {
                continue;
            }
            // Nothing is known of the old mailbox any more, but its numbers are still right.
            loop {
                let line = self.sessions[at].line()?;
                let line = line.strip_prefix("* ").ok_or("expected BYE")?.to_owned();
                match Line::read(&line)? {
                    Line::Bye(_) => break,
                    line => self.sessions[at].hear(line, May::ALL, None, &mut Answer::default())?,
                }
            }
            self.sessions[at].selected = None;
            self.sessions[at].kept = None;
            self.reconnect(at);
        }
        Ok(())
    }

    pub(crate) fn failed(&self, at: usize, error: &str) -> String {
        let session = &self.sessions[at];
        format!(
            "{error}\n--- the witness\n{}\n--- session {at}, {:?}\n{}\n--- {error}",
            self.witnesses[0].transcript(12),
            session.awareness,
            session.transcript(usize::MAX),
        )
    }
}
