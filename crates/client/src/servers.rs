//! The servers that a client knows, the order in which it tries them, and how long it waits between attempts. Pure: random numbers are
//! given to it.
//!
//! Always true: the servers that the client was started with are never forgotten, since the list that a server gave may be old when it is
//! needed; and nobody comes back at a time that others come back at too.

use std::time::Duration;

use model::ServerId;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use wire::client::ServerAddress;

/// A place to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// `host:port`.
    pub address: String,
    /// Who is there, as far as it is known.
    pub server: Option<ServerId>,
}

/// The servers that are known.
#[derive(Debug, Clone, Default)]
pub struct Servers {
    seeds: Vec<String>,
    known: Vec<ServerAddress>,
}

impl Servers {
    /// Only the servers that the client was started with are known, as `host:port`.
    pub fn new(seeds: Vec<String>) -> Self {
        Self {
            seeds,
            known: Vec::new(),
        }
    }

    /// A server told which servers there are. An empty list tells nothing.
    pub fn refresh(&mut self, servers: Vec<ServerAddress>) {
        if !servers.is_empty() {
            self.known = servers;
        }
    }

    /// What to try, in order: `first` if it is known, the others in random order, then what the client was started with.
    pub fn candidates(&self, first: Option<ServerId>, random: &mut impl Rng) -> Vec<Candidate> {
        let mut known: Vec<&ServerAddress> = self.known.iter().collect();
        known.shuffle(random);
        known.sort_by_key(|server| Some(server.server) != first);
        let candidate = |server: &ServerAddress| Candidate {
            address: server.address.clone(),
            server: Some(server.server),
        };
        let mut candidates: Vec<Candidate> = known.into_iter().map(candidate).collect();
        for seed in &self.seeds {
            if !candidates.iter().any(|known| known.address == *seed) {
                candidates.push(Candidate {
                    address: seed.clone(),
                    server: None,
                });
            }
        }
        candidates
    }

    /// As [`candidates`](Self::candidates), but `last` comes behind the other known ones.
    pub fn candidates_but(&self, last: ServerId, random: &mut impl Rng) -> Vec<Candidate> {
        let mut candidates = self.candidates(None, random);
        candidates.sort_by_key(|candidate| candidate.server == Some(last));
        candidates
    }

    /// The name of a server, or its id where no name is known.
    pub fn name(&self, server: ServerId) -> String {
        let known = self.known.iter().find(|known| known.server == server);
        known.map_or_else(|| server.to_string(), |known| known.name.to_string())
    }
}

/// Waits between attempts: each about twice as long as the one before, none the same for two clients.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    attempts: u32,
}

impl Backoff {
    /// Waits from `first` to `most`.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            attempts: 0,
        }
    }

    /// How long to wait now: between half and all of `first` doubled with every attempt, at most `most`.
    pub fn wait(&mut self, random: &mut impl Rng) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX));
        self.attempts = self.attempts.saturating_add(1);
        let whole = doubled.min(self.most);
        whole.mul_f64(random.random_range(0.5..=1.0))
    }

    /// Things went well: the next wait is a short one.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// When to come back to a server that said so: not before, and up to half as long again later.
pub fn come_back_after(told: Duration, random: &mut impl Rng) -> Duration {
    told.mul_f64(random.random_range(1.0..=1.5))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn server(last: u8) -> ServerAddress {
        ServerAddress {
            server: ServerId::from_bytes([last; 16]),
            name: format!("s{last}").parse().unwrap(),
            address: format!("192.0.2.{last}:5443"),
        }
    }

    #[test]
    fn the_host_comes_first_and_the_seeds_last() {
        let mut servers = Servers::new(vec!["seed:1".to_owned(), "192.0.2.2:5443".to_owned()]);
        let mut random = StdRng::seed_from_u64(1);
        let addresses = |candidates: Vec<Candidate>| -> Vec<String> {
            candidates
                .into_iter()
                .map(|candidate| candidate.address)
                .collect()
        };
        assert_eq!(
            addresses(servers.candidates(None, &mut random)),
            ["seed:1", "192.0.2.2:5443"]
        );
        servers.refresh((1..=4).map(server).collect());
        servers.refresh(Vec::new());
        let mut orders = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let order = servers.candidates(Some(ServerId::from_bytes([3; 16])), &mut random);
            let order = addresses(order);
            assert_eq!(order.len(), 5);
            assert_eq!(order.first().unwrap(), "192.0.2.3:5443");
            assert_eq!(order.last().unwrap(), "seed:1");
            orders.insert(order);
        }
        assert!(orders.len() > 1, "clients would all go to the same server");
        let order = servers.candidates_but(ServerId::from_bytes([3; 16]), &mut random);
        assert_eq!(addresses(order).last().unwrap(), "192.0.2.3:5443");
    }

    #[test]
    fn waits_grow_to_a_limit_and_differ_between_clients() {
        let (first, most) = (Duration::from_millis(100), Duration::from_secs(2));
        let waits = |seed: u64| -> Vec<Duration> {
            let mut backoff = Backoff::new(first, most);
            let mut random = StdRng::seed_from_u64(seed);
            (0..40).map(|_| backoff.wait(&mut random)).collect()
        };
        for (attempt, wait) in waits(7).into_iter().enumerate() {
            let whole = first.saturating_mul(1 << attempt.min(20)).min(most);
            assert!(
                wait >= whole / 2 && wait <= whole,
                "attempt {attempt}: {wait:?}"
            );
        }
        assert_ne!(waits(1), waits(2));
        let mut backoff = Backoff::new(first, most);
        let mut random = StdRng::seed_from_u64(3);
        for _ in 0..9 {
            backoff.wait(&mut random);
        }
        backoff.reset();
        assert!(backoff.wait(&mut random) <= first);
    }

    #[test]
    fn who_is_told_to_come_back_does_not_come_sooner() {
        let told = Duration::from_secs(2);
        let mut random = StdRng::seed_from_u64(4);
        for _ in 0..100 {
            let wait = come_back_after(told, &mut random);
            assert!(wait >= told && wait <= told.mul_f64(1.5), "{wait:?}");
        }
    }

    #[test]
    fn unknown_servers_are_named_by_their_id() {
        let mut servers = Servers::default();
        servers.refresh(vec![server(1)]);
        assert_eq!(servers.name(ServerId::from_bytes([1; 16])), "s1");
        assert_eq!(servers.name(ServerId::from_bytes([9; 16])), "09".repeat(16));
    }
}
