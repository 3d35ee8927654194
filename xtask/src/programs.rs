//! Running other programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A cargo command in the workspace: the cargo that runs this task.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Runs a command to its end, its output going where ours goes.
///
/// # Errors
/// When it cannot be started or fails; names it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Runs a command to its end and returns what it printed, whatever its exit code; `None` when there is no such program.
///
/// # Errors
/// When it cannot be started for another reason.
pub(crate) fn printed(command: &mut Command) -> Result<Option<String>> {
    match command.stdin(Stdio::null()).stderr(Stdio::null()).output() {
        Ok(output) => Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("starting {command:?}")),
    }
}

/// Runs a command to its end and returns what it printed; its errors go where ours go.
///
/// # Errors
/// When it cannot be started or fails; names it.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where cargo builds this workspace.
pub(crate) fn target(root: &Path) -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    root.join(named.unwrap_or_else(|| "target".into()))
}

/// Where tools and build output that outlive a checkout lie: `$variable`, or `name` in `~/.cache/stead`.
///
/// # Errors
/// When neither the variable nor `HOME` is set.
pub(crate) fn cache(variable: &str, name: &str) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(variable) {
        return Ok(folder.into());
    }
    let home =
        std::env::var_os("HOME").with_context(|| format!("neither {variable} nor HOME is set"))?;
    Ok(Path::new(&home).join(".cache/stead").join(name))
}
