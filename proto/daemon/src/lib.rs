//! How a process of rmail is born, configured, heard and stopped.

pub mod certificate;
pub mod channel;
pub mod config;
pub mod limits;
pub mod log;
pub mod port;
pub mod session_id;
pub mod stop;
pub mod tls;

mod start;

pub use start::{Birth, EX_CONFIG, EX_SOFTWARE, EX_USAGE, StartError, start, start_passing_on};
pub use stop::Stop;
