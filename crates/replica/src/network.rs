//! The way out: what openraft wants to say to another server, over [`Links`] that the floor above provides.
//!
//! Always true: messages of one lane to one server leave in the order in which openraft gave them; several are on their
//! way at once; the answers come back in that order. Start at [`Links`] and [`Peer`].

use crate::messages::{MessageError, PIECE, Place, Request, Response};
use crate::snapshot_store::{SnapshotFile, SnapshotStore};
use crate::types::{Consensus, Vote};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use model::{FormationId, ServerId};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use openraft::{EmptyNode, OptionalSend};
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How many messages with entries may be on their way to one server.
const WINDOW: usize = 16;
/// How long a piece of a snapshot, or installing it, may take.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(60);

/// What a message is, so that a large one need not delay an urgent one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Heartbeats, votes, transfers: small, and late ones cost a failover.
    Urgent,
    /// Entries of the log: order matters.
    Log,
    /// Pieces of a snapshot.
    Snapshot,
}

/// Why a server could not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// There is no connection.
    #[error("not connected")]
    Unreachable,
    /// No answer came in time. Whether the question arrived is unknown.
    #[error("no answer in time")]
    TimedOut,
    /// The connection was lost before the answer came.
    #[error("the connection was lost")]
    Lost,
}

/// An answer on its way.
pub type LinkAnswer = BoxFuture<'static, Result<Bytes, LinkError>>;

/// Connections to the other servers of the formation, kept by the floor above.
///
/// The other end passes each request to [`crate::Replica::handle`], in the order of arrival within a lane.
pub trait Links: Debug + Send + Sync + 'static {
    /// Asks a server. The request is queued when this is called, before the answer is polled, so that the order of calls
    /// within a lane is the order of arrival; answers may come in any order. The answer must come within `limit`.
    ///
    /// The order matters: entries that overtake those before them stop the consensus of their sender for good. When a
    /// request is lost, all that follow it in its lane may arrive, but the answer to it must be an error.
    fn call(&self, to: ServerId, lane: Lane, request: Bytes, limit: Duration) -> LinkAnswer;
}

/// Makes a [`Peer`] for each server and purpose.
#[derive(Debug, Clone)]
pub(crate) struct PeerFactory {
    pub(crate) me: ServerId,
    pub(crate) formation: FormationId,
    pub(crate) links: Arc<dyn Links>,
    /// Whether nothing is to be said.
    pub(crate) hushed: Arc<AtomicBool>,
    pub(crate) snapshots: Arc<SnapshotStore>,
    /// How long the answer to entries may take.
    pub(crate) append_limit: Duration,
    /// The number of the next row of requests with entries; begins at random, so that none is used twice.
    pub(crate) rows: Arc<AtomicU64>,
}

/// One server, for one purpose.
#[derive(Debug)]
pub(crate) struct Peer {
    factory: PeerFactory,
    to: ServerId,
    lane: Lane,
}

impl PeerFactory {
    fn peer(&self, to: ServerId, lane: Lane) -> Peer {
        Peer {
            factory: self.clone(),
            to,
            lane,
        }
    }
}

impl RaftNetworkFactory<Consensus> for PeerFactory {
    type Network = Peer;

    async fn new_client(&mut self, target: ServerId, _node: &EmptyNode) -> Peer {
        self.peer(target, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: ServerId, _node: &EmptyNode) -> Peer {
        self.peer(target, Lane::Urgent)
    }

    async fn new_snapshot_client(&mut self, target: ServerId, _node: &EmptyNode) -> Peer {
        self.peer(target, Lane::Snapshot)
    }
}

type Failure = RPCError<Consensus>;

fn unreadable(error: &MessageError) -> Failure {
    RPCError::Network(NetworkError::new(error))
}

impl Peer {
    /// Queues a request at once; the answer comes later.
    fn ask(
        &self,
        request: &Request,
        lane: Lane,
        limit: Duration,
        action: RPCTypes,
    ) -> BoxFuture<'static, Result<Response, Failure>> {
        if self.factory.hushed.load(Ordering::Acquire) {
            let unsaid = Unreachable::new(&LinkError::Unreachable);
            return Box::pin(std::future::ready(Err(RPCError::Unreachable(unsaid))));
        }
        let bytes = match request.encode(self.factory.formation) {
            Ok(bytes) => bytes,
            Err(error) => return Box::pin(std::future::ready(Err(unreadable(&error)))),
        };
        let answer = self.factory.links.call(self.to, lane, bytes, limit);
        let (id, target) = (self.factory.me, self.to);
        Box::pin(async move {
            match answer.await {
                Ok(bytes) => match Response::decode(&bytes) {
                    Ok(Response::Refused(refused)) => {
                        Err(RPCError::Unreachable(Unreachable::new(&refused)))
                    }
                    Ok(response) => Ok(response),
                    Err(error) => Err(unreadable(&error)),
                },
                Err(LinkError::TimedOut) => Err(RPCError::Timeout(Timeout {
                    action,
                    id,
                    target,
                    timeout: limit,
                })),
                Err(error @ LinkError::Unreachable) => {
                    Err(RPCError::Unreachable(Unreachable::new(&error)))
                }
                Err(error @ LinkError::Lost) => Err(RPCError::Network(NetworkError::new(&error))),
            }
        })
    }

    fn next_row(&self) -> u64 {
        self.factory.rows.fetch_add(1, Ordering::Relaxed)
    }

    fn ask_append(
        &self,
        place: Place,
        request: AppendEntriesRequest<Consensus>,
        limit: Duration,
    ) -> BoxFuture<'static, Result<AppendEntriesResponse<Consensus>, Failure>> {
        let request = match self.lane {
            Lane::Urgent => Request::Heartbeat(request),
            Lane::Log | Lane::Snapshot => Request::Append { place, request },
        };
        let answer = self.ask(&request, self.lane, limit, RPCTypes::AppendEntries);
        Box::pin(async move {
            match answer.await? {
                Response::Append(response) => Ok(response),
                other => Err(unexpected(&other)),
            }
        })
    }

    fn append_limit(&self, option: &RPCOption) -> Duration {
        match self.lane {
            Lane::Urgent => option.hard_ttl(),
            Lane::Log | Lane::Snapshot => option.hard_ttl().max(self.factory.append_limit),
        }
    }

    async fn ask_vote(
        &self,
        request: Request,
        option: &RPCOption,
    ) -> Result<VoteResponse<Consensus>, Failure> {
        match self
            .ask(&request, Lane::Urgent, option.hard_ttl(), RPCTypes::Vote)
            .await?
        {
            Response::Vote(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    async fn ask_snapshot(&self, request: Request) -> Result<Response, Failure> {
        self.ask(
            &request,
            Lane::Snapshot,
            SNAPSHOT_LIMIT,
            RPCTypes::InstallSnapshot,
        )
        .await
    }

    async fn have(&self, request: Request) -> Result<u64, Failure> {
        match self.ask_snapshot(request).await? {
            Response::SnapshotHave(offset) => Ok(offset),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a snapshot from where the other end has it already.
    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: &SnapshotFile,
    ) -> Result<SnapshotResponse<Consensus>, Failure> {
        let io_failure = |error: std::io::Error| RPCError::Network(NetworkError::new(&error));
        let file = self.factory.snapshots.read(snapshot).map_err(io_failure)?;
        let len = file.length().map_err(io_failure)?;
        let mut hash = [0; 32];
        file.read_at(len.saturating_sub(32), &mut hash)
            .map_err(io_failure)?;
        let begin = Request::SnapshotBegin {
            meta: snapshot.meta().clone(),
            len,
            hash,
        };
        let mut offset = self.have(begin).await?;
        while offset < len {
            let mut bytes = vec![0; PIECE.min(usize::try_from(len - offset).unwrap_or(PIECE))];
            let read = file.read_at(offset, &mut bytes).map_err(io_failure)?;
            bytes.truncate(read);
            offset = self
                .have(Request::SnapshotPiece {
                    hash,
                    offset,
                    bytes: bytes.into(),
                })
                .await?;
        }
        match self
            .ask_snapshot(Request::SnapshotEnd { hash, vote })
            .await?
        {
            Response::Installed(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(response: &Response) -> Failure {
    RPCError::Network(NetworkError::from_string(format!(
        "an answer to another question: {response:?}"
    )))
}

impl RaftNetworkV2<Consensus> for Peer {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Consensus>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Consensus>, Failure> {
        let limit = self.append_limit(&option);
        let place = Place {
            row: self.next_row(),
            number: 0,
        };
        self.ask_append(place, request, limit).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Consensus>, Failure>>, Failure>>
    where
        S: Stream<Item = AppendEntriesRequest<Consensus>> + OptionalSend + Unpin + 'static,
    {
        let limit = self.append_limit(&option);
        let this = &*self;
        let row = this.next_row();
        let answers = input.enumerate().map(move |(number, request)| {
            let place = Place {
                row,
                number: number as u64,
            };
            let previous = request.prev_log_id;
            let last = request
                .entries
                .last()
                .map(|entry| entry.log_id)
                .or(previous);
            let answer = this.ask_append(place, request, limit);
            async move {
                answer
                    .await
                    .map(|response| response.into_stream_result(previous, last))
            }
        });
        let answers: BoxStream<'s, _> = Box::pin(answers.buffered(WINDOW));
        Box::pin(std::future::ready(Ok(answers)))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Consensus>,
        option: RPCOption,
    ) -> Result<VoteResponse<Consensus>, Failure> {
        self.ask_vote(Request::Vote(request), &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Consensus>,
        option: RPCOption,
    ) -> Result<VoteResponse<Consensus>, Failure> {
        self.ask_vote(Request::PreVote(request), &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<Consensus, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Consensus>, StreamingError<Consensus>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, &snapshot.snapshot) => Ok(sent?),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Consensus>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Consensus>, Failure> {
        match self
            .ask(
                &Request::Transfer(request),
                Lane::Urgent,
                option.hard_ttl(),
                RPCTypes::TransferLeader,
            )
            .await?
        {
            Response::Transfer(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }
}
