//! Who we are, and users by name or number.

use std::io;

use nix::unistd::{Gid, Uid, User};

/// A user and its primary group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Whether this process acts as root.
#[must_use]
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Whom this process acts as.
#[must_use]
pub fn myself() -> Identity {
    Identity {
        uid: Uid::effective().as_raw(),
        gid: Gid::effective().as_raw(),
    }
}

/// The user called `name`; a number is taken as it is, with the primary group of that user if it has an entry, else with
/// the group of the same number.
///
/// # Errors
/// `NotFound` if no such name exists; what the user database says otherwise.
pub fn find(name: &str) -> io::Result<Identity> {
    let entry = |user: User| Identity {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
    };
    if let Ok(number) = name.parse::<u32>() {
        let user = User::from_uid(Uid::from_raw(number))?;
        return Ok(user.map_or(
            Identity {
                uid: number,
                gid: number,
            },
            entry,
        ));
    }
    let user = User::from_name(name)?;
    user.map(entry)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no user {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_number() {
        let root = Identity { uid: 0, gid: 0 };
        assert_eq!((find("root").unwrap(), find("0").unwrap()), (root, root));
    }

    #[test]
    fn a_number_without_entry_is_its_own_group() {
        assert_eq!(
            find("3999999").unwrap(),
            Identity {
                uid: 3_999_999,
                gid: 3_999_999
            }
        );
    }

    #[test]
    fn an_unknown_name_is_not_found() {
        assert_eq!(
            find("_no-such-user").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
