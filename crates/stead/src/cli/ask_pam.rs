//! `stead ask-pam`: the process in which PAM is asked about one password; servers start it.

use crate::errors::{Failure, chain};

/// Asks PAM about one password; started by the server
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct AskPam {}

impl AskPam {
    /// Answers the question on standard input.
    pub(crate) fn run(self) -> Result<(), Failure> {
        host::pam::answer().map_err(|error| Failure::failed("PAM was not asked", chain(&error)))
    }
}
