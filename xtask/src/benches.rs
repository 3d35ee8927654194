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
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
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
        .arg(root.join(target).join("release/stead"));
    programs::run(bench.args(options))
}
