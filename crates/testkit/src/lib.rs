//! What the integration suites share: network namespaces whose links can be cut, processes that never outlive their
//! test, groups of real `stead` servers, and waiting for conditions.
//!
//! What must always be true: nothing that a test started is left behind when its guard is dropped, not even when the
//! test panics; what a killed test run left behind is removed by the next; nothing outside of namespaces and loopback is
//! touched; and nothing here waits for time to pass, only for conditions.
//!
//! ```no_run
//! use testkit::{Group, Machine, Network, seconds};
//!
//! let machine = Machine::alone();                       // one suite at a time on this machine
//! let network = Network::new(&machine, &["a", "b", "c", "viewer"]);
//! let group = Group::of(env!("CARGO_PKG_NAME")).in_network(&network, &["a", "b", "c"]).start();
//! network.node("a").unplug();                           // the primary's cable is pulled
//! testkit::eventually(seconds(5), "another primary", || group.primary_seen_by(1) != Some(0));
//! ```
//!
//! Start at [`Network`] for links and cuts, at [`Process`] for programs, at [`Group`] for servers. Failures panic with
//! what was seen: this is for tests, where that is the right answer.

mod command_line;
mod connect;
mod group;
mod leftovers;
mod machine;
mod network;
mod plan;
mod process;
mod reading;
pub mod screen;
mod slapd;
mod sshd;
mod stage;
mod wait;

pub use command_line::Outcome;
pub use connect::{event, events, listening, number, text};
pub use group::{CLIENT_PORT, Group, PASSWORD, PEER_PORT, Server};
pub use leftovers::has_control_group;
pub use machine::Machine;
pub use network::{Network, Node};
pub use plan::GroupPlan;
pub use process::Process;
pub use reading::read_until;
pub use slapd::Slapd;
pub use sshd::SshKeys;
pub use stage::Stage;
pub use wait::{eventually, eventually_some, millis, seconds, stays_so_for};
