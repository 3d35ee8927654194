//! A TCP connection that can change the runtime that drives it.
//!
//! Connections are accepted and checked where many unknown ones may arrive; once one turns out to carry
//! consensus it moves to the runtime of consensus, so that a flood elsewhere never delays a heartbeat.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TCP connection between servers.
#[derive(Debug)]
pub struct Socket {
    /// Absent only after a failed move; then every use fails.
    stream: Option<TcpStream>,
}

/// How long bytes may stay unacknowledged before the system gives a connection up.
const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(20);

impl Socket {
    /// Wraps a connection and sets what all connections between servers have: no delay for small messages,
    /// and an end for connections whose other side is silent.
    ///
    /// # Errors
    /// When the connection is closed already.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let limit = u32::try_from(UNACKNOWLEDGED_LIMIT.as_millis()).unwrap_or(u32::MAX);
        rustix::net::sockopt::set_tcp_user_timeout(&stream, limit)?;
        Ok(Self {
            stream: Some(stream),
        })
    }

    /// Moves the connection to the runtime that the caller runs in. No byte is lost.
    ///
    /// # Errors
    /// When the system refuses to register it; the connection is of no use then.
    pub fn move_here(&mut self) -> io::Result<()> {
        let stream = self.stream.take().ok_or(io::ErrorKind::NotConnected)?;
        self.stream = Some(TcpStream::from_std(stream.into_std()?)?);
        Ok(())
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream
            .as_ref()
            .ok_or(io::ErrorKind::NotConnected)?
            .peer_addr()
    }

    fn inner(self: Pin<&mut Self>) -> io::Result<Pin<&mut TcpStream>> {
        match &mut self.get_mut().stream {
            Some(stream) => Ok(Pin::new(stream)),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.inner()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::runtime::Builder;

    #[test]
    fn a_connection_outlives_the_runtime_that_accepted_it() {
        let first = Builder::new_current_thread().enable_all().build().unwrap();
        let second = Builder::new_current_thread().enable_all().build().unwrap();
        let (mut near, mut far) = first.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let far = TcpStream::connect(listener.local_addr().unwrap())
                .await
                .unwrap();
            let (near, _) = listener.accept().await.unwrap();
            (Socket::new(near).unwrap(), Socket::new(far).unwrap())
        });
        first.block_on(far.write_all(b"before")).unwrap();
        second.block_on(async move {
            near.move_here().unwrap();
            far.move_here().unwrap();
            first.shutdown_background();
            far.write_all(b" after").await.unwrap();
            let mut read = [0; 12];
            near.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"before after");
        });
    }
}
