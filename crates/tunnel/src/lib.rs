//! A resumable stream of bytes in both directions, as a pure state machine.
//!
//! Two local sockets, a viewer's and a backend's, are joined by a path that may break and be replaced at any byte. Each end
//! runs one [`Stream`]: bytes of the local socket and bytes of the path go in, bytes for either go out, and the time is told to
//! it. The same machine serves the client and the keeper; what differs is who opens paths.
//!
//! Always true:
//!
//! - What one end hands to its local socket is a prefix of what the other end read from its own: nothing lost, repeated or
//!   reordered, whatever happened to paths in between.
//! - A byte is acknowledged only when it has been written to the final local socket, and is held for replay until then.
//! - Memory is bounded by [`Config`], whatever the peer sends.
//! - No clock, no randomness, no I/O: `now` is a [`Duration`](std::time::Duration) since any start that the caller keeps to.
//!
//! Start reading at [`stream`]; the wire format is in [`frame`], the rules of replacing a path in [`resume`].

mod chunks;
mod config;
mod error;
pub mod frame;
mod inbound;
mod outbound;
pub mod resume;
pub mod stream;

pub use config::Config;
pub use error::{OffsetRefused, PathRefused, ProtocolError, WriteError};
pub use frame::{Frame, FrameError, ResetCode};
pub use resume::{EpochCounter, EpochGate, ResumeRefused, proof_input};
pub use stream::{Event, Stream};
