//! Where a keeper and a session's processes live: outside of the server's own control group, so that stopping the server leaves
//! them alone.
//!
//! The best that this machine offers is used: a transient systemd scope; a control group of its own (version 2); else a process session
//! of its own, which is said in the session's folder and shown as a warning.
//!
//! Always true: only groups that were made here are ever written to, and they are removed when they are empty.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use model::SessionId;

/// In the session's folder: where its keeper lives, one line.
pub(crate) const FILE: &str = "scope";
/// What that line begins with when it is a control group.
const GROUP_WORDS: &str = "control group ";
/// What that line begins with when it is a warning.
const WARNING: &str = "warning: ";

/// What the keeper's last step into its place is.
#[derive(Debug)]
pub(crate) enum Place {
    /// The program is started through this command, its own arguments appended.
    Systemd(Vec<OsString>),
    /// It moves itself into this group.
    Group(Group),
    /// It stays where it is; why.
    Session(String),
}

/// Finds the best place for a keeper whose control group has this name.
pub(crate) fn place(name: &str) -> Place {
    if Path::new("/run/systemd/system").is_dir() && program("systemd-run").is_some() {
        return Place::Systemd(systemd_run(name, rustix::process::geteuid().is_root()));
    }
    match Group::beside_own(name) {
        Ok(group) => Place::Group(group),
        Err(error) => Place::Session(error.to_string()),
    }
}

/// The name of the control group of a session's keeper.
pub(crate) fn keeper_group(session: SessionId) -> String {
    format!("stead-session-{session}")
}

/// The name of the control group of a keeper of many sessions, by its folder.
pub(crate) fn hall_group(dir: &Path) -> String {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    format!("stead-sessions-{name}")
}

/// The control group that is noted in a keeper's folder.
pub(crate) fn group_in(dir: &Path) -> Option<PathBuf> {
    let line = fs::read_to_string(dir.join(FILE)).ok()?;
    line.trim().strip_prefix(GROUP_WORDS).map(PathBuf::from)
}

/// `systemd-run` runs in the foreground of a scope and leaves its own place to the program.
fn systemd_run(name: &str, system: bool) -> Vec<OsString> {
    let unit = format!("--unit={name}");
    let user = (!system).then_some("--user");
    [
        "systemd-run",
        "--scope",
        "--collect",
        "--quiet",
        "--property=Delegate=yes",
        &unit,
    ]
    .into_iter()
    .chain(user)
    .chain(["--"])
    .map(OsString::from)
    .collect()
}

/// The line for the session's folder.
pub(crate) fn describe(place: &Place) -> String {
    match place {
        Place::Systemd(_) => "systemd scope".to_owned(),
        Place::Group(group) => format!("{GROUP_WORDS}{}", group.path.display()),
        Place::Session(why) => format!(
            "{WARNING}sessions have no control groups of their own ({why}); stopping the server's service may end them"
        ),
    }
}

/// The warning in a session's folder, if its keeper has no place of its own.
pub(crate) fn warning(dir: &Path) -> Option<String> {
    let line = fs::read_to_string(dir.join(FILE)).ok()?;
    Some(line.trim().strip_prefix(WARNING)?.to_owned())
}

/// A control group (version 2) that was made here.
#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
}

/// Why no control group could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GroupError {
    /// This machine has no control groups of version 2.
    #[error("no control groups of version 2 are mounted")]
    Absent,
    /// Making it failed.
    #[error("{path} could not be made: {source}")]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not take processes.
    #[error("{path} takes no processes: {source}")]
    Closed {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Group {
    /// Makes a group beside the one that this process is in.
    pub(crate) fn beside_own(name: &str) -> Result<Self, GroupError> {
        Self::make(Self::place_beside_own(name)?)
    }

    /// Where a group beside the one that this process is in is, if there is one.
    pub(crate) fn place_beside_own(name: &str) -> Result<PathBuf, GroupError> {
        let own = own()?;
        let parent = match own.within.parent() {
            Some(parent) => own.mount.join(parent.strip_prefix("/").unwrap_or(parent)),
            None => own.mount,
        };
        Ok(parent.join(name))
    }

    /// Makes a group inside the one that this process is in.
    pub(crate) fn inside_own(name: &str) -> Result<Self, GroupError> {
        let own = own()?;
        let within = own
            .within
            .strip_prefix("/")
            .unwrap_or(&own.within)
            .to_owned();
        Self::make(own.mount.join(within).join(name))
    }

    fn make(path: PathBuf) -> Result<Self, GroupError> {
        match fs::create_dir(&path) {
            // One that is left over from an earlier life of this very session is as good.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(GroupError::Make {
                    path,
                    source: error,
                });
            }
            _ => {}
        }
        let group = Self { path };
        match fs::OpenOptions::new().write(true).open(group.procs()) {
            Ok(_) => Ok(group),
            Err(source) => {
                group.remove();
                Err(GroupError::Closed {
                    path: group.path,
                    source,
                })
            }
        }
    }

    /// The group that this process is in, if it has this name.
    pub(crate) fn own_named(name: &str) -> Option<Self> {
        let own = own().ok()?;
        let within = own.within.strip_prefix("/").unwrap_or(&own.within);
        (within.file_name()? == name).then(|| Self {
            path: own.mount.join(within),
        })
    }

    /// The group at a path that an earlier process noted.
    pub(crate) fn noted(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file that a process writes `0` to in order to enter.
    pub(crate) fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Moves this process into the group.
    pub(crate) fn enter(&self) -> io::Result<()> {
        fs::write(self.procs(), "0")
    }

    /// The processes in it.
    pub(crate) fn members(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.procs()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Kills every process in it at once (Linux 5.14 and later); false where that is not possible.
    pub(crate) fn kill(&self) -> bool {
        fs::write(self.path.join("cgroup.kill"), "1").is_ok()
    }

    /// Moves this process to the group above and removes this one.
    pub(crate) fn leave(&self) {
        let above = self
            .path
            .parent()
            .map(|above| fs::write(above.join("cgroup.procs"), "0"));
        if !matches!(above, Some(Ok(()))) || !self.remove() {
            tracing::debug!(group = %self.path.display(), "a control group stays");
        }
    }

    /// Kills what is in it and removes it; waits up to a second for the dead to be gone.
    pub(crate) fn clear(&self) {
        for _ in 0..100 {
            if self.remove() || !self.path.exists() {
                return;
            }
            self.kill();
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        tracing::warn!(group = %self.path.display(), "a control group stays");
    }

    /// Removes it if it is empty.
    pub(crate) fn remove(&self) -> bool {
        fs::remove_dir(&self.path).is_ok()
    }
}

/// Where version 2 is mounted, and which of its groups this process is in.
struct Own {
    mount: PathBuf,
    within: PathBuf,
}

fn own() -> Result<Own, GroupError> {
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(|_| GroupError::Absent)?;
    let groups = fs::read_to_string("/proc/self/cgroup").map_err(|_| GroupError::Absent)?;
    own_in(&mounts, &groups).ok_or(GroupError::Absent)
}

fn own_in(mounts: &str, groups: &str) -> Option<Own> {
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })?;
    let within = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(Own {
        mount,
        within: within.into(),
    })
}

/// Finds a program by its name.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found() {
        let mounts = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let own = own_in(
            mounts,
            "9:name=systemd:/x\n0::/system.slice/stead.service\n",
        )
        .unwrap();
        assert_eq!(own.mount, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(own.within, Path::new("/system.slice/stead.service"));
        assert!(own_in("proc /proc proc rw 0 0\n", "0::/\n").is_none());
        assert!(own_in(mounts, "9:name=systemd:/x\n").is_none());
    }

    #[test]
    fn a_warning_is_told_from_a_place() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(warning(dir.path()), None);
        fs::write(
            dir.path().join(FILE),
            describe(&Place::Session("no rights".into())),
        )
        .unwrap();
        assert!(warning(dir.path()).unwrap().contains("no rights"));
        fs::write(dir.path().join(FILE), "systemd scope\n").unwrap();
        assert_eq!(warning(dir.path()), None);
    }

    #[test]
    fn the_scope_is_delegated_and_named_after_the_session() {
        let name = keeper_group(SessionId::from_bytes([1; 10]));
        let words = systemd_run(&name, false);
        assert!(
            words.contains(&"--user".into())
                && words.contains(&"--unit=stead-session-01010101010101010101".into()),
            "{words:?}"
        );
        assert_eq!(words.last().unwrap(), "--");
    }
}
