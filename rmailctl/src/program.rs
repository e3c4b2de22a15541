//! Where the other programs of the system are.

use std::path::{Path, PathBuf};

use crate::Error;

/// Where packages put the daemons.
const INSTALLED: &str = "/usr/lib/rmail";

/// Where the program `name` belongs: beside this one in a build tree, in its own directory once this one is installed in a
/// directory of commands. Whether it is there is not looked at: the child that makes the plan may not see it.
///
/// # Errors
/// When the system does not tell where this program is.
pub fn path(name: &str) -> Result<PathBuf, Error> {
    let own = std::env::current_exe()?;
    let directory = own.parent().unwrap_or(Path::new("/"));
    let installed = matches!(
        directory.file_name().and_then(|name| name.to_str()),
        Some("bin" | "sbin")
    );
    Ok(if installed {
        Path::new(INSTALLED)
    } else {
        directory
    }
    .join(name))
}

/// The program `name`, which must be there.
///
/// # Errors
/// When it is not.
pub fn find(name: &str) -> Result<PathBuf, Error> {
    let path = path(name)?;
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::Failed(format!(
        "the program {} is missing; build the whole workspace (cargo build --workspace) or install the package",
        path.display()
    )))
}
