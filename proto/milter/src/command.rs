//! What a filter is told.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::fault::Fault;
use crate::frame::{self, MAX_DATA};
use crate::terms::{Terms, step};

pub(crate) const ABORT: u8 = b'A';
pub(crate) const QUIT: u8 = b'Q';
const MACRO: u8 = b'D';

/// Who brings the mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its name, or its address in brackets where that is not known.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

/// Something that happened, as a filter is told it.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A client connected.
    Connect(&'a Client),
    /// It said this name.
    Helo(&'a str),
    /// It began a message with this sender, without angle brackets, and these parameters.
    Mail(&'a str, &'a [String]),
    /// This recipient was accepted.
    Rcpt(&'a str, &'a [String]),
    /// The recipients are complete.
    Data,
    /// A field of the header: its name, and what stands behind the colon, with LF for line ends.
    Header(&'a [u8], &'a [u8]),
    /// The header is complete.
    EndOfHeader,
    /// The next piece of the body, at most [`Event::PIECE`] long.
    Body(&'a [u8]),
    /// The message is complete.
    End,
}

impl Event<'_> {
    /// Octets in one piece of a body.
    pub const PIECE: usize = MAX_DATA;

    /// How its packet is marked.
    const fn kind(&self) -> u8 {
        match self {
            Self::Connect(_) => b'C',
            Self::Helo(_) => b'H',
            Self::Mail(..) => b'M',
            Self::Rcpt(..) => b'R',
            Self::Data => b'T',
            Self::Header(..) => b'L',
            Self::EndOfHeader => b'N',
            Self::Body(_) => b'B',
            Self::End => b'E',
        }
    }

    /// The step that says a filter does not hear it, and the one that says it does not answer; 0 where there is none.
    pub(crate) const fn steps(&self) -> (u32, u32) {
        match self {
            Self::Connect(_) => (step::NO_CONNECT, step::MUTE_CONNECT),
            Self::Helo(_) => (step::NO_HELO, step::MUTE_HELO),
            Self::Mail(..) => (step::NO_MAIL, step::MUTE_MAIL),
            Self::Rcpt(..) => (step::NO_RCPT, step::MUTE_RCPT),
            Self::Data => (step::NO_DATA, step::MUTE_DATA),
            Self::Header(..) => (step::NO_HEADERS, step::MUTE_HEADER),
            Self::EndOfHeader => (step::NO_END_OF_HEADER, step::MUTE_END_OF_HEADER),
            Self::Body(_) => (step::NO_BODY, step::MUTE_BODY),
            Self::End => (0, 0),
        }
    }

    /// Its number among the stages with macros, if it is one.
    const fn stage(&self) -> Option<usize> {
        match self {
            Self::Connect(_) => Some(0),
            Self::Helo(_) => Some(1),
            Self::Mail(..) => Some(2),
            Self::Rcpt(..) => Some(3),
            Self::Data => Some(4),
            Self::End => Some(5),
            Self::EndOfHeader => Some(6),
            Self::Header(..) | Self::Body(_) => None,
        }
    }

    /// Appends it, behind the macros that belong to it.
    pub(crate) fn write(
        &self,
        out: &mut Vec<u8>,
        macros: &[(&str, String)],
        terms: &Terms,
    ) -> Result<(), Fault> {
        let data = self.data(terms);
        if data.len() > MAX_DATA {
            return Err(Fault::LongField);
        }
        if let Some(stage) = self.stage() {
            let mut definitions = Vec::from([self.kind()]);
            for (name, value) in macros.iter().filter(|(name, _)| terms.wants(stage, name)) {
                string(&mut definitions, name.as_bytes());
                string(&mut definitions, value.as_bytes());
            }
            if definitions.len() > MAX_DATA {
                return Err(Fault::LongField);
            }
            if definitions.len() > 1 {
                frame::put(out, MACRO, &definitions);
            }
        }
        frame::put(out, self.kind(), &data);
        Ok(())
    }

    fn data(&self, terms: &Terms) -> Vec<u8> {
        let mut data = Vec::new();
        match self {
            Self::Connect(client) => {
                string(&mut data, client.name.as_bytes());
                data.push(match client.address {
                    IpAddr::V4(_) => b'4',
                    IpAddr::V6(_) => b'6',
                });
                // The port, which no filter has a use for.
                data.extend_from_slice(&[0, 0]);
                string(&mut data, client.address.to_string().as_bytes());
            }
            Self::Helo(name) => string(&mut data, name.as_bytes()),
            Self::Mail(address, parameters) | Self::Rcpt(address, parameters) => {
                string(&mut data, alloc::format!("<{address}>").as_bytes());
                for parameter in *parameters {
                    string(&mut data, parameter.as_bytes());
                }
            }
            Self::Header(name, value) => {
                string(&mut data, name);
                let value = match (terms.has(step::LEADING_SPACE), value) {
                    (false, [b' ', rest @ ..]) => rest,
                    _ => value,
                };
                string(&mut data, value);
            }
            Self::Body(piece) => data.extend_from_slice(piece),
            Self::Data | Self::EndOfHeader | Self::End => {}
        }
        data
    }
}

// A NUL would end the string early, and what follows be taken for another one.
fn string(data: &mut Vec<u8>, text: &[u8]) {
    data.extend(text.iter().map(|octet| match octet {
        0 => b' ',
        octet => *octet,
    }));
    data.push(0);
}
