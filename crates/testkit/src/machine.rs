//! The machine as a resource: suites that measure time or load it have it to themselves, across processes; those that mostly
//! wait share it with each other.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Suites meet at this file, whoever started them.
const LOCK: &str = "/tmp/stead-testkit.lock";

/// Proof that no other suite, or none that loads it, runs on this machine; given back when dropped or when the process ends.
#[derive(Debug)]
pub struct Machine {
    _lock: File,
}

impl Machine {
    /// Waits until no other suite has the machine, in this process or another, and takes it. Namespaces and processes
    /// of test runs that were killed are removed.
    ///
    /// # Panics
    /// When the lock file cannot be opened or locked.
    pub fn alone() -> Self {
        Self::held_by(File::lock)
    }

    /// Waits until no suite has the machine to itself, and shares it with others that mostly wait, for time that has to pass in
    /// their stories. How many run at once is for the test harness to say.
    ///
    /// # Panics
    /// As [`Machine::alone`].
    pub fn shared() -> Self {
        Self::held_by(File::lock_shared)
    }

    fn held_by(lock: impl FnOnce(&File) -> std::io::Result<()>) -> Self {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(LOCK);
        let file = file.unwrap_or_else(|error| panic!("opening {LOCK}: {error}"));
        lock(&file).unwrap_or_else(|error| panic!("locking {LOCK}: {error}"));
        crate::network::remove_stale();
        Self { _lock: file }
    }

    /// Whether namespaces can be made here: the tests run as root and `ip netns` works.
    pub fn can_make_namespaces() -> bool {
        rustix::process::geteuid().is_root() && Path::new("/proc/self/ns/net").exists()
    }
}

/// A number that no other caller in this process gets.
pub(crate) fn next_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Whether a process with this id exists.
pub(crate) fn process_exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
