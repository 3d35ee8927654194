//! Messages: postcard inside frames, of clients that have not proved themselves and of servers that want to join.
//!
//! What holds for any bytes: what is decoded is encoded and decoded to the same again, in no more bytes than it came in; nothing
//! may be missing at its end or stand behind it; a length that is claimed takes no room beyond what the bytes that are there can
//! fill; what logs and errors show of it can be shown.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use wire::frame::{CLIENT_LIMIT, HEADER, PEER_LIMIT, UNPROVED_LIMIT};
use wire::join::JoinCode;
use wire::{client, decode, encode, frame_into, frame_length, hello, join};

use crate::memory::at_most;

mod seeds;

pub(crate) use seeds::requests;

pub(crate) use seeds::{
    client_answer_seeds, client_request_seeds, frame_header_seeds, join_code_seeds,
    join_message_seeds, peer_hello_seeds,
};

/// Bytes of memory that a byte of a message may take: a list announces its entries, each of which takes one byte at least, and is
/// given room for as many as bytes are left.
const ROOM: usize = 128;

/// What a client asks for, before and after it has proved itself.
pub fn client_request(bytes: &[u8]) {
    message::<client::Request>(bytes);
}

/// What a server answers a client, which has seen its certificate but may be lied to all the same.
pub fn client_answer(bytes: &[u8]) {
    message::<client::Answer>(bytes);
}

/// Both messages with which servers open a connection.
pub fn peer_hello(bytes: &[u8]) {
    message::<hello::Hello>(bytes);
    message::<hello::HelloAnswer>(bytes);
}

/// All messages of joining.
pub fn join_message(bytes: &[u8]) {
    message::<join::JoinRequest>(bytes);
    message::<join::ReachReport>(bytes);
    message::<join::JoinAnswer>(bytes);
}

/// A join code, as text that somebody pastes, and with any content that its checksum fits.
pub fn join_code(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for text in [text.as_ref(), &format!("{}{text}", join::CODE_PREFIX)] {
        if let Ok(code) = at_most(64 * 1024 + ROOM * text.len(), || text.parse::<JoinCode>()) {
            let _ = format!("{code:?}");
            assert_eq!(code.to_string().parse(), Ok(code), "a code changed");
        }
    }
    if let Ok(code) = decode::<JoinCode>(bytes) {
        let text = code.to_string();
        if text.len() <= join::CODE_LIMIT {
            assert_eq!(text.parse(), Ok(code), "a code changed");
        } else {
            assert!(text.parse::<JoinCode>().is_err(), "a code above the limit");
        }
    }
}

/// The length in front of a message, against each limit that a conversation has.
pub fn frame_header(bytes: &[u8]) {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER>() else {
        return;
    };
    let announced = u64::from(u32::from_be_bytes(*header));
    for limit in [UNPROVED_LIMIT, CLIENT_LIMIT, PEER_LIMIT] {
        match frame_length(*header, limit) {
            Ok(length) => assert!(length as u64 == announced && length <= limit),
            Err(error) => assert!(announced > limit as u64, "{error}"),
        }
    }
    let mut framed = Vec::new();
    frame_into(&body.to_vec(), &mut framed);
    let (length, rest) = framed
        .split_first_chunk::<HEADER>()
        .expect("a frame has a header");
    assert_eq!(frame_length(*length, usize::MAX), Ok(rest.len()));
    assert_eq!(decode::<Vec<u8>>(rest).as_deref(), Ok(body));
}

fn message<T>(bytes: &[u8])
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let room = 1024 + ROOM * bytes.len();
    let Ok(message) = at_most(room, || decode::<T>(bytes)) else {
        return;
    };
    let shown = format!("{message:?}");
    assert!(!shown.is_empty(), "a message that shows nothing");
    let again = encode(&message);
    // Lengths may be written in more bytes than they need; what they mean may not change.
    assert!(again.len() <= bytes.len(), "{shown} grew");
    assert_eq!(decode::<T>(&again).as_ref(), Ok(&message));
    assert!(
        decode::<T>(&[&again[..], &[0]].concat()).is_err(),
        "{shown} with a byte behind it"
    );
    if let Some((_, cut)) = again.split_last() {
        assert!(decode::<T>(cut).is_err(), "{shown} without its last byte");
    }
}
