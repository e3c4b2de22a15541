//! What the configuration says about routing.

use daemon::config::Config;
use mail::address::{Address, Domain};

/// The `routing` section, and what of the rest matters for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    /// The domain of a bare `<postmaster>`.
    pub(crate) home: String,
    /// Who stands in for a postmaster that is nobody.
    pub(crate) postmaster: Option<Address>,
    /// Whose addresses stand for foreign senders; `None` if nobody's do.
    pub(crate) srs_domain: Option<Domain>,
    /// Days for which a report may come back.
    pub(crate) srs_days: u16,
}

impl Policy {
    /// Reads the configuration.
    ///
    /// # Errors
    /// A text for the admin.
    pub(crate) fn of(config: &Config) -> Result<Self, String> {
        let home = config.domains.first().unwrap_or(&config.hostname);
        let routing = &config.routing;
        let wrong = |key: &str, text: &str, error| {
            format!("routing.{key}: \"{}\": {error}", text.escape_debug())
        };
        let postmaster = match &routing.postmaster {
            None => None,
            Some(address) => {
                let text = address.as_str();
                Some(Address::parse(text).map_err(|error| wrong("postmaster", text, error))?)
            }
        };
        let srs_days = u16::try_from(routing.srs_days.value()).unwrap_or(u16::MAX);
        let srs_domain = routing.srs_domain.as_ref().unwrap_or(home);
        let srs_domain = match srs_days {
            0 => None,
            // An address literal is nobody's domain, and no report could come back to it.
            _ if srs_domain.is_address() => None,
            _ => {
                let text = srs_domain.as_str();
                Some(Domain::parse(text).map_err(|error| wrong("srs_domain", text, error))?)
            }
        };
        Ok(Self {
            home: home.as_str().to_owned(),
            postmaster,
            srs_domain,
            srs_days,
        })
    }
}
