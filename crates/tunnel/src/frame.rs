//! The frames that travel inside TLS, and how they are written as bytes.
//!
//! This is a wire format: both ends may be of different releases, so nothing here changes without a new [`VERSION`], which the
//! opening header of a stream carries. Numbers are big-endian.
//!
//! ```text
//! frame  = kind:u8  length:u24  body
//! DATA   = 0x01     9..=65544   offset:u64  1..=65536 bytes of the stream
//! ACK    = 0x02     12          delivered:u64  window:u32
//! FIN    = 0x03     8           offset:u64
//! RESET  = 0x04     4           code:u32
//! PING   = 0x05     8           nonce:u64
//! PONG   = 0x06     8           nonce:u64
//! NEWS   = 0x80     0
//! ```
//!
//! - `offset` counts the bytes of one direction from 0. FIN takes one position itself: a stream of `n` bytes has its FIN at
//!   offset `n`, and a peer that has received (or delivered) the FIN says `n + 1`.
//! - `delivered` is how much of the other direction has been written to the final local socket; it never goes back. The peer may
//!   send DATA up to `delivered + window`, a limit that never goes back either. Before the first ACK of a stream the limit is 0,
//!   so each end begins every path with an ACK.
//! - A DATA frame means the same as several smaller ones with the same bytes.
//! - NEWS says that there is something to know about the session, and to ask a server for it. It may come any number of times.
//! - Kinds from 0x80 on are optional: who does not know one skips its body (at most 65544 bytes). Any other unknown kind is an error.
//!
//! Always true: a [`Decoder`] holds at most 16 bytes of its own, allocates nothing, and answers hostile bytes with an error.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Version of the format on this page; the opening header of a stream carries it.
pub const VERSION: u16 = 1;

/// Most bytes of the stream in one DATA frame.
pub const MAX_DATA: usize = 64 * 1024;

/// Bytes before the payload of a DATA frame: kind, length, offset.
pub const DATA_HEAD: usize = HEAD + 8;

const HEAD: usize = 4;
const MAX_BODY: usize = MAX_DATA + 8;
const FIRST_OPTIONAL: u8 = 0x80;

const DATA: u8 = 0x01;
const ACK: u8 = 0x02;
const FIN: u8 = 0x03;
const RESET: u8 = 0x04;
const PING: u8 = 0x05;
const PONG: u8 = 0x06;
const NEWS: u8 = 0x80;

/// Why an end gave a stream up, as carried by a RESET frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResetCode(pub u32);

impl ResetCode {
    /// Everything was delivered and acknowledged both ways, and the sender forgets the stream: no failure.
    pub const DONE: Self = Self(0);
    /// The sender's local socket failed.
    pub const LOCAL: Self = Self(1);
    /// The sender was sent something that this protocol does not allow.
    pub const PROTOCOL: Self = Self(2);
    /// The sender had no path for longer than it keeps a stream.
    pub const EXPIRED: Self = Self(3);
    /// Another client has taken the session over.
    pub const TAKEN_OVER: Self = Self(4);
    /// The session has ended.
    pub const SESSION_ENDED: Self = Self(5);
    /// The backend could not be reached.
    pub const NO_BACKEND: Self = Self(6);
    /// The sender is over one of its limits.
    pub const OVER_LIMIT: Self = Self(7);
    /// A newer stream of the same client took the place of this one, where only one is possible.
    pub const REPLACED: Self = Self(8);
}

impl fmt::Display for ResetCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match *self {
            Self::DONE => "done",
            Self::LOCAL => "local socket failed",
            Self::PROTOCOL => "protocol violated",
            Self::EXPIRED => "too long without a path",
            Self::TAKEN_OVER => "session taken over by another client",
            Self::SESSION_ENDED => "session ended",
            Self::NO_BACKEND => "backend could not be reached",
            Self::OVER_LIMIT => "over a limit",
            Self::REPLACED => "replaced by a newer stream of the same client",
            Self(code) => return write!(f, "reset code {code}"),
        };
        f.write_str(words)
    }
}

/// One frame. `Debug` shows no bytes of the stream: they may be a password.
#[derive(Clone, PartialEq, Eq)]
pub enum Frame {
    /// Bytes of the stream, the first of them at `offset`.
    Data {
        /// Position of the first byte.
        offset: u64,
        /// 1 to [`MAX_DATA`] bytes.
        bytes: Bytes,
    },
    /// What has been written to the final local socket, and how much may be under way.
    Ack {
        /// Position up to which everything is delivered.
        delivered: u64,
        /// Bytes that may be sent beyond `delivered`.
        window: u32,
    },
    /// This direction ends at `offset`.
    Fin {
        /// Number of bytes that the direction had.
        offset: u64,
    },
    /// The sender gives the stream up, both directions.
    Reset {
        /// Why.
        code: ResetCode,
    },
    /// Asks for a [`Frame::Pong`]; sent when there was nothing else to send.
    Ping {
        /// Comes back in the answer.
        nonce: u64,
    },
    /// The answer to a [`Frame::Ping`].
    Pong {
        /// The asker's nonce.
        nonce: u64,
    },
    /// There is something to know about the session: ask a server.
    News,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data { offset, bytes } => write!(f, "DATA({offset}, {} bytes)", bytes.len()),
            Self::Ack { delivered, window } => write!(f, "ACK({delivered}, {window})"),
            Self::Fin { offset } => write!(f, "FIN({offset})"),
            Self::Reset { code } => write!(f, "RESET({code})"),
            Self::Ping { nonce } => write!(f, "PING({nonce})"),
            Self::Pong { nonce } => write!(f, "PONG({nonce})"),
            Self::News => f.write_str("NEWS"),
        }
    }
}

impl Frame {
    /// Appends the frame to `out`.
    ///
    /// # Panics
    /// When a DATA frame has no bytes or more than [`MAX_DATA`].
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Data { offset, bytes } => {
                encode_data_head(*offset, bytes.len(), out);
                out.extend_from_slice(bytes);
            }
            Self::Ack { delivered, window } => {
                encode_head(ACK, 12, out);
                out.put_u64(*delivered);
                out.put_u32(*window);
            }
            Self::Fin { offset } => encode_number(FIN, *offset, out),
            Self::Reset { code } => {
                encode_head(RESET, 4, out);
                out.put_u32(code.0);
            }
            Self::Ping { nonce } => encode_number(PING, *nonce, out),
            Self::Pong { nonce } => encode_number(PONG, *nonce, out),
            Self::News => encode_head(NEWS, 0, out),
        }
    }
}

/// Appends what comes before the payload of a DATA frame; the caller appends `length` bytes after it.
pub(crate) fn encode_data_head(offset: u64, length: usize, out: &mut BytesMut) {
    assert!(
        (1..=MAX_DATA).contains(&length),
        "a DATA frame carries 1 to {MAX_DATA} bytes, not {length}"
    );
    encode_head(DATA, length + 8, out);
    out.put_u64(offset);
}

fn encode_number(kind: u8, number: u64, out: &mut BytesMut) {
    encode_head(kind, 8, out);
    out.put_u64(number);
}

fn encode_head(kind: u8, length: usize, out: &mut BytesMut) {
    let length = u32::try_from(length).expect("invariant: a body is at most MAX_BODY bytes");
    out.put_u32(u32::from(kind) << 24 | length);
}

/// Bytes that are not a frame of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A kind that is unknown and not optional.
    #[error("unknown frame kind {kind:#04x}")]
    UnknownKind {
        /// The first byte of the frame.
        kind: u8,
    },
    /// A length that the kind cannot have.
    #[error("a frame of kind {kind:#04x} cannot have a body of {length} bytes")]
    BadLength {
        /// The first byte of the frame.
        kind: u8,
        /// The length that was claimed.
        length: u32,
    },
}

/// Turns the bytes of one path into frames, however they are cut into pieces.
#[derive(Debug)]
pub struct Decoder {
    /// Start of a frame that has not arrived whole.
    head: [u8; HEAD + 12],
    have: usize,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Head,
    Data { offset: u64, rest: usize },
    Skip { rest: usize },
    Broken(FrameError),
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            head: [0; HEAD + 12],
            have: 0,
            state: State::Head,
        }
    }
}

impl Decoder {
    /// Takes the next frame off the front of `input`; `None` when all of it is used up.
    ///
    /// The payload of a DATA frame is a slice of `input`, not a copy, and is given as it arrives: a frame whose bytes come in
    /// pieces becomes several [`Frame::Data`].
    ///
    /// # Errors
    /// What makes the bytes no frame. The same error is given for ever after.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Option<Frame>, FrameError> {
        loop {
            match self.state {
                State::Broken(error) => return Err(error),
                State::Data { offset, rest } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let bytes = input.split_to(rest.min(input.len()));
                    let rest = rest - bytes.len();
                    self.state = match rest {
                        0 => State::Head,
                        rest => State::Data {
                            offset: offset.saturating_add(bytes.len() as u64),
                            rest,
                        },
                    };
                    return Ok(Some(Frame::Data { offset, bytes }));
                }
                State::Skip { rest } => {
                    let now = rest.min(input.len());
                    input.advance(now);
                    match rest - now {
                        0 => self.state = State::Head,
                        rest => {
                            self.state = State::Skip { rest };
                            return Ok(None);
                        }
                    }
                }
                State::Head => match self.decode_head(input) {
                    Ok(Head::Frame(frame)) => return Ok(Some(frame)),
                    Ok(Head::Body) => {}
                    Ok(Head::Short) => return Ok(None),
                    Err(error) => {
                        self.state = State::Broken(error);
                        return Err(error);
                    }
                },
            }
        }
    }

    /// Reads the fixed part of a frame; the variable part, if there is one, becomes the new state.
    fn decode_head(&mut self, input: &mut Bytes) -> Result<Head, FrameError> {
        if !self.gather(HEAD, input) {
            return Ok(Head::Short);
        }
        let word = self.head.as_slice().get_u32();
        let (kind, length) = (word.to_be_bytes()[0], word & 0x00ff_ffff);
        let fits = match kind {
            DATA => (9..=MAX_BODY as u32).contains(&length),
            ACK => length == 12,
            FIN | PING | PONG => length == 8,
            RESET => length == 4,
            FIRST_OPTIONAL.. => length <= MAX_BODY as u32,
            _ => return Err(FrameError::UnknownKind { kind }),
        };
        if !fits {
            return Err(FrameError::BadLength { kind, length });
        }
        if kind == NEWS && length == 0 {
            self.have = 0;
            return Ok(Head::Frame(Frame::News));
        }
        if kind >= FIRST_OPTIONAL {
            self.have = 0;
            self.state = State::Skip {
                rest: length as usize,
            };
            return Ok(Head::Body);
        }
        let fixed = if kind == DATA { 8 } else { length as usize };
        if !self.gather(HEAD + fixed, input) {
            return Ok(Head::Short);
        }
        let mut body = self.head.as_slice();
        body.advance(HEAD);
        let head = match kind {
            DATA => {
                self.state = State::Data {
                    offset: body.get_u64(),
                    rest: length as usize - 8,
                };
                Head::Body
            }
            ACK => Head::Frame(Frame::Ack {
                delivered: body.get_u64(),
                window: body.get_u32(),
            }),
            FIN => Head::Frame(Frame::Fin {
                offset: body.get_u64(),
            }),
            RESET => Head::Frame(Frame::Reset {
                code: ResetCode(body.get_u32()),
            }),
            PING => Head::Frame(Frame::Ping {
                nonce: body.get_u64(),
            }),
            _ => Head::Frame(Frame::Pong {
                nonce: body.get_u64(),
            }),
        };
        self.have = 0;
        Ok(head)
    }

    /// Takes bytes from `input` until `head` holds `wanted` of them; false when `input` has too few.
    fn gather(&mut self, wanted: usize, input: &mut Bytes) -> bool {
        if self.have < wanted {
            let more = (wanted - self.have).min(input.len());
            let target = self
                .head
                .get_mut(self.have..self.have + more)
                .expect("invariant: no fixed part is longer than `head`");
            input.copy_to_slice(target);
            self.have += more;
        }
        self.have >= wanted
    }
}

/// What came of reading the fixed part of a frame.
enum Head {
    /// More bytes are needed.
    Short,
    /// A frame without a variable part.
    Frame(Frame),
    /// The variable part follows; `state` says which.
    Body,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(frames: &[Frame]) -> Bytes {
        let mut out = BytesMut::new();
        for frame in frames {
            frame.encode(&mut out);
        }
        out.freeze()
    }

    /// Decodes pieces of at most `step` bytes; the parts of a DATA frame are put together again.
    fn decoded(bytes: &[u8], step: usize) -> Result<Vec<Frame>, FrameError> {
        let mut decoder = Decoder::default();
        let mut frames: Vec<Frame> = Vec::new();
        let mut rest = 0;
        for piece in bytes.chunks(step.max(1)) {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(frame) = decoder.decode(&mut input)? {
                let continues = rest > 0;
                if let State::Data { rest: more, .. } = decoder.state {
                    rest = more;
                } else {
                    rest = 0;
                }
                match (frames.last_mut(), frame) {
                    (Some(Frame::Data { bytes, .. }), Frame::Data { bytes: more, .. })
                        if continues =>
                    {
                        *bytes = [bytes.as_ref(), more.as_ref()].concat().into();
                    }
                    (_, frame) => frames.push(frame),
                }
            }
            assert!(input.is_empty(), "the decoder left {} bytes", input.len());
        }
        Ok(frames)
    }

    fn frame() -> impl Strategy<Value = Frame> {
        prop_oneof![
            (any::<u64>(), prop::collection::vec(any::<u8>(), 1..3000)).prop_map(
                |(offset, bytes)| Frame::Data {
                    offset,
                    bytes: bytes.into()
                }
            ),
            (any::<u64>(), any::<u32>())
                .prop_map(|(delivered, window)| Frame::Ack { delivered, window }),
            any::<u64>().prop_map(|offset| Frame::Fin { offset }),
            any::<u32>().prop_map(|code| Frame::Reset {
                code: ResetCode(code)
            }),
            any::<u64>().prop_map(|nonce| Frame::Ping { nonce }),
            any::<u64>().prop_map(|nonce| Frame::Pong { nonce }),
            Just(Frame::News),
        ]
    }

    #[test]
    fn the_format_stays_as_it_is() {
        let bytes = encoded(&[
            Frame::Data {
                offset: 0x0102,
                bytes: Bytes::from_static(b"ab"),
            },
            Frame::Ack {
                delivered: 3,
                window: 0x0001_0000,
            },
            Frame::Fin { offset: 4 },
            Frame::Reset {
                code: ResetCode::SESSION_ENDED,
            },
            Frame::Ping { nonce: 6 },
            Frame::Pong { nonce: 7 },
            Frame::News,
        ]);
        let expected: &[&[u8]] = &[
            &[1, 0, 0, 10, 0, 0, 0, 0, 0, 0, 1, 2, b'a', b'b'],
            &[2, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 0],
            &[3, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 4],
            &[4, 0, 0, 4, 0, 0, 0, 5],
            &[5, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 6],
            &[6, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7],
            &[0x80, 0, 0, 0],
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn the_longest_frame_passes_and_a_longer_one_does_not() {
        let longest = Frame::Data {
            offset: 9,
            bytes: vec![5; MAX_DATA].into(),
        };
        assert_eq!(
            decoded(&encoded(std::slice::from_ref(&longest)), 1 << 20).unwrap(),
            vec![longest]
        );
        let length = (MAX_BODY + 1) as u32;
        let head = (u32::from(DATA) << 24 | length).to_be_bytes();
        assert_eq!(
            decoded(&head, 4),
            Err(FrameError::BadLength { kind: DATA, length })
        );
    }

    #[test]
    fn a_length_that_the_kind_cannot_have_is_an_error_at_once() {
        for (kind, length) in [
            (DATA, 8),
            (DATA, 0),
            (ACK, 11),
            (FIN, 9),
            (RESET, 0),
            (PING, 0x00ff_ffff),
            (PONG, 7),
            (0x80, 0x01_0009),
        ] {
            let head = (u32::from(kind) << 24 | length).to_be_bytes();
            assert_eq!(
                decoded(&head, 1),
                Err(FrameError::BadLength { kind, length })
            );
        }
        assert_eq!(
            decoded(&[0, 0, 0, 0], 4),
            Err(FrameError::UnknownKind { kind: 0 })
        );
        assert_eq!(
            decoded(&[0x7f, 0, 0, 0], 4),
            Err(FrameError::UnknownKind { kind: 0x7f })
        );
    }

    #[test]
    fn optional_kinds_are_skipped() {
        let mut bytes = vec![0x80, 0, 0, 3, 1, 2, 3, 0xff, 0, 0, 0];
        bytes.extend_from_slice(&encoded(&[Frame::Fin { offset: 1 }]));
        for step in 1..bytes.len() {
            assert_eq!(
                decoded(&bytes, step).unwrap(),
                vec![Frame::Fin { offset: 1 }],
                "pieces of {step}"
            );
        }
    }

    #[test]
    fn an_error_is_for_ever() {
        let mut decoder = Decoder::default();
        let error = decoder
            .decode(&mut Bytes::from_static(&[9, 0, 0, 0]))
            .unwrap_err();
        let mut good = encoded(&[Frame::Fin { offset: 1 }]);
        assert_eq!(decoder.decode(&mut good), Err(error));
    }

    #[test]
    fn debug_shows_no_bytes_of_the_stream() {
        let text = format!(
            "{:?}",
            Frame::Data {
                offset: 7,
                bytes: Bytes::from_static(b"hunter2")
            }
        );
        assert_eq!(text, "DATA(7, 7 bytes)");
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back_in_any_pieces(frames in prop::collection::vec(frame(), 0..20), step in 1usize..5000) {
            prop_assert_eq!(decoded(&encoded(&frames), step).unwrap(), frames);
        }

        #[test]
        fn hostile_bytes_never_panic_and_pieces_do_not_matter(bytes in prop::collection::vec(any::<u8>(), 0..2000), step in 1usize..100) {
            prop_assert_eq!(decoded(&bytes, step).is_ok(), decoded(&bytes, 4000).is_ok());
        }

        #[test]
        fn damaged_frames_never_panic(frames in prop::collection::vec(frame(), 1..8), at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut bytes = encoded(&frames).to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let _ = decoded(&bytes, 77);
        }
    }
}
