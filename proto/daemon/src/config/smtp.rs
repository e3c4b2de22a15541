//! The `smtp` section: who may bring mail, and how much of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::value::{AtLeast, AtMost, Network, UserName};
use super::{DnsLists, Greylisting, SmtpLimits, Xclient};

/// The `smtp` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Smtp {
    /// Address to listen on; `::` takes IPv4 too.
    pub host: IpAddr,
    /// Mail from other servers; 0 switches the listener off.
    pub port: u16,
    /// Submission with STARTTLS (RFC 6409); 0 switches it off.
    pub submission_port: u16,
    /// Submission over TLS from the start (RFC 8314); 0 switches it off.
    pub smtps_port: u16,
    /// Address to listen on for LMTP; `::` takes IPv4 too.
    pub lmtp_host: IpAddr,
    /// LMTP (RFC 2033); 0 switches it off.
    pub lmtp_port: u16,
    /// Who may bring mail to `lmtp_port`, without a login.
    pub lmtp_clients: Vec<Network>,
    /// The user who may bring mail to the socket `lmtp.sock` in `run_dir`, without a login; there is no such socket without
    /// one. Where the supervisor is not root, it is the supervisor's own user instead.
    pub lmtp_socket_user: Option<UserName>,
    /// Proxies that speak for the clients of `port` and say so with a PROXY header; from nobody else it is taken.
    pub proxies: Vec<Network>,
    /// The same for `submission_port`.
    pub submission_proxies: Vec<Network>,
    /// The same for `smtps_port`.
    pub smtps_proxies: Vec<Network>,
    /// The same for `lmtp_port`.
    pub lmtp_proxies: Vec<Network>,
    /// Recipients per message; RFC 5321 §4.5.3.1.8 wants at least 100.
    pub max_recipients: AtLeast<100>,
    /// Connections at once.
    pub max_connections: AtLeast<1>,
    /// Messages per connection before 421.
    pub max_messages_per_connection: AtLeast<1>,
    /// Bytes per message; RFC 5321 §4.5.3.1.7 wants at least 64 KiB.
    pub max_message_size: AtLeast<65536>,
    /// Bytes per command line, CRLF included. RFC 5321 §4.5.3.1.4 wants at least 512, and the parameters of SIZE (RFC 1870,
    /// 26), 8BITMIME (RFC 6152, 17), SMTPUTF8 (RFC 6531, 10), AUTH (RFC 4954, 500), DSN (RFC 3461, 116), REQUIRETLS
    /// (RFC 8689, 11) and MT-PRIORITY (RFC 6710, 15), FUTURERELEASE (RFC 4865, 34) and
    /// DELIVERBY (RFC 2852, 17) come on top.
    pub max_command_line: AtLeast<1258>,
    /// Bytes per line of a message, CRLF included; RFC 5321 §4.5.3.1.6 wants at least 1000.
    pub max_text_line: AtLeast<1000>,
    /// Bytes per header of a message; a message of the size that RFC 5321 §4.5.3.1.7 wants may be nothing else.
    pub max_header_size: AtLeast<65536>,
    /// Fields per header of a message.
    pub max_header_fields: AtLeast<1000>,
    /// `Received` fields per message before it counts as going in circles; RFC 5321 §6.3 wants at least 100.
    pub max_hops: AtLeast<100>,
    /// Commands that are none, or malformed, before 421.
    pub max_bad_commands: AtLeast<1>,
    /// Commands without effect (NOOP, RSET, EHLO, VRFY and their like) between two messages before 421.
    pub max_idle_commands: AtLeast<10>,
    /// What becomes of a bare CR, a bare LF or a NUL in a message. None ever ends one, and in a command each ends the connection.
    pub stray_line_ends: StrayLineEnds,
    /// Offer BINARYMIME (RFC 3030). Such mail is kept as it is, NULs too, which IMAP4rev1 has no way to show (RFC 3501 §4.3.1).
    pub binary_mime: bool,
    /// Seconds for which those who log in may have a message held before it goes anywhere (RFC 4865); 0 switches that off.
    pub max_hold_seconds: AtMost<31_536_000>,
    /// Seconds a command may take to arrive; RFC 5321 §4.5.3.2.7 wants at least five minutes.
    pub command_timeout_seconds: AtLeast<300>,
    /// Bytes per second with which a message has to come, on average of five minutes.
    pub min_data_rate: AtLeast<1>,
    /// Seconds from MAIL to the end of the message.
    pub transaction_timeout_seconds: AtLeast<600>,
    /// Offer AUTH without TLS to clients on a loopback address.
    pub cleartext_auth_on_loopback: bool,
    /// How much one client may do.
    pub limits: SmtpLimits,
    /// Lists in DNS of whose mail is wanted and whose is not.
    pub dns_lists: DnsLists,
    /// Whether mail of strangers is put off once.
    pub greylisting: Greylisting,
    /// Proxies that say with XCLIENT who their client is.
    pub xclient: Xclient,
    /// Programs that look at mail and may change or refuse it (milter protocol), in the order in which they do.
    pub filters: Vec<Filter>,
    /// Bytes of memory for messages on their way through filters, all connections together.
    pub filter_memory: AtLeast<1048576>,
}

/// What becomes of a CR, LF or NUL that stands where none may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StrayLineEnds {
    /// The message is refused.
    #[default]
    Reject,
    /// A CR or LF becomes a line end, a NUL is left out.
    Normalize,
}

impl Default for Smtp {
    fn default() -> Self {
        let v4_loopback = Network::known(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8);
        let v6_loopback = Network::known(IpAddr::V6(Ipv6Addr::LOCALHOST), 128);
        Self {
            host: super::ANY,
            port: 25,
            submission_port: 587,
            smtps_port: 465,
            lmtp_host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            lmtp_port: 0,
            lmtp_clients: vec![v4_loopback, v6_loopback],
            lmtp_socket_user: None,
            proxies: Vec::new(),
            submission_proxies: Vec::new(),
            smtps_proxies: Vec::new(),
            lmtp_proxies: Vec::new(),
            max_recipients: AtLeast::known(1000),
            max_connections: AtLeast::known(1000),
            max_messages_per_connection: AtLeast::known(1000),
            max_message_size: AtLeast::known(52_428_800),
            max_command_line: AtLeast::known(2048),
            max_text_line: AtLeast::known(1_048_576),
            max_header_size: AtLeast::known(524_288),
            max_header_fields: AtLeast::known(5000),
            max_hops: AtLeast::known(100),
            max_bad_commands: AtLeast::known(10),
            max_idle_commands: AtLeast::known(100),
            stray_line_ends: StrayLineEnds::default(),
            binary_mime: false,
            max_hold_seconds: AtMost::known(604_800),
            command_timeout_seconds: AtLeast::known(300),
            min_data_rate: AtLeast::known(256),
            transaction_timeout_seconds: AtLeast::known(7200),
            cleartext_auth_on_loopback: false,
            limits: SmtpLimits::default(),
            dns_lists: DnsLists::default(),
            greylisting: Greylisting::default(),
            xclient: Xclient::default(),
            filters: Vec::new(),
            filter_memory: AtLeast::known(268_435_456),
        }
    }
}

/// What smtpd puts in front of a message at most: Return-Path and Received, with Authentication-Results or with Date and Message-ID,
/// and the longest names there are.
pub const TRACE_SIZE: u64 = 4096;

impl Smtp {
    /// Bytes of a message as it is kept: what a client may send (RFC 1870 §4 counts no more), and what smtpd puts in front of it.
    #[must_use]
    pub fn max_kept_size(&self) -> u64 {
        self.max_message_size.value() + TRACE_SIZE
    }
}
