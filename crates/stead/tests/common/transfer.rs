//! Byte streams that are checked byte by byte at both ends.

#![expect(
    clippy::indexing_slicing,
    reason = "a test that slices wrongly fails, as it should"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use testkit::{Node, eventually, seconds};

/// Where the backend of application `bulk` listens on every host.
pub(super) const BULK: &str = "127.0.0.1:7777";
const BLOCK: usize = 64 * 1024;

/// Bytes that are never the same twice, and the same at both ends.
struct Pattern {
    state: u64,
}

impl Pattern {
    fn seeded(seed: u64) -> Self {
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    fn fill(&mut self, block: &mut [u8]) {
        for chunk in block.chunks_mut(8) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            let bytes = self.state.to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

fn send(mut stream: TcpStream, seed: u64, total: u64, pace: Option<u64>) -> std::io::Result<()> {
    let (mut pattern, mut block, mut sent) = (Pattern::seeded(seed), vec![0; BLOCK], 0u64);
    let start = Instant::now();
    while sent < total {
        pattern.fill(&mut block);
        let length = usize::try_from(total - sent).unwrap_or(BLOCK).min(BLOCK);
        stream.write_all(&block[..length])?;
        sent += length as u64;
        if let Some(bytes_per_second) = pace {
            let due = Duration::from_secs_f64(sent as f64 / bytes_per_second as f64);
            if let Some(early) = due.checked_sub(start.elapsed()) {
                std::thread::sleep(early); // tidy: polls (paces a sender, waits for nothing)
            }
        }
    }
    stream.shutdown(Shutdown::Write)
}

/// Reads until the end; how many bytes came, all of them the expected ones.
fn check(mut stream: TcpStream, seed: u64, progress: &AtomicU64) -> Result<u64, String> {
    let (mut pattern, mut expected, mut block, mut got) =
        (Pattern::seeded(seed), vec![0; BLOCK], vec![0; BLOCK], 0u64);
    loop {
        pattern.fill(&mut expected);
        let mut filled = 0;
        while filled < BLOCK {
            match stream.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) => return Err(format!("after {} bytes: {error}", got + filled as u64)),
            }
        }
        if block[..filled] != expected[..filled] {
            let at = block
                .iter()
                .zip(&expected)
                .position(|(is, should)| is != should)
                .unwrap_or(0);
            return Err(format!("byte {} is another than was sent", got + at as u64));
        }
        got += filled as u64;
        progress.store(got, Ordering::Relaxed);
        if filled < BLOCK {
            return Ok(got);
        }
    }
}

/// The backend of `bulk` on a host: the client says a seed and a size, then both send that much.
pub(super) fn serve_bulk(host: &Node) {
    let listener = host
        .within(|| TcpListener::bind(BULK))
        .expect("a port in the host's namespace");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve_one(stream));
        }
    });
}

fn serve_one(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = [0; 24];
    stream.read_exact(&mut request)?;
    let field =
        |at: usize| u64::from_le_bytes(request[at..at + 8].try_into().expect("eight bytes"));
    let (seed, total, pace) = (field(0), field(8), field(16));
    let back = stream.try_clone()?;
    let sender =
        std::thread::spawn(move || send(back, seed + 1, total, (pace > 0).then_some(pace)));
    let checked = check(stream.try_clone()?, seed, &AtomicU64::new(0));
    sender.join().expect("the sender does not panic")?;
    if checked != Ok(total) {
        // The client sees a reset instead of the end that it expects.
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    }
    Ok(())
}

/// A transfer both ways through a local port, running.
pub struct Transfer {
    sender: JoinHandle<std::io::Result<()>>,
    receiver: JoinHandle<Result<u64, String>>,
    received: Arc<AtomicU64>,
    total: u64,
}

impl Transfer {
    /// Starts one of `total` bytes each way, each way at no more than `pace` bytes per second if one is given.
    pub fn start(
        viewer: &Node,
        port: SocketAddr,
        seed: u64,
        total: u64,
        pace: Option<u64>,
    ) -> Self {
        let mut stream = viewer
            .connect(port, seconds(5))
            .expect("the local port of `stead connect`");
        let mut request = Vec::new();
        for field in [seed, total, pace.unwrap_or(0)] {
            request.extend(field.to_le_bytes());
        }
        stream
            .write_all(&request)
            .expect("the local port takes bytes");
        let (reading, writing) = (stream.try_clone().expect("a second handle"), stream);
        let received = Arc::new(AtomicU64::new(0));
        let progress = received.clone();
        Self {
            sender: std::thread::spawn(move || send(writing, seed, total, pace)),
            receiver: std::thread::spawn(move || check(reading, seed + 1, &progress)),
            received,
            total,
        }
    }

    /// Waits until bytes flow.
    #[track_caller]
    pub fn flows(self) -> Self {
        eventually(seconds(20), "the first bytes", || {
            self.received.load(Ordering::Relaxed) > 0
        });
        self
    }

    /// Waits for the end: every byte arrived both ways.
    #[track_caller]
    pub fn finish(self, limit: Duration) {
        eventually(limit, "the end of the transfer", || {
            self.receiver.is_finished() && self.sender.is_finished()
        });
        self.sender
            .join()
            .expect("the sender does not panic")
            .expect("all bytes were sent");
        assert_eq!(
            self.receiver.join().expect("the receiver does not panic"),
            Ok(self.total)
        );
    }
}
