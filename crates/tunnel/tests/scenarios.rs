//! What a stream does in each kind of failure, one story each. Two ends, a path in memory, and a clock that the story moves.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tunnel::frame::MAX_DATA;
use tunnel::stream::{ACK_BYTES, ACK_DELAY};
use tunnel::{
    Config, Event, Frame, FrameError, OffsetRefused, PathRefused, ProtocolError, ResetCode, Stream,
    WriteError,
};

const START: Duration = Duration::from_secs(1000);

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn after(count: u64) -> Duration {
    START + ms(count)
}

/// A stream with a path whose first ACK and PING have been sent.
fn connected(config: Config) -> Stream {
    let mut stream = Stream::new(config, START);
    stream
        .path_replaced(START, 0)
        .expect("a new stream takes a path");
    sent(&mut stream, START);
    stream
}

/// Two streams with a path between them, after their greetings.
fn pair(config: Config) -> (Stream, Stream) {
    let (mut a, mut b) = (connected(config), connected(config));
    for stream in [&mut a, &mut b] {
        stream
            .handle_frame(
                START,
                Frame::Ack {
                    delivered: 0,
                    window: config.window,
                },
            )
            .expect("an honest ACK");
    }
    (a, b)
}

/// The frames that the stream sends now.
fn sent(stream: &mut Stream, now: Duration) -> Vec<Frame> {
    let mut out = BytesMut::new();
    while stream.poll_transmit(now, &mut out, usize::MAX >> 1) > 0 {}
    let mut decoder = tunnel::frame::Decoder::default();
    let mut bytes = out.freeze();
    let mut frames = Vec::new();
    while let Some(frame) = decoder.decode(&mut bytes).expect("a stream sends frames") {
        frames.push(frame);
    }
    frames
}

fn give(stream: &mut Stream, now: Duration, frames: Vec<Frame>) {
    for frame in frames {
        stream.handle_frame(now, frame).expect("honest frames");
    }
}

fn events(stream: &mut Stream) -> Vec<Event> {
    std::iter::from_fn(|| stream.poll_event()).collect()
}

/// Writes everything received to the local socket.
fn deliver(stream: &mut Stream, now: Duration) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = stream.take_for_local() {
        all.extend_from_slice(&bytes);
        stream.local_written(now, bytes.len());
    }
    all
}

fn data(offset: u64, bytes: &'static [u8]) -> Frame {
    Frame::Data {
        offset,
        bytes: Bytes::from_static(bytes),
    }
}

mod delivery {
    use super::*;

    #[test]
    fn a_path_begins_with_an_acknowledgement_and_nothing_is_sent_before_the_peers() {
        let mut stream = Stream::new(Config::default(), START);
        stream.write_local(Bytes::from_static(b"early")).unwrap();
        assert_eq!(
            sent(&mut stream, START),
            [],
            "without a path nothing is sent"
        );
        stream.path_replaced(START, 0).unwrap();
        assert_eq!(
            sent(&mut stream, START),
            [
                Frame::Ack {
                    delivered: 0,
                    window: Config::default().window
                },
                Frame::Ping { nonce: 1 }
            ]
        );
        stream
            .handle_frame(
                START,
                Frame::Ack {
                    delivered: 0,
                    window: 3,
                },
            )
            .unwrap();
        assert_eq!(sent(&mut stream, START), [data(0, b"ear")]);
        stream
            .handle_frame(
                START,
                Frame::Ack {
                    delivered: 0,
                    window: 9,
                },
            )
            .unwrap();
        assert_eq!(sent(&mut stream, START), [data(3, b"ly")]);
    }

    #[test]
    fn small_writes_travel_together() {
        let (mut a, mut b) = pair(Config::default());
        for piece in [&b"one "[..], b"two ", b"three"] {
            a.write_local(Bytes::from_static(piece)).unwrap();
        }
        let frames = sent(&mut a, START);
        assert_eq!(frames, [data(0, b"one two three")]);
        give(&mut b, START, frames);
        assert_eq!(deliver(&mut b, START), b"one two three");
    }

    #[test]
    fn a_transmission_stops_when_its_buffer_is_full() {
        let (mut a, _) = pair(Config::default());
        a.write_local(vec![1; 200_000].into()).unwrap();
        let mut out = BytesMut::new();
        let first = a.poll_transmit(START, &mut out, 100_000);
        assert!((99_000..=100_000).contains(&first), "{first} bytes");
        let lengths: Vec<usize> = sent(&mut a, START)
            .iter()
            .map(|frame| match frame {
                Frame::Data { bytes, .. } => bytes.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(
            lengths.iter().all(|length| *length <= MAX_DATA),
            "{lengths:?}"
        );
    }

    #[test]
    fn an_acknowledgement_says_what_was_written_and_comes_within_its_delay() {
        let (_, mut b) = pair(Config::default());
        b.handle_frame(after(10), data(0, b"hello")).unwrap();
        let bytes = b.take_for_local().unwrap();
        assert_eq!(
            sent(&mut b, after(15)),
            [],
            "received and taken, but not written"
        );
        b.local_written(after(20), 2);
        b.local_written(after(25), bytes.len() - 2);
        assert_eq!(b.poll_timeout(), Some(after(20) + ACK_DELAY));
        assert_eq!(sent(&mut b, after(39)), []);
        b.handle_timeout(after(40));
        assert_eq!(
            sent(&mut b, after(40)),
            [Frame::Ack {
                delivered: 5,
                window: Config::default().window
            }]
        );
        assert_eq!(sent(&mut b, after(41)), []);
    }

    #[test]
    fn an_acknowledgement_is_on_time_even_if_the_timer_is_not_asked() {
        let (_, mut b) = pair(Config::default());
        give(&mut b, START, vec![data(0, b"hello")]);
        deliver(&mut b, START);
        assert_eq!(sent(&mut b, START + ACK_DELAY - ms(1)), []);
        assert_eq!(sent(&mut b, START + ACK_DELAY).len(), 1);
    }

    #[test]
    fn much_delivered_data_is_acknowledged_at_once() {
        let (_, mut b) = pair(Config::default());
        let half = ACK_BYTES as usize / 2;
        b.handle_frame(
            START,
            Frame::Data {
                offset: 0,
                bytes: vec![0; half].into(),
            },
        )
        .unwrap();
        deliver(&mut b, START);
        assert_eq!(sent(&mut b, START), []);
        b.handle_frame(
            START,
            Frame::Data {
                offset: half as u64,
                bytes: vec![0; half].into(),
            },
        )
        .unwrap();
        deliver(&mut b, START);
        assert_eq!(
            sent(&mut b, START),
            [Frame::Ack {
                delivered: ACK_BYTES,
                window: Config::default().window
            }]
        );
    }

    #[test]
    fn an_acknowledgement_travels_with_data_that_goes_anyway() {
        let (_, mut b) = pair(Config::default());
        give(&mut b, START, vec![data(0, b"key")]);
        deliver(&mut b, START);
        b.write_local(Bytes::from_static(b"echo")).unwrap();
        assert_eq!(
            sent(&mut b, START),
            [
                Frame::Ack {
                    delivered: 3,
                    window: Config::default().window
                },
                data(0, b"echo")
            ]
        );
        assert_eq!(sent(&mut b, START + ACK_DELAY), [], "said already");
    }

    #[test]
    fn a_full_replay_buffer_stops_reading_until_the_peer_has_delivered() {
        let config = Config {
            replay: 10,
            ..Config::default()
        };
        let (mut a, mut b) = pair(config);
        assert_eq!(a.local_capacity(), 10);
        a.write_local(Bytes::from_static(b"0123456")).unwrap();
        assert_eq!(a.local_capacity(), 3);
        assert_eq!(
            a.write_local(Bytes::from_static(b"789a")),
            Err(WriteError::Full { length: 4, room: 3 })
        );
        a.write_local(Bytes::from_static(b"789")).unwrap();
        give(&mut b, START, sent(&mut a, START));
        assert_eq!((a.local_capacity(), a.held(), b.waiting()), (0, 10, 10));
        assert_eq!(deliver(&mut b, START), b"0123456789");
        give(&mut a, START, sent(&mut b, START + ACK_DELAY));
        assert_eq!((a.local_capacity(), a.held(), b.waiting()), (10, 0, 0));
    }

    #[test]
    fn reading_does_not_run_far_ahead_of_a_slow_path_but_goes_on_without_one() {
        let config = Config {
            replay: 100,
            ahead: 10,
            ..Config::default()
        };
        let (mut a, _) = pair(config);
        a.write_local(vec![0; 10].into()).unwrap();
        assert_eq!(a.local_capacity(), 0);
        a.path_lost(START);
        assert_eq!(a.local_capacity(), 90);
    }

    #[test]
    fn a_small_window_is_reopened_without_waiting() {
        let config = Config {
            window: 8,
            ..Config::default()
        };
        let (mut a, mut b) = pair(config);
        a.write_local(Bytes::from_static(b"0123456789")).unwrap();
        give(&mut b, START, sent(&mut a, START));
        assert_eq!(deliver(&mut b, START), b"01234567");
        give(&mut a, START, sent(&mut b, START));
        give(&mut b, START, sent(&mut a, START));
        assert_eq!(deliver(&mut b, START), b"89");
    }
}

mod ending {
    use super::*;

    /// Carries frames to and fro until both are silent.
    fn settle(a: &mut Stream, b: &mut Stream, now: Duration) {
        loop {
            let (to_b, to_a) = (sent(a, now), sent(b, now));
            if to_a.is_empty() && to_b.is_empty() {
                return;
            }
            give(b, now, to_b);
            give(a, now, to_a);
        }
    }

    #[test]
    fn one_direction_ends_and_the_other_goes_on() {
        let (mut a, mut b) = pair(Config::default());
        a.write_local(Bytes::from_static(b"last words")).unwrap();
        a.local_eof();
        assert_eq!(
            a.write_local(Bytes::from_static(b"!")),
            Err(WriteError::AfterEof)
        );
        assert_eq!(a.local_capacity(), 0);
        settle(&mut a, &mut b, START);
        assert_eq!(events(&mut b), [], "the end waits for the bytes before it");
        assert_eq!(deliver(&mut b, START), b"last words");
        assert_eq!(events(&mut b), [Event::PeerFinished]);
        settle(&mut a, &mut b, START);
        assert_eq!((a.held(), events(&mut a)), (0, vec![]));
        b.write_local(Bytes::from_static(b"still here")).unwrap();
        b.local_eof();
        settle(&mut a, &mut b, START);
        assert_eq!(deliver(&mut a, START), b"still here");
        settle(&mut a, &mut b, START);
        assert_eq!(events(&mut a), [Event::PeerFinished, Event::Finished]);
        assert_eq!(events(&mut b), [Event::Finished]);
    }

    #[test]
    fn an_end_without_bytes() {
        let (mut a, mut b) = pair(Config::default());
        a.local_eof();
        b.local_eof();
        settle(&mut a, &mut b, START);
        assert_eq!(events(&mut a), [Event::PeerFinished, Event::Finished]);
        assert_eq!(events(&mut b), [Event::PeerFinished, Event::Finished]);
    }

    #[test]
    fn an_end_that_got_lost_is_sent_again_and_one_that_arrived_is_not() {
        let (mut a, mut b) = pair(Config::default());
        a.write_local(Bytes::from_static(b"ab")).unwrap();
        a.local_eof();
        let frames = sent(&mut a, START);
        assert_eq!(frames, [data(0, b"ab"), Frame::Fin { offset: 2 }]);
        give(&mut b, START, frames.into_iter().take(1).collect());
        assert_eq!(b.received(), 2);
        a.path_replaced(START, 2).unwrap();
        assert!(sent(&mut a, START).contains(&Frame::Fin { offset: 2 }));
        a.path_replaced(START, 3).unwrap();
        assert!(!sent(&mut a, START).contains(&Frame::Fin { offset: 2 }));
    }

    #[test]
    fn the_last_acknowledgement_can_be_lost() {
        let (mut a, mut b) = pair(Config::default());
        a.local_eof();
        b.local_eof();
        let (to_b, to_a) = (sent(&mut a, START), sent(&mut b, START));
        give(&mut b, START, to_b);
        give(&mut a, START, to_a);
        let _lost = sent(&mut b, START);
        give(&mut b, START, sent(&mut a, START));
        assert_eq!(events(&mut b), [Event::PeerFinished, Event::Finished]);
        assert_eq!(events(&mut a), [Event::PeerFinished]);
        b.path_lost(START);
        a.path_lost(START);
        let (at_a, at_b) = (a.received(), b.received());
        b.path_replaced(after(500), at_a).unwrap();
        a.path_replaced(after(500), at_b).unwrap();
        settle(&mut a, &mut b, after(500));
        assert_eq!(events(&mut a), [Event::Finished]);
        assert_eq!(events(&mut b), [], "it is told once");
    }

    #[test]
    fn a_reset_ends_both_sides_and_frees_what_they_held() {
        let (mut a, mut b) = pair(Config::default());
        a.write_local(vec![0; 1000].into()).unwrap();
        give(&mut b, START, sent(&mut a, START));
        a.reset(ResetCode::LOCAL);
        a.reset(ResetCode::DONE);
        assert_eq!((a.is_open(), a.held(), a.local_capacity()), (false, 0, 0));
        assert_eq!(
            a.write_local(Bytes::from_static(b"x")),
            Err(WriteError::Ended)
        );
        let frames = sent(&mut a, START);
        assert_eq!(
            frames,
            [Frame::Reset {
                code: ResetCode::LOCAL
            }]
        );
        give(&mut b, START, frames);
        assert_eq!(
            events(&mut b),
            [Event::Reset {
                code: ResetCode::LOCAL
            }]
        );
        assert_eq!(
            (b.waiting(), b.take_for_local(), b.poll_timeout()),
            (0, None, None)
        );
        b.local_written(START, 1000);
        assert_eq!(b.path_replaced(START, 0), Err(PathRefused::Ended));
        assert_eq!(sent(&mut b, START), []);
    }

    #[test]
    fn a_reset_without_a_path_is_told_over_the_next() {
        let (mut a, _) = pair(Config::default());
        a.path_lost(START);
        a.reset(ResetCode::SESSION_ENDED);
        assert_eq!(sent(&mut a, START), []);
        a.path_replaced(after(10), u64::MAX)
            .expect("the offset matters no more");
        assert_eq!(
            sent(&mut a, after(10)),
            [Frame::Reset {
                code: ResetCode::SESSION_ENDED
            }]
        );
        assert_eq!(a.path_replaced(after(20), 0), Err(PathRefused::Ended));
    }
}

mod paths {
    use super::*;

    /// Lets both ends be idle for ten seconds, in which each hears the other; how many frames they sent.
    fn idle(a: &mut Stream, b: &mut Stream) -> [usize; 2] {
        let mut frames = [0; 2];
        for step in 0..10_000 {
            let now = after(step);
            for stream in [&mut *a, &mut *b] {
                if stream.poll_timeout().is_some_and(|at| at <= now) {
                    stream.handle_timeout(now);
                }
            }
            let (to_b, to_a) = (sent(a, now), sent(b, now));
            frames[0] += to_b.len();
            frames[1] += to_a.len();
            give(b, now, to_b);
            give(a, now, to_a);
            assert_eq!((events(a), events(b)), (vec![], vec![]), "after {step} ms");
        }
        frames
    }

    #[test]
    fn both_ends_of_an_idle_path_hear_each_other() {
        let (mut a, mut b) = pair(Config::default());
        let frames: usize = idle(&mut a, &mut b).iter().sum();
        assert!(
            (20..=150).contains(&frames),
            "{frames} frames in 10 idle seconds"
        );
        assert!(
            a.round_trip().is_some_and(|time| time <= ms(1)),
            "{:?}",
            a.round_trip()
        );
    }

    #[test]
    fn an_end_that_answers_asks_only_when_nobody_asks_it() {
        let (mut a, _) = pair(Config::default());
        let (_, mut b) = pair(Config {
            answers: true,
            ..Config::default()
        });
        let [asked, answered] = idle(&mut a, &mut b);
        assert!(
            (25..=35).contains(&asked) && answered <= asked + 1,
            "{asked} and {answered} frames in 10 idle seconds"
        );
        // The other end says nothing any more.
        let last = after(10_000);
        give(&mut b, last, vec![Frame::Ping { nonce: 1 }]);
        assert_eq!(sent(&mut b, last), [Frame::Pong { nonce: 1 }]);
        assert_eq!(b.poll_timeout(), Some(last + ms(500)));
        b.handle_timeout(last + ms(500));
        assert!(matches!(
            sent(&mut b, last + ms(500))[..],
            [Frame::Ping { .. }]
        ));
        b.handle_timeout(last + ms(1000));
        assert_eq!(events(&mut b), [Event::PathDead]);
    }

    #[test]
    fn a_silent_path_is_dead_exactly_in_time() {
        let (mut a, _) = pair(Config::default());
        give(&mut a, after(100), vec![Frame::Pong { nonce: 77 }]);
        a.handle_timeout(after(1099));
        assert_eq!(events(&mut a), []);
        assert!(a.has_path());
        sent(&mut a, after(1099));
        assert_eq!(a.poll_timeout(), Some(after(1100)));
        a.handle_timeout(after(1100));
        assert_eq!(events(&mut a), [Event::PathDead]);
        assert!(!a.has_path());
    }

    #[test]
    fn a_path_that_takes_no_bytes_makes_no_busy_timer() {
        let (mut a, _) = pair(Config::default());
        give(&mut a, START, vec![data(0, b"x")]);
        deliver(&mut a, START);
        a.handle_timeout(after(20));
        a.handle_timeout(after(400));
        assert_eq!(
            a.poll_timeout(),
            Some(after(1000)),
            "only the end of the path is left to wait for"
        );
    }

    #[test]
    fn a_reader_that_stalls_is_no_dead_peer() {
        let config = Config {
            window: 1000,
            ..Config::default()
        };
        let (mut a, mut b) = pair(config);
        a.write_local(vec![0; 5000].into()).unwrap();
        for step in 0..5000 {
            let now = after(step);
            a.handle_timeout(now);
            b.handle_timeout(now);
            let (to_b, to_a) = (sent(&mut a, now), sent(&mut b, now));
            give(&mut b, now, to_b);
            give(&mut a, now, to_a);
        }
        assert_eq!((events(&mut a), b.waiting()), (vec![], 1000));
    }

    #[test]
    fn what_was_lost_with_a_path_is_sent_again() {
        let (mut a, mut b) = pair(Config::default());
        a.write_local(Bytes::from_static(b"0123456789")).unwrap();
        let _lost = sent(&mut a, START);
        give(&mut b, START, vec![data(0, b"012")]);
        a.path_lost(START);
        a.write_local(Bytes::from_static(b"abc")).unwrap();
        b.path_replaced(after(50), a.received()).unwrap();
        a.path_replaced(after(50), b.received()).unwrap();
        let frames = sent(&mut a, after(50));
        assert!(frames.contains(&data(3, b"3456789abc")), "{frames:?}");
        give(&mut b, after(50), frames);
        assert_eq!(deliver(&mut b, after(50)), b"0123456789abc");
    }

    #[test]
    fn news_are_told_once_on_every_path() {
        let (mut a, mut b) = pair(Config::default());
        a.tell_news();
        assert_eq!(sent(&mut a, START), [Frame::News]);
        assert_eq!(sent(&mut a, START), []);
        // They may have been lost with it.
        a.path_lost(START);
        a.path_replaced(after(50), b.received()).unwrap();
        let frames = sent(&mut a, after(50));
        assert!(frames.contains(&Frame::News), "{frames:?}");
        give(
            &mut b,
            after(50),
            [frames, vec![Frame::News; 1000]].concat(),
        );
        assert_eq!(events(&mut b), [Event::News], "one is enough to ask");
        give(&mut b, after(50), vec![Frame::News]);
        assert_eq!(events(&mut b), [Event::News]);
    }

    #[test]
    fn a_frame_cut_in_the_middle_counts_as_far_as_it_arrived() {
        let (mut a, mut b) = pair(Config::default());
        a.write_local(Bytes::from_static(b"0123456789")).unwrap();
        let mut out = BytesMut::new();
        a.poll_transmit(START, &mut out, 1000);
        b.handle_bytes(START, out.split_to(12 + 4).freeze())
            .unwrap();
        assert_eq!(b.received(), 4);
        b.path_replaced(START, 0).unwrap();
        a.path_replaced(START, 4).unwrap();
        give(&mut b, START, sent(&mut a, START));
        assert_eq!(deliver(&mut b, START), b"0123456789");
    }

    #[test]
    fn a_stream_without_a_path_is_kept_and_then_given_up() {
        let (mut a, _) = pair(Config::default());
        a.write_local(vec![0; 1000].into()).unwrap();
        a.path_lost(after(10));
        a.path_lost(after(5000));
        assert_eq!(
            a.poll_timeout(),
            Some(after(10) + Config::default().retain),
            "the first loss counts"
        );
        a.handle_timeout(after(10) + Config::default().retain - ms(1));
        assert_eq!((events(&mut a), a.held()), (vec![], 1000));
        a.handle_timeout(after(10) + Config::default().retain);
        assert_eq!(
            (events(&mut a), a.held(), a.is_open()),
            (vec![Event::Expired], 0, false)
        );
        assert_eq!(a.path_replaced(after(200_000), 0), Err(PathRefused::Ended));
        assert_eq!(a.poll_timeout(), None);
    }

    #[test]
    fn a_stream_that_never_got_a_path_is_given_up_too() {
        let mut stream = Stream::new(Config::default(), START);
        stream.handle_timeout(START + Config::default().retain);
        assert_eq!(events(&mut stream), [Event::Expired]);
    }

    #[test]
    fn bytes_without_a_path_are_ignored() {
        let (mut a, _) = pair(Config::default());
        a.path_lost(START);
        a.handle_bytes(START, Bytes::from_static(b"\xde\xad\xbe\xef"))
            .unwrap();
        a.handle_frame(START, data(0, b"x")).unwrap();
        assert_eq!((a.received(), a.is_open()), (0, true));
    }
}

mod violations {
    use super::*;

    fn refused(frames: Vec<Frame>) -> ProtocolError {
        let (mut stream, _) = pair(Config {
            window: 100,
            ..Config::default()
        });
        stream
            .write_local(Bytes::from_static(b"12345"))
            .expect("there is room");
        sent(&mut stream, START);
        let error = frames
            .into_iter()
            .find_map(|frame| stream.handle_frame(START, frame).err())
            .expect("one of the frames is refused");
        assert!(!stream.is_open());
        assert_eq!(
            sent(&mut stream, START),
            [Frame::Reset {
                code: ResetCode::PROTOCOL
            }]
        );
        assert_eq!(
            (stream.held(), stream.waiting(), stream.take_for_local()),
            (0, 0, None)
        );
        stream
            .handle_frame(START, data(0, b"x"))
            .expect("what comes after is ignored");
        error
    }

    #[test]
    fn bytes_left_out() {
        assert_eq!(
            refused(vec![data(0, b"ab"), data(3, b"d")]),
            ProtocolError::Gap {
                offset: 3,
                expected: 2
            }
        );
        assert_eq!(
            refused(vec![Frame::Fin { offset: 1 }]),
            ProtocolError::Gap {
                offset: 1,
                expected: 0
            }
        );
    }

    #[test]
    fn more_than_the_window() {
        let frame = |offset, count: usize| Frame::Data {
            offset,
            bytes: vec![0; count].into(),
        };
        assert_eq!(
            refused(vec![frame(0, 101)]),
            ProtocolError::WindowExceeded {
                end: 101,
                limit: 100
            }
        );
        assert_eq!(
            refused(vec![frame(0, 100), frame(100, 1)]),
            ProtocolError::WindowExceeded {
                end: 101,
                limit: 100
            }
        );
        assert_eq!(
            refused(vec![frame(u64::MAX, 1)]),
            ProtocolError::WindowExceeded {
                end: u64::MAX,
                limit: 100
            }
        );
    }

    #[test]
    fn ends_that_contradict_the_data() {
        assert_eq!(
            refused(vec![data(0, b"ab"), Frame::Fin { offset: 1 }]),
            ProtocolError::FinBeforeData {
                offset: 1,
                received: 2
            }
        );
        assert_eq!(
            refused(vec![Frame::Fin { offset: 0 }, data(0, b"a")]),
            ProtocolError::DataAfterFin { end: 1, fin: 0 }
        );
        assert_eq!(
            refused(vec![Frame::Fin { offset: 0 }, Frame::Fin { offset: 1 }]),
            ProtocolError::FinMoved { offset: 1, fin: 0 }
        );
    }

    #[test]
    fn acknowledgements_that_cannot_be() {
        let ack = |delivered, window| Frame::Ack { delivered, window };
        let room = Config::default().window;
        assert_eq!(
            refused(vec![ack(6, room)]),
            ProtocolError::AckBeyondSent {
                delivered: 6,
                sent: 5
            }
        );
        assert_eq!(
            refused(vec![ack(u64::MAX, u32::MAX)]),
            ProtocolError::AckBeyondSent {
                delivered: u64::MAX,
                sent: 5
            }
        );
        assert_eq!(
            refused(vec![ack(5, room), ack(4, room)]),
            ProtocolError::AckWentBack {
                delivered: 4,
                acked: 5
            }
        );
        assert_eq!(
            refused(vec![ack(3, 100), ack(3, 99)]),
            ProtocolError::WindowWithdrawn {
                limit: 102,
                promised: 103
            }
        );
    }

    #[test]
    fn an_acknowledged_end_before_it_was_sent() {
        let (mut stream, _) = pair(Config::default());
        stream
            .handle_frame(
                START,
                Frame::Ack {
                    delivered: 1,
                    window: 1 << 24,
                },
            )
            .unwrap_err();
    }

    #[test]
    fn bytes_that_are_no_frames() {
        let (mut stream, _) = pair(Config::default());
        let error = stream
            .handle_bytes(START, Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"))
            .unwrap_err();
        assert_eq!(
            error,
            ProtocolError::Frame(FrameError::UnknownKind { kind: b'G' })
        );
        assert!(!stream.is_open());
    }

    #[test]
    fn repeated_and_overlapping_data_is_trimmed() {
        let (mut stream, _) = pair(Config::default());
        give(
            &mut stream,
            START,
            vec![
                data(0, b"abc"),
                data(0, b"abc"),
                data(1, b"b"),
                data(1, b"bcde"),
                Frame::Fin { offset: 5 },
                Frame::Fin { offset: 5 },
                data(3, b"de"),
            ],
        );
        assert_eq!(deliver(&mut stream, START), b"abcde");
        assert_eq!(events(&mut stream), [Event::PeerFinished]);
    }

    #[test]
    fn a_flood_of_pings_is_answered_once() {
        let (mut stream, _) = pair(Config::default());
        for nonce in 0..10_000 {
            stream.handle_frame(START, Frame::Ping { nonce }).unwrap();
        }
        assert_eq!(sent(&mut stream, START), [Frame::Pong { nonce: 9999 }]);
    }

    #[test]
    fn offsets_of_a_resume_that_cannot_be_change_nothing() {
        let (mut stream, _) = pair(Config::default());
        stream
            .write_local(Bytes::from_static(b"0123456789"))
            .unwrap();
        sent(&mut stream, START);
        give(
            &mut stream,
            START,
            vec![Frame::Ack {
                delivered: 4,
                window: Config::default().window,
            }],
        );
        for received in [0, 3, 11, u64::MAX] {
            let refused = OffsetRefused {
                received,
                acked: 4,
                sent: 10,
            };
            assert_eq!(
                stream.path_replaced(START, received),
                Err(PathRefused::Offset(refused))
            );
        }
        assert!(stream.has_path(), "the old path goes on");
        assert_eq!(sent(&mut stream, START), []);
        for received in [4, 7, 7, 10] {
            stream
                .path_replaced(START, received)
                .unwrap_or_else(|refused| panic!("{received}: {refused}"));
            sent(&mut stream, START);
        }
    }
}
