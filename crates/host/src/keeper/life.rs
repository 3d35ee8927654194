//! Where a session is in its life, and how that is told to others.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{SystemTime, UNIX_EPOCH};

use model::{EndReason, UnixMillis};
use tokio::time::Instant;
use wire::keeper::Phase;

use super::streams::Asking;

/// Where the session is in its life.
pub(crate) enum Life {
    /// Clients wait for the backend.
    Starting(Vec<Asking>),
    Running,
    /// Its processes are being ended.
    Ending(EndReason),
    Ended {
        since: Instant,
        at: UnixMillis,
        reason: EndReason,
    },
}

impl Life {
    /// What servers are told.
    pub(crate) fn phase(&self) -> Phase {
        match self {
            Self::Starting(_) => Phase::Starting,
            Self::Running | Self::Ending(_) => Phase::Running,
            Self::Ended { at, reason, .. } => Phase::Ended {
                at: *at,
                reason: reason.clone(),
            },
        }
    }
}

/// What the end of the command means for the session; nothing is known of one that could not be waited for.
pub(crate) fn exit_reason(status: Option<ExitStatus>) -> EndReason {
    EndReason::Exited {
        code: status.and_then(|status| status.code()),
        signal: status.and_then(|status| status.signal()),
    }
}

/// The time by this machine's clock, for people and for comparing sessions.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
