//! Events that no change causes: kept where they happened until the journal has them, in batches, none twice.

use crate::node::Node;
use model::{Author, Command, Event};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

/// More events than this wait only if nobody accepts changes for long; then the oldest go.
const LIMIT: usize = 10_000;
const BATCH: usize = 100;
/// The pause after a batch that was not accepted.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Pending {
    /// The number of the first of `events`, counted by this server; zero until the directory has told it.
    first: u64,
    events: VecDeque<Event>,
}

/// Events that wait to be recorded.
#[derive(Debug, Default)]
pub struct Spool {
    pending: Mutex<Pending>,
    more: Notify,
}

impl Spool {
    /// Adds an event.
    pub fn push(&self, event: Event) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.events.len() >= LIMIT {
            pending.events.pop_front();
            // What is under way keeps its numbers: the journal passes over what it has already.
            pending.first += u64::from(pending.first > 0);
            tracing::warn!("nobody takes events: the oldest that was not recorded is dropped");
        }
        pending.events.push_back(event);
        drop(pending);
        self.more.notify_one();
    }

    fn batch(&self, recorded: u64) -> (u64, Vec<Event>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.first = pending.first.max(recorded + 1);
        (
            pending.first,
            pending.events.iter().take(BATCH).cloned().collect(),
        )
    }

    fn recorded(&self, first: u64, count: usize) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.first == first {
            let count = count.min(pending.events.len());
            pending.events.drain(..count);
            pending.first += count as u64;
        }
    }
}

/// Records events as long as the server runs.
pub async fn run(node: Node) {
    let me = node.me();
    loop {
        let (first, events) = node.spool().batch(node.directory().reported(me));
        if events.is_empty() {
            node.spool().more.notified().await;
            continue;
        }
        let count = events.len();
        let command = Command::RecordEvents {
            server: me,
            first,
            events,
        };
        match node.submit(None, Author::Server(me), command).await {
            Ok(_) => node.spool().recorded(first, count),
            Err(error) => {
                tracing::debug!(%error, "events wait to be recorded");
                sleep(PAUSE).await;
            }
        }
    }
}
