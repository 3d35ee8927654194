//! What touches the operating system for sessions: keepers, the commands and terminals that they run, load figures.
//!
//! Two sides meet here. The server's: [`launch()`] starts a keeper, [`link`] talks to one, [`discover()`] finds those that are there when
//! the server starts. The keeper's: [`keeper::run`] is the process that owns a session and outlives the server.
//!
//! Always true:
//!
//! - A session hangs on its keeper alone. The server may be killed at any moment without the session noticing.
//! - What a keeper was told and what became of it are files of the session's folder, so that a server can find out afterwards.
//! - Nothing that comes through a keeper's socket makes it fail or grow without bounds.

pub mod core_dumps;
pub mod descriptors;
pub mod discover;
pub mod halls;
pub mod keeper;
pub mod launch;
pub mod link;
pub mod load;
pub mod pam;
pub mod running;
mod scope;
mod socket;

pub use discover::{Found, discover, remove};
pub use halls::Halls;
pub use keeper::backend::{NoBackend, Socket as BackendSocket, accepts};
pub use keeper::lacks_account;
pub use launch::{LaunchError, Launched, launch};
pub use link::{Commands, LinkError, Notices, connect, open_stream};
pub use load::{Load, LoadMeter};
pub use running::connect_running;
