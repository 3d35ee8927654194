//! The runtimes of one life of the server, which are made and ended together.
//!
//! The connections of consensus have one of their own, so that a flood of clients' bytes never delays a heartbeat, and gateways
//! have one with few threads, because each that runs beside the clients and backends of a machine costs more than it brings.

use std::io;
use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::task::spawn_blocking;

/// How much better than ordinary the priority of the threads for consensus is, where that is allowed.
const NICE: i32 = -10;

/// All of them.
pub(crate) struct Runtimes {
    /// Connections for consensus.
    pub(crate) lines: Runtime,
    /// Gateways and those whom they relay.
    pub(crate) gateways: Runtime,
    /// Everything else.
    pub(crate) rest: Runtime,
}

impl Runtimes {
    /// Makes them, in a thread that may drop those that are there when another one is refused.
    ///
    /// # Errors
    /// The system refuses threads.
    pub(crate) async fn make() -> io::Result<Self> {
        joined(|| {
            Ok(Self {
                lines: consensus_lines()?,
                gateways: gateways()?,
                rest: Builder::new_multi_thread().enable_all().build()?,
            })
        })
        .await
    }

    /// Ends them, each in `limit` at most.
    pub(crate) async fn end(self, limit: Duration) {
        joined(move || {
            self.rest.shutdown_timeout(limit);
            self.gateways.shutdown_timeout(limit);
            self.lines.shutdown_timeout(limit);
        })
        .await;
    }
}

/// Does what must not be done where others wait.
async fn joined<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// One thread, with a better priority where that is allowed.
fn consensus_lines() -> io::Result<Runtime> {
    let raise = || {
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "the threads for consensus have no better priority than others");
        }
    };
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("consensus-lines")
        .on_thread_start(raise)
        .enable_all()
        .build()
}

/// A thread for every two processors: one passes on more than a client and a backend on two others can say and hear.
fn gateways() -> io::Result<Runtime> {
    let processors = available_parallelism().map_or(1, NonZero::get);
    Builder::new_multi_thread()
        .worker_threads((processors / 2).max(1))
        .thread_name("gateways")
        .enable_all()
        .build()
}
