//! Reads what the server says into numbers and words; knows nothing of what is right.

use std::collections::{BTreeMap, BTreeSet};

/// The flags of a message.
pub(crate) type Flags = BTreeSet<String>;

/// An untagged line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Exists(usize),
    Recent(usize),
    Expunge(usize),
    Vanished {
        earlier: bool,
        uids: Vec<u32>,
    },
    Fetch(usize, BTreeMap<String, String>),
    /// The word, the numbers, and the modification sequence.
    Found(String, Vec<u32>, Option<u64>),
    /// The items of an ESEARCH, whether it tells UIDs, and the tag it is for.
    ESearch(BTreeMap<String, String>, bool, String),
    Status(String, BTreeMap<String, u64>),
    /// OK with a code, or none.
    Ok(String, String),
    Bye(String),
    Other(String),
}

impl Line {
    /// An untagged line, without "* ".
    pub(crate) fn read(line: &str) -> Result<Self, String> {
        let bad = || format!("this cannot be read: {line}");
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Ok(number) = word.parse::<usize>() {
            let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            return match word {
                "EXISTS" => Ok(Self::Exists(number)),
                "RECENT" => Ok(Self::Recent(number)),
                "EXPUNGE" => Ok(Self::Expunge(number)),
                "FETCH" => Ok(Self::Fetch(number, items(rest).ok_or_else(bad)?)),
                _ => Err(bad()),
            };
        }
        match word {
            "VANISHED" => {
                let (earlier, set) = match rest.strip_prefix("(EARLIER) ") {
                    Some(set) => (true, set),
                    None => (false, rest),
                };
                let uids = numbers(set).ok_or_else(bad)?;
                Ok(Self::Vanished { earlier, uids })
            }
            "SEARCH" | "SORT" => {
                let (list, modseq) = match rest.split_once("(MODSEQ ") {
                    Some((list, modseq)) => {
                        let modseq = modseq.strip_suffix(')').ok_or_else(bad)?;
                        (list, Some(modseq.parse().map_err(|_| bad())?))
                    }
                    None => (rest, None),
                };
                let list = list.split_whitespace().map(str::parse);
                let list: Result<Vec<u32>, _> = list.collect();
                Ok(Self::Found(word.into(), list.map_err(|_| bad())?, modseq))
            }
            "ESEARCH" => esearch(rest).ok_or_else(bad),
            "STATUS" => {
                let (name, list) = rest.rsplit_once(" (").ok_or_else(bad)?;
                let words: Vec<&str> = list.trim_end_matches(')').split(' ').collect();
                let pairs = words.chunks(2).map(|pair| match pair {
                    [name, value] => Ok(((*name).into(), value.parse().map_err(|_| bad())?)),
                    _ => Err(bad()),
                });
                Ok(Self::Status(name.into(), pairs.collect::<Result<_, _>>()?))
            }
            "OK" => {
                let (code, value) = code(rest);
                Ok(Self::Ok(code, value))
            }
            "BYE" => Ok(Self::Bye(rest.into())),
            _ => Ok(Self::Other(line.into())),
        }
    }
}

/// The code at the beginning of a text, and what belongs to it: `[UIDNEXT 4] …`.
pub(crate) fn code(text: &str) -> (String, String) {
    let inner = text.strip_prefix('[').and_then(|text| text.split_once(']'));
    let inner = inner.map_or("", |(inner, _)| inner);
    let (code, value) = inner.split_once(' ').unwrap_or((inner, ""));
    (code.into(), value.into())
}

fn esearch(rest: &str) -> Option<Line> {
    let (tag, mut rest) = rest.strip_prefix("(TAG \"")?.split_once("\")")?;
    rest = rest.strip_prefix(' ').unwrap_or(rest);
    let by_uid = rest.starts_with("UID");
    let rest = rest.strip_prefix("UID").unwrap_or(rest);
    let mut results = BTreeMap::new();
    let mut words = rest.split_whitespace();
    while let Some(name) = words.next() {
        let value = words.next()?;
        let value = match value.strip_prefix('(') {
            Some(window) => format!("{window} {}", words.next()?.strip_suffix(')')?),
            None => value.into(),
        };
        results.insert(name.to_owned(), value);
    }
    Some(Line::ESearch(results, by_uid, tag.into()))
}

/// `1:3,5` in its order.
pub(crate) fn numbers(set: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for range in set.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once(':').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || last - first > 1_000_000 {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// The items of a FETCH: `(UID 4 FLAGS (\Seen) BODY[TEXT] {3}…)`.
fn items(text: &str) -> Option<BTreeMap<String, String>> {
    let bytes = text.strip_prefix('(')?.as_bytes();
    let (mut at, mut items) = (0, BTreeMap::new());
    loop {
        let (start, mut depth) = (at, 0);
        while bytes.get(at).is_some_and(|byte| *byte != b' ' || depth > 0) {
            depth += i32::from(bytes[at] == b'[') - i32::from(bytes[at] == b']');
            at += 1;
        }
        let name = text_of(&bytes[start..at]);
        at += 1;
        let start = at;
        let value = match bytes.get(at)? {
            b'(' => {
                at += bytes[at..].iter().position(|byte| *byte == b')')? + 1;
                text_of(&bytes[start + 1..at - 1])
            }
            b'"' => {
                at += bytes[at + 1..].iter().position(|byte| *byte == b'"')? + 2;
                text_of(&bytes[start + 1..at - 1])
            }
            b'{' => {
                let end = at + bytes[at..].windows(3).position(|some| some == b"}\r\n")?;
                let length: usize = text_of(&bytes[at + 1..end]).parse().ok()?;
                at = end + 3 + length;
                text_of(bytes.get(end + 3..at)?)
            }
            _ => {
                let is_end = |byte: &u8| matches!(byte, b' ' | b')');
                at += bytes[at..].iter().position(is_end)?;
                text_of(&bytes[start..at])
            }
        };
        if items.insert(name, value).is_some() {
            return None;
        }
        match bytes.get(at)? {
            b' ' => at += 1,
            b')' if at + 1 == bytes.len() => return Some(items),
            _ => return None,
        }
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The flags in `\Seen other`.
pub(crate) fn flags(list: &str) -> Flags {
    list.split_whitespace().map(str::to_owned).collect()
}
