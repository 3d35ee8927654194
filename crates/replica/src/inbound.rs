//! The way in: what other servers ask this one.
//!
//! Always true: no vote and no pre-vote is answered for one lease after the start, because this server may have promised
//! its primary to wait before it was restarted (votes of a planned transfer are exempt: the primary itself asked for
//! them); entries are taken only when there is room for them; a snapshot is handed to consensus only when all of it
//! was checked. Start at [`Inbound::answer`].

use crate::clock::Moment;
use crate::core::{Ground, blocking};
use crate::disk::{DiskFile, is_full};
use crate::log::entry_size;
use crate::messages::{PIECE, Place, Refused, Request, Response};
use crate::published::Pen;
use crate::snapshot::Meta;
use crate::state_machine::StateMachine;
use crate::types::{Consensus, Vote};
use model::ServerId;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{Fatal, RaftError};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::storage::Snapshot;
use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

/// How many leaders' rows are remembered; a formation rarely has had more since this server started.
const MAX_LEADERS: usize = 64;
/// How many requests with entries may wait.
const QUEUE: usize = 256;

/// When this server last heard from a primary that it follows, and when it was last offered the office.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    primary: Mutex<Option<Moment>>,
    offer: Mutex<Option<Moment>>,
}

impl Heard {
    pub(crate) fn last(&self) -> Option<Moment> {
        *self.primary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn last_offer(&self) -> Option<Moment> {
        *self.offer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) {
        *self.primary.lock().unwrap_or_else(PoisonError::into_inner) = Some(Moment::now());
    }

    fn offer_now(&self) {
        *self.offer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Moment::now());
    }
}

/// The rows of requests with entries that are under way, by their leader. One that has a gap has ended.
#[derive(Debug, Default)]
struct Rows(BTreeMap<ServerId, Place>);

impl Rows {
    /// Whether a request is the next of its row.
    fn take(&mut self, leader: ServerId, place: Place) -> bool {
        let begins = place.number == 0;
        let follows = self.0.get(&leader).is_some_and(|next| *next == place);
        if !begins && !follows {
            return false;
        }
        if self.0.len() >= MAX_LEADERS {
            self.0.clear();
        }
        let number = place.number + 1;
        self.0.insert(leader, Place { number, ..place });
        true
    }

    /// A request of this row was not taken, so that none after it may be.
    fn end(&mut self, place: Place) {
        self.0.retain(|_, next| next.row != place.row);
    }
}

/// A snapshot while it arrives.
#[derive(Debug)]
struct Incoming {
    meta: Meta,
    len: u64,
    hash: [u8; 32],
    have: u64,
    file: Box<dyn DiskFile>,
}

type AppendRequest = AppendEntriesRequest<Consensus>;

/// Entries that wait to be handed to consensus, and who waits for the answer.
pub(crate) type Queued = (Place, AppendRequest, oneshot::Sender<Response>);

/// Answers other servers.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) raft: openraft::Raft<Consensus, StateMachine>,
    ground: Ground,
    pen: Pen,
    /// Until then no vote is given.
    holds_until: Moment,
    appends: mpsc::Sender<Queued>,
    rows: Mutex<Rows>,
    incoming: tokio::sync::Mutex<Option<Incoming>>,
}

fn stopped(fatal: &Fatal<Consensus>) -> Response {
    Response::Refused(Refused::Stopped(fatal.to_string()))
}

fn stopped_by(error: RaftError<Consensus>) -> Response {
    match error {
        RaftError::Fatal(fatal) => stopped(&fatal),
        RaftError::APIError(never) => match never {},
    }
}

fn no_snapshot(error: &dyn Error) -> Refused {
    Refused::Snapshot(error.to_string())
}

fn cannot_keep(error: &io::Error) -> Refused {
    if is_full(error) {
        Refused::DiskFull
    } else {
        no_snapshot(error)
    }
}

impl Inbound {
    pub(crate) fn new(
        raft: openraft::Raft<Consensus, StateMachine>,
        ground: Ground,
        pen: Pen,
        holds_until: Moment,
    ) -> (Arc<Self>, mpsc::Receiver<Queued>) {
        let (appends, queue) = mpsc::channel(QUEUE);
        let inbound = Self {
            raft,
            ground,
            pen,
            holds_until,
            appends,
            rows: Mutex::default(),
            incoming: tokio::sync::Mutex::default(),
        };
        (Arc::new(inbound), queue)
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request) -> Response {
        match request {
            Request::Vote(request) => match self.holding(request.leadership_transfer) {
                Some(refused) => Response::Refused(refused),
                None => self
                    .raft
                    .vote(request)
                    .await
                    .map_or_else(stopped_by, Response::Vote),
            },
            Request::PreVote(request) => match self.holding(false) {
                Some(refused) => Response::Refused(refused),
                None => self
                    .raft
                    .pre_vote(request)
                    .await
                    .map_or_else(stopped_by, Response::Vote),
            },
            Request::Append { place, request } => match self.enqueue(place, request).await {
                Ok(response) => response,
                Err(_) => Response::Refused(Refused::Stopped("the queue is closed".into())),
            },
            Request::Heartbeat(request) if request.entries.is_empty() => {
                self.note_leader(&request.vote);
                self.append(request).await
            }
            Request::Heartbeat(_) => Response::Refused(Refused::Busy),
            Request::Transfer(_) if !self.ground.is_over_threshold() => {
                Response::Refused(Refused::Empty)
            }
            Request::Transfer(request) => {
                if request.to_node_id() == self.raft.node_id() {
                    self.ground.heard.offer_now();
                }
                match self.raft.handle_transfer_leader(request).await {
                    Ok(response) => Response::Transfer(response),
                    Err(fatal) => stopped(&fatal),
                }
            }
            Request::SnapshotBegin { meta, len, hash } => self
                .begin(meta, len, hash)
                .await
                .map_or_else(Response::Refused, Response::SnapshotHave),
            Request::SnapshotPiece {
                hash,
                offset,
                bytes,
            } => self
                .piece(hash, offset, bytes)
                .await
                .map_or_else(Response::Refused, Response::SnapshotHave),
            Request::SnapshotEnd { hash, vote } => {
                self.end(hash, vote).await.unwrap_or_else(Response::Refused)
            }
        }
    }

    /// A message of the leader that is known already came in: it is there, however long this server's disk takes. The answer
    /// has to wait for what was appended before it, and a disk may stall for longer than the grace period.
    fn note_leader(&self, vote: &Vote) {
        let metrics = self.raft.metrics();
        if vote.committed && metrics.borrow_watched().vote == *vote {
            self.ground.heard.now();
        }
    }

    /// Why no vote is given now.
    fn holding(&self, transfer: bool) -> Option<Refused> {
        if !self.ground.is_over_threshold() {
            return Some(Refused::Empty);
        }
        let left = self.holds_until.since(Moment::now());
        if transfer || left.is_zero() {
            return None;
        }
        Some(Refused::Holding(
            u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1),
        ))
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues entries, in the order of the calls; the answer comes later.
    pub(crate) fn enqueue(
        &self,
        place: Place,
        request: AppendRequest,
    ) -> oneshot::Receiver<Response> {
        self.note_leader(&request.vote);
        let (answer, answered) = oneshot::channel();
        if !self.rows().take(request.vote.leader_id.node_id, place) {
            // Who asked is right here.
            drop(answer.send(Response::Refused(Refused::OutOfRow)));
            return answered;
        }
        let refused = match self.appends.try_send((place, request, answer)) {
            Ok(()) => return answered,
            Err(TrySendError::Full((_, _, answer))) => (Refused::Busy, answer),
            Err(TrySendError::Closed((_, _, answer))) => {
                (Refused::Stopped("the queue is closed".into()), answer)
            }
        };
        let (reason, answer) = refused;
        self.rows().end(place);
        drop(answer.send(Response::Refused(reason)));
        answered
    }

    /// Hands queued entries to consensus, one request after the other; the answers may come in any order.
    pub(crate) async fn take_entries(self: Arc<Self>, mut queue: mpsc::Receiver<Queued>) {
        let mut ended = None;
        while let Some((place, request, answer)) = queue.recv().await {
            if ended == Some(place.row) {
                // Who asked may have given up, here and below.
                drop(answer.send(Response::Refused(Refused::OutOfRow)));
                continue;
            }
            let sizes = request
                .entries
                .iter()
                .map(|entry| entry_size(&entry.payload));
            let size: usize = sizes.sum();
            let admitted = match size {
                0 => None,
                _ => match self.ground.log.admit(size).await {
                    Ok(admitted) => Some(admitted),
                    Err(no_room) => {
                        tracing::debug!(%no_room, "entries refused");
                        self.rows().end(place);
                        ended = Some(place.row);
                        drop(answer.send(Response::Refused(Refused::DiskFull)));
                        continue;
                    }
                },
            };
            let this = self.clone();
            let mut taking = Box::pin(async move {
                let response = this.append(request).await;
                drop(admitted);
                drop(answer.send(response));
            });
            // The first poll hands the request over, so that the next one cannot overtake it.
            if futures_util::poll!(taking.as_mut()).is_pending() {
                tokio::spawn(taking);
            }
        }
    }

    async fn append(&self, request: AppendRequest) -> Response {
        let committed = request.vote.committed;
        let agreed = request.leader_commit.map(|id| id.index);
        match self.raft.append_entries(request).await {
            Ok(response) => {
                if committed && !matches!(response, AppendEntriesResponse::HigherVote(_)) {
                    self.ground.heard.now();
                    if let Some(agreed) = agreed {
                        self.pen.heard_of(agreed);
                    }
                }
                Response::Append(response)
            }
            Err(error) => stopped_by(error),
        }
    }

    async fn begin(&self, meta: Meta, len: u64, hash: [u8; 32]) -> Result<u64, Refused> {
        let mut incoming = self.incoming.lock().await;
        if let Some(known) = incoming
            .as_ref()
            .filter(|known| known.hash == hash && known.len == len)
        {
            return Ok(known.have);
        }
        let free = self
            .ground
            .snapshots
            .free()
            .map_err(|error| cannot_keep(&error))?;
        if free < len {
            return Err(Refused::DiskFull);
        }
        let file = self
            .ground
            .snapshots
            .begin_incoming()
            .map_err(|error| cannot_keep(&error))?;
        *incoming = Some(Incoming {
            meta,
            len,
            hash,
            have: 0,
            file,
        });
        Ok(0)
    }

    async fn piece(
        &self,
        hash: [u8; 32],
        offset: u64,
        bytes: bytes::Bytes,
    ) -> Result<u64, Refused> {
        let mut incoming = self.incoming.lock().await;
        let Some(known) = incoming.as_mut().filter(|known| known.hash == hash) else {
            return Err(Refused::Snapshot("it was not announced".into()));
        };
        let end = offset.saturating_add(bytes.len() as u64);
        if offset != known.have || bytes.len() > PIECE || end > known.len {
            return Ok(known.have);
        }
        known
            .file
            .write_at(offset, &bytes)
            .map_err(|error| cannot_keep(&error))?;
        known.have = end;
        Ok(end)
    }

    async fn end(&self, hash: [u8; 32], vote: Vote) -> Result<Response, Refused> {
        let mut incoming = self.incoming.lock().await;
        let whole = incoming
            .as_ref()
            .is_some_and(|known| known.hash == hash && known.have == known.len);
        let Some(mut arrived) = incoming.take().filter(|_| whole) else {
            return Err(Refused::Snapshot("it is not complete".into()));
        };
        let snapshots = self.ground.snapshots.clone();
        let checked = blocking(self.ground.threads, move || {
            arrived.file.sync().map_err(|error| cannot_keep(&error))?;
            drop(arrived.file);
            snapshots
                .check_incoming(&arrived.meta)
                .map_err(|error| no_snapshot(&error))
        });
        let file = checked.await.map_err(|error| no_snapshot(&error))??;
        let snapshot = Snapshot {
            meta: file.meta().clone().into(),
            snapshot: file,
        };
        let installed = self.raft.install_full_snapshot(vote, snapshot).await;
        drop(incoming);
        match installed {
            Ok(response) => {
                self.ground.heard.now();
                Ok(Response::Installed(response))
            }
            Err(fatal) => Ok(stopped(&fatal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_no_gap_and_ends_with_what_was_not_taken() {
        let (one, two) = (ServerId::from_bytes([1; 16]), ServerId::from_bytes([2; 16]));
        let place = |row, number| Place { row, number };
        let mut rows = Rows::default();
        assert!(!rows.take(one, place(5, 1)), "its beginning did not arrive");
        assert!(rows.take(one, place(5, 0)));
        assert!(rows.take(one, place(5, 1)));
        assert!(!rows.take(one, place(5, 3)), "number 2 did not arrive");
        assert!(rows.take(two, place(8, 0)), "another leader has its own");
        assert!(rows.take(one, place(5, 2)));
        assert!(rows.take(one, place(6, 0)), "a new row begins");
        assert!(!rows.take(one, place(5, 3)), "the old one has ended");
        rows.end(place(6, 0));
        assert!(!rows.take(one, place(6, 1)));
        for leader in 0..200 {
            assert!(rows.take(ServerId::from_bytes([leader; 16]), place(1, 0)));
        }
        assert!(rows.0.len() <= MAX_LEADERS);
    }
}
