//! Whose clock is wrong, as far as one server can tell from what the others report.
//!
//! Always true: of two that differ neither is called wrong, because nobody can tell which. Start at [`astray`].

use crate::view::Peer;
use model::ServerId;
use std::collections::{BTreeMap, BTreeSet};

/// A server whose clock differs by more cannot be primary, in milliseconds.
pub const CLOCK_LIMIT_MS: u64 = 60_000;

/// The servers whose clocks differ by more than [`CLOCK_LIMIT_MS`] from more than half of all clocks that are known, their own
/// included. `peers` is what `me` knows of the others; their offsets are counted from its own clock.
pub fn astray(me: ServerId, peers: &BTreeMap<ServerId, Peer>) -> BTreeSet<ServerId> {
    let others = peers.iter().filter(|(id, _)| **id != me);
    let known = others.filter_map(|(id, peer)| Some((*id, peer.clock_offset_ms?)));
    let clocks: BTreeMap<ServerId, i64> = known.chain([(me, 0)]).collect();
    let differs = |one: i64, other: i64| one.abs_diff(other) > CLOCK_LIMIT_MS;
    let wrong = |clock: i64| {
        let against = clocks.values().filter(|other| differs(clock, **other));
        against.count() * 2 > clocks.len()
    };
    let wrong = clocks.iter().filter(|(_, clock)| wrong(**clock));
    wrong.map(|(id, _)| *id).collect()
}

/// Whether the clock of `me` agrees with more than half of all clocks that are known, its own included. What ends by itself may
/// end only then: a clock that jumps a year ends nothing.
pub fn agrees(me: ServerId, peers: &BTreeMap<ServerId, Peer>) -> bool {
    let others = peers.iter().filter(|(id, _)| **id != me);
    let offsets: Vec<i64> = others
        .filter_map(|(_, peer)| peer.clock_offset_ms)
        .collect();
    let near = offsets
        .iter()
        .filter(|offset| offset.unsigned_abs() <= CLOCK_LIMIT_MS);
    (near.count() + 1) * 2 > offsets.len() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(number: u8) -> ServerId {
        ServerId::from_bytes([number; 16])
    }

    /// What server 1 finds, when the others' clocks are so many seconds ahead of its own.
    fn found(offsets: &[Option<i64>]) -> Vec<u8> {
        let numbered = offsets.iter().zip(2u8..);
        let peers = numbered.map(|(seconds, number)| {
            let clock_offset_ms = seconds.map(|seconds| seconds * 1000);
            let peer = Peer {
                clock_offset_ms,
                ..Peer::default()
            };
            (server(number), peer)
        });
        let wrong = astray(server(1), &peers.collect());
        (1..=9).filter(|it| wrong.contains(&server(*it))).collect()
    }

    #[test]
    fn one_against_most_is_wrong() {
        assert_eq!(found(&[Some(0), Some(61)]), [3]);
        assert_eq!(found(&[Some(-90), Some(-91)]), [1]);
        assert_eq!(found(&[Some(120), Some(3), Some(-2), Some(-700)]), [2, 5]);
    }

    #[test]
    fn what_ends_by_itself_ends_while_most_agree() {
        let agrees_with = |peers: &BTreeMap<ServerId, Peer>| agrees(server(1), peers);
        let agrees = |offsets: &[i64]| {
            let numbered = offsets.iter().zip(2u8..);
            let peers = numbered.map(|(seconds, number)| {
                let clock_offset_ms = Some(seconds * 1000);
                let peer = Peer {
                    clock_offset_ms,
                    ..Peer::default()
                };
                (server(number), peer)
            });
            agrees_with(&peers.collect())
        };
        assert!(agrees(&[]));
        assert!(agrees(&[59]));
        assert!(!agrees(&[3_600]), "nobody can tell which of two is right");
        assert!(agrees(&[3_600, 0]));
        assert!(!agrees(&[3_600, 3_600]));
        assert!(!agrees(&[i64::MIN / 1000, 3_600, 0]));
    }

    #[test]
    fn of_two_and_of_two_halves_nobody_is() {
        assert_eq!(found(&[]), [0; 0]);
        assert_eq!(found(&[Some(3_600)]), [0; 0]);
        assert_eq!(found(&[Some(3_600), None]), [0; 0]);
        assert_eq!(found(&[Some(0), Some(600), Some(601)]), [0; 0]);
    }

    #[test]
    fn the_limit_itself_is_no_difference_and_far_dates_do_no_harm() {
        assert_eq!(found(&[Some(60), Some(60)]), [0; 0]);
        let far = i64::MAX / 1000;
        assert_eq!(found(&[Some(far), Some(0)]), [2]);
        assert_eq!(found(&[Some(far), Some(-far)]), [1, 2, 3]);
    }
}
