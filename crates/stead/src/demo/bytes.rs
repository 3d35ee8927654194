//! The user of the busy session: sends numbered noise, compares every byte that comes back, and notes the longest silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::AbortHandle;

use super::{eventually, failed};
use crate::errors::Failure;

/// One piece of what is sent.
const PIECE: usize = 64 * 1024;
/// A piece is sent this often: 16 MiB a second.
const BEAT: Duration = Duration::from_millis(4);
/// How long everything that was sent may take to come back.
const ALL_BACK: Duration = Duration::from_secs(25);

#[derive(Default)]
struct Counts {
    began: Option<Instant>,
    sent: AtomicU64,
    back: AtomicU64,
    differs: AtomicBool,
    is_over: AtomicBool,
    holds: AtomicBool,
    longest_us: AtomicU64,
}

/// A stream of bytes out and back.
pub(super) struct Bytes {
    counts: Arc<Counts>,
    tasks: [AbortHandle; 2],
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Bytes {
    /// Begins to send.
    pub(super) fn start(viewer: TcpStream) -> Self {
        let counts = Arc::new(Counts {
            began: Some(Instant::now()),
            ..Counts::default()
        });
        let (reading, writing) = viewer.into_split();
        let writer = tokio::spawn(write(writing, counts.clone()));
        let reader = tokio::spawn(read(reading, counts.clone()));
        Self {
            counts,
            tasks: [writer.abort_handle(), reader.abort_handle()],
        }
    }

    /// Forgets the longest silence so far.
    pub(super) fn listen_anew(&self) {
        self.counts.longest_us.store(0, Ordering::Relaxed);
    }

    /// The longest silence.
    pub(super) fn longest_silence(&self) -> Duration {
        Duration::from_micros(self.counts.longest_us.load(Ordering::Relaxed))
    }

    /// Stops sending for a moment and waits until everything is back; how many bytes that were in all.
    pub(super) async fn settle(&self) -> Result<Settled, Failure> {
        self.counts.holds.store(true, Ordering::Relaxed);
        let counts = &self.counts;
        let settled = eventually(ALL_BACK, "the bytes under way", async || {
            let (sent, back) = (
                counts.sent.load(Ordering::Relaxed),
                counts.back.load(Ordering::Relaxed),
            );
            let over =
                counts.is_over.load(Ordering::Relaxed) || counts.differs.load(Ordering::Relaxed);
            (over || sent == back).then_some(Settled {
                sent,
                back,
                differs: counts.differs.load(Ordering::Relaxed),
            })
        })
        .await;
        self.counts.holds.store(false, Ordering::Relaxed);
        settled
    }

    /// Waits until more bytes come back than have so far.
    pub(super) async fn flows(&self, more: u64) -> Result<(), Failure> {
        let before = self.counts.back.load(Ordering::Relaxed);
        let counts = &self.counts;
        let flowing = async || {
            let over = counts.is_over.load(Ordering::Relaxed);
            (over || counts.back.load(Ordering::Relaxed) >= before + more).then_some(over)
        };
        match eventually(ALL_BACK, "bytes to flow", flowing).await? {
            false => Ok(()),
            true => Err(failed("bytes do not flow", "the connection was closed")),
        }
    }
}

/// What was sent and has come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) sent: u64,
    pub(super) back: u64,
    pub(super) differs: bool,
}

impl Settled {
    /// Bytes that did not come back, or not as they were.
    pub(super) fn lost(self) -> Option<u64> {
        (!self.differs).then(|| self.sent.saturating_sub(self.back))
    }
}

async fn write(mut writing: OwnedWriteHalf, counts: Arc<Counts>) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut piece = vec![0; PIECE];
    loop {
        beat.tick().await;
        if counts.holds.load(Ordering::Relaxed) {
            continue;
        }
        let from = counts.sent.load(Ordering::Relaxed);
        fill(from, &mut piece);
        // Counted before: a byte must not be back before it counts as sent.
        counts.sent.store(from + PIECE as u64, Ordering::Relaxed);
        if writing.write_all(&piece).await.is_err() {
            return;
        }
    }
}

async fn read(mut reading: OwnedReadHalf, counts: Arc<Counts>) {
    let began = counts.began.unwrap_or_else(Instant::now);
    let (mut got, mut expected) = (vec![0; PIECE], vec![0; PIECE]);
    let mut last = began.elapsed();
    let mut at = 0;
    loop {
        let count = reading.read(&mut got).await.unwrap_or(0);
        if count == 0 {
            counts.is_over.store(true, Ordering::Relaxed);
            return;
        }
        fill(at, &mut expected);
        if got.get(..count) != expected.get(..count) {
            counts.differs.store(true, Ordering::Relaxed);
        }
        at += count as u64;
        counts.back.store(at, Ordering::Relaxed);
        let now = began.elapsed();
        let silence = u64::try_from((now - last).as_micros()).unwrap_or(u64::MAX);
        if !counts.holds.load(Ordering::Relaxed) {
            counts.longest_us.fetch_max(silence, Ordering::Relaxed);
        }
        last = now;
    }
}

/// The bytes of the stream from position `from` on: splitmix64 of each eighth position.
fn fill(from: u64, out: &mut [u8]) {
    let mut at = from;
    let mut rest = out;
    while !rest.is_empty() {
        let word = noise(at / 8).to_le_bytes();
        let word = word
            .get(usize::try_from(at % 8).unwrap_or(0)..)
            .unwrap_or_default();
        let count = word.len().min(rest.len());
        let (now, later) = rest.split_at_mut(count);
        now.copy_from_slice(word.get(..count).unwrap_or_default());
        rest = later;
        at += count as u64;
    }
}

fn noise(index: u64) -> u64 {
    let mut word = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noise_is_the_same_wherever_it_is_cut() {
        let mut whole = vec![0; 1000];
        fill(0, &mut whole);
        for from in [0, 1, 7, 8, 9, 500] {
            let mut part = vec![0; 100];
            fill(from, &mut part);
            assert_eq!(
                part,
                whole[usize::try_from(from).unwrap()..][..100],
                "from {from}"
            );
        }
        assert_ne!(whole[..100], whole[100..200]);
    }
}
