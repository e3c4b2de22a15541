//! DKIM (RFC 6376, 8301, 8463, 8616) and ARC (RFC 8617): who signed a message, and whether it still says what was signed.
//!
//! No socket, no file, no clock: a [`Verifier`] is fed the message as it came and says at its end which TXT records the
//! keys are in; whoever drives it asks the DNS and hands over the [`Answers`] and the time. How the octets are split on
//! the way makes no difference, and of a message nothing but its header is kept.
//!
//! ```
//! # let message = b"From: a@example.org\r\n\r\nHi.\r\n";
//! let mut verifier = dkim::Verifier::new(dkim::Limits::default());
//! verifier.feed(message);
//! let evidence = verifier.end();
//! let mut answers = dkim::Answers::new();
//! for name in evidence.questions() {
//!     answers.insert(name, dkim::Answer::Missing);
//! }
//! let outcome = evidence.judge(&answers, 1_700_000_000);
//! assert_eq!(outcome.verdict(), dkim::Verdict::None);
//! ```
//!
//! [`Signer`] makes a signature, the same way round. Where the key is in another process than the message, [`Extract`] finds there
//! what is signed, and [`SigningKey::state`] signs it here. The mathematics is aws-lc's.

mod arc;
mod body;
mod canon;
mod claim;
mod extract;
mod field;
mod generate;
mod key;
mod sign;
mod tag;
mod verdict;
mod verify;

pub use arc::{Chain, ChainFlaw, ChainVerdict, Sealer};
pub use claim::is_selector;
pub use extract::{Extract, HASH, Signable, authors};
pub use generate::KeyKind;
pub use key::is_published;
pub use sign::{BadKey, CannotSign, Signer, SigningKey, Statement};
pub use verdict::{Algorithm, Flaw, Outcome, Signature, Verdict};
pub use verify::{Answer, Answers, Evidence, Limits, Verifier};
