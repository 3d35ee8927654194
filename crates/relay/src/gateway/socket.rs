//! A TCP or unix socket, as the kernel-side relay needs it: without a lock between reading and writing.

use rustix::net::sockopt;
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
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

impl Socket {
    /// Small writes leave at once, and an end that vanished is noticed.
    ///
    /// # Errors
    /// The connection has broken already.
    pub fn settle(&self) -> io::Result<()> {
        if let Self::Tcp(stream) = self {
            stream.set_nodelay(true)?;
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

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Unix(stream) => stream.try_read(buffer),
        }
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
        }
    }

    /// Writes all of it.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self {
                Self::Tcp(stream) => stream.try_write(bytes),
                Self::Unix(stream) => stream.try_write(bytes),
            };
            match written {
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
