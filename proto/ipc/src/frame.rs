//! Frames: the one place that knows how a typed message becomes bytes, and the only file that names bincode.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
pub use bincode::{Decode, Encode};

/// Largest frame in bytes. Anything that may grow beyond it goes as a descriptor or in pages.
pub const MAX_FRAME: usize = 16 * 1024;

/// Why bytes are not a frame, or a value does not fit into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The encoded value is longer than [`MAX_FRAME`].
    #[error("the frame would exceed {MAX_FRAME} bytes")]
    TooLong,
    /// The bytes are no value of the expected type.
    #[error("the frame is malformed")]
    Malformed,
    /// A value was read, but bytes follow it.
    #[error("the frame has bytes behind its end")]
    TrailingBytes,
}

/// Fixed-width integers, little endian, nothing longer than a frame is ever allocated.
const fn config() -> Configuration<LittleEndian, Fixint, Limit<MAX_FRAME>> {
    bincode::config::standard()
        .with_fixed_int_encoding()
        .with_little_endian()
        .with_limit::<MAX_FRAME>()
}

/// A value that can be a frame or a part of one.
pub trait Wire: Encode + Decode<()> + Send + 'static {}
impl<T: Encode + Decode<()> + Send + 'static> Wire for T {}

/// Encodes `value` as one frame.
///
/// # Errors
/// [`FrameError::TooLong`] when it does not fit into [`MAX_FRAME`] bytes.
pub fn encode<T: Encode>(value: &T) -> Result<Vec<u8>, FrameError> {
    let bytes = bincode::encode_to_vec(value, config()).map_err(|_| FrameError::TooLong)?;
    if bytes.len() > MAX_FRAME {
        Err(FrameError::TooLong)
    } else {
        Ok(bytes)
    }
}

/// Decodes exactly one value from `bytes`.
///
/// # Errors
/// [`FrameError::Malformed`] for anything that is not a value of `T`, [`FrameError::TrailingBytes`] when bytes are left.
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, FrameError> {
    if bytes.len() > MAX_FRAME {
        return Err(FrameError::TooLong);
    }
    let (value, used) =
        bincode::decode_from_slice(bytes, config()).map_err(|_| FrameError::Malformed)?;
    if used == bytes.len() {
        Ok(value)
    } else {
        Err(FrameError::TrailingBytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Encode, Decode)]
    enum Sample {
        Text(String),
        Numbers(Vec<u32>),
    }

    #[test]
    fn a_value_survives_the_round_trip() {
        let value = Sample::Text("INBOX".into());
        assert_eq!(decode::<Sample>(&encode(&value).unwrap()), Ok(value));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&Sample::Numbers(vec![1])).unwrap();
        bytes.push(0);
        assert_eq!(decode::<Sample>(&bytes), Err(FrameError::TrailingBytes));
    }

    #[test]
    fn an_unknown_variant_is_malformed() {
        assert_eq!(decode::<Sample>(&[9, 0, 0, 0]), Err(FrameError::Malformed));
    }

    #[test]
    fn a_hostile_length_allocates_nothing_and_is_malformed() {
        let mut bytes = vec![1, 0, 0, 0];
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(decode::<Sample>(&bytes), Err(FrameError::Malformed));
    }

    #[test]
    fn a_value_longer_than_a_frame_is_refused() {
        assert_eq!(
            encode(&Sample::Text("x".repeat(MAX_FRAME))),
            Err(FrameError::TooLong)
        );
    }

    #[test]
    fn every_truncation_of_a_frame_is_refused() {
        let bytes = encode(&Sample::Numbers(vec![1, 2, 3])).unwrap();
        for end in 0..bytes.len() {
            assert!(decode::<Sample>(&bytes[..end]).is_err(), "{end}");
        }
    }
}
