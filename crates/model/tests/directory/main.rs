//! The directory under test: stories that a reviewer reads, a plain twin on random changes, and what it weighs.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail where it is wrong"
)]

mod audit;
mod common;
mod divergence;
mod elsewhere;
mod locks;
mod memory;
mod plain;
mod profiles;
mod secrets;
mod servers;
mod stories;
mod twin;
