//! Passing bytes between two sockets of this machine without bringing them into the program.
//!
//! Small interactive traffic is copied: that takes two calls, and no pipe. A direction that fills the buffer is spliced through a
//! pipe until its traffic is small again.
//!
//! Always true: a pipe is drained before it is filled; an idle direction holds neither a buffer nor a pipe.

use super::End;
use super::forward::Forwarded;
use super::passing::{Count, Passing};
use super::pipes::{LARGE, Pipe, Pipes};
use super::socket::Socket;
use crate::stop::Stop;
use rustix::pipe::{SpliceFlags, splice};
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::Interest;

/// Bytes of the buffer that is copied through.
const SMALL: usize = 16 * 1024;
/// A direction that was below [`SMALL`] this many times in a row is copied again.
const PATIENCE: u32 = 32;

/// Passes bytes on until both sides have said all, or one of them breaks. `early` came from `near` already.
pub(super) async fn forward(
    near: Socket,
    far: Socket,
    early: &[u8],
    pipes: &Pipes,
    passing: &Passing,
    mut over: Stop,
    mut stop: Stop,
) -> Forwarded {
    let (mut up, mut down) = (Count::new(passing), Count::new(passing));
    let is_second = AtomicBool::new(false);
    // Being closed a moment later tells the same.
    let finish = |to: &Socket| match is_second.swap(true, Ordering::Relaxed) {
        true => Ok(()),
        false => to.finish(),
    };
    let both = async {
        if !early.is_empty() {
            far.write_all(early).await?;
            up.add(early.len());
        }
        tokio::try_join!(
            async {
                one_way(&near, &far, pipes, &mut up).await?;
                finish(&far)
            },
            async {
                one_way(&far, &near, pipes, &mut down).await?;
                finish(&near)
            }
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
        near.will_reset();
        far.will_reset();
    }
    Forwarded {
        to_client: down.bytes,
        to_far: up.bytes,
        end,
    }
}

/// One direction, to its end, of which the other socket is to be told.
async fn one_way(
    from: &Socket,
    to: &Socket,
    pipes: &Pipes,
    passed: &mut Count<'_>,
) -> io::Result<()> {
    loop {
        let closed = from.readable().await?;
        match copy(from, to, closed, passed).await? {
            Copied::Ended => return Ok(()),
            Copied::Idle => {}
            Copied::Much => {
                if let Some(mut pipe) = pipes.take()
                    && spliced(from, to, &mut pipe, passed).await?
                {
                    return Ok(());
                }
            }
        }
    }
}

/// What there was to copy.
enum Copied {
    /// Nothing more for now.
    Idle,
    /// A full buffer, twice in a row.
    Much,
    /// Nothing more for good.
    Ended,
}

/// Copies what there is. `closed`: nothing comes behind it, so that the end can go with the last bytes.
async fn copy(
    from: &Socket,
    to: &Socket,
    closed: bool,
    passed: &mut Count<'_>,
) -> io::Result<Copied> {
    let mut buffer = Vec::with_capacity(SMALL);
    let mut full = 0;
    loop {
        buffer.clear();
        let count = match from.try_read(&mut buffer) {
            Ok(0) => return Ok(Copied::Ended),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Copied::Idle),
            Err(error) => return Err(error),
        };
        let is_full = count >= SMALL;
        if closed && !is_full && has_ended(from, &mut buffer)? {
            to.write_last(&buffer).await?;
            passed.add(count);
            return Ok(Copied::Ended);
        }
        to.write_all(&buffer).await?;
        passed.add(buffer.len());
        full = if is_full { full + 1 } else { 0 };
        if full == 2 {
            return Ok(Copied::Much);
        }
        if !is_full && !closed {
            return Ok(Copied::Idle);
        }
    }
}

/// Reads on, where nothing can come any more but what is there; whether that was all.
fn has_ended(from: &Socket, buffer: &mut Vec<u8>) -> io::Result<bool> {
    match from.try_read(buffer) {
        Ok(count) => Ok(count == 0),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Splices until there is little to pass on, or nothing more for good, which is told.
async fn spliced(
    from: &Socket,
    to: &Socket,
    pipe: &mut Pipe,
    passed: &mut Count<'_>,
) -> io::Result<bool> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    let mut sparse = 0;
    while sparse < PATIENCE {
        let taken = from
            .when(Interest::READABLE, || {
                Ok(splice(
                    from.as_fd(),
                    None,
                    pipe.entry(),
                    None,
                    LARGE,
                    flags,
                )?)
            })
            .await?;
        if taken == 0 {
            return Ok(true);
        }
        pipe.inside = taken;
        while pipe.inside > 0 {
            let inside = pipe.inside;
            let given = to
                .when(Interest::WRITABLE, || {
                    Ok(splice(pipe.exit(), None, to.as_fd(), None, inside, flags)?)
                })
                .await?;
            if given == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            pipe.inside -= given;
            passed.add(given);
        }
        sparse = if taken < SMALL { sparse + 1 } else { 0 };
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::Stopper;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream, UnixStream};
    use tokio::task::JoinHandle;

    async fn tcp() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    fn pattern(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    }

    struct Both {
        viewer: TcpStream,
        backend: UnixStream,
        stopper: Stopper,
        over: Stopper,
        running: JoinHandle<Forwarded>,
        /// How often it was told that bytes passed.
        told: Arc<AtomicU64>,
    }

    async fn both(pipes: Pipes) -> Both {
        let (viewer, near) = tcp().await;
        let (far, backend) = UnixStream::pair().unwrap();
        let ((stopper, stop), (over, is_over)) = (Stopper::new(), Stopper::new());
        let told = Arc::new(AtomicU64::new(0));
        let note = told.clone();
        let running = tokio::spawn(async move {
            let told = note;
            let (near, far) = (Socket::Tcp(near), Socket::Unix(far));
            let passing = Passing::told_to(move || {
                told.fetch_add(1, Ordering::Relaxed);
            });
            forward(near, far, b"early ", &pipes, &passing, is_over, stop).await
        });
        Both {
            viewer,
            backend,
            stopper,
            over,
            running,
            told,
        }
    }

    async fn passes_everything(pipes: Pipes) {
        let Both {
            viewer,
            backend,
            stopper: _stopper,
            over: _over,
            running,
            told,
        } = both(pipes).await;
        let (up, down) = (pattern(9_000_000, 1), pattern(7_000_000, 2));
        let (mut viewer_read, mut viewer_write) = viewer.into_split();
        let (mut backend_read, mut backend_write) = backend.into_split();
        let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
        let (wrote_up, read_up, wrote_down, read_down) = tokio::join!(
            async {
                // Small pieces first: copied, then spliced, then copied again.
                for piece in up.chunks(100).take(50) {
                    viewer_write.write_all(piece).await?;
                }
                viewer_write.write_all(&up[5_000..]).await?;
                viewer_write.shutdown().await
            },
            backend_read.read_to_end(&mut got_up),
            async {
                backend_write.write_all(&down).await?;
                backend_write.shutdown().await
            },
            viewer_read.read_to_end(&mut got_down),
        );
        wrote_up.unwrap();
        read_up.unwrap();
        wrote_down.unwrap();
        read_down.unwrap();
        assert!(got_up.strip_prefix(b"early ") == Some(&up[..]) && got_down == down);
        let forwarded = running.await.unwrap();
        assert!(matches!(forwarded.end, End::Finished), "{forwarded:?}");
        let counts = (forwarded.to_far, forwarded.to_client);
        assert_eq!(counts, (6 + up.len() as u64, down.len() as u64));
        assert!(told.load(Ordering::Relaxed) >= 3, "early, up and down");
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_to_their_ends() {
        let pipes = Pipes::new(8);
        passes_everything(pipes.clone()).await;
        // Their pipes are there for the next.
        passes_everything(pipes).await;
    }

    #[tokio::test]
    async fn bytes_pass_without_pipes() {
        passes_everything(Pipes::new(0)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_waits_that_comes_just_when_everything_was_read() {
        let mut both = both(Pipes::new(1)).await;
        let mut early = [0; 6];
        both.backend.read_exact(&mut early).await.unwrap();
        for round in 0..5_000_u32 {
            let (said, mut heard) = (round.to_be_bytes(), [0; 4]);
            both.viewer.write_all(&said).await.unwrap();
            both.backend.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, said);
            both.backend.write_all(&said).await.unwrap();
            both.viewer.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, said);
        }
    }

    #[tokio::test]
    async fn one_side_may_finish_long_before_the_other() {
        let mut both = both(Pipes::new(1)).await;
        both.viewer.shutdown().await.unwrap();
        let mut got = Vec::new();
        both.backend.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"early ");
        both.backend.write_all(b"the answer").await.unwrap();
        drop(both.backend);
        let mut answer = Vec::new();
        both.viewer.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"the answer");
    }

    #[tokio::test]
    async fn what_is_cut_off_does_not_look_like_an_end() {
        for stops in [true, false] {
            let mut both = both(Pipes::new(1)).await;
            both.backend.write_all(b"half of ").await.unwrap();
            let mut got = [0; 8];
            both.viewer.read_exact(&mut got).await.unwrap();
            match stops {
                true => both.stopper.stop(),
                false => both.over.stop(),
            }
            let error = both.viewer.read(&mut got).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            let forwarded = both.running.await.unwrap();
            assert!(!matches!(forwarded.end, End::Finished), "{forwarded:?}");
        }
    }
}
