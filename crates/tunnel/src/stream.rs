//! One end of a resumable stream.
//!
//! Its owner is called the driver: it has a local socket (a viewer's or a backend's), at times a path to the other end, and a clock.
//!
//! - Local socket readable: read at most [`Stream::local_capacity`] bytes, [`Stream::write_local`]; at its end [`Stream::local_eof`].
//! - Local socket writable: write what [`Stream::take_for_local`] gives, then say so with [`Stream::local_written`].
//! - Path readable: [`Stream::handle_bytes`]. Path writable: [`Stream::poll_transmit`]. The path is always read; windows bound what comes.
//! - After each of these: [`Stream::poll_event`] until it is empty, and a timer for [`Stream::poll_timeout`] that calls
//!   [`Stream::handle_timeout`]. When both are ready, bytes that arrived come before the timer.
//! - A new path, the first one too: [`Stream::path_replaced`]; a broken one: [`Stream::path_lost`]. Bytes of an old path are never
//!   given to the stream after its replacement.
//!
//! On a resume the ends tell each other [`Stream::received`], the bytes received in order, and not what was delivered: received bytes
//! survive the path in this end's memory, so sending them again would only cost time. The acknowledgement, on the other hand, says
//! what was delivered: that bounds memory by the slowest reader (back-pressure from socket to socket), and makes
//! [`Event::Finished`] mean that the other program has everything.
//!
//! [`Event::Finished`] comes when this end knows that both directions are over. The other end may not know yet, when the path
//! breaks at that moment: so the end that waits for paths (the keeper) keeps a finished stream until it is [`Event::Expired`] or reset with
//! [`ResetCode::DONE`], which the end that opens paths (the client) sends when it has finished.
//!
//! Always true: no call blocks, panics on what the peer sent, or holds more memory than [`Config`] says; a stream that violated the
//! protocol or was reset holds nothing. Times are a [`Duration`] since a start that the driver keeps to.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::config::Config;
use crate::error::{PathRefused, ProtocolError, WriteError};
use crate::frame::{Decoder, Frame, ResetCode};
use crate::inbound::Inbound;
use crate::outbound::Outbound;

/// An acknowledgement waits for at most this many delivered bytes ...
pub const ACK_BYTES: u64 = 64 * 1024;
/// ... and at most this long.
pub const ACK_DELAY: Duration = Duration::from_millis(20);
/// Least output that [`Stream::poll_transmit`] can work with: its control frames and some data.
pub const LEAST_OUTPUT: usize = 256;

/// What the driver has to know, in the order in which it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Nothing was heard for `dead_after`: the stream has no path any more, the driver drops the connection.
    PathDead,
    /// Everything that the peer's local socket gave has been written to ours; shut down its writing side.
    PeerFinished,
    /// The peer gave the stream up. Nothing more comes; [`ResetCode::DONE`] after [`Event::Finished`] is the ordinary end.
    Reset {
        /// The peer's reason.
        code: ResetCode,
    },
    /// Both directions are over, everything was delivered and acknowledged.
    Finished,
    /// There was no path for `retain`. The stream is given up.
    Expired,
    /// The peer says that there is something to know about the session; it may say so again without a reason.
    News,
}

/// What belongs to one path and ends with it.
struct Path {
    decoder: Decoder,
    /// When something was last heard.
    heard: Duration,
    /// When something was last given out to be sent.
    sent: Duration,
    /// When an ACK becomes due.
    ack_at: Option<Duration>,
    ack_due: bool,
    ping_due: bool,
    /// The PING that waits for an answer from here; only the latest is answered, so a flood of them costs nothing.
    pong_due: Option<u64>,
    /// Our last PING and when it was sent.
    asked: Option<(u64, Duration)>,
    news_due: bool,
}

/// Whether the stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    /// Given up here; the peer is to be told.
    Resetting(ResetCode),
    /// Given up, and nobody is left to be told.
    Over,
}

/// One end of a resumable stream; the module's text says how to drive it.
pub struct Stream {
    config: Config,
    out: Outbound,
    inb: Inbound,
    path: Option<Path>,
    /// Since when there has been no path, if there is none.
    lost: Duration,
    life: Life,
    finished: bool,
    /// Whether the peer is to be told that there is news, over every new path too: what was under way may be lost.
    has_news: bool,
    nonce: u64,
    round_trip: Option<Duration>,
    events: VecDeque<Event>,
}

impl Stream {
    /// A stream of which nothing has been sent, without a path.
    pub fn new(config: Config, now: Duration) -> Self {
        Self {
            config,
            out: Outbound::default(),
            inb: Inbound::new(config.window),
            path: None,
            lost: now,
            life: Life::Open,
            finished: false,
            has_news: false,
            nonce: 0,
            round_trip: None,
            events: VecDeque::new(),
        }
    }

    /// Bytes that may be read from the local socket now; 0 means leave it unread. After `local_eof` or the stream's end always 0.
    pub fn local_capacity(&self) -> usize {
        if self.life != Life::Open || self.out.is_eof() {
            return 0;
        }
        let room = self.config.replay.saturating_sub(self.out.held());
        match self.path {
            Some(_) => room.min(self.config.ahead.saturating_sub(self.out.unsent())),
            None => room,
        }
    }

    /// Takes bytes read from the local socket, at most [`local_capacity`](Self::local_capacity) of them. A piece of 4 KiB or more is kept
    /// as it is, smaller ones are gathered.
    ///
    /// # Errors
    /// Nothing is taken when there is no room, after `local_eof`, or when the stream has ended.
    pub fn write_local(&mut self, bytes: Bytes) -> Result<(), WriteError> {
        if self.life != Life::Open {
            return Err(WriteError::Ended);
        }
        if self.out.is_eof() {
            return Err(WriteError::AfterEof);
        }
        let room = self.config.replay.saturating_sub(self.out.held());
        if bytes.len() > room {
            return Err(WriteError::Full {
                length: bytes.len(),
                room,
            });
        }
        if !bytes.is_empty() {
            self.out.push(bytes);
        }
        Ok(())
    }

    /// The local socket has ended its reading side: the peer gets a FIN behind the last byte.
    pub fn local_eof(&mut self) {
        if self.life == Life::Open {
            self.out.end();
        }
    }

    /// The next bytes for the local socket, in order and never empty. They count as delivered when
    /// [`local_written`](Self::local_written) says so.
    pub fn take_for_local(&mut self) -> Option<Bytes> {
        self.inb.take()
    }

    /// `count` of the bytes taken have been written to the local socket.
    pub fn local_written(&mut self, now: Duration, count: usize) {
        if self.life != Life::Open {
            return;
        }
        self.inb.written(count);
        self.after_delivery(now);
    }

    /// Takes in bytes that arrived over the path. Without a path, and after the stream's end, they are ignored.
    ///
    /// Pieces of DATA of 4 KiB and more are kept as slices of `bytes`, so give buffers of at most a few times 64 KiB.
    ///
    /// # Errors
    /// What the peer did that is not allowed: the stream is over then, and a RESET waits to be sent.
    pub fn handle_bytes(&mut self, now: Duration, mut bytes: Bytes) -> Result<(), ProtocolError> {
        loop {
            let Some(path) = self.path.as_mut().filter(|_| self.life == Life::Open) else {
                return Ok(());
            };
            if !bytes.is_empty() {
                path.heard = now;
            }
            let frame = match path.decoder.decode(&mut bytes) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.reset(ResetCode::PROTOCOL);
                    return Err(error.into());
                }
            };
            self.handle_frame(now, frame)?;
        }
    }

    /// Takes in one frame, as [`handle_bytes`](Self::handle_bytes) does with each that it finds.
    ///
    /// # Errors
    /// As there.
    pub fn handle_frame(&mut self, now: Duration, frame: Frame) -> Result<(), ProtocolError> {
        let Some(path) = self.path.as_mut().filter(|_| self.life == Life::Open) else {
            return Ok(());
        };
        path.heard = now;
        let outcome = match frame {
            Frame::Data { offset, bytes } => self.inb.data(offset, bytes),
            Frame::Fin { offset } => self.inb.fin(offset),
            Frame::Ack { delivered, window } => self.out.acknowledge(delivered, window),
            Frame::Ping { nonce } => {
                path.pong_due = Some(nonce);
                Ok(())
            }
            Frame::Pong { nonce } => {
                if let Some((_, sent)) = path.asked.take_if(|(asked, _)| *asked == nonce) {
                    self.round_trip = Some(now.saturating_sub(sent));
                }
                Ok(())
            }
            Frame::News => {
                // However many come, one is enough to make somebody ask.
                if !self.events.contains(&Event::News) {
                    self.events.push_back(Event::News);
                }
                Ok(())
            }
            Frame::Reset { code } => {
                self.give_up(Life::Over);
                self.events.push_back(Event::Reset { code });
                Ok(())
            }
        };
        if let Err(error) = outcome {
            self.reset(ResetCode::PROTOCOL);
            return Err(error);
        }
        if self.life == Life::Open {
            self.after_delivery(now);
        }
        Ok(())
    }

    /// Appends what is to be sent over the path now, until `out` holds about `full` bytes (at least [`LEAST_OUTPUT`] are used); returns how
    /// many were appended. Call it when the path can take bytes, until it returns 0.
    pub fn poll_transmit(&mut self, now: Duration, out: &mut BytesMut, full: usize) -> usize {
        let before = out.len();
        let Some(path) = self.path.as_mut() else {
            return 0;
        };
        match self.life {
            Life::Over => return 0,
            Life::Resetting(code) => {
                Frame::Reset { code }.encode(out);
                self.life = Life::Over;
                return out.len() - before;
            }
            Life::Open => {}
        }
        if let Some(nonce) = path.pong_due.take() {
            Frame::Pong { nonce }.encode(out);
        }
        let ack_due = path.ack_due || path.ack_at.is_some_and(|at| now >= at);
        if ack_due || (self.inb.unannounced() > 0 && self.out.has_more()) {
            self.inb.announce().encode(out);
            path.ack_due = false;
            path.ack_at = None;
        }
        if std::mem::take(&mut path.news_due) {
            Frame::News.encode(out);
        }
        if path.ping_due {
            path.ping_due = false;
            self.nonce += 1;
            path.asked = Some((self.nonce, now));
            Frame::Ping { nonce: self.nonce }.encode(out);
        }
        self.out.transmit(out, full.max(before + LEAST_OUTPUT));
        let appended = out.len() - before;
        if appended > 0 {
            path.sent = now;
            self.check_finished();
        }
        appended
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, unless something happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match (&self.path, self.life) {
            (_, Life::Over) | (Some(_), Life::Resetting(_)) => None,
            (None, _) => Some(self.lost.saturating_add(self.config.retain)),
            (Some(path), Life::Open) => {
                let dead = path.heard.saturating_add(self.config.dead_after);
                let ping =
                    (!path.ping_due).then(|| path.sent.saturating_add(self.config.heartbeat()));
                Some(
                    [path.ack_at, ping]
                        .into_iter()
                        .flatten()
                        .fold(dead, Duration::min),
                )
            }
        }
    }

    /// Does what has become due. Early and repeated calls do no harm.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.life == Life::Over {
            return;
        }
        let Some(path) = self.path.as_mut() else {
            if now >= self.lost.saturating_add(self.config.retain) {
                self.give_up(Life::Over);
                self.events.push_back(Event::Expired);
            }
            return;
        };
        if now >= path.heard.saturating_add(self.config.dead_after) {
            self.path_lost(now);
            self.events.push_back(Event::PathDead);
            return;
        }
        if path.ack_at.is_some_and(|at| now >= at) {
            path.ack_at = None;
            path.ack_due = true;
        }
        if now >= path.sent.saturating_add(self.config.heartbeat()) {
            path.ping_due = true;
        }
    }

    /// The next thing that the driver has to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The path is gone. What was under way is sent again over the next one. Harmless when there is none.
    pub fn path_lost(&mut self, now: Duration) {
        if self.path.take().is_some() {
            self.lost = now;
        }
    }

    /// Position behind everything received in order, the FIN counted as one: what the peer is told on a resume.
    pub fn received(&self) -> u64 {
        self.inb.received()
    }

    /// Whether [`path_replaced`](Self::path_replaced) would accept a peer that has received `peer_received`.
    ///
    /// # Errors
    /// Why it would not.
    pub fn check_resume(&self, peer_received: u64) -> Result<(), PathRefused> {
        match self.life {
            Life::Open => Ok(self.out.check_received(peer_received)?),
            Life::Resetting(_) => Ok(()),
            Life::Over => Err(PathRefused::Ended),
        }
    }

    /// There is a new path, instead of the old one if there was one, and the peer has received everything before `peer_received` (0 for
    /// the first path): sending goes on from there. After a reset that the peer may not know of, the path serves to tell it.
    ///
    /// # Errors
    /// When the stream has ended, or the peer cannot have received that. Nothing has changed then.
    pub fn path_replaced(&mut self, now: Duration, peer_received: u64) -> Result<(), PathRefused> {
        self.check_resume(peer_received)?;
        if self.life == Life::Open {
            self.out.rewind(peer_received);
        }
        self.path = Some(Path {
            decoder: Decoder::default(),
            heard: now,
            sent: now,
            ack_at: None,
            ack_due: true,
            ping_due: true,
            pong_due: None,
            asked: None,
            news_due: self.has_news,
        });
        Ok(())
    }

    /// Tells the peer that there is something to know about the session, now and on every path that comes.
    pub fn tell_news(&mut self) {
        self.has_news = true;
        if let Some(path) = &mut self.path {
            path.news_due = true;
        }
    }

    /// Gives the stream up, both directions; the peer is told over this path or, when there is none, over the next. No effect on a stream that
    /// is over.
    pub fn reset(&mut self, code: ResetCode) {
        if self.life == Life::Open {
            self.give_up(Life::Resetting(code));
        }
    }

    /// Whether bytes can still be exchanged, now or after a resume.
    pub fn is_open(&self) -> bool {
        self.life == Life::Open
    }

    /// Whether nothing more will come or go: after the peer's RESET, an expiry, or a RESET of this end that has been given out to be sent.
    pub fn is_over(&self) -> bool {
        self.life == Life::Over
    }

    /// Whether the peer has delivered everything that the local socket gave, its end included.
    pub fn is_delivered(&self) -> bool {
        self.out.is_finished()
    }

    /// Whether both directions are over and everything was acknowledged.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether there is a path.
    pub fn has_path(&self) -> bool {
        self.path.is_some()
    }

    /// Bytes of the local socket that the peer has not acknowledged; at most `Config::replay`.
    pub fn held(&self) -> usize {
        self.out.held()
    }

    /// Bytes of the peer that have not been written to the local socket; at most `Config::window`.
    pub fn waiting(&self) -> usize {
        self.inb.waiting()
    }

    /// Bytes read from the local socket so far.
    pub fn bytes_from_local(&self) -> u64 {
        self.out.written()
    }

    /// Bytes of the peer received so far, the FIN not counted.
    pub fn bytes_from_peer(&self) -> u64 {
        self.inb.received_bytes()
    }

    /// The latest measured round trip to the peer, over this path or an earlier one.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Looks whether the FIN is due for the local socket, and when an ACK is due for the peer.
    fn after_delivery(&mut self, now: Duration) {
        let fin = self.inb.finish();
        if fin {
            self.events.push_back(Event::PeerFinished);
        }
        let unannounced = self.inb.unannounced();
        if let Some(path) = self.path.as_mut() {
            // A window of less than four acknowledgements is told of earlier, so that the peer is not left waiting for one.
            let enough = ACK_BYTES.min(u64::from(self.config.window) / 4).max(1);
            if fin || unannounced >= enough {
                path.ack_due = true;
            } else if unannounced > 0 && path.ack_at.is_none() {
                path.ack_at = Some(now.saturating_add(ACK_DELAY));
            }
        }
        self.check_finished();
    }

    fn check_finished(&mut self) {
        if !self.finished && self.out.is_finished() && self.inb.end_announced() {
            self.finished = true;
            self.events.push_back(Event::Finished);
        }
    }

    fn give_up(&mut self, life: Life) {
        self.life = life;
        self.out.clear();
        self.inb.clear();
    }
}
