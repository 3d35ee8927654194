//! Bytes and questions on connections to a backend ([`crate::backend`]), whoever is in between.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::Node;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::PIECE;
use crate::load::Service;

/// Bytes of a question and of its answer.
pub(crate) const QUESTION: usize = 64;

/// Has some connections from a node read what the backend sends: bytes a second of all, and what `used` (processor time of who is in
/// between) grew by for each 10⁹ of them. A third of the time is spent before anything is measured.
///
/// # Errors
/// When a connection fails.
pub(crate) fn bulk(
    viewer: &Node,
    address: SocketAddr,
    connections: usize,
    measured: Duration,
    used: impl Fn() -> Duration,
) -> Result<(f64, f64)> {
    let (bytes, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut streams = Vec::new();
    for _ in 0..connections {
        let mut stream = viewer.connect(address, Duration::from_secs(5))?;
        stream.write_all(b"D")?;
        streams.push(stream);
    }
    std::thread::scope(|scope| {
        let readers: Vec<_> = streams
            .into_iter()
            .map(|mut stream| {
                let (bytes, stop) = (&bytes, &stop);
                scope.spawn(move || -> Result<()> {
                    let mut buffer = vec![0; PIECE];
                    while !stop.load(Ordering::Relaxed) {
                        let count = stream.read(&mut buffer)?;
                        ensure!(count > 0, "a stream was ended");
                        bytes.fetch_add(count as u64, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        std::thread::sleep(measured / 3);
        let before = (bytes.load(Ordering::Relaxed), used());
        let since = Instant::now();
        std::thread::sleep(measured);
        let (took, passed) = (since.elapsed(), bytes.load(Ordering::Relaxed) - before.0);
        let used = used().saturating_sub(before.1);
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().expect("a reader does not panic")?;
        }
        let gigabytes = passed as f64 / 1e9;
        Ok((
            passed as f64 / took.as_secs_f64(),
            used.as_secs_f64() / gigabytes,
        ))
    })
}

/// A question and its answer on a connection that stands.
pub(crate) struct Questions {
    pub(crate) address: SocketAddr,
}

impl Service for Questions {
    type Line = Arc<tokio::sync::Mutex<TcpStream>>;

    async fn open(&self) -> Result<Self::Line> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(b"E").await?;
        Ok(Arc::new(tokio::sync::Mutex::new(stream)))
    }

    async fn ask(&self, line: &Self::Line, _number: u64) -> Result<()> {
        let mut stream = line.lock().await;
        stream.write_all(&[7; QUESTION]).await?;
        let mut answer = [0; QUESTION];
        stream.read_exact(&mut answer).await?;
        Ok(())
    }
}

/// The middle one of some values.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
