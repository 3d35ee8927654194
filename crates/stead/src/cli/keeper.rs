//! `stead keeper`: the process that owns a session, or many that launch nothing; servers start it.

use crate::errors::{Failure, chain};
use clap::Parser;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Keeps one session, or many that launch nothing; started by the server
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct Keeper {
    /// The session's folder, or the keeper's own when it keeps many.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The folder of all sessions, to keep those that servers name.
    #[arg(long, value_name = "DIR")]
    sessions: Option<PathBuf>,
}

/// `stead keeper` without the rest of the command line.
#[derive(Debug, Parser)]
#[command(name = "stead keeper", bin_name = "stead keeper")]
struct Alone {
    #[command(flatten)]
    keeper: Keeper,
}

/// Runs `stead keeper ...` without building the rest of the command line.
///
/// # Errors
/// The session could not be kept.
pub(crate) fn run_alone(arguments: &[OsString]) -> Result<(), Failure> {
    let name = arguments.first().cloned().unwrap_or_default();
    let rest = arguments.iter().skip(2).cloned();
    Alone::parse_from(std::iter::once(name).chain(rest))
        .keeper
        .run()
}

impl Keeper {
    /// Keeps the session until it is over.
    pub(crate) fn run(self) -> Result<(), Failure> {
        host::core_dumps::leave_none();
        if let Some(sessions) = self.sessions {
            return keep_many(&self.dir, &sessions);
        }
        let what = format!("the session in {} was not kept", self.dir.display());
        super::wait_for(async {
            host::keeper::run(&self.dir)
                .await
                .map_err(|error| Failure::failed(what, chain(&error)))
        })
    }
}

/// Many sessions share a few threads.
fn keep_many(dir: &Path, sessions: &Path) -> Result<(), Failure> {
    let what = format!("the sessions of {} were not kept", dir.display());
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(4));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(&what, error))?;
    runtime
        .block_on(host::keeper::hall::run(dir, sessions))
        .map_err(|error| Failure::failed(&what, chain(&error)))
}
