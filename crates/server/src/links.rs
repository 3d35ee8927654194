//! Consensus messages over the peers' consensus connections.

use bytes::Bytes;
use futures_util::FutureExt;
use model::ServerId;
use peer::link::CallError;
use peer::pool::{Channel, Pool};
use replica::{Lane, LinkAnswer, LinkError, Links};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::timeout;

/// Connections for consensus; there are none before [`ConsensusLinks::connect`].
#[derive(Debug, Default)]
pub struct ConsensusLinks {
    pool: OnceLock<Pool>,
}

impl ConsensusLinks {
    /// Uses this pool from now on.
    pub fn connect(&self, pool: Pool) {
        let first = self.pool.set(pool).is_ok();
        debug_assert!(first, "consensus is connected once");
    }
}

fn refused(error: LinkError) -> LinkAnswer {
    Box::pin(std::future::ready(Err(error)))
}

impl Links for ConsensusLinks {
    fn call(&self, to: ServerId, _lane: Lane, request: Bytes, limit: Duration) -> LinkAnswer {
        let Some(link) = self
            .pool
            .get()
            .and_then(|pool| pool.link(to, Channel::Consensus))
        else {
            return refused(LinkError::Unreachable);
        };
        // Queued here and now, so that the order of calls is the order of arrival.
        let reply = match link.send(request).now_or_never() {
            Some(Ok(reply)) => reply,
            Some(Err(_)) => return refused(LinkError::Unreachable),
            None => return refused(LinkError::TimedOut),
        };
        Box::pin(async move {
            // The link lives as long as somebody waits for its answer.
            let _link = link;
            match timeout(limit, reply).await {
                Err(_) => Err(LinkError::TimedOut),
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(CallError::Lost(_) | CallError::NoLink(_))) => Err(LinkError::Lost),
                Ok(Err(_)) => Err(LinkError::TimedOut),
            }
        })
    }
}
