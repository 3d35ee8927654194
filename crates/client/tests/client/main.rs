//! The client against a group that lives in the test.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails where it is wrong"
)]
#![expect(clippy::print_stdout, reason = "a seed is shown when its test fails")]

mod api;
mod connect;
mod fake;
mod trust;
