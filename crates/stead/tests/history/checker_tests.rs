//! The checker itself: planted errors are found, right histories are accepted, and on small ones it agrees with a search
//! through all orders.

use std::collections::BTreeSet;
use std::time::Duration;

use model::SessionId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::checker::{Violation, check};
use super::record::{Effect, Operation};
use Effect::{Ended, Found, Made, MaybeEnded, MaybeMade, Saw};

/// Small histories that are compared.
const COMPARED: u64 = 4000;

fn id(number: u8) -> SessionId {
    SessionId::from_bytes([number; 10])
}

/// Each with its call and its answer; the answer of an unknown outcome does not count.
fn history(operations: &[(u64, u64, Effect)]) -> Vec<Operation> {
    let made = operations
        .iter()
        .map(|(called, answered, effect)| Operation {
            token: 0,
            effect: *effect,
            called: Duration::from_millis(*called),
            answered: (!effect.is_unknown()).then(|| Duration::from_millis(*answered)),
            story: String::new(),
        });
    made.collect()
}

fn accepted(operations: &[(u64, u64, Effect)]) {
    if let Err(violation) = check(&history(operations)) {
        panic!("refused: {violation}");
    }
}

fn refused(operations: &[(u64, u64, Effect)]) -> String {
    match check(&history(operations)) {
        Ok(()) => panic!("accepted: {operations:?}"),
        Err(violation) => violation.to_string(),
    }
}

#[test]
fn right_histories_are_accepted() {
    accepted(&[
        (0, 1, Saw(None)),
        (2, 3, Made(id(1))),
        (4, 5, Found(id(1))),
        (6, 7, Saw(Some(id(1)))),
        (8, 9, Ended(id(1))),
        (10, 11, Saw(None)),
        (12, 13, Ended(id(1))),
        (14, 15, Made(id(2))),
    ]);
    // Simultaneous ones in the order that fits.
    accepted(&[
        (0, 9, Made(id(1))),
        (1, 8, Found(id(1))),
        (2, 7, Saw(None)),
        (3, 6, Saw(Some(id(1)))),
        (10, 20, Ended(id(1))),
        (11, 21, Ended(id(1))),
        (12, 19, Made(id(2))),
        (13, 14, Saw(Some(id(1)))),
    ]);
}

#[test]
fn a_stale_lookup_is_found() {
    let told = refused(&[
        (0, 1, Made(id(1))),
        (2, 3, Ended(id(1))),
        (4, 5, Saw(Some(id(1)))),
    ]);
    assert!(told.contains("no order explains: token 0"), "{told}");
    assert!(told.contains("lookup saw") && told.contains("before it, the token had: none"));
    refused(&[(0, 1, Made(id(1))), (2, 3, Saw(None))]);
    // Two lookups one after the other that go back in time, while an end is under way.
    refused(&[
        (0, 1, Made(id(1))),
        (2, 9, Ended(id(1))),
        (3, 4, Saw(None)),
        (5, 6, Saw(Some(id(1)))),
    ]);
}

#[test]
fn a_lost_create_is_found() {
    refused(&[(0, 1, Made(id(1))), (2, 3, Made(id(2)))]);
    refused(&[
        (0, 1, Made(id(1))),
        (2, 3, Made(id(2))),
        (4, 5, Saw(Some(id(2)))),
    ]);
}

#[test]
fn a_lost_end_and_a_session_from_nowhere_are_found() {
    refused(&[
        (0, 1, Made(id(1))),
        (2, 3, Ended(id(1))),
        (4, 5, Found(id(1))),
    ]);
    refused(&[(0, 1, Saw(Some(id(1))))]);
    // One unknown create makes one session.
    refused(&[
        (0, 0, MaybeMade),
        (1, 2, Saw(Some(id(1)))),
        (3, 4, Ended(id(1))),
        (5, 6, Saw(Some(id(2)))),
    ]);
    let twice = check(&history(&[
        (0, 1, Made(id(1))),
        (2, 3, Ended(id(1))),
        (4, 5, Made(id(1))),
    ]));
    assert!(matches!(*twice.unwrap_err(), Violation::MadeTwice { .. }));
    let unheard = check(&history(&[(0, 1, Ended(id(1)))]));
    assert!(matches!(*unheard.unwrap_err(), Violation::Unheard { .. }));
}

#[test]
fn unknown_outcomes_may_happen_late_or_never() {
    let begin = [(0, 1, Saw(None)), (2, 0, MaybeMade)];
    accepted(&[&begin[..], &[(50, 51, Saw(None))]].concat());
    let late = [(50, 51, Saw(None)), (52, 53, Saw(Some(id(1))))];
    accepted(&[&begin[..], &late].concat());
    let end = [(54, 0, MaybeEnded(id(1))), (60, 61, Saw(Some(id(1))))];
    accepted(&[&begin[..], &late, &end].concat());
    let over = [(70, 71, Saw(None)), (72, 73, Made(id(2)))];
    accepted(&[&begin[..], &late, &end, &over].concat());
    // But not before it was asked for, and not twice.
    refused(&[(0, 1, Saw(Some(id(1)))), (2, 0, MaybeMade)]);
    refused(&[&begin[..], &late, &end, &over, &[(80, 81, Found(id(1)))]].concat());
}

#[test]
fn tokens_are_checked_apart() {
    let mut operations = history(&[(0, 1, Made(id(1))), (2, 3, Made(id(2)))]);
    for (token, operation) in operations.iter_mut().enumerate() {
        operation.token = token;
    }
    assert!(check(&operations).is_ok());
}

/// Every order of the operations that time allows, and every subset of the unknown ones.
fn by_all_orders(operations: &[Operation]) -> bool {
    let attributed = |id: &SessionId| operations.iter().any(|other| other.effect == Made(*id));
    let named = operations.iter().filter_map(|other| other.effect.session());
    let orphans: BTreeSet<SessionId> = named.filter(|id| !attributed(id)).collect();
    let left: Vec<&Operation> = operations.iter().collect();
    some_order(&left, None, &orphans)
}

fn some_order(
    left: &[&Operation],
    current: Option<SessionId>,
    orphans: &BTreeSet<SessionId>,
) -> bool {
    if left.iter().all(|operation| operation.effect.is_unknown()) {
        return true;
    }
    left.iter().enumerate().any(|(place, first)| {
        let answered_before =
            |other: &&Operation| other.answered.is_some_and(|at| at < first.called);
        if left.iter().copied().any(|other| answered_before(&other)) {
            return false;
        }
        let mut rest = left.to_vec();
        rest.remove(place);
        match (first.effect, current) {
            (Made(id), None) => some_order(&rest, Some(id), orphans),
            (Found(id), Some(now)) => id == now && some_order(&rest, current, orphans),
            (Saw(seen), _) => seen == current && some_order(&rest, current, orphans),
            (Ended(id) | MaybeEnded(id), _) => {
                let after = current.filter(|now| *now != id);
                some_order(&rest, after, orphans)
            }
            (MaybeMade, Some(_)) => some_order(&rest, current, orphans),
            (MaybeMade, None) => orphans.iter().any(|id| {
                let mut fewer = orphans.clone();
                fewer.remove(id);
                some_order(&rest, Some(*id), &fewer)
            }),
            (Made(_), Some(_)) | (Found(_), None) => false,
        }
    })
}

/// What clients of a right register would be told; some answers get lost.
fn drawn(chance: &mut StdRng) -> Vec<Operation> {
    let mut points: Vec<(u64, u64, u64)> = (0..chance.random_range(3..=7))
        .map(|_| {
            let at = chance.random_range(100..160);
            let called = at - chance.random_range(0..30);
            (at, called, at + chance.random_range(0..30))
        })
        .collect();
    points.sort_unstable();
    let mut current = None;
    let mut told: Vec<(u64, SessionId)> = Vec::new();
    let mut operations = Vec::new();
    for (number, (_, called, answered)) in (1..).zip(points) {
        let lost = chance.random_bool(0.25);
        let happens = !lost || chance.random_bool(0.5);
        let known: Vec<SessionId> = told
            .iter()
            .filter(|(at, _)| *at < called)
            .map(|(_, id)| *id)
            .collect();
        let effect = match chance.random_range(0..3) {
            0 => Saw(current),
            1 if !known.is_empty() => {
                let id = known[chance.random_range(0..known.len())];
                if happens && current == Some(id) {
                    current = None;
                }
                if lost { MaybeEnded(id) } else { Ended(id) }
            }
            _ => {
                let effect = current.map_or(Made(id(number)), Found);
                if happens {
                    current = effect.session();
                }
                if lost { MaybeMade } else { effect }
            }
        };
        if let (Made(id) | Found(id) | Saw(Some(id)), false) = (effect, effect.is_unknown()) {
            told.push((answered, id));
        }
        operations.push((called, answered, effect));
    }
    history(&operations)
}

/// Makes an answer say something else.
fn falsified(operations: &mut [Operation], chance: &mut StdRng) {
    let ids: Vec<SessionId> = operations
        .iter()
        .filter_map(|operation| operation.effect.session())
        .collect();
    let place = chance.random_range(0..operations.len());
    let id = (!ids.is_empty()).then(|| ids[chance.random_range(0..ids.len())]);
    let operation = &mut operations[place];
    operation.effect = match (operation.effect, id) {
        (Made(_) | Found(_), Some(id)) => Found(id),
        (Saw(Some(_)), _) => Saw(None),
        (Saw(None), id) => Saw(id),
        (effect, _) => effect,
    };
}

#[test]
fn it_agrees_with_a_search_through_all_orders() {
    let (mut right, mut wrong) = (0, 0);
    for seed in 0..COMPARED {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut operations = drawn(&mut chance);
        let is_genuine = chance.random_bool(0.4);
        if !is_genuine {
            falsified(&mut operations, &mut chance);
        }
        let verdict = check(&operations);
        if matches!(
            verdict.as_ref().map_err(|violation| &**violation),
            Err(Violation::Unheard { .. })
        ) {
            continue;
        }
        let expected = by_all_orders(&operations);
        assert!(expected || !is_genuine, "seed {seed}: {operations:#?}");
        assert_eq!(verdict.is_ok(), expected, "seed {seed}: {operations:#?}");
        if expected { right += 1 } else { wrong += 1 }
    }
    assert!(right > 1000 && wrong > 300, "{right} right, {wrong} wrong");
}
