//! What both ends of a multiplexed connection have in common: sending frames, and noticing silence.

use crate::framing::{Frame, Kind};
use crate::link::LinkEnd;
use crate::trips::RoundTrips;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How much is written in one piece.
const PIECE: usize = 64 * 1024;

/// When another server was last heard. Clones share it.
#[derive(Debug, Clone)]
pub struct Heard {
    start: Instant,
    /// Milliseconds after `start`, plus one; zero for never.
    at: Arc<AtomicU64>,
    trips: RoundTrips,
}

impl Default for Heard {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            at: Arc::new(AtomicU64::new(0)),
            trips: RoundTrips::default(),
        }
    }
}

impl Heard {
    /// It was heard just now.
    pub fn now(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.at.fetch_max(elapsed + 1, Ordering::Relaxed);
    }

    /// How long messages take to it and back.
    pub fn trips(&self) -> &RoundTrips {
        &self.trips
    }

    /// When it was last heard, to the millisecond; none when never.
    pub fn last(&self) -> Option<std::time::Instant> {
        let at = self.at.load(Ordering::Relaxed).checked_sub(1)?;
        Some((self.start + Duration::from_millis(at)).into_std())
    }

    /// How long it has been silent; none when it was never heard.
    pub fn silent_for(&self) -> Option<Duration> {
        let at = self.at.load(Ordering::Relaxed).checked_sub(1)?;
        Some(
            self.start
                .elapsed()
                .saturating_sub(Duration::from_millis(at)),
        )
    }
}

/// A frame to be sent.
pub(crate) struct Outgoing {
    pub(crate) frame: Frame,
    /// Dropped once it is sent.
    pub(crate) sent: Option<Box<dyn Send>>,
}

impl Outgoing {
    pub(crate) fn bare(kind: Kind) -> Self {
        Self {
            frame: Frame::bare(kind),
            sent: None,
        }
    }
}

/// Sends frames in order, small ones together; ends after a goodbye, or when the connection breaks.
pub(crate) async fn carry_out<W>(
    mut stream: W,
    mut queue: mpsc::UnboundedReceiver<Outgoing>,
    progress: &Heard,
) -> LinkEnd
where
    W: AsyncWrite + Unpin,
{
    let mut pieces = Vec::with_capacity(PIECE);
    while let Some(first) = queue.recv().await {
        let mut sent = Vec::new();
        let mut next = Some(first);
        let mut goodbye = false;
        while let Some(outgoing) = next.take() {
            goodbye |= outgoing.frame.kind == Kind::Goodbye;
            pieces.extend_from_slice(&outgoing.frame.header());
            let payload: Bytes = outgoing.frame.payload;
            let fits = pieces.len() + payload.len() <= PIECE;
            if fits {
                pieces.extend_from_slice(&payload);
            } else if let Err(error) = write_all(&mut stream, &mut pieces, &payload, progress).await
            {
                return LinkEnd::Broken(error);
            }
            sent.extend(outgoing.sent);
            if pieces.len() < PIECE && !goodbye {
                next = queue.try_recv().ok();
            }
        }
        let flushed = async {
            stream.write_all(&pieces).await?;
            stream.flush().await
        };
        if let Err(error) = flushed.await {
            return LinkEnd::Broken(error);
        }
        pieces.clear();
        drop(sent);
        if goodbye {
            let _ = stream.shutdown().await;
            return LinkEnd::ClosedHere;
        }
    }
    LinkEnd::ClosedHere
}

/// Sends what is gathered and a long payload. Each piece that found room counts as progress, so that a long
/// message over a slow line is not taken for silence.
async fn write_all<W: AsyncWrite + Unpin>(
    stream: &mut W,
    gathered: &mut Vec<u8>,
    payload: &[u8],
    progress: &Heard,
) -> std::io::Result<()> {
    stream.write_all(gathered).await?;
    gathered.clear();
    for piece in payload.chunks(PIECE) {
        stream.write_all(piece).await?;
        progress.now();
    }
    Ok(())
}

/// Ends when there was no progress for too long.
pub(crate) async fn silence(progress: &Heard, silent_after: Duration) -> LinkEnd {
    let opened = Instant::now();
    loop {
        let silent = progress
            .silent_for()
            .unwrap_or(Duration::MAX)
            .min(opened.elapsed());
        if silent >= silent_after {
            return LinkEnd::Silent(silent);
        }
        tokio::time::sleep(silent_after - silent).await;
    }
}
