//! No bytes make a decoder panic, and what was encoded is decoded again.

use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use wire::{client, control, decode, encode, frame, hello, join, keeper, proxy, rdp};

fn survives<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = decode::<T>(bytes) {
        // Lengths may be written in more than one way; what they mean may not.
        assert_eq!(
            decode::<T>(&encode(&message)).expect("what was just encoded"),
            message
        );
    }
}

fn all_survive(bytes: &[u8]) {
    survives::<client::Request>(bytes);
    survives::<client::Answer>(bytes);
    survives::<control::Request>(bytes);
    survives::<control::Answer>(bytes);
    survives::<control::StreamOpening>(bytes);
    survives::<control::StreamAnswer>(bytes);
    survives::<hello::Hello>(bytes);
    survives::<hello::HelloAnswer>(bytes);
    survives::<join::JoinRequest>(bytes);
    survives::<join::JoinAnswer>(bytes);
    survives::<keeper::Opening>(bytes);
    survives::<keeper::OpeningAnswer>(bytes);
    survives::<keeper::Command>(bytes);
    survives::<keeper::Notice>(bytes);
    // What gateways read of clients that speak other people's protocols.
    let _ = rdp::connection_request(bytes);
    if let Ok(Some(header)) = proxy::read(bytes) {
        assert!(header.length <= bytes.len().min(proxy::LIMIT));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        all_survive(&bytes);
    }

    #[test]
    fn bytes_that_start_like_a_message(variant in 0u8..32, bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let mut message = vec![variant];
        message.extend(bytes);
        all_survive(&message);
    }

    #[test]
    fn bytes_that_start_like_what_gateways_read(which in 0usize..5, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let starts: [&[u8]; 5] = [
            b"PROXY TCP4 192.0.2.9 192.0.2.1 ",
            b"PROXY TCP6 ",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
            b"\r\n\r\n\0\r\nQUIT\n\x21",
            b"\x03\0\0\x20\x1b\xe0\0\0\0\0\0",
        ];
        let mut message = starts[which].to_vec();
        message.extend(bytes);
        all_survive(&message);
    }

    #[test]
    fn a_lying_length_allocates_nothing(variant in 0u8..32, count in any::<u64>()) {
        // A message that announces `count` entries and holds none.
        let mut message = vec![variant];
        message.extend(encode(&count));
        all_survive(&message);
    }

    #[test]
    fn join_codes_of_any_text(text in "\\PC{0,200}") {
        let _ = text.parse::<join::JoinCode>();
        let _ = format!("{}{text}", join::CODE_PREFIX).parse::<join::JoinCode>();
    }

    #[test]
    fn frames_above_the_limit_are_refused(length in any::<u32>(), limit in 0usize..1_000_000) {
        let found = frame::frame_length(length.to_be_bytes(), limit);
        prop_assert_eq!(found.is_ok(), length as usize <= limit);
    }
}

#[test]
fn a_cut_message_is_no_message() {
    let message = client::Request::Hello {
        protocol: client::PROTOCOL,
        version: "0.1.0".to_owned(),
        authority: Default::default(),
    };
    let bytes = encode(&message);
    for length in 0..bytes.len() {
        assert!(
            decode::<client::Request>(&bytes[..length]).is_err(),
            "{length} bytes were enough"
        );
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(decode::<client::Request>(&longer).is_err());
    assert_eq!(decode::<client::Request>(&bytes), Ok(message));
}

#[test]
fn secrets_are_not_shown() {
    let hidden = client::Hidden("open sesame".to_owned());
    let request = client::Request::Renew { ticket: hidden };
    assert!(!format!("{request:?}").contains("sesame"));
    let secret = client::StreamSecret([0x5a; 32]);
    assert!(!format!("{secret:?}").contains("90"));
}
