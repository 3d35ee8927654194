//! `cargo xtask bench`: makes the other side and our binary ready, and starts the crate `bench`.

use std::path::Path;

use anyhow::Result;

use crate::{programs, setup};

/// Runs benches by name, or all; `options` go to the crate `bench` as they are.
///
/// # Errors
/// When something to measure against cannot be installed, or cargo or a bench fails.
pub(crate) fn run(root: &Path, options: &[String]) -> Result<()> {
    setup::run(setup::For::Benches)?;
    programs::run(programs::cargo(root).args(["build", "--release", "--package", "stead"]))?;
    let mut bench = programs::cargo(root);
    bench
        .args([
            "run",
            "--quiet",
            "--release",
            "--package",
            "bench",
            "--",
            "--root",
        ])
        .arg(root);
    bench
        .arg("--binary")
        .arg(programs::target(root).join("release/stead"));
    programs::run(bench.args(options))
}
