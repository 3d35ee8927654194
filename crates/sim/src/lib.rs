//! Simulation of the shipping code over injected network, disk, clock and randomness, in virtual time.
//!
//! A story is told on one thread, every choice in it comes from one seed, and so it can be told again exactly:
//! `cargo xtask sim --seed 42`. Each simulated server has a runtime and a clock of its own, so that it can be frozen and lose
//! its power while the others go on.
//!
//! Always true: the code under test is the code that ships (`replica`, and of `policy` what [`policy::office::Office`] puts
//! together and what `policy::formations` decides); nothing in it knows that it is simulated. `duties` and `formations` do with
//! the decisions what the daemon does: groups in either mode, sides that go on alone, meet again and give way, servers that lost
//! their disk. Start at [`run`], which tells a story by chance, or at [`Tale`], which tells one as it is told to; `world` holds
//! the machines, `network` what is between them, `storm` what goes wrong, `calm` the end, `checks` what must always be true,
//! [`Planted`] the bugs that show that the rules find something.
//!
//! Left out: what runs for a session on its host is not simulated, so that a host registers only sessions that its directory
//! still has.

mod breadth;
mod calls;
mod calm;
mod cast;
mod checks;
mod duties;
mod fixture;
mod formations;
mod hosting;
mod machine;
mod members;
mod network;
mod outside;
mod parting;
mod people;
mod planted;
mod reporting;
mod scene;
mod server;
mod shape;
mod storm;
mod story;
mod tale;
mod world;

pub use breadth::Breadth;
pub use checks::{Broken, Invariant};
pub use planted::Planted;
pub use story::{Failed, Plot, Report, STORM, run};
pub use tale::{Group, Tale};
