//! Properties that hold for whatever bytes come from outside.
//!
//! The fuzzers look for bytes for which one does not, and the test `corpus` of the workspace tries those in `corpus/`.

pub mod commands;
pub mod filters;
pub mod message;
mod pieces;
pub mod proxies;
pub mod replies;
pub mod sasl_messages;
pub mod senders;
pub mod session;
pub mod signatures;

// The readers of messages outside of proto/, and the world that the tests of the server machine live in.
#[allow(dead_code, reason = "its functions are tested where they belong")]
#[path = "../../imapd/src/fuzzy.rs"]
mod fuzzy;
#[allow(dead_code, reason = "its other functions are tested where they belong")]
#[path = "../../imapd/src/search_text.rs"]
mod search_text;
#[path = "../../proto/smtp/tests/world/mod.rs"]
mod world;
