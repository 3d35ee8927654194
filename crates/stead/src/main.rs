//! The `stead` program: server, command line of administrators, and client in one.
//!
//! Arguments become valid values in [`cli`], once; everything behind it works with values that fit. A command either
//! succeeds, or says what went wrong, why and what to do, and ends with an exit code that scripts rely on ([`errors`]).

mod cli;
mod config_file;
mod demo;
mod door;
mod errors;
mod logging;
mod output;
mod password;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(std::env::args_os().collect()) {
        Ok(code) => code,
        Err(failure) => {
            logging::say(&failure.to_string());
            failure.exit.into()
        }
    }
}
