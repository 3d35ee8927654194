//! `stead completions`: for shells.

use crate::errors::Failure;
use clap::CommandFactory;
use clap_complete::Shell;

/// Prints a script that completes commands and options in a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead completions bash > /usr/share/bash-completion/completions/stead
  stead completions fish > ~/.config/fish/completions/stead.fish")]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Prints the script.
    pub(crate) fn run<C: CommandFactory>(self) -> Result<(), Failure> {
        clap_complete::generate(
            self.shell,
            &mut C::command(),
            "stead",
            &mut std::io::stdout(),
        );
        Ok(())
    }
}
