//! Processes that were started in a folder, by whomever: session keepers and their programs outlive the server that
//! started them, which is their purpose, and end with the test all the same. So do the control groups that they lived in.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::process::kill;

/// Kills every process whose arguments, environment or working folder lie in `folder`; says whether there was one.
pub(crate) fn kill_started_in(folder: &Path) -> bool {
    let mut found = false;
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if pid != std::process::id() && belongs_to(&entry.path(), folder) {
            kill(pid, Signal::KILL);
            found = true;
        }
    }
    found
}

/// Control groups that the keepers of a server's sessions were given, as their folders say.
pub fn control_groups(data: &Path) -> Vec<PathBuf> {
    let sessions = std::fs::read_dir(data.join("sessions"));
    sessions
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|session| {
            let said = std::fs::read_to_string(session.path().join("scope")).ok()?;
            Some(PathBuf::from(said.trim().strip_prefix("control group ")?))
        })
        .collect()
}

/// Removes control groups with those inside of them; what is not empty stays.
pub(crate) fn remove_control_groups(groups: &[PathBuf]) {
    for group in groups {
        for inner in std::fs::read_dir(group).into_iter().flatten().flatten() {
            // Its files are no folders and go with it.
            let _not_empty = std::fs::remove_dir(inner.path());
        }
        let _not_empty = std::fs::remove_dir(group);
    }
}

/// A process that has ended and is not yet waited for shows neither arguments nor environment.
fn belongs_to(process: &Path, folder: &Path) -> bool {
    let wanted = folder.as_os_str().as_encoded_bytes();
    let mentions = |file: &str| {
        let bytes = std::fs::read(process.join(file)).unwrap_or_default();
        bytes.windows(wanted.len()).any(|window| window == wanted)
    };
    let works_there =
        std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    works_there || mentions("cmdline") || mentions("environ")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::machine::process_exists;
    use crate::wait::{eventually, seconds};

    #[test]
    fn what_was_started_in_a_folder_is_found_and_killed() {
        let folder = tempfile::Builder::new()
            .prefix("stead-group-")
            .tempdir()
            .expect("a folder");
        let started =
            |command: &mut Command| command.stdin(Stdio::piped()).spawn().expect("a shell");
        let script = OsStr::new("read line; exit 0");
        let mut shells = [
            started(Command::new("sh").arg("-c").arg(script).arg(folder.path())),
            started(
                Command::new("sh")
                    .arg("-c")
                    .arg(script)
                    .env("TMPDIR", folder.path()),
            ),
            started(
                Command::new("sh")
                    .arg("-c")
                    .arg(script)
                    .current_dir(folder.path()),
            ),
        ];
        eventually(seconds(5), "all are killed", || {
            kill_started_in(folder.path());
            shells
                .iter_mut()
                .all(|shell| shell.try_wait().expect("a child").is_some())
        });
        assert!(!kill_started_in(folder.path()));
        assert!(shells.iter().all(|shell| !process_exists(shell.id())));
    }
}
