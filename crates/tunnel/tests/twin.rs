//! Random stories, compared with a dumb twin: two plain queues that hold what went in.
//!
//! Local reads and writes of any size, paths cut at any byte in either direction, resumes whose answer gets lost, half-closes, small windows
//! and time that passes, in any order. After every step: what came out is a prefix of what went in, and buffers are
//! within their limits. At the end, once paths stay whole: everything came out, both sides know it, and nothing is held.
#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use tunnel::{Config, EpochCounter, EpochGate, Event, Stream};

#[derive(Debug, Clone)]
enum Step {
    /// The local program of a side writes.
    Write(usize, usize),
    /// The local program of a side reads, in one go or a bit of it.
    Read(usize, usize),
    /// The local program of a side ends its writing.
    Eof(usize),
    /// A side gives bytes to its path.
    Transmit(usize, usize),
    /// The path hands bytes to a side.
    Arrive(usize, usize),
    /// The path breaks. Each side may notice at once, or not before the next path.
    Cut { noticed: [bool; 2] },
    /// The client resumes. The answer may get lost after the keeper has acted on it.
    Resume { answered: bool },
    /// A request of an earlier epoch arrives late at the keeper.
    Belated,
    /// Time passes, in ms.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let side = 0usize..2;
    prop_oneof![
        4 => (side.clone(), prop_oneof![1usize..50, 1usize..9000]).prop_map(|(side, count)| Step::Write(side, count)),
        4 => (side.clone(), prop_oneof![1usize..50, 1usize..9000]).prop_map(|(side, count)| Step::Read(side, count)),
        1 => side.clone().prop_map(Step::Eof),
        5 => (side.clone(), 0usize..9000).prop_map(|(side, count)| Step::Transmit(side, count)),
        5 => (side.clone(), prop_oneof![1usize..40, 1usize..9000]).prop_map(|(side, count)| Step::Arrive(side, count)),
        1 => any::<[bool; 2]>().prop_map(|noticed| Step::Cut { noticed }),
        2 => any::<bool>().prop_map(|answered| Step::Resume { answered }),
        1 => Just(Step::Belated),
        2 => prop_oneof![1u64..50, 300u64..1500].prop_map(Step::Wait),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    let size = prop_oneof![1usize..40, 1000usize..20_000];
    let sizes = (size.clone(), size.clone(), size);
    (sizes, any::<bool>()).prop_map(|((replay, window, ahead), answers)| Config {
        replay,
        window: window as u32,
        ahead,
        answers,
        // Nothing expires in these stories: that has scenarios of its own.
        retain: Duration::from_secs(1 << 30),
        ..Config::default()
    })
}

/// A local program and its end of the stream.
struct Side {
    stream: Stream,
    config: Config,
    /// What the program wrote and the other program has not read.
    unread: VecDeque<u8>,
    /// Taken from the stream and not yet written to the program.
    in_hand: Bytes,
    next_byte: u8,
    eof: bool,
    events: Vec<Event>,
}

struct World {
    now: Duration,
    /// 0 is the client, 1 the keeper.
    sides: [Side; 2],
    /// Whether what is sent arrives: false between a cut and the next answered resume.
    whole: bool,
    /// Bytes under way to each side.
    under_way: [BytesMut; 2],
    counter: EpochCounter,
    gate: EpochGate,
}

impl World {
    fn new(configs: [Config; 2]) -> Self {
        let now = Duration::from_secs(5);
        let sides = configs.map(|config| Side {
            stream: Stream::new(config, now),
            config,
            unread: VecDeque::new(),
            in_hand: Bytes::new(),
            next_byte: 0,
            eof: false,
            events: Vec::new(),
        });
        let mut world = Self {
            now,
            sides,
            whole: true,
            under_way: Default::default(),
            counter: EpochCounter::default(),
            gate: EpochGate::default(),
        };
        for side in &mut world.sides {
            side.stream
                .path_replaced(now, 0)
                .expect("a new stream takes a path");
        }
        world
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Write(side, count) => self.write(side, count),
            Step::Read(side, count) => self.read(side, count),
            Step::Eof(side) => {
                let side = &mut self.sides[side];
                side.eof = true;
                side.stream.local_eof();
            }
            Step::Transmit(side, full) => {
                let mut out = BytesMut::new();
                self.sides[side]
                    .stream
                    .poll_transmit(self.now, &mut out, full);
                if self.whole {
                    self.under_way[1 - side].extend_from_slice(&out);
                }
            }
            Step::Arrive(side, count) => {
                let way = &mut self.under_way[side];
                let bytes = way.split_to(count.min(way.len())).freeze();
                self.sides[side]
                    .stream
                    .handle_bytes(self.now, bytes)
                    .expect("an honest peer");
            }
            Step::Cut { noticed } => {
                self.whole = false;
                self.under_way = Default::default();
                for (side, noticed) in self.sides.iter_mut().zip(noticed) {
                    if noticed {
                        side.stream.path_lost(self.now);
                    }
                }
            }
            Step::Resume { answered } => self.resume(answered),
            Step::Belated => {
                let epoch = self.counter.last();
                if self.gate.last() >= epoch {
                    self.gate
                        .admit(epoch, true)
                        .expect_err("an old epoch is never admitted");
                }
            }
            Step::Wait(count) => {
                self.now += Duration::from_millis(count);
                for side in &mut self.sides {
                    side.stream.handle_timeout(self.now);
                }
            }
        }
    }

    fn write(&mut self, side: usize, count: usize) {
        let side = &mut self.sides[side];
        let count = count.min(side.stream.local_capacity());
        assert!(count == 0 || !side.eof, "room after the end");
        let bytes: Vec<u8> = (0..count)
            .map(|_| {
                side.next_byte = side.next_byte.wrapping_mul(5).wrapping_add(3);
                side.next_byte
            })
            .collect();
        side.unread.extend(&bytes);
        if !side.eof {
            side.stream
                .write_local(bytes.into())
                .expect("there is room");
        }
    }

    /// The program reads at most `count` bytes, which must be the next that the other program wrote.
    fn read(&mut self, side: usize, count: usize) {
        let mut rest = count;
        while rest > 0 {
            let reader = &mut self.sides[side];
            if reader.in_hand.is_empty() {
                let Some(bytes) = reader.stream.take_for_local() else {
                    return;
                };
                assert!(!bytes.is_empty());
                reader.in_hand = bytes;
            }
            let bytes = reader.in_hand.split_to(rest.min(reader.in_hand.len()));
            reader.stream.local_written(self.now, bytes.len());
            rest -= bytes.len();
            let expected: Vec<u8> = self.sides[1 - side].unread.drain(..bytes.len()).collect();
            assert!(
                bytes == expected,
                "bytes lost, repeated or reordered on the way to side {side}"
            );
        }
    }

    fn resume(&mut self, answered: bool) {
        self.under_way = Default::default();
        self.whole = answered;
        let [client, keeper] = &mut self.sides;
        client.stream.path_lost(self.now);
        let (epoch, received) = (self.counter.next(), client.stream.received());
        self.gate.admit(epoch, true).expect("a new epoch");
        keeper
            .stream
            .path_replaced(self.now, received)
            .expect("an honest client");
        if answered {
            let received = keeper.stream.received();
            client
                .stream
                .path_replaced(self.now, received)
                .expect("an honest keeper");
        }
    }

    fn check(&mut self) {
        for side in 0..2 {
            let (this, other) = (&mut self.sides[side], 1 - side);
            while let Some(event) = this.stream.poll_event() {
                assert!(
                    matches!(
                        event,
                        Event::PathDead | Event::PeerFinished | Event::Finished
                    ),
                    "{event:?} at side {side}"
                );
                this.events.push(event);
            }
            assert!(this.stream.is_open());
            assert!(this.stream.held() <= this.config.replay);
            assert!(this.stream.waiting() <= this.config.window as usize);
            let finished = this.events.contains(&Event::PeerFinished);
            if finished {
                assert!(
                    self.sides[other].eof && self.sides[other].unread.is_empty(),
                    "an end before its time at side {side}"
                );
            }
        }
    }

    /// With a path that stays whole everything arrives.
    fn drain(&mut self) {
        self.resume(true);
        for side in 0..2 {
            self.step(&Step::Eof(side));
        }
        for _round in 0..200_000 {
            for side in 0..2 {
                self.step(&Step::Transmit(side, 1 << 20));
            }
            for side in 0..2 {
                self.step(&Step::Arrive(side, usize::MAX));
                self.read(side, usize::MAX);
            }
            self.check();
            if self
                .sides
                .iter()
                .all(|side| side.events.contains(&Event::Finished))
            {
                break;
            }
            self.step(&Step::Wait(20));
        }
        for (name, side) in ["client", "keeper"].into_iter().zip(&self.sides) {
            for event in [Event::PeerFinished, Event::Finished] {
                let times = side.events.iter().filter(|seen| **seen == event).count();
                assert_eq!(times, 1, "{event:?} at the {name}: {:?}", side.events);
            }
            assert!(
                side.unread.is_empty(),
                "{} bytes of the {name} never arrived",
                side.unread.len()
            );
            assert_eq!(
                (side.stream.held(), side.stream.waiting()),
                (0, 0),
                "held at the {name}"
            );
        }
    }
}

/// More cases where `PROPTEST_CASES` asks for more.
fn at_least(cases: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig {
        cases: cases.max(config.cases),
        ..config
    }
}

proptest! {
    #![proptest_config(at_least(600))]

    #[test]
    fn bytes_out_are_bytes_in(configs in [config(), config()], steps in prop::collection::vec(step(), 1..250)) {
        let mut world = World::new(configs);
        for step in &steps {
            world.step(step);
            world.check();
        }
        world.drain();
    }
}
