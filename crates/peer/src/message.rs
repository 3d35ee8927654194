//! Single messages at the opening of a connection, before anything is multiplexed: a length and that many
//! bytes of postcard, bounded before a byte of room is taken.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use wire::frame::HEADER;
use wire::{DecodeError, FrameError};

/// Why no message could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The connection broke or ended.
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    /// More bytes were announced than are allowed here.
    #[error(transparent)]
    TooLong(#[from] FrameError),
    /// The bytes are another message or none.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// Writes one message.
pub(crate) async fn send<S, T>(stream: &mut S, message: &T) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
    T: Serialize,
{
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    wire::frame_into(message, &mut bytes);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Reads one message of at most `limit` bytes.
pub(crate) async fn receive<S, T>(stream: &mut S, limit: usize) -> Result<T, ReceiveError>
where
    S: AsyncRead + Unpin,
    T: DeserializeOwned,
{
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await?;
    let length = wire::frame_length(header, limit)?;
    let mut bytes = zeroize::Zeroizing::new(vec![0; length]);
    stream.read_exact(&mut bytes).await?;
    Ok(wire::decode(&bytes)?)
}
