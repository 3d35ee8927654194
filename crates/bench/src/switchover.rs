//! Planned changes of primary, as clients feel them: part of the `failover` bench.
//!
//! A client at each server makes one change after the other on a connection that stood before. Meanwhile the office is handed
//! over; the longest that any change took is what the switchover cost, and a change that was not made counts as refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::stays_so_for;
use tokio::task::JoinSet;

use crate::cluster::{Cluster, SERVERS, VIEWER};
use crate::load::Service;
use crate::on_nodes;
use crate::report::{Table, millis};
use crate::samples::Samples;

/// How long clients write before and after the hand-over, so that all of it falls among their changes.
const AROUND: Duration = Duration::from_millis(300);

/// What the switchovers of one side came to.
#[derive(Debug, Default)]
pub(crate) struct Switchovers {
    /// Of each switchover: the longest that a change took.
    longest: Vec<Duration>,
    /// How long all changes took.
    all: Samples,
    /// Changes that were not made.
    refused: u64,
    /// What the servers said themselves, where they say it.
    said: Vec<Duration>,
}

impl Switchovers {
    /// Measures one more: `services` are the servers, `hand_over` has it made and returns how long the servers say that it took.
    ///
    /// # Errors
    /// When a connection cannot be opened, or the office is not handed over.
    pub(crate) fn measure<C: Cluster, S: Service>(
        &mut self,
        cluster: &C,
        services: Vec<S>,
        hand_over: impl FnOnce() -> Result<Option<Duration>> + Send,
    ) -> Result<()> {
        let over = Arc::new(AtomicBool::new(false));
        let viewer = cluster.network().node(VIEWER);
        let (written, said) = std::thread::scope(|scope| {
            let writing = scope.spawn(|| on_nodes(viewer, write(services, Arc::clone(&over))));
            stays_so_for(AROUND);
            let said = hand_over();
            stays_so_for(AROUND);
            over.store(true, Ordering::Relaxed);
            (writing.join(), said)
        });
        let written = written.ok().context("the clients did not end")???;
        self.longest
            .push(written.took.iter().copied().max().unwrap_or_default());
        self.all.merge(Samples::of(written.took));
        self.refused += written.refused;
        self.said.extend(said?);
        Ok(())
    }

    /// The row of a side.
    pub(crate) fn row(self, name: String) -> Vec<String> {
        let longest = Samples::of(self.longest);
        let said = match self.said.is_empty() {
            true => String::new(),
            false => millis(Samples::of(self.said).quantile(1.0)),
        };
        let waits = [0.0, 0.5, 0.9, 1.0].map(|part| millis(longest.quantile(part)));
        let ordinary = [millis(self.all.median())];
        let rest = [said, self.refused.to_string()];
        let cells = waits.into_iter().chain(ordinary).chain(rest);
        std::iter::once(name).chain(cells).collect()
    }

    /// The table of all sides, without rows.
    pub(crate) fn table() -> Table {
        Table::new(&[
            "planned: longest wait of a change, ms",
            "best",
            "median",
            "p90",
            "worst",
            "an ordinary change",
            "worst as said by the servers",
            "refused",
        ])
    }
}

/// What the clients saw.
#[derive(Debug, Default)]
struct Written {
    took: Vec<Duration>,
    refused: u64,
}

/// A client at each server writes until it is over.
async fn write<S: Service>(services: Vec<S>, over: Arc<AtomicBool>) -> Result<Written> {
    ensure!(services.len() == SERVERS.len(), "a client at each server");
    let number = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for service in services {
        let line = service.open().await?;
        let (over, number) = (Arc::clone(&over), Arc::clone(&number));
        clients.spawn(async move {
            let mut written = Written::default();
            while !over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let this = number.fetch_add(1, Ordering::Relaxed);
                match service.ask(&line, this).await {
                    Ok(()) => written.took.push(begun.elapsed()),
                    Err(_) => written.refused += 1,
                }
            }
            written
        });
    }
    let mut all = Written::default();
    while let Some(written) = clients.join_next().await {
        let written = written?;
        all.took.extend(written.took);
        all.refused += written.refused;
    }
    Ok(all)
}
