//! Carries the bytes of one local socket over whatever path its stream has at the time: the driver of a [`tunnel::Stream`].
//!
//! Always true: with or without a path the local socket is served as far as the stream's buffers go; nothing is copied byte by
//! byte; dropping the future of [`Carry::run`] loses nothing, all state is in [`Carry`].

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};
use tunnel::{Config, Event, PathRefused, ResetCode, Stream};

/// Room that is made for a read when less than [`LEAST_ROOM`] is left.
const READ_ROOM: usize = 128 * 1024;
const LEAST_ROOM: usize = 16 * 1024;
/// About how many bytes are handed to the path at a time.
const SEND: usize = 128 * 1024;
/// Most pieces in one write to the local socket.
const PIECES: usize = 32;

/// Why carrying stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halt {
    /// The path is gone: another one is needed. While there is none, running on serves the local socket.
    PathLost,
    /// Both directions are over and everything has arrived.
    Finished,
    /// The session's end gave the stream up.
    Reset(ResetCode),
    /// The local socket failed; the other end was told, if there was a path.
    LocalFailed,
    /// There was no path for as long as the session's end keeps a stream.
    Expired,
    /// The other end did what is not allowed.
    Violated,
}

/// One local socket and its stream.
pub(crate) struct Carry<L, P> {
    stream: Stream,
    local: L,
    path: Option<P>,
    start: Instant,
    /// When something was last heard over a path.
    heard: Instant,
    from_path: BytesMut,
    to_path: BytesMut,
    unflushed: bool,
    from_local: BytesMut,
    to_local: VecDeque<Bytes>,
    local_unflushed: bool,
    local_ending: LocalEnding,
    /// What to stop with, once the other end has been told.
    leaving: Option<Halt>,
    /// Both directions have ended, and what came is still to be shown.
    finished: bool,
    local_ended: bool,
    peer_ended_first: bool,
    /// The end of the other direction ends this one too.
    one_ends_both: bool,
    /// What is done when the session's end says that there is news of the session.
    on_news: Option<Box<dyn Fn() + Send>>,
    timer: Pin<Box<Sleep>>,
}

/// How far the writing side of the local socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LocalEnding {
    Open,
    Closing,
    Closed,
}

impl<L, P> Carry<L, P>
where
    L: AsyncRead + AsyncWrite + Unpin,
    P: AsyncRead + AsyncWrite + Unpin,
{
    /// A new stream between a local socket and its first path. `one_ends_both` is for a local socket that never ends by itself, such as a
    /// terminal.
    pub(crate) fn new(local: L, path: P, config: Config, one_ends_both: bool) -> Self {
        let start = Instant::now();
        let mut stream = Stream::new(config, Duration::ZERO);
        stream
            .path_replaced(Duration::ZERO, 0)
            .expect("invariant: a new stream takes its first path at offset 0");
        Self {
            stream,
            local,
            path: Some(path),
            start,
            heard: start,
            from_path: BytesMut::new(),
            to_path: BytesMut::new(),
            unflushed: false,
            from_local: BytesMut::new(),
            to_local: VecDeque::new(),
            local_unflushed: false,
            local_ending: LocalEnding::Open,
            leaving: None,
            finished: false,
            local_ended: false,
            peer_ended_first: false,
            one_ends_both,
            on_news: None,
            timer: Box::pin(sleep_until(start)),
        }
    }

    /// The same, with something to do whenever the session's end says that there is news of the session.
    pub(crate) fn with_news(mut self, on_news: impl Fn() + Send + 'static) -> Self {
        self.on_news = Some(Box::new(on_news));
        self
    }

    /// What the other end is told on a resume.
    pub(crate) fn received(&self) -> u64 {
        self.stream.received()
    }

    /// When something was last heard from the other end.
    pub(crate) fn heard(&self) -> Instant {
        self.heard
    }

    /// Whether the session's end was the first to end its direction.
    pub(crate) fn peer_ended_first(&self) -> bool {
        self.peer_ended_first
    }

    /// Goes on over a new path, at whose other end everything before `peer_received` has arrived.
    pub(crate) fn go_on(&mut self, path: P, peer_received: u64) -> Result<(), PathRefused> {
        let now = self.now();
        self.stream.path_replaced(now, peer_received)?;
        self.clear_path_buffers();
        self.path = Some(path);
        self.heard = Instant::now();
        Ok(())
    }

    /// Gives up the path, for a better one that is at hand.
    pub(crate) fn leave_path(&mut self) {
        self.lose_path();
    }

    /// Carries until something happens that this cannot deal with. Where that is the end, all that came has been shown.
    pub(crate) async fn run(&mut self) -> Halt {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn clear_path_buffers(&mut self) {
        self.from_path = BytesMut::new();
        self.to_path = BytesMut::new();
        self.unflushed = false;
    }

    fn lose_path(&mut self) -> Halt {
        let now = self.now();
        self.stream.path_lost(now);
        self.path = None;
        self.clear_path_buffers();
        // Whoever was only waiting to tell the other end cannot do so now.
        self.leaving.unwrap_or(Halt::PathLost)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Halt> {
        if !self.finished {
            match ready!(self.carry(cx)) {
                Halt::Finished => self.finished = true,
                halt => return Poll::Ready(halt),
            }
        }
        if self.local_ending == LocalEnding::Open {
            self.local_ending = LocalEnding::Closing;
        }
        while self.local_ending == LocalEnding::Closing {
            if matches!(self.write_local(cx), Step::Idle) {
                return Poll::Pending;
            }
        }
        Poll::Ready(Halt::Finished)
    }

    fn carry(&mut self, cx: &mut Context<'_>) -> Poll<Halt> {
        loop {
            let mut busy = false;
            for step in [
                Self::read_path,
                Self::write_local,
                Self::read_local,
                Self::write_path,
            ] {
                match step(self, cx) {
                    Step::Idle => {}
                    Step::Busy => busy = true,
                    Step::Stop(halt) => return Poll::Ready(halt),
                }
            }
            if let Some(halt) = self.events() {
                return Poll::Ready(halt);
            }
            if !busy && self.poll_timer(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn read_path(&mut self, cx: &mut Context<'_>) -> Step {
        let Some(path) = self.path.as_mut() else {
            return Step::Idle;
        };
        match read(cx, path, &mut self.from_path, usize::MAX) {
            Poll::Pending => Step::Idle,
            Poll::Ready(Ok(0) | Err(_)) => Step::Stop(self.lose_path()),
            Poll::Ready(Ok(_)) => {
                self.heard = Instant::now();
                let bytes = self.from_path.split().freeze();
                let now = self.now();
                if let Err(error) = self.stream.handle_bytes(now, bytes) {
                    tracing::warn!(%error, "the session's end of a stream violates the protocol");
                    self.leaving = Some(Halt::Violated);
                }
                Step::Busy
            }
        }
    }

    fn write_local(&mut self, cx: &mut Context<'_>) -> Step {
        if self.local_ending == LocalEnding::Closed {
            self.to_local.clear();
            return Step::Idle;
        }
        while self.to_local.len() < PIECES
            && let Some(bytes) = self.stream.take_for_local()
        {
            self.to_local.push_back(bytes);
        }
        let local = Pin::new(&mut self.local);
        let outcome = if self.to_local.is_empty() {
            match (self.local_unflushed, self.local_ending) {
                // Standard output does not flush what it closes.
                (true, _) => local.poll_flush(cx).map_ok(|()| {
                    self.local_unflushed = false;
                    0
                }),
                (false, LocalEnding::Closing) => local.poll_shutdown(cx).map_ok(|()| {
                    self.local_ending = LocalEnding::Closed;
                    0
                }),
                (false, _) => return Step::Idle,
            }
        } else {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let mut used = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.to_local) {
                *slice = IoSlice::new(piece);
                used += 1;
            }
            local.poll_write_vectored(cx, slices.get(..used).unwrap_or_default())
        };
        match outcome {
            Poll::Pending => Step::Idle,
            Poll::Ready(Ok(0)) if !self.to_local.is_empty() => self.fail_local(),
            Poll::Ready(Ok(0)) => Step::Busy,
            Poll::Ready(Ok(count)) => {
                self.local_unflushed = true;
                consume(&mut self.to_local, count);
                let now = self.now();
                self.stream.local_written(now, count);
                Step::Busy
            }
            Poll::Ready(Err(_)) => self.fail_local(),
        }
    }

    fn read_local(&mut self, cx: &mut Context<'_>) -> Step {
        let room = self.stream.local_capacity();
        if room == 0 || self.leaving.is_some() {
            return Step::Idle;
        }
        match read(cx, &mut self.local, &mut self.from_local, room) {
            Poll::Pending => Step::Idle,
            Poll::Ready(Err(_)) => self.fail_local(),
            Poll::Ready(Ok(0)) => {
                self.local_ended = true;
                self.stream.local_eof();
                Step::Busy
            }
            Poll::Ready(Ok(_)) => {
                let bytes = self.from_local.split().freeze();
                self.stream
                    .write_local(bytes)
                    .expect("invariant: no more was read than the stream has room for");
                Step::Busy
            }
        }
    }

    fn write_path(&mut self, cx: &mut Context<'_>) -> Step {
        let now = self.now();
        let Some(path) = self.path.as_mut() else {
            return Step::Idle;
        };
        if self.to_path.is_empty() {
            self.stream.poll_transmit(now, &mut self.to_path, SEND);
        }
        let path = Pin::new(path);
        let outcome = if !self.to_path.is_empty() {
            path.poll_write(cx, &self.to_path)
        } else if self.unflushed {
            path.poll_flush(cx).map_ok(|()| 0)
        } else if self.leaving == Some(Halt::Finished) && self.local_ending != LocalEnding::Closed {
            return Step::Idle;
        } else if let Some(halt) = self.leaving {
            // The other end has been told; a goodbye that does not get through is missed by nobody.
            let _ = path.poll_shutdown(cx);
            return Step::Stop(halt);
        } else {
            return Step::Idle;
        };
        match outcome {
            Poll::Pending => Step::Idle,
            Poll::Ready(Ok(0)) if self.to_path.is_empty() => {
                self.unflushed = false;
                Step::Busy
            }
            Poll::Ready(Ok(count)) if count > 0 => {
                self.to_path.advance(count);
                self.unflushed = true;
                Step::Busy
            }
            Poll::Ready(Ok(_) | Err(_)) => Step::Stop(self.lose_path()),
        }
    }

    /// The local socket cannot be used any more: the stream is given up.
    fn fail_local(&mut self) -> Step {
        if self.leaving.is_none() {
            self.stream.reset(ResetCode::LOCAL);
            self.leaving = Some(Halt::LocalFailed);
        }
        self.local_ending = LocalEnding::Closed;
        self.to_local.clear();
        if self.path.is_none() {
            Step::Stop(Halt::LocalFailed)
        } else {
            Step::Busy
        }
    }

    fn events(&mut self) -> Option<Halt> {
        while let Some(event) = self.stream.poll_event() {
            match event {
                Event::PathDead => return Some(self.lose_path()),
                Event::PeerFinished => {
                    self.peer_ended_first = !self.local_ended;
                    if self.local_ending == LocalEnding::Open {
                        self.local_ending = LocalEnding::Closing;
                    }
                    if self.one_ends_both {
                        self.stream.local_eof();
                    }
                }
                Event::Reset {
                    code: ResetCode::DONE,
                } if self.stream.is_finished() => {
                    return Some(Halt::Finished);
                }
                Event::Reset { code } => return Some(Halt::Reset(code)),
                Event::Finished => {
                    self.stream.reset(ResetCode::DONE);
                    self.leaving = Some(Halt::Finished);
                    if self.path.is_none() {
                        return Some(Halt::Finished);
                    }
                }
                Event::Expired => return Some(Halt::Expired),
                Event::News => {
                    if let Some(on_news) = &self.on_news {
                        on_news();
                    }
                }
            }
        }
        None
    }

    /// Ready when something has become due.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.stream.poll_timeout() else {
            return Poll::Pending;
        };
        let due = self.start + due;
        // A timer that goes off too early only costs a look at the clock; setting it again each time would cost more.
        if due < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(due);
        }
        std::task::ready!(self.timer.as_mut().poll(cx));
        let now = self.now();
        self.stream.handle_timeout(now);
        Poll::Ready(())
    }
}

enum Step {
    Idle,
    Busy,
    Stop(Halt),
}

/// Reads once, at most `most` bytes, into room that is made when there is little.
fn read<R: AsyncRead + Unpin>(
    cx: &mut Context<'_>,
    from: &mut R,
    buffer: &mut BytesMut,
    most: usize,
) -> Poll<io::Result<usize>> {
    let room = READ_ROOM.min(most);
    if buffer.capacity() - buffer.len() < LEAST_ROOM.min(room) {
        buffer.reserve(room);
    }
    let room = (buffer.capacity() - buffer.len()).min(most);
    let mut target = buffer.limit(room);
    pin!(from.read_buf(&mut target)).poll(cx)
}

/// Takes `count` bytes off the front.
fn consume(pieces: &mut VecDeque<Bytes>, mut count: usize) {
    while let Some(piece) = pieces.front_mut() {
        if piece.len() > count {
            piece.advance(count);
            return;
        }
        count -= piece.len();
        pieces.pop_front();
        if count == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, Join, duplex, empty, join};

    /// Like standard output: what was not flushed is lost with the program, closed or not.
    #[derive(Default)]
    struct Unflushed {
        held: Vec<u8>,
        /// How often flushing was asked for: it takes its time.
        asked: u32,
        shown: Arc<Mutex<Vec<u8>>>,
    }

    impl AsyncWrite for Unflushed {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.held.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.asked += 1;
            if self.asked < 50 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let held = std::mem::take(&mut self.held);
            self.shown.lock().unwrap().extend(held);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_came_is_shown_before_the_end() {
        let screen = Unflushed::default();
        let shown = screen.shown.clone();
        let local: Join<_, Unflushed> = join(empty(), screen);
        let (near, far) = duplex(1024);
        let (backend, mut program) = duplex(1024);
        let mut here = Carry::new(local, near, Config::default(), false);
        let mut there = Carry::new(backend, far, Config::default(), false);
        let greeting = async {
            program.write_all(b"greetings").await.unwrap();
            program.shutdown().await.unwrap();
            program.read_to_end(&mut Vec::new()).await.unwrap();
        };
        let (halt, _, ()) = tokio::join!(here.run(), there.run(), greeting);
        assert_eq!(halt, Halt::Finished);
        assert_eq!(*shown.lock().unwrap(), b"greetings");
    }
}
