//! Frames of a multiplexed connection: `length u32 | number u64 | kind u8 | payload`, big-endian; the length
//! counts what follows it.
//!
//! What must always be true: a frame longer than [`PAYLOAD_LIMIT`] allows is refused when its length is
//! read; room for a frame grows with the bytes that have really come, never with what was announced.

use bytes::{Buf, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The most bytes of one request or response.
pub const PAYLOAD_LIMIT: usize = wire::frame::PEER_LIMIT;

/// Bytes of a frame in front of its payload.
pub(crate) const HEADER: usize = 13;

/// Room that is made at once for bytes to come.
const STEP: usize = 64 * 1024;

/// Payloads below this many bytes are copied out of the buffer.
const SHORT: usize = 4 * 1024;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Asks the other end; the number names the request.
    Request,
    /// Answers the request of that number.
    Response,
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
    /// This end stops in an orderly way.
    Goodbye,
    /// The request of that number gets no answer: it would be longer than a frame may be.
    Unanswerable,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Request,
            1 => Self::Response,
            2 => Self::Ping,
            3 => Self::Pong,
            4 => Self::Goodbye,
            5 => Self::Unanswerable,
            _ => return None,
        })
    }

    fn byte(self) -> u8 {
        match self {
            Self::Request => 0,
            Self::Response => 1,
            Self::Ping => 2,
            Self::Pong => 3,
            Self::Goodbye => 4,
            Self::Unanswerable => 5,
        }
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    pub(crate) payload: Bytes,
}

impl Frame {
    pub(crate) fn bare(kind: Kind) -> Self {
        Self {
            number: 0,
            kind,
            payload: Bytes::new(),
        }
    }

    /// What goes in front of the payload.
    pub(crate) fn header(&self) -> [u8; HEADER] {
        let length = u32::try_from(HEADER - 4 + self.payload.len())
            .expect("invariant: payloads are bounded far below 4 GiB before they become frames");
        let mut header = [0; HEADER];
        let (first, rest) = header.split_at_mut(4);
        first.copy_from_slice(&length.to_be_bytes());
        let (second, third) = rest.split_at_mut(8);
        second.copy_from_slice(&self.number.to_be_bytes());
        third.copy_from_slice(&[self.kind.byte()]);
        header
    }
}

/// Why the other end's bytes are not taken.
#[derive(Debug, thiserror::Error)]
pub enum FramingError {
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    /// It ended in the middle of a frame.
    #[error("the connection ended in the middle of a frame")]
    Torn,
    /// A frame was announced that is longer than any may be.
    #[error("a frame of {length} bytes was announced, more than {PAYLOAD_LIMIT} of payload allow")]
    TooLong {
        /// What was announced.
        length: usize,
    },
    /// A frame was announced that is shorter than its own head.
    #[error("a frame of {length} bytes was announced, shorter than its own head")]
    TooShort {
        /// What was announced.
        length: usize,
    },
    /// A kind of frame that this version does not know.
    #[error("frames of kind {kind} are not known here")]
    Kind {
        /// What was found.
        kind: u8,
    },
}

/// Reads frames from a stream. Waiting for the next one may be given up and taken up again.
pub(crate) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// Takes a frame that has already come whole.
    pub(crate) fn ready(&mut self) -> Result<Option<Frame>, FramingError> {
        let Some(announced) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*announced) as usize;
        if length < HEADER - 4 {
            return Err(FramingError::TooShort { length });
        }
        if length > HEADER - 4 + PAYLOAD_LIMIT {
            return Err(FramingError::TooLong { length });
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(4);
        let number = self.buffer.get_u64();
        let kind = self.buffer.get_u8();
        let kind = Kind::from_byte(kind).ok_or(FramingError::Kind { kind })?;
        let payload = self.payload(length - (HEADER - 4));
        Ok(Some(Frame {
            number,
            kind,
            payload,
        }))
    }

    /// Takes what stands first. A short payload is copied, so that it does not keep a whole buffer alive for as
    /// long as somebody keeps it, and the buffer is used again; a long one is handed over as it is.
    fn payload(&mut self, length: usize) -> Bytes {
        if length < SHORT {
            let copy = Bytes::copy_from_slice(self.buffer.get(..length).unwrap_or_default());
            self.buffer.advance(length);
            copy
        } else {
            self.buffer.split_to(length).freeze()
        }
    }

    /// Reads what has come; gives how many bytes, zero at an orderly end. Giving up loses nothing.
    pub(crate) async fn fill(&mut self) -> Result<usize, FramingError> {
        let missing = match self.buffer.first_chunk::<4>() {
            Some(announced) => {
                (4 + u32::from_be_bytes(*announced) as usize).saturating_sub(self.buffer.len())
            }
            None => HEADER,
        };
        if self.buffer.is_empty() && self.buffer.capacity() > 4 * STEP {
            // What a long message needed is not kept for short ones.
            self.buffer = BytesMut::new();
        }
        // At most doubles what has come, so that an announcement alone takes no room.
        let wanted = missing.min(self.buffer.len());
        if self.buffer.capacity() - self.buffer.len() < wanted.max(SHORT) {
            self.buffer.reserve(wanted.max(STEP));
        }
        let count = self.stream.read_buf(&mut self.buffer).await?;
        if count == 0 && !self.buffer.is_empty() {
            return Err(FramingError::Torn);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(frame: &Frame) -> Vec<u8> {
        [&frame.header()[..], &frame.payload].concat()
    }

    async fn next(reader: &mut FrameReader<&[u8]>) -> Result<Option<Frame>, FramingError> {
        loop {
            if let Some(frame) = reader.ready()? {
                return Ok(Some(frame));
            }
            if reader.fill().await? == 0 {
                return Ok(None);
            }
        }
    }

    #[tokio::test]
    async fn frames_are_read_as_they_were_written() {
        let frames: Vec<Frame> = [
            (0, Kind::Request, 0),
            (u64::MAX, Kind::Response, 1),
            (7, Kind::Request, PAYLOAD_LIMIT),
            (0, Kind::Ping, 0),
            (0, Kind::Pong, 0),
            (8, Kind::Unanswerable, 0),
            (0, Kind::Goodbye, 0),
        ]
        .into_iter()
        .map(|(number, kind, length)| Frame {
            number,
            kind,
            payload: vec![0xa5; length].into(),
        })
        .collect();
        let bytes = frames.iter().flat_map(bytes_of).collect::<Vec<_>>();
        let mut reader = FrameReader::new(&bytes[..]);
        for frame in &frames {
            assert_eq!(next(&mut reader).await.unwrap().as_ref(), Some(frame));
        }
        assert_eq!(next(&mut reader).await.unwrap(), None);
    }

    #[tokio::test]
    async fn violations_are_refused_before_room_is_taken() {
        let too_long = ((HEADER - 4 + PAYLOAD_LIMIT + 1) as u32).to_be_bytes();
        for (bytes, expected) in [
            (&too_long[..], "announced"),
            (&[0xff; 40], "announced"),
            (&[0, 0, 0, 8], "shorter"),
            (&[0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 6], "kind 6"),
            (&[0, 0, 0, 10, 0, 0], "middle"),
            (&[0], "middle"),
        ] {
            let mut reader = FrameReader::new(bytes);
            let error = next(&mut reader).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{bytes:?}: {error}");
            assert!(reader.buffer.capacity() <= 2 * STEP);
        }
        // Announces as much as is allowed, but does not send it.
        let announced = ((HEADER - 4 + PAYLOAD_LIMIT) as u32).to_be_bytes();
        let mut reader = FrameReader::new(&announced[..]);
        assert!(matches!(next(&mut reader).await, Err(FramingError::Torn)));
        assert!(reader.buffer.capacity() <= 2 * STEP);
    }

    #[tokio::test]
    async fn buffers_are_used_again_and_not_kept_large() {
        let short = Frame {
            number: 1,
            kind: Kind::Request,
            payload: vec![7; 100].into(),
        };
        let long = Frame {
            number: 2,
            kind: Kind::Request,
            payload: vec![8; PAYLOAD_LIMIT].into(),
        };
        let bytes = [bytes_of(&long), bytes_of(&short).repeat(10_000)].concat();
        let mut reader = FrameReader::new(&bytes[..]);
        let mut kept = vec![next(&mut reader).await.unwrap().unwrap()];
        while let Some(frame) = next(&mut reader).await.unwrap() {
            kept.push(frame);
        }
        assert_eq!((kept.len(), kept.first()), (10_001, Some(&long)));
        assert!(kept.iter().skip(1).all(|frame| *frame == short));
        assert!(
            reader.buffer.capacity() <= 4 * STEP,
            "{}",
            reader.buffer.capacity()
        );
    }

    #[tokio::test]
    async fn random_bytes_never_panic() {
        let mut bytes = vec![0; 4096];
        for _ in 0..200 {
            aws_lc_rs::rand::fill(&mut bytes).unwrap();
            // Short lengths, so that more than the first check is met.
            bytes[0] = 0;
            bytes[1] = 0;
            let mut reader = FrameReader::new(&bytes[..]);
            while let Ok(Some(_)) = next(&mut reader).await {}
        }
    }
}
