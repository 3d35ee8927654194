//! What crosses a boundary and must stay compatible: between servers, to clients, to keepers, and join codes.
//!
//! Encode and decode only. Every message but those of other people's protocols ([`rdp`], [`proxy`]) is postcard inside a frame (see [`frame`]); enums are only ever
//! extended at their end, and every conversation opens with a protocol number, so that versions N and N+1
//! work together. Decoders take hostile bytes: they never panic and never allocate more than a frame's limit.

pub mod client;
pub mod control;
pub mod credentials;
pub mod frame;
pub mod hello;
pub mod join;
pub mod keeper;
pub mod proxy;
pub mod rdp;

pub use frame::{DecodeError, FrameError, decode, encode, frame_into, frame_length};
