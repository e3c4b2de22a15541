//! What a server offers in its reply to `EHLO`.

use crate::auth::Mechanism;
use crate::reply::Reply;

/// The extensions of a server that matter to us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extensions {
    /// RFC 3207: TLS can be started.
    pub starttls: bool,
    /// RFC 2920: commands may be sent in groups.
    pub pipelining: bool,
    /// RFC 6152: `BODY=8BITMIME` is understood.
    pub eight_bit_mime: bool,
    /// RFC 6531: addresses and headers may be UTF-8.
    pub smtputf8: bool,
    /// RFC 1870: `SIZE=` is understood.
    pub size: bool,
    /// RFC 1870: the largest message taken, if the server told.
    pub max_size: Option<u64>,
    /// RFC 3461: the server reports as the sender wants it.
    pub dsn: bool,
    /// RFC 8689: the server keeps to TLS as the sender wants it.
    pub require_tls: bool,
    /// RFC 6710: the server knows priorities.
    pub priority: bool,
    /// RFC 2852: the server keeps to a time, …
    pub deliver_by: bool,
    /// … of at least so many seconds where late mail comes back, if it told.
    pub shortest: Option<i64>,
    /// RFC 4954: how one may authenticate.
    pub auth: Mechanisms,
}

/// The SASL mechanisms a server offers, of those we speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mechanisms {
    /// PLAIN.
    pub plain: bool,
    /// LOGIN.
    pub login: bool,
}

impl Extensions {
    // RFC 5321 §4.1.1.1: ehlo-line = ehlo-keyword *( SP ehlo-param ), after the line with the domain.
    pub(crate) fn parse(reply: &Reply) -> Self {
        let mut extensions = Self::default();
        for line in reply.lines().iter().skip(1) {
            extensions.add(line);
        }
        extensions
    }

    fn add(&mut self, line: &str) {
        // "AUTH=PLAIN LOGIN" is how servers spoke to clients older than RFC 2554.
        let mut words = line.split([' ', '=']).filter(|word| !word.is_empty());
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        match keyword.as_str() {
            "STARTTLS" => self.starttls = true,
            "PIPELINING" => self.pipelining = true,
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "DSN" => self.dsn = true,
            "DELIVERBY" => {
                self.deliver_by = true;
                self.shortest = words.next().and_then(|n| n.parse().ok());
            }
            "MT-PRIORITY" => self.priority = true,
            "REQUIRETLS" => self.require_tls = true,
            "SIZE" => {
                self.size = true;
                // RFC 1870 §4: 0 means that there is no fixed limit.
                let limit = words.next().and_then(|n| n.parse().ok());
                self.max_size = limit.filter(|n| *n != 0);
            }
            "AUTH" => words.for_each(|name| self.auth.add(name)),
            _ => {}
        }
    }
}

impl Mechanisms {
    fn add(&mut self, name: &str) {
        match Mechanism::parse(name) {
            Some(Mechanism::Plain) => self.plain = true,
            Some(Mechanism::Login) => self.login = true,
            // What relayd has for a smarthost is a password.
            Some(Mechanism::Exchange(_)) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_read_in_any_case() {
        let reply = Reply::bare(250, "mx.example.org")
            .line("pipelining")
            .line("SIZE 1000")
            .line("AUTH CRAM-MD5 plain")
            .line("AUTH=LOGIN")
            .line("X-UNKNOWN a b");
        let extensions = Extensions::parse(&reply);
        assert!(extensions.pipelining && extensions.size && !extensions.starttls);
        assert_eq!(extensions.max_size, Some(1000));
        assert!(extensions.auth.plain && extensions.auth.login);
    }

    #[test]
    fn the_first_line_is_no_extension() {
        let extensions = Extensions::parse(&Reply::bare(250, "STARTTLS"));
        assert_eq!(extensions, Extensions::default());
    }

    #[test]
    fn a_size_of_zero_is_no_limit() {
        let extensions = Extensions::parse(&Reply::bare(250, "x").line("SIZE 0"));
        assert!(extensions.size);
        assert_eq!(extensions.max_size, None);
    }
}
