//! The `smtp.limits` section: how much one client of smtpd may do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::value::{AtLeast, AtMost, Network};

/// The `smtp.limits` section. A rate or factor of 0 sets no limit; an address is an IPv4 address or an IPv6 /64.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SmtpLimits {
    /// Clients that none of this applies to, nor `limits.connections_per_address`. Whoever brings mail by LMTP is one of them.
    pub exempt: Vec<Network>,
    /// Seconds of the sliding window within which the rates below are counted.
    pub window_seconds: AtLeast<1>,
    /// Connections of one address within the window.
    pub connections: u32,
    /// Commands of one address within the window.
    pub commands: u32,
    /// Recipients of one address within the window, refused ones too; logged-in clients are not counted.
    pub recipients: u32,
    /// Recipients of one address within the window that were refused for good: who guesses addresses has many.
    pub refused_recipients: u32,
    /// How many times as much as one address may a /24 or an IPv6 /48 have, of each of the above and of connections at once?
    pub network_factor: u32,
    /// The same for a /16 or an IPv6 /32.
    pub block_factor: u32,
    /// Connections at once on which one account is logged in.
    pub connections_per_account: u32,
    /// Commands of one connection between two messages that bring none nearer (`smtp.max_idle_commands`), are none, or name a
    /// recipient that is refused: the replies to more of them are held back.
    pub undelayed_errors: u32,
    /// Milliseconds by which each of those replies is held back longer than the one before, up to ten times as much; 0 for never.
    pub error_delay_ms: AtMost<3000>,
    /// Milliseconds before a client of port 25 is greeted; who talks meanwhile is no mail server and refused. 0 greets at once.
    pub greeting_delay_ms: AtMost<30_000>,
}

impl Default for SmtpLimits {
    fn default() -> Self {
        let v4_loopback = Network::known(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8);
        let v6_loopback = Network::known(IpAddr::V6(Ipv6Addr::LOCALHOST), 128);
        Self {
            exempt: vec![v4_loopback, v6_loopback],
            window_seconds: AtLeast::known(600),
            // One a second, all the time: a busy server keeps its connections for several messages instead.
            connections: 600,
            commands: 30_000,
            recipients: 10_000,
            refused_recipients: 200,
            network_factor: 4,
            block_factor: 16,
            connections_per_account: 50,
            // Postfix bears ten and then waits a second each time, but counts errors alone.
            undelayed_errors: 20,
            error_delay_ms: AtMost::known(100),
            // RFC 5321 §4.5.3.2.1 lets a client wait five minutes, so no real mail is lost by it, and none is late by more.
            greeting_delay_ms: AtMost::known(1000),
        }
    }
}
