//! When a server may take up new times of consensus, in an order of servers in which no two leases can overlap.
//!
//! A longer lease is taken up by the servers that follow first, and by the primary once all voters report it; a shorter
//! one by the primary first, and by the others once it reports it.

use model::ServerId;
use std::collections::BTreeSet;
use std::time::Duration;

/// A server that would change its times, as it sees the group.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// This server.
    pub me: ServerId,
    /// Whether it leads.
    pub leads: bool,
    /// Who leads, as far as it knows; it may have fallen since.
    pub leader: Option<ServerId>,
    /// Who counts.
    pub voters: &'a BTreeSet<ServerId>,
}

impl Turn<'_> {
    /// Whether this server may go from one lease to another now. `lease_of` is what a server last reported of its own.
    pub fn has_come(
        &self,
        lease_of: impl Fn(ServerId) -> Option<Duration>,
        now: Duration,
        wanted: Duration,
    ) -> bool {
        if self.leads {
            let mut others = self.voters.iter().filter(|voter| **voter != self.me);
            return wanted <= now
                || others.all(|voter| lease_of(*voter).is_some_and(|lease| lease >= wanted));
        }
        // Before any leader was heard nobody holds a lease that this server could shorten.
        match self.leader {
            Some(leader) if wanted < now => lease_of(leader).is_some_and(|lease| lease <= wanted),
            _ => true,
        }
    }
}
