//! Passing bytes between a client and the far side (a keeper, or the server that hosts the session).
//!
//! The bytes are the tunnel's frames inside, which nobody here looks at. So the pipe ends as soon as either side does: what was
//! under way is sent again over the next path. A server that stops closes both sides at once, and its clients move.
//!
//! Always true: each direction holds at most one buffer of [`LARGEST`] bytes, and an idle one [`SMALLEST`].

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::stop::Stop;

/// Bytes of the buffer of an idle direction.
pub const SMALLEST: usize = 4 * 1024;
/// Bytes of the buffer of a busy direction.
pub const LARGEST: usize = 256 * 1024;
/// A buffer that was filled to less than a quarter this many times in a row becomes smaller.
const PATIENCE: u32 = 64;

/// What ended a pipe.
#[derive(Debug)]
pub enum PipeEnd {
    /// The client closed its side.
    ClientClosed,
    /// The far side closed.
    FarClosed,
    /// This server stops.
    Stopped,
    /// Reading from or writing to the client failed.
    ClientFailed(io::Error),
    /// Reading from or writing to the far side failed.
    FarFailed(io::Error),
}

/// What a pipe has passed on.
#[derive(Debug)]
pub struct Piped {
    /// Bytes from the far side, written to the client.
    pub to_client: u64,
    /// Bytes from the client, written to the far side.
    pub to_far: u64,
    /// What ended it.
    pub end: PipeEnd,
}

/// Passes bytes both ways until either side ends or the server stops, then closes both.
pub async fn pipe<C, F>(client: C, far: F, mut stop: Stop) -> Piped
where
    C: AsyncRead + AsyncWrite + Unpin,
    F: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_far, mut to_far) = tokio::io::split(far);
    let (mut up, mut down) = (0, 0);
    let end = tokio::select! {
        end = pass(&mut from_client, &mut to_far, &mut up) => match end {
            PassEnd::Closed => PipeEnd::ClientClosed,
            PassEnd::ReadFailed(error) => PipeEnd::ClientFailed(error),
            PassEnd::WriteFailed(error) => PipeEnd::FarFailed(error),
        },
        end = pass(&mut from_far, &mut to_client, &mut down) => match end {
            PassEnd::Closed => PipeEnd::FarClosed,
            PassEnd::ReadFailed(error) => PipeEnd::FarFailed(error),
            PassEnd::WriteFailed(error) => PipeEnd::ClientFailed(error),
        },
        () = stop.given() => PipeEnd::Stopped,
    };
    close(&mut to_client, &mut to_far).await;
    Piped {
        to_client: down,
        to_far: up,
        end,
    }
}

/// Says goodbye to both sides, without waiting for one that does not take it.
async fn close<C, F>(to_client: &mut C, to_far: &mut F)
where
    C: AsyncWrite + Unpin,
    F: AsyncWrite + Unpin,
{
    const GOODBYE: std::time::Duration = std::time::Duration::from_millis(250);
    let both = async {
        // Either may be broken already; it is closed all the same.
        let _ = tokio::join!(to_client.shutdown(), to_far.shutdown());
    };
    let _ = tokio::time::timeout(GOODBYE, both).await;
}

enum PassEnd {
    Closed,
    ReadFailed(io::Error),
    WriteFailed(io::Error),
}

/// One direction. Counts in `passed`, which is right also when this future is dropped half-way.
async fn pass<R, W>(from: &mut R, to: &mut W, passed: &mut u64) -> PassEnd
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; SMALLEST];
    let mut sparse = 0;
    loop {
        let count = match poll_fn(|cx| fill(cx, from, &mut buffer)).await {
            Ok(0) => return PassEnd::Closed,
            Ok(count) => count,
            Err(error) => return PassEnd::ReadFailed(error),
        };
        let bytes = buffer
            .get(..count)
            .expect("invariant: no more was read than fits");
        if let Err(error) = write(to, bytes, passed).await {
            return PassEnd::WriteFailed(error);
        }
        resize(&mut buffer, count, &mut sparse);
    }
}

async fn write<W: AsyncWrite + Unpin>(
    to: &mut W,
    mut bytes: &[u8],
    passed: &mut u64,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = to.write(bytes).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        *passed += count as u64;
        bytes = bytes.get(count..).unwrap_or_default();
    }
    to.flush().await
}

/// Reads what there is, in as many steps as it takes: TLS gives records, which are written on together.
fn fill<R: AsyncRead + Unpin>(
    cx: &mut Context<'_>,
    from: &mut R,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer))?;
    let mut before = 0;
    while buffer.filled().len() > before && buffer.remaining() > 0 {
        before = buffer.filled().len();
        match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) => {}
            // An error, too, comes again at the next read, after what was read before it has been passed on.
            Poll::Ready(Err(_)) | Poll::Pending => break,
        }
    }
    Poll::Ready(Ok(buffer.filled().len()))
}

/// Doubles a buffer that was filled; halves one that has been too large for a while.
fn resize(buffer: &mut Vec<u8>, filled: usize, sparse: &mut u32) {
    let size = buffer.len();
    if filled == size && size < LARGEST {
        buffer.resize(size * 2, 0);
        *sparse = 0;
    } else if filled < size / 4 && size > SMALLEST {
        *sparse += 1;
        if *sparse >= PATIENCE {
            *sparse = 0;
            buffer.truncate(size / 2);
            buffer.shrink_to_fit();
        }
    } else {
        *sparse = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::Stopper;
    use tokio::io::{AsyncReadExt, duplex};

    fn pattern(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        (0..length)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect()
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_are_counted() {
        let (mut viewer, client) = duplex(5_000);
        let (far, mut keeper) = duplex(7_000);
        let (_stopper, stop) = Stopper::new();
        let running = tokio::spawn(pipe(client, far, stop));
        let (up, down) = (pattern(3_000_000, 1), pattern(2_000_000, 2));
        let (mut got_up, mut got_down) = (vec![0; up.len()], vec![0; down.len()]);
        {
            let (mut viewer_read, mut viewer_write) = tokio::io::split(&mut viewer);
            let (mut keeper_read, mut keeper_write) = tokio::io::split(&mut keeper);
            let outcome = tokio::join!(
                viewer_write.write_all(&up),
                keeper_read.read_exact(&mut got_up),
                keeper_write.write_all(&down),
                viewer_read.read_exact(&mut got_down),
            );
            outcome.0.unwrap();
            outcome.1.unwrap();
            outcome.2.unwrap();
            outcome.3.unwrap();
        }
        assert!(got_up == up && got_down == down, "bytes were changed");
        drop(viewer);
        let piped = running.await.unwrap();
        assert_eq!((piped.to_far, piped.to_client), (3_000_000, 2_000_000));
        assert!(
            matches!(piped.end, PipeEnd::ClientClosed),
            "{:?}",
            piped.end
        );
    }

    #[tokio::test]
    async fn what_the_far_side_sent_before_it_closed_arrives() {
        let (mut viewer, client) = duplex(64);
        let (far, mut keeper) = duplex(1 << 20);
        let (_stopper, stop) = Stopper::new();
        let running = tokio::spawn(pipe(client, far, stop));
        keeper.write_all(&[7; 100_000]).await.unwrap();
        drop(keeper);
        let mut got = Vec::new();
        viewer.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, vec![7; 100_000]);
        assert!(matches!(running.await.unwrap().end, PipeEnd::FarClosed));
    }

    #[tokio::test]
    async fn an_orderly_stop_closes_both_sides_even_when_nobody_reads() {
        let (mut viewer, client) = duplex(16);
        let (far, mut keeper) = duplex(16);
        let (stopper, stop) = Stopper::new();
        let running = tokio::spawn(pipe(client, far, stop));
        // Both directions are stuck: the other ends do not read.
        viewer.write_all(&[1; 16]).await.unwrap();
        keeper.write_all(&[2; 16]).await.unwrap();
        stopper.stop();
        assert!(matches!(running.await.unwrap().end, PipeEnd::Stopped));
        let mut rest = Vec::new();
        viewer.read_to_end(&mut rest).await.unwrap();
        keeper.read_to_end(&mut rest).await.unwrap();
    }

    #[test]
    fn buffers_grow_when_filled_and_shrink_when_idle() {
        let (mut buffer, mut sparse) = (vec![0; SMALLEST], 0);
        while buffer.len() < LARGEST {
            let full = buffer.len();
            resize(&mut buffer, full, &mut sparse);
        }
        resize(&mut buffer, LARGEST, &mut sparse);
        assert_eq!(buffer.len(), LARGEST);
        for _ in 0..PATIENCE * 10 {
            resize(&mut buffer, 1, &mut sparse);
        }
        assert_eq!(buffer.len(), SMALLEST);
    }
}
