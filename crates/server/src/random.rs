//! Identifiers and secrets from the operating system's randomness, and chance that keeps no secret.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use rand::RngExt;

/// The operating system has no randomness to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random numbers")]
pub struct NoRandomness;

/// Draws that many bytes.
///
/// # Errors
/// When the operating system has none to give.
pub fn bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut drawn = [0; N];
    SystemRandom::new()
        .fill(&mut drawn)
        .map_err(|_| NoRandomness)?;
    Ok(drawn)
}

/// Draws that many bytes from this thread's own generator, which the operating system's randomness seeds: a microsecond
/// cheaper than [`bytes()`], for what every request draws and nobody gains anything by guessing.
pub fn chance<const N: usize>() -> [u8; N] {
    rand::rng().random()
}
