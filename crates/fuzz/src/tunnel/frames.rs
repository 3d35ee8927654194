//! Frames of the tunnel, as bytes.

use bytes::{Bytes, BytesMut};
use tunnel::frame::Decoder;
use tunnel::{Frame, FrameError, ResetCode};

use crate::input::{Input, pieces};
use crate::memory::at_most;

/// What was decoded, where the pieces in which data came make no difference.
#[derive(Debug, PartialEq)]
enum Part {
    /// One byte of data.
    Byte(u64, u8),
    /// Any other frame.
    Frame(Frame),
}

/// Frames, at once and in pieces, and encoded again.
pub fn tunnel_frames(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let cuts = input.byte();
    let bytes = input.rest();
    let whole = decoded(std::iter::once(bytes));
    let cut = decoded(pieces(bytes, cuts));
    assert_eq!(parts(&whole.0), parts(&cut.0), "at once, and in pieces");
    assert_eq!(whole.1, cut.1, "at once, and in pieces");

    let mut again = BytesMut::new();
    for frame in &whole.0 {
        frame.encode(&mut again);
        let _ = format!("{frame:?}");
    }
    // An unfinished frame of data becomes a shorter one, and what was skipped is missing.
    assert!(again.len() <= bytes.len(), "frames grew");
    let (frames, error) = decoded(std::iter::once(&again[..]));
    assert_eq!((&frames, error), (&whole.0, None), "encoded and decoded");
}

fn parts(frames: &[Frame]) -> Vec<Part> {
    let mut parts = Vec::new();
    for frame in frames {
        match frame {
            Frame::Data { offset, bytes } => {
                assert!(!bytes.is_empty(), "a frame of no data");
                let positions = (0..).map(|place| offset.saturating_add(place));
                let both = positions.zip(bytes.iter());
                parts.extend(both.map(|(position, byte)| Part::Byte(position, *byte)));
            }
            other => parts.push(Part::Frame(other.clone())),
        }
    }
    parts
}

/// The frames of a path that brings these pieces, and what it ended with.
fn decoded<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<FrameError>) {
    /// What it takes to share a piece of memory.
    const SHARED: usize = 64;
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            let before = input.len();
            let found = at_most(SHARED, || decoder.decode(&mut input));
            assert!(input.len() <= before, "bytes came from nowhere");
            match found {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    let mut good = Bytes::from_static(&[0x80, 0, 0, 0]);
                    assert_eq!(decoder.decode(&mut good), Err(error), "an error passed");
                    return (frames, Some(error));
                }
            }
        }
        assert!(input.is_empty(), "{} bytes were left", input.len());
    }
    (frames, None)
}

pub(crate) fn tunnel_frames_seeds() -> Vec<Vec<u8>> {
    let frames = [
        Frame::Ack {
            delivered: 0,
            window: 4 << 20,
        },
        Frame::Ping { nonce: 1 },
        Frame::Data {
            offset: 0,
            bytes: Bytes::from_static(b"some bytes"),
        },
        Frame::News,
        Frame::Data {
            offset: 10,
            bytes: vec![7; 5000].into(),
        },
        Frame::Pong { nonce: 1 },
        Frame::Fin { offset: 5010 },
        Frame::Reset {
            code: ResetCode::DONE,
        },
    ];
    let mut seeds = Vec::new();
    let mut all = BytesMut::from(&[2][..]);
    for frame in &frames {
        let mut one = BytesMut::from(&[0][..]);
        frame.encode(&mut one);
        frame.encode(&mut all);
        seeds.push(one.to_vec());
    }
    // A kind that nobody knows, which is skipped.
    all.extend_from_slice(&[0xF0, 0, 0, 3, 1, 2, 3]);
    seeds.push(all.to_vec());
    seeds
}
