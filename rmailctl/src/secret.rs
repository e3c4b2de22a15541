//! Passwords from a terminal, from standard input, or made up.

use std::io::Read;

use ipc::Secret;

use crate::Error;

/// Longest password taken, in bytes.
const LONGEST: u64 = 1024;

/// The first line of standard input.
///
/// # Errors
/// [`Error::Usage`] when there is none.
pub fn from_stdin() -> Result<Secret, Error> {
    let mut text = String::new();
    std::io::stdin()
        .take(LONGEST + 1)
        .read_to_string(&mut text)?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(Error::Usage("no password on standard input".into()));
    }
    Ok(Secret::new(line))
}

/// Asks for a password twice on the terminal.
///
/// # Errors
/// [`Error::Usage`] when the two differ or there is no terminal.
pub fn from_terminal(address: &str) -> Result<Secret, Error> {
    let no_terminal = |error: std::io::Error| {
        Error::Usage(format!(
            "cannot ask for a password ({error}); use --password-stdin"
        ))
    };
    let first =
        rpassword::prompt_password(format!("New password for {address}: ")).map_err(no_terminal)?;
    let second = rpassword::prompt_password("Again: ").map_err(no_terminal)?;
    if first == second {
        Ok(Secret::new(first))
    } else {
        Err(Error::Usage("the two passwords differ".into()))
    }
}

/// Twenty letters and digits from the system's randomness: about 100 bits.
///
/// # Errors
/// When the system has no randomness.
pub fn made_up() -> Result<String, Error> {
    // 32 characters, so that five bits of a random byte choose one without bias; none that are easily confused.
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::failed("cannot make up a password", error))?;
    Ok(bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte & 31)]))
        .collect())
}
