//! The tunnel: its frames, one end of a stream against a hostile peer, two ends with a bad path between them, and resumes.
//!
//! What holds for any bytes: frames mean the same however they are cut; an end does exactly what its twin says ([`twin`]), which is
//! the rules written a second time without windows of memory; what one end hands out is a beginning of what the other took in.

mod end;
mod frames;
mod hostile;
mod pair;
mod resumes;
mod twin;

pub use frames::tunnel_frames;
pub use hostile::tunnel_stream;
pub use pair::tunnel_pair;
pub use resumes::tunnel_resume;

pub(crate) use frames::tunnel_frames_seeds;
pub(crate) use hostile::tunnel_stream_seeds;
pub(crate) use pair::tunnel_pair_seeds;
pub(crate) use resumes::tunnel_resume_seeds;

use crate::input::Input;
use tunnel::Config;

/// The byte of a stream at this position: so that what comes twice or at a wrong place differs.
fn byte_at(position: u64) -> u8 {
    let mixed = position.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.to_be_bytes()[0]
}

/// Bytes of a stream from this position on.
fn bytes_at(position: u64, count: usize) -> Vec<u8> {
    (0..count as u64)
        .map(|place| byte_at(position.wrapping_add(place)))
        .collect()
}

/// Limits, mostly so small that they are met.
fn config(input: &mut Input<'_>) -> Config {
    const SIZES: [usize; 10] = [1, 2, 3, 7, 100, 300, 4096, 9000, 70_000, 4 << 20];
    Config {
        replay: input.one_of(&SIZES),
        window: u32::try_from(input.one_of(&SIZES)).unwrap_or(u32::MAX),
        ahead: input.one_of(&SIZES),
        ..Config::default()
    }
}
