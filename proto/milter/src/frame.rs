//! Packets: a length of four octets, most significant first, then so many octets, the first of which is the kind.

use alloc::vec::Vec;

use crate::fault::Fault;

/// Octets of data in one packet, beside its kind (`MILTER_CHUNK_SIZE`).
pub(crate) const MAX_DATA: usize = 65_535;

/// Appends one packet. The caller sees to it that the data is no longer than [`MAX_DATA`].
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, data: &[u8]) {
    let length = u32::try_from(data.len() + 1).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.push(kind);
    out.extend_from_slice(data);
}

/// Divides what a filter sends into packets. Holds no more than what was fed and one packet.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    kept: Vec<u8>,
}

/// One packet.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) kind: u8,
    pub(crate) data: Vec<u8>,
}

impl Reader {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
    }

    /// Whether nothing is left over.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The next packet that is complete. A length that no answer can have is a fault before the packet has come.
    pub(crate) fn take(&mut self) -> Result<Option<Packet>, Fault> {
        let Some((head, rest)) = self.kept.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*head);
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size == 0 || size > MAX_DATA + 1 {
            return Err(Fault::Length(length));
        }
        let Some((kind, data)) = rest.get(..size).and_then(<[u8]>::split_first) else {
            return Ok(None);
        };
        let packet = Packet {
            kind: *kind,
            data: data.to_vec(),
        };
        self.kept.drain(..4 + size);
        Ok(Some(packet))
    }
}

/// The strings of a packet, each with a NUL behind it.
pub(crate) fn strings(data: &[u8]) -> Option<Vec<&[u8]>> {
    match data {
        [] => Some(Vec::new()),
        [all @ .., 0] => Some(all.split(|octet| *octet == 0).collect()),
        _ => None,
    }
}
