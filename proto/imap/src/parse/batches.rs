//! Reads UIDBATCHES (RFC 10022).

use crate::command::Command;

use super::cursor::{Cursor, Result};

// "UIDBATCHES" SP nz-number [SP nz-number ":" nz-number].
pub(super) fn uid_batches(cursor: &mut Cursor<'_>) -> Result<Command> {
    let size = cursor.nonzero()?;
    let mut batches = None;
    if cursor.accept(b' ') {
        let first = cursor.nonzero()?;
        cursor.expect(b':', "expected batches like 10:20")?;
        batches = Some((first, cursor.nonzero()?));
    }
    Ok(Command::UidBatches { size, batches })
}

#[cfg(test)]
mod tests {
    use crate::command::Command;
    use crate::parse::request;

    #[test]
    fn a_size_and_maybe_some_batches_are_read() {
        let read = |text: &str| {
            let line = alloc::format!("a UIDBATCHES{text}");
            match request(line.as_bytes()).ok()?.command {
                Command::UidBatches { size, batches } => Some((size, batches)),
                _ => None,
            }
        };
        assert_eq!(read(" 2000"), Some((2000, None)));
        assert_eq!(read(" 2000 10:20"), Some((2000, Some((10, 20)))));
        assert_eq!(read(" 500 22:22"), Some((500, Some((22, 22)))));
        assert_eq!(read(" 500 20:10"), Some((500, Some((20, 10)))));
        for wrong in [
            "",
            " ",
            " x",
            " 0",
            " 2000 ",
            " 2000 10",
            " 2000 0:20",
            " 2000 1:0",
            " 2000 1:*",
            " 2000 1:2,4:5",
            " 2000 1:2 3",
            " 4294967296",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
