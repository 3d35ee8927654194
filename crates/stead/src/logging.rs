//! Logs, on stderr: text for people, JSON for machines.

use std::io::{IsTerminal, Write};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged when nothing else is said: what matters, and of the consensus library only errors: it warns of every heartbeat that a dead server misses.
const DEFAULT_FILTER: &str = "info,openraft=error";

/// Starts logging, once in a process. `STEAD_LOG` filters (`debug`, `server=debug,info`).
pub(crate) fn start(format: LogFormat) {
    let filter =
        EnvFilter::try_from_env("STEAD_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let builder = tracing_subscriber::fmt()
        // A log that cannot be written (a full disk) must not end the process.
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Err(error) = started {
        say(&format!("logging was started already: {error}"));
    }
}

/// Tells people something on stderr. A stderr that is gone is no reason to fail.
pub(crate) fn say(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr
        .write_all(text.as_bytes())
        .and_then(|()| stderr.write_all(b"\n"));
}
