//! The half that comes from the peer and goes to the local socket.
//!
//! Always true: `delivered <= taken <= received <= limit`, and the limit that was promised to the peer never goes back. Positions
//! count the FIN as one more than the bytes; the FIN is delivered when every byte before it has been.

use bytes::{Buf, Bytes};

use crate::chunks::Chunks;
use crate::error::ProtocolError;
use crate::frame::Frame;

/// Bytes received and not yet written to the local socket.
pub(crate) struct Inbound {
    queue: Chunks,
    window: u32,
    /// Bytes received in order.
    received: u64,
    /// Where the direction ends, once the FIN has been received.
    fin: Option<u64>,
    /// Bytes handed out to be written to the local socket.
    taken: u64,
    /// Bytes written to the local socket.
    delivered: u64,
    /// The end has been passed on to the local socket.
    finished: bool,
    /// The position that the last ACK told the peer; `None` before the first.
    announced: Option<u64>,
    /// Bytes that the peer may send in all.
    limit: u64,
}

impl Inbound {
    pub(crate) fn new(window: u32) -> Self {
        Self {
            queue: Chunks::default(),
            window,
            received: 0,
            fin: None,
            taken: 0,
            delivered: 0,
            finished: false,
            announced: None,
            limit: 0,
        }
    }

    /// Position behind what was received in order.
    pub(crate) fn received(&self) -> u64 {
        self.received + u64::from(self.fin.is_some())
    }

    /// Position behind what was delivered.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered + u64::from(self.finished)
    }

    /// Bytes received and not written to the local socket.
    pub(crate) fn waiting(&self) -> usize {
        usize::try_from(self.received - self.delivered)
            .expect("invariant: no more than a window waits")
    }

    /// Bytes received in order, the FIN not counted.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received
    }

    /// How much was delivered that the peer has not been told of.
    pub(crate) fn unannounced(&self) -> u64 {
        self.delivered() - self.announced.unwrap_or(0)
    }

    /// The peer has been told (though maybe over a path that broke) that all is delivered.
    pub(crate) fn end_announced(&self) -> bool {
        self.finished && self.announced == Some(self.delivered())
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.taken = self.received;
        self.delivered = self.received;
    }

    /// Takes in what is new of a piece of data.
    pub(crate) fn data(&mut self, offset: u64, mut bytes: Bytes) -> Result<(), ProtocolError> {
        let length = bytes.len() as u64;
        let Some(end) = offset.checked_add(length) else {
            return Err(ProtocolError::WindowExceeded {
                end: u64::MAX,
                limit: self.limit,
            });
        };
        if let Some(fin) = self.fin
            && end > fin
        {
            return Err(ProtocolError::DataAfterFin { end, fin });
        }
        if offset > self.received {
            return Err(ProtocolError::Gap {
                offset,
                expected: self.received,
            });
        }
        if end > self.limit {
            return Err(ProtocolError::WindowExceeded {
                end,
                limit: self.limit,
            });
        }
        let known = (self.received - offset).min(length);
        bytes.advance(usize::try_from(known).expect("invariant: at most the length of a piece"));
        self.received += bytes.len() as u64;
        if !bytes.is_empty() {
            self.queue.push(bytes);
        }
        Ok(())
    }

    /// Takes in the end of the direction.
    pub(crate) fn fin(&mut self, offset: u64) -> Result<(), ProtocolError> {
        match self.fin {
            Some(fin) if fin == offset => Ok(()),
            Some(fin) => Err(ProtocolError::FinMoved { offset, fin }),
            None if offset > self.received => Err(ProtocolError::Gap {
                offset,
                expected: self.received,
            }),
            None if offset < self.received => Err(ProtocolError::FinBeforeData {
                offset,
                received: self.received,
            }),
            None => {
                self.fin = Some(offset);
                Ok(())
            }
        }
    }

    pub(crate) fn take(&mut self) -> Option<Bytes> {
        let bytes = self.queue.pop()?;
        self.taken += bytes.len() as u64;
        Some(bytes)
    }

    /// `count` bytes were written to the local socket, at most as many as were taken.
    pub(crate) fn written(&mut self, count: usize) {
        let taken = self.taken - self.delivered;
        debug_assert!(
            count as u64 <= taken,
            "{count} bytes written of {taken} taken"
        );
        self.delivered += taken.min(count as u64);
    }

    /// True once, when everything before the FIN is delivered.
    pub(crate) fn finish(&mut self) -> bool {
        let now = !self.finished && self.fin == Some(self.delivered);
        self.finished |= now;
        now
    }

    /// The ACK that tells the peer where we are.
    pub(crate) fn announce(&mut self) -> Frame {
        let delivered = self.delivered();
        self.announced = Some(delivered);
        self.limit = self
            .limit
            .max(delivered.saturating_add(u64::from(self.window)));
        Frame::Ack {
            delivered,
            window: self.window,
        }
    }
}
