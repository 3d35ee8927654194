//! When to write a snapshot: the log grows, and what a snapshot holds can go from it.
//!
//! Always true: a snapshot is written beside consensus, which learns of it when it is whole, so that a full disk only
//! delays it and stops nobody.

use crate::core::{Ground, Raft, blocking};
use std::time::Duration;

/// How long to wait after a snapshot could not be written.
const RETRY: Duration = Duration::from_secs(10);

/// How much the log may grow before a snapshot is written.
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

/// Writes snapshots until it is aborted.
pub(crate) async fn run(raft: Raft, ground: Ground) {
    let mut applied = ground.published.applied();
    let mut bytes_then = 0;
    while applied.changed().await.is_ok() {
        applied.mark_unchanged();
        let covered = ground
            .snapshots
            .current()
            .and_then(|file| file.meta().last)
            .map_or(0, |id| id.index);
        let entries = applied.borrow().saturating_sub(covered);
        let bytes = ground.log.bytes_written().saturating_sub(bytes_then);
        if entries < ground.compaction.entries && (bytes < ground.compaction.bytes || entries == 0)
        {
            continue;
        }
        bytes_then = ground.log.bytes_written();
        let state = ground.published.state();
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
