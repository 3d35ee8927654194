//! How fast two ends pass bytes to each other in memory: what the state machine itself costs, without sockets and TLS.
//!
//! `cargo bench -p tunnel`. Prints GB/s for large and small local reads; asserts no speed.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tunnel::{Config, Stream};

const NOW: Duration = Duration::ZERO;

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark has arguments; the crate itself has no environment"
)]
fn main() {
    // Run as a test, without `--bench`, it has nothing to say.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    for (name, piece, total) in [
        ("64 KiB reads", 64 << 10, 8u64 << 30),
        ("16 KiB reads", 16 << 10, 4 << 30),
        ("512 B reads", 512, 1 << 30),
    ] {
        let taken = pass(piece, total);
        println!(
            "{name}: {:.2} GB/s",
            total as f64 / taken.as_secs_f64() / 1e9
        );
    }
}

/// Passes `total` bytes, read in pieces, from one end to the other in transmissions of 64 KiB, fed on in pieces of a TLS record.
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark measures time; the crate itself has no clock"
)]
fn pass(piece: usize, total: u64) -> Duration {
    let (mut a, mut b) = (
        Stream::new(Config::default(), NOW),
        Stream::new(Config::default(), NOW),
    );
    a.path_replaced(NOW, 0).expect("a new stream takes a path");
    b.path_replaced(NOW, 0).expect("a new stream takes a path");
    let source = Bytes::from(vec![7; piece]);
    let mut wire = BytesMut::new();
    let start = std::time::Instant::now();
    let (mut written, mut out) = (0u64, 0u64);
    while out < total {
        while written < total && a.local_capacity() >= piece {
            a.write_local(source.clone()).expect("there is room");
            written += piece as u64;
        }
        wire.reserve(64 << 10);
        a.poll_transmit(NOW, &mut wire, 64 << 10);
        while !wire.is_empty() {
            let record = wire.split_to(wire.len().min(16 << 10)).freeze();
            b.handle_bytes(NOW, record).expect("honest bytes");
        }
        while let Some(bytes) = b.take_for_local() {
            out += bytes.len() as u64;
            b.local_written(NOW, bytes.len());
        }
        b.poll_transmit(NOW, &mut wire, 64 << 10);
        a.handle_bytes(NOW, wire.split().freeze())
            .expect("honest bytes");
    }
    start.elapsed()
}
