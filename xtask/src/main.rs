//! Development tasks: `cargo xtask setup | test | sim | fuzz | bench | tidy | advisories`.
//!
//! Each task is a module; this file only reads the command line and turns an outcome into an exit code. The first
//! place to look for what a task does is the head of its module.

mod advisories;
mod benches;
mod fuzzing;
mod house;
mod programs;
mod setup;
mod source;
mod suites;
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
    /// Install the system packages that tests need (as root); does nothing when they are there.
    Setup {
        /// Also what benches are measured against.
        #[arg(long)]
        bench: bool,
        /// Also what fuzzing needs.
        #[arg(long)]
        fuzz: bool,
        /// Also the tools of `.ci/run`, into `$STEAD_TOOLS` or `~/.cache/stead/tools`.
        #[arg(long)]
        ci: bool,
    },
    /// Set up, then run all tests.
    Test {
        /// Only tests whose name contains this.
        filter: Option<String>,
    },
    /// Tell simulated stories of failures on all cores: `--seeds N --for DURATION --from SEED`, or one of them with all
    /// that happens in it: `--seed SEED`.
    Sim {
        /// Options of the crate `sim`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Run the harnesses of the crate `fuzz`, guided by coverage: what strangers may send, and what must hold for it.
    Fuzz {
        /// Harnesses by name; all when none is named.
        targets: Vec<String>,
        /// How long each runs.
        #[arg(long, default_value_t = 600)]
        seconds: u64,
        /// Only see that the runner can be built; the harnesses themselves run over damaged examples with every `cargo test`.
        #[arg(long, conflicts_with_all = ["targets", "seconds"])]
        check: bool,
    },
    /// Measure Stead beside what it is compared with (failover, changes, lookups, gateway; all when none is named), and write
    /// docs/BENCHMARKS.md.
    Bench {
        /// Benches, and options of the crate `bench` behind `--`: `--trials 5 --seconds 2 --dry-run`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Check the rules of the house: allowed edges between crates, sizes, comments, tests that wait for conditions.
    Tidy {
        /// First write the pages that are made from the code.
        #[arg(long)]
        write: bool,
    },
    /// Look every crate of Cargo.lock up among known vulnerabilities, and write docs/advisories.md.
    Advisories {
        /// A checkout of github.com/rustsec/advisory-db; fetched when none is named.
        database: Option<PathBuf>,
    },
}

/// Where the workspace lies.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default()
}

#[expect(
    clippy::print_stderr,
    reason = "where a command line says what went wrong"
)]
fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does the task; says whether all it looked at was right.
fn run(task: Task) -> Result<bool> {
    let root = root();
    match task {
        Task::Setup { bench, fuzz, ci } => {
            setup::run(if bench {
                setup::For::Benches
            } else {
                setup::For::Tests
            })?;
            if fuzz {
                setup::run(setup::For::Fuzzing)?;
            }
            if ci {
                setup::tools(&root)?;
            }
            Ok(true)
        }
        Task::Test { filter } => suites::all(&root, filter.as_deref()),
        Task::Sim { options } => suites::simulation(&root, &options),
        Task::Fuzz { check: true, .. } => fuzzing::check(&root).map(|()| true),
        Task::Fuzz {
            targets, seconds, ..
        } => fuzzing::run(&root, &targets, seconds),
        Task::Bench { options } => benches::run(&root, &options).map(|()| true),
        Task::Advisories { database } => advisories::run(&root, database.as_deref()),
        Task::Tidy { write } => {
            if write {
                tidy::write(&root)?;
            }
            tidy::run(&root)
        }
    }
}
