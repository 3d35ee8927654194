//! A terminal that a command runs on, and the one stream that sees it.
//!
//! A task of its own reads the terminal for as long as the session lives: what it prints goes to the stream that is attached, and the
//! last [`KEPT`](super::output::KEPT) bytes are kept, so that a new stream begins with the screen as it was left. Without a stream
//! the command is never held up; with one, it waits for a reader that is slow.
//!
//! Always true: one stream at a time; a newer one takes the place of the older, whose connection ends.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::account::Account;
use super::output::Output;

/// The size of a terminal that nobody has given another.
const SIZE: Winsize = Winsize {
    ws_row: 24,
    ws_col: 80,
    ws_xpixel: 0,
    ws_ypixel: 0,
};
/// Bytes read at once, in either direction.
const PIECE: usize = 16 * 1024;

/// The session's side of a terminal.
#[derive(Debug, Clone)]
pub(crate) struct Terminal {
    attach: mpsc::Sender<oneshot::Sender<UnixStream>>,
}

/// A new terminal: the keeper's end, and the end that the command gets, which is that account's.
pub(crate) fn open(account: Option<&Account>) -> io::Result<(OwnedFd, fs::File)> {
    let keeper = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&keeper)?;
    unlockpt(&keeper)?;
    tcsetwinsize(&keeper, SIZE)?;
    let name = ptsname(&keeper, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let command = rustix::fs::open(name.as_c_str(), flags, Mode::empty())?;
    if let Some(account) = account.filter(|account| !account.is_own) {
        account.own_terminal(&command)?;
    }
    Ok((keeper, command.into()))
}

impl Terminal {
    /// Begins to read the keeper's end. `done` is told when all processes have let go of the terminal and everything that they
    /// printed was taken.
    pub(crate) fn run(
        keeper: OwnedFd,
        output: Output,
        done: oneshot::Sender<()>,
    ) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&keeper, true)?;
        let keeper = register(keeper.into())?;
        let (attach, attached) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut pump = Pump {
                keeper,
                output,
                attached,
                stream: None,
            };
            if let Err(error) = pump.run().await {
                tracing::warn!(%error, "the terminal failed");
            }
            // Nobody waits any more when the session ended otherwise.
            let _ = done.send(());
            pump.flush().await;
        });
        Ok(Self { attach })
    }

    /// The terminal's bytes, from the screen as it was left. Who was attached before is cut off.
    pub(crate) async fn attach(&self) -> io::Result<UnixStream> {
        let (give, get) = oneshot::channel();
        let closed = || io::Error::new(io::ErrorKind::BrokenPipe, "the terminal is closed");
        self.attach.send(give).await.map_err(|_| closed())?;
        get.await.map_err(|_| closed())
    }
}

#[expect(unsafe_code, reason = "tokio has no safe type for a terminal")]
fn register(keeper: fs::File) -> io::Result<AsyncFd<fs::File>> {
    // SAFETY: the file owns its descriptor, and nobody replaces or closes it while the `AsyncFd` owns the file.
    Ok(unsafe { AsyncFd::register(keeper) }?)
}

/// Carries bytes between the terminal and the stream that is attached.
struct Pump {
    keeper: AsyncFd<fs::File>,
    output: Output,
    attached: mpsc::Receiver<oneshot::Sender<UnixStream>>,
    stream: Option<Attached>,
}

/// The stream that sees the terminal, and what is on its way.
struct Attached {
    socket: UnixStream,
    to_stream: Vec<u8>,
    to_terminal: Vec<u8>,
    /// The stream sends no more.
    ended: bool,
}

impl Pump {
    async fn run(&mut self) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        loop {
            let held_up = self
                .stream
                .as_ref()
                .is_some_and(|stream| !stream.to_stream.is_empty());
            tokio::select! {
                asked = self.attached.recv() => match asked {
                    Some(give) => self.attach(give)?,
                    None => return Ok(()),
                },
                read = self.keeper.async_io(Interest::READABLE, |mut terminal| terminal.read(&mut piece)), if !held_up => match read {
                    Ok(count) if count > 0 => self.printed(piece.get(..count).unwrap_or_default()),
                    // All processes have closed the terminal: the kernel says EIO.
                    Ok(_) => return Ok(()),
                    Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => return Ok(()),
                    Err(error) => return Err(error),
                },
                moved = exchange(&mut self.stream, &self.keeper) => if moved.is_err() {
                    self.stream = None;
                },
            }
        }
    }

    fn attach(&mut self, give: oneshot::Sender<UnixStream>) -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        if give.send(theirs).is_ok() {
            self.stream = Some(Attached {
                socket: ours,
                to_stream: self.output.last(),
                to_terminal: Vec::new(),
                ended: false,
            });
        }
        Ok(())
    }

    fn printed(&mut self, bytes: &[u8]) {
        self.output.add(bytes);
        if let Some(stream) = &mut self.stream {
            stream.to_stream.extend_from_slice(bytes);
        }
    }

    /// Passes on what is left for the stream.
    async fn flush(&mut self) {
        if let Some(stream) = &mut self.stream {
            // A stream that is gone needs nothing.
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut stream.socket, &stream.to_stream).await;
        }
    }
}

/// Moves bytes between the attached stream and the terminal once, in whatever direction is possible; an error is the stream's end.
async fn exchange(stream: &mut Option<Attached>, keeper: &AsyncFd<fs::File>) -> io::Result<()> {
    let Some(stream) = stream else {
        return std::future::pending().await;
    };
    let Attached {
        socket,
        to_stream,
        to_terminal,
        ended,
    } = stream;
    let mut piece = [0; 4096];
    let (mut read, write) = socket.split();
    tokio::select! {
        written = async { write.writable().await?; write.try_write(to_stream) }, if !to_stream.is_empty() => match written {
            Ok(count) => { to_stream.drain(..count); }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        },
        count = read.read(&mut piece), if !*ended && to_terminal.is_empty() => match count? {
            // The viewer sends no more, but may still look.
            0 => *ended = true,
            count => to_terminal.extend_from_slice(piece.get(..count).unwrap_or_default()),
        },
        written = keeper.async_io(Interest::WRITABLE, |mut terminal| terminal.write(to_terminal)), if !to_terminal.is_empty() => {
            to_terminal.drain(..written?);
        },
        else => std::future::pending().await,
    }
    Ok(())
}
