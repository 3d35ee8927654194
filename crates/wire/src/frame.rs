//! Frames: a length (32 bits, big-endian) and that many bytes of postcard.
//!
//! The length is checked against the limit of the conversation before anything is allocated.

use serde::{Serialize, de::DeserializeOwned};

/// The bytes of a frame's length field.
pub const HEADER: usize = 4;
/// The most bytes that anybody who has not proved himself may put in one frame.
pub const UNPROVED_LIMIT: usize = 4 * 1024;
/// The most bytes of a frame between a client and a server.
pub const CLIENT_LIMIT: usize = 64 * 1024;
/// The most bytes of a message between servers.
pub const PEER_LIMIT: usize = 8 * 1024 * 1024;

/// A frame that cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The other side announced more than this conversation allows.
    #[error("a frame of {length} bytes was announced, at most {limit} are allowed here")]
    TooLong {
        /// What was announced.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
}

/// Bytes that are not the message that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct DecodeError(#[from] postcard::Error);

/// Encodes a message without a frame.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_stdvec(message).expect("messages are plain data: encoding to memory cannot fail")
}

/// Decodes a message that fills the bytes exactly.
///
/// # Errors
/// The bytes are something else.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (message, rest) = postcard::take_from_bytes(bytes)?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(DecodeError(postcard::Error::DeserializeBadEncoding))
    }
}

/// Appends a message with its length in front.
pub fn frame_into<T: Serialize>(message: &T, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    let body = encode(message);
    out.extend_from_slice(&body);
    let length = u32::try_from(body.len()).expect("messages are bounded far below 4 GiB");
    if let Some(header) = out.get_mut(start..start + HEADER) {
        header.copy_from_slice(&length.to_be_bytes());
    }
}

/// Reads a frame's length.
///
/// # Errors
/// It is above `limit`.
pub fn frame_length(header: [u8; HEADER], limit: usize) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(header) as usize;
    if length > limit {
        Err(FrameError::TooLong { length, limit })
    } else {
        Ok(length)
    }
}
