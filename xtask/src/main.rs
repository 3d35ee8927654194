//! Development tasks: `cargo xtask setup | test | sim | tidy`.
//!
//! Each task is a module; this file only reads the command line and turns an outcome into an exit code. The first
//! place to look for what a task does is the head of its module.

mod house;
mod source;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Development tasks of Stead.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check the rules of the house: allowed edges between crates, sizes, comments, tests that wait for conditions.
    Tidy,
}

/// Where the workspace lies.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default()
}

fn main() -> Result<ExitCode> {
    let passed = match Arguments::parse().task {
        Task::Tidy => tidy::run(&root())?,
    };
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
