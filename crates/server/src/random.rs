//! Identifiers and secrets from the operating system's randomness.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

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
