//! Who is served now, and when the others are to come back.
//!
//! [`Admission`] is the rule, without sockets or clocks: how many visitors may be inside, how many of them without having
//! proved themselves, and how large the share of one address may be. [`Gate`] lets connections through it. There is one gate for each
//! kind of visitor (handshakes, client conversations, the API), so that a flood of one kind does not shut out the others.
//!
//! Always true: counts come back to zero when everybody has left; nobody is left without an answer unless `turned_away_limit`
//! are being answered already, and then the connection is closed at once, which a client takes as the same answer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::pace::Pace;

/// How many visitors a gate lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Visitors inside, proved or not.
    pub total: usize,
    /// Visitors inside who have not proved themselves.
    pub unproved: usize,
    /// Of these, from one address.
    pub unproved_per_address: usize,
    /// Visitors that may be told at once that they are to come back.
    pub turned_away: usize,
    /// How many visitors can prove themselves in a second, before it is measured; spreads the times to come back.
    pub proofs_per_second: u32,
}

impl Limits {
    /// For the conversations of clients.
    pub const CLIENTS: Self = Self {
        total: 20_000,
        unproved: 512,
        unproved_per_address: 128,
        turned_away: 512,
        proofs_per_second: 400,
    };
    /// For connections whose TLS handshake is not complete, of every kind.
    pub const HANDSHAKES: Self = Self {
        total: 2_048,
        unproved: 2_048,
        // More at once from one place take no less time together, and each would wait until it gives up.
        unproved_per_address: 128,
        turned_away: 0,
        proofs_per_second: 400,
    };
}

/// What the rule says to a visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Comes in, and has not proved himself.
    Enters,
    /// Is told when to come back.
    TurnedAway {
        /// When, in milliseconds.
        after_ms: u64,
    },
    /// Too many are being told already.
    ShutOut,
}

/// The counts behind a gate.
#[derive(Debug, Clone)]
pub struct Admission {
    limits: Limits,
    inside: usize,
    unproved: usize,
    by_address: HashMap<IpAddr, usize>,
    being_turned_away: usize,
    pace: Pace,
}

impl Admission {
    /// Nobody is inside.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            inside: 0,
            unproved: 0,
            by_address: HashMap::new(),
            being_turned_away: 0,
            pace: Pace::new(limits.proofs_per_second),
        }
    }

    /// A visitor arrives. Except when shut out, he has to [`leave`](Self::leave) or to be [`turned`](Self::turned).
    /// `now` is of one monotonic clock, here and in what follows.
    pub fn arrive(&mut self, from: IpAddr, now: Duration) -> Verdict {
        let share = self.by_address.get(&from).copied().unwrap_or(0);
        let fits = self.inside < self.limits.total
            && self.unproved < self.limits.unproved
            && share < self.limits.unproved_per_address;
        if fits {
            self.inside += 1;
            self.unproved += 1;
            self.by_address.insert(from, share + 1);
            return Verdict::Enters;
        }
        if self.being_turned_away >= self.limits.turned_away {
            return Verdict::ShutOut;
        }
        self.being_turned_away += 1;
        Verdict::TurnedAway {
            after_ms: self.pace.slot(now),
        }
    }

    /// A visitor inside has proved himself.
    pub fn prove(&mut self, from: IpAddr, now: Duration) {
        self.pace.proved(now);
        self.forget_unproved(from);
    }

    /// A visitor leaves.
    pub fn leave(&mut self, from: IpAddr, proved: bool) {
        self.inside = self.inside.saturating_sub(1);
        if !proved {
            self.forget_unproved(from);
        }
    }

    /// A visitor that was turned away has been told.
    pub fn turned(&mut self) {
        self.being_turned_away = self.being_turned_away.saturating_sub(1);
    }

    /// Visitors inside, and those of them who have not proved themselves.
    pub fn inside(&self) -> (usize, usize) {
        (self.inside, self.unproved)
    }

    fn forget_unproved(&mut self, from: IpAddr) {
        self.unproved = self.unproved.saturating_sub(1);
        if let Some(share) = self.by_address.get_mut(&from) {
            *share -= 1;
            if *share == 0 {
                self.by_address.remove(&from);
            }
        }
    }
}

/// A gate that connections pass. A cheap clone.
#[derive(Debug, Clone)]
pub struct Gate {
    admission: Arc<Mutex<Admission>>,
    since: Instant,
}

/// How a connection fared at a gate.
#[derive(Debug)]
pub enum Entry {
    /// It is in.
    Admitted(Permit),
    /// It is to be told when to come back.
    TurnedAway {
        /// When, in milliseconds.
        after_ms: u64,
        /// Held while it is told.
        permit: TurningAway,
    },
    /// It is to be closed at once.
    ShutOut,
}

impl Gate {
    /// A gate with these limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            admission: Arc::new(Mutex::new(Admission::new(limits))),
            since: Instant::now(),
        }
    }

    /// A connection from this address arrives.
    pub fn enter(&self, from: IpAddr) -> Entry {
        match self.admission().arrive(from, self.since.elapsed()) {
            Verdict::Enters => Entry::Admitted(Permit {
                gate: self.clone(),
                from,
                proved: false,
            }),
            Verdict::TurnedAway { after_ms } => Entry::TurnedAway {
                after_ms,
                permit: TurningAway(self.clone()),
            },
            Verdict::ShutOut => Entry::ShutOut,
        }
    }

    /// Connections inside, and those of them that have not proved themselves.
    pub fn inside(&self) -> (usize, usize) {
        self.admission().inside()
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        // The counts are whole at every point where a panic could leave them.
        self.admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place inside a gate, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    gate: Gate,
    from: IpAddr,
    proved: bool,
}

impl Permit {
    /// The visitor has proved himself. Repeats do nothing.
    pub fn prove(&mut self) {
        if !self.proved {
            self.proved = true;
            let now = self.gate.since.elapsed();
            self.gate.admission().prove(self.from, now);
        }
    }

    /// Whether he has.
    pub fn is_proved(&self) -> bool {
        self.proved
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.admission().leave(self.from, self.proved);
    }
}

/// A place among those who are being told to come back, given back when dropped.
#[derive(Debug)]
pub struct TurningAway(Gate);

impl Drop for TurningAway {
    fn drop(&mut self) {
        self.0.admission().turned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const NOW: Duration = Duration::ZERO;
    const FEW: Limits = Limits {
        total: 6,
        unproved: 4,
        unproved_per_address: 3,
        turned_away: 2,
        proofs_per_second: 10,
    };

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    #[test]
    fn one_address_gets_its_share_only() {
        let mut admission = Admission::new(FEW);
        for _ in 0..3 {
            assert_eq!(admission.arrive(address(1), NOW), Verdict::Enters);
        }
        assert!(matches!(
            admission.arrive(address(1), NOW),
            Verdict::TurnedAway { .. }
        ));
        assert_eq!(admission.arrive(address(2), NOW), Verdict::Enters);
        assert!(matches!(
            admission.arrive(address(2), NOW),
            Verdict::TurnedAway { .. }
        ));
    }

    #[test]
    fn who_has_proved_himself_makes_room_until_the_total_is_reached() {
        let mut admission = Admission::new(FEW);
        for last in 0..6 {
            assert_eq!(admission.arrive(address(last), NOW), Verdict::Enters);
            admission.prove(address(last), NOW);
        }
        assert!(matches!(
            admission.arrive(address(9), NOW),
            Verdict::TurnedAway { .. }
        ));
        admission.turned();
        admission.leave(address(0), true);
        assert_eq!(admission.arrive(address(9), NOW), Verdict::Enters);
    }

    #[test]
    fn too_many_to_answer_are_shut_out() {
        let mut admission = Admission::new(Limits { unproved: 0, ..FEW });
        assert!(matches!(
            admission.arrive(address(1), NOW),
            Verdict::TurnedAway { .. }
        ));
        assert!(matches!(
            admission.arrive(address(1), NOW),
            Verdict::TurnedAway { .. }
        ));
        assert_eq!(admission.arrive(address(1), NOW), Verdict::ShutOut);
        admission.turned();
        assert!(matches!(
            admission.arrive(address(1), NOW),
            Verdict::TurnedAway { .. }
        ));
    }

    #[test]
    fn permits_give_their_places_back() {
        let gate = Gate::new(FEW);
        let mut entries: Vec<Entry> = (0..5).map(|last| gate.enter(address(last))).collect();
        assert!(matches!(entries.last(), Some(Entry::TurnedAway { .. })));
        assert_eq!(gate.inside(), (4, 4));
        if let Some(Entry::Admitted(permit)) = entries.first_mut() {
            permit.prove();
            permit.prove();
            assert!(permit.is_proved());
        }
        assert_eq!(gate.inside(), (4, 3));
        drop(entries);
        assert_eq!(gate.inside(), (0, 0));
        assert!(gate.admission().by_address.is_empty());
        assert_eq!(gate.admission().being_turned_away, 0);
    }
}
