//! The data path of sessions at a server: what happens on the client port under ALPN `stead-client/1`.
//!
//! A client's connection begins as a [`conversation`] (requests and answers in frames) and, once a stream was
//! attached or resumed, becomes a [`pipe()`] to the session's keeper or to the server that hosts it. Who may do what, and
//! where a session is, the floor above knows: it stands behind the trait [`Sessions`].
//!
//! Always true:
//!
//! - Nothing of a stream is held here but the bytes that are being passed on; whatever breaks, the tunnel's ends repair.
//! - Sizes and times of strangers are bounded before anything is allocated for them, and who cannot be served now is told when
//!   to come back ([`admission`]).
//! - TLS ends before this crate: it is given byte streams, and the exporter of each client's connection.
//!
//! Start reading at [`conversation`].

pub mod admission;
pub mod conversation;
mod frames;
pub mod gateway;
pub mod listener;
pub mod pace;
pub mod pipe;
pub mod sessions;
pub mod stop;
mod turning_away;

pub use admission::{Admission, Entry, Gate, Limits, Permit};
pub use conversation::{AT_ONCE, Ending, Visitor, converse};
pub use listener::{Arrival, accept};
pub use pipe::{PipeEnd, Piped, pipe};
pub use sessions::{AttachTarget, ByteStream, OpenRequest, OpenedStream, Pending, Sessions};
pub use stop::{Stop, Stopper};
pub use turning_away::turn_away;
