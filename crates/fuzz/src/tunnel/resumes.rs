//! Attempts to resume a stream, of its owner and of others.

use tunnel::resume::PROOF_INPUT;
use tunnel::{EpochGate, Frame, ResumeRefused, proof_input};
use wire::client::{Request, Resume};

use super::config;
use super::end::End;
use crate::input::Input;
use model::{SessionId, StreamId};

/// Steps of one run.
const STEPS: usize = 500;

/// What a proof is made over.
#[derive(Clone, Copy, PartialEq)]
struct Statement {
    exporter: [u8; 32],
    stream: [u8; 16],
    epoch: u64,
    received: u64,
}

impl Statement {
    fn input(&self) -> [u8; PROOF_INPUT] {
        proof_input(&self.exporter, &self.stream, self.epoch, self.received)
    }
}

/// Attempts at a keeper's end between reads, writes and acknowledgements: a proof holds for what it was made over only, epochs
/// rise, and whatever is refused changes nothing.
pub fn tunnel_resume(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut end = End::new(config(&mut input));
    let mut gate = EpochGate::default();
    // All that is held is sent again after each resume.
    end.afford(16 * 1024);
    assert!(end.path_replaced(0), "a new stream takes a path");
    for _ in 0..STEPS {
        let Some(step) = input.step() else { break };
        match step % 8 {
            0 => end.write(input.length()),
            1 => {
                end.drain();
            }
            2 => end.frame(Frame::Ack {
                delivered: input.near(end.twin.sent_position()),
                window: u32::try_from(input.near(1 << 16)).unwrap_or(u32::MAX),
            }),
            3 if input.byte() == 0 => end.eof(),
            3 => end.path_lost(),
            _ => attempt(&mut end, &mut gate, &mut input),
        }
        end.compare();
    }
}

fn attempt(end: &mut End, gate: &mut EpochGate, input: &mut Input<'_>) {
    let last = gate.last();
    let asked = Statement {
        exporter: [input.byte() % 2; 32],
        stream: [input.byte() % 2; 16],
        epoch: input.near(last.saturating_add(1)),
        received: input.near(end.twin.sent_position()),
    };
    let asked = over_the_wire(asked);
    let made = made_over(asked, input);
    let holds = made.input() == asked.input();
    assert_eq!(holds, made == asked, "a proof fits something else");
    let admitted = gate.admit(asked.epoch, holds);
    let expected = match (holds, asked.epoch > last) {
        (false, _) => Err(ResumeRefused::BadProof),
        (true, false) => Err(ResumeRefused::StaleEpoch {
            epoch: asked.epoch,
            last,
        }),
        (true, true) => Ok(()),
    };
    assert_eq!(admitted, expected);
    let now = if expected.is_ok() { asked.epoch } else { last };
    assert_eq!(gate.last(), now, "the epoch that was admitted last");
    if admitted.is_ok() && end.path_replaced(asked.received) {
        // What is sent now begins there, as the twin reads.
        end.drain();
    }
}

/// What a proof that comes with a request was made over: the same, unless it was made for another one.
fn made_over(asked: Statement, input: &mut Input<'_>) -> Statement {
    let mut made = asked;
    match input.byte() {
        1 => made.exporter = [input.byte(); 32],
        2 => made.stream = [input.byte(); 16],
        3 => made.epoch = input.near(asked.epoch),
        4 => made.received = input.near(asked.received),
        // The border between two numbers moves.
        5 => (made.epoch, made.received) = (asked.epoch >> 8, asked.received | asked.epoch << 56),
        _ => {}
    }
    made
}

/// The same, as the server reads it.
fn over_the_wire(asked: Statement) -> Statement {
    let request = Request::Resume(Resume {
        session: SessionId::from_bytes([5; 10]),
        stream: StreamId::from_bytes(asked.stream),
        epoch: asked.epoch,
        received: asked.received,
        proof: [1; 32],
    });
    match wire::decode(&wire::encode(&request)) {
        Ok(Request::Resume(resume)) => Statement {
            stream: *resume.stream.as_bytes(),
            epoch: resume.epoch,
            received: resume.received,
            ..asked
        },
        other => panic!("{other:?}"),
    }
}

pub(crate) fn tunnel_resume_seeds() -> Vec<Vec<u8>> {
    let first: [&[u8]; 4] = [&[1], &[2, 0, 0], &[0, 100], &[1]];
    let attempts: [&[u8]; 6] = [
        &[4, 0, 0, 0, 0, 0],
        &[4, 1, 1, 0, 0, 3, 0x81],
        &[4, 0, 0, 0x7F, 0, 0],
        &[5, 0, 1, 0x90, 0x60, 0],
        &[3, 0, 1, 3, 1],
        &[6, 1, 0, 0, 0, 0],
    ];
    let configs: [[u8; 3]; 2] = [[9, 9, 9], [4, 5, 6]];
    let seed = |config: &[u8; 3]| [&config[..], &first.concat(), &attempts.concat()].concat();
    configs.iter().map(seed).collect()
}
