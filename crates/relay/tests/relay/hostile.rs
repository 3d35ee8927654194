//! What hostile and broken clients get: an answer if they listen, and never more than their share.

use std::time::Duration;

use relay::Ending;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use wire::client::{Answer, Refused, Request};
use wire::frame::UNPROVED_LIMIT;

use crate::fake::{House, Port, TICKET, address, ask, open};

fn is_malformed(mut rest: &[u8]) -> bool {
    let mut last = None;
    while let Some((header, body)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*header) as usize;
        last = wire::decode::<Answer>(&body[..length]).ok();
        rest = &body[length..];
    }
    last == Some(Answer::Refused(Refused::Malformed))
}

#[tokio::test]
async fn garbage_is_answered_and_ends_the_conversation() {
    let port = Port::new(House::default());
    for garbage in [
        &[0, 0, 0, 3, 0xff, 0xff, 0xff][..],
        &[0, 0, 0, 0],
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut client = port.client(address());
        client.io.write_all(garbage).await.unwrap();
        let (rest, ending) = client.end().await;
        assert!(is_malformed(&rest), "{garbage:?}: {rest:?}");
        assert!(
            matches!(ending, Ending::BadRequest(_) | Ending::BadFrame(_)),
            "{ending:?}"
        );
    }
    assert_eq!(port.gate.inside(), (0, 0));
}

#[tokio::test]
async fn random_bytes_never_harm() {
    let port = Port::new(House::default());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..300 {
        let mut client = port.client(address());
        let length = 1 + round * 7;
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                // Plausible lengths, so that bodies are decoded too.
                if state >> 62 == 0 {
                    0
                } else {
                    state.to_be_bytes()[0]
                }
            })
            .collect();
        client.io.write_all(&bytes).await.unwrap();
        client.io.shutdown().await.unwrap();
        client.end().await;
    }
    assert_eq!(port.gate.inside(), (0, 0));
}

#[tokio::test]
async fn a_stranger_may_send_four_kibibytes_in_all() {
    let port = Port::new(House::default());
    let mut client = port.client(address());
    // One frame that is larger.
    client
        .io
        .write_all(&(UNPROVED_LIMIT as u32).to_be_bytes())
        .await
        .unwrap();
    let (rest, ending) = client.end().await;
    assert!(
        is_malformed(&rest) && matches!(ending, Ending::BadFrame(_)),
        "{ending:?}"
    );
    // Many frames that are larger together.
    let mut client = port.client(address());
    let hello = Request::Hello {
        protocol: 1,
        version: "x".repeat(1000),
        authority: Default::default(),
    };
    for _ in 0..4 {
        assert!(matches!(client.ask(&hello).await, Answer::Hello { .. }));
    }
    client.send(&hello).await;
    let (rest, ending) = client.end().await;
    assert!(
        is_malformed(&rest) && matches!(ending, Ending::BadFrame(_)),
        "{ending:?}"
    );
    // Who has proved himself may go on.
    let mut client = port.greeted().await;
    for _ in 0..1000 {
        assert!(matches!(client.ask(&ask(TICKET)).await, Answer::State(_)));
    }
}

#[tokio::test]
async fn nothing_is_answered_before_the_hello() {
    let port = Port::new(House::default());
    let mut client = port.client(address());
    assert_eq!(
        client.ask(&open("right")).await,
        Answer::Refused(Refused::Malformed)
    );
    assert!(matches!(client.end().await.1, Ending::Refused));
}

#[tokio::test]
async fn passwords_cannot_be_guessed_on_one_connection_for_long() {
    let port = Port::new(House::default());
    let mut client = port.greeted().await;
    for _ in 0..5 {
        assert_eq!(
            client.ask(&open("wrong")).await,
            Answer::Refused(Refused::Login)
        );
    }
    assert!(matches!(client.end().await.1, Ending::Refused));
}

#[tokio::test(start_paused = true)]
async fn a_slow_stranger_has_ten_seconds_in_all() {
    let port = Port::new(House::default());
    let began = Instant::now();
    let mut client = port.client(address());
    let mut frame = Vec::new();
    let hello = Request::Hello {
        protocol: 1,
        version: "x".repeat(100),
        authority: Default::default(),
    };
    wire::frame_into(&hello, &mut frame);
    let writing = async {
        for byte in &frame {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if client.io.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
    };
    writing.await;
    assert!(matches!(client.end().await.1, Ending::TooSlow));
    assert!(
        began.elapsed() < Duration::from_secs(12),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_half_open_connection_ends_too() {
    let port = Port::new(House::default());
    let (silent, proved) = (port.client(address()), {
        let mut client = port.greeted().await;
        assert!(matches!(client.ask(&ask(TICKET)).await, Answer::State(_)));
        client
    });
    assert!(matches!(silent.end().await.1, Ending::TooSlow));
    assert!(matches!(proved.end().await.1, Ending::TooSlow));
    assert_eq!(port.gate.inside(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_servers_own_time_is_not_the_clients() {
    let house = House {
        start_time: Duration::from_secs(30),
        ..House::default()
    };
    let port = Port::new(house);
    let mut client = port.greeted().await;
    assert_eq!(
        client.ask(&open("wrong")).await,
        Answer::Refused(Refused::Login)
    );
    assert!(matches!(
        client.ask(&open("right")).await,
        Answer::Opened(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_answers_is_left() {
    let port = Port::new(House::default());
    let mut client = port.greeted().await;
    assert!(matches!(client.ask(&ask(TICKET)).await, Answer::State(_)));
    let mut frames = Vec::new();
    for _ in 0..2000 {
        wire::frame_into(&ask(TICKET), &mut frames);
    }
    // More than fits: the server stops reading when its answers are not read.
    let sending = tokio::time::timeout(Duration::from_secs(60), client.io.write_all(&frames));
    assert!(
        sending.await.is_ok_and(|sent| sent.is_err()),
        "everything was taken"
    );
    let ending = client.serving.await.unwrap();
    assert!(
        matches!(ending, Ending::TooSlow | Ending::Failed(_)),
        "{ending:?}"
    );
}
