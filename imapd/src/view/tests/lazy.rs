//! A view that reads its pages late, beside one that has everything from the start and beside a client that believes what it is told.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

/// Few enough that messages share pages, and so many pages that not all can be kept.
const STEP: u32 = 450;
const UIDS: u32 = 60;

/// deliverd's mailbox, and what it has told that was not heard yet.
struct Mailbox {
    there: BTreeMap<u32, Record>,
    next: u32,
    modseq: u64,
    removed: Vec<(u64, u32)>,
    told: VecDeque<SessionEvent>,
}

impl Mailbox {
    fn new(messages: u32) -> Self {
        let mut mailbox = Self {
            there: BTreeMap::new(),
            next: 1,
            modseq: 1,
            removed: Vec::new(),
            told: VecDeque::new(),
        };
        (0..messages).for_each(|_| mailbox.add());
        mailbox.told.clear();
        mailbox
    }

    fn add(&mut self) {
        self.modseq += 1;
        let record = Record {
            modseq: self.modseq,
            ..record(self.next, 0)
        };
        self.there.insert(self.next, record);
        self.next += STEP;
        self.told.push_back(SessionEvent::Added(vec![record]));
    }

    /// Those messages among `numbers` that are there.
    fn chosen(&self, numbers: &[u32]) -> Vec<u32> {
        let uids = numbers.iter().map(|number| number * STEP + 1);
        uids.filter(|uid| self.there.contains_key(uid)).collect()
    }

    fn mark(&mut self, numbers: &[u32]) {
        self.modseq += 1;
        for uid in self.chosen(numbers) {
            let record = self.there.get_mut(&uid).unwrap();
            record.flags ^= bit::SEEN;
            record.modseq = self.modseq;
            // Changes made together are told in several events.
            self.told.push_back(SessionEvent::Changed(vec![*record]));
        }
    }

    fn remove(&mut self, numbers: &[u32]) {
        self.modseq += 1;
        let uids = self.chosen(numbers);
        for uid in &uids {
            self.there.remove(uid);
            self.removed.push((self.modseq, *uid));
        }
        let ranges = uids.into_iter().map(|uid| (uid, uid)).collect();
        self.told.push_back(SessionEvent::Removed(ranges));
    }

    fn select(&self) -> Selection {
        let uids: Vec<u32> = self.there.keys().copied().collect();
        let mut selection = selection(&uids);
        selection.status.uid_next = self.next;
        selection.status.highest_modseq = self.modseq;
        for line in &mut selection.shards {
            let messages = self.there.range(uids_of(line.shard));
            line.modseq = messages.map(|(_, record)| record.modseq).max().unwrap();
        }
        selection
    }

    fn read(&self, shards: &[u32]) -> Pages {
        let page = |shard: &u32| {
            let messages = self.there.range(uids_of(*shard));
            (*shard, messages.map(|(_, record)| *record).collect())
        };
        shards.iter().map(page).collect()
    }

    fn removed_since(&self, since: u64) -> Ranges {
        let later = self.removed.iter().filter(|(modseq, _)| *modseq > since);
        Ranges::new(later.map(|(_, uid)| (*uid, *uid)).collect())
    }
}

/// A view with all messages in memory.
#[derive(Default)]
struct Eager {
    messages: Vec<Record>,
    fresh: Vec<Record>,
    changed: BTreeSet<u32>,
    gone: BTreeSet<u32>,
}

impl Eager {
    fn note(&mut self, event: &SessionEvent) {
        match event {
            SessionEvent::Added(records) => self.fresh.extend(records),
            SessionEvent::Changed(records) => {
                for record in records {
                    let all = self.messages.iter_mut();
                    let known = all.chain(&mut self.fresh).find(|r| r.uid == record.uid);
                    *known.unwrap() = *record;
                    if self.messages.iter().any(|known| known.uid == record.uid) {
                        self.changed.insert(record.uid);
                    }
                }
            }
            SessionEvent::Removed(ranges) => {
                for (uid, _) in ranges {
                    self.fresh.retain(|fresh| fresh.uid != *uid);
                    let known = self.messages.iter().find(|known| known.uid == *uid);
                    self.gone.extend(known.map(|known| known.uid));
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn number(&self, uid: u32) -> usize {
        let at = self.messages.iter().position(|known| known.uid == uid);
        at.unwrap() + 1
    }

    fn tell(&mut self, expunges: Expunges) -> String {
        let mut told = String::new();
        let changed = std::mem::take(&mut self.changed);
        for uid in changed.difference(&self.gone) {
            let number = self.number(*uid);
            let flags = match self.messages[number - 1].flags {
                0 => "",
                _ => "\\Seen",
            };
            told += &format!("* {number} FETCH (UID {uid} FLAGS ({flags}))\r\n");
        }
        if expunges == Expunges::Allowed {
            for uid in std::mem::take(&mut self.gone).into_iter().rev() {
                let number = self.number(uid);
                told += &format!("* {number} EXPUNGE\r\n");
                self.messages.remove(number - 1);
            }
        }
        if !self.fresh.is_empty() {
            self.messages.append(&mut self.fresh);
            told += &format!("* {} EXISTS\r\n* 0 RECENT\r\n", self.messages.len());
        }
        told
    }
}

/// What a client makes of it: UIDs and flags by number, as far as it has heard them.
struct Client(Vec<Option<(u32, bool)>>);

impl Client {
    fn hear(&mut self, text: &str) {
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let number: usize = words[1].parse().unwrap();
            match words[2] {
                "EXISTS" => {
                    assert!(number >= self.0.len(), "{line}");
                    self.0.resize(number, None);
                }
                "EXPUNGE" => {
                    self.0.remove(number - 1);
                }
                "FETCH" => {
                    let uid = words[4].parse().unwrap();
                    let known = &mut self.0[number - 1];
                    assert!(known.is_none_or(|(known, _)| known == uid), "{line}");
                    *known = Some((uid, line.contains("Seen")));
                }
                _ => assert_eq!(words[2], "RECENT"),
            }
        }
    }
}

struct Play {
    mailbox: Mailbox,
    view: View,
    eager: Eager,
    client: Client,
    /// Changes were lost: there is no model but the client any more.
    has_lost: bool,
}

#[derive(Debug, Clone)]
enum Deed {
    Add,
    Mark(Vec<u32>),
    Remove(Vec<u32>),
    /// So many events are heard.
    Hear(usize),
    /// The page of a message is read; meanwhile something is marked and removed.
    Read(usize, Vec<u32>, Vec<u32>),
    Tell(Expunges),
    Lose,
}

impl Play {
    fn new(messages: u32) -> Self {
        let mailbox = Mailbox::new(messages);
        let all: Vec<Record> = mailbox.there.values().copied().collect();
        let known = all.iter().map(|record| Some((record.uid, false)));
        Self {
            view: View::new("INBOX".into(), mailbox.select()),
            client: Client(known.collect()),
            eager: Eager {
                messages: all,
                ..Eager::default()
            },
            mailbox,
            has_lost: false,
        }
    }

    fn events(&mut self, count: usize) -> Vec<SessionEvent> {
        let told = &mut self.mailbox.told;
        let events: Vec<SessionEvent> = told.drain(..count.min(told.len())).collect();
        if !self.has_lost {
            events.iter().for_each(|event| self.eager.note(event));
        }
        events
    }

    /// Reads pages as they are; then `meanwhile`, and some of its events come with the answer.
    fn read(&mut self, shards: Vec<u32>, meanwhile: impl FnOnce(&mut Mailbox)) {
        self.refresh();
        let shards = self.view.without_page(shards);
        let pages = self.mailbox.read(&shards);
        let before = self.mailbox.told.len();
        meanwhile(&mut self.mailbox);
        let events = self.events(before + 1);
        self.view.take(pages, events);
        assert_eq!(self.view.fate(), Fate::Selected);
        assert!(self.view.without_page(shards).is_empty());
    }

    fn refresh(&mut self) {
        if self.view.fate() == Fate::Selected {
            return;
        }
        self.mailbox.told.clear();
        let since = self.view.noted();
        let selection = self.mailbox.select();
        let removed = self.mailbox.removed_since(since);
        let comparison = self.view.compare_with(selection, since, Some(removed));
        let mut comparison = comparison.unwrap();
        loop {
            let some = comparison.next_some();
            if some.is_empty() {
                break;
            }
            let pages = self.mailbox.read(&some);
            let before = self.mailbox.told.len();
            // Things go on happening.
            self.mailbox.mark(&[some[0] * 2]);
            self.mailbox.remove(&[some[0] * 2 + 1]);
            self.mailbox.add();
            let events = self.events(before + 2);
            self.view.compare(&comparison, pages, events).unwrap();
        }
    }

    fn tell(&mut self, expunges: Expunges) {
        self.refresh();
        let events = self.events(usize::MAX);
        events.into_iter().for_each(|event| self.view.note(event));
        let mut out = Vec::new();
        while let Err(Lacking(shards)) = self.view.tell(expunges, &mut out) {
            self.read(shards, |_| {});
        }
        let text = String::from_utf8(out).unwrap();
        if !self.has_lost {
            assert_eq!(text, self.eager.tell(expunges));
        }
        self.client.hear(&text);
    }

    fn perform(&mut self, deed: Deed) {
        match deed {
            Deed::Add => self.mailbox.add(),
            Deed::Mark(some) => self.mailbox.mark(&some),
            Deed::Remove(some) => self.mailbox.remove(&some),
            Deed::Hear(count) => {
                let events = self.events(count);
                events.into_iter().for_each(|event| self.view.note(event));
            }
            Deed::Read(index, marked, removed) => {
                if let Some(shard) = self.view.shard_at(index) {
                    self.read(vec![shard], |mailbox| {
                        mailbox.mark(&marked);
                        mailbox.remove(&removed);
                    });
                }
            }
            Deed::Tell(expunges) => self.tell(expunges),
            Deed::Lose => {
                self.has_lost = true;
                self.mailbox.told.clear();
                self.view.note(SessionEvent::Resync);
            }
        }
        self.compare();
    }

    /// Numbers and messages are those the other view has.
    fn compare(&self) {
        if self.has_lost {
            return;
        }
        assert_eq!(self.view.len(), self.eager.messages.len());
        for (index, expected) in self.eager.messages.iter().enumerate() {
            let Some(uid) = self.view.uid(index) else {
                continue;
            };
            assert_eq!(uid, expected.uid);
            assert_eq!(self.view.below(uid), Ok(index));
            assert_eq!(self.view.is_gone(uid), self.eager.gone.contains(&uid));
            match self.view.message(index) {
                Some(message) => assert_eq!(message, expected),
                None => assert!(self.view.is_gone(uid)),
            }
        }
    }

    fn end(mut self) {
        self.tell(Expunges::Allowed);
        self.tell(Expunges::Allowed);
        assert!(!self.view.has_news());
        let there: Vec<u32> = self.mailbox.there.keys().copied().collect();
        assert_eq!(self.client.0.len(), there.len());
        for (known, record) in self.client.0.iter().zip(self.mailbox.there.values()) {
            let Some((uid, is_seen)) = known else {
                continue;
            };
            assert_eq!(*uid, record.uid);
            assert_eq!(*is_seen, record.flags != 0, "{uid}");
        }
    }
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let some = || proptest::collection::vec(0..UIDS, 0..6);
    let expunges = prop_oneof![Just(Expunges::Allowed), Just(Expunges::Held)];
    let deed = prop_oneof![
        3 => Just(Deed::Add),
        3 => some().prop_map(Deed::Mark),
        3 => some().prop_map(Deed::Remove),
        3 => (0..9_usize).prop_map(Deed::Hear),
        5 => (0..UIDS as usize, some(), some()).prop_map(|(at, marked, removed)| Deed::Read(at, marked, removed)),
        2 => expunges.prop_map(Deed::Tell),
        1 => Just(Deed::Lose),
    ];
    proptest::collection::vec(deed, 0..60)
}

proptest! {
    #[test]
    fn pages_that_are_read_late_show_what_was_there_from_the_start(
        messages in 0..UIDS,
        deeds in deeds(),
    ) {
        let mut play = Play::new(messages);
        deeds.into_iter().for_each(|deed| play.perform(deed));
        play.end();
    }
}

/// So many messages one after the other.
fn uids(count: u32) -> Vec<u32> {
    (1..=count).collect()
}

#[test]
fn nothing_is_read_until_it_is_needed_and_then_one_page() {
    let mut view = View::new("INBOX".into(), selection(&uids(50_000)));
    assert_eq!((view.len(), view.message(0)), (50_000, None));
    assert_eq!(view.below(1), Ok(0));
    assert_eq!(view.below(4000), Ok(3999));
    assert_eq!(view.below(60_000), Ok(50_000));
    assert_eq!(view.below(4001), Err(Lacking(vec![4])));
    assert_eq!(view.lacking(&(3999..4001)), [4]);
    view.take(
        vec![(4, (4000..5000).map(|uid| record(uid, 0)).collect())],
        Vec::new(),
    );
    assert_eq!(view.below(4001), Ok(4000));
    assert_eq!(view.lacking(&(3999..4001)), [0_u32; 0]);
    assert_eq!(view.message(4000).map(|message| message.uid), Some(4001));
    assert_eq!(view.lacking(&(0..50_000)).len(), PAGES_PER_READ - 1);
}

#[test]
fn no_more_pages_are_kept_than_agreed_and_the_last_used_stay() {
    let all = uids(50_000);
    let mut view = View::new("INBOX".into(), selection(&all));
    let pages = pages(&all);
    for page in pages {
        view.take(vec![page], Vec::new());
        assert_eq!(view.without_page(vec![0]), [0_u32; 0]);
    }
    let kept: Vec<u32> = (0..=50)
        .filter(|shard| view.without_page(vec![*shard]).is_empty())
        .collect();
    assert_eq!(kept.len(), PAGES_KEPT);
    assert_eq!((kept[0], kept[1]), (0, 36));
}

#[test]
fn a_shard_that_is_gone_as_a_whole_need_not_be_read() {
    let mut view = View::new("INBOX".into(), selection(&uids(3000)));
    view.note(SessionEvent::Removed(vec![(1000, 1999)]));
    let text = told(&mut view, Expunges::Allowed);
    assert!(text.starts_with("* 1999 EXPUNGE\r\n* 1998 EXPUNGE\r\n"));
    assert!(text.ends_with("* 1000 EXPUNGE\r\n"));
    assert_eq!(view.below(2000), Ok(999));
    assert_eq!(view.len(), 2000);
}

#[test]
fn pages_that_cannot_be_true_are_not_kept() {
    let there = [2, 4, 1006];
    let read = |uids: &[u32]| vec![(0, uids.iter().map(|uid| record(*uid, 0)).collect())];
    for wrong in [read(&[]), read(&[2]), read(&[2, 3, 4])] {
        let mut view = View::new("INBOX".into(), selection(&there));
        view.take(wrong, Vec::new());
        assert_eq!((view.fate(), view.uid(0)), (Fate::Stale, None));
    }
    // More are said to be gone than were there.
    let mut view = View::new("INBOX".into(), selection(&there));
    view.note(SessionEvent::Removed(vec![(0, u32::MAX)]));
    assert!(view.tell(Expunges::Allowed, &mut Vec::new()).is_err());
    view.take(read(&[]), Vec::new());
    assert_eq!(view.fate(), Fate::Stale);
    // A shard nobody heard of, and one nobody asked for, change nothing.
    let mut view = View::new("INBOX".into(), selection(&there));
    view.take(vec![(7, vec![record(7001, 0)])], Vec::new());
    assert_eq!((view.fate(), view.len()), (Fate::Selected, 3));
}

#[test]
fn what_cannot_be_found_out_is_said_to_be_lost() {
    let compare = |removed: Option<Ranges>, now: &[u32]| {
        let mut view = View::new("INBOX".into(), selection(&[2, 4, 6]));
        view.note(SessionEvent::Resync);
        let comparison = view.compare_with(selection(now), view.noted(), removed);
        let done = view.compare(&comparison.unwrap(), pages(now), Vec::new());
        assert_eq!(done.is_err(), view.fate() == Fate::Lost);
        done.map(|()| view)
    };
    let gone = |uid| Some(Ranges::new(vec![(uid, uid)]));
    assert!(compare(None, &[2, 4, 6]).is_ok(), "nothing is missing");
    assert!(compare(None, &[2, 6]).is_err());
    assert!(compare(gone(6), &[2, 4, 5, 6]).is_err());
    assert!(compare(gone(2000), &[2, 6]).is_err());
    let mut view = compare(gone(4), &[2, 6]).unwrap();
    view.take(pages(&[2, 6]), Vec::new());
    assert_eq!(told(&mut view, Expunges::Allowed), "* 2 EXPUNGE\r\n");
}

// Its removal may be among those that are asked for when others were lost.
#[test]
fn what_came_and_went_untold_is_not_missed() {
    let mut view = View::new("INBOX".into(), selection(&[2, 4]));
    view.note(SessionEvent::Added(vec![record(106, 0)]));
    view.note(SessionEvent::Removed(vec![(106, 106)]));
    view.note(SessionEvent::Added(vec![record(108, 0)]));
    assert!(told(&mut view, Expunges::Allowed).starts_with("* 3 EXISTS\r\n"));
    view.note(SessionEvent::Resync);
    let removed = Ranges::new(vec![(4, 4), (106, 106)]);
    let now = [2, 108];
    let comparison = view.compare_with(selection(&now), view.noted(), Some(removed));
    let done = view.compare(&comparison.unwrap(), pages(&now), Vec::new());
    assert_eq!(done, Ok(()));
    view.take(pages(&now), Vec::new());
    assert_eq!(told(&mut view, Expunges::Allowed), "* 2 EXPUNGE\r\n");
}
