//! Every harness over well-formed examples, over all their beginnings, and over damaged ones.
//!
//! The damage is drawn from a seed, the same every time unless `STEAD_FUZZ_SEED` names another; a failure names it, and shows the
//! bytes.
#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use fuzz::{TARGETS, Target};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Damaged examples for each harness.
const ROUNDS: usize = 2000;

/// Runs a harness; a failure says on what.
fn run(target: &Target, bytes: &[u8], what: &str) {
    if catch_unwind(AssertUnwindSafe(|| (target.harness)(bytes))).is_err() {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{} fails on {what}: {digits}", target.name);
    }
}

fn seed() -> u64 {
    let named = std::env::var("STEAD_FUZZ_SEED").ok();
    named.map_or(1, |text| text.parse().expect("STEAD_FUZZ_SEED is a number"))
}

#[test]
fn names_and_seeds_are_there() {
    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), TARGETS.len(), "two harnesses of one name");
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for seed in seeds {
            assert!(seed.len() <= target.longest, "{}", target.name);
        }
    }
}

#[test]
fn well_formed_examples_pass_and_so_do_their_beginnings() {
    for target in TARGETS {
        run(&target, &[], "nothing");
        for (number, seed) in (target.seeds)().iter().enumerate() {
            for end in (0..=seed.len()).filter(|end| *end < 600 || end % 97 == 0) {
                let what = format!("the first {end} bytes of seed {number}");
                run(&target, seed.get(..end).unwrap_or_default(), &what);
            }
            run(&target, seed, &format!("seed {number}"));
        }
    }
}

#[test]
fn damaged_examples_pass() {
    let seed = seed();
    for target in TARGETS {
        let mut random = StdRng::seed_from_u64(seed);
        let seeds = (target.seeds)();
        for round in 0..ROUNDS {
            let bytes = damaged(&seeds, &mut random);
            run(&target, &bytes, &format!("round {round} of seed {seed}"));
        }
    }
}

/// One of the examples with one to eight kinds of damage.
fn damaged(examples: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let any = |random: &mut StdRng| &examples[random.random_range(0..examples.len())];
    let mut bytes = any(random).clone();
    for _ in 0..random.random_range(1..=8) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..8) {
            // A byte that is off by one bit, by little, or by anything; lengths are bytes like others.
            0 => change(&mut bytes, at, |byte| byte ^ 1 << random.random_range(0..8)),
            1 => change(&mut bytes, at, |byte| {
                byte.wrapping_add_signed(random.random_range(-3..=3))
            }),
            2 => {
                let byte = [0, 1, 0x7F, 0x80, 0xFF, random.random()][random.random_range(0..6)];
                change(&mut bytes, at, |_| byte);
            }
            3 => bytes.truncate(at),
            4 => bytes.insert(at, random.random()),
            5 => {
                let end = (at + random.random_range(0..16)).min(bytes.len());
                bytes.drain(at..end);
            }
            // A piece of another example, or of the same one.
            _ => {
                let other = any(random);
                let from = random.random_range(0..=other.len());
                let to = (from + random.random_range(0..64)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
    bytes
}

fn change(bytes: &mut [u8], at: usize, new: impl FnOnce(u8) -> u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = new(*byte);
    }
}
