//! A group that exists only in this process: servers with real TLS ports, a keeper end for each stream, and an echo behind it.
//!
//! What a test can do to it: cut connections, silence or stop servers, lose answers, orphan and end sessions.

mod authority;
mod group;
mod keeper;
mod server;

pub(crate) use authority::{Authority, Role, port_with};
pub(crate) use group::{Fault, Group};
