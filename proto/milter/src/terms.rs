//! What a filter and the server agree on before anything else (`SMFIC_OPTNEG`).

use alloc::string::String;
use alloc::vec::Vec;

use crate::fault::Fault;
use crate::frame::{self, Packet};

pub(crate) const OPTNEG: u8 = b'O';

/// The version that is spoken, and the oldest that filters may answer with.
const VERSION: u32 = 6;
const OLDEST: u32 = 2;
/// The first version with a command for DATA.
const KNOWS_DATA: u32 = 4;

/// What a filter may do to a message.
pub(crate) mod action {
    pub(crate) const ADD_HEADERS: u32 = 0x01;
    pub(crate) const CHANGE_BODY: u32 = 0x02;
    pub(crate) const ADD_RECIPIENT: u32 = 0x04;
    pub(crate) const DELETE_RECIPIENT: u32 = 0x08;
    pub(crate) const CHANGE_HEADERS: u32 = 0x10;
    pub(crate) const CHANGE_SENDER: u32 = 0x40;
    pub(crate) const ADD_RECIPIENT_WITH_PARAMETERS: u32 = 0x80;
    pub(crate) const CHOOSE_MACROS: u32 = 0x100;

    /// All that is offered. Quarantine is not: there is no place for a message that is neither taken nor refused.
    pub(crate) const ALL: u32 = ADD_HEADERS
        | CHANGE_BODY
        | ADD_RECIPIENT
        | DELETE_RECIPIENT
        | CHANGE_HEADERS
        | CHANGE_SENDER
        | ADD_RECIPIENT_WITH_PARAMETERS
        | CHOOSE_MACROS;
}

/// What a filter need not be told, and what it does not answer.
pub(crate) mod step {
    pub(crate) const NO_CONNECT: u32 = 0x01;
    pub(crate) const NO_HELO: u32 = 0x02;
    pub(crate) const NO_MAIL: u32 = 0x04;
    pub(crate) const NO_RCPT: u32 = 0x08;
    pub(crate) const NO_BODY: u32 = 0x10;
    pub(crate) const NO_HEADERS: u32 = 0x20;
    pub(crate) const NO_END_OF_HEADER: u32 = 0x40;
    pub(crate) const MUTE_HEADER: u32 = 0x80;
    pub(crate) const NO_UNKNOWN: u32 = 0x100;
    pub(crate) const NO_DATA: u32 = 0x200;
    pub(crate) const SKIP: u32 = 0x400;
    pub(crate) const MUTE_CONNECT: u32 = 0x1000;
    pub(crate) const MUTE_HELO: u32 = 0x2000;
    pub(crate) const MUTE_MAIL: u32 = 0x4000;
    pub(crate) const MUTE_RCPT: u32 = 0x8000;
    pub(crate) const MUTE_DATA: u32 = 0x1_0000;
    pub(crate) const MUTE_UNKNOWN: u32 = 0x2_0000;
    pub(crate) const MUTE_END_OF_HEADER: u32 = 0x4_0000;
    pub(crate) const MUTE_BODY: u32 = 0x8_0000;
    pub(crate) const LEADING_SPACE: u32 = 0x10_0000;

    /// All that is offered. Recipients that were refused are not shown (`SMFIP_RCPT_REJ`), and packets stay small.
    pub(crate) const ALL: u32 = NO_CONNECT
        | NO_HELO
        | NO_MAIL
        | NO_RCPT
        | NO_BODY
        | NO_HEADERS
        | NO_END_OF_HEADER
        | MUTE_HEADER
        | NO_UNKNOWN
        | NO_DATA
        | SKIP
        | MUTE_CONNECT
        | MUTE_HELO
        | MUTE_MAIL
        | MUTE_RCPT
        | MUTE_DATA
        | MUTE_UNKNOWN
        | MUTE_END_OF_HEADER
        | MUTE_BODY
        | LEADING_SPACE;
}

/// Stages for which a filter can choose its macros.
const STAGES: usize = 7;

/// What was agreed.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    actions: u32,
    steps: u32,
    /// By stage, where the filter named them: the macros it wants.
    macros: [Option<Vec<String>>; STAGES],
}

/// The offer.
pub(crate) fn offer() -> Vec<u8> {
    let words = [VERSION, action::ALL, step::ALL];
    let data: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
    let mut out = Vec::new();
    frame::put(&mut out, OPTNEG, &data);
    out
}

impl Terms {
    /// Reads the answer to the offer.
    pub(crate) fn parse(packet: &Packet) -> Result<Self, Fault> {
        if packet.kind != OPTNEG {
            return Err(Fault::Unexpected(packet.kind));
        }
        let malformed = Fault::Malformed(OPTNEG);
        let mut rest = packet.data.as_slice();
        let (version, actions) = (
            word(&mut rest).ok_or(malformed)?,
            word(&mut rest).ok_or(malformed)?,
        );
        let steps = word(&mut rest).ok_or(malformed)?;
        if !(OLDEST..=VERSION).contains(&version) {
            return Err(Fault::Version(version));
        }
        if steps & !step::ALL != 0 {
            return Err(Fault::Terms);
        }
        // The command is newer than such a filter.
        let unknown = if version < KNOWS_DATA {
            step::NO_DATA
        } else {
            0
        };
        let mut terms = Self {
            // Rspamd says that it may do anything, whatever it was offered. What it must not do is a fault when it is done.
            actions: actions & action::ALL,
            steps: steps | unknown,
            ..Self::default()
        };
        while !rest.is_empty() {
            let stage = word(&mut rest).ok_or(malformed)?;
            let end = rest.iter().position(|octet| *octet == 0).ok_or(malformed)?;
            let names = rest
                .get(..end)
                .and_then(|names| core::str::from_utf8(names).ok());
            let names = names.ok_or(malformed)?;
            let wanted = names
                .split([' ', ','])
                .filter(|name| !name.is_empty())
                .map(bare);
            let place = usize::try_from(stage)
                .ok()
                .and_then(|stage| terms.macros.get_mut(stage));
            *place.ok_or(malformed)? = Some(wanted.collect());
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        Ok(terms)
    }

    /// Whether all of these steps were agreed on.
    pub(crate) fn has(&self, steps: u32) -> bool {
        self.steps & steps == steps
    }

    /// Whether one of these actions was agreed on.
    pub(crate) fn may(&self, actions: u32) -> bool {
        self.actions & actions != 0
    }

    /// Whether the filter wants to know this macro at a stage.
    pub(crate) fn wants(&self, stage: usize, name: &str) -> bool {
        match self.macros.get(stage) {
            Some(Some(wanted)) => wanted.iter().any(|one| one == bare(name).as_str()),
            _ => true,
        }
    }
}

// `{auth_type}` and `auth_type` are the same macro.
fn bare(name: &str) -> String {
    let inner = name
        .strip_prefix('{')
        .and_then(|name| name.strip_suffix('}'));
    String::from(inner.unwrap_or(name))
}

fn word(data: &mut &[u8]) -> Option<u32> {
    let (word, rest) = data.split_first_chunk::<4>()?;
    *data = rest;
    Some(u32::from_be_bytes(*word))
}
