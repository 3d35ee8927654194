//! Servers that campaign against each other in virtual time, over an election reduced to its rules: pre-votes that respect
//! leases and holds, majorities, and heartbeats. Every run writes its story.

use crate::fixture::{details, ms, name_of};
use model::ServerId;
use policy::Peer;
use policy::campaign::{Action, Campaign, Event, Facts, Stance, Timing, Voter};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const HEARTBEAT: u64 = 100;

/// The facts of a group in which everybody votes; witnesses may not lead.
pub(crate) fn facts(voters: &[ServerId], witnesses: &[ServerId], backups: &[ServerId]) -> Facts {
    let voter = |id: &ServerId| {
        let may_lead = !witnesses.contains(id);
        (
            *id,
            Voter {
                name: name_of(*id).to_owned(),
                may_lead,
            },
        )
    };
    Facts {
        voters: voters.iter().map(voter).collect(),
        backups: backups.to_vec(),
        primary: backups.first().copied(),
        failover: true,
        paused: None,
        timing: Timing {
            grace: ms(500),
            rank_delay: ms(150),
            retry: ms(30),
        },
    }
}

struct Node {
    campaign: Campaign,
    facts: Facts,
    leads: bool,
    term: u64,
    /// Until when it votes for nobody: its lease on a leader, or the hold after its start.
    promised_until: Duration,
    /// How long its log is.
    log: u64,
    /// When a majority last confirmed it as leader.
    confirmed: Duration,
}

/// A group in virtual time.
pub(crate) struct World {
    pub(crate) now: Duration,
    up: BTreeMap<ServerId, Node>,
    /// What survives a crash: facts, term and log.
    disk: BTreeMap<ServerId, (Facts, u64, u64)>,
    cuts: BTreeSet<(ServerId, ServerId)>,
    /// How many milliseconds each clock is ahead; it is right where nothing is said.
    clocks: BTreeMap<ServerId, i64>,
    story: Vec<String>,
    /// Who was seen acting at each moment, for the invariant.
    pub(crate) acted: Vec<ServerId>,
}

impl World {
    /// All servers are down, with these facts on their disks.
    pub(crate) fn of(facts: &Facts) -> Self {
        let disk = facts.voters.keys().map(|id| (*id, (facts.clone(), 1, 10)));
        Self {
            now: Duration::ZERO,
            up: BTreeMap::new(),
            disk: disk.collect(),
            cuts: BTreeSet::new(),
            clocks: BTreeMap::new(),
            story: Vec::new(),
            acted: Vec::new(),
        }
    }

    pub(crate) fn tell(&mut self, what: &str) {
        self.story
            .push(format!("{:>6} ms  {what}", self.now.as_millis()));
    }

    pub(crate) fn start(&mut self, id: ServerId) {
        let (facts, term, log) = self.disk[&id].clone();
        if self.up.contains_key(&id) {
            return;
        }
        self.tell(&format!("{} starts", name_of(id)));
        let hold = if facts.voters.len() == 1 {
            Duration::ZERO
        } else {
            facts.timing.grace
        };
        let node = Node {
            campaign: Campaign::new(id, facts.clone(), self.now),
            facts,
            leads: false,
            term,
            promised_until: self.now + hold,
            log,
            confirmed: Duration::ZERO,
        };
        self.up.insert(id, node);
    }

    pub(crate) fn stop(&mut self, id: ServerId) {
        if let Some(node) = self.up.remove(&id) {
            self.tell(&format!("{} stops", name_of(id)));
            self.disk.insert(id, (node.facts, node.term, node.log));
        }
    }

    pub(crate) fn cut(&mut self, one: ServerId, other: ServerId) {
        self.cuts.insert((one.min(other), one.max(other)));
    }

    pub(crate) fn mend(&mut self) {
        self.cuts.clear();
    }

    pub(crate) fn grow_log(&mut self, id: ServerId, by: u64) {
        self.up.get_mut(&id).unwrap().log += by;
    }

    pub(crate) fn order(&mut self, id: ServerId, limit: Duration) {
        self.tell(&format!("{} is told to become primary", name_of(id)));
        let until = self.now + limit;
        self.happen(id, Event::Ordered { until });
    }

    /// A clock jumps: it is so far ahead from now on.
    pub(crate) fn set_clock(&mut self, id: ServerId, ahead_ms: i64) {
        let seconds = ahead_ms / 1000;
        self.tell(&format!("{}'s clock is {seconds} s ahead", name_of(id)));
        self.clocks.insert(id, ahead_ms);
    }

    /// How far another's clock is ahead of that of `me`. What a server that is gone reported is still known.
    fn offset(&self, me: ServerId, other: ServerId) -> Option<i64> {
        let clock = |id| self.clocks.get(&id).copied().unwrap_or(0);
        Some(clock(other) - clock(me))
    }

    fn reaches(&self, one: ServerId, other: ServerId) -> bool {
        one == other
            || (self.up.contains_key(&other)
                && !self.cuts.contains(&(one.min(other), one.max(other))))
    }

    /// A server with an empty log becomes a voter.
    pub(crate) fn admit(&mut self, id: ServerId) {
        let voter = Voter {
            name: name_of(id).to_owned(),
            may_lead: true,
        };
        let leader = self.leader().unwrap();
        for running in self.up.keys().copied().collect::<Vec<_>>() {
            let node = self.up.get_mut(&running).unwrap();
            node.facts.voters.insert(id, voter.clone());
            let facts = Box::new(node.facts.clone());
            self.happen(running, Event::Facts(facts));
        }
        self.disk.insert(id, (self.up[&leader].facts.clone(), 0, 0));
    }

    /// Every server that is up learns other facts.
    pub(crate) fn learn(&mut self, change: impl Fn(&mut Facts)) {
        for id in self.up.keys().copied().collect::<Vec<_>>() {
            let node = self.up.get_mut(&id).unwrap();
            change(&mut node.facts);
            let facts = Box::new(node.facts.clone());
            self.happen(id, Event::Facts(facts));
        }
    }

    /// The leader that a majority follows, if there is one.
    pub(crate) fn leader(&self) -> Option<ServerId> {
        let grace = |node: &Node| node.facts.timing.grace;
        let sole = |node: &Node| node.facts.voters.len() == 1;
        let confirmed =
            |node: &&Node| node.leads && (sole(node) || self.now < node.confirmed + grace(node));
        let mut leading = self.up.iter().filter(|(_, node)| confirmed(node));
        let leader = leading.next().map(|(id, _)| *id);
        assert!(
            leading.next().is_none(),
            "two lead with a lease at {:?}:\n{}",
            self.now,
            self.told()
        );
        leader
    }

    /// The leader, if it acts as primary and is no caretaker.
    pub(crate) fn primary(&self) -> Option<ServerId> {
        self.leader()
            .filter(|id| !self.up[id].campaign.is_caretaker())
    }

    pub(crate) fn stance(&self, id: ServerId) -> Stance {
        self.up[&id].campaign.stance()
    }

    pub(crate) fn campaign(&self, id: ServerId) -> &Campaign {
        &self.up[&id].campaign
    }

    pub(crate) fn told(&self) -> String {
        self.story.join("\n")
    }

    /// Lets time pass, a millisecond at a time.
    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now += ms(1);
            self.heartbeats();
            self.timeouts();
            self.acted.extend(self.leader());
        }
    }

    /// Lets time pass until a condition holds; the story when it does not within a minute.
    pub(crate) fn run_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let limit = self.now + ms(60_000);
        while !holds(self) {
            assert!(
                self.now < limit,
                "not within a minute: {what}\n{}",
                self.told()
            );
            self.run(ms(1));
        }
    }

    fn timeouts(&mut self) {
        for id in self.up.keys().copied().collect::<Vec<_>>() {
            let due = |node: &Node| node.campaign.wants_peers(self.now);
            if self
                .up
                .get(&id)
                .is_some_and(|node| due(node) && !node.leads)
            {
                let voters = self.up[&id].facts.voters.keys();
                let peers = voters.map(|other| {
                    let reachable = self.reaches(id, *other);
                    let peer = Peer {
                        reachable,
                        clock_offset_ms: self.offset(id, *other),
                        ..Peer::default()
                    };
                    (*other, peer)
                });
                let peers = Event::Peers(peers.collect());
                self.happen(id, peers);
            }
            let Some(node) = self.up.get_mut(&id) else {
                continue;
            };
            if node
                .campaign
                .poll_timeout()
                .is_some_and(|due| due <= self.now)
            {
                let action = node.campaign.handle_timeout(self.now);
                assert!(
                    action.is_some(),
                    "{} woke up for nothing at {:?}",
                    name_of(id),
                    self.now
                );
                self.act(id, action);
            }
        }
    }

    fn happen(&mut self, id: ServerId, event: Event) {
        if let Some(node) = self.up.get_mut(&id) {
            let action = node.campaign.handle(event, self.now);
            self.act(id, action);
        }
    }

    fn act(&mut self, id: ServerId, action: Option<Action>) {
        match action {
            None => {}
            Some(Action::Campaign { attempt, reasons }) => {
                // Later attempts of a long silence would fill pages.
                if attempt <= 2 {
                    self.tell(&format!("{} campaigns: {}", name_of(id), details(&reasons)));
                }
                self.elect(id, false);
            }
            Some(Action::TransferTo { server, reasons }) => {
                self.tell(&format!(
                    "{} hands over to {}: {}",
                    name_of(id),
                    name_of(server),
                    details(&reasons)
                ));
                if self.reaches(id, server) {
                    self.elect(server, true);
                }
            }
        }
    }

    /// Pre-vote and vote in one; a transfer ignores leases and holds.
    fn elect(&mut self, id: ServerId, transfer: bool) {
        let candidate = &self.up[&id];
        assert!(
            candidate.facts.voters.contains_key(&id),
            "{} is no voter",
            name_of(id)
        );
        let voters: Vec<_> = candidate.facts.voters.keys().copied().collect();
        let log = candidate.log;
        let grants = |voter: &&ServerId| {
            let node = self.up.get(*voter);
            self.reaches(id, **voter)
                && node.is_some_and(|node| {
                    let bound = self.now < node.promised_until || (node.leads && **voter != id);
                    node.log <= log && (transfer || !bound)
                })
        };
        let granted: Vec<_> = voters.iter().filter(grants).copied().collect();
        if granted.len() <= voters.len() / 2 {
            self.happen(id, Event::Refused);
            return;
        }
        let term = granted
            .iter()
            .map(|voter| self.up[voter].term)
            .max()
            .unwrap_or(0)
            + 1;
        for voter in &granted {
            let node = self.up.get_mut(voter).unwrap();
            node.term = term;
            if node.leads && *voter != id {
                node.leads = false;
                self.happen(*voter, Event::Following);
            }
        }
        let node = self.up.get_mut(&id).unwrap();
        node.leads = true;
        self.tell(&format!("{} leads in term {term}", name_of(id)));
        self.happen(id, Event::Leading);
        if !self.up[&id].campaign.is_caretaker() {
            let node = self.up.get_mut(&id).unwrap();
            node.facts.primary = Some(id);
            node.log += 1;
            let facts = Box::new(node.facts.clone());
            self.happen(id, Event::Facts(facts));
        }
        self.heartbeat(id);
    }

    fn heartbeats(&mut self) {
        if !self.now.as_millis().is_multiple_of(u128::from(HEARTBEAT)) {
            return;
        }
        for id in self.up.keys().copied().collect::<Vec<_>>() {
            if self.up.get(&id).is_some_and(|node| node.leads) {
                self.heartbeat(id);
            }
        }
    }

    fn heartbeat(&mut self, leader: ServerId) {
        let node = &self.up[&leader];
        let (term, log, facts) = (node.term, node.log, node.facts.clone());
        let mut peers = BTreeMap::new();
        let mut acknowledged = 0;
        for voter in facts.voters.keys().copied() {
            if !self.reaches(leader, voter) {
                peers.insert(voter, Peer::default());
                continue;
            }
            if self.up[&voter].term > term {
                let newer = self.up[&voter].term;
                let node = self.up.get_mut(&leader).unwrap();
                node.leads = false;
                node.term = newer;
                self.tell(&format!(
                    "{} follows: there is a newer term",
                    name_of(leader)
                ));
                self.happen(leader, Event::Following);
                return;
            }
            acknowledged += 1;
            let clock_offset_ms = self.offset(leader, voter);
            peers.insert(
                voter,
                Peer {
                    reachable: true,
                    silent_for: Some(ms(1)),
                    lag: Some(0),
                    clock_offset_ms,
                    elsewhere: false,
                },
            );
            if voter == leader {
                continue;
            }
            let follower = self.up.get_mut(&voter).unwrap();
            follower.term = term;
            follower.log = log;
            follower.promised_until = self.now + facts.timing.grace;
            follower.facts = facts.clone();
            if follower.leads {
                follower.leads = false;
                self.happen(voter, Event::Following);
            }
            self.happen(voter, Event::Facts(Box::new(facts.clone())));
            self.happen(
                voter,
                Event::Heard {
                    leader,
                    at: self.now,
                },
            );
        }
        if acknowledged * 2 > facts.voters.len()
            && let Some(node) = self.up.get_mut(&leader)
        {
            node.confirmed = self.now;
        }
        self.happen(leader, Event::Peers(peers));
    }
}
