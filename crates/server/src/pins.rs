//! Who still knows the group by the fingerprint of an authority of before: what clients and programs say when they come.
//!
//! Soft state of this server, told to the others with its report. It grants nothing and refuses nothing.

use crate::clock;
use crate::node::Node;
use model::{AuthorityMark, ServerId, UnixMillis};
use peer::identity::authority_mark;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use wire::control::Pin;

/// How many are remembered.
const KEPT: usize = 256;
/// How many a report tells of, the latest first.
const TOLD: usize = 32;
/// The longest name that is kept, in characters.
const NAME_LIMIT: usize = 64;
/// Whoever has not come for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// Those that came lately.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<BTreeMap<(String, IpAddr), (UnixMillis, AuthorityMark)>>);

impl Pins {
    fn note(&self, name: &str, from: IpAddr, authority: AuthorityMark, now: UnixMillis) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name: String = name.chars().take(NAME_LIMIT).collect();
        seen.insert((name, from.to_canonical()), (now, authority));
        if seen.len() > KEPT {
            let oldest = seen.iter().min_by_key(|(_, (at, _))| *at);
            let oldest = oldest.map(|(who, _)| who.clone());
            oldest.and_then(|who| seen.remove(&who));
        }
    }

    /// The latest of those that did not come with the authority in force.
    fn latest(&self, in_force: AuthorityMark, now: UnixMillis) -> Vec<Pin> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, (at, authority)| {
            *authority != in_force && now.since(*at) < FORGOTTEN_AFTER
        });
        let mut latest: Vec<Pin> = seen
            .iter()
            .map(|((name, from), (at, authority))| Pin {
                name: name.clone(),
                from: from.to_string(),
                at: *at,
                authority: *authority,
            })
            .collect();
        latest.sort_by_key(|pin| std::cmp::Reverse(pin.at));
        latest.truncate(TOLD);
        latest
    }
}

impl Node {
    /// A client or a program came, and says by which authority it knows the group.
    pub(crate) fn came_with(&self, authority: AuthorityMark, name: &str, from: IpAddr) {
        let directory = self.directory();
        let group = directory.group();
        // Nobody has to be remembered while there is one authority only, nor who knows one that never was.
        let Some(rotation) = &group.succession.rotation else {
            return;
        };
        let in_force = authority_mark(&group.authority.certificate);
        if authority == in_force || authority == authority_mark(&rotation.other.certificate) {
            self.0.pins.note(name, from, authority, clock::calendar());
        }
    }

    /// What this server tells the others of it.
    pub(crate) fn own_pins(&self) -> Vec<Pin> {
        let directory = self.directory();
        let in_force = authority_mark(&directory.group().authority.certificate);
        self.0.pins.latest(in_force, clock::calendar())
    }

    /// Who came lately, and to which server.
    pub(crate) fn pins(&self) -> Vec<(ServerId, Pin)> {
        let reports = self.reports();
        let told = reports
            .iter()
            .filter(|(server, _)| **server != self.me())
            .flat_map(|(server, report)| report.pins.iter().map(|pin| (*server, pin.clone())));
        let own = self.own_pins().into_iter().map(|pin| (self.me(), pin));
        own.chain(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: AuthorityMark = AuthorityMark([1; 16]);
    const NEW: AuthorityMark = AuthorityMark([2; 16]);

    #[test]
    fn the_latest_are_told_and_no_flood_of_names_is_kept() {
        let pins = Pins::default();
        for number in 0..1000u64 {
            let from = IpAddr::from([10, 0, 0, 1]);
            pins.note(&format!("client {number}"), from, OLD, UnixMillis(number));
        }
        let now = UnixMillis(1000);
        let latest = pins.latest(NEW, now);
        assert_eq!(latest.len(), TOLD);
        assert_eq!(latest[0].name, "client 999");
        assert_eq!(pins.0.lock().unwrap().len(), KEPT);
        assert_eq!(pins.latest(OLD, now), []);
    }

    #[test]
    fn who_knows_the_new_one_by_now_is_forgotten() {
        let pins = Pins::default();
        let from = IpAddr::from([10, 0, 0, 1]);
        pins.note("ann", from, OLD, UnixMillis(1));
        assert_eq!(pins.latest(NEW, UnixMillis(2)).len(), 1);
        pins.note("ann", from, NEW, UnixMillis(3));
        assert_eq!(pins.latest(NEW, UnixMillis(4)), []);
    }
}
