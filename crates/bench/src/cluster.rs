//! Three servers and a client, each in a namespace of its own, whatever the servers run.

use std::net::SocketAddr;
use std::time::Duration;

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

/// Processor time that the processes on some nodes have used since they started.
pub(crate) fn processor(network: &Network, nodes: &[&str]) -> Duration {
    let processes = nodes.iter().flat_map(|name| network.node(name).processes());
    processes.map(processor_of).sum()
}

/// Processor time of one process; none when it is gone.
///
/// Facts from outside (`proc_pid_stat(5)`): behind the name in parentheses, the 12th and 13th fields are the time in user and
/// in system mode, in ticks, of which Linux shows 100 a second.
fn processor_of(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let behind = stat.rsplit_once(") ").map_or("", |(_, behind)| behind);
    let times = behind.split(' ').skip(11).take(2);
    let ticks: u64 = times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
