//! Both ends of a link against each other, and against ends that break the rules, over pipes in memory.
//! Where time matters it is virtual.

use super::*;
use crate::framing::HEADER;
use crate::serve::serve;
use futures_util::future::join_all;
use std::collections::VecDeque;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

const LIMIT: Duration = Duration::from_secs(30);

fn few() -> LinkLimits {
    LinkLimits {
        requests: 4,
        request_kib: 8,
        ..LinkLimits::default()
    }
}

/// A link to a handler; what the serving end came to is in the task.
fn pair<F, A>(limits: LinkLimits, handler: F) -> (Link, JoinHandle<LinkEnd>)
where
    F: Fn(Bytes) -> A + Send + Sync + 'static,
    A: Future<Output = Bytes> + Send + 'static,
{
    let (near, far) = duplex(64 * 1024);
    let serving = tokio::spawn(async move { serve(far, &handler, limits, Heard::default()).await });
    (Link::open(near, limits, Heard::default()), serving)
}

/// A serving end under attack: the attacker's end of the pipe.
fn attacked(limits: LinkLimits) -> (DuplexStream, JoinHandle<LinkEnd>) {
    let (near, far) = duplex(64 * 1024);
    let never = |_| std::future::pending::<Bytes>();
    let serving = tokio::spawn(async move { serve(far, &never, limits, Heard::default()).await });
    (near, serving)
}

fn frame(number: u64, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let frame = Frame {
        number,
        kind,
        payload: Bytes::copy_from_slice(payload),
    };
    [&frame.header()[..], payload].concat()
}

#[tokio::test]
async fn thousands_of_requests_in_flight_get_their_own_answers() {
    let (link, _serving) = pair(LinkLimits::default(), |request: Bytes| async move {
        // Answers come in another order than requests.
        for _ in 0..request.first().copied().unwrap_or(0) % 5 {
            tokio::task::yield_now().await;
        }
        [&b"re: "[..], &request].concat().into()
    });
    let calls = (0..5000_u32).map(|number| {
        let link = &link;
        async move {
            let length = 4 + number as usize % 3000;
            let mut request = vec![number as u8; length];
            request[..4].copy_from_slice(&number.to_be_bytes());
            let request = Bytes::from(request);
            let answer = link.call(request.clone(), LIMIT).await.unwrap();
            assert_eq!(answer, [&b"re: "[..], &request].concat());
        }
    });
    join_all(calls).await;
}

#[tokio::test]
async fn requests_reach_the_handler_in_the_order_in_which_they_were_sent() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let (link, _serving) = pair(LinkLimits::default(), move |request: Bytes| {
        let record = Arc::clone(&record);
        async move {
            record
                .lock()
                .unwrap()
                .push(u32::from_be_bytes(request[..4].try_into().unwrap()));
            for _ in 0..request[3] % 7 {
                tokio::task::yield_now().await;
            }
            Bytes::new()
        }
    });
    let mut replies = VecDeque::new();
    for number in 0..20_000_u32 {
        replies.push_back(
            link.send(number.to_be_bytes().to_vec().into())
                .await
                .unwrap(),
        );
        if replies.len() > 500 {
            replies.pop_front().unwrap().await.unwrap();
        }
    }
    for reply in replies {
        reply.await.unwrap();
    }
    assert!(seen.lock().unwrap().iter().copied().eq(0..20_000));
}

#[tokio::test]
async fn the_longest_messages_pass_and_longer_ones_are_refused_where_they_start() {
    let (link, _serving) = pair(LinkLimits::default(), |request: Bytes| async move {
        match request.len() {
            1 => vec![1; PAYLOAD_LIMIT + 1].into(),
            2 => vec![2; PAYLOAD_LIMIT].into(),
            _ => Bytes::from(request.len().to_string()),
        }
    });
    let longest = Bytes::from(vec![7; PAYLOAD_LIMIT]);
    let answer = link.call(longest, LIMIT).await.unwrap();
    assert_eq!(answer, PAYLOAD_LIMIT.to_string());
    assert_eq!(
        link.call(Bytes::from_static(b"2."), LIMIT)
            .await
            .unwrap()
            .len(),
        PAYLOAD_LIMIT
    );
    let error = link
        .call(Bytes::from_static(b"1"), LIMIT)
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Unanswerable), "{error:?}");
    let error = link
        .call(vec![0; PAYLOAD_LIMIT + 1].into(), LIMIT)
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::TooLong { .. }) && !error.outcome_unknown());
    assert!(
        link.call(Bytes::new(), LIMIT).await.is_ok(),
        "the link did not survive"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_is_bounded_and_given_up_requests_keep_their_place() {
    let (release, gate) = watch::channel(false);
    let (link, _serving) = pair(few(), move |_| {
        let mut gate = gate.clone();
        async move {
            let _ = gate.wait_for(|open| *open).await;
            Bytes::new()
        }
    });
    let limit = Duration::from_secs(1);
    for _ in 0..4 {
        let error = link.call(Bytes::new(), limit).await.unwrap_err();
        assert!(matches!(error, CallError::Unanswered) && error.outcome_unknown());
    }
    for _ in 0..3 {
        let error = link.call(Bytes::new(), limit).await.unwrap_err();
        assert!(matches!(error, CallError::NotSent) && !error.outcome_unknown());
    }
    release.send_replace(true);
    link.call(Bytes::new(), limit).await.unwrap();
    // Bytes are bounded too: two of 4 KiB fill it, a longer one than all of it goes alone.
    release.send_replace(false);
    let half = Bytes::from(vec![0; 4096]);
    for _ in 0..2 {
        link.call(half.clone(), limit).await.unwrap_err();
    }
    assert!(matches!(
        link.call(half, limit).await,
        Err(CallError::NotSent)
    ));
    release.send_replace(true);
    link.call(vec![0; 100 * 1024].into(), limit).await.unwrap();
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle_of_a_call_leaves_the_outcome_unknown() {
    let (begun, mut seen) = mpsc::unbounded_channel();
    let (link, serving) = pair(LinkLimits::default(), move |_| {
        begun.send(()).unwrap();
        std::future::pending()
    });
    let reply = link.send(Bytes::new()).await.unwrap();
    seen.recv().await.unwrap();
    serving.abort();
    let error = reply.await.unwrap_err();
    assert!(matches!(&error, CallError::Lost(end) if matches!(**end, LinkEnd::ClosedThere)));
    assert!(error.outcome_unknown());
    let error = link.call(Bytes::new(), LIMIT).await.unwrap_err();
    assert!(matches!(error, CallError::NoLink(_)) && !error.outcome_unknown());
    assert!(matches!(*link.ended().await, LinkEnd::ClosedThere));
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_link_at_either_end() {
    let (near, mut far) = duplex(64 * 1024);
    let link = Link::open(near, LinkLimits::default(), Heard::default());
    let start = Instant::now();
    let reply = link.send(Bytes::new()).await.unwrap();
    assert!(matches!(*link.ended().await, LinkEnd::Silent(_)));
    assert!(reply.await.unwrap_err().outcome_unknown());
    let silent_after = LinkLimits::default().silent_after;
    assert!(start.elapsed() >= silent_after && start.elapsed() < 2 * silent_after);
    // It kept asking.
    let mut sent = Vec::new();
    far.read_to_end(&mut sent).await.unwrap();
    assert!(sent.len() >= 5 * HEADER, "{} bytes", sent.len());
    let (_attacker, serving) = attacked(LinkLimits::default());
    assert!(matches!(serving.await.unwrap(), LinkEnd::Silent(_)));
}

#[tokio::test(start_paused = true)]
async fn an_idle_link_stays_and_is_heard() {
    let (near, far) = duplex(64 * 1024);
    let (here, there) = (Heard::default(), Heard::default());
    let heard_there = there.clone();
    tokio::spawn(async move {
        serve(
            far,
            &|_| async { Bytes::new() },
            LinkLimits::default(),
            heard_there,
        )
        .await
    });
    let link = Link::open(near, LinkLimits::default(), here.clone());
    assert_eq!(here.last(), None);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(link.end().is_none());
    for heard in [&here, &there] {
        assert!(heard.silent_for().unwrap() <= LinkLimits::default().ping_every);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_message_over_a_slow_line_is_not_silence() {
    let (near, line) = duplex(64 * 1024);
    let (mut line_in, mut back_out) = tokio::io::split(line);
    let (line, far) = duplex(64 * 1024);
    let (mut back_in, mut line_out) = tokio::io::split(line);
    // 256 KiB/s towards the server: 8 MiB take half a minute.
    tokio::spawn(async move {
        let mut piece = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = line_in.read(&mut piece).await {
            tokio::time::sleep(Duration::from_millis(62)).await;
            if line_out.write_all(&piece[..count]).await.is_err() {
                break;
            }
        }
    });
    tokio::spawn(async move { tokio::io::copy(&mut back_in, &mut back_out).await });
    let echo_length = |request: Bytes| async move { Bytes::from(request.len().to_string()) };
    tokio::spawn(
        async move { serve(far, &echo_length, LinkLimits::default(), Heard::default()).await },
    );
    let link = Link::open(near, LinkLimits::default(), Heard::default());
    let start = Instant::now();
    let answer = link
        .call(vec![0; PAYLOAD_LIMIT].into(), 100 * LIMIT)
        .await
        .unwrap();
    assert_eq!(answer, PAYLOAD_LIMIT.to_string());
    assert!(start.elapsed() > Duration::from_secs(20));
}

#[tokio::test]
async fn a_goodbye_is_told_from_a_death() {
    let (link, serving) = pair(LinkLimits::default(), |_| std::future::pending());
    let reply = link.send(Bytes::new()).await.unwrap();
    link.close();
    assert!(matches!(serving.await.unwrap(), LinkEnd::Goodbye));
    assert!(matches!(*link.ended().await, LinkEnd::ClosedHere));
    assert!(reply.await.is_err());
    let (link, serving) = pair(LinkLimits::default(), |_| std::future::pending());
    drop(link);
    assert!(matches!(serving.await.unwrap(), LinkEnd::ClosedThere));
}

type Expected<'a> = &'a dyn Fn(&LinkEnd) -> bool;

#[tokio::test]
async fn the_serving_end_cuts_off_who_breaks_the_rules() {
    let five = (1..=5)
        .flat_map(|number| frame(number, Kind::Request, b"x"))
        .collect::<Vec<_>>();
    let bytes = (1..=3).flat_map(|number| frame(number, Kind::Request, &[0; 4096]));
    let too_many = |end: &LinkEnd| matches!(end, LinkEnd::Violation(Violation::TooMany));
    let out_of_place = |end: &LinkEnd| matches!(end, LinkEnd::Violation(Violation::OutOfPlace));
    let framing = |end: &LinkEnd| matches!(end, LinkEnd::Framing(_));
    let cases: [(Vec<u8>, Expected<'_>); 7] = [
        (five, &too_many),
        (bytes.collect(), &too_many),
        (frame(1, Kind::Response, b""), &out_of_place),
        (frame(0, Kind::Pong, b""), &out_of_place),
        (frame(1, Kind::Unanswerable, b""), &out_of_place),
        (vec![0xff; 64], &framing),
        (vec![0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 9], &framing),
    ];
    for (bytes, expected) in cases {
        let (mut attacker, serving) = attacked(few());
        attacker.write_all(&bytes).await.unwrap();
        let end = serving.await.unwrap();
        assert!(expected(&end), "{bytes:?}: {end:?}");
        let mut answer = Vec::new();
        attacker.read_to_end(&mut answer).await.unwrap();
        assert!(answer.is_empty());
    }
}

#[tokio::test]
async fn the_asking_end_cuts_off_who_breaks_the_rules() {
    for bytes in [
        frame(99, Kind::Response, b"to nothing"),
        frame(1, Kind::Request, b""),
        frame(0, Kind::Ping, b""),
        vec![0xff; 64],
    ] {
        let (near, mut far) = duplex(64 * 1024);
        let link = Link::open(near, LinkLimits::default(), Heard::default());
        let reply = link.send(Bytes::new()).await.unwrap();
        far.write_all(&bytes).await.unwrap();
        let end = link.ended().await;
        assert!(
            matches!(*end, LinkEnd::Violation(_) | LinkEnd::Framing(_)),
            "{bytes:?}: {end:?}"
        );
        assert!(reply.await.unwrap_err().outcome_unknown());
    }
    // An answer that comes twice is one to nothing.
    let (near, mut far) = duplex(64 * 1024);
    let link = Link::open(near, LinkLimits::default(), Heard::default());
    let reply = link.send(Bytes::new()).await.unwrap();
    far.write_all(&frame(1, Kind::Response, b"once").repeat(2))
        .await
        .unwrap();
    assert_eq!(reply.await.unwrap(), "once");
    let end = link.ended().await;
    assert!(
        matches!(*end, LinkEnd::Violation(Violation::AnswerToNothing)),
        "{end:?}"
    );
}
