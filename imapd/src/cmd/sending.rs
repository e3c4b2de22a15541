//! Sends messages from their files.

use std::io;
use std::ops::Range;

use crate::content::Content;
use crate::message::{Message, without_nul};
use crate::render::Piece;
use crate::wire::{Close, FULL, Wire};

/// Sends what is shown of a message, what is large from its file.
pub(super) async fn send(wire: &mut Wire, pieces: Vec<Piece>) -> Result<(), Close> {
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => wire.out.extend(bytes),
            Piece::Copy(message, range) => copy(wire, message, range).await?,
            Piece::Decode(content) => decode(wire, &content).await?,
        }
        wire.flush_if_full().await?;
    }
    Ok(())
}

// The literal was announced: whatever goes wrong from here on ends the connection.
async fn copy(wire: &mut Wire, message: Message, range: Range<u64>) -> Result<(), Close> {
    let mut start = range.start;
    while start < range.end {
        wire.flush_if_full().await?;
        let left = usize::try_from(range.end - start).unwrap_or(usize::MAX);
        let length = left.min(FULL);
        let out = std::mem::take(&mut wire.out);
        wire.out = append(out, &message, start, length).await?;
        start += length as u64;
    }
    Ok(())
}

// As with `copy`.
async fn decode(wire: &mut Wire, content: &Content) -> Result<(), Close> {
    let mut decoding = content.decode()?;
    loop {
        wire.flush_if_full().await?;
        let mut out = std::mem::take(&mut wire.out);
        let decoded = tokio::task::spawn_blocking(move || {
            let goes_on = decoding.next(&mut out)?;
            Ok::<_, io::Error>((decoding, out, goes_on))
        });
        let (left, out, goes_on) = decoded.await.map_err(io::Error::other)??;
        wire.out = out;
        if !goes_on {
            return Ok(());
        }
        decoding = left;
    }
}

/// Appends a piece of a message to `out`: at once if it is in memory, else on a thread that waits for the disk.
async fn append(
    mut out: Vec<u8>,
    message: &Message,
    start: u64,
    length: usize,
) -> io::Result<Vec<u8>> {
    let before = out.len();
    out.resize(before + length, 0);
    let piece = out.get_mut(before..).unwrap_or_default();
    let ready = message.read_in_memory(start, piece)?;
    if ready < length {
        let message = message.clone();
        let read = tokio::task::spawn_blocking(move || {
            let rest = out.get_mut(before + ready..).unwrap_or_default();
            message.read_into(start + ready as u64, rest)?;
            Ok::<_, io::Error>(out)
        });
        out = read.await.map_err(io::Error::other)??;
    }
    without_nul(out.get_mut(before..).unwrap_or_default());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_in_memory_is_waited_for() {
        // procfs cannot say what is, so that all of it is read the other way.
        let file = std::fs::File::open("/proc/self/status").unwrap();
        let message = Message::new(file).unwrap();
        assert_eq!(message.read_in_memory(0, &mut [0; 5]).unwrap(), 0);
        let out = append(b"before ".to_vec(), &message, 0, 5).await.unwrap();
        assert_eq!(out, b"before Name:");
        assert!(append(Vec::new(), &message, 1 << 20, 5).await.is_err());
    }
}
