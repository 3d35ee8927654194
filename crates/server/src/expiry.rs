//! What ends by itself: a server's offline mode with an end, and a pause of automatic failover. The primary proposes it, while
//! its clock agrees with most: one that jumps a year ends nothing.

use crate::clock;
use crate::node::Node;
use model::{Command, Mode, PauseChange, ServerId};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Ends offline modes whose time is over.
#[derive(Debug, Default)]
pub struct OfflineEnds {
    proposed: Arc<Mutex<BTreeSet<ServerId>>>,
}

impl OfflineEnds {
    /// Looks whether a time is over; only an acting primary does something.
    pub fn look(&mut self, node: &Node) {
        let (directory, now) = (node.directory(), clock::calendar());
        let over = |mode: &Mode| matches!(mode, Mode::Offline(offline) if offline.until.is_some_and(|until| until <= now));
        let over = directory.servers().filter(|server| over(&server.mode));
        let over: Vec<ServerId> = over.map(|server| server.id).collect();
        if over.is_empty() || !may_end(node) {
            return;
        }
        for id in over {
            if !self.proposed().insert(id) {
                continue;
            }
            let (node, proposed) = (node.clone(), self.proposed.clone());
            tokio::spawn(async move {
                let command = Command::SetMode {
                    servers: vec![id],
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

/// Whether this server ends what is over: it acts as primary, and its clock is right as far as most say.
fn may_end(node: &Node) -> bool {
    node.acting() && policy::clocks::agrees(node.me(), &node.seen())
}

/// Records the end of a pause of automatic failover whose time is over.
#[derive(Debug, Default)]
pub struct PauseEnds {
    proposed: Arc<AtomicBool>,
}

impl PauseEnds {
    /// Looks whether its time is over; only an acting primary does something.
    pub fn look(&mut self, node: &Node) {
        let directory = node.directory();
        let group = directory.group();
        let over = group.pause.is_some() && group.pause_at(clock::calendar()).is_none();
        if !over || !may_end(node) || self.proposed.swap(true, Ordering::AcqRel) {
            return;
        }
        let (node, proposed) = (node.clone(), self.proposed.clone());
        tokio::spawn(async move {
            let change = PauseChange::RunOut;
            let command = Command::ChangePause { change };
            if let Err(error) = node.submit(None, node.author(), command).await {
                tracing::warn!(%error, "the end of a pause of automatic failover was not recorded; it is tried again");
            }
            proposed.store(false, Ordering::Release);
        });
    }
}
