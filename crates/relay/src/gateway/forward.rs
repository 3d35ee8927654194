//! Passing bytes of a gateway's client on to another server, or from it: the bytes are copied, each direction has an end of its
//! own.

use super::End;
use super::passing::{Count, Passing};
use super::socket::Socket;
use crate::sessions::ByteStream;
use crate::stop::Stop;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of the buffer of each direction.
const BUFFER: usize = 64 * 1024;

/// What was passed on.
#[derive(Debug)]
pub struct Forwarded {
    /// Bytes towards the client.
    pub to_client: u64,
    /// Bytes towards the backend.
    pub to_far: u64,
    /// What ended it.
    pub end: End,
}

/// Passes bytes on until both sides have said all, or one of them breaks. `early` came from `near` already.
pub(super) async fn forward(
    near: Socket,
    far: Box<dyn ByteStream>,
    early: &[u8],
    passing: &Passing,
    mut over: Stop,
    mut stop: Stop,
) -> Forwarded {
    let (mut up, mut down) = (Count::new(passing), Count::new(passing));
    let (mut near_read, mut near_write) = tokio::io::split(near);
    let (mut far_read, mut far_write) = tokio::io::split(far);
    let both = async {
        far_write.write_all(early).await?;
        far_write.flush().await?;
        up.add(early.len());
        tokio::try_join!(
            one_way(&mut near_read, &mut far_write, &mut up),
            one_way(&mut far_read, &mut near_write, &mut down)
        )
    };
    let end = tokio::select! {
        done = both => match done {
            Ok(((), ())) => End::Finished,
            Err(error) => End::Broken(error),
        },
        () = over.given() => End::Over,
        () = stop.given() => End::Stopped,
    };
    if !matches!(end, End::Finished) {
        // The other server sees that the stream of TLS was not ended, and does the same.
        near_read.unsplit(near_write).will_reset();
    }
    Forwarded {
        to_client: down.bytes,
        to_far: up.bytes,
        end,
    }
}

/// One direction, to its end.
async fn one_way<R, W>(from: &mut R, to: &mut W, passed: &mut Count<'_>) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..count).unwrap_or_default())
            .await?;
        to.flush().await?;
        passed.add(count);
    }
}
