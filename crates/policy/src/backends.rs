//! Backends that run already, behind one host: whether each is up, and which one a session gets.
//!
//! Always true: a session that has a backend keeps it while that is up; a backend of weight 0 gets no session that had another or none;
//! what is checked goes down and comes back only after as many checks as were asked for, but for the first: until it succeeds, one
//! failure is enough.

use model::SessionId;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Whether a backend is up, as its checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    up: bool,
    /// Checks in a row that spoke against it, up to now.
    against: u32,
    /// Whether one has ever succeeded.
    seen_up: bool,
}

impl Default for Health {
    /// Up, until a check says otherwise.
    fn default() -> Self {
        Self {
            up: true,
            against: 0,
            seen_up: false,
        }
    }
}

impl Health {
    /// Whether sessions may be sent there.
    pub fn is_up(self) -> bool {
        self.up
    }

    /// Takes in a check: after `fall` failures in a row it is down, after `rise` successes in a row up again. Says whether that
    /// changed.
    pub fn observe(&mut self, succeeded: bool, rise: u32, fall: u32) -> bool {
        if succeeded == self.up {
            self.against = 0;
            self.seen_up |= succeeded;
            return false;
        }
        self.against = self.against.saturating_add(1);
        let enough = match self.up {
            true if !self.seen_up => 1,
            true => fall,
            false => rise,
        };
        if self.against < enough {
            return false;
        }
        *self = Self {
            up: succeeded,
            against: 0,
            seen_up: self.seen_up | succeeded,
        };
        true
    }
}

/// A backend that a session may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its part of the sessions, relative to the others' weights.
    pub weight: u16,
    /// Sessions of this host that have it.
    pub held: u32,
    /// Whether it is up.
    pub up: bool,
}

/// In which order a session tries backends, by their places in `candidates`: the one that it has already, then by who has the fewest
/// sessions for its weight. Those that are down are left out; those of weight 0 too, unless the session has one. Among equals the
/// session's id decides, so that several hosts do not all begin with the same one.
pub fn order(session: SessionId, has: Option<usize>, candidates: &[Candidate]) -> Vec<usize> {
    let mut fit: Vec<(usize, Candidate)> = candidates
        .iter()
        .copied()
        .enumerate()
        .filter(|(place, one)| one.up && (one.weight > 0 || has == Some(*place)))
        .collect();
    fit.sort_by(|(one_place, one), (other_place, other)| {
        let keeps = |place: usize| has == Some(place);
        // Sessions for each weight, with this one: compared without division.
        let part = |one: &Candidate, other: &Candidate| {
            (u64::from(one.held) + 1) * u64::from(other.weight)
        };
        keeps(*other_place)
            .cmp(&keeps(*one_place))
            .then_with(|| part(one, other).cmp(&part(other, one)))
            .then_with(|| lot(session, *one_place).cmp(&lot(session, *other_place)))
    });
    fit.into_iter().map(|(place, _)| place).collect()
}

/// A number that is as good as drawn, always the same for the same session and place.
fn lot(session: SessionId, place: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    (session, place).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn session(number: u16) -> SessionId {
        let [high, low] = number.to_be_bytes();
        SessionId::from_bytes([high, low, 3, 4, 5, 6, 7, 8, 9, 10])
    }

    #[test]
    fn one_failure_is_enough_before_the_first_success() {
        let mut health = Health::default();
        assert!(health.is_up());
        assert!(health.observe(false, 2, 3));
        assert!(!health.is_up());
        assert!(!health.observe(true, 2, 3));
        assert!(!health.observe(false, 2, 3), "the count begins anew");
        assert!(!health.observe(true, 2, 3));
        assert!(health.observe(true, 2, 3));
        assert!(health.is_up());
    }

    #[test]
    fn it_falls_and_rises_by_checks_in_a_row() {
        let mut health = Health::default();
        let story = [true, false, false, true, false, false, false, true, true];
        let told: Vec<_> = story
            .map(|check| (health.observe(check, 2, 3), health.is_up()))
            .into();
        let changes: Vec<_> = told.iter().map(|(changed, _)| *changed).collect();
        assert_eq!(
            changes,
            [false, false, false, false, false, false, true, false, true]
        );
        assert_eq!(told.last(), Some(&(true, true)));
    }

    /// Gives sessions one after the other to whoever comes first, and counts.
    fn fill(weights: &[u16], sessions: u16) -> Vec<u32> {
        let mut candidates: Vec<Candidate> = weights
            .iter()
            .map(|weight| Candidate {
                weight: *weight,
                held: 0,
                up: true,
            })
            .collect();
        for number in 0..sessions {
            let order = order(session(number), None, &candidates);
            if let Some(one) = order.first().and_then(|first| candidates.get_mut(*first)) {
                one.held += 1;
            }
        }
        candidates.iter().map(|one| one.held).collect()
    }

    #[test]
    fn sessions_are_shared_by_weight() {
        assert_eq!(fill(&[1, 1], 10), [5, 5]);
        assert_eq!(fill(&[3, 1], 8), [6, 2]);
        assert_eq!(fill(&[1, 0, 1], 4), [2, 0, 2]);
        assert_eq!(fill(&[0], 4), [0]);
        assert_eq!(fill(&[256, 1], 257), [256, 1]);
    }

    #[test]
    fn equals_do_not_all_begin_with_the_same() {
        let equal = [Candidate {
            weight: 1,
            held: 0,
            up: true,
        }; 2];
        let firsts: Vec<_> = (0..64)
            .map(|number| order(session(number), None, &equal))
            .collect();
        let first = firsts
            .iter()
            .filter(|order| order.first() == Some(&0))
            .count();
        assert!(
            (16..=48).contains(&first),
            "{first} of 64 begin with the first"
        );
    }

    #[test]
    fn what_a_session_has_it_keeps_while_that_is_up() {
        let mut candidates = [
            Candidate {
                weight: 0,
                held: 9,
                up: true,
            },
            Candidate {
                weight: 1,
                held: 0,
                up: true,
            },
        ];
        assert_eq!(order(session(1), Some(0), &candidates), [0, 1]);
        candidates[0].up = false;
        assert_eq!(order(session(1), Some(0), &candidates), [1]);
        candidates[1].up = false;
        assert_eq!(order(session(1), Some(0), &candidates), [0_usize; 0]);
    }

    proptest! {
        #[test]
        fn the_order_is_of_what_is_fit_and_its_head_has_the_least(
            drawn in proptest::collection::vec((0_u16..=256, 0_u32..100, any::<bool>()), 0..10),
            has in proptest::option::of(0_usize..10),
            number in any::<u16>(),
        ) {
            let candidates: Vec<Candidate> = drawn
                .iter()
                .map(|(weight, held, up)| Candidate { weight: *weight, held: *held, up: *up })
                .collect();
            let found = order(session(number), has, &candidates);
            let fit = |place: usize| candidates[place].up && (candidates[place].weight > 0 || has == Some(place));
            let mut sorted = found.clone();
            sorted.sort_unstable();
            let expected: Vec<usize> = (0..candidates.len()).filter(|place| fit(*place)).collect();
            prop_assert_eq!(sorted, expected);
            match (has.filter(|has| *has < candidates.len() && fit(*has)), found.first()) {
                (Some(has), first) => prop_assert_eq!(first, Some(&has)),
                (None, Some(first)) => {
                    let part = |place: usize| f64::from(candidates[place].held + 1) / f64::from(candidates[place].weight);
                    for place in &found {
                        prop_assert!(part(*first) <= part(*place) + 1e-9);
                    }
                }
                (None, None) => {}
            }
        }
    }
}
