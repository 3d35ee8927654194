//! Three servers and a client, each in a namespace of its own, whatever the servers run.

use std::net::SocketAddr;

use anyhow::Result;
use testkit::Network;

/// Nodes of the servers.
pub(crate) const SERVERS: [&str; 3] = ["a", "b", "c"];
/// Node of the clients.
pub(crate) const VIEWER: &str = "viewer";

/// Three servers that stand in for each other.
pub(crate) trait Cluster: Send + Sync {
    /// What the report calls it.
    fn name(&self) -> String;

    /// Its nodes: [`SERVERS`] and [`VIEWER`].
    fn network(&self) -> &Network;

    /// Where clients reach a server.
    fn address(&self, index: usize) -> SocketAddr;

    /// Waits until all three take part and one leads; returns that one.
    fn wait_for_leader(&self) -> usize;

    /// Kills a server.
    fn kill(&mut self, index: usize);

    /// Starts a killed server again, on its own data.
    ///
    /// # Errors
    /// When it cannot be started.
    fn restart(&mut self, index: usize) -> Result<()>;
}
