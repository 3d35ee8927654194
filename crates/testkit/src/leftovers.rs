//! Processes that were started in a folder, by whomever: session keepers and their programs outlive the server that
//! started them, which is their purpose, and end with the test all the same. So do the control groups that they lived in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::process::Signal;

use crate::process::kill;
use crate::wait::seconds;

/// Kills every process whose arguments, environment or working folder lie in `folder`; says whether there was one.
pub(crate) fn kill_started_in(folder: &Path) -> bool {
    let found = processes_of(folder);
    for pid in &found {
        kill(*pid, Signal::KILL);
    }
    !found.is_empty()
}

/// Ids of the processes whose arguments, environment or working folder lie in `folder`; this one excepted.
fn processes_of(folder: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let is_ours = pid != std::process::id() && belongs_to(&entry.path(), folder);
            is_ours.then_some(pid)
        })
        .collect()
}

/// Control groups of sessions that processes started in `folder` are in.
pub(crate) fn control_groups(folder: &Path) -> BTreeSet<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    });
    let group = |process: PathBuf| {
        let groups = std::fs::read_to_string(process.join("cgroup")).ok()?;
        let within = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let parts: Vec<&str> = within.split('/').collect();
        let session = parts.iter().position(|part| {
            part.starts_with("stead-session-") || part.starts_with("stead-sessions-")
        })?;
        Some(mount.clone()?.join(parts.get(..=session)?.join("/")))
    };
    let processes = processes_of(folder).into_iter();
    processes
        .filter_map(|pid| group(PathBuf::from(format!("/proc/{pid}"))))
        .collect()
}

/// Whether a session has a control group on this machine: its keeper's, or its command's.
pub fn has_control_group(session: &str) -> bool {
    fn is_below(folder: &Path, session: &str, depth: u8) -> bool {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.any(|entry| {
            entry.file_name().to_string_lossy().ends_with(session)
                || depth > 0 && is_below(&entry.path(), session, depth - 1)
        })
    }
    is_below(Path::new("/sys/fs/cgroup"), session, 3)
}

/// Removes control groups with those inside of them, as soon as what was killed there is gone. One that does not become
/// empty stays.
pub(crate) fn remove_control_groups(groups: &BTreeSet<PathBuf>) {
    let start = Instant::now();
    let remove = |group: &PathBuf| {
        for inner in std::fs::read_dir(group).into_iter().flatten().flatten() {
            // Its files are no folders and go with it.
            let _not_empty = std::fs::remove_dir(inner.path());
        }
        std::fs::remove_dir(group).is_ok() || !group.exists()
    };
    while !groups.iter().all(remove) && start.elapsed() < seconds(2) {
        std::thread::yield_now();
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
