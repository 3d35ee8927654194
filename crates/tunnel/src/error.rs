//! What can go wrong at one end of a stream: with the peer, with a path, with the driver.
//!
//! Always true: a [`ProtocolError`] ends the stream, the others change nothing.

use crate::frame::FrameError;

/// The peer sent what this protocol does not allow. The stream is over; a RESET waits to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Bytes that are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// DATA or FIN left bytes out.
    #[error("bytes from {expected} to {offset} were left out")]
    Gap {
        /// Offset of the frame.
        offset: u64,
        /// Bytes received in order.
        expected: u64,
    },
    /// DATA beyond what this end said it would take.
    #[error("data up to {end} exceeds the window, which ends at {limit}")]
    WindowExceeded {
        /// Offset behind the data.
        end: u64,
        /// Offset up to which data was allowed.
        limit: u64,
    },
    /// DATA behind the end of its direction.
    #[error("data up to {end} comes after the end at {fin}")]
    DataAfterFin {
        /// Offset behind the data.
        end: u64,
        /// Offset of the FIN.
        fin: u64,
    },
    /// A FIN that takes back bytes.
    #[error("an end at {offset}, but {received} bytes were received")]
    FinBeforeData {
        /// Offset of the FIN.
        offset: u64,
        /// Bytes received in order.
        received: u64,
    },
    /// A second FIN that contradicts the first.
    #[error("an end at {offset}, but it was at {fin} before")]
    FinMoved {
        /// Offset of the second.
        offset: u64,
        /// Offset of the first.
        fin: u64,
    },
    /// An ACK of what was never sent.
    #[error("{delivered} bytes acknowledged, but only {sent} were sent")]
    AckBeyondSent {
        /// The ACK's position.
        delivered: u64,
        /// This end's position.
        sent: u64,
    },
    /// An ACK that takes back an earlier one.
    #[error("{delivered} bytes acknowledged, but it was {acked} before")]
    AckWentBack {
        /// The ACK's position.
        delivered: u64,
        /// The earlier one's.
        acked: u64,
    },
    /// An ACK that takes back room that was promised.
    #[error("a window up to {limit}, but {promised} was promised before")]
    WindowWithdrawn {
        /// Where the window would end.
        limit: u64,
        /// Where it ended before.
        promised: u64,
    },
}

/// The peer claims to have received what it cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the peer claims to have received {received} bytes, which is not between {acked} acknowledged and {sent} sent"
)]
pub struct OffsetRefused {
    /// The peer's claim.
    pub received: u64,
    /// What it had acknowledged.
    pub acked: u64,
    /// What it had been sent.
    pub sent: u64,
}

/// Why a path cannot be used. The stream, and the path that it may have, go on as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathRefused {
    /// The stream is over.
    #[error("the stream has ended")]
    Ended,
    /// The peer's offset is impossible.
    #[error(transparent)]
    Offset(#[from] OffsetRefused),
}

/// Why bytes of the local socket were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// More than the replay buffer has room for; [`Stream::local_capacity`](crate::Stream::local_capacity) was not asked.
    #[error("{length} bytes do not fit into the {room} bytes left in the replay buffer")]
    Full {
        /// What was to be written.
        length: usize,
        /// What there is room for.
        room: usize,
    },
    /// The local socket had already ended.
    #[error("bytes after the end of the local socket")]
    AfterEof,
    /// The stream is over.
    #[error("the stream has ended")]
    Ended,
}
