//! Simulation of the shipping code over injected network, disk, clock and randomness, in virtual time.
//!
//! A story is told on one thread, every choice in it comes from one seed, and so it can be told again exactly:
//! `cargo xtask sim --seed 42`. Each simulated server has a runtime and a clock of its own, so that it can be frozen and lose
//! its power while the others go on.
//!
//! Always true: the code under test is the code that ships (`replica`, and of `policy` what [`policy::office::Office`] puts
//! together); nothing in it knows that it is simulated. `duties` does with the decisions what the daemon does. Start at
//! [`run`], which tells a story; `world` holds the machines, `network` what is between them, `storm` what goes wrong, `checks`
//! what must always be true, [`Planted`] the bugs that show that the rules find something.
//!
//! Quorum mode only so far: formations that part and meet again would be one more kind of trouble in `storm`, and their rules
//! one more part of `checks`.

mod checks;
mod duties;
mod fixture;
mod machine;
mod network;
mod outside;
mod planted;
mod scene;
mod server;
mod shape;
mod storm;
mod story;
mod world;

pub use checks::{Broken, Invariant};
pub use planted::Planted;
pub use story::{Failed, Plot, Report, STORM, run};
