//! Conversations with clients, honest and hostile, over streams in memory.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails where it is wrong"
)]

mod conversation;
mod fake;
mod hostile;
