//! When a byte last passed through a session, for all its streams together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// When a byte last passed. Clones are of the same session.
#[derive(Debug, Clone)]
pub(crate) struct Traffic {
    start: Instant,
    /// Milliseconds from the start to the last byte.
    last: Arc<AtomicU64>,
}

impl Traffic {
    /// A byte passes now, so to speak.
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            last: Arc::default(),
        }
    }

    /// Bytes pass.
    pub(crate) fn note(&self) {
        let passed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Streams are tasks of their own; which of two moments in one millisecond is kept is all the same.
        self.last.fetch_max(passed, Ordering::Relaxed);
    }

    /// When the last one passed.
    pub(crate) fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_of_all_counts() {
        let traffic = Traffic::new();
        let start = traffic.last();
        let other = traffic.clone();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(traffic.last(), start);
        other.note();
        assert_eq!(traffic.last(), start + Duration::from_secs(5));
    }
}
