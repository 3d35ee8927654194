//! Keeps the times of consensus in step with the settings, in an order in which no two leases can overlap.
//!
//! Always true: they change only when [`Turn::has_come`] says so.

use crate::node::Node;
use model::Directory;
use policy::timing::Turn;
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
                .get(&server)
                .map(|report| Duration::from_millis(report.lease_ms))
        };
        let turn = Turn {
            me: self.me(),
            leads: status.role == Role::Leader,
            leader: status.leader,
            voters: &status.voters,
        };
        turn.has_come(lease_of, now, wanted)
    }
}
