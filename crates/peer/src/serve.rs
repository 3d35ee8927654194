//! The answering end of a multiplexed connection.
//!
//! What must always be true: the handler sees requests in the order in which they arrived; the other end
//! never has more in flight than was agreed; one that is silent or breaks the rules is cut off.

use crate::carrier::{Heard, Outgoing, carry_out, silence};
use crate::framing::{Frame, FrameReader, Kind, PAYLOAD_LIMIT};
use crate::link::{LinkEnd, LinkLimits, Violation, kib_of};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Answers requests.
///
/// `handle` is called, and its future polled for the first time, in the order in which requests arrived:
/// what a handler does before its first wait happens in that order. All futures of one connection are
/// polled by one task: long computation belongs elsewhere.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: Bytes) -> impl Future<Output = Bytes> + Send;
}

impl<F, Answering> Handler for F
where
    F: Fn(Bytes) -> Answering + Send + Sync + 'static,
    Answering: Future<Output = Bytes> + Send,
{
    fn handle(&self, request: Bytes) -> impl Future<Output = Bytes> + Send {
        self(request)
    }
}

/// Answers the requests that come over an authenticated stream, until it ends.
///
/// `heard` is told whenever the other end is heard. Dropping the future closes the connection and gives up
/// what is being answered.
pub async fn serve<S, H>(stream: S, handler: &H, limits: LinkLimits, heard: Heard) -> LinkEnd
where
    S: AsyncRead + AsyncWrite + Send,
    H: Handler,
{
    let (read, write) = tokio::io::split(stream);
    let (outgoing, queue) = mpsc::unbounded_channel();
    let progress = Heard::default();
    let answering = Answering {
        handler,
        outgoing,
        room: Arc::new(Semaphore::new(limits.requests as usize)),
        room_kib: Arc::new(Semaphore::new(limits.request_kib as usize)),
        request_kib: limits.request_kib,
        in_flight: FuturesUnordered::new(),
    };
    tokio::select! {
        end = answering.hear(FrameReader::new(read), &heard, &progress) => end,
        end = carry_out(write, queue, &progress) => end,
        end = silence(&progress, limits.silent_after) => end,
    }
}

type Room = (OwnedSemaphorePermit, OwnedSemaphorePermit);

struct Answering<'a, H> {
    handler: &'a H,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    room: Arc<Semaphore>,
    room_kib: Arc<Semaphore>,
    request_kib: u32,
    in_flight: FuturesUnordered<Pin<Box<dyn Future<Output = Outgoing> + Send + 'a>>>,
}

impl<H: Handler> Answering<'_, H> {
    async fn hear<R>(
        mut self,
        mut frames: FrameReader<R>,
        heard: &Heard,
        progress: &Heard,
    ) -> LinkEnd
    where
        R: AsyncRead + Unpin,
    {
        loop {
            loop {
                match frames.ready() {
                    Ok(Some(frame)) => {
                        if let Err(end) = self.take(frame).await {
                            return end;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return error.into(),
                }
            }
            tokio::select! {
                biased;
                Some(answer) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    // A failure to queue means that the connection ends.
                    let _ = self.outgoing.send(answer);
                }
                filled = frames.fill() => match filled {
                    Ok(0) => return LinkEnd::ClosedThere,
                    Ok(_) => {
                        heard.now();
                        progress.now();
                    }
                    Err(error) => return error.into(),
                },
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> Result<(), LinkEnd> {
        match frame.kind {
            Kind::Request => self.request(frame.number, frame.payload).await,
            Kind::Ping => {
                let _ = self.outgoing.send(Outgoing::bare(Kind::Pong));
                Ok(())
            }
            Kind::Goodbye => Err(LinkEnd::Goodbye),
            Kind::Response | Kind::Pong | Kind::Unanswerable => {
                Err(LinkEnd::Violation(Violation::OutOfPlace))
            }
        }
    }

    /// Starts to answer a request; most are answered at once.
    async fn request(&mut self, number: u64, request: Bytes) -> Result<(), LinkEnd> {
        let room = self
            .room_for(request.len())
            .ok_or(LinkEnd::Violation(Violation::TooMany))?;
        let handler = self.handler;
        let mut answering =
            Box::pin(async move { answer_frame(number, handler.handle(request).await, room) })
                as Pin<Box<dyn Future<Output = Outgoing> + Send + '_>>;
        let first =
            std::future::poll_fn(|context| Poll::Ready(answering.as_mut().poll(context))).await;
        match first {
            Poll::Ready(answer) => {
                let _ = self.outgoing.send(answer);
            }
            Poll::Pending => self.in_flight.push(answering),
        }
        Ok(())
    }

    /// Room that a request takes until its answer was sent; none when more is in flight than was agreed.
    fn room_for(&self, length: usize) -> Option<Room> {
        let kib = kib_of(length).min(self.request_kib);
        Some((
            Arc::clone(&self.room).try_acquire_owned().ok()?,
            Arc::clone(&self.room_kib)
                .try_acquire_many_owned(kib)
                .ok()?,
        ))
    }
}

fn answer_frame(number: u64, answer: Bytes, room: Room) -> Outgoing {
    let frame = if answer.len() <= PAYLOAD_LIMIT {
        Frame {
            number,
            kind: Kind::Response,
            payload: answer,
        }
    } else {
        tracing::error!(bytes = answer.len(), "an answer is too long to be sent");
        Frame {
            number,
            kind: Kind::Unanswerable,
            payload: Bytes::new(),
        }
    };
    Outgoing {
        frame,
        sent: Some(Box::new(room)),
    }
}
