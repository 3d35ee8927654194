//! Keeps the times of consensus in step with the settings, in an order in which no two leases can overlap.
//!
//! A longer lease is taken up by the servers that follow first, and by the primary once all voters report it; a shorter
//! one by the primary first, and by the others once it reports it.

use crate::node::Node;
use model::Directory;
use replica::{Role, Timing};
use std::time::Duration;

impl Node {
    /// Takes up the times that the settings ask for, when it is this server's turn.
    pub(crate) async fn keep_timing(&self, directory: &Directory) {
        if directory.server(self.me()).is_none() {
            return;
        }
        let settings = directory.settings();
        let Ok(wanted) = Timing::new(settings.monitor_interval(), settings.grace_period()) else {
            tracing::error!(
                "the settings ask for times that do not work together: those in force stay"
            );
            return;
        };
        let Some(now) = self.replica().timing() else {
            return;
        };
        if now == wanted || !self.may_change_timing(now.lease(), wanted.lease()) {
            return;
        }
        tracing::info!(?wanted, "the times of consensus change");
        if let Err(error) = self.replica().set_timing(wanted).await {
            tracing::error!(%error, "consensus did not start again with its new times");
        }
    }

    fn may_change_timing(&self, now: Duration, wanted: Duration) -> bool {
        let status = self.replica().status();
        let reports = self.reports();
        let lease_of = |server| {
            reports
                .get(server)
                .map(|report| Duration::from_millis(report.lease_ms))
        };
        if status.role == Role::Leader {
            let others = || status.voters.iter().filter(|voter| **voter != self.me());
            return wanted <= now
                || others().all(|voter| lease_of(voter).is_some_and(|lease| lease >= wanted));
        }
        // Before any leader was heard nobody holds a lease that this server could shorten.
        match status.leader {
            Some(leader) if wanted < now => lease_of(&leader).is_some_and(|lease| lease <= wanted),
            _ => true,
        }
    }
}
