//! A closed loop: so many clients, each with one request in flight, for so long. The same for every side.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use crate::samples::Samples;

/// Clients that fill a side before it is measured, each with a connection.
const FILLERS: usize = 32;

/// Something that answers numbered requests.
pub(crate) trait Service: Send + Sync + 'static {
    /// A connection, shared by clients.
    type Line: Clone + Send + Sync + 'static;

    /// Opens a connection.
    fn open(&self) -> impl Future<Output = Result<Self::Line>> + Send;

    /// Asks once. Numbers differ between all requests of a run.
    fn ask(&self, line: &Self::Line, number: u64) -> impl Future<Output = Result<()>> + Send;
}

/// How the load is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Requests in flight.
    pub(crate) clients: usize,
    /// Connections that they share evenly.
    pub(crate) lines: usize,
    /// Not measured, at first.
    pub(crate) warm: Duration,
    /// Measured.
    pub(crate) measured: Duration,
    /// The first number that requests get.
    pub(crate) first: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Load {
    /// Answers a second.
    pub(crate) per_second: f64,
    /// How long each answer took.
    pub(crate) latency: Samples,
    /// Answers in all, those of the warming up included.
    pub(crate) answers: u64,
    /// Processor time of all servers for them.
    pub(crate) processor: Duration,
}

impl Load {
    /// Processor time of all servers for one answer: what a busy machine distorts least.
    pub(crate) fn each(&self) -> Duration {
        let answers = u32::try_from(self.answers).unwrap_or(u32::MAX);
        self.processor.checked_div(answers).unwrap_or_default()
    }
}

/// Makes the load. The first failure ends it.
///
/// # Errors
/// When a connection or any request fails: figures of a side that refuses work would mean nothing.
pub(crate) async fn run<S: Service>(service: &Arc<S>, plan: Plan) -> Result<Load> {
    let mut lines = Vec::new();
    for _ in 0..plan.lines.clamp(1, plan.clients) {
        lines.push(service.open().await?);
    }
    let next = Arc::new(AtomicU64::new(plan.first));
    let begin = Instant::now() + plan.warm;
    let end = begin + plan.measured;
    let mut clients = JoinSet::new();
    for line in lines.iter().cycle().take(plan.clients) {
        let line = line.clone();
        let (service, next) = (Arc::clone(service), Arc::clone(&next));
        clients.spawn(async move {
            let (mut measured, mut answers) = (Vec::new(), 0);
            while Instant::now() < end {
                let asked = Instant::now();
                service
                    .ask(&line, next.fetch_add(1, Ordering::Relaxed))
                    .await?;
                answers += 1;
                let answered = Instant::now();
                if begin <= answered && answered < end {
                    measured.push(answered - asked);
                }
            }
            anyhow::Ok((measured, answers))
        });
    }
    let (mut all, mut answers) = (Vec::new(), 0);
    while let Some(client) = clients.join_next().await {
        let (measured, answered) = client.context("a client panicked")??;
        all.extend(measured);
        answers += answered;
    }
    ensure!(!all.is_empty(), "no answer within {:?}", plan.measured);
    let per_second = all.len() as f64 / plan.measured.as_secs_f64();
    Ok(Load {
        per_second,
        latency: Samples::of(all),
        answers,
        processor: Duration::ZERO,
    })
}

/// Asks with the numbers from 0 to `count`, each once, [`FILLERS`] at a time: makes what is measured afterwards.
///
/// # Errors
/// When a connection or any request fails.
pub(crate) async fn fill<S: Service>(service: &Arc<S>, count: u64) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..FILLERS {
        let line = service.open().await?;
        let (service, next) = (Arc::clone(service), Arc::clone(&next));
        clients.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(());
                }
                service.ask(&line, number).await?;
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.context("a client panicked")??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses every request from this number on.
    struct Until(u64);

    impl Service for Until {
        type Line = ();

        async fn open(&self) -> Result<()> {
            Ok(())
        }

        async fn ask(&self, (): &(), number: u64) -> Result<()> {
            tokio::task::yield_now().await;
            ensure!(number < self.0, "no more");
            Ok(())
        }
    }

    fn plan() -> Plan {
        let millis = Duration::from_millis;
        Plan {
            clients: 3,
            lines: 2,
            warm: millis(1),
            measured: millis(20),
            first: 0,
        }
    }

    #[tokio::test]
    async fn answers_are_counted() {
        let load = run(&Arc::new(Until(u64::MAX)), plan())
            .await
            .expect("answers");
        assert!(load.per_second > 0.0 && load.latency.median() < plan().measured);
    }

    #[tokio::test]
    async fn a_refusal_ends_the_run() {
        let error = run(&Arc::new(Until(10)), plan())
            .await
            .expect_err("a refusal");
        assert_eq!(error.to_string(), "no more");
    }
}
