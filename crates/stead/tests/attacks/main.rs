//! What attackers try, each as a test: on the built binary where that shows it, else where the rule lives.
//!
//! The table is `docs/attacks.md`: attack, what comes of it, test. [`table`] checks that each test named there exists, and that
//! each test here is named there.
//!
//! - [`adding`]: servers that stand alone, and groups that would have them.
//! - [`roles`]: every operation of the API, as somebody who may not; the list is the API's own description of itself.
//! - [`credentials`]: forged, cut, foreign and withdrawn tokens and tickets.
//! - [`streams`]: other people's sessions and streams.
//! - [`guessing`]: passwords tried, at one server and at several.
//! - [`elsewhere`]: passwords that an LDAP server checks.
//! - [`peers`]: a member's certificate in the wrong hands.
//! - [`secrets`]: what must appear nowhere, and memory that must not reach the disk.

#![expect(clippy::indexing_slicing, reason = "a test may fail where it is wrong")]

mod adding;
mod common;
mod credentials;
mod elsewhere;
mod guessing;
mod peers;
mod roles;
mod secrets;
mod streams;
mod table;
