//! `stead keeper`: the small process that owns one session; servers start it.

use crate::errors::{Failure, chain};
use clap::Parser;
use std::ffi::OsString;
use std::path::PathBuf;

/// Keeps one session; started by the server, one for each
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct Keeper {
    /// The session's folder.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
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
        let what = format!("the session in {} was not kept", self.dir.display());
        super::wait_for(async {
            host::keeper::run(&self.dir)
                .await
                .map_err(|error| Failure::failed(what, chain(&error)))
        })
    }
}
