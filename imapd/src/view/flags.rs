//! Flags as clients name them, and as deliverd does.

use imap::flag::Flag;
use ipc::snapshot::{Record, flag as bit};

/// Whether a message has a flag, in a mailbox with these keywords.
// RFC 3501 §2.3.2: keywords, like all flags, are the same in any case.
#[must_use]
pub fn has_flag(keywords: &[String], message: &Record, flag: &Flag) -> bool {
    let Flag::Keyword(wanted) = flag else {
        let (bits, _) = store_form(std::slice::from_ref(flag));
        return message.flags & bits != 0;
    };
    let named = |keyword: &String| keyword.eq_ignore_ascii_case(wanted);
    let index = keywords.iter().position(named);
    index.is_some_and(|index| index < 64 && message.keywords >> index & 1 == 1)
}

/// Flags as deliverd takes them: bits and keywords.
#[must_use]
pub fn store_form(flags: &[Flag]) -> (u8, Vec<String>) {
    let mut bits = 0;
    let mut keywords = Vec::new();
    for flag in flags {
        match flag {
            Flag::Answered => bits |= bit::ANSWERED,
            Flag::Deleted => bits |= bit::DELETED,
            Flag::Draft => bits |= bit::DRAFT,
            Flag::Flagged => bits |= bit::FLAGGED,
            Flag::Seen => bits |= bit::SEEN,
            Flag::Keyword(keyword) => keywords.push(keyword.clone()),
        }
    }
    (bits, keywords)
}
