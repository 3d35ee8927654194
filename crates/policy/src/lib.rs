//! Decisions: who steps forward as primary, who counts, where sessions go, what is lost, and why.
//!
//! Pure: no clock, randomness, threads or I/O. `now` is a `Duration` on a steady clock that also counts suspended time,
//! from a start that the caller chose; random numbers come in as parameters. What happens over time is a state machine
//! (`handle(event, now)`, `handle_timeout(now)`, `poll_timeout()`); what is asked is a function of a [`view::View`].
//! Every answer comes with its reasons. Start reading at [`explanation`] and [`campaign`];
//! [`office`] puts together what one server needs.

pub mod adding;
pub mod addresses;
pub mod advice;
pub mod backends;
pub mod backups;
pub mod campaign;
pub mod clocks;
pub mod draining;
pub mod explanation;
pub mod failback;
pub mod formations;
pub mod hosting;
pub mod liveness;
pub mod logins;
pub mod losses;
pub mod office;
pub mod pause;
pub mod placement;
pub mod plan;
pub mod promotion;
pub mod recovery;
pub mod removal;
pub mod renewal;
pub mod reset;
pub mod rotation;
pub mod sealing;
pub mod suites;
pub mod timing;
pub mod view;
pub mod voting;
pub mod why_not;
mod words;

pub use explanation::{Candidate, Explanation};
pub use losses::Protection;
pub use plan::Plan;
pub use view::{Peer, View};

/// The most entries that a server may lack and still count as caught up.
pub const CAUGHT_UP_LAG: u64 = 64;
