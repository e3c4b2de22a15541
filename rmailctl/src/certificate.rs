//! A certificate for development, signed by nobody but itself.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

use crate::Error;

/// Writes a self-signed certificate for `names` to `cert` and its key, readable by its owner only, to `key`.
/// Files that exist are left alone and are an error.
///
/// # Errors
/// When a file cannot be written.
pub fn write_self_signed(names: &[String], cert: &Path, key: &Path) -> Result<(), Error> {
    let broken = |error: rcgen::Error| Error::failed("cannot make a certificate", error);
    let mut params = CertificateParams::new(names.to_vec()).map_err(broken)?;
    params.distinguished_name.push(
        DnType::CommonName,
        names.first().map_or("rmail", String::as_str),
    );
    // To the end of next year: clients dislike certificates that live for ever.
    let year = this_year();
    (params.not_before, params.not_after) = (
        date_time_ymd(year - 1, 12, 1),
        date_time_ymd(year + 1, 12, 31),
    );
    let pair = KeyPair::generate().map_err(broken)?;
    let certificate = params.self_signed(&pair).map_err(broken)?;
    for file in [cert, key] {
        if let Some(directory) = file.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(directory)
                .map_err(|error| Error::failed(directory.display(), error))?;
        }
    }
    write_new(key, 0o600, &pair.serialize_pem())?;
    write_new(cert, 0o644, &certificate.pem())
}

/// The year by the system's clock, in UTC.
fn this_year() -> i32 {
    // Seconds of a mean Gregorian year; in the days around New Year the result may be one off, which the validity above bears.
    const YEAR: u64 = 31_556_952;
    let age = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    1970 + i32::try_from(age.as_secs() / YEAR).unwrap_or(0)
}

/// Writes a file that must not exist yet.
///
/// # Errors
/// When it exists or cannot be written.
pub fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), Error> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|error| Error::failed(path.display(), error))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| Error::failed(path.display(), error))
}
