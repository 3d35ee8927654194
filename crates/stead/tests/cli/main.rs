//! The command line and the HTTP API as programs see them: help, usage errors, and everything against a real server.
//!
//! Start at [`running`] for the server that the tests talk to.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect fails, and says where"
)]

mod api;
mod api_tokens;
mod audit;
mod backup;
mod profiles;
mod running;
mod secrets;
mod tokens;
mod usage;
mod verbs;
