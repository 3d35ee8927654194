//! The daemon: what a server does, put together from the floors below.
//!
//! Always true: decisions are made in `policy` and `model`, never here; nothing that a client or another server sends
//! reaches further than its own connection before it has proved itself; what acts as primary asks the one predicate.
//!
//! Start at [`start`] for how a server comes to be, [`duties`] for the loop, [`submit`] for the way of a change,
//! [`sessions`] for what clients get, and [`api`] for what administrators and programs get.

mod adding;
mod addresses;
mod admission;
pub mod api;
mod api_tokens;
mod authorities;
mod backends;
pub mod backup;
mod client_port;
pub mod clock;
mod control;
mod divergence;
mod draining;
mod duties;
mod elsewhere;
mod endpoint;
mod entering;
mod expiring;
mod expiry;
mod external_certificates;
mod following;
mod formations;
pub mod found;
mod gateways;
mod hosting;
pub mod identity;
pub mod joining;
mod keys;
mod links;
mod lockouts;
pub mod login;
mod moving;
pub mod node;
mod office;
mod peer_port;
mod peers;
mod pins;
mod placing;
mod profiles;
mod random;
mod recovering;
mod removing;
mod renewing;
mod reporting;
mod reports;
mod reset;
mod runtimes;
mod sealing;
mod secrets;
mod seen;
mod sessions;
mod socket;
mod spool;
pub mod start;
mod stored;
mod streams;
pub mod submit;
mod suites;
mod tally;
pub mod tickets;
mod timing;
mod trusting;
mod tunnels;

pub use endpoint::Listen;
pub use found::{InitDone, InitError, InitOptions, VERSION, init};
pub use joining::{JoinDone, JoinOptions, JoiningError, join};
pub use login::LoginError;
pub use node::{Consistency, Node};
pub use start::{ServeError, ServeOptions, serve};
pub use submit::SubmitError;
