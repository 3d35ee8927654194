//! What other parts of the server may know of hosting, and what they may ask of it.

use super::Happened;
use crate::clock;
use model::{AppName, SessionId, UnixMillis};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, OnceLock, PoisonError};
use tokio::sync::mpsc;

/// Hosting as the rest of the server sees it.
#[derive(Debug, Default)]
pub struct Hosting {
    warnings: Mutex<BTreeSet<String>>,
    failed: Mutex<BTreeMap<AppName, UnixMillis>>,
    pub(super) wanted: OnceLock<mpsc::UnboundedSender<Happened>>,
}
impl Hosting {
    /// What somebody should know: keepers without a control group of their own, and the like.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    /// Applications that failed to start here, and when they last did.
    pub fn failed_starts(&self) -> Vec<(AppName, UnixMillis)> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.iter().map(|(app, at)| (app.clone(), *at)).collect()
    }

    /// A client wants to attach to a session that has no keeper yet.
    pub(crate) fn want(&self, session: SessionId) {
        if let Some(wanted) = self.wanted.get() {
            let _ = wanted.send(Happened::Wanted(session));
        }
    }

    pub(super) fn warn(&self, warning: Option<String>) {
        if let Some(warning) = warning {
            let fresh = self
                .warnings
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(warning.clone());
            if fresh {
                tracing::warn!("{warning}");
            }
        }
    }

    pub(super) fn note_start(&self, app: &AppName, failed: bool) {
        let mut table = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed {
            table.insert(app.clone(), clock::calendar());
        } else {
            table.remove(app);
        }
    }
}
