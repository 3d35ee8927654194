//! When to write a snapshot: the log grows, and what a snapshot holds can go from it.
//!
//! Always true: a snapshot is written beside consensus, which learns of it when it is whole, so that a full disk only
//! delays it and stops nobody.

use crate::core::{Ground, Raft, blocking};
use crate::published::Pen;
use crate::state_machine::State;
use model::Directory;
use std::time::Duration;

/// How long to wait after a snapshot could not be written.
const RETRY: Duration = Duration::from_secs(10);

/// How much the log may grow before a snapshot is written; more when the directory is larger, because writing snapshots must
/// stay a small part of what changes cost, and reading the log again at a start costs little more than reading the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In entries.
    pub entries: u64,
    /// In bytes.
    pub bytes: u64,
}

impl Default for Limits {
    /// 50,000 entries or 64 MiB.
    fn default() -> Self {
        Self {
            entries: 50_000,
            bytes: 64 << 20,
        }
    }
}

impl Limits {
    /// Whether a log that grew by so many entries and bytes is worth a snapshot, when the last one has so many records and
    /// `snapshot` bytes.
    fn reached(&self, entries: u64, bytes: u64, records: u64, snapshot: u64) -> bool {
        let long = entries >= self.entries.max(records / 2) && bytes >= snapshot / 2;
        let large = bytes >= self.bytes.max(snapshot);
        entries > 0 && (long || large)
    }
}

/// How many records a snapshot of a state has.
fn size(state: &State) -> u64 {
    state.directory.as_ref().map_or(0, Directory::size) as u64
}

/// Writes snapshots until it is aborted, or consensus begins anew, maybe in another formation.
pub(crate) async fn run(raft: Raft, ground: Ground, pen: Pen) {
    let mut applied = pen.applied();
    let mut bytes_then = 0;
    let Ok(mut records) = pen.own().map(|state| size(&state)) else {
        return;
    };
    while applied.changed().await.is_ok() {
        applied.mark_unchanged();
        let covered = ground
            .snapshots
            .current()
            .and_then(|file| file.meta().last)
            .map_or(0, |id| id.index);
        let entries = applied.borrow().saturating_sub(covered);
        let bytes = ground.log.bytes_written().saturating_sub(bytes_then);
        let written = ground.snapshots.current().map_or(0, |file| file.length());
        let due = ground.compaction.reached(entries, bytes, records, written);
        if !due {
            continue;
        }
        let Ok(state) = pen.own() else {
            return;
        };
        bytes_then = ground.log.bytes_written();
        records = size(&state);
        let snapshots = ground.snapshots.clone();
        let written = blocking(ground.threads, move || snapshots.write(&state)).await;
        match written {
            Ok(Ok(())) => {
                if let Err(fatal) = raft.trigger().snapshot().await {
                    tracing::debug!(%fatal, "consensus stopped before it took a snapshot");
                    return;
                }
            }
            Ok(Err(error)) | Err(error) => {
                tracing::warn!(%error, "no snapshot could be written; the log keeps growing until one can");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_directory_is_not_written_for_a_few_changes() {
        let limits = Limits::default();
        assert!(limits.reached(50_000, 10 << 20, 1_000, 1 << 20));
        assert!(limits.reached(10, 64 << 20, 1_000, 1 << 20));
        assert!(!limits.reached(49_999, 10 << 20, 1_000, 1 << 20));
        assert!(!limits.reached(50_000, 10 << 20, 1_000, 100 << 20));
        assert!(!limits.reached(50_000, 40 << 20, 1_000, 100 << 20));
        assert!(limits.reached(50_000, 60 << 20, 1_000, 100 << 20));
        assert!(!limits.reached(50_000, 10 << 20, 200_000, 1 << 20));
        assert!(limits.reached(100_000, 10 << 20, 200_000, 1 << 20));
        assert!(!limits.reached(0, 1 << 40, 1_000, 0));
    }
}
