//! One harness for each decoder that somebody reaches who has not proved himself: a function that takes any bytes and asserts what
//! must hold for them.
//!
//! The tests of this crate run each over well-formed examples, over all their beginnings and over damaged ones. `cargo xtask fuzz`
//! runs them guided by coverage, for as long as one likes; its runner lies in `fuzz/` outside the workspace.
//!
//! Always true: a harness has no state and no randomness, so that the same bytes fail again; it asserts more than that nothing
//! panics; what it finds is mended where it was found, never made an exception here.
//!
//! Start at [`TARGETS`].

pub mod api;
pub mod conversation;
pub mod gateway;
mod input;
mod memory;
pub mod messages;
pub mod tunnel;

/// A harness.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The function's name.
    pub name: &'static str,
    /// Takes any bytes; panics when something does not hold.
    pub harness: fn(&[u8]),
    /// What it covers.
    pub covers: &'static str,
    /// The most bytes that it makes sense to try.
    pub longest: usize,
    /// Well-formed examples to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! target {
    ($module:ident, $name:ident, $seeds:ident, $longest:expr, $covers:literal) => {
        Target {
            name: stringify!($name),
            harness: $module::$name,
            covers: $covers,
            longest: $longest,
            seeds: $module::$seeds,
        }
    };
}

/// All of them.
pub const TARGETS: [Target; 19] = [
    target!(
        tunnel,
        tunnel_frames,
        tunnel_frames_seeds,
        16 * 1024,
        "frames of the tunnel: at once, in pieces, encoded again"
    ),
    target!(
        tunnel,
        tunnel_stream,
        tunnel_stream_seeds,
        4 * 1024,
        "one end of a stream against a hostile peer, beside its twin"
    ),
    target!(
        tunnel,
        tunnel_pair,
        tunnel_pair_seeds,
        4 * 1024,
        "two ends of a stream with a path that breaks"
    ),
    target!(
        tunnel,
        tunnel_resume,
        tunnel_resume_seeds,
        4 * 1024,
        "attempts to resume: proofs, epochs and offsets"
    ),
    target!(
        messages,
        frame_header,
        frame_header_seeds,
        4 * 1024,
        "the length in front of every message"
    ),
    target!(
        messages,
        client_request,
        client_request_seeds,
        4 * 1024,
        "requests of clients"
    ),
    target!(
        messages,
        client_answer,
        client_answer_seeds,
        4 * 1024,
        "answers of servers to clients"
    ),
    target!(
        messages,
        peer_hello,
        peer_hello_seeds,
        16 * 1024,
        "hellos between servers"
    ),
    target!(
        messages,
        join_message,
        join_message_seeds,
        32 * 1024,
        "messages of joining"
    ),
    target!(
        messages,
        join_code,
        join_code_seeds,
        4 * 1024,
        "join codes as text"
    ),
    target!(
        conversation,
        client_conversation,
        client_conversation_seeds,
        16 * 1024,
        "a client's whole conversation, up to the pipe to its keeper"
    ),
    target!(
        gateway,
        rdp_request,
        rdp_request_seeds,
        4 * 1024 + 64,
        "connection requests of RDP"
    ),
    target!(
        gateway,
        proxy_header,
        proxy_header_seeds,
        4 * 1024 + 64,
        "headers of the PROXY protocol, versions 1 and 2"
    ),
    target!(
        gateway,
        tls_server_name,
        tls_server_name_seeds,
        16 * 1024 + 64,
        "client hellos of TLS, for the server's name"
    ),
    target!(
        gateway,
        gateway_claim,
        gateway_claim_seeds,
        16 * 1024 + 64,
        "what a gateway's client claims, from any source"
    ),
    target!(
        api,
        api_connection,
        api_connection_seeds,
        16 * 1024,
        "a connection to the HTTP API: heads, credentials, versions, bodies"
    ),
    target!(
        api,
        api_credential,
        api_credential_seeds,
        4 * 1024,
        "tokens for programs, and tickets"
    ),
    target!(
        api,
        api_body,
        api_body_seeds,
        16 * 1024,
        "JSON of requests, as each of their kinds"
    ),
    target!(
        api,
        backup,
        backup_seeds,
        16 * 1024,
        "backups: what they say of themselves, and their records"
    ),
];
