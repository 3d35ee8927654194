//! What groups live through, told with real processes, cut links and sessions open meanwhile, and seen from outside through
//! the command line. Time passes in these stories, and most of them share the machine while it does.

#![expect(
    clippy::indexing_slicing,
    reason = "a test that meets what it did not expect is to fail there"
)]

mod absent;
mod adding;
mod addresses;
mod authority;
mod browsers;
#[path = "../common/mod.rs"]
mod common;
mod desk;
mod four;
mod paused;
mod reset;
mod returns;
mod seals;
mod sides;
mod splits;
mod trust;
mod witness;

const STEAD: &str = env!("CARGO_BIN_EXE_stead");
