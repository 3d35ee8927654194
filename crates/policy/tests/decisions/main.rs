//! Decisions as stories, as tables, and against dumb twins. Time is a number here; nothing waits.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets what it did not expect is to fail there"
)]

mod adding;
mod addresses;
mod advice;
mod campaign;
mod draining;
mod failback;
mod fixture;
mod formations;
mod group;
mod hosting;
mod liveness;
mod losses;
mod office;
mod placement;
mod plans;
mod recovery;
mod reset;
mod voting;
