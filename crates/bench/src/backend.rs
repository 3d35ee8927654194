//! What is at the far end of a relay or a tunnel: a server in a thread of this process.

use anyhow::{Context, Result};
use testkit::Node;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes written or read at once.
pub(crate) const PIECE: usize = 256 * 1024;

/// The backend, in a thread of this process, whose processor time is not counted. The first byte of a connection says what it does:
/// `D` sends for ever, `E` sends back what it gets, `C` sends one byte and ends.
///
/// # Errors
/// When the port is taken.
pub(crate) fn serve(node: &Node, port: u16) -> Result<()> {
    let listener = node.within(|| std::net::TcpListener::bind(("0.0.0.0", port)));
    let listener = listener.context("the backend")?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                // Clients go when they have seen enough.
                tokio::spawn(async move { answer(stream).await.ok() });
            }
            #[expect(unreachable_code, reason = "it says what the loop fails with")]
            anyhow::Ok(())
        })
    });
    Ok(())
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![b'x'; PIECE];
    match stream.read_u8().await? {
        b'D' => loop {
            stream.write_all(&buffer).await?;
        },
        b'E' => loop {
            let count = stream.read(&mut buffer).await?;
            match buffer.get(..count) {
                Some(bytes) if count > 0 => stream.write_all(bytes).await?,
                _ => return Ok(()),
            }
        },
        _ => stream.write_all(b"x").await,
    }
}
