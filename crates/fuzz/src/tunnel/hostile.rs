//! One end of a stream, and a peer that sends anything.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tunnel::{Frame, ResetCode};

use super::end::End;
use super::{bytes_at, config};
use crate::input::Input;

/// Steps of one run.
const STEPS: usize = 2000;

/// One end with any local reads and writes, timers, paths, and frames of its peer.
pub fn tunnel_stream(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut end = End::new(config(&mut input));
    for _ in 0..STEPS {
        let Some(step) = input.step() else { break };
        match step % 16 {
            0..4 => local(&mut end, &mut input),
            4..8 => frame(&mut end, &mut input),
            8 => arrive(&mut end, &mut input),
            9 => {
                end.transmit(input.length());
            }
            10 => {
                end.drain();
            }
            11 => end.wait(Duration::from_millis(input.length() as u64)),
            12 => {
                end.wait_for_timeout();
            }
            13 => end.path_lost(),
            14 => {
                let received = input.near(end.twin.sent_position());
                end.path_replaced(received);
            }
            _ => rare(&mut end, &mut input),
        }
        end.compare();
    }
}

fn local(end: &mut End, input: &mut Input<'_>) {
    match input.byte() % 8 {
        0..3 => end.write(input.length()),
        3 => {
            let count = end.affordable(input.length());
            end.write_all(count);
        }
        4 | 5 => end.take(),
        6 => end.delivered(input.length()),
        _ => {
            end.take();
            end.delivered(usize::MAX);
        }
    }
}

/// A frame of the peer, mostly one that is nearly right.
fn frame(end: &mut End, input: &mut Input<'_>) {
    let frame = made(end, input);
    if input.byte().is_multiple_of(4) {
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        end.arrive(bytes.freeze());
    } else {
        end.frame(frame);
    }
}

fn made(end: &mut End, input: &mut Input<'_>) -> Frame {
    let received = end.twin.received.len() as u64;
    match input.byte() % 8 {
        0..3 => {
            let offset = input.near(received);
            let count = end.affordable(input.length()).max(1);
            let mut bytes = bytes_at(offset, count);
            if input.byte() == 1 {
                // Other bytes than were sent for these positions before.
                bytes.fill(0);
            }
            Frame::Data {
                offset,
                bytes: bytes.into(),
            }
        }
        3 | 4 => Frame::Ack {
            delivered: input.near(end.twin.sent_position()),
            window: u32::try_from(input.near(u64::from(u16::MAX))).unwrap_or(u32::MAX),
        },
        5 => Frame::Fin {
            offset: input.near(end.twin.fin.unwrap_or(received)),
        },
        6 => Frame::Ping {
            nonce: input.near(7),
        },
        _ => match input.byte() {
            0..128 => Frame::Pong {
                nonce: input.near(1),
            },
            128..250 => Frame::News,
            code => Frame::Reset {
                code: ResetCode(u32::from(code)),
            },
        },
    }
}

/// Bytes as they are.
fn arrive(end: &mut End, input: &mut Input<'_>) {
    let count = input.length();
    end.arrive(Bytes::copy_from_slice(input.take(count)));
}

fn rare(end: &mut End, input: &mut Input<'_>) {
    match input.byte() % 8 {
        0 => end.reset(ResetCode::LOCAL),
        1 | 2 => end.eof(),
        3 => end.tell_news(),
        // Longer than a stream is kept.
        4 => end.wait(Duration::from_secs(121)),
        _ => {
            let received = input.near(end.twin.acked);
            end.path_replaced(received);
        }
    }
}

/// Steps that seeds are made of, as [`tunnel_stream`] reads them.
mod steps {
    pub(super) const PATH: &[u8] = &[14, 0];
    pub(super) const CUT: &[u8] = &[13];
    pub(super) const SEND: &[u8] = &[10];
    pub(super) const WRITE: &[u8] = &[0, 0, 50];
    pub(super) const LARGE: &[u8] = &[0, 0, 0xC0, 20, 0];
    pub(super) const EOF: &[u8] = &[15, 1];
    pub(super) const DATA: &[u8] = &[4, 0, 0, 20, 0, 1];
    pub(super) const ACK: &[u8] = &[4, 3, 0, 0, 1];
    pub(super) const FIN: &[u8] = &[4, 5, 0, 1];
    pub(super) const TAKE: &[u8] = &[0, 7];
    pub(super) const TIMER: &[u8] = &[12];
}

/// A stream that ends well; one whose path breaks; and one of which much is held and acknowledged little by little.
pub(crate) fn tunnel_stream_seeds() -> Vec<Vec<u8>> {
    use steps::*;
    let well = [
        PATH, SEND, ACK, WRITE, SEND, DATA, TAKE, SEND, ACK, EOF, FIN, TAKE, SEND, ACK, SEND,
        TIMER, TIMER,
    ];
    let raw: &[u8] = &[8, 5, 0x80, 0, 0, 0, 1];
    let (little, wait, news): (&[u8], &[u8], &[u8]) = (&[9, 5], &[11, 200], &[15, 3]);
    let broken = [
        PATH, SEND, ACK, WRITE, SEND, DATA, CUT, WRITE, PATH, SEND, DATA, TAKE, TIMER, little, raw,
        wait, news, SEND,
    ];
    let some: &[u8] = &[9, 0xC0, 30, 0];
    let (first, second): (&[u8], &[u8]) = (&[4, 3, 78, 0, 1], &[4, 3, 88, 0, 1]);
    // Its end is said twice, and differently.
    let other_end: &[u8] = &[4, 5, 0x81, 1];
    let held = [
        PATH, SEND, ACK, LARGE, LARGE, some, first, LARGE, SEND, second, LARGE, SEND, FIN,
        other_end,
    ];
    let configs: [&[u8]; 3] = [&[9, 9, 9], &[4, 4, 4], &[0, 6, 1]];
    let stories = [well.concat(), broken.concat(), held.concat()];
    let seeds = |config: &[u8]| stories.clone().map(|steps| [config, &steps].concat());
    configs.into_iter().flat_map(seeds).collect()
}
