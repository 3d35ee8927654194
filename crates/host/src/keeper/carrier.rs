//! The keeper's end of one stream: carries bytes between a backend and whatever path there is to the client.
//!
//! A task for each stream. It does all that is possible without waiting, then waits for the first thing that makes more possible.
//!
//! Always true: the path is always read, the backend only while the tunnel has room; the two never wait for each other. Buffers are those
//! of the tunnel, plus one read and one transmission.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use model::StreamId;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tunnel::{Config, Event, ResetCode, Stream};
use wire::keeper::{OpeningAnswer, OpeningRefusal};

use super::backend::Socket;
use super::happening::Happening;
use super::room::{MOST_READ, Room};
use super::traffic::Traffic;
use super::waiting::{at, backend_ready, interest, path_ready};
use crate::socket::frame;

/// Bytes given to the path at once.
const TRANSMISSION: usize = 256 * 1024;
/// Rounds of work before others get their turn.
const ROUNDS: usize = 16;
/// How long the last frames of a stream may take to leave.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// When the session has ended and the client has everything, it has this long to end its own side.
const FAREWELL: Duration = Duration::from_millis(500);

/// What a stream is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Take this path; the client has proved itself.
    Path {
        path: UnixStream,
        epoch: u64,
        received: u64,
        address: String,
    },
    /// Give up.
    Reset(ResetCode),
    /// The session is over: what the backend has sent is still delivered.
    SessionEnded,
    /// There is something to know about the session.
    News,
}

/// What a stream tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// A path is there, to a client at this address.
    Attached(String),
    /// There is no path any more.
    Detached,
    /// Everything was delivered both ways; the stream is kept for a client that may not know it.
    Finished,
    /// Nothing is left of it.
    Over,
}

/// One end of a stream, with its sockets.
pub(crate) struct Carrier {
    id: StreamId,
    stream: Stream,
    /// Times are counted from here.
    start: Instant,
    path: Option<Path>,
    backend: Option<Backend>,
    /// The session is over.
    ending: bool,
    /// When the stream is given up whatever its state.
    last_moment: Option<Instant>,
    orders: mpsc::Receiver<Order>,
    happenings: mpsc::Sender<Happening>,
    traffic: Traffic,
    news: VecDeque<News>,
}

struct Path {
    socket: UnixStream,
    out: BytesMut,
    room: Room,
}

struct Backend {
    socket: Socket,
    /// Taken from the tunnel and not yet written.
    in_hand: VecDeque<Bytes>,
    room: Room,
    ended: bool,
    /// It takes no bytes any more; what comes for it is thrown away.
    deaf: bool,
    /// Its failure may have cost bytes; the client is told so when it has what came before.
    failed: bool,
}

impl Carrier {
    /// A stream between a backend and a client that has just attached; `answer` is the first thing that it gets.
    pub(crate) fn new(
        id: StreamId,
        config: Config,
        (path, address): (UnixStream, String),
        answer: &OpeningAnswer,
        socket: Socket,
        orders: mpsc::Receiver<Order>,
        (happenings, traffic): (mpsc::Sender<Happening>, Traffic),
    ) -> Self {
        let mut carrier = Self {
            id,
            stream: Stream::new(config, Duration::ZERO),
            start: Instant::now(),
            path: None,
            backend: Some(Backend {
                socket,
                in_hand: VecDeque::new(),
                room: Room::new(),
                ended: false,
                deaf: false,
                failed: false,
            }),
            ending: false,
            last_moment: None,
            orders,
            happenings,
            traffic,
            news: VecDeque::new(),
        };
        carrier
            .stream
            .path_replaced(Duration::ZERO, 0)
            .expect("invariant: a new stream takes its first path");
        carrier.take_path(path, answer, address);
        carrier
    }

    /// Carries until nothing is left to carry.
    pub(crate) async fn run(mut self) {
        loop {
            let busy = self.work();
            self.note_events();
            for news in std::mem::take(&mut self.news) {
                if self
                    .happenings
                    .send(Happening::Stream(self.id, news))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            if self.is_over() {
                break;
            }
            if busy {
                tokio::task::yield_now().await;
            } else {
                self.wait().await;
            }
        }
        // The keeper may be gone already.
        let _ = self
            .happenings
            .send(Happening::Stream(self.id, News::Over))
            .await;
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Does what is possible without waiting; true when there may be more.
    fn work(&mut self) -> bool {
        let now = self.now();
        for _ in 0..ROUNDS {
            let path_read = self.read_path(now);
            let written = self.write_backend(now);
            let read = self.read_backend();
            let path_written = self.write_path(now);
            if written | read {
                self.traffic.note();
            }
            if !(path_read | written | read | path_written) {
                return false;
            }
        }
        true
    }

    fn read_path(&mut self, now: Duration) -> bool {
        let Some(path) = &mut self.path else {
            return false;
        };
        let socket = &path.socket;
        match path
            .room
            .read(MOST_READ, |buffer| socket.try_read_buf(buffer))
        {
            Ok(Some(bytes)) => {
                if let Err(error) = self.stream.handle_bytes(now, bytes) {
                    tracing::warn!(stream = %self.id, %error, "the client violates the protocol");
                }
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Ok(None) | Err(_) => {
                self.lose_path(now);
                true
            }
        }
    }

    fn write_path(&mut self, now: Duration) -> bool {
        let Some(path) = &mut self.path else {
            return false;
        };
        if path.out.is_empty() {
            self.stream.poll_transmit(now, &mut path.out, TRANSMISSION);
        }
        if path.out.is_empty() {
            return false;
        }
        match path.socket.try_write(&path.out) {
            Ok(count) => {
                path.out.advance(count);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => {
                self.lose_path(now);
                true
            }
        }
    }

    fn read_backend(&mut self) -> bool {
        let capacity = self.stream.local_capacity();
        let Some(backend) = self
            .backend
            .as_mut()
            .filter(|backend| !backend.ended && capacity > 0)
        else {
            return false;
        };
        let socket = &backend.socket;
        match backend
            .room
            .read(capacity, |buffer| socket.try_read_buf(buffer))
        {
            Ok(Some(bytes)) => {
                self.stream
                    .write_local(bytes)
                    .expect("invariant: no more was read than there is room for");
                return true;
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.ending => {
                return false;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::debug!(stream = %self.id, %error, "the backend failed");
                backend.deaf = true;
                backend.failed = backend.socket.reset_loses_bytes();
            }
        }
        backend.ended = true;
        if !backend.failed {
            self.stream.local_eof();
        }
        true
    }

    fn write_backend(&mut self, now: Duration) -> bool {
        let Some(backend) = &mut self.backend else {
            return throw_away(&mut self.stream, now);
        };
        if backend.deaf {
            let in_hand: usize = backend.in_hand.drain(..).map(|bytes| bytes.len()).sum();
            self.stream.local_written(now, in_hand);
            return throw_away(&mut self.stream, now);
        }
        while backend.in_hand.len() < 32
            && let Some(bytes) = self.stream.take_for_local()
        {
            backend.in_hand.push_back(bytes);
        }
        if backend.in_hand.is_empty() {
            return false;
        }
        let pieces: Vec<io::IoSlice<'_>> = backend
            .in_hand
            .iter()
            .map(|bytes| io::IoSlice::new(bytes))
            .collect();
        match backend.socket.try_write_vectored(&pieces) {
            Ok(count) => {
                self.stream.local_written(now, count);
                let mut rest = count;
                while let Some(first) = backend.in_hand.front_mut() {
                    if first.len() > rest {
                        first.advance(rest);
                        break;
                    }
                    rest -= first.len();
                    backend.in_hand.pop_front();
                }
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                tracing::debug!(stream = %self.id, %error, "the backend takes no more bytes");
                backend.deaf = true;
                true
            }
        }
    }

    /// Passes on what the tunnel has to say, and sees whether it is time to give up.
    fn note_events(&mut self) {
        let now = self.now();
        while let Some(event) = self.stream.poll_event() {
            match event {
                Event::PathDead => self.drop_path(),
                Event::PeerFinished => {
                    if let Some(backend) = &mut self.backend
                        && backend.socket.shutdown_write().is_err()
                    {
                        backend.deaf = true;
                    }
                }
                Event::Finished => {
                    self.backend = None;
                    self.news.push_back(News::Finished);
                }
                Event::Reset { .. } | Event::Expired => self.backend = None,
                // Clients have none for keepers.
                Event::News => {}
            }
        }
        if self.backend.as_ref().is_some_and(|backend| backend.failed) && self.stream.held() == 0 {
            self.reset(ResetCode::LOCAL);
        }
        if self.ending
            && self.stream.is_open()
            && self.stream.is_delivered()
            && self.last_moment.is_none()
        {
            self.last_moment = Some(Instant::now() + FAREWELL);
        }
        if !self.stream.is_open() && self.last_moment.is_none() {
            self.backend = None;
            self.last_moment = self.path.as_ref().map(|_| Instant::now() + LAST_WORDS);
        }
        if self.last_moment.is_some_and(|at| Instant::now() >= at) {
            self.last_moment = None;
            if self.stream.is_open() {
                self.reset(ResetCode::SESSION_ENDED);
            } else {
                self.lose_path(now);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.stream.is_over() && self.path.as_ref().is_none_or(|path| path.out.is_empty())
    }

    async fn wait(&mut self) {
        let path = self
            .path
            .as_ref()
            .map(|path| (&path.socket, interest(true, !path.out.is_empty())));
        let capacity = self.stream.local_capacity() > 0;
        let backend = self.backend.as_ref().and_then(|backend| {
            let read = !backend.ended && capacity;
            (read || !backend.in_hand.is_empty())
                .then(|| (&backend.socket, interest(read, !backend.in_hand.is_empty())))
        });
        let tunnel = self.stream.poll_timeout().map(|at| self.start + at);
        let until = [tunnel, self.last_moment].into_iter().flatten().min();
        let mut woken = Woken::Ready;
        tokio::select! {
            order = self.orders.recv() => woken = Woken::Order(order),
            _ = path_ready(path) => {}
            _ = backend_ready(backend) => {}
            () = at(until) => woken = Woken::Timer,
        }
        match woken {
            Woken::Ready => {}
            Woken::Timer => self.timer(),
            Woken::Order(Some(order)) => self.obey(order),
            // The keeper ends.
            Woken::Order(None) => self.reset(ResetCode::SESSION_ENDED),
        }
    }

    fn timer(&mut self) {
        let now = self.now();
        // What has arrived comes before the verdict that nothing has.
        while self.read_path(now) {}
        self.stream.handle_timeout(now);
        if let Some(path) = &mut self.path {
            path.room.rest();
        }
        if let Some(backend) = &mut self.backend {
            backend.room.rest();
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Path {
                path,
                epoch,
                received,
                address,
            } => {
                let now = self.now();
                match self.stream.path_replaced(now, received) {
                    Ok(()) => {
                        let answer = OpeningAnswer::Resumed {
                            epoch,
                            received: self.stream.received(),
                        };
                        self.take_path(path, &answer, address);
                    }
                    Err(error) => {
                        tracing::warn!(stream = %self.id, %error, "a path is refused");
                        // Best effort: the connection ends in any case.
                        let _ =
                            path.try_write(&frame(&OpeningAnswer::Refused(OpeningRefusal::Resume)));
                    }
                }
            }
            Order::Reset(code) => self.reset(code),
            Order::SessionEnded => self.ending = true,
            Order::News => self.stream.tell_news(),
        }
    }

    fn take_path(&mut self, socket: UnixStream, answer: &OpeningAnswer, address: String) {
        self.path = Some(Path {
            socket,
            out: BytesMut::from(frame(answer).as_slice()),
            room: Room::new(),
        });
        self.news.push_back(News::Attached(address));
    }

    fn lose_path(&mut self, now: Duration) {
        self.stream.path_lost(now);
        self.drop_path();
    }

    fn drop_path(&mut self) {
        if self.path.take().is_some() {
            self.news.push_back(News::Detached);
        }
    }

    fn reset(&mut self, code: ResetCode) {
        self.stream.reset(code);
        self.backend = None;
    }
}

/// What ended a wait.
enum Woken {
    Ready,
    Timer,
    Order(Option<Order>),
}

/// Counts what comes for a backend that is gone as delivered, so that the client can come to its end.
fn throw_away(stream: &mut Stream, now: Duration) -> bool {
    let mut any = false;
    while let Some(bytes) = stream.take_for_local() {
        stream.local_written(now, bytes.len());
        any = true;
    }
    any
}
