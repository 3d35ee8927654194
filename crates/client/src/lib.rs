//! The client: `stead connect` as an engine, and the API client of the command line.
//!
//! Always true: a server is believed only by the group's pinned fingerprint ([`trust`]); nothing waits without a limit, and what
//! can be tried again is, at another server, with a growing pause that no two clients share ([`servers`]).
//!
//! Start reading at [`connect`] for sessions and at [`api`] for the command line; both stand on [`conversation`] and [`trust`].

pub mod api;
pub mod connect;
pub mod conversation;
pub mod device;
pub mod login;
pub mod servers;
pub mod trust;

pub use api::{Api, ApiError, Call, Reply, ServerEvent, Target};
pub use connect::{Connect, ConnectError, End, Event, Local};
pub use conversation::{AskError, Conversation, DialError};
pub use login::{Login, Logins};
pub use trust::{Fingerprint, Trust, TrustError};
