//! The system calls rmail needs, made safe; links no runtime.
//!
//! The only crate that may hold unsafe code. Everything it offers is safe to call.

pub mod file;
pub mod jail;
pub mod listen;
pub mod memfd;
pub mod memory;
pub mod packet;
pub mod plan;
pub mod process;
pub mod socket;
pub mod spawn;
pub mod user;
