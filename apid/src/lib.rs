//! apid answers HTTP: whether the mail system is well, and who may use it.
//!
//! * Runs as: `_rmail-apid`, with the listening sockets it was given and nothing else.
//! * Owns: the HTTP connections, while they last. No file, no token, no key.
//! * Trusts: what deliverd says about passwords. No client, and no header that names another client: who asks is the
//!   address of the connection.
//! * Never: opens a file or an outgoing connection, takes a request longer than 16 KiB, logs a password or a token, or
//!   answers clear text to a client on another machine.
//!
//! [`house`] opens the ports. [`daemon::port`] counts each connection and gives it a task, which begins at [`port`]. The
//! task speaks HTTP ([`session`]); [`session::http`] is the list of all there is to ask for, one file per entry. What
//! must be known from elsewhere is asked in [`ask`].
//!
//! | request | answer |
//! |---|---|
//! | `GET /healthz` | 200 when deliverd and its store answer within two seconds, else 503 |
//! | `POST /auth/login` | a bearer token for a user name and a password |

pub mod ask;
pub mod house;
pub mod port;
pub mod session;
