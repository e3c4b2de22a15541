//! The journal of one message: one record per line, each with its checksum, appended and never changed.
//!
//! ```text
//! line   = crc SP json LF
//! crc    = 8 hexadecimal digits, CRC-32 (IEEE) of the JSON text
//! ```
//! JSON escapes every control character, so no field of any record can hold a line end and forge another record.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smtp::parameter::MailParameters;

use crate::turns::{Party, Rank};

/// What is written into a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// Always the first record, and only there: a message exists if and only if it is valid.
    Message(Box<Header>),
    /// What one attempt brought.
    Attempted(Attempted),
    /// It waits until it is released, for this reason.
    Held(String),
    /// It need not wait any more.
    Released,
    /// It goes to this server ([`crate::detour::Detour`]), or again where its recipients' domains say.
    Rerouted(Option<String>),
    /// The sender was told about these recipients (indexes), or cannot be.
    Reported(Vec<u32>),
    /// The sender was told that these recipients (indexes) have to wait.
    Warned(Vec<u32>),
}

/// The message as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of this format.
    pub version: u32,
    /// Unix seconds it was queued.
    pub queued: i64,
    /// Octets of the body file.
    pub size: u64,
    /// MAIL FROM; empty for the null reverse-path.
    pub reverse_path: String,
    /// The account that submitted it.
    pub account: Option<String>,
    /// Whose it is where turns are taken. An older relayd passes over it.
    #[serde(default, skip_serializing_if = "Party::is_nobody")]
    pub party: Party,
    /// The header holds UTF-8 (RFC 6531).
    pub smtp_utf8: bool,
    /// Octets above 127 (RFC 6152).
    pub eight_bit: bool,
    /// It is held from the beginning, for this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// That is because it came into quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantined>,
    /// `local@domain` each; other records name them by their place in this list.
    pub recipients: Vec<String>,
    /// What else `MAIL` had, as the command has it: `RET=HDRS`. Journals of rmail 0.1 have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parameters: String,
    /// Its header waives what recipients demand of TLS (RFC 8689 §3). An older relayd that passes over it asks for more than it must.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls_waived: bool,
    /// The domains it is signed for whenever it goes out. An older relayd passes over it, and sends it without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sign: Vec<String>,
    /// What is to be known of some of the recipients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub particulars: Vec<Particular>,
}

/// How a message came into quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The reverse-path under which it goes to other servers, if not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onward: Option<String>,
    /// The tenant whose room it takes, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// What is to be known of a recipient besides its address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Particular {
    /// Place in [`Header::recipients`].
    pub recipient: u32,
    /// What `RCPT` had, as the command has it: `NOTIFY=NEVER`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parameters: String,
    /// What is to be done.
    #[serde(default)]
    pub standing: Standing,
}

/// What is to be done about a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Take the message there.
    #[default]
    Waiting,
    /// A user here, whom deliverd serves.
    Here,
    /// It has the message already, and the sender is to be told.
    Delivered,
    /// It is a list, and the sender is to be told.
    Expanded,
}

/// The version of a message of which nothing else is to be known.
pub const VERSION: u32 = 1;
/// The version of one with parameters or particulars: a relayd that passed over them would do what it must not, such as
/// sending once more what somebody has.
pub const PARTICULAR_VERSION: u32 = 2;

impl Header {
    /// How it stands among the mail that is due, with its own parameters.
    #[must_use]
    pub fn rank(&self, parameters: &MailParameters) -> Rank {
        Rank {
            party: Arc::new(self.party.clone()),
            priority: parameters.priority.unwrap_or_default(),
        }
    }

    /// The same in the version that fits it.
    #[must_use]
    pub fn versioned(self) -> Self {
        let plain = self.parameters.is_empty() && self.particulars.is_empty();
        let version = if plain { VERSION } else { PARTICULAR_VERSION };
        Self { version, ..self }
    }
}

/// An attempt for some recipients at one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempted {
    /// Unix seconds.
    pub at: i64,
    /// What became of each.
    pub results: Vec<Outcome>,
}

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Place in [`Header::recipients`].
    pub recipient: u32,
    /// Done, again, or never.
    pub fate: Fate,
    /// RFC 3463 status, `5.1.1`.
    pub status: String,
    /// The reply or the fault, on one line.
    pub text: String,
    /// The reply of a remote server (`true`), or words of ours.
    pub remote: bool,
    /// The host that was spoken to, if any.
    pub host: Option<String>,
}

/// What is next for a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// The remote server has taken responsibility.
    Delivered,
    /// It has, and it will not tell the sender, who wants to be told.
    Relayed,
    /// Try again then.
    Deferred {
        /// Unix seconds.
        next: i64,
    },
    /// Given up.
    Failed,
}

/// Appends a record as its line.
///
/// # Errors
/// Never for the records of this module; serde's interface allows for it.
pub fn encode<T: Serialize>(record: &T, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let json = serde_json::to_vec(record)?;
    out.extend_from_slice(format!("{:08x} ", crc32(&json)).as_bytes());
    out.extend_from_slice(&json);
    out.push(b'\n');
    Ok(())
}

/// What could be read of a journal.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The valid records.
    pub records: Vec<Record>,
    /// Octets up to the end of the last valid record. What follows was torn by a crash and is cut off before the next append.
    pub valid: usize,
}

/// Reads all records up to the first that is not whole.
#[must_use]
pub fn decode(mut bytes: &[u8]) -> Decoded {
    let mut decoded = Decoded {
        records: Vec::new(),
        valid: 0,
    };
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let Some(record) = decode_line(&bytes[..end]) else {
            break;
        };
        decoded.records.push(record);
        decoded.valid += end + 1;
        bytes = &bytes[end + 1..];
    }
    decoded
}

/// All lines that are whole, of a file that may have lost one or the other.
pub fn decode_lines<T: DeserializeOwned>(bytes: &[u8]) -> impl Iterator<Item = T> {
    bytes.split(|byte| *byte == b'\n').filter_map(decode_line)
}

fn decode_line<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let (crc, json) = line.split_at_checked(9)?;
    if crc != format!("{:08x} ", crc32(json)).as_bytes() {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// CRC-32 as in IEEE 802.3.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let header = Header {
            version: VERSION,
            queued: 1_700_000_000,
            size: 12,
            reverse_path: "alice@example.test".into(),
            account: Some("x\n00000000 {\"reported\":[0]}\n".into()),
            party: Party::Tenant("a customer".into()),
            smtp_utf8: false,
            eight_bit: true,
            hold: None,
            quarantine: None,
            recipients: vec!["bob@example.org".into(), "\"a\\\"b\"@example.org".into()],
            parameters: "RET=HDRS".into(),
            tls_waived: true,
            sign: vec!["example.test".into()],
            particulars: vec![Particular {
                recipient: 1,
                parameters: "NOTIFY=SUCCESS".into(),
                standing: Standing::Expanded,
            }],
        };
        let outcome = Outcome {
            recipient: 1,
            fate: Fate::Deferred {
                next: 1_700_000_060,
            },
            status: "4.2.1".into(),
            text: "450 4.2.1 later\r\nforged".into(),
            remote: true,
            host: Some("mx.example.org".into()),
        };
        vec![
            Record::Message(Box::new(header)),
            Record::Attempted(Attempted {
                at: 1_700_000_001,
                results: vec![outcome],
            }),
            Record::Reported(vec![0, 1]),
            Record::Held("a reason\n".into()),
            Record::Released,
        ]
    }

    fn encoded() -> Vec<u8> {
        let mut bytes = Vec::new();
        for record in records() {
            encode(&record, &mut bytes).unwrap();
        }
        bytes
    }

    #[test]
    fn the_checksum_is_the_one_everybody_computes() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn records_are_read_back_and_no_field_forges_one() {
        let bytes = encoded();
        let ends = bytes.iter().filter(|byte| **byte == b'\n');
        assert_eq!(ends.count(), records().len());
        assert_eq!(
            decode(&bytes),
            Decoded {
                records: records(),
                valid: bytes.len()
            }
        );
    }

    #[test]
    fn a_journal_of_an_older_relayd_is_read() {
        let json = r#"{"message":{"version":1,"queued":1700000000,"size":12,"reverse_path":"a@b","account":null,"smtp_utf8":false,"eight_bit":true,"recipients":["c@d"]}}"#;
        let line = format!("{:08x} {json}\n", crc32(json.as_bytes()));
        match decode(line.as_bytes()).records.as_slice() {
            [Record::Message(header)] => {
                assert_eq!(header.recipients, ["c@d"]);
                assert!(header.parameters.is_empty() && header.particulars.is_empty());
                // What has nothing new to say is written as it was; other things an older relayd would not take.
                let mut bytes = Vec::new();
                let again = Header::clone(header).versioned();
                encode(&Record::Message(Box::new(again)), &mut bytes).unwrap();
                assert_eq!(bytes, line.as_bytes());
                let parameters = "REQUIRETLS".into();
                let other = Header {
                    parameters,
                    ..Header::clone(header)
                };
                assert_eq!(other.versioned().version, PARTICULAR_VERSION);
            }
            records => panic!("{records:?}"),
        }
    }

    #[test]
    fn a_journal_torn_at_any_byte_gives_its_whole_records() {
        let bytes = encoded();
        let ends: Vec<_> = (0..bytes.len())
            .filter(|n| bytes[*n] == b'\n')
            .map(|n| n + 1)
            .collect();
        for length in 0..=bytes.len() {
            let whole = ends.iter().filter(|end| **end <= length).count();
            let decoded = decode(&bytes[..length]);
            assert_eq!(decoded.records, records()[..whole], "torn at {length}");
            assert_eq!(decoded.valid, if whole == 0 { 0 } else { ends[whole - 1] });
        }
    }

    #[test]
    fn a_changed_byte_ends_the_journal_at_its_record() {
        let bytes = encoded();
        let first_end = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x20;
            let decoded = decode(&damaged);
            assert!(decoded.records.len() < records().len(), "at {place}");
            assert_eq!(decoded.records, records()[..decoded.records.len()]);
            assert_eq!(place < first_end, decoded.records.is_empty());
        }
    }
}
