//! The group as one server sees it now: what questions about it are answered from.

use model::{Directory, ResilienceMode, ServerId, UnixMillis};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is known of another server now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Peer {
    /// Whether it was heard within the grace period.
    pub reachable: bool,
    /// How long ago it was last heard; none: never since this server started.
    pub silent_for: Option<Duration>,
    /// How many changes it is behind the newest that is known; none: not known.
    pub lag: Option<u64>,
    /// How far its clock is ahead, in milliseconds; none: not known.
    pub clock_offset_ms: Option<i64>,
    /// Whether it said that it is in another formation.
    pub elsewhere: bool,
}

/// The group as one server sees it now.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The newest directory that it has.
    pub directory: &'a Directory,
    /// Whose view it is.
    pub me: ServerId,
    /// The time by this server's calendar.
    pub calendar: UnixMillis,
    /// Who leads, as consensus knows it; none: nobody was heard within the grace period.
    pub leader: Option<ServerId>,
    /// Whether this server acts as primary.
    pub acting: bool,
    /// Who counts now, see [`counted`].
    pub voters: &'a BTreeSet<ServerId>,
    /// In the middle of a change of the voters those of before and those of afterwards: a majority of each has to agree. Empty at
    /// other times.
    pub joint: &'a [BTreeSet<ServerId>],
    /// What is known of the others. This server itself needs no entry, except for its lag and clock.
    pub peers: &'a BTreeMap<ServerId, Peer>,
}

/// Who counts: in quorum mode those whom consensus counts; in availability mode, where it counts the primary alone, the voters
/// that have caught up.
pub fn counted(directory: &Directory, consensus: &BTreeSet<ServerId>) -> BTreeSet<ServerId> {
    match directory.group().mode {
        ResilienceMode::Quorum => consensus.clone(),
        ResilienceMode::Availability => directory.voters().map(|server| server.id).collect(),
    }
}

impl View<'_> {
    /// What is known of a server. This server always reaches itself.
    pub fn peer(&self, server: ServerId) -> Peer {
        let known = self.peers.get(&server).copied().unwrap_or_default();
        if server != self.me {
            return known;
        }
        Peer {
            reachable: true,
            silent_for: Some(Duration::ZERO),
            lag: if self.acting { Some(0) } else { known.lag },
            clock_offset_ms: known.clock_offset_ms.or(Some(0)),
            elsewhere: false,
        }
    }

    /// Whether a server can be reached.
    pub fn reaches(&self, server: ServerId) -> bool {
        self.peer(server).reachable
    }

    /// Whether a server can be reached, and is in this formation as far as is known.
    pub fn has_here(&self, server: ServerId) -> bool {
        self.reaches(server) && !self.peer(server).elsewhere
    }

    /// A server's name, or its id where it is no member.
    pub fn name(&self, server: ServerId) -> String {
        self.directory.name_of(server)
    }
}
