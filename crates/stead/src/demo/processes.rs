//! The processes of this machine, as `/proc` lists them: finding, freezing and killing those of the demo.
//!
//! Always true: only processes of this program whose command line names the demo's own folder, and their descendants, are touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// Processes of this program that name `folder` in their command line, and all that descend from them; this process excepted.
pub(super) fn of_folder(folder: &Path) -> BTreeSet<u32> {
    let program = fs::read_link("/proc/self/exe").ok();
    let name = fs::read("/proc/self/comm").ok();
    let mut parents = BTreeMap::new();
    let mut found = BTreeSet::new();
    let names = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name());
    for pid in names.filter_map(|name| name.to_str()?.parse::<u32>().ok()) {
        if let Some(parent) = parent(pid) {
            parents.insert(pid, parent);
        }
        let is_program = match fs::read_link(format!("/proc/{pid}/exe")) {
            Ok(found) => program.as_ref() == Some(&found),
            // Servers and keepers let nobody look into them; what they are called may be read.
            Err(_) => name.is_some() && name == fs::read(format!("/proc/{pid}/comm")).ok(),
        };
        let is_ours = pid != std::process::id() && is_program;
        if is_ours && names_folder(pid, folder) {
            found.insert(pid);
        }
    }
    loop {
        let before = found.len();
        found.extend(
            parents
                .iter()
                .filter(|(_, parent)| found.contains(parent))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        if found.len() == before {
            return found;
        }
    }
}

fn names_folder(pid: u32, folder: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let folder = folder.as_os_str().as_bytes();
    line.windows(folder.len()).any(|part| part == folder)
}

/// The fourth field of `/proc/PID/stat`; the second is in parentheses and may contain anything.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// Sends a signal to each; those that are gone already are no failure.
pub(super) fn signal(pids: &BTreeSet<u32>, signal: Signal) {
    for pid in pids
        .iter()
        .filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?))
    {
        let _gone = kill_process(pid, signal);
    }
}
