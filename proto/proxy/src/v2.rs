//! Version 2, a binary block: signature, command, protocol, length, addresses, extensions.

use core::net::{IpAddr, SocketAddr};

use crate::{Fault, Header, MAX_V2, Progress};

/// Section 2.2: no line of any protocol looks like this.
pub(crate) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version with command, protocol, and two octets of length.
const FIXED: usize = 16;

/// Reads what is there of a block. Extensions (TLVs) are counted and otherwise ignored, whoever sends them: a name in a
/// client's certificate that the proxy has seen proves nothing to us.
pub(crate) fn look(head: &[u8]) -> Result<Progress, Fault> {
    if !head.iter().zip(SIGNATURE).all(|(came, due)| *came == due) {
        return Err(Fault::NoHeader);
    }
    let Some((fixed, addresses)) = head.split_first_chunk::<FIXED>() else {
        return Ok(Progress::AtLeast(FIXED));
    };
    let &[.., command, protocol, high, low] = fixed;
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_V2 {
        return Err(Fault::TooLong);
    }
    match command {
        // LOCAL: the rest is ignored, the protocol too.
        0x20 => return Ok(Progress::Known(length, Header::Direct)),
        0x21 => {}
        _ => return Err(Fault::BadBlock),
    }
    match protocol {
        0x11 => proxied::<4, 12>(length, addresses),
        0x21 => proxied::<16, 36>(length, addresses),
        // Neither an unspecified protocol nor a Unix socket has an address that could be shown.
        0x00 | 0x31 => Ok(Progress::Known(length, Header::Direct)),
        // Datagrams do not come over a connection, and of the others there are none.
        _ => Err(Fault::BadBlock),
    }
}

/// Addresses of `SIZE` octets: source, destination, and their ports, `ALL` octets together.
fn proxied<const SIZE: usize, const ALL: usize>(
    length: usize,
    addresses: &[u8],
) -> Result<Progress, Fault>
where
    [u8; SIZE]: Into<IpAddr>,
{
    if length < FIXED + ALL {
        return Err(Fault::BadBlock);
    }
    let Some(addresses) = addresses.first_chunk::<ALL>() else {
        return Ok(Progress::AtLeast(length));
    };
    let port = addresses.get(2 * SIZE..).and_then(<[u8]>::first_chunk);
    let (Some(from), Some(port)) = (addresses.first_chunk::<SIZE>(), port) else {
        return Err(Fault::BadBlock);
    };
    let source = SocketAddr::new((*from).into(), u16::from_be_bytes(*port));
    Ok(Progress::Known(length, Header::For(source)))
}
