//! What ends by itself: a server's offline mode with an end. The primary proposes it.

use crate::clock;
use crate::node::Node;
use model::{Command, Mode, ServerId};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Ends offline modes whose time is over.
#[derive(Debug, Default)]
pub struct OfflineEnds {
    proposed: Arc<Mutex<BTreeSet<ServerId>>>,
}

impl OfflineEnds {
    /// Looks whether a time is over; only an acting primary does something.
    pub fn look(&mut self, node: &Node) {
        if !node.acting() {
            return;
        }
        let (directory, now) = (node.directory(), clock::calendar());
        let over = |mode: &Mode| matches!(mode, Mode::Offline(offline) if offline.until.is_some_and(|until| until <= now));
        for server in directory.servers().filter(|server| over(&server.mode)) {
            let id = server.id;
            if !self.proposed().insert(id) {
                continue;
            }
            let (node, proposed) = (node.clone(), self.proposed.clone());
            tokio::spawn(async move {
                let command = Command::SetMode {
                    server: id,
                    mode: Mode::Online,
                };
                if let Err(error) = node.submit(None, node.author(), command).await {
                    tracing::warn!(%error, "a server stays offline beyond its time; it is tried again");
                }
                proposed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&id);
            });
        }
    }

    fn proposed(&self) -> std::sync::MutexGuard<'_, BTreeSet<ServerId>> {
        self.proposed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
