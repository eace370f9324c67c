//! Log lines: to standard error, for people or as JSON, filtered.
//!
//! Owns the one global subscriber of a process. Standard output stays free for what a command prints.

use std::io::{self, IsTerminal as _};

use tokenhub_config::LogFormat;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter does not parse.
    #[error("cannot read the log filter `{filter}`")]
    ParseFilter {
        /// The filter.
        filter: String,
        /// Why.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process has a subscriber already.
    #[error("cannot install the log subscriber")]
    Install {
        /// Why.
        #[source]
        source: tracing_subscriber::util::TryInitError,
    },
}

/// Parts that say nothing to an operator below a warning, unless the filter names them.
const QUIET: [&str; 7] =
    ["sqlx", "sea_orm", "sea_orm_migration", "hyper", "h2", "temporalio_sdk_core", "temporalio_client"];

/// Starts logging with a filter such as `info` or `tokenhub_api=debug,warn`.
pub fn init(filter: &str, format: LogFormat) -> Result<(), InitError> {
    let registry = tracing_subscriber::registry().with(filter_of(filter)?);
    let lines = fmt::layer().with_writer(io::stderr);
    // On a terminal the layer decides for itself, and honours NO_COLOR.
    let lines = if io::stderr().is_terminal() { lines } else { lines.with_ansi(false) };
    let installed = match format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    installed.map_err(|source| InitError::Install { source })
}

fn filter_of(filter: &str) -> Result<EnvFilter, InitError> {
    let refuse = |source| InitError::ParseFilter { filter: filter.to_owned(), source };
    let mut directives: Vec<String> =
        QUIET.iter().filter(|part| !filter.contains(**part)).map(|part| format!("{part}=warn")).collect();
    directives.push(filter.to_owned());
    EnvFilter::builder().parse(directives.join(",")).map_err(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_does_not_parse_is_refused_with_its_text() {
        let error = filter_of("tokenhub=louder").unwrap_err();
        assert!(error.to_string().contains("tokenhub=louder"));
    }

    #[test]
    fn noisy_parts_are_quiet_unless_the_filter_names_them() {
        assert!(filter_of("debug").unwrap().to_string().contains("sqlx=warn"));
        let named = filter_of("info,sqlx=trace").unwrap().to_string();
        assert!(named.contains("sqlx=trace") && !named.contains("sqlx=warn"));
    }
}
