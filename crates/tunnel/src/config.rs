//! How much one end of a stream may hold, and how long it waits.

use std::time::Duration;

/// Limits and times of one end. The ends need not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Most bytes held until the peer acknowledges them; then the local socket is no longer read. 1 to 4 MiB in practice.
    pub replay: usize,
    /// Most bytes received and not yet written to the local socket. At most 4 GiB; 1 to 4 MiB in practice.
    pub window: u32,
    /// While there is a path, the local socket is read only up to this many bytes ahead of it: more would only make them wait.
    pub ahead: usize,
    /// A path over which nothing was heard for this long is dead.
    pub dead_after: Duration,
    /// A stream without a path is given up after this.
    pub retain: Duration,
    /// This end leaves asking to the other one, as long as that asks: where both ask, an idle stream costs twice as much. One of the
    /// two does.
    pub answers: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            replay: 4 << 20,
            window: 4 << 20,
            ahead: 256 << 10,
            dead_after: Duration::from_secs(1),
            retain: Duration::from_secs(120),
            answers: false,
        }
    }
}

impl Config {
    /// Something is sent at least this often, so that the peer hears it. A third of `dead_after`: two retransmissions of a lost packet fit
    /// into the rest. Half of it at the end that answers: by then the question that it waits for was lost.
    pub(crate) fn heartbeat(&self) -> Duration {
        self.dead_after / if self.answers { 2 } else { 3 }
    }
}
