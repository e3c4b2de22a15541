//! The server's side of one SCRAM-SHA-256 login (RFC 5802, 7677), with or without channel binding (RFC 9266).

use ipc::Refusal;
use mail::encode::base64;
use sasl::Malformed;
use sasl::scram::{ClientFinal, ClientFirst, Flag};

use super::password::{Stored, mac};

/// Random octets of our part of the nonce.
const NONCE: usize = 18;

/// A login whose first message was answered.
pub(super) struct Scram {
    first: ClientFirst,
    server_first: String,
    /// Both parts of it.
    nonce: String,
    /// What the client has to say about the channel.
    binding: Vec<u8>,
}

impl Scram {
    /// Answers the client's first message with salt and iterations of `stored`. `channel` is what both sides derive from TLS, if
    /// the client was offered to bind to that; `is_bound` whether it chose the mechanism that does.
    pub(super) fn begin(
        first: ClientFirst,
        stored: &Stored,
        channel: Option<&[u8]>,
        is_bound: bool,
    ) -> Result<Self, Refusal> {
        let mut random = [0; NONCE];
        getrandom::fill(&mut random).map_err(|error| {
            tracing::error!(%error, "cannot get random bytes");
            Refusal::StorageFault
        })?;
        Self::with_nonce(first, stored, channel, is_bound, &base64(&random))
    }

    fn with_nonce(
        first: ClientFirst,
        stored: &Stored,
        channel: Option<&[u8]>,
        is_bound: bool,
        ours: &str,
    ) -> Result<Self, Refusal> {
        let channel = match is_bound {
            true => bound(&first.flag, channel)?,
            false => unbound(&first.flag, channel)?,
        };
        let nonce = format!("{}{ours}", first.nonce);
        let server_first = format!(
            "r={nonce},s={},i={}",
            base64(&stored.salt),
            stored.iterations
        );
        let binding = [first.header.as_bytes(), channel].concat();
        Ok(Self {
            first,
            server_first,
            nonce,
            binding,
        })
    }

    /// What is said to the client.
    pub(super) fn challenge(&self) -> &str {
        &self.server_first
    }

    /// Reads the client's last message: what it proves, and over what.
    ///
    /// # Errors
    /// When it belongs to another login or another channel. That proves nothing, so it is no wrong password either.
    pub(super) fn read(&self, message: &[u8]) -> Result<(Vec<u8>, ClientFinal), Refusal> {
        let last = ClientFinal::parse(message).map_err(malformed)?;
        if last.nonce != self.nonce {
            return Err(Refusal::Invalid("the nonce is of another login".into()));
        }
        // RFC 5802 §5.1: "c" repeats the header, so that nobody can have changed it, and holds the channel binding.
        if last.binding != self.binding {
            return Err(Refusal::Invalid(
                "the login is bound to another connection, somebody may be reading along".into(),
            ));
        }
        let message = [
            self.first.bare.as_str(),
            &self.server_first,
            &last.without_proof,
        ]
        .join(",");
        Ok((message.into_bytes(), last))
    }
}

// RFC 9266 §2: the one type of channel binding there is for TLS 1.3.
fn bound<'a>(flag: &Flag, channel: Option<&'a [u8]>) -> Result<&'a [u8], Refusal> {
    match (flag, channel) {
        (Flag::Bound(name), Some(channel)) if name == "tls-exporter" => Ok(channel),
        (Flag::Bound(_), Some(_)) => Err(Refusal::Invalid(
            "the only type of channel binding here is tls-exporter".into(),
        )),
        (Flag::Bound(_) | Flag::Unable | Flag::NotOffered, _) => Err(Refusal::Invalid(
            "the mechanism needs channel binding".into(),
        )),
    }
}

fn unbound<'a>(flag: &Flag, channel: Option<&[u8]>) -> Result<&'a [u8], Refusal> {
    match (flag, channel) {
        (Flag::Unable, _) | (Flag::NotOffered, None) => Ok(&[]),
        // RFC 5802 §6: it could have bound to the channel, and somebody has hidden from it that we offer it.
        (Flag::NotOffered, Some(_)) => Err(Refusal::Invalid(
            "channel binding was offered, but did not reach the client: somebody changes what is sent".into(),
        )),
        // RFC 5802 §6: only with a name that ends in -PLUS.
        (Flag::Bound(_), _) => Err(Refusal::Invalid(
            "channel binding needs the mechanism SCRAM-SHA-256-PLUS".into(),
        )),
    }
}

/// What SCRAM is told for a user that does not exist: always the same salt, with as many iterations as others have.
pub(super) fn pretend(key: &[u8], user: &str, iterations: u32) -> Stored {
    let mut salt = mac(key, user.as_bytes());
    salt.truncate(16);
    Stored {
        salt,
        iterations,
        stored_key: vec![0; 32],
        server_key: vec![0; 32],
    }
}

pub(super) fn malformed(_: Malformed) -> Refusal {
    Refusal::Invalid("the message is not what the mechanism prescribes".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7677 §3.
    const SALT: [u8; 16] = [
        0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa,
        0x81,
    ];
    const OURS: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn begin(first: &str, channel: Option<&[u8]>, is_bound: bool) -> Result<Scram, Refusal> {
        let first = ClientFirst::parse(first.as_bytes()).unwrap();
        let stored = Stored::with_salt(b"pencil", SALT.to_vec(), 4096);
        Scram::with_nonce(first, &stored, channel, is_bound, OURS)
    }

    #[test]
    fn the_exchange_of_rfc_7677() {
        let scram = begin("n,,n=user,r=rOprNGfwEbeRWgbNEkqO", None, false).unwrap();
        assert_eq!(
            scram.challenge(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let (message, last) = scram.read(LAST.as_bytes()).unwrap();
        let stored = Stored::with_salt(b"pencil", SALT.to_vec(), 4096);
        let signature = stored.check_proof(&message, &last.proof).unwrap();
        assert_eq!(
            base64(&signature),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
        let other = Stored::with_salt(b"pencim", SALT.to_vec(), 4096);
        assert_eq!(other.check_proof(&message, &last.proof), None);
    }

    #[test]
    fn a_proof_for_another_login_or_channel_is_not_looked_at() {
        let scram = begin("n,,n=user,r=rOprNGfwEbeRWgbNEkqO", None, false).unwrap();
        // The nonce without our part; the header of a client that can bind to channels.
        for (part, other) in [(OURS, ""), ("c=biws", "c=eSws"), ("c=biws", "c=biwsAA==")] {
            let last = LAST.replace(part, other);
            assert!(
                matches!(scram.read(last.as_bytes()), Err(Refusal::Invalid(_))),
                "{last}"
            );
        }
    }

    #[test]
    fn the_flag_says_the_truth_or_the_login_ends() {
        let channel = Some(&b"channel"[..]);
        for (first, channel, is_bound, is_taken) in [
            ("n,,n=a,r=x", None, false, true),
            ("n,,n=a,r=x", channel, false, true),
            ("y,,n=a,r=x", None, false, true),
            ("y,,n=a,r=x", channel, false, false),
            ("p=tls-exporter,,n=a,r=x", channel, false, false),
            ("p=tls-exporter,,n=a,r=x", channel, true, true),
            ("p=tls-exporter,,n=a,r=x", None, true, false),
            ("p=tls-unique,,n=a,r=x", channel, true, false),
            ("n,,n=a,r=x", channel, true, false),
            ("y,,n=a,r=x", channel, true, false),
        ] {
            let begun = begin(first, channel, is_bound);
            assert_eq!(begun.is_ok(), is_taken, "{first} {channel:?} {is_bound}");
        }
    }

    #[test]
    fn a_bound_login_holds_what_tls_has() {
        let scram = begin("p=tls-exporter,,n=user,r=x", Some(b"channel"), true).unwrap();
        let last = |binding: &[u8]| {
            let proof = base64(&[0; 32]);
            format!("c={},r=x{OURS},p={proof}", base64(binding))
        };
        assert!(
            scram
                .read(last(b"p=tls-exporter,,channel").as_bytes())
                .is_ok()
        );
        for binding in [&b"p=tls-exporter,,chanmel"[..], b"p=tls-exporter,,", b"n,,"] {
            assert!(scram.read(last(binding).as_bytes()).is_err());
        }
    }

    #[test]
    fn a_user_that_does_not_exist_has_always_the_same_salt() {
        let salt = |key: &[u8], user| pretend(key, user, 1).salt;
        assert_eq!(salt(b"key", "a@b"), salt(b"key", "a@b"));
        assert_ne!(salt(b"key", "a@b"), salt(b"key", "b@b"));
        assert_ne!(salt(b"key", "a@b"), salt(b"yek", "a@b"));
    }
}
