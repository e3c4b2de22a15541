//! Loopback ports that no other test of this run uses.
//!
//! A port that the kernel chooses for a listener that is closed again is anybody's: a connection that another test opens
//! a moment later may go out from it. These stay with the one who asked.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "for tests only: it fails loudly and at once"
)]

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// A free loopback port, ours until this value is dropped.
///
/// The reservation is an abstract Unix socket with the port's number in its name: test processes that run side by side
/// see it, and the kernel forgets it when the process ends in whatever way.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _reservation: UnixListener,
}

// Below the ephemeral range (32768 and up): an outgoing connection never takes one of these.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

impl Port {
    /// Reserves one.
    #[must_use]
    pub fn reserve() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let offset = (std::process::id().wrapping_mul(131)).wrapping_add(step) % COUNT;
            let number = u16::try_from(FIRST + offset).expect("the range ends below 65536");
            if let Some(port) = Self::reserve_number(number) {
                return port;
            }
        }
        panic!(
            "no free loopback port between {FIRST} and {}",
            FIRST + COUNT
        );
    }

    /// The number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }

    fn reserve_number(number: u16) -> Option<Self> {
        let name = format!("rmail-system-tests-port-{number}");
        let address = SocketAddr::from_abstract_name(name).ok()?;
        let reservation = UnixListener::bind_addr(&address).ok()?;
        // Somebody outside these tests may listen there.
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self {
            number,
            _reservation: reservation,
        })
    }
}

/// A free loopback port, ours until this process ends.
#[must_use]
pub fn free_port() -> u16 {
    let port = Port::reserve();
    let number = port.number();
    std::mem::forget(port);
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once() {
        let (one, two) = (Port::reserve(), Port::reserve());
        assert_ne!(one.number(), two.number());
        assert!(Port::reserve_number(one.number()).is_none());
        let number = one.number();
        drop(one);
        assert!(Port::reserve_number(number).is_some());
        assert!(Port::reserve_number(free_port()).is_none());
    }
}
