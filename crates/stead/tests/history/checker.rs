//! Whether a history is linearizable: whether each operation can be thought to have happened in one instant between its
//! call and its answer, in one order that a single, never failing register for each token would have answered likewise.
//!
//! The register holds a session or none. A create makes one when there is none, and otherwise gives the one there is; an
//! end takes that session away if it is still there; a lookup says what there is. Tokens do not touch each other, so each is
//! checked by itself. The search is that of Wing and Gong in the form of Lowe ("Testing for linearizability", 2017):
//! operations are put in order only when an answer demands it, and equal positions are looked at once.
//!
//! Why not a checker from elsewhere: of those that exist for Rust, `todc-utils` has stood still since 2023 and knows
//! no unknown outcomes, and the tester of `stateright` tries orders without remembering any (hopeless for
//! thousands of operations) and brings a web server along. What keeps this one honest are its tests: planted errors, and a
//! comparison with the obvious search through all orders on thousands of small histories.
//!
//! Always true here, and what the search relies on:
//! - a session is current once, in one stretch: ended is ended, so an end of a session that is over changes nothing ever;
//! - what changes nothing and fits the present position is put there at once: it can only be in the way later;
//! - unknown outcomes demand nothing. Creates among them are alike, so it is enough to count them, and an end matters
//!   only where its session is current.
//!
//! Start at [`check`].

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use model::SessionId;

use super::record::{Effect, Operation};

/// Operations before the one that cannot be explained that are shown.
const SHOWN: usize = 16;

/// Why a history is not linearizable.
#[derive(Debug)]
pub enum Violation {
    /// Two creates were told that they made the same session.
    MadeTwice {
        /// The second.
        operation: Operation,
    },
    /// A session was ended by a client that nobody had told of it: no history that clients can make.
    Unheard {
        /// The end.
        operation: Operation,
    },
    /// In no order do all answers up to this one make sense.
    NoOrder {
        /// The first answer that cannot be explained.
        operation: Operation,
        /// What the token may have had before it, one for each order that was still possible.
        before: Vec<Option<SessionId>>,
        /// What happened just before and meanwhile.
        around: Vec<Operation>,
    },
}

/// What may have happened up to some moment: one of the orders that explain all answers so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Position {
    /// The token's session.
    current: Option<SessionId>,
    /// Sessions that creates with unknown outcomes made.
    born: BTreeSet<SessionId>,
    /// Operations that wait for their answer, and have happened.
    done: BTreeSet<usize>,
}

/// One token's search.
struct Search<'a> {
    operations: &'a [&'a Operation],
    /// Sessions that only a create with an unknown outcome can have made.
    orphans: BTreeSet<SessionId>,
    /// Called and not yet answered; unknown outcomes are not among them.
    open: BTreeSet<usize>,
    /// Creates with unknown outcomes that were called.
    unknown_creates: usize,
    /// Sessions that were asked to end, with an unknown outcome.
    unknown_ends: BTreeSet<SessionId>,
}

/// Checks the history of all tokens.
///
/// # Errors
/// The first answer that no order explains.
pub fn check(operations: &[Operation]) -> Result<(), Box<Violation>> {
    let tokens: BTreeSet<usize> = operations.iter().map(|operation| operation.token).collect();
    for token in tokens {
        let own: Vec<&Operation> = operations
            .iter()
            .filter(|operation| operation.token == token)
            .collect();
        check_token(&own)?;
    }
    Ok(())
}

fn check_token(operations: &[&Operation]) -> Result<(), Box<Violation>> {
    well_formed(operations)?;
    let mut search = Search::new(operations);
    let mut positions = HashSet::from([Position::default()]);
    for (is_answer, index) in in_time(operations) {
        if is_answer {
            let after = search.answered(index, &positions);
            if after.is_empty() {
                return Err(Box::new(search.violation(index, &positions)));
            }
            positions = after;
        } else {
            search.called(index);
        }
    }
    Ok(())
}

/// Calls (`false`) and answers (`true`) in the order of time; of what happened at the same moment, calls first, so that
/// it counts as simultaneous.
fn in_time(operations: &[&Operation]) -> Vec<(bool, usize)> {
    let mut moments = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        moments.push((operation.called, false, index));
        moments.extend(operation.answered.map(|at| (at, true, index)));
    }
    moments.sort_unstable();
    moments
        .into_iter()
        .map(|(_, is_answer, index)| (is_answer, index))
        .collect()
}

fn well_formed(operations: &[&Operation]) -> Result<(), Box<Violation>> {
    let mut made = BTreeSet::new();
    for operation in operations {
        match operation.effect {
            Effect::Made(id) if !made.insert(id) => {
                let operation = (*operation).clone();
                return Err(Box::new(Violation::MadeTwice { operation }));
            }
            Effect::Ended(id) | Effect::MaybeEnded(id) => {
                let told = |other: &&&Operation| {
                    other.answered.is_some_and(|at| at < operation.called)
                        && other.effect.session() == Some(id)
                        && !matches!(other.effect, Effect::Ended(_))
                };
                if !operations.iter().any(|other| told(&other)) {
                    let operation = (*operation).clone();
                    return Err(Box::new(Violation::Unheard { operation }));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

impl<'a> Search<'a> {
    fn new(operations: &'a [&'a Operation]) -> Self {
        let mut orphans: BTreeSet<SessionId> = operations
            .iter()
            .filter_map(|operation| operation.effect.session())
            .collect();
        for operation in operations {
            if let Effect::Made(id) = operation.effect {
                orphans.remove(&id);
            }
        }
        Self {
            operations,
            orphans,
            open: BTreeSet::new(),
            unknown_creates: 0,
            unknown_ends: BTreeSet::new(),
        }
    }

    fn effect(&self, index: usize) -> Option<Effect> {
        self.operations.get(index).map(|operation| operation.effect)
    }

    fn called(&mut self, index: usize) {
        match self.effect(index) {
            Some(Effect::MaybeMade) => self.unknown_creates += 1,
            Some(Effect::MaybeEnded(id)) => {
                self.unknown_ends.insert(id);
            }
            _ => {
                self.open.insert(index);
            }
        }
    }

    /// All positions in which the operation has happened, each as early as that can be.
    fn answered(&mut self, index: usize, positions: &HashSet<Position>) -> HashSet<Position> {
        let mut after = HashSet::new();
        let mut seen = HashSet::new();
        let mut waiting: Vec<Position> = positions.iter().cloned().collect();
        while let Some(mut position) = waiting.pop() {
            self.settle(&mut position);
            if !seen.insert(position.clone()) {
                continue;
            }
            if position.done.remove(&index) {
                after.insert(position);
            } else {
                waiting.extend(self.next(&position));
            }
        }
        self.open.remove(&index);
        after
    }

    /// Lets everything happen that fits and changes nothing.
    fn settle(&self, position: &mut Position) {
        for index in &self.open {
            let fits = match self.effect(*index) {
                Some(Effect::Found(id)) => position.current == Some(id),
                Some(Effect::Saw(seen)) => position.current == seen,
                // Its client had been told of it, so that it has been current before.
                Some(Effect::Ended(id)) => position.current != Some(id),
                _ => false,
            };
            if fits {
                position.done.insert(*index);
            }
        }
    }

    /// The positions one change further.
    fn next(&self, position: &Position) -> Vec<Position> {
        let mut further = Vec::new();
        let step = |current, done: Option<usize>| {
            let mut next = Position {
                current,
                ..position.clone()
            };
            next.done.extend(done);
            next
        };
        for index in self.open.difference(&position.done) {
            match (self.effect(*index), position.current) {
                (Some(Effect::Made(id)), None) => further.push(step(Some(id), Some(*index))),
                (Some(Effect::Ended(id)), Some(current)) if id == current => {
                    further.push(step(None, Some(*index)));
                }
                _ => {}
            }
        }
        match position.current {
            Some(current) if self.unknown_ends.contains(&current) => further.push(step(None, None)),
            None if position.born.len() < self.unknown_creates => {
                for id in self.orphans.difference(&position.born) {
                    let mut next = step(Some(*id), None);
                    next.born.insert(*id);
                    further.push(next);
                }
            }
            _ => {}
        }
        further
    }

    fn violation(&self, index: usize, positions: &HashSet<Position>) -> Violation {
        let before: BTreeSet<Option<SessionId>> =
            positions.iter().map(|position| position.current).collect();
        let failed = self.operations.get(index).copied();
        let operation = failed
            .expect("invariant: indices are those of the operations")
            .clone();
        let mut around: Vec<Operation> = self
            .operations
            .iter()
            .filter(|other| Some(other.called) <= operation.answered)
            .map(|other| (*other).clone())
            .collect();
        around.sort_by_key(|other| other.answered.unwrap_or(other.called));
        // The later ones go on beyond the answer, and are all of interest.
        let ended = |other: &&Operation| other.answered <= operation.answered;
        let skipped = around.iter().filter(ended).count().saturating_sub(SHOWN);
        around.drain(..skipped);
        Violation::NoOrder {
            operation,
            before: before.into_iter().collect(),
            around,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MadeTwice { operation } => write!(f, "made a second time: {operation}"),
            Self::Unheard { operation } => write!(f, "nobody had been told of it: {operation}"),
            Self::NoOrder {
                operation,
                before,
                around,
            } => {
                writeln!(f, "no order explains: {operation}")?;
                let each = before.iter().map(|current| match current {
                    Some(id) => id.to_string(),
                    None => "none".to_owned(),
                });
                let each: Vec<String> = each.collect();
                writeln!(f, "before it, the token had: {}", each.join(" or "))?;
                writeln!(f, "just before and meanwhile:")?;
                around.iter().try_for_each(|other| writeln!(f, "  {other}"))
            }
        }
    }
}
