//! Proposals on their way into consensus: those that come while others are being agreed upon go in together.
//!
//! A batch costs every server a write, a sync, two messages and a dozen wake-ups, whether it holds one change or a thousand.
//!
//! Always true: a proposal never waits when nothing was agreed upon just before, and never longer than [`GATHER`] otherwise,
//! or [`CROWDED`] where a crowd asks; they go in in the order in which they came; whoever gave up before its proposal went in
//! is not proposed for. Start at [`run`].

use crate::core::Raft;
use crate::log::Admitted;
use crate::proposals::Queue;
use crate::types::{Consensus, Proposal};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use openraft::errors::{ClientWriteError, Fatal, RaftError};
use openraft::raft::WriteResult;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

/// How long a proposal waits for others while some are being agreed upon.
const GATHER: Duration = Duration::from_millis(5);
/// How many proposals are a crowd, those that are being agreed upon included: what a batch costs is worth sparing then.
const CROWD: usize = 32;
/// How long a proposal waits at most, where a crowd asks, for the batch before it: several small batches that overtake each
/// other would keep every server busier than one large one at a time.
const CROWDED: Duration = Duration::from_millis(20);
/// How long proposals wait at most for those that were answered just before, while nothing is being agreed upon.
const PATIENCE: Duration = Duration::from_millis(2);
/// The same where a crowd was answered: servers that are busy take longer to hear it again, and a crowd in one batch costs them
/// much less than in two that take turns.
const CROWDED_PATIENCE: Duration = Duration::from_millis(10);
/// The most proposals that go in together.
const TOGETHER: usize = 1024;

/// What came of a proposal.
pub(crate) type Written =
    Result<crate::types::Reply, RaftError<Consensus, ClientWriteError<Consensus>>>;

/// A proposal, and who waits for it.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// What is proposed.
    pub(crate) proposal: Proposal,
    /// Its room in the log, held until it is answered.
    pub(crate) _admitted: Admitted,
    /// Who is told what came of it.
    pub(crate) answer: oneshot::Sender<Written>,
}

/// What the last batch says of the next: who was answered is likely to ask again at once, and is worth a moment.
#[derive(Debug, Clone, Copy)]
struct Rhythm {
    /// How many proposals are likely to come together.
    expected: usize,
    /// Until when they are waited for while nothing is being agreed upon.
    until: Instant,
    /// How long the last batch took.
    took: Duration,
}

impl Rhythm {
    /// After a batch was agreed upon while others came to wait.
    fn after(done: Done, waiting: usize, now: Instant) -> Self {
        let expected = done.batch + waiting;
        let patience = match expected >= CROWD {
            true => (done.took * 2).min(CROWDED_PATIENCE),
            false => (done.took / 4).min(PATIENCE),
        };
        Self {
            expected,
            until: now + patience,
            took: done.took,
        }
    }

    /// While so many are being agreed upon and others wait since `began`: until when they do, and how many have to wait for this
    /// to be looked at before. A crowd waits for that batch.
    fn while_others_are(&self, inside: usize, waiting: usize, began: Instant) -> (usize, Instant) {
        match inside + waiting >= CROWD {
            true => (TOGETHER, began + self.took.clamp(GATHER, CROWDED)),
            false => (CROWD - inside, began + GATHER),
        }
    }

    /// How many need not wait for more: one does not, where nobody else is likely to come.
    fn enough(&self) -> usize {
        (self.expected * 7).div_ceil(8).max(1)
    }
}

/// A batch that was agreed upon, or not.
#[derive(Debug, Clone, Copy)]
struct Done {
    /// How many proposals it had.
    batch: usize,
    /// How long it took.
    took: Duration,
}

/// Puts proposals in until nobody can make any more.
pub(crate) async fn run(raft: Raft, queue: Queue<Waiting>) {
    let mut under_way = FuturesUnordered::new();
    // Proposals that are being agreed upon.
    let mut inside = 0;
    let mut rhythm = Rhythm {
        expected: 0,
        until: Instant::now(),
        took: Duration::ZERO,
    };
    loop {
        // The order matters little, but simulations must repeat themselves.
        tokio::select! {
            biased;
            Some(done) = under_way.next() => {
                rhythm = Rhythm::after(done, 0, Instant::now());
                inside -= done.batch;
                continue;
            }
            came = queue.until(1) => if came.is_none() {
                return;
            },
        }
        let began = Instant::now();
        loop {
            let waiting = queue.len();
            let (wanted, until) = if !under_way.is_empty() {
                rhythm.while_others_are(inside, waiting, began)
            } else {
                (rhythm.enough(), rhythm.until)
            };
            if waiting >= wanted.min(TOGETHER) {
                break;
            }
            tokio::select! {
                biased;
                Some(done) = under_way.next() => {
                    rhythm = Rhythm::after(done, queue.len(), Instant::now());
                    inside -= done.batch;
                }
                came = queue.until(wanted.min(TOGETHER)) => if came.is_none() {
                    return;
                },
                () = sleep_until(until) => break,
            }
        }
        let batch = queue.take(TOGETHER);
        inside += batch.len();
        under_way.push(put_in(raft.clone(), batch));
    }
}

/// Has a batch agreed upon, and tells each what came of it.
async fn put_in(raft: Raft, batch: Vec<Waiting>) -> Done {
    let (begin, size) = (Instant::now(), batch.len());
    agree(raft, batch).await;
    Done {
        batch: size,
        took: begin.elapsed(),
    }
}

async fn agree(raft: Raft, mut batch: Vec<Waiting>) {
    batch.retain(|waiting| !waiting.answer.is_closed());
    let proposals: Vec<Proposal> = batch
        .iter()
        .map(|waiting| waiting.proposal.clone())
        .collect();
    let mut batch = batch.into_iter();
    match raft.client_write_many(proposals).await {
        Ok(mut results) => {
            while let Some(result) = results.next().await {
                let Some(waiting) = batch.next() else { return };
                tell(waiting, result);
            }
        }
        Err(fatal) => batch
            .by_ref()
            .for_each(|waiting| tell(waiting, Err(fatal.clone()))),
    }
    // The results end early when consensus has stopped.
    batch.for_each(|waiting| tell(waiting, Err(Fatal::Stopped)));
}

fn tell(waiting: Waiting, result: Result<WriteResult<Consensus>, Fatal<Consensus>>) {
    let written = match result {
        Ok(Ok(written)) => Ok(written.response),
        Ok(Err(refused)) => Err(RaftError::APIError(refused)),
        Err(fatal) => Err(RaftError::Fatal(fatal)),
    };
    // Who asked may have gone.
    drop(waiting.answer.send(written));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(batch: usize, waiting: usize, took_ms: u64) -> Rhythm {
        let took = Duration::from_millis(took_ms);
        Rhythm::after(Done { batch, took }, waiting, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_proposal_waits_for_nobody() {
        assert_eq!(after(1, 0, 4).enough(), 1);
        assert_eq!(after(0, 0, 4).enough(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_were_answered_are_worth_a_moment() {
        let rhythm = after(20, 8, 4);
        assert_eq!(rhythm.enough(), 25);
        assert_eq!(rhythm.until - Instant::now(), Duration::from_millis(1));
        assert_eq!(after(1, 1, 400).until - Instant::now(), PATIENCE);
        // A crowd is worth more.
        let rhythm = after(40, 24, 4);
        assert_eq!(rhythm.until - Instant::now(), Duration::from_millis(8));
        let patience = after(40, 24, 400).until - Instant::now();
        assert_eq!(patience, CROWDED_PATIENCE);
        // A crowd that went is forgotten with the next batch.
        assert_eq!(after(1, 0, 1).enough(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_waits_for_the_batch_before_it() {
        let (millis, now) = (Duration::from_millis, Instant::now());
        let waits = |took, inside, waiting| {
            let (wanted, until) = after(40, 0, took).while_others_are(inside, waiting, now);
            (wanted, until - now)
        };
        assert_eq!(waits(12, CROWD, 0), (TOGETHER, millis(12)));
        assert_eq!(waits(1, 8, CROWD), (TOGETHER, GATHER));
        assert_eq!(waits(300, CROWD, 1), (TOGETHER, CROWDED));
        // A few do not wait for a far server any longer than ever, and are looked at again when they are a crowd.
        assert_eq!(waits(12, 3, CROWD - 4), (CROWD - 3, GATHER));
    }
}
