//! A client that believes what it is told and checks that this can be: it keeps a view of the selected mailbox from nothing but untagged
//! responses, and compares each of them with the truth where that is known.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use system_tests::imap::Client;
use system_tests::options::PASSWORD;

use super::sharing::ACCOUNTS;
use super::truth::Mailbox;
use super::wire::{self, Flags, Line};

/// Lines kept for the transcript.
const KEPT: usize = 80;

/// How the client hears of changes (RFC 7162).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Awareness {
    Plain,
    CondStore,
    QResync,
}

/// A message the client has a number for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot {
    /// Known as soon as it can be.
    pub(crate) uid: Option<u32>,
    /// What the client believes.
    pub(crate) flags: Option<Flags>,
    pub(crate) modseq: Option<u64>,
    /// It was told of this version or of a later one.
    pub(crate) version: usize,
    /// The version that was there when the mailbox was selected, for a client that never heard of its flags.
    pub(crate) selected: Option<usize>,
}

/// The selected mailbox.
#[derive(Debug, Clone)]
pub(crate) struct Selected {
    pub(crate) name: String,
    pub(crate) generation: u64,
    pub(crate) validity: u32,
    pub(crate) read_only: bool,
    pub(crate) view: Vec<Slot>,
    /// All changes up to this one are known (RFC 7162 §3.2.5).
    pub(crate) known_up_to: u64,
    /// New messages have UIDs above this.
    pub(crate) highest_told: u32,
    /// The flags it can keep, as it was told last.
    pub(crate) permanent: Flags,
    /// What it may do was changed since it was told everything.
    pub(crate) is_unsure: bool,
}

/// What a QRESYNC client keeps for the next time.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) name: String,
    pub(crate) validity: u32,
    pub(crate) known_up_to: u64,
    pub(crate) view: Vec<Slot>,
}

/// What was said in answer to a command.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) lines: Vec<Line>,
    /// FETCH responses: the message's UID if it is known, the number it had, and what was told.
    pub(crate) fetched: Vec<(usize, Option<u32>, BTreeMap<String, String>)>,
    /// `VANISHED (EARLIER)`.
    pub(crate) earlier: Vec<u32>,
    /// Codes of untagged OKs.
    pub(crate) codes: BTreeMap<String, String>,
    /// `OK …`, without the tag.
    pub(crate) result: String,
}

impl Answer {
    pub(crate) fn code(&self) -> (String, String) {
        let text = self.result.split_once(' ').map_or("", |(_, text)| text);
        wire::code(text)
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.result.starts_with("OK")
    }

    /// An error unless the command succeeded.
    pub(crate) fn ok(self) -> Result<Self, String> {
        if self.is_ok() {
            Ok(self)
        } else {
            Err(format!("not OK: {}", self.result))
        }
    }
}

/// What may be said in answer to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct May {
    /// Messages may be said to be gone.
    pub(crate) expunge: bool,
    /// FETCH responses are what was asked for, so they need not name what nobody asked for.
    pub(crate) fetch: bool,
}

impl May {
    pub(crate) const ALL: Self = Self {
        expunge: true,
        fetch: false,
    };
    pub(crate) const HELD: Self = Self {
        expunge: false,
        fetch: false,
    };
}

pub(crate) struct Session {
    pub(crate) client: Client,
    /// Which of the accounts it is of.
    pub(crate) who: usize,
    tag: u32,
    pub(crate) log: VecDeque<String>,
    pub(crate) awareness: Awareness,
    pub(crate) selected: Option<Selected>,
    /// What `$` means.
    pub(crate) saved: BTreeSet<u32>,
    pub(crate) kept: Option<Kept>,
    /// The tag of the IDLE it is in.
    pub(crate) idle: Option<String>,
    /// It looks on, and keeps no view.
    pub(crate) is_witness: bool,
    /// The largest MODSEQ told in this command.
    largest_told: u64,
}

impl Session {
    pub(crate) fn log_in(address: SocketAddr, who: usize) -> Self {
        let user = format!("{}@example.test", ACCOUNTS[who]);
        let client = Client::login(address, &user, PASSWORD).unwrap();
        Self {
            client,
            who,
            tag: 0,
            log: VecDeque::new(),
            awareness: Awareness::Plain,
            selected: None,
            saved: BTreeSet::new(),
            kept: None,
            idle: None,
            is_witness: false,
            largest_told: 0,
        }
    }

    pub(crate) fn note(&mut self, line: String) {
        if self.log.len() == KEPT {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }

    pub(crate) fn begin(&mut self, command: &str) -> Result<String, String> {
        self.tag += 1;
        self.largest_told = 0;
        let tag = format!("x{}", self.tag);
        self.note(format!("C: {tag} {}", command.trim_end()));
        let line = format!("{tag} {command}\r\n");
        self.client.send(line.as_bytes()).map_err(broken)?;
        Ok(tag)
    }

    pub(crate) fn line(&mut self) -> Result<String, String> {
        let line = self.client.line().map_err(broken)?;
        self.note(format!("S: {line}"));
        Ok(line)
    }

    /// Gives a command and checks all that is said until its end.
    pub(crate) fn run(
        &mut self,
        command: &str,
        may: May,
        truth: Option<&mut Mailbox>,
    ) -> Result<Answer, String> {
        let tag = self.begin(command)?;
        self.end(&tag, may, truth)
    }

    /// Hears the rest of an answer.
    pub(crate) fn end(
        &mut self,
        tag: &str,
        may: May,
        mut truth: Option<&mut Mailbox>,
    ) -> Result<Answer, String> {
        let mut answer = Answer::default();
        loop {
            let line = self.line()?;
            if let Some(result) = line.strip_prefix(tag) {
                answer.result = result.trim_start().into();
                let (code, value) = answer.code();
                self.conclude(&code, &value)?;
                return Ok(answer);
            }
            let Some(line) = line.strip_prefix("* ") else {
                return Err(format!("expected an untagged line: {line}"));
            };
            let line = Line::read(line)?;
            self.hear(line, may, truth.as_deref_mut(), &mut answer)?;
        }
    }

    // RFC 7162 §3.2.5: what the client knows of after a command, for the next time.
    fn conclude(&mut self, code: &str, value: &str) -> Result<(), String> {
        let told = self.largest_told;
        let Some(selected) = &mut self.selected else {
            return Ok(());
        };
        if code == "HIGHESTMODSEQ" {
            selected.known_up_to = parse(value)?;
        } else {
            selected.known_up_to = selected.known_up_to.max(told);
        }
        Ok(())
    }

    pub(crate) fn hear(
        &mut self,
        line: Line,
        may: May,
        truth: Option<&mut Mailbox>,
        answer: &mut Answer,
    ) -> Result<(), String> {
        match &line {
            Line::Bye(text) => return Err(format!("BYE {text}")),
            Line::Ok(code, value) => {
                if code == "HIGHESTMODSEQ" && self.selected.is_some() {
                    self.hold(parse(value)?, truth.as_deref())?;
                }
                if code == "PERMANENTFLAGS"
                    && let Some(selected) = &mut self.selected
                {
                    selected.permanent = wire::flags(value.trim_matches(['(', ')']));
                }
                answer.codes.insert(code.clone(), value.clone());
            }
            Line::Recent(0)
            | Line::Other(_)
            | Line::Status(..)
            | Line::Found(..)
            | Line::ESearch(..) => {}
            Line::Recent(_) => return Err("a message is recent".into()),
            Line::Exists(count) => {
                if self.selected.is_some() {
                    self.exists(*count, truth.as_deref())?;
                }
            }
            Line::Expunge(_) if self.is_witness => {}
            Line::Expunge(number) => self.expunge(*number, may, truth.as_deref())?,
            Line::Vanished {
                earlier: false,
                uids,
            } => self.vanished(uids, may, truth.as_deref())?,
            Line::Vanished {
                earlier: true,
                uids,
            } => {
                if self.awareness < Awareness::QResync {
                    return Err("VANISHED for a client that did not ask".into());
                }
                let there = truth.as_deref();
                let there = there.and_then(|truth| uids.iter().find(|uid| truth.is_present(**uid)));
                if let Some(uid) = there {
                    return Err(format!("VANISHED (EARLIER) {uid}, which is there"));
                }
                answer.earlier.extend(uids);
            }
            // The witness keeps no view.
            Line::Fetch(number, items) if self.is_witness => {
                answer.fetched.push((*number, None, items.clone()));
            }
            Line::Fetch(number, items) => {
                let uid = self.fetched(*number, items, may, truth)?;
                answer.fetched.push((*number, uid, items.clone()));
            }
        }
        answer.lines.push(line);
        Ok(())
    }

    /// The server says up to where all is told, because something is held back.
    fn hold(&mut self, up_to: u64, truth: Option<&Mailbox>) -> Result<(), String> {
        self.largest_told = 0;
        let selected = self.selected.as_mut().unwrap();
        selected.known_up_to = up_to;
        let Some(truth) = truth else { return Ok(()) };
        for slot in &selected.view {
            let message = slot.uid.and_then(|uid| truth.messages.get(&uid));
            if message.is_some_and(|one| one.gone_at.is_some_and(|at| at <= up_to)) {
                return Err(format!(
                    "HIGHESTMODSEQ {up_to}, but UID {:?} went before and that was not told",
                    slot.uid
                ));
            }
        }
        Ok(())
    }

    fn exists(&mut self, count: usize, truth: Option<&Mailbox>) -> Result<(), String> {
        let selected = self.selected.as_mut().unwrap();
        let before = selected.view.len();
        if count < before {
            return Err(format!("EXISTS went from {before} to {count}"));
        }
        selected.view.resize(count, Slot::default());
        truth.map_or(Ok(()), |truth| selected.resolve(truth))
    }

    fn expunge(&mut self, number: usize, may: May, truth: Option<&Mailbox>) -> Result<(), String> {
        if !may.expunge {
            return Err(format!("EXPUNGE {number} where it must not be told"));
        }
        if self.awareness == Awareness::QResync {
            return Err("EXPUNGE for a client that knows QRESYNC".into());
        }
        let selected = self
            .selected
            .as_mut()
            .ok_or("EXPUNGE and nothing selected")?;
        let index = number.wrapping_sub(1);
        let Some(slot) = selected.view.get(index) else {
            return Err(format!("EXPUNGE {number} of {}", selected.view.len()));
        };
        if let (Some(truth), Some(uid)) = (truth, slot.uid)
            && truth.is_present(uid)
        {
            return Err(format!("EXPUNGE {number} is UID {uid}, which is there"));
        }
        selected.view.remove(index);
        truth.map_or(Ok(()), |truth| selected.resolve(truth))
    }

    fn vanished(&mut self, uids: &[u32], may: May, truth: Option<&Mailbox>) -> Result<(), String> {
        if self.awareness < Awareness::QResync || !may.expunge {
            return Err("VANISHED where it must not be told".into());
        }
        let selected = self
            .selected
            .as_mut()
            .ok_or("VANISHED and nothing selected")?;
        for uid in uids {
            if truth.is_some_and(|truth| truth.is_present(*uid)) {
                return Err(format!("VANISHED {uid}, which is there"));
            }
            let known = |slot: &Slot| slot.uid == Some(*uid);
            let place = selected.view.iter().position(known);
            // Else it is one of those that have no UID yet, and stands between its neighbours.
            let below = |slot: &Slot| slot.uid.is_some_and(|known| known < *uid);
            let from = selected
                .view
                .iter()
                .rposition(below)
                .map_or(0, |last| last + 1);
            let is_unknown = selected
                .view
                .get(from)
                .is_some_and(|slot| slot.uid.is_none());
            let place = place.or(Some(from).filter(|_| is_unknown));
            let place = place.ok_or(format!("VANISHED {uid}, of which nothing was told"))?;
            selected.view.remove(place);
        }
        truth.map_or(Ok(()), |truth| selected.resolve(truth))
    }

    fn fetched(
        &mut self,
        number: usize,
        items: &BTreeMap<String, String>,
        may: May,
        truth: Option<&mut Mailbox>,
    ) -> Result<Option<u32>, String> {
        let awareness = self.awareness;
        let selected = self.selected.as_mut().ok_or("FETCH and nothing selected")?;
        let count = selected.view.len();
        let index = number.wrapping_sub(1);
        if index >= count {
            return Err(format!("FETCH {number} of {count}"));
        }
        if let Some(uid) = items.get("UID") {
            let uid = parse(uid)?;
            let neighbours = &selected.view;
            let below = neighbours[..index].iter().rev().find_map(|slot| slot.uid);
            let above = neighbours[index + 1..].iter().find_map(|slot| slot.uid);
            let fits = below.is_none_or(|below| below < uid) && above.is_none_or(|up| uid < up);
            let slot = &mut selected.view[index];
            if !fits || slot.uid.is_some_and(|known| known != uid) {
                return Err(format!("UID {uid} where {below:?} {slot:?} {above:?} are"));
            }
            slot.uid = Some(uid);
        } else if awareness == Awareness::QResync && !may.fetch {
            return Err("FETCH without UID for a client that knows QRESYNC".into());
        }
        let modseq = items.get("MODSEQ").map(|text| parse::<u64>(text));
        let modseq = modseq.transpose()?;
        let flags = items.get("FLAGS").map(|list| wire::flags(list));
        if flags.is_some() && modseq.is_none() && awareness > Awareness::Plain && !may.fetch {
            return Err("flags without MODSEQ for a client that knows CONDSTORE".into());
        }
        self.largest_told = self.largest_told.max(modseq.unwrap_or(0));
        let slot = &mut selected.view[index];
        if let Some(modseq) = modseq
            && slot.modseq.is_some_and(|known| known > modseq)
        {
            return Err(format!(
                "MODSEQ {modseq} is older than what was told: {slot:?}"
            ));
        }
        if let (Some(truth), Some(uid)) = (truth, slot.uid) {
            let message = truth.messages.get_mut(&uid);
            let message = message.ok_or(format!("UID {uid} never was"))?;
            if flags.is_some() || modseq.is_some() {
                let highest = truth.highest;
                let from = slot.version;
                let later = message.versions.iter_mut().enumerate().skip(from);
                let fits = |(_, version): &(usize, &mut super::truth::Version)| {
                    let same_flags = flags.as_ref().is_none_or(|told| *told == version.flags);
                    let same_modseq = modseq.is_none_or(|told| {
                        version.modseq.map_or(told > highest, |known| known == told)
                    });
                    same_flags && same_modseq
                };
                let told = later.into_iter().find(fits);
                let Some((index, version)) = told else {
                    return Err(format!(
                        "UID {uid} {flags:?} {modseq:?} is none of {:?}, at least {}",
                        message.versions, slot.version
                    ));
                };
                version.modseq = version.modseq.or(modseq);
                slot.version = index;
            }
        }
        if flags.is_some() {
            slot.flags = flags;
            slot.modseq = modseq;
        } else if modseq.is_some() {
            slot.modseq = modseq;
        }
        Ok(slot.uid)
    }

    /// Reads what an idling session is told, until its view is what the truth is, or it cannot be known which messages it has.
    pub(crate) fn watch(&mut self, truth: &mut Mailbox) -> Result<(), String> {
        let mut answer = Answer::default();
        while self.has_all_uids() && self.is_up_to_date(truth, true).is_err() {
            let line = self.line()?;
            let line = line.strip_prefix("* ").ok_or("expected news")?;
            self.hear(Line::read(line)?, May::ALL, Some(truth), &mut answer)?;
        }
        Ok(())
    }

    fn has_all_uids(&self) -> bool {
        let mut slots = self.selected.iter().flat_map(|selected| &selected.view);
        slots.all(|slot| slot.uid.is_some())
    }

    /// Whether the client knows all that happened; where `all` is not, it may be without news of what is gone.
    pub(crate) fn is_up_to_date(&mut self, truth: &Mailbox, all: bool) -> Result<(), String> {
        let Some(selected) = &mut self.selected else {
            return Ok(());
        };
        if all {
            let present: Vec<u32> = truth.present().map(|(uid, _)| uid).collect();
            if present.len() != selected.view.len() {
                return Err(format!(
                    "{} messages are told of, there are {}",
                    selected.view.len(),
                    present.len()
                ));
            }
            for (slot, uid) in selected.view.iter_mut().zip(present) {
                if *slot.uid.get_or_insert(uid) != uid {
                    return Err(format!("{slot:?} should be UID {uid}"));
                }
            }
        } else {
            let known: BTreeSet<u32> = selected.view.iter().filter_map(|slot| slot.uid).collect();
            let some_unknown = known.len() != selected.view.len();
            let missing = truth.present().find(|(uid, _)| !known.contains(uid));
            if let Some((uid, _)) = missing.filter(|_| !some_unknown) {
                return Err(format!("UID {uid} is there and was not told"));
            }
        }
        for slot in &selected.view {
            let Some(message) = slot.uid.and_then(|uid| truth.messages.get(&uid)) else {
                continue;
            };
            if message.is_gone {
                continue;
            }
            let believed = slot.flags.as_ref();
            if believed.is_some_and(|flags| flags != message.flags()) {
                return Err(format!(
                    "the client believes {slot:?}, but flags are {:?}",
                    message.flags()
                ));
            }
            // Nor may it miss news of what it never asked about.
            let unheard = slot.selected.filter(|_| believed.is_none());
            if unheard.is_some_and(|index| message.versions[index].flags != *message.flags()) {
                return Err(format!(
                    "flags of {slot:?} became {:?} and that was not told",
                    message.flags()
                ));
            }
            let told = slot.modseq.zip(message.modseq());
            if told.is_some_and(|(told, is)| told != is) {
                return Err(format!(
                    "the client believes {slot:?}, but MODSEQ is {:?}",
                    message.modseq()
                ));
            }
        }
        Ok(())
    }

    /// The last so many lines.
    pub(crate) fn transcript(&self, count: usize) -> String {
        let lines = self.log.iter().skip(self.log.len().saturating_sub(count));
        let lines: Vec<&str> = lines.map(String::as_str).collect();
        lines.join("\n")
    }
}

impl Selected {
    /// New numbers get their UIDs where only one assignment is possible.
    fn resolve(&mut self, truth: &Mailbox) -> Result<(), String> {
        let told = self.view.iter().filter_map(|slot| slot.uid).max();
        self.highest_told = self.highest_told.max(told.unwrap_or(0));
        let known = self.view.iter().rposition(|slot| slot.uid.is_some());
        let open = &mut self.view[known.map_or(0, |last| last + 1)..];
        let candidates = truth.messages.range(self.highest_told + 1..);
        let candidates: Vec<u32> = candidates.map(|(uid, _)| *uid).collect();
        if open.len() > candidates.len() {
            return Err(format!(
                "{} new messages, but there were only {candidates:?}",
                open.len()
            ));
        }
        if open.len() == candidates.len() {
            for (slot, uid) in open.iter_mut().zip(candidates) {
                slot.uid = Some(uid);
                self.highest_told = uid;
            }
        }
        Ok(())
    }
}

pub(crate) fn parse<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("this is no number: {text}"))
}

fn broken(error: std::io::Error) -> String {
    format!("the connection broke: {error}")
}
