//! The rules of a stream, written a second time: everything is kept, nothing is clever.
//!
//! It is told what is done to an end of a stream, says what must come of it, and reads everything that the end sends.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tunnel::frame::Decoder;
use tunnel::stream::ACK_BYTES;
use tunnel::{Config, Event, Frame, ResetCode};

/// Whether the stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Open,
    /// Given up; the peer is to be told.
    Resetting(ResetCode),
    Over,
}

/// What ends with a path.
#[derive(Default)]
pub(super) struct Path {
    pub(super) decoder: Decoder,
    pub(super) heard: Duration,
    /// Whether the acknowledgement with which a path begins was sent.
    begun: bool,
    pong_due: Option<u64>,
    news_due: bool,
}

/// What an end must be like.
pub(super) struct Twin {
    pub(super) config: Config,
    pub(super) life: Life,
    pub(super) path: Option<Path>,
    pub(super) lost: Duration,
    pub(super) events: VecDeque<Event>,
    pub(super) finished: bool,
    nonce: u64,
    has_news: bool,

    /// All that came from the peer, in order.
    pub(super) received: Vec<u8>,
    pub(super) fin: Option<u64>,
    pub(super) taken: usize,
    pub(super) delivered: usize,
    /// The local socket has been told the end.
    told_end: bool,
    /// The position that the peer has been told of.
    announced: Option<u64>,
    /// How much the peer may send in all.
    pub(super) promised: u64,

    /// All that the local socket gave.
    pub(super) written: Vec<u8>,
    pub(super) eof: bool,
    pub(super) sent: u64,
    pub(super) fin_sent: bool,
    /// Position up to which the peer has everything, the FIN counted.
    pub(super) acked: u64,
    /// How much may be sent in all.
    pub(super) allowed: u64,
}

impl Twin {
    pub(super) fn new(config: Config, now: Duration) -> Self {
        Self {
            config,
            life: Life::Open,
            path: None,
            lost: now,
            events: VecDeque::new(),
            finished: false,
            nonce: 0,
            has_news: false,
            received: Vec::new(),
            fin: None,
            taken: 0,
            delivered: 0,
            told_end: false,
            announced: None,
            promised: 0,
            written: Vec::new(),
            eof: false,
            sent: 0,
            fin_sent: false,
            acked: 0,
            allowed: 0,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.life == Life::Open
    }

    /// Bytes of the local socket that the peer has.
    pub(super) fn acked_bytes(&self) -> u64 {
        self.acked.min(self.written.len() as u64)
    }

    pub(super) fn is_fin_acked(&self) -> bool {
        self.acked > self.written.len() as u64
    }

    pub(super) fn sent_position(&self) -> u64 {
        self.sent + u64::from(self.fin_sent)
    }

    fn delivered_position(&self) -> u64 {
        self.delivered as u64 + u64::from(self.told_end)
    }

    /// How much was delivered that the peer has not been told of.
    pub(super) fn unannounced(&self) -> u64 {
        self.delivered_position() - self.announced.unwrap_or(0)
    }

    /// How much of that may wait.
    pub(super) fn may_wait(&self) -> u64 {
        let quarter = u64::from(self.config.window) / 4;
        ACK_BYTES.min(quarter).max(1) - 1
    }

    /// A new path; whether it can be one.
    pub(super) fn path_replaced(&mut self, now: Duration, peer_received: u64) -> bool {
        let possible = (self.acked..=self.sent_position()).contains(&peer_received);
        match self.life {
            Life::Over => return false,
            Life::Open if !possible => return false,
            Life::Open => {
                let written = self.written.len() as u64;
                self.sent = peer_received.min(written);
                self.fin_sent = peer_received > written;
            }
            Life::Resetting(_) => {}
        }
        self.path = Some(Path {
            heard: now,
            news_due: self.has_news,
            ..Path::default()
        });
        true
    }

    pub(super) fn path_lost(&mut self, now: Duration) {
        if self.path.take().is_some() {
            self.lost = now;
        }
    }

    pub(super) fn news(&mut self) {
        self.has_news = true;
        if let Some(path) = &mut self.path {
            path.news_due = true;
        }
    }

    pub(super) fn reset(&mut self, code: ResetCode) {
        if self.is_open() {
            self.life = Life::Resetting(code);
        }
    }

    /// A frame of the peer; whether it is allowed.
    pub(super) fn frame(&mut self, now: Duration, frame: &Frame) -> bool {
        let Some(path) = self.path.as_mut().filter(|_| self.life == Life::Open) else {
            return true;
        };
        path.heard = now;
        let allowed = match frame {
            Frame::Data { offset, bytes } => self.data(*offset, bytes),
            Frame::Fin { offset } => self.end(*offset),
            Frame::Ack { delivered, window } => self.acknowledge(*delivered, *window),
            Frame::Ping { nonce } => {
                path.pong_due = Some(*nonce);
                true
            }
            Frame::Pong { .. } => true,
            Frame::News => {
                if !self.events.contains(&Event::News) {
                    self.events.push_back(Event::News);
                }
                true
            }
            Frame::Reset { code } => {
                self.life = Life::Over;
                self.events.push_back(Event::Reset { code: *code });
                true
            }
        };
        if !allowed {
            self.reset(ResetCode::PROTOCOL);
        }
        self.after_delivery();
        allowed
    }

    fn data(&mut self, offset: u64, bytes: &Bytes) -> bool {
        let end = u128::from(offset) + bytes.len() as u128;
        let received = self.received.len() as u64;
        let behind_the_end = self.fin.is_some_and(|fin| end > u128::from(fin));
        if offset > received || end > u128::from(self.promised) || behind_the_end {
            return false;
        }
        let known = usize::try_from(received - offset).unwrap_or(usize::MAX);
        self.received
            .extend_from_slice(bytes.get(known..).unwrap_or_default());
        true
    }

    fn end(&mut self, offset: u64) -> bool {
        let end = self.fin.unwrap_or(self.received.len() as u64);
        let fits = offset == end;
        if fits {
            self.fin = Some(end);
        }
        fits
    }

    fn acknowledge(&mut self, delivered: u64, window: u32) -> bool {
        let limit = u128::from(delivered) + u128::from(window);
        let fits = (self.acked..=self.sent_position()).contains(&delivered)
            && limit >= u128::from(self.allowed);
        if fits {
            self.acked = delivered;
            self.allowed = u64::try_from(limit).unwrap_or(u64::MAX);
        }
        fits
    }

    /// The local socket took so many bytes.
    pub(super) fn local_written(&mut self, count: usize) {
        if self.is_open() {
            self.delivered += count;
            self.after_delivery();
        }
    }

    fn after_delivery(&mut self) {
        if !self.is_open() {
            return;
        }
        if !self.told_end && self.fin == Some(self.delivered as u64) {
            self.told_end = true;
            self.events.push_back(Event::PeerFinished);
        }
        self.check_finished();
    }

    fn check_finished(&mut self) {
        let told = self.told_end && self.announced == Some(self.delivered_position());
        if !self.finished && self.is_fin_acked() && told {
            self.finished = true;
            self.events.push_back(Event::Finished);
        }
    }

    pub(super) fn timeout(&mut self, now: Duration) {
        let Some(path) = &self.path else {
            if self.life != Life::Over && now >= self.lost + self.config.retain {
                self.life = Life::Over;
                self.events.push_back(Event::Expired);
            }
            return;
        };
        if self.life != Life::Over && now >= path.heard + self.config.dead_after {
            self.path_lost(now);
            self.events.push_back(Event::PathDead);
        }
    }

    /// Reads what the end gave out to be sent.
    pub(super) fn sends(&mut self, bytes: &Bytes) {
        let (mut rest, mut decoder, mut sizes) = (bytes.clone(), Decoder::default(), 0);
        while let Some(frame) = decoder.decode(&mut rest).expect("an end sends frames") {
            sizes += size(&frame);
            self.sends_frame(&frame);
        }
        assert_eq!(sizes, bytes.len(), "an end sends whole frames");
        if bytes.is_empty() {
            return;
        }
        if self.is_open()
            && let Some(path) = &self.path
        {
            assert_eq!(path.pong_due, None, "a PING was not answered");
            assert!(!path.news_due, "news were not told");
            self.check_finished();
        }
    }

    fn sends_frame(&mut self, frame: &Frame) {
        let delivered_position = self.delivered_position();
        let path = self.path.as_mut().expect("sent without a path");
        if let Life::Resetting(code) = self.life {
            assert_eq!(*frame, Frame::Reset { code });
            self.life = Life::Over;
            return;
        }
        assert_eq!(self.life, Life::Open, "{frame:?} was sent after the end");
        match frame {
            Frame::Ack { delivered, window } => {
                path.begun = true;
                assert_eq!(*delivered, delivered_position);
                assert_eq!(*window, self.config.window);
                self.announced = Some(*delivered);
                self.promised = self.promised.max(delivered + u64::from(*window));
            }
            Frame::Data { offset, bytes } => {
                assert!(path.begun, "data before the first ACK");
                assert!(!self.fin_sent && *offset == self.sent, "{frame:?}");
                self.sent += bytes.len() as u64;
                assert!(self.sent <= self.allowed, "beyond what was allowed");
                let start = usize::try_from(*offset).unwrap_or(usize::MAX);
                let own = self.written.get(start..).unwrap_or_default();
                assert!(own.starts_with(bytes), "other bytes than were given");
            }
            Frame::Fin { offset } => {
                assert!(self.eof && !self.fin_sent && path.begun);
                assert_eq!((*offset, self.sent), (self.written.len() as u64, *offset));
                self.fin_sent = true;
            }
            Frame::Ping { nonce } => {
                self.nonce += 1;
                assert_eq!(*nonce, self.nonce);
            }
            Frame::Pong { nonce } => assert_eq!(path.pong_due.take(), Some(*nonce)),
            Frame::News => assert!(std::mem::take(&mut path.news_due)),
            Frame::Reset { .. } => panic!("a reset that nobody asked for"),
        }
    }
}

/// Bytes that a frame takes.
fn size(frame: &Frame) -> usize {
    match frame {
        Frame::Data { bytes, .. } => 12 + bytes.len(),
        Frame::Ack { .. } => 16,
        Frame::Fin { .. } | Frame::Ping { .. } | Frame::Pong { .. } => 12,
        Frame::Reset { .. } => 8,
        Frame::News => 4,
    }
}
