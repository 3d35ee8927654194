//! Between servers: the group's certificate authority, mutual TLS, joining, and connections.
//!
//! What must always be true: a byte from another server reaches the floor above only after TLS 1.3 with both
//! certificates checked **and** the group secret proved by both ends (joining excepted, which pins the
//! authority and proves a one-time secret instead); every size and time before that is bounded; no secret
//! crosses the wire unless joining gives it, and none is logged or shown.
//!
//! Start reading at [`authority`] and [`tls`] for who is trusted, [`hello`] for how it is proved, and
//! [`link`] and [`pool`] for what the connections are used for.

pub mod address;
pub mod admit;
pub mod authority;
mod carrier;
pub mod credentials;
pub mod dial;
pub mod files;
pub mod fingerprint;
mod framing;
pub mod granted;
pub mod hello;
pub mod identity;
mod in_full;
pub mod join;
pub mod key;
#[cfg(test)]
mod kit;
pub mod link;
pub mod listener;
mod message;
pub mod operator;
pub mod pool;
pub mod reach;
pub mod seal;
pub mod secret;
pub mod serve;
pub mod shown;
pub mod socket;
pub mod standalone;
pub mod tls;
pub mod trips;
pub mod trust_store;
pub mod verify;

pub use carrier::Heard;
pub use framing::{FramingError, PAYLOAD_LIMIT};
pub use in_full::InFull;
pub use message::ReceiveError;
