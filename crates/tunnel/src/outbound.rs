//! The half that goes from the local socket to the peer: the replay buffer and what of it has been sent.
//!
//! Always true: `acked <= sent <= written`, everything from `acked` to `written` is held, and nothing beyond the peer's limit is
//! sent. Positions count the FIN as one more than the bytes.

use bytes::{Bytes, BytesMut};

use crate::chunks::{Chunks, Cursor};
use crate::error::{OffsetRefused, ProtocolError};
use crate::frame::{self, DATA_HEAD, Frame, MAX_DATA};

/// Bytes read from the local socket and not yet acknowledged.
#[derive(Default)]
pub(crate) struct Outbound {
    held: Chunks,
    /// Where in `held` the next byte to send is.
    next: Cursor,
    /// Bytes that the peer has delivered; the first byte of `held` has this offset.
    acked: u64,
    /// Bytes sent on this path, or known to have been received over an earlier one.
    sent: u64,
    /// The peer takes bytes up to this offset.
    limit: u64,
    /// The local socket has no more bytes.
    eof: bool,
    fin_sent: bool,
    fin_acked: bool,
}

impl Outbound {
    /// Offset behind the last byte that the local socket gave.
    pub(crate) fn written(&self) -> u64 {
        self.acked + self.held.len() as u64
    }

    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn unsent(&self) -> usize {
        usize::try_from(self.written() - self.sent)
            .expect("invariant: what is unsent is held in memory")
    }

    pub(crate) fn is_eof(&self) -> bool {
        self.eof
    }

    /// The peer has delivered everything, the FIN included.
    pub(crate) fn is_finished(&self) -> bool {
        self.fin_acked
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.held.push(bytes);
    }

    pub(crate) fn end(&mut self) {
        self.eof = true;
    }

    pub(crate) fn clear(&mut self) {
        self.acked = self.written();
        self.sent = self.acked;
        self.held.clear();
        self.next = Cursor::default();
    }

    fn acked_position(&self) -> u64 {
        self.acked + u64::from(self.fin_acked)
    }

    fn sent_position(&self) -> u64 {
        self.sent + u64::from(self.fin_sent)
    }

    /// The peer has delivered everything before `delivered` and takes `window` more.
    pub(crate) fn acknowledge(&mut self, delivered: u64, window: u32) -> Result<(), ProtocolError> {
        let (acked, sent) = (self.acked_position(), self.sent_position());
        if delivered > sent {
            return Err(ProtocolError::AckBeyondSent { delivered, sent });
        }
        if delivered < acked {
            return Err(ProtocolError::AckWentBack { delivered, acked });
        }
        let limit = delivered.saturating_add(u64::from(window));
        if limit < self.limit {
            return Err(ProtocolError::WindowWithdrawn {
                limit,
                promised: self.limit,
            });
        }
        self.limit = limit;
        let bytes = delivered.min(self.sent) - self.acked;
        self.held.drop_front(
            usize::try_from(bytes)
                .expect("invariant: what is sent and not acknowledged is held in memory"),
            &mut self.next,
        );
        self.acked += bytes;
        self.fin_acked = delivered > self.acked;
        Ok(())
    }

    /// Whether the peer can have received exactly `received`.
    pub(crate) fn check_received(&self, received: u64) -> Result<(), OffsetRefused> {
        let (acked, sent) = (self.acked_position(), self.sent_position());
        if received < acked || received > sent {
            Err(OffsetRefused {
                received,
                acked,
                sent,
            })
        } else {
            Ok(())
        }
    }

    /// Sending goes on behind what the peer has received; [`check_received`](Self::check_received) has passed.
    pub(crate) fn rewind(&mut self, received: u64) {
        let written = self.written();
        self.fin_sent = received > written;
        self.sent = received.min(written);
        self.next = self.held.seek(
            usize::try_from(self.sent - self.acked)
                .expect("invariant: what is sent and not acknowledged is held in memory"),
        );
    }

    /// Whether [`transmit`](Self::transmit) has something to send.
    pub(crate) fn has_more(&self) -> bool {
        self.sent < self.written().min(self.limit)
            || (self.eof && !self.fin_sent && self.sent == self.written())
    }

    /// Appends DATA frames, and the FIN behind the last byte, until `out` has `full` bytes; one small frame may go beyond.
    pub(crate) fn transmit(&mut self, out: &mut BytesMut, full: usize) {
        loop {
            let allowed =
                usize::try_from(self.limit.saturating_sub(self.sent)).unwrap_or(usize::MAX);
            let room = full.saturating_sub(out.len()).saturating_sub(DATA_HEAD);
            let count = self.unsent().min(allowed).min(room).min(MAX_DATA);
            if count == 0 {
                break;
            }
            frame::encode_data_head(self.sent, count, out);
            self.held.copy(&mut self.next, count, out);
            self.sent += count as u64;
        }
        if self.eof && !self.fin_sent && self.unsent() == 0 {
            Frame::Fin { offset: self.sent }.encode(out);
            self.fin_sent = true;
        }
    }
}
