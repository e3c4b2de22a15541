//! `rmailctl dkim` on the command line.

use clap::{Subcommand, ValueEnum};

/// `rmailctl dkim …`.
#[derive(Debug, Subcommand)]
pub enum DkimCommand {
    /// Show the keys: domain, selector, kind, state, since when it is in that state, and what is to be done; separated by tabs.
    List {
        /// Only of this domain.
        domain: Option<String>,
        /// A JSON array instead of text, with times in Unix seconds.
        #[arg(long)]
        json: bool,
    },
    /// Make a key, and show the record to publish. It signs once relayd has seen the record in DNS, and takes the place of a key of its
    /// kind (RSA or Ed25519) that signed before.
    Create {
        /// The domain in From.
        domain: String,
        /// Of which kind. Nearly everybody verifies RSA; Ed25519 is for beside it.
        #[arg(long, value_name = "KIND", default_value = "rsa2048")]
        kind: KeyKind,
        /// Under which the record is found; made of the day if not given.
        #[arg(long)]
        selector: Option<String>,
        /// A JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Show the records of a domain, as they stand in a zone file.
    Show {
        /// The domain.
        domain: String,
        /// Only of this key.
        selector: Option<String>,
        /// A JSON array instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Sign with a key that waits or was retired, whatever DNS says. Only for a record that others see and relayd does not.
    Activate {
        /// The domain.
        domain: String,
        /// The key.
        selector: String,
    },
    /// Sign with a key no more. Its record must stay until the mail it has signed has been read.
    Retire {
        /// The domain.
        domain: String,
        /// The key.
        selector: String,
    },
    /// Destroy a key that does not sign.
    Remove {
        /// The domain.
        domain: String,
        /// The key.
        selector: String,
    },
    /// Make a successor for each key that signs, and show the records to publish.
    Rotate {
        /// The domain.
        domain: String,
        /// A JSON array instead of text.
        #[arg(long)]
        json: bool,
    },
}

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyKind {
    /// Ed25519 (RFC 8463).
    Ed25519,
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 3072 bits.
    Rsa3072,
    /// RSA with 4096 bits: the record is too long for some DNS services.
    Rsa4096,
}

impl KeyKind {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::Rsa2048 => "rsa2048",
            Self::Rsa3072 => "rsa3072",
            Self::Rsa4096 => "rsa4096",
        }
    }
}
