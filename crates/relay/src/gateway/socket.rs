//! A TCP or unix socket, as the kernel-side relay needs it: without a lock between reading and writing.

use rustix::buffer::spare_capacity;
use rustix::io::read;
use rustix::net::{SendFlags, send, sockopt};
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// After this silence the other end is asked whether it is still there, and then as often again.
const ALIVE: Duration = Duration::from_secs(60);
/// How often it is asked before the connection has ended.
const ASKED: u32 = 4;

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP, without delay of small writes.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

impl Socket {
    /// An end that vanishes will be noticed.
    ///
    /// # Errors
    /// The connection has broken already.
    pub fn settle(&self) -> io::Result<()> {
        if let Self::Tcp(stream) = self {
            sockopt::set_socket_keepalive(stream, true)?;
            sockopt::set_tcp_keepidle(stream, ALIVE)?;
            sockopt::set_tcp_keepintvl(stream, ALIVE / ASKED)?;
            sockopt::set_tcp_keepcnt(stream, ASKED)?;
        }
        Ok(())
    }

    /// Closing it from now on tells the other end that something is missing.
    pub fn will_reset(&self) {
        if let Self::Tcp(stream) = self
            && let Err(error) = sockopt::set_socket_linger(stream, Some(Duration::ZERO))
        {
            tracing::debug!(%error, "a connection could not be told to reset");
        }
    }

    /// Tells the other end that nothing more comes.
    pub(super) fn finish(&self) -> io::Result<()> {
        match rustix::net::shutdown(self.as_fd(), rustix::net::Shutdown::Write) {
            // It went meanwhile, having said all.
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads into the room that the buffer has.
    pub(super) fn try_read(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let room = buffer.capacity() - buffer.len();
        let mut count = None;
        let tried = self.try_io(Interest::READABLE, || {
            let got = read(self.as_fd(), spare_capacity(buffer))?;
            count = Some(got);
            match got {
                // There is nothing more until the system says so, which need not be asked: the runtime is told as if it had been, and
                // does not forget what it hears meanwhile.
                got if 0 < got && got < room => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            }
        });
        match count {
            Some(count) => Ok(count),
            None => tried.map(|()| 0),
        }
    }

    /// Waits until there is something to read; whether nothing more comes behind what is there.
    pub(super) async fn readable(&self) -> io::Result<bool> {
        let ready = match self {
            Self::Tcp(stream) => stream.ready(Interest::READABLE).await,
            Self::Unix(stream) => stream.ready(Interest::READABLE).await,
        };
        Ok(ready?.is_read_closed())
    }

    fn try_io<T>(&self, interest: Interest, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self {
            Self::Tcp(stream) => stream.try_io(interest, work),
            Self::Unix(stream) => stream.try_io(interest, work),
        }
    }

    /// Writes all of it.
    pub(super) async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.send_all(bytes, SendFlags::empty()).await
    }

    /// Writes all of it, which is the last: what is told then by [`finish`](Self::finish) goes in the same packet.
    pub(super) async fn write_last(&self, bytes: &[u8]) -> io::Result<()> {
        self.send_all(bytes, SendFlags::MORE).await
    }

    async fn send_all(&self, mut bytes: &[u8], flags: SendFlags) -> io::Result<()> {
        let flags = flags | SendFlags::NOSIGNAL;
        while !bytes.is_empty() {
            let sent = self.try_io(Interest::WRITABLE, || Ok(send(self.as_fd(), bytes, flags)?));
            match sent {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self {
                    Self::Tcp(stream) => stream.writable().await?,
                    Self::Unix(stream) => stream.writable().await?,
                },
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Does `work` as soon as the socket is ready for it and it does not say that it would block.
    pub(super) fn when<'a, T: 'a>(
        &'a self,
        interest: Interest,
        work: impl FnMut() -> io::Result<T> + Send + 'a,
    ) -> Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>> {
        match self {
            Self::Tcp(stream) => Box::pin(stream.async_io(interest, work)),
            Self::Unix(stream) => Box::pin(stream.async_io(interest, work)),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
