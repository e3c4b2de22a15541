//! Logs: one line per event on stderr, fields rather than prose; the supervisor or journald adds the rest.

use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::config::LogLevel;
use crate::session_id;

/// Changes how much is logged while the daemon runs.
#[derive(Debug)]
pub struct Level {
    filter: Handle<EnvFilter, Registry>,
    /// `RMAIL_LOG` decides.
    is_fixed: bool,
}

impl Level {
    /// Logs at `level` from now on, unless `RMAIL_LOG` decides.
    pub fn change(&self, level: LogLevel) {
        if !self.is_fixed
            && let Err(error) = self.filter.reload(EnvFilter::new(level.as_str()))
        {
            tracing::warn!(%error, "the log level stays as it is");
        }
    }
}

/// Starts logging for this process. `RMAIL_LOG` (the syntax of tracing's `EnvFilter`) overrides the configured level;
/// `RMAIL_LOG_FORMAT=json` makes every line a JSON object. Under journald the time stamp is left to it.
#[must_use]
pub fn start(name: &'static str, level: LogLevel) -> Level {
    let fixed = std::env::var("RMAIL_LOG").ok().map(EnvFilter::try_new);
    let (fixed, misunderstood) = match fixed.transpose() {
        Ok(fixed) => (fixed, None),
        Err(error) => (None, Some(error)),
    };
    let is_fixed = fixed.is_some();
    let filter = fixed.unwrap_or_else(|| EnvFilter::new(level.as_str()));
    let (filter, handle) = reload::Layer::new(filter);
    let json = std::env::var_os("RMAIL_LOG_FORMAT").is_some_and(|format| format == "json");
    let journald = std::env::var_os("JOURNAL_STREAM").is_some();
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match (json, journald) {
        (true, _) => lines.json().boxed(),
        (false, true) => lines.without_time().boxed(),
        (false, false) => lines.event_format(Named { name }).boxed(),
    };
    // A second start in one process (tests) keeps the first.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    if let Some(error) = misunderstood {
        tracing::warn!(%error, "RMAIL_LOG cannot be understood; log_level of the configuration counts");
    }
    Level {
        filter: handle,
        is_fixed,
    }
}

/// `2026-11-24T18:00:00Z smtpd[123] INFO session=…: accepted size=…`
struct Named {
    name: &'static str,
}

impl<S, N> tracing_subscriber::fmt::FormatEvent<S, N> for Named
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    N: for<'a> tracing_subscriber::fmt::FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &tracing_subscriber::fmt::FmtContext<'_, S, N>,
        mut writer: tracing_subscriber::fmt::format::Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        use tracing_subscriber::fmt::time::FormatTime;
        SystemTime.format_time(&mut writer)?;
        write!(
            writer,
            " {}[{}] {}",
            self.name,
            session_id::process(),
            event.metadata().level()
        )?;
        for span in context
            .event_scope()
            .into_iter()
            .flat_map(tracing_subscriber::registry::Scope::from_root)
        {
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<tracing_subscriber::fmt::FormattedFields<N>>() {
                write!(writer, " {fields}")?;
            }
        }
        writer.write_char(' ')?;
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
