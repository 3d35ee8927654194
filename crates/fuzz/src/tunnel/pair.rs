//! Two honest ends with a path between them that breaks at any byte and is replaced.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tunnel::{ResetCode, Stream};

use super::config;
use super::end::End;
use super::twin::Life;
use crate::input::Input;

/// Steps of one run.
const STEPS: usize = 1000;

struct World {
    /// The client and the keeper.
    ends: [End; 2],
    /// Under way to each.
    under_way: [BytesMut; 2],
    /// Whether what is sent arrives.
    whole: bool,
}

/// Both ends, with reads and writes of their local sockets, cuts, resumes whose answers get lost, and time; at the end the path
/// stays whole, and everything has to arrive.
pub fn tunnel_pair(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = World::new(&mut input);
    for _ in 0..STEPS {
        let Some(step) = input.step() else { break };
        world.step(step, &mut input);
        world.check();
    }
    world.finish();
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let mut ends = [(); 2].map(|()| End::new(config(input)));
        for at in [0, 1] {
            let window = ends.get(1 - at).map_or(0, |end| end.twin.config.window);
            if let Some(end) = ends.get_mut(at) {
                // So that the rest passes through the smallest window in a moment.
                end.afford(
                    usize::try_from(window)
                        .unwrap_or(usize::MAX)
                        .saturating_mul(200),
                );
                assert!(end.path_replaced(0), "a new stream takes a path");
            }
        }
        Self {
            ends,
            under_way: Default::default(),
            whole: true,
        }
    }

    fn step(&mut self, step: u8, input: &mut Input<'_>) {
        let side = usize::from(step >> 7);
        match step % 16 {
            0..4 => self.end(side).write(input.length()),
            4..7 => self.transmit(side, input.length()),
            7..10 => self.arrive(side, input.length()),
            10 => self.end(side).take(),
            11 => self.end(side).delivered(input.length()),
            12 => self.cut(input.byte()),
            13 => self.resume(input.byte().is_multiple_of(2)),
            14 => match input.byte() {
                0..8 => self.end(side).eof(),
                8..16 => self.end(side).tell_news(),
                _ => {}
            },
            _ => {
                let time = Duration::from_millis(input.length() as u64);
                self.ends.iter_mut().for_each(|end| end.wait(time));
            }
        }
    }

    fn end(&mut self, side: usize) -> &mut End {
        let [client, keeper] = &mut self.ends;
        if side == 0 { client } else { keeper }
    }

    fn transmit(&mut self, side: usize, full: usize) {
        let bytes = self.end(side).transmit(full);
        self.send(side, &bytes);
    }

    fn send(&mut self, from: usize, bytes: &Bytes) {
        let [to_client, to_keeper] = &mut self.under_way;
        let way = if from == 0 { to_keeper } else { to_client };
        if self.whole {
            way.extend_from_slice(bytes);
        }
    }

    fn arrive(&mut self, side: usize, count: usize) {
        let [to_client, to_keeper] = &mut self.under_way;
        let way = if side == 0 { to_client } else { to_keeper };
        let bytes = way.split_to(count.min(way.len())).freeze();
        self.end(side).arrive(bytes);
    }

    /// The path breaks; each end may notice it or not.
    fn cut(&mut self, noticed: u8) {
        self.whole = false;
        self.under_way = Default::default();
        for side in [0, 1] {
            if noticed >> side & 1 == 1 {
                self.end(side).path_lost();
            }
        }
    }

    /// The client resumes; the answer may get lost after the keeper has acted on it.
    fn resume(&mut self, answered: bool) {
        self.cut(1);
        let [client, keeper] = &mut self.ends;
        let received = |stream: &Stream| stream.received();
        if !keeper.path_replaced(received(&client.stream)) {
            assert_eq!(keeper.twin.life, Life::Over, "an honest client is refused");
            return;
        }
        if answered {
            let taken = client.path_replaced(received(&keeper.stream));
            assert!(
                taken || client.twin.life == Life::Over,
                "an honest keeper is refused"
            );
            self.whole = taken;
        }
    }

    fn check(&mut self) {
        for end in &mut self.ends {
            end.compare();
            let violated = end.twin.life == Life::Resetting(ResetCode::PROTOCOL);
            assert!(!violated, "an honest peer is accused");
        }
        let [client, keeper] = &self.ends;
        for (from, to) in [(client, keeper), (keeper, client)] {
            let (written, received) = (&from.twin.written, &to.twin.received);
            assert!(
                written.starts_with(received),
                "other bytes arrived than were sent"
            );
        }
    }

    /// Whether everything has arrived and both know it, as far as they have said that there is no more.
    fn is_done(&self) -> bool {
        let [client, keeper] = &self.ends;
        let both_end = client.twin.eof && keeper.twin.eof;
        [(client, keeper), (keeper, client)]
            .iter()
            .all(|(from, to)| {
                let all = to.twin.delivered == from.twin.written.len();
                let known = from.stream.held() == 0 && from.twin.is_fin_acked() == from.twin.eof;
                all && known && from.twin.finished == both_end
            })
    }

    fn finish(&mut self) {
        /// Two for each piece of the smallest window, and more.
        const ROUNDS: usize = 5000;
        self.resume(true);
        for _ in 0..ROUNDS {
            if self.ends.iter().any(|end| !end.twin.is_open()) || self.is_done() {
                return;
            }
            for side in [0, 1] {
                let bytes = self.end(side).wait_for_timeout();
                self.send(side, &bytes);
                self.arrive(1 - side, usize::MAX);
                let other = self.end(1 - side);
                while other.twin.taken < other.twin.received.len() {
                    other.take();
                }
                other.delivered(usize::MAX);
                let now = other.now;
                self.end(side).now = now.max(self.end(side).now);
                self.check();
            }
            let latest = self.ends.iter().map(|end| end.now).max();
            for end in &mut self.ends {
                end.now = latest.unwrap_or_default();
            }
        }
        panic!("a whole path does not bring everything");
    }
}

pub(crate) fn tunnel_pair_seeds() -> Vec<Vec<u8>> {
    let steps: [&[u8]; 13] = [
        &[0, 200],
        &[0x80, 0xC0, 40, 0],
        &[4, 0xC0, 255, 255],
        &[0x84, 0xC0, 255, 255],
        &[7, 100],
        &[0x87, 0xC0, 255, 255],
        &[0x8A, 0x8B, 100],
        &[12, 2],
        &[13, 1],
        &[13, 0],
        &[14, 0],
        &[0x8E, 0],
        &[15, 0xC0, 2, 0],
    ];
    let configs: [[u8; 6]; 3] = [[9; 6], [4, 5, 3, 6, 7, 2], [8, 0, 8, 8, 8, 1]];
    let seed = |config: &[u8; 6]| [&config[..], &steps.concat()].concat();
    configs.iter().map(seed).collect()
}
