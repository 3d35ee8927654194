//! The command line and the HTTP API as programs see them: help, usage errors, and everything against a real server.
//!
//! Start at [`running`] for the server that the tests talk to.

mod api;
mod running;
mod usage;
mod verbs;
