//! A program for the tests of this crate: the keeper, as `stead keeper --dir DIR` is in the product, and two small backends.
//!
//! `host-keeper keeper --dir DIR [--sessions DIR]`, `host-keeper echo-at SOCKET` (a unix socket that sends back what it gets), `host-keeper echo-once
//! PORT` (accepts one connection on loopback and ends with it).

use std::path::Path;
use std::process::ExitCode;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let texts: Vec<_> = words
        .iter()
        .map(|word| word.to_str().unwrap_or_default())
        .collect();
    let done = match texts.as_slice() {
        ["keeper", "--dir", dir] => host::keeper::run(Path::new(dir)).await.is_ok(),
        ["keeper", "--dir", dir, "--sessions", sessions] => {
            let hall = host::keeper::hall::run(Path::new(dir), Path::new(sessions));
            hall.await.is_ok()
        }
        ["echo-at", socket] => echo_at(Path::new(socket)).await.is_ok(),
        ["echo-once", port] => echo_once(port.parse().unwrap_or(0)).await.is_ok(),
        _ => false,
    };
    if done {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn echo_at(socket: &Path) -> std::io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(echo(stream));
    }
}

async fn echo_once(port: u16) -> std::io::Result<()> {
    let (stream, _) = TcpListener::bind(("127.0.0.1", port))
        .await?
        .accept()
        .await?;
    echo(stream).await
}

async fn echo(stream: impl AsyncRead + AsyncWrite) -> std::io::Result<()> {
    let (mut read, mut write) = tokio::io::split(stream);
    tokio::io::copy(&mut read, &mut write).await?;
    write.shutdown().await
}
