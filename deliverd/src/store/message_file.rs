//! The name of a message's file: `{uid:08}_{flags}.eml` in the shard `{uid / 1000:04}`.

use std::io;

use ipc::cache::MESSAGES_PER_SHARD;
use ipc::session::UidRanges;
use ipc::snapshot::flag;

use crate::clock;

/// How many UIDs share a directory.
pub(crate) const SHARD: u32 = MESSAGES_PER_SHARD;
/// UIDs above this are not believed, so that one strange file name cannot use up the numbers of a mailbox.
pub(crate) const MAX_UID: u32 = u32::MAX - 0xffff;

/// Letters in the order in which they stand in a name.
const LETTERS: [(u8, char); 5] = [
    (flag::ANSWERED, 'A'),
    (flag::DRAFT, 'D'),
    (flag::FLAGGED, 'F'),
    (flag::SEEN, 'S'),
    (flag::DELETED, 'T'),
];

/// The number of the shard `uid` belongs to.
pub(crate) const fn shard_of(uid: u32) -> u32 {
    uid / SHARD
}

/// All UIDs of a shard.
pub(crate) fn uids_of(shard: u32) -> UidRanges {
    let first = shard.saturating_mul(SHARD);
    vec![(first, first.saturating_add(SHARD - 1))]
}

/// The directory name of a shard.
pub(crate) fn shard_name(shard: u32) -> String {
    format!("{shard:04}")
}

/// Reads a directory name that [`shard_name`] gives.
pub(crate) fn parse_shard(name: &str) -> Option<u32> {
    let shard = digits(name)?;
    (shard_name(shard) == name).then_some(shard)
}

/// The file name of a message.
pub(crate) fn file_name(uid: u32, flags: u8) -> String {
    let letters: String = LETTERS
        .iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, letter)| letter)
        .collect();
    format!("{uid:08}_{letters}.eml")
}

/// Reads a file name that [`file_name`] gives.
pub(crate) fn parse(name: &str) -> Option<(u32, u8)> {
    let (uid, letters) = name.strip_suffix(".eml")?.split_once('_')?;
    let uid = digits(uid).filter(|uid| (1..=MAX_UID).contains(uid))?;
    let mut flags = 0;
    for letter in letters.chars() {
        flags |= LETTERS.iter().find(|(_, known)| *known == letter)?.0;
    }
    (file_name(uid, flags) == name).then_some((uid, flags))
}

/// A name for a file that has the name of a message and is none: it gets a UID and a name of its own when the mailbox is read.
pub(crate) fn aside(name: &str) -> String {
    format!("{}-{name}", clock::micros())
}

fn digits(text: &str) -> Option<u32> {
    // `u32::from_str` would accept a plus sign.
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

/// A link, or something else that is not a regular file, stands where a message should be.
pub(super) fn is_none(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
        || error.kind() == io::ErrorKind::InvalidInput
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_design() {
        assert_eq!(file_name(1, 0), "00000001_.eml");
        assert_eq!(
            file_name(41, flag::ANSWERED | flag::FLAGGED | flag::SEEN),
            "00000041_AFS.eml"
        );
        assert_eq!(file_name(123_456_789, flag::ALL), "123456789_ADFST.eml");
        assert_eq!(
            (shard_name(shard_of(999)), shard_name(shard_of(1000))),
            ("0000".into(), "0001".into())
        );
        assert_eq!(shard_name(shard_of(123_456_789)), "123456");
    }

    #[test]
    fn every_combination_of_flags_survives_the_round_trip() {
        for flags in 0..=flag::ALL {
            assert_eq!(parse(&file_name(7, flags)), Some((7, flags)));
        }
    }

    #[test]
    fn names_made_by_hand_do_not_parse() {
        let names = [
            "hello.eml",
            "1_.eml",
            "00000001.eml",
            "00000001_SF.eml",
            "00000001_X.eml",
            "00000001_SS.eml",
            "00000000_.eml",
            "+0000001_.eml",
            "00000001_.EML",
            "4294967295_.eml",
            "99999999999_.eml",
            "000000041_.eml",
            "_.eml",
            ".eml",
            "",
        ];
        for name in names {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    #[test]
    fn only_canonical_shard_names_are_shards() {
        assert_eq!(parse_shard("0001"), Some(1));
        assert_eq!(parse_shard("12345"), Some(12345));
        for name in ["1", "00001", "+001", ".keywords", ""] {
            assert_eq!(parse_shard(name), None, "{name}");
        }
    }
}
