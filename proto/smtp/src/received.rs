//! The `Received:` field: where a message came from, how, and when.

use alloc::string::String;
use core::fmt::Write;
use core::net::IpAddr;

use mail::address::{Domain, ForwardPath};

use crate::command::HelloName;
use crate::date::Timestamp;

/// What a `Received:` field tells.
#[derive(Debug)]
pub struct Trace<'a> {
    /// The name the client gave in `EHLO` or `HELO`.
    pub hello: &'a HelloName,
    /// Where the connection came from.
    pub peer: IpAddr,
    /// Neither of both is told.
    pub is_redacted: bool,
    /// Our name.
    pub by: &'a Domain,
    /// How it was spoken.
    pub protocol: Protocol,
    /// TLS version and cipher suite, for people.
    pub tls: Option<&'a str>,
    /// The message id that our logs use.
    pub id: &'a str,
    /// The recipient, if there is only one: more would tell blind copies.
    pub recipient: Option<&'a ForwardPath>,
    /// When.
    pub now: Timestamp,
}

/// How a message was handed over; shows as a word of the IANA registry "Mail Transmission Types".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol {
    /// It is LMTP (RFC 2033).
    pub local: bool,
    /// The client said `EHLO` or `LHLO`.
    pub extended: bool,
    /// The connection was encrypted.
    pub tls: bool,
    /// The client had authenticated.
    pub authenticated: bool,
    /// The transaction used SMTPUTF8.
    pub utf8: bool,
}

impl Protocol {
    /// The registered word.
    #[must_use]
    pub fn name(self) -> &'static str {
        if self.local {
            return self.local_name();
        }
        // RFC 3848 and RFC 6531 §4.3. There are no words for HELO with TLS: those of EHLO serve.
        match (
            self.utf8,
            self.extended || self.tls,
            self.tls,
            self.authenticated,
        ) {
            (true, _, false, false) => "UTF8SMTP",
            (true, _, true, false) => "UTF8SMTPS",
            (true, _, false, true) => "UTF8SMTPA",
            (true, _, true, true) => "UTF8SMTPSA",
            (false, false, _, _) => "SMTP",
            (false, true, false, false) => "ESMTP",
            (false, true, true, false) => "ESMTPS",
            (false, true, false, true) => "ESMTPA",
            (false, true, true, true) => "ESMTPSA",
        }
    }
}

impl Protocol {
    // There is no login in our LMTP.
    fn local_name(self) -> &'static str {
        match (self.utf8, self.tls) {
            (false, false) => "LMTP",
            (false, true) => "LMTPS",
            (true, false) => "UTF8LMTP",
            (true, true) => "UTF8LMTPS",
        }
    }
}

impl Trace<'_> {
    /// The whole field, folded, with its CRLF.
    #[must_use]
    pub fn field(&self) -> String {
        let mut field = String::new();
        // Invariant: writing to a String cannot fail.
        let _ = self.write(&mut field);
        field
    }

    // RFC 5321 §4.4: "from" name and TCP-info, "by", "with", "id", "for", ";" date.
    fn write(&self, out: &mut String) -> core::fmt::Result {
        out.write_str("Received: ")?;
        // (deviation) The "from" is left out where it would tell strangers where one of our users is.
        if !self.is_redacted {
            let peer = Domain::from_ip(self.peer.to_canonical());
            write!(out, "from {} ({peer})\r\n\t", self.hello)?;
        }
        write!(out, "by {} with {}", self.by, self.protocol.name())?;
        if let Some(tls) = self.tls {
            write!(out, "\r\n\t({tls})")?;
        }
        write!(out, " id {}", self.id)?;
        if let Some(recipient) = self.recipient {
            write!(out, "\r\n\tfor <{recipient}>")?;
        }
        write!(out, ";\r\n\t{}\r\n", self.now)
    }
}

/// The `Return-Path:` field that final delivery puts on top of a message (RFC 5321 §4.4).
#[must_use]
pub fn return_path(sender: impl core::fmt::Display) -> String {
    alloc::format!("Return-Path: <{sender}>\r\n")
}

#[cfg(test)]
mod tests {
    use mail::address::ReversePath;

    use super::*;

    fn trace<'a>(hello: &'a HelloName, by: &'a Domain) -> Trace<'a> {
        Trace {
            hello,
            peer: "::ffff:192.0.2.7".parse().unwrap(),
            is_redacted: false,
            by,
            protocol: Protocol {
                local: false,
                extended: true,
                tls: false,
                authenticated: false,
                utf8: false,
            },
            tls: None,
            id: "4f3a",
            recipient: None,
            now: Timestamp(0),
        }
    }

    #[test]
    fn the_field_names_client_server_and_time() {
        let hello = HelloName::parse("client.example").unwrap();
        let by = Domain::parse("mx.example.org").unwrap();
        assert_eq!(
            trace(&hello, &by).field(),
            "Received: from client.example ([192.0.2.7])\r\n\tby mx.example.org with ESMTP id 4f3a;\
             \r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n"
        );
    }

    #[test]
    fn a_redacted_field_tells_nothing_of_the_client() {
        let hello = HelloName::parse("client.example").unwrap();
        let by = Domain::parse("mx.example.org").unwrap();
        let trace = Trace {
            is_redacted: true,
            ..trace(&hello, &by)
        };
        assert_eq!(
            trace.field(),
            "Received: by mx.example.org with ESMTP id 4f3a;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n"
        );
    }

    #[test]
    fn tls_and_a_single_recipient_are_told() {
        let hello = HelloName::parse("client.example").unwrap();
        let by = Domain::parse("mx.example.org").unwrap();
        let recipient = ForwardPath::parse("a@example.org").unwrap();
        let mut trace = trace(&hello, &by);
        trace.protocol.tls = true;
        trace.tls = Some("TLSv1.3 TLS13_AES_256_GCM_SHA384");
        trace.recipient = Some(&recipient);
        assert_eq!(
            trace.field(),
            "Received: from client.example ([192.0.2.7])\r\n\tby mx.example.org with ESMTPS\
             \r\n\t(TLSv1.3 TLS13_AES_256_GCM_SHA384) id 4f3a\r\n\tfor <a@example.org>;\
             \r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n"
        );
    }

    #[test]
    fn the_protocol_is_a_registered_word() {
        let protocol = |extended, tls, authenticated, utf8| {
            let protocol = Protocol {
                local: false,
                extended,
                tls,
                authenticated,
                utf8,
            };
            protocol.name()
        };
        assert_eq!(protocol(false, false, false, false), "SMTP");
        assert_eq!(protocol(true, false, false, false), "ESMTP");
        assert_eq!(protocol(true, true, true, false), "ESMTPSA");
        assert_eq!(protocol(true, true, true, true), "UTF8SMTPSA");
        assert_eq!(protocol(true, false, true, true), "UTF8SMTPA");
    }

    #[test]
    fn the_words_of_lmtp_are_its_own() {
        let name = |tls, utf8| {
            let protocol = Protocol {
                local: true,
                extended: true,
                tls,
                authenticated: false,
                utf8,
            };
            protocol.name()
        };
        assert_eq!([name(false, false), name(true, false)], ["LMTP", "LMTPS"]);
        assert_eq!(name(true, true), "UTF8LMTPS");
    }

    #[test]
    fn the_null_return_path_is_empty() {
        assert_eq!(return_path(&ReversePath::Null), "Return-Path: <>\r\n");
    }
}
