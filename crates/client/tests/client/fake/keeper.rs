//! The session's end of a stream: a plain driver of [`tunnel::Stream`] with an echo for a backend. Written to be obvious, not fast.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tunnel::{Config, EpochGate, Event, ResetCode, Stream};

pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What can be asked of a stream.
pub(crate) enum Ask {
    /// Go on over this path, if the epoch is right: answered with what has been received.
    Resume {
        epoch: u64,
        received: u64,
        reply: oneshot::Sender<Option<u64>>,
        path: oneshot::Receiver<Box<dyn Io>>,
    },
    /// Give the stream up.
    Reset(ResetCode),
}

pub(crate) fn config() -> Config {
    Config {
        dead_after: Duration::from_millis(600),
        ..Config::default()
    }
}

/// Runs a stream whose backend sends back what it gets, `close_after` bytes at the most.
pub(crate) async fn run(
    first: Box<dyn Io>,
    mut asks: mpsc::UnboundedReceiver<Ask>,
    close_after: u64,
) {
    let start = Instant::now();
    let mut stream = Stream::new(config(), Duration::ZERO);
    stream.path_replaced(Duration::ZERO, 0).unwrap();
    let mut path = Some(first);
    let mut gate = EpochGate::default();
    let (backend, mut local) = tokio::io::duplex(256 * 1024);
    let echo = tokio::spawn(echo(backend, close_after));
    let mut local_open = true;
    let (mut from_path, mut from_local) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let now = start.elapsed();
        while let Some(bytes) = stream.take_for_local() {
            if local.write_all(&bytes).await.is_err() {
                stream.reset(ResetCode::LOCAL);
            }
            stream.local_written(now, bytes.len());
        }
        let mut over = false;
        while let Some(event) = stream.poll_event() {
            match event {
                Event::PathDead => path = None,
                Event::PeerFinished => local.shutdown().await.unwrap(),
                Event::Reset { .. } | Event::Expired => over = true,
                Event::Finished | Event::News => {}
            }
        }
        if over {
            break;
        }
        if let Some(io) = path.as_mut() {
            let mut out = BytesMut::new();
            while stream.poll_transmit(now, &mut out, 64 * 1024) > 0 {}
            if !out.is_empty() && (io.write_all(&out).await.is_err() || io.flush().await.is_err()) {
                stream.path_lost(now);
                path = None;
            }
        }
        let capacity = stream.local_capacity().min(from_local.len());
        let due = stream.poll_timeout().map(|due| start + due);
        tokio::select! {
            biased;
            ask = asks.recv() => match ask {
                None => break,
                Some(Ask::Reset(code)) => stream.reset(code),
                Some(Ask::Resume { epoch, received, reply, path: other }) => {
                    let fits = stream.check_resume(received).is_ok() && gate.admit(epoch, true).is_ok();
                    let _ = reply.send(fits.then(|| stream.received()));
                    if fits {
                        // The old path is superseded now, whether or not the answer arrives.
                        path = other.await.ok();
                        let now = start.elapsed();
                        stream.path_replaced(now, received).unwrap();
                        if path.is_none() {
                            stream.path_lost(now);
                        }
                    }
                }
            },
            read = read(&mut path, &mut from_path) => match read {
                Ok(count) if count > 0 => {
                    let bytes = Bytes::copy_from_slice(&from_path[..count]);
                    stream.handle_bytes(start.elapsed(), bytes).unwrap();
                }
                _ => {
                    stream.path_lost(start.elapsed());
                    path = None;
                }
            },
            read = local.read(&mut from_local[..capacity]), if local_open && capacity > 0 => {
                let count = read.unwrap_or(0);
                if count == 0 {
                    local_open = false;
                    stream.local_eof();
                } else {
                    stream.write_local(Bytes::copy_from_slice(&from_local[..count])).unwrap();
                }
            },
            () = until(due) => stream.handle_timeout(start.elapsed()),
        }
    }
    echo.abort();
}

/// Reads as fast as it can, whether or not what it sends back is taken: a backend that waits for its reader would wait for ever for
/// this plain driver, which does one thing at a time.
async fn echo(backend: DuplexStream, mut rest: u64) {
    let (mut reading, mut writing) = tokio::io::split(backend);
    let (sender, mut receiver) = mpsc::unbounded_channel::<Vec<u8>>();
    let read = async move {
        let mut bytes = vec![0; 64 * 1024];
        while rest > 0 {
            let room = bytes.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            let count = reading.read(&mut bytes[..room]).await.unwrap_or(0);
            if count == 0 || sender.send(bytes[..count].to_vec()).is_err() {
                return;
            }
            rest -= count as u64;
        }
    };
    let write = async move {
        while let Some(bytes) = receiver.recv().await {
            if writing.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = writing.shutdown().await;
    };
    tokio::join!(read, write);
}

async fn read(path: &mut Option<Box<dyn Io>>, bytes: &mut [u8]) -> std::io::Result<usize> {
    match path {
        Some(path) => path.read(bytes).await,
        None => std::future::pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        // tidy: polls: it is the stream's own timer.
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
