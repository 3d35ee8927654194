//! `trust.cipher-suites`: each server speaks those that the directory names, on every port and whenever it dials, from the next
//! connection on, and says so in its reports. What would shut a member out is refused before it is in the directory.

use crate::node::Node;
use peer::tls::supported_suites;
use policy::suites::{Member, SuitesRefusal, may_change};
use std::time::Duration;
use tokio::time::sleep;

/// The setting.
pub(crate) const KEY: &str = "trust.cipher-suites";
/// Changes of the directory are gathered this long.
const GATHER: Duration = Duration::from_millis(20);

/// Follows the setting as long as the server runs.
pub(crate) async fn run(node: Node) {
    let mut changed = node.directory_changed();
    loop {
        node.follow_suites();
        sleep(GATHER).await;
        if changed.changed().await.is_err() {
            return;
        }
    }
}

impl Node {
    /// Speaks the suites that the directory names, where there is one.
    pub(crate) fn follow_suites(&self) {
        let directory = self.directory();
        let wanted = directory.settings().cipher_suites();
        if directory.servers().next().is_none() || *self.suites() == *wanted {
            return;
        }
        match self.take_suites(wanted) {
            Ok(()) => {
                tracing::info!(
                    suites = wanted.join(","),
                    "connections have these cipher suites from now on"
                );
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the cipher suites stay as they are here"
                );
            }
        }
    }

    /// Whether the group may have these suites and no others.
    ///
    /// # Errors
    /// Which member would be shut out, and why.
    pub(crate) fn check_suites(&self, wanted: &[String]) -> Result<(), SuitesRefusal> {
        let (directory, reports) = (self.directory(), self.reports());
        let (supported, own) = (supported_suites(), self.suites());
        let members = directory.servers().map(|server| {
            let report = reports.get(&server.id);
            let said = match server.id == self.me() {
                true => Some((&*supported, &**own)),
                false => report.map(|report| (&*report.supported_suites, &*report.suites)),
            };
            Member {
                name: server.name.as_str(),
                reachable: self.is_heard(server.id),
                said,
            }
        });
        let members: Vec<Member<'_>> = members.collect();
        may_change(wanted, directory.settings().cipher_suites(), &members)
    }
}
