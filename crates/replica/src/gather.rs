//! Proposals on their way into consensus: those that come while others are being agreed upon go in together.
//!
//! A batch costs every server a write, a sync, two messages and a dozen wake-ups, whether it holds one change or a thousand.
//!
//! Always true: a proposal never waits when nothing is being agreed upon, and never longer than [`GATHER`] otherwise; they go
//! in in the order in which they came; whoever gave up before its proposal went in is not proposed for. Start at [`run`].

use crate::core::Raft;
use crate::log::Admitted;
use crate::types::{Consensus, Proposal};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use openraft::errors::{ClientWriteError, Fatal, RaftError};
use openraft::raft::WriteResult;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// How long a proposal waits for others while some are being agreed upon.
const GATHER: Duration = Duration::from_millis(5);
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

/// Puts proposals in until nobody can make any more.
pub(crate) async fn run(raft: Raft, mut queue: mpsc::UnboundedReceiver<Waiting>) {
    let mut under_way = FuturesUnordered::new();
    let mut waiting = Vec::new();
    loop {
        tokio::select! {
            Some(()) = under_way.next() => continue,
            came = queue.recv_many(&mut waiting, TOGETHER) => if came == 0 {
                return;
            },
        }
        let latest = Instant::now() + GATHER;
        while !under_way.is_empty() && waiting.len() < TOGETHER {
            let room = TOGETHER - waiting.len();
            tokio::select! {
                Some(()) = under_way.next() => {}
                came = queue.recv_many(&mut waiting, room) => if came == 0 {
                    break;
                },
                () = sleep_until(latest) => break,
            }
        }
        under_way.push(put_in(raft.clone(), std::mem::take(&mut waiting)));
    }
}

/// Has a batch agreed upon, and tells each what came of it.
async fn put_in(raft: Raft, mut batch: Vec<Waiting>) {
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
