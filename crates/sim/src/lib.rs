//! Simulation of the shipping code over injected network, disk, clock and randomness, in virtual time.
//!
//! Everything runs on one thread and one paused clock, and every choice comes from one seed, so that a run can be
//! repeated exactly: `STEAD_SIM_SEED=42 cargo test -p sim one_seed -- --nocapture`. More seeds: `STEAD_SIM_SEEDS=1000`.
//!
//! Always true: the code under test is the code that ships; nothing in it knows that it is simulated. Start at
//! [`run`], which tells a story by seed; `world` holds the servers, `wires` the network, `checks` what must always be true.

mod checks;
mod fixture;
mod story;
mod wires;
mod world;

pub use checks::{Broken, Invariant};
pub use story::{Report, run, seeds};
