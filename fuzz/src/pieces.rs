//! Cuts a connection's bytes the way an input says.

/// What the first line of an input says, and the bytes behind it.
pub(crate) struct Connection<'a> {
    directions: &'a [u8],
    pub(crate) bytes: &'a [u8],
}

impl<'a> Connection<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        let end = data.iter().position(|byte| *byte == b'\n');
        let (directions, bytes) =
            end.map_or((data, &[][..]), |end| (&data[..end], &data[end + 1..]));
        Self { directions, bytes }
    }

    /// Whether the first line has this letter.
    pub(crate) fn says(&self, letter: u8) -> bool {
        self.directions.contains(&letter)
    }

    /// The bytes in pieces as long as the digits and letters of the first line, over and over.
    pub(crate) fn pieces(&self) -> Vec<&'a [u8]> {
        let mut lengths = self
            .directions
            .iter()
            .map(|byte| usize::from(byte % 48) + 1)
            .cycle();
        let mut rest = self.bytes;
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let length = lengths.next().unwrap_or(1).min(rest.len());
            let (piece, after) = rest.split_at(length);
            pieces.push(piece);
            rest = after;
        }
        pieces
    }
}
