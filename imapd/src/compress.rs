//! COMPRESS=DEFLATE (RFC 4978): what goes over a connection once its client has asked for it.
//!
//! What comes in is inflated a bounded piece at a time, when the piece before was taken: however much a few octets stand for, no more
//! of it is ever in memory. What goes out ends on a whole octet each time, so that the compressor, which is large, need not be
//! kept while nothing goes out: another one goes on where it ended.

use std::fmt;
use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Room made for what goes out, beside a quarter more than comes in: what cannot be made smaller gets larger by less than a hundredth.
const ROOM: usize = 8 * 1024;

/// Both directions of one connection.
pub(crate) struct Compressed {
    inflate: Decompress,
    /// What was read and not inflated yet.
    input: Vec<u8>,
    /// How much of that was.
    taken: usize,
    deflate: Option<Box<Compress>>,
}

impl fmt::Debug for Compressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressed").finish_non_exhaustive()
    }
}

impl Compressed {
    pub(crate) fn new() -> Self {
        Self {
            // RFC 4978 §4: without the header of zlib.
            inflate: Decompress::new(false),
            input: Vec::new(),
            taken: 0,
            deflate: None,
        }
    }

    /// Takes what was read. All that came before must have been inflated.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.input.clear();
        self.input.extend_from_slice(bytes);
        self.taken = 0;
    }

    /// Inflates as much as `out` holds; nothing where more has to be read first.
    pub(crate) fn inflate(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let input = self.input.get(self.taken..).unwrap_or_default();
        let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self
            .inflate
            .decompress(input, out, FlushDecompress::None)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let length = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
        self.taken += length(self.inflate.total_in(), before_in);
        let inflated = length(self.inflate.total_out(), before_out);
        match (status, inflated) {
            // What comes behind the end of the stream would mean nothing.
            (Status::StreamEnd, 0) => Err(io::ErrorKind::UnexpectedEof.into()),
            (_, inflated) => Ok(inflated),
        }
    }

    /// Deflates all of `bytes`, so that the client can read all of them.
    ///
    /// # Errors
    /// Where it cannot, which ends the connection: half of it would spoil all that comes later.
    pub(crate) fn deflate(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let new = || Box::new(Compress::new(Compression::fast(), false));
        let deflate = self.deflate.get_or_insert_with(new);
        let (before_in, before_out) = (deflate.total_in(), deflate.total_out());
        // All in one go: a compressor that has no room left for the end keeps it, and says the next time that it is done when it has
        // written no more than that.
        let mut out = vec![0; bytes.len() + bytes.len() / 4 + ROOM];
        deflate
            .compress(bytes, &mut out, FlushCompress::Sync)
            .map_err(io::Error::other)?;
        let length = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
        let taken = length(deflate.total_in(), before_in);
        let written = length(deflate.total_out(), before_out);
        if taken < bytes.len() || written >= out.len() {
            return Err(io::Error::other("the compressor needs more room"));
        }
        out.truncate(written);
        Ok(out)
    }

    /// Lets memory go while nothing goes out.
    pub(crate) fn settle(&mut self) {
        self.deflate = None;
        if self.taken == self.input.len() {
            self.input = Vec::new();
            self.taken = 0;
        }
    }

    #[cfg(test)]
    pub(crate) const fn is_settled(&self) -> bool {
        self.deflate.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflated(compressed: &mut Compressed, bytes: &[u8], piece: usize) -> Vec<u8> {
        compressed.feed(bytes);
        let (mut all, mut out) = (Vec::new(), vec![0; piece]);
        loop {
            match compressed.inflate(&mut out).unwrap() {
                0 => return all,
                length => all.extend_from_slice(&out[..length]),
            }
        }
    }

    #[test]
    fn what_goes_out_can_be_read_whole_each_time_also_by_another_compressor() {
        let (mut server, mut client) = (Compressed::new(), Compressed::new());
        let noise: Vec<u8> = (0..100_000_u32)
            .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .collect();
        for (round, text) in [
            b"* OK\r\n".as_slice(),
            &noise,
            b"",
            &[b'x'; 50_000],
            b"a OK\r\n",
        ]
        .into_iter()
        .enumerate()
        {
            let sent = server.deflate(text).unwrap();
            assert_eq!(inflated(&mut client, &sent, 1000), text, "{round}");
            if round % 2 == 0 {
                server.settle();
            }
        }
    }

    // What goes out in the middle of what the compressor has to write must not be lost with it.
    #[test]
    fn what_goes_out_is_whole_whatever_its_size_and_kind() {
        let mut seed = 88_172_645_463_325_252_u64;
        let mut random = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        let (mut server, mut client) = (Compressed::new(), Compressed::new());
        for round in 0..1600 {
            let size = match random(4) {
                0 => random(200),
                1 => random(9_000),
                2 => random(70_000),
                _ => 8_152 + random(80),
            };
            let letters = [256, 8, 1][usize::try_from(random(3)).unwrap()];
            let letter = |_| u8::try_from(random(letters)).unwrap();
            let text: Vec<u8> = (0..size).map(letter).collect();
            let sent = server.deflate(&text).unwrap();
            let heard = inflated(&mut client, &sent, 64 * 1024);
            assert!(heard == text, "round {round}: {size} of {letters} letters");
            if random(2) == 0 {
                server.settle();
            }
        }
    }

    #[test]
    fn a_bomb_comes_in_pieces() {
        let bomb = Compressed::new().deflate(&vec![b'a'; 10 << 20]).unwrap();
        assert!(bomb.len() < 100_000);
        let mut server = Compressed::new();
        let mut out = vec![0; 2048];
        let mut all = 0;
        for piece in bomb.chunks(2048) {
            server.feed(piece);
            loop {
                let length = server.inflate(&mut out).unwrap();
                assert!(length <= 2048 && server.input.len() <= 2048);
                all += length;
                if length == 0 {
                    break;
                }
            }
        }
        assert_eq!(all, 10 << 20);
    }

    #[test]
    fn what_is_not_deflate_and_what_comes_behind_its_end_are_errors() {
        let mut server = Compressed::new();
        server.feed(b"\xff\xff\xff\xff");
        assert!(server.inflate(&mut [0; 10]).is_err());
        let mut ended = Vec::with_capacity(100);
        let mut client = Compress::new(Compression::fast(), false);
        client
            .compress_vec(b"bye", &mut ended, FlushCompress::Finish)
            .unwrap();
        let mut server = Compressed::new();
        server.feed(&ended);
        let mut out = [0; 10];
        assert_eq!(server.inflate(&mut out).unwrap(), 3);
        assert!(server.inflate(&mut out).is_err());
    }
}
