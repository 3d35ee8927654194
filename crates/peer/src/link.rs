//! The asking end of a multiplexed connection: many requests in flight, answered in any order.
//!
//! What must always be true: requests of one caller arrive in the order in which it sent them; what is in
//! flight is bounded in number and bytes, and whoever asks for more waits; a request keeps its place until
//! its answer comes, even when its caller has given up, so that the other end is never asked for more than
//! it agreed to hold. A connection whose other end is silent ends.
//!
//! Start at [`Link::open`] and [`Link::call`]; the answering end is [`crate::serve`].

use crate::carrier::{Heard, Outgoing, carry_out, silence};
use crate::framing::{Frame, FrameReader, FramingError, Kind, PAYLOAD_LIMIT};
use bytes::Bytes;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// What bounds a multiplexed connection. Both ends must have the same bounds of what is in flight.
#[derive(Debug, Clone, Copy)]
pub struct LinkLimits {
    /// The most requests in flight, from 1.
    pub requests: u32,
    /// The most bytes of requests in flight, in KiB; at least one request of full size.
    pub request_kib: u32,
    /// How often the asking end asks whether the other is there.
    pub ping_every: Duration,
    /// How long the other end may be silent.
    pub silent_after: Duration,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            requests: 1024,
            request_kib: 32 * 1024,
            ping_every: Duration::from_millis(500),
            silent_after: Duration::from_secs(3),
        }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkEnd {
    /// This end closed it.
    #[error("closed here")]
    ClosedHere,
    /// The other end stops in an orderly way.
    #[error("the other server said goodbye")]
    Goodbye,
    /// The other end closed without a goodbye: its process ended, most likely.
    #[error("the other server closed the connection")]
    ClosedThere,
    /// Nothing was heard for too long.
    #[error("the other server was silent for {} ms", .0.as_millis())]
    Silent(Duration),
    /// It broke, or the other end sent what it must not.
    #[error("the other server's bytes are not taken")]
    Framing(#[from] FramingError),
    /// It broke while sending.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// A frame that has no place at this end, or more requests than were agreed.
    #[error("the other server broke the rules: {0}")]
    Violation(Violation),
}

/// What the other end must not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A frame of a kind that this end does not take.
    #[error("a frame that has no place here")]
    OutOfPlace,
    /// An answer to a request that is not in flight.
    #[error("an answer to nothing")]
    AnswerToNothing,
    /// More requests in flight than agreed.
    #[error("more requests at a time than agreed")]
    TooMany,
}

/// Why a request has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// Longer than a frame may be; nothing was sent.
    #[error("the request has {length} bytes, more than {PAYLOAD_LIMIT}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The time was over before there was room for it; nothing was sent.
    #[error("no request could be sent in time: too many are unanswered")]
    NotSent,
    /// The time was over before an answer came; the other server may have acted on it.
    #[error("no answer came in time")]
    Unanswered,
    /// The connection had ended before; nothing was sent.
    #[error("there is no connection")]
    NoLink(#[source] Arc<LinkEnd>),
    /// The connection ended before an answer came; the other server may have acted on it.
    #[error("the connection ended before the answer")]
    Lost(#[source] Arc<LinkEnd>),
    /// The other server has an answer that is longer than a frame may be.
    #[error("the answer is too long to be sent")]
    Unanswerable,
}

impl CallError {
    /// Whether the other server may have acted on the request.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Unanswered | Self::Lost(_) | Self::Unanswerable)
    }
}

/// The asking end of a connection. Clones ask over the same one; it closes with the last.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
    _driver: Arc<Driver>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("ended", &self.end())
            .finish_non_exhaustive()
    }
}

/// Ends the task that drives a connection with the last handle.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Shared {
    waiting: Mutex<Waiting>,
    room: Arc<Semaphore>,
    room_kib: Arc<Semaphore>,
    limits: LinkLimits,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    next_number: AtomicU64,
    end: watch::Sender<Option<Arc<LinkEnd>>>,
    heard: Heard,
    /// When the ping was sent that is not answered yet.
    pinged: Mutex<Option<Instant>>,
}

/// Requests in flight, or why there will be none.
struct Waiting {
    requests: HashMap<u64, InFlight>,
    ended: Option<Arc<LinkEnd>>,
}

struct InFlight {
    answer: oneshot::Sender<Result<Bytes, CallError>>,
    _room: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

/// The answer to a request that was sent. Dropping it gives the answer up.
#[derive(Debug)]
pub struct Reply {
    answer: oneshot::Receiver<Result<Bytes, CallError>>,
}

impl Future for Reply {
    type Output = Result<Bytes, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer)
            .poll(cx)
            .map(|answer| answer.unwrap_or(Err(CallError::Lost(Arc::new(LinkEnd::ClosedHere)))))
    }
}

impl Link {
    /// Takes an authenticated stream into use, driven by the runtime that the caller runs in.
    ///
    /// `heard` is told whenever the other end is heard.
    pub fn open<S>(stream: S, limits: LinkLimits, heard: Heard) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (outgoing, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            waiting: Mutex::new(Waiting {
                requests: HashMap::new(),
                ended: None,
            }),
            room: Arc::new(Semaphore::new(limits.requests as usize)),
            room_kib: Arc::new(Semaphore::new(limits.request_kib as usize)),
            limits,
            outgoing,
            next_number: AtomicU64::new(1),
            end: watch::Sender::new(None),
            heard,
            pinged: Mutex::default(),
        });
        let driven = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let end = drive(stream, queue, &driven).await;
            driven.finish(end);
        });
        Self {
            shared,
            _driver: Arc::new(Driver(task.abort_handle())),
        }
    }

    /// Sends a request and waits for its answer, both within `limit`.
    ///
    /// # Errors
    /// When no answer comes; [`CallError::outcome_unknown`] says whether the other server may have acted.
    pub async fn call(&self, request: Bytes, limit: Duration) -> Result<Bytes, CallError> {
        let deadline = Instant::now() + limit;
        let reply = timeout(limit, self.send(request))
            .await
            .map_err(|_| CallError::NotSent)??;
        tokio::time::timeout_at(deadline, reply)
            .await
            .map_err(|_| CallError::Unanswered)?
    }

    /// Sends a request once there is room for it; its answer is waited for apart. Requests that one caller
    /// sends one after the other arrive in that order.
    ///
    /// # Errors
    /// When it is too long or the connection has ended; nothing was sent then.
    pub async fn send(&self, request: Bytes) -> Result<Reply, CallError> {
        if request.len() > PAYLOAD_LIMIT {
            return Err(CallError::TooLong {
                length: request.len(),
            });
        }
        let shared = &self.shared;
        let ended = |_| shared.no_link();
        let room = Arc::clone(&shared.room)
            .acquire_owned()
            .await
            .map_err(ended)?;
        let kib = kib_of(request.len()).min(shared.limits.request_kib);
        let room_kib = Arc::clone(&shared.room_kib)
            .acquire_many_owned(kib)
            .await
            .map_err(ended)?;
        let number = shared.next_number.fetch_add(1, Ordering::Relaxed);
        let (answer, reply) = oneshot::channel();
        {
            let mut waiting = shared
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(end) = &waiting.ended {
                return Err(CallError::NoLink(Arc::clone(end)));
            }
            waiting.requests.insert(
                number,
                InFlight {
                    answer,
                    _room: (room, room_kib),
                },
            );
        }
        // A failure to queue means that the connection ends; `finish` answers what waits.
        let _ = shared.outgoing.send(Outgoing {
            frame: Frame {
                number,
                kind: Kind::Request,
                payload: request,
            },
            sent: None,
        });
        Ok(Reply { answer: reply })
    }

    /// Says goodbye and closes; requests in flight are given up.
    pub fn close(&self) {
        let _ = self.shared.outgoing.send(Outgoing::bare(Kind::Goodbye));
    }

    /// Why the connection ended; none while it stands.
    pub fn end(&self) -> Option<Arc<LinkEnd>> {
        self.shared.end.borrow().clone()
    }

    /// Waits until the connection has ended.
    pub async fn ended(&self) -> Arc<LinkEnd> {
        let mut end = self.shared.end.subscribe();
        let waited = end.wait_for(Option::is_some).await;
        waited
            .ok()
            .and_then(|end| end.clone())
            .unwrap_or_else(|| Arc::new(LinkEnd::ClosedHere))
    }
}

/// KiB that a request of this many bytes takes of the room.
pub(crate) fn kib_of(length: usize) -> u32 {
    u32::try_from(length.div_ceil(1024).max(1)).unwrap_or(u32::MAX)
}

impl Shared {
    fn no_link(&self) -> CallError {
        let end = self.end.borrow().clone();
        CallError::NoLink(end.unwrap_or_else(|| Arc::new(LinkEnd::ClosedHere)))
    }

    /// Answers everything that waits, and all that comes, with the end.
    fn finish(&self, end: LinkEnd) {
        let end = Arc::new(end);
        let requests = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.ended = Some(Arc::clone(&end));
            std::mem::take(&mut waiting.requests)
        };
        self.end.send_replace(Some(Arc::clone(&end)));
        self.room.close();
        self.room_kib.close();
        for (_, request) in requests {
            let _ = request.answer.send(Err(CallError::Lost(Arc::clone(&end))));
        }
    }

    /// A ping is sent. One that is not answered yet goes on being measured.
    fn pings(&self) {
        let mut pinged = self.pinged.lock().unwrap_or_else(PoisonError::into_inner);
        pinged.get_or_insert_with(Instant::now);
    }

    fn ponged(&self) {
        let mut pinged = self.pinged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sent) = pinged.take() {
            self.heard.trips().took(sent.elapsed());
        }
    }

    fn answer(&self, number: u64, answer: Result<Bytes, CallError>) -> Result<(), LinkEnd> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let request = waiting
            .requests
            .remove(&number)
            .ok_or(LinkEnd::Violation(Violation::AnswerToNothing))?;
        // Its caller may have given up.
        let _ = request.answer.send(answer);
        Ok(())
    }
}

async fn drive<S>(stream: S, queue: mpsc::UnboundedReceiver<Outgoing>, shared: &Shared) -> LinkEnd
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(stream);
    let progress = Heard::default();
    tokio::select! {
        end = hear(FrameReader::new(read), shared, &progress) => end,
        end = carry_out(write, queue, &progress) => end,
        () = ping(shared) => LinkEnd::ClosedHere,
        end = silence(&progress, shared.limits.silent_after) => end,
    }
}

async fn hear<R>(mut frames: FrameReader<R>, shared: &Shared, progress: &Heard) -> LinkEnd
where
    R: AsyncRead + Unpin,
{
    loop {
        loop {
            let frame = match frames.ready() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return error.into(),
            };
            let taken = match frame.kind {
                Kind::Response => shared.answer(frame.number, Ok(frame.payload)),
                Kind::Unanswerable => shared.answer(frame.number, Err(CallError::Unanswerable)),
                Kind::Pong => {
                    shared.ponged();
                    Ok(())
                }
                Kind::Goodbye => Err(LinkEnd::Goodbye),
                Kind::Request | Kind::Ping => Err(LinkEnd::Violation(Violation::OutOfPlace)),
            };
            if let Err(end) = taken {
                return end;
            }
        }
        match frames.fill().await {
            Ok(0) => return LinkEnd::ClosedThere,
            Ok(_) => {
                shared.heard.now();
                progress.now();
            }
            Err(error) => return error.into(),
        }
    }
}

/// Asks regularly whether the other end is there; never ends while the connection stands.
async fn ping(shared: &Shared) {
    let mut interval = tokio::time::interval(shared.limits.ping_every);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        shared.pings();
        if shared.outgoing.send(Outgoing::bare(Kind::Ping)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
