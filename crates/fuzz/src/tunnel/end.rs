//! An end of a stream and its twin, driven together and compared after every step.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tunnel::stream::{ACK_DELAY, LEAST_OUTPUT};
use tunnel::{Config, Event, Frame, ResetCode, Stream};

use super::bytes_at;
use super::twin::{Life, Twin};
use crate::memory::at_most;

/// What is added to an end's output in one go, at most beyond what was asked for: the smallest frame that may go beyond.
const BEYOND: usize = 12;

/// An end, its twin, and their clock.
pub(super) struct End {
    pub(super) stream: Stream,
    pub(super) twin: Twin,
    pub(super) now: Duration,
    /// Handed out by the stream and not yet written to the local socket.
    in_hand: usize,
    /// Bytes that may still be made up.
    budget: usize,
}

impl End {
    pub(super) fn new(config: Config) -> Self {
        let now = Duration::from_secs(1000);
        Self {
            stream: Stream::new(config, now),
            twin: Twin::new(config, now),
            now,
            in_hand: 0,
            budget: 256 * 1024,
        }
    }

    /// Less than what one run may make up otherwise.
    pub(super) fn afford(&mut self, most: usize) {
        self.budget = self.budget.min(most);
    }

    /// A length that is still within what one run may make up.
    pub(super) fn affordable(&mut self, count: usize) -> usize {
        let count = count.min(self.budget);
        self.budget -= count;
        count
    }

    /// The local socket gives bytes, as many as fit.
    pub(super) fn write(&mut self, count: usize) {
        let count = self.affordable(count).min(self.stream.local_capacity());
        self.write_all(count);
    }

    /// The local socket gives bytes, whether they fit or not.
    pub(super) fn write_all(&mut self, count: usize) {
        let bytes = bytes_at(self.twin.written.len() as u64, count);
        let room = self.twin.config.replay - self.held();
        let fits = self.twin.is_open() && !self.twin.eof && count <= room;
        let outcome = self.stream.write_local(bytes.clone().into());
        assert_eq!(outcome.is_ok(), fits, "{outcome:?}");
        if fits {
            self.twin.written.extend(bytes);
        }
    }

    pub(super) fn eof(&mut self) {
        self.stream.local_eof();
        self.twin.eof |= self.twin.is_open();
    }

    /// The local socket takes bytes, one piece at most.
    pub(super) fn take(&mut self) {
        let Some(bytes) = self.stream.take_for_local() else {
            let all = self.twin.taken == self.twin.received.len();
            assert!(all || !self.twin.is_open(), "bytes are held back");
            return;
        };
        assert!(!bytes.is_empty() && self.twin.is_open());
        let next = self.twin.received.get(self.twin.taken..);
        assert!(
            next.is_some_and(|next| next.starts_with(&bytes)),
            "{} bytes at {} are not what the peer sent there",
            bytes.len(),
            self.twin.taken
        );
        self.twin.taken += bytes.len();
        self.in_hand += bytes.len();
    }

    /// So many bytes have been written to the local socket, of those that it took.
    pub(super) fn delivered(&mut self, count: usize) {
        let count = count.min(self.in_hand);
        self.in_hand -= count;
        self.stream.local_written(self.now, count);
        self.twin.local_written(count);
    }

    pub(super) fn frame(&mut self, frame: Frame) {
        let allowed = self.twin.frame(self.now, &frame);
        let outcome = self.stream.handle_frame(self.now, frame);
        assert_eq!(outcome.is_ok(), allowed, "{outcome:?}");
    }

    /// Bytes arrive over the path.
    pub(super) fn arrive(&mut self, bytes: Bytes) {
        /// The queue of a window's pieces.
        const QUEUE: usize = 256 * 1024;
        let allowed = self.twin_arrive(bytes.clone());
        let (stream, now) = (&mut self.stream, self.now);
        let room = QUEUE + 2 * bytes.len();
        let outcome = at_most(room, || stream.handle_bytes(now, bytes));
        assert_eq!(outcome.is_ok(), allowed, "{outcome:?}");
    }

    fn twin_arrive(&mut self, mut bytes: Bytes) -> bool {
        let twin = &mut self.twin;
        loop {
            let Some(path) = twin.path.as_mut().filter(|_| twin.life == Life::Open) else {
                return true;
            };
            if !bytes.is_empty() {
                path.heard = self.now;
            }
            match path.decoder.decode(&mut bytes) {
                Ok(Some(frame)) if twin.frame(self.now, &frame) => {}
                Ok(Some(_)) => return false,
                Ok(None) => return true,
                Err(_) => {
                    twin.reset(ResetCode::PROTOCOL);
                    return false;
                }
            }
        }
    }

    /// The path takes about so many bytes.
    pub(super) fn transmit(&mut self, full: usize) -> Bytes {
        let mut out = BytesMut::new();
        let count = self.stream.poll_transmit(self.now, &mut out, full);
        assert_eq!(count, out.len());
        assert!(
            count <= full.max(LEAST_OUTPUT) + BEYOND,
            "{count} of {full}"
        );
        let bytes = out.freeze();
        self.twin.sends(&bytes);
        bytes
    }

    /// The path takes all that there is.
    pub(super) fn drain(&mut self) -> Bytes {
        let mut all = BytesMut::new();
        loop {
            let bytes = self.transmit(64 * 1024);
            if bytes.is_empty() {
                break;
            }
            all.extend_from_slice(&bytes);
        }
        let twin = &self.twin;
        if twin.is_open() && twin.path.is_some() {
            let written = twin.written.len() as u64;
            assert_eq!(twin.sent, written.min(twin.allowed), "bytes are held back");
            let ended = twin.eof && twin.sent == written;
            assert_eq!(twin.fin_sent, ended, "the end is held back");
            let soon = |at| at <= self.now + ACK_DELAY;
            let unannounced = twin.unannounced();
            assert!(unannounced <= twin.may_wait(), "{unannounced} wait");
            assert!(unannounced == 0 || self.stream.poll_timeout().is_some_and(soon));
        }
        all.freeze()
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.timeout();
    }

    /// Time passes until the stream wants it to be told; all that is due then is done, once.
    pub(super) fn wait_for_timeout(&mut self) -> Bytes {
        let Some(at) = self.stream.poll_timeout() else {
            return Bytes::new();
        };
        self.now = self.now.max(at);
        self.timeout();
        let sent = self.drain();
        let again = self.stream.poll_timeout();
        assert!(again.is_none_or(|again| again > self.now), "{again:?} anew");
        sent
    }

    fn timeout(&mut self) {
        self.stream.handle_timeout(self.now);
        self.twin.timeout(self.now);
    }

    pub(super) fn path_lost(&mut self) {
        self.stream.path_lost(self.now);
        self.twin.path_lost(self.now);
    }

    /// A new path, to a peer that says that it has received so much.
    pub(super) fn path_replaced(&mut self, peer_received: u64) -> bool {
        let checked = self.stream.check_resume(peer_received);
        let outcome = self.stream.path_replaced(self.now, peer_received);
        assert_eq!(checked, outcome);
        let possible = self.twin.path_replaced(self.now, peer_received);
        assert_eq!(outcome.is_ok(), possible, "{outcome:?}");
        possible
    }

    pub(super) fn reset(&mut self, code: ResetCode) {
        self.stream.reset(code);
        self.twin.reset(code);
    }

    pub(super) fn tell_news(&mut self) {
        self.stream.tell_news();
        self.twin.news();
    }

    /// Bytes of the local socket that have to be held.
    fn held(&self) -> usize {
        let held = self.twin.written.len() as u64 - self.twin.acked_bytes();
        match self.twin.is_open() {
            true => usize::try_from(held).unwrap_or(usize::MAX),
            false => 0,
        }
    }

    /// Asserts that the end is what its twin says.
    pub(super) fn compare(&mut self) {
        let happened: Vec<Event> = std::iter::from_fn(|| self.stream.poll_event()).collect();
        let expected: Vec<Event> = self.twin.events.drain(..).collect();
        assert_eq!(happened, expected);
        let (stream, twin) = (&self.stream, &self.twin);
        let received = twin.received.len() as u64;
        assert_eq!(stream.is_open(), twin.is_open());
        assert_eq!(stream.is_over(), twin.life == Life::Over);
        assert_eq!(stream.is_finished(), twin.finished);
        assert_eq!(stream.is_delivered(), twin.is_fin_acked());
        assert_eq!(stream.has_path(), twin.path.is_some());
        assert_eq!(stream.received(), received + u64::from(twin.fin.is_some()));
        assert_eq!(stream.bytes_from_peer(), received);
        assert_eq!(stream.bytes_from_local(), twin.written.len() as u64);
        assert_eq!(stream.held(), self.held());
        let waiting = match twin.is_open() {
            true => twin.received.len() - twin.delivered,
            false => 0,
        };
        assert_eq!(stream.waiting(), waiting);
        assert!(stream.held() <= twin.config.replay, "too much is held");
        assert!(waiting <= twin.config.window as usize, "too much waits");
        self.compare_capacity();
    }

    fn compare_capacity(&self) {
        let twin = &self.twin;
        let unsent = twin.written.len() - usize::try_from(twin.sent).unwrap_or(usize::MAX);
        let room = twin.config.replay - self.held();
        let expected = match (twin.is_open() && !twin.eof, &twin.path) {
            (false, _) => 0,
            (true, None) => room,
            (true, Some(_)) => room.min(twin.config.ahead.saturating_sub(unsent)),
        };
        assert_eq!(self.stream.local_capacity(), expected);
    }
}
