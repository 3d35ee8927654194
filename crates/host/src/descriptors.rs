//! How many files and connections this process may have open: as many as the system lets it. Programs of sessions get what the
//! server was given, because old ones break with more.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::OnceLock;

/// With this a keeper is told what the server was given.
pub(crate) const GIVEN: &str = "STEAD_DESCRIPTORS";

static WAS: OnceLock<u64> = OnceLock::new();

/// Takes as many as may be. Each client of the tunnel or of a gateway takes two or three; systemd gives 1,024 at first, and lets a
/// service take half a million.
pub fn take_all() {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: now.maximum,
        ..now
    };
    if now.current == now.maximum {
        return;
    }
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => {
            // It is asked for once in the life of a process.
            let _ = now.current.map(|was| WAS.set(was));
        }
        Err(error) => {
            tracing::warn!(%error, limit = now.current, "the limit of open files stays as it is")
        }
    }
}

/// What a keeper that is started is to give to the programs of its session; none: what it has itself.
pub(crate) fn given() -> Option<String> {
    WAS.get().map(ToString::to_string)
}

/// What this keeper was told to give.
pub(crate) fn to_give() -> Option<Rlimit> {
    let current: u64 = std::env::var(GIVEN).ok()?.parse().ok()?;
    let now = getrlimit(Resource::Nofile);
    Some(Rlimit {
        current: Some(current),
        ..now
    })
}
