//! Steps that read: FETCH, SEARCH, SORT, and what `$` becomes.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::Key;
use super::session::{Answer, Awareness, May, Slot, parse};
use super::steps::Run;
use super::truth::{Content, Message};
use super::wire::{Line, numbers};

/// What FETCH may ask for.
const ITEMS: [&str; 9] = [
    "FLAGS",
    "FLAGS",
    "UID",
    "MODSEQ",
    "RFC822.SIZE",
    "INTERNALDATE",
    "EMAILID",
    "BODY.PEEK[HEADER.FIELDS (SUBJECT)]",
    "BODY[TEXT]",
];

impl Run {
    fn slots(&self, at: usize) -> &[Slot] {
        &self.sessions[at].selected.as_ref().unwrap().view
    }

    fn learn_of_modseq(&mut self, at: usize) {
        let session = &mut self.sessions[at];
        session.awareness = session.awareness.max(Awareness::CondStore);
    }

    pub(crate) fn fetch(&mut self, at: usize) -> Result<(), String> {
        let name = self.name(at);
        let by_uid = self.dice.chance(40);
        let (set, places) = self.some(at, by_uid);
        let mut items: BTreeSet<&str> = BTreeSet::new();
        for _ in 0..=self.dice.below(3) {
            items.insert(*self.dice.pick(&ITEMS));
        }
        let highest = self.world.mailbox(&name).highest;
        let place = self.dice.below(self.slots(at).len());
        let some = self.world.mailbox(&name).messages[&self.uid(at, place)].modseq();
        let since = self
            .dice
            .chance(15)
            .then(|| *self.dice.pick(&[highest, some.unwrap(), some.unwrap() - 1]));
        let vanished =
            by_uid && self.sessions[at].awareness == Awareness::QResync && since.is_some();
        let modifier = since.map_or_else(String::new, |since| {
            format!(
                " (CHANGEDSINCE {since}{})",
                if vanished { " VANISHED" } else { "" }
            )
        });
        let list: Vec<&str> = items.iter().copied().collect();
        let prefix = if by_uid { "UID " } else { "" };
        let command = format!("{prefix}FETCH {set} ({}){modifier}", list.join(" "));
        let before: BTreeMap<u32, Slot> = places
            .iter()
            .map(|place| (self.uid(at, *place), self.slots(at)[*place].clone()))
            .collect();
        let may_mark = self.rights(at).has("s");
        // Which must and may be shown, by what was told of before and by all that happened since.
        let mailbox = self.world.mailbox_mut(&name);
        let is_news = |message: &Message, slot: &Slot| {
            let some = &message.versions[slot.version..];
            let is = |version: &super::truth::Version| {
                since.is_none_or(|since| version.modseq.unwrap() > since)
            };
            (some.iter().any(is), some.iter().all(is))
        };
        let (mut must, mut may) = (BTreeSet::new(), BTreeSet::new());
        for (uid, slot) in &before {
            let message = &mailbox.messages[uid];
            let (is_any, is_all) = is_news(message, slot);
            if is_any {
                may.insert(*uid);
            }
            if is_all && !message.is_gone {
                must.insert(*uid);
            }
        }
        let gone = mailbox.messages.iter();
        let gone = gone.filter(|(_, one)| {
            one.gone_at
                .is_some_and(|at| since.is_some_and(|since| at > since))
        });
        let gone: BTreeSet<u32> = gone.map(|(uid, _)| *uid).collect();
        let selected = self.sessions[at].selected.as_ref().unwrap();
        let marks = items.contains("BODY[TEXT]") && !selected.read_only && may_mark;
        if items.contains("BODY[TEXT]") && selected.is_unsure {
            return self.noop(at);
        }
        // Where it is not known which are shown, it is not known which are marked either.
        let marked = if marks
            && must.len()
                == may
                    .iter()
                    .filter(|uid| !mailbox.messages[uid].is_gone)
                    .count()
        {
            must.clone()
        } else if marks {
            return Ok(());
        } else {
            BTreeSet::new()
        };
        for uid in &marked {
            let mut flags = mailbox.messages[uid].flags().clone();
            flags.insert("\\Seen".into());
            mailbox.set(*uid, flags);
        }
        let all = May {
            expunge: by_uid,
            fetch: true,
        };
        if items.contains("MODSEQ") || since.is_some() {
            self.learn_of_modseq(at);
        }
        let answer = self.say(at, &command, all)?.ok()?;
        self.check_fetched(&name, &answer, &items, &must, &may)?;
        if vanished {
            let named: BTreeSet<u32> = match set.as_str() {
                "$" => self.sessions[at].saved.clone(),
                _ => named(&set, self.world.mailbox(&name).uid_next),
            };
            let untold: BTreeSet<u32> = before.keys().copied().collect();
            let missing = gone
                .iter()
                .filter(|uid| named.contains(uid) && !untold.contains(uid));
            let missing: Vec<&u32> = missing
                .filter(|uid| !answer.earlier.contains(uid))
                .collect();
            if !missing.is_empty() {
                return Err(format!(
                    "{missing:?} are gone since {since:?} and are not told"
                ));
            }
        }
        if !marked.is_empty() {
            self.told_by(at, by_uid)?;
        }
        self.settle(&name)
    }

    fn check_fetched(
        &mut self,
        name: &str,
        answer: &Answer,
        items: &BTreeSet<&str>,
        must: &BTreeSet<u32>,
        may: &BTreeSet<u32>,
    ) -> Result<(), String> {
        let asked: BTreeSet<String> = items.iter().map(|item| item.replace(".PEEK", "")).collect();
        let is_answer =
            |told: &BTreeMap<String, String>| asked.iter().all(|item| told.contains_key(item));
        for uid in must {
            let about = answer
                .fetched
                .iter()
                .filter(|(_, told, _)| *told == Some(*uid));
            if !about.clone().any(|(_, _, told)| is_answer(told)) {
                return Err(format!("UID {uid} was asked for and is not told of"));
            }
        }
        let mailbox = &self.world.mailboxes[name];
        for (number, uid, told) in &answer.fetched {
            let Some(uid) = uid else { continue };
            let content = &mut self.world.contents[mailbox.messages[uid].content];
            let is_news = told
                .keys()
                .all(|item| matches!(item.as_str(), "FLAGS" | "UID" | "MODSEQ"));
            if !is_news && !may.contains(uid) {
                return Err(format!(
                    "FETCH {number} is UID {uid}, which was not asked for"
                ));
            }
            compare(content, told).map_err(|error| format!("UID {uid}: {error}"))?;
        }
        Ok(())
    }

    fn key(&mut self, at: usize) -> Key {
        let name = self.name(at);
        let mailbox = self.world.mailbox(&name);
        let (highest, last) = (mailbox.highest, mailbox.uid_next - 1);
        let count = self.slots(at).len();
        let some = mailbox.messages.values().rev().take(20);
        let some: Vec<u64> = some.filter_map(Message::modseq).chain([highest]).collect();
        let modseq = *self.dice.pick(&some);
        let key = Key::random(&mut self.dice, 2, count, last, modseq);
        if key.names_modseq() {
            self.learn_of_modseq(at);
        }
        key
    }

    /// The places of what must and of what may be found.
    fn matching(&self, at: usize, key: &Key) -> (BTreeSet<usize>, BTreeSet<usize>) {
        let mailbox = self.world.mailbox(&self.name(at));
        let (mut must, mut may) = (BTreeSet::new(), BTreeSet::new());
        for (place, slot) in self.slots(at).iter().enumerate() {
            let uid = slot.uid.unwrap();
            let message = &mailbox.messages[&uid];
            let content = &self.world.contents[message.content];
            let (is_any, is_all) =
                key.range(place + 1, uid, content, &message.versions[slot.version..]);
            if is_any {
                may.insert(place);
            }
            if is_all && !message.is_gone {
                must.insert(place);
            }
        }
        (must, may)
    }

    pub(crate) fn search(&mut self, at: usize) -> Result<(), String> {
        let by_uid = self.dice.chance(40);
        let key = self.key(at);
        let (must, may) = self.matching(at, &key);
        let numbers: BTreeMap<u32, usize> = (0..self.slots(at).len())
            .map(|place| (self.number(at, place, by_uid), place))
            .collect();
        let prefix = if by_uid { "UID " } else { "" };
        let all = May {
            expunge: by_uid,
            fetch: false,
        };
        let answer = self
            .say(at, &format!("{prefix}SEARCH {}", key.write()), all)?
            .ok()?;
        let (found, _) = found(&answer, "SEARCH")?;
        let places: Option<BTreeSet<usize>> = found
            .iter()
            .map(|number| numbers.get(number).copied())
            .collect();
        let places = places.ok_or(format!("{found:?} are not all told of"))?;
        if !must.is_subset(&places) || !places.is_subset(&may) || found.len() != places.len() {
            return Err(format!(
                "found {places:?}, not {must:?} up to {may:?} (from 0)"
            ));
        }
        Ok(())
    }

    fn number(&self, at: usize, place: usize, by_uid: bool) -> u32 {
        if by_uid {
            self.uid(at, place)
        } else {
            place as u32 + 1
        }
    }

    /// Everything is told first, so that there is one right answer.
    fn exactly(&mut self, at: usize, key: &Key) -> Result<Vec<usize>, String> {
        self.say(at, "NOOP", May::ALL)?.ok()?;
        self.all_is_told(at)?;
        let name = self.name(at);
        for slot in &mut self.sessions[at].selected.as_mut().unwrap().view {
            slot.version = self.world.mailboxes[&name].messages[&slot.uid.unwrap()]
                .versions
                .len()
                - 1;
        }
        Ok(self.matching(at, key).0.into_iter().collect())
    }

    pub(crate) fn sort(&mut self, at: usize) -> Result<(), String> {
        let by_uid = self.dice.chance(40);
        let key = Key::All;
        let mut places = self.exactly(at, &key)?;
        let key = self.key(at);
        if !matches!(key, Key::Sequence(..)) {
            places = self.matching(at, &key).0.into_iter().collect();
        }
        let key = if matches!(key, Key::Sequence(..)) {
            Key::All
        } else {
            key
        };
        let criterion = *self
            .dice
            .pick(&["SIZE", "REVERSE SIZE", "ARRIVAL", "REVERSE ARRIVAL"]);
        let mailbox = self.world.mailbox(&self.name(at));
        let content = |place: &usize| {
            let uid = self.uid(at, *place);
            &self.world.contents[mailbox.messages[&uid].content]
        };
        let value = |place: &usize| match criterion.ends_with("SIZE") {
            true => content(place).size.unwrap() as i64,
            false => content(place).moment() as i64,
        };
        places.sort_by_key(|place| {
            if criterion.starts_with("REVERSE") {
                -value(place)
            } else {
                value(place)
            }
        });
        let expected: Vec<u32> = places
            .iter()
            .map(|place| self.number(at, *place, by_uid))
            .collect();
        let prefix = if by_uid { "UID " } else { "" };
        let command = format!("{prefix}SORT ({criterion}) UTF-8 {}", key.write());
        let all = May {
            expunge: by_uid,
            fetch: false,
        };
        let answer = self.say(at, &command, all)?.ok()?;
        let (found, _) = found(&answer, "SORT")?;
        if found != expected {
            return Err(format!("sorted {found:?}, not {expected:?}"));
        }
        Ok(())
    }

    /// An extended search, whose result `$` may become.
    pub(crate) fn save(&mut self, at: usize) -> Result<(), String> {
        let by_uid = self.dice.chance(40);
        self.exactly(at, &Key::All)?;
        let key = self.key(at);
        let places: Vec<usize> = self.matching(at, &key).0.into_iter().collect();
        let (returns, saves) = *self.dice.pick(&[
            ("SAVE", true),
            ("SAVE COUNT", true),
            ("MIN SAVE", true),
            ("MIN MAX COUNT ALL", false),
            ("", false),
            ("PARTIAL 2:4", false),
            ("PARTIAL -1:-3 COUNT", false),
        ]);
        let numbered: Vec<u32> = places
            .iter()
            .map(|place| self.number(at, *place, by_uid))
            .collect();
        let prefix = if by_uid { "UID " } else { "" };
        let command = format!("{prefix}SEARCH RETURN ({returns}) {}", key.write());
        let all = May {
            expunge: by_uid,
            fetch: false,
        };
        let answer = self.say(at, &command, all)?.ok()?;
        let mut told = answer.lines.iter().filter_map(|line| match line {
            Line::ESearch(results, by_uid, _) => Some((results, *by_uid)),
            _ => None,
        });
        let told = told.next();
        if told.is_some_and(|(_, told)| told != by_uid) || told.is_none() != (returns == "SAVE") {
            return Err("ESEARCH is missing, superfluous, or by other numbers".into());
        }
        let has = |word: &str| returns.contains(word) || (returns.is_empty() && word == "ALL");
        let window = |window: &str, some: &[u32]| match some {
            [] => format!("{window} NIL"),
            some => format!("{window} {}", join(some)),
        };
        let last_three = &numbered[numbered.len().saturating_sub(3)..];
        let middle: Vec<u32> = numbered.iter().skip(1).take(3).copied().collect();
        let expected = [
            (
                "MIN",
                numbered.first().filter(|_| has("MIN")).map(u32::to_string),
            ),
            (
                "MAX",
                numbered.last().filter(|_| has("MAX")).map(u32::to_string),
            ),
            ("COUNT", has("COUNT").then(|| numbered.len().to_string())),
            (
                "ALL",
                (has("ALL") && !numbered.is_empty()).then(|| join(&numbered)),
            ),
            (
                "PARTIAL",
                match returns {
                    "PARTIAL 2:4" => Some(window("2:4", &middle)),
                    "PARTIAL -1:-3 COUNT" => Some(window("-1:-3", last_three)),
                    _ => None,
                },
            ),
        ];
        let nothing = BTreeMap::new();
        let told = told.map_or(&nothing, |(results, _)| results);
        for (name, expected) in expected {
            let told = told.get(name);
            let same = |told: &String, expected: &String| {
                let set = |text: &String| {
                    text.rsplit_once(' ')
                        .map_or_else(|| numbers(text), |(_, set)| numbers(set))
                };
                told == expected || set(told).is_some() && set(told) == set(expected)
            };
            let is_right = match (told, &expected) {
                (Some(told), Some(expected)) => same(told, expected),
                (told, expected) => told.is_none() && expected.is_none(),
            };
            if !is_right {
                return Err(format!("{name} {told:?}, not {expected:?}"));
            }
        }
        if saves {
            let saved = places.iter().map(|place| self.uid(at, *place));
            let count = if returns == "MIN SAVE" { 1 } else { usize::MAX };
            self.sessions[at].saved = saved.take(count).collect();
        }
        Ok(())
    }
}

fn join(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(",")
}

/// What SEARCH or SORT told.
fn found(answer: &Answer, wanted: &str) -> Result<(Vec<u32>, Option<u64>), String> {
    let mut found = answer.lines.iter().filter_map(|line| match line {
        Line::Found(word, numbers, modseq) if word == wanted => Some((numbers.clone(), *modseq)),
        _ => None,
    });
    let first = found.next().ok_or("nothing is told")?;
    if found.next().is_some() {
        return Err("told twice".into());
    }
    Ok(first)
}

/// The UIDs that a set names, `*` not counted.
fn named(set: &str, uid_next: u32) -> BTreeSet<u32> {
    let mut all = BTreeSet::new();
    for range in set.split(',') {
        let (first, last) = range.split_once(':').unwrap_or((range, range));
        let end = |text: &str| parse::<u32>(text).ok();
        let (Some(first), Some(last)) = (end(first), end(last)) else {
            continue;
        };
        all.extend(first.min(last)..=first.max(last).min(uid_next));
    }
    all
}

/// What never changes in a message.
fn compare(content: &mut Content, told: &BTreeMap<String, String>) -> Result<(), String> {
    for (item, value) in told {
        let is_right = match item.as_str() {
            "RFC822.SIZE" => content.size == parse(value).ok(),
            "INTERNALDATE" => content.date.as_ref() == Some(value),
            "EMAILID" => content.email_id.get_or_insert_with(|| value.clone()) == value,
            "BODY[HEADER.FIELDS (SUBJECT)]" => {
                *value == format!("Subject: {}\r\n\r\n", content.subject)
            }
            "BODY[TEXT]" => value.starts_with(&content.word),
            _ => true,
        };
        if !is_right {
            return Err(format!("{item} {value} is not {content:?}"));
        }
    }
    Ok(())
}
