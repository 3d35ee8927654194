//! This process leaves no copy of its memory behind: it holds the group's keys, passwords and what passes through sessions, and
//! a core file is written wherever the machine says, for whoever may read it there.
//!
//! The limit alone would not do: where the system pipes cores to a program, as systemd has it, only a process that is not
//! dumpable is passed over. That also keeps other programs of the same account from looking into its memory. Programs of sessions
//! get the limit that the server was given: their cores are their users' business. They are dumpable again by themselves, as
//! every program is that is started.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use std::sync::OnceLock;

/// With this a keeper is told what the server was given: bytes, or [`UNLIMITED`].
pub(crate) const GIVEN: &str = "STEAD_CORE_LIMIT";
const UNLIMITED: &str = "unlimited";

static WAS: OnceLock<Option<u64>> = OnceLock::new();

/// From now on this process leaves none.
pub fn leave_none() {
    let now = getrlimit(Resource::Core);
    // The hard limit stays: programs of sessions are given theirs back.
    let none = Rlimit {
        current: Some(0),
        ..now
    };
    match setrlimit(Resource::Core, none) {
        Ok(()) => {
            // It is asked for once in the life of a process.
            let _ = WAS.set(now.current);
        }
        Err(error) => tracing::warn!(%error, "the limit of core files stays as it is"),
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "a crash of this process may leave its memory on disk");
    }
}

/// What a keeper that is started is to give to the programs of its session; none: what it has itself.
pub(crate) fn given() -> Option<String> {
    let given = |was: &Option<u64>| was.map_or_else(|| UNLIMITED.to_owned(), |was| was.to_string());
    WAS.get().map(given)
}

/// What this keeper was told to give.
pub(crate) fn to_give() -> Option<Rlimit> {
    let given = std::env::var(GIVEN).ok()?;
    let current = match given.as_str() {
        UNLIMITED => None,
        bytes => Some(bytes.parse().ok()?),
    };
    let now = getrlimit(Resource::Core);
    Some(Rlimit { current, ..now })
}
