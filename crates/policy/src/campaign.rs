//! When this server steps forward as primary, and when it passes the role on.
//!
//! Always true: a server that is no voter never campaigns; nobody campaigns before the lease on the leader that it heard
//! last, and one lease since its own start, have run out (a sole voter has no lease); with failover off or paused, or an
//! empty list of backups, only the recorded primary does, or whom an administrator told to, or a server that passes the role
//! on to the recorded primary, which is there and cannot win.
//! The order in which servers step forward is [`Facts::order`]; start at [`Campaign::handle`].

use crate::clocks::astray;
use crate::explanation::reason;
use crate::view::Peer;
use model::{Reason, ServerId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

mod order;
mod reasons;

pub use order::{Facts, RETRY, Timing, Voter};

/// Without it the own lease refuses: consensus counts from when it handled the message, a little later than it came.
pub const SLACK: Duration = Duration::from_millis(2);
/// How long after an attempt to hand over the next one starts.
pub const HANDOVER_RETRY: Duration = Duration::from_secs(1);
/// How long a recorded primary that alone may lead, and is there, may take to win before another server steps forward to pass
/// the role on to it: with its power it may have lost entries that the others have, and gets no votes until it has them again.
pub const STAND_IN: Duration = Duration::from_secs(3);
/// Two that campaign in step drift apart by this much a round, times their place by id.
const STAGGER: Duration = Duration::from_millis(1);

/// What can happen to a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message of a leader other than this server was handled.
    Heard {
        /// Who leads.
        leader: ServerId,
        /// When it came; earlier than what is known already changes nothing.
        at: Duration,
    },
    /// This server leads from now on.
    Leading,
    /// This server does not lead, or no longer.
    Following,
    /// A campaign came to its end without a majority.
    Refused,
    /// What the order hangs on changed.
    Facts(Box<Facts>),
    /// What is known of the others changed: a caretaker waits for one that has caught up, and a clock may be wrong.
    Peers(BTreeMap<ServerId, Peer>),
    /// An administrator told this server to become primary, without a primary that could hand over. It is its turn at once,
    /// whatever its rank, until a leader is heard.
    Ordered {
        /// When the order expires.
        until: Duration,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask for votes, pre-vote first.
    Campaign {
        /// Which attempt since a leader was heard, from 1.
        attempt: u32,
        /// Why now and why this server.
        reasons: Vec<Reason>,
    },
    /// Hand the role over, after checking that the target answers.
    TransferTo {
        /// To whom.
        server: ServerId,
        /// Why to this one.
        reasons: Vec<Reason>,
    },
}

/// When each step of a change of primary was taken, as this server saw it, on the steady clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeline {
    /// Who led before, if anybody was heard since the start.
    pub last_leader: Option<ServerId>,
    /// When it was last heard.
    pub last_heard: Option<Duration>,
    /// When its lease had run out.
    pub suspected: Option<Duration>,
    /// The first campaign.
    pub campaigned: Option<Duration>,
    /// When this server began to lead.
    pub elected: Option<Duration>,
    /// Whether the only vote was passed on to this server by a leader that is there: it elects itself, and that was planned.
    pub passed_on: bool,
}

impl Timeline {
    /// Whether this server leads because the role was handed to it.
    pub fn was_handed_over(&self) -> bool {
        self.elected.is_some() && (self.campaigned.is_none() || self.passed_on)
    }
}

/// What this server is for the role of primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stance {
    /// It is no voter.
    NoVoter,
    /// It waits for the recorded primary, or an administrator.
    Waits,
    /// It steps forward when its turn comes; 0 is first.
    Candidate {
        /// How many rank delays it waits.
        rank: u32,
        /// Whether it would only pass the role on.
        caretaker: bool,
    },
    /// It leads.
    Leads {
        /// Whether it only passes the role on.
        caretaker: bool,
    },
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Campaign {
    me: ServerId,
    started: Duration,
    facts: Facts,
    leading: bool,
    peers: BTreeMap<ServerId, Peer>,
    /// Since when the recorded primary, which alone may lead, has been reachable.
    there_since: Option<Duration>,
    /// Whose clock is wrong.
    astray: BTreeSet<ServerId>,
    ordered_until: Option<Duration>,
    /// When failover was off or paused for the last time.
    released: Duration,
    last_attempt: Option<Duration>,
    attempts: u32,
    last_handover: Option<Duration>,
    /// It stepped forward for the recorded primary, which alone may lead.
    stands_in: bool,
    timeline: Timeline,
    /// Why it campaigned last, since a leader was heard.
    why: Vec<Reason>,
}

impl Campaign {
    /// A server that started at `started` and has heard nobody yet.
    pub fn new(me: ServerId, facts: Facts, started: Duration) -> Self {
        Self {
            me,
            started,
            facts,
            leading: false,
            peers: BTreeMap::new(),
            there_since: None,
            astray: BTreeSet::new(),
            ordered_until: None,
            released: Duration::ZERO,
            last_attempt: None,
            attempts: 0,
            last_handover: None,
            stands_in: false,
            timeline: Timeline::default(),
            why: Vec::new(),
        }
    }

    /// Takes in what happened. It may make a caretaker hand over at once; whether to campaign only [`Self::handle_timeout`]
    /// says, so that news that came together are taken in together.
    pub fn handle(&mut self, event: Event, now: Duration) -> Option<Action> {
        match event {
            Event::Heard { leader, at } => self.heard(leader, at.min(now)),
            Event::Leading => self.leads(now),
            Event::Following => self.follows(now),
            Event::Refused => self.last_attempt = self.last_attempt.map(|_| now),
            Event::Facts(facts) => self.learns(*facts, now),
            Event::Peers(peers) => {
                self.astray = astray(self.me, &peers);
                self.peers = peers;
                let there = self.waits_for().is_some_and(|it| self.peer(it).reachable);
                self.there_since = self.there_since.or(Some(now)).filter(|_| there);
            }
            Event::Ordered { until } => {
                self.ordered_until = Some(until);
                self.stands_in = false;
            }
        }
        if self.leading {
            self.hand_over(now)
        } else {
            None
        }
    }

    fn learns(&mut self, facts: Facts, now: Duration) {
        if !self.facts.fails_over() && facts.fails_over() {
            self.released = now;
        }
        self.facts = facts;
    }

    fn heard(&mut self, leader: ServerId, at: Duration) {
        if leader == self.me || self.timeline.last_heard.is_some_and(|known| known > at) {
            return;
        }
        self.forget_attempts();
        self.ordered_until = None;
        self.timeline = Timeline {
            last_leader: Some(leader),
            last_heard: Some(at),
            ..Timeline::default()
        };
    }

    fn forget_attempts(&mut self) {
        self.why.clear();
        self.stands_in = false;
        self.last_attempt = None;
        self.attempts = 0;
    }

    fn leads(&mut self, now: Duration) {
        if !self.leading {
            self.leading = true;
            self.ordered_until = None;
            self.last_handover = None;
            self.timeline.elected = Some(now);
            self.last_attempt = None;
            self.attempts = 0;
            if self.timeline.was_handed_over() {
                self.why = vec![self.handed_over()];
            }
        }
    }

    fn follows(&mut self, now: Duration) {
        if self.leading {
            self.leading = false;
            self.heard_myself(now);
        }
    }

    /// It led until now: whoever follows it has its lease from now on, and it goes last itself.
    fn heard_myself(&mut self, now: Duration) {
        self.forget_attempts();
        self.timeline = Timeline {
            last_leader: Some(self.me),
            last_heard: Some(now),
            ..Timeline::default()
        };
    }

    /// Does what has come due.
    pub fn handle_timeout(&mut self, now: Duration) -> Option<Action> {
        if self.ordered_until.is_some_and(|until| until <= now) {
            self.ordered_until = None;
        }
        if self.leading {
            return self.hand_over(now);
        }
        if self.due()? > now {
            return None;
        }
        self.last_attempt = Some(now);
        self.attempts = self.attempts.saturating_add(1);
        self.stands_in = self.stance() == Stance::Waits;
        let suspected = self.quiet_at().min(now);
        self.timeline.passed_on |= self.was_passed_on(now);
        self.timeline.suspected.get_or_insert(suspected);
        self.timeline.campaigned.get_or_insert(now);
        self.why = self.campaign_reasons(now);
        Some(Action::Campaign {
            attempt: self.attempts,
            reasons: self.why.clone(),
        })
    }

    /// Whether the leader that passed the only vote on to this server was heard within the grace period.
    fn was_passed_on(&self, now: Duration) -> bool {
        let timeline = &self.timeline;
        let heard = timeline
            .last_heard
            .filter(|_| timeline.last_leader.is_some_and(|leader| leader != self.me));
        let there = heard.is_some_and(|heard| now < heard.saturating_add(self.facts.timing.grace));
        there && self.facts.is_sole_voter(self.me)
    }

    /// When something comes due; none while only an event can change anything.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.leading {
            self.heir()?;
            return Some(
                self.last_handover
                    .map_or(Duration::ZERO, |last| last.saturating_add(HANDOVER_RETRY)),
            );
        }
        self.due()
    }

    /// When this server campaigns next, if it does.
    fn due(&self) -> Option<Duration> {
        let (quiet, rank) = match self.stance() {
            // All learn at once that they may step forward again: they do so in their order.
            Stance::Candidate { rank, .. } => (self.quiet_at().max(self.released), rank),
            Stance::Waits => {
                let there = self.there_since?.max(self.quiet_at());
                (there.saturating_add(STAND_IN), self.rank())
            }
            Stance::NoVoter | Stance::Leads { .. } => return None,
        };
        let timing = self.facts.timing;
        let first = quiet.saturating_add(timing.rank_delay.saturating_mul(rank));
        let again = self.last_attempt.map(|last| {
            last.saturating_add(timing.retry)
                .saturating_add(self.stagger())
        });
        Some(again.map_or(first, |again| again.max(first)))
    }

    /// When neither the last leader's lease nor the hold after this server's start stands against a campaign.
    fn quiet_at(&self) -> Duration {
        if self.facts.is_sole_voter(self.me) {
            return self.started;
        }
        let since = self
            .timeline
            .last_heard
            .map_or(self.started, |heard| heard.max(self.started));
        since
            .saturating_add(self.facts.timing.grace)
            .saturating_add(SLACK)
    }

    fn stagger(&self) -> Duration {
        let place = self
            .facts
            .voters
            .keys()
            .take_while(|id| **id < self.me)
            .take(16)
            .count();
        STAGGER.saturating_mul(u32::try_from(place).unwrap_or(0))
    }

    /// What this server is for the role now.
    pub fn stance(&self) -> Stance {
        let caretaker = !self.facts.may_stay(self.me) || self.is_standing_in();
        if self.leading {
            return Stance::Leads { caretaker };
        }
        if !self.facts.voters.contains_key(&self.me) {
            return Stance::NoVoter;
        }
        if self.facts.is_sole_voter(self.me) || self.ordered_until.is_some() {
            return Stance::Candidate { rank: 0, caretaker };
        }
        match self.waits_for() {
            Some(primary) if primary == self.me => Stance::Candidate { rank: 0, caretaker },
            Some(_) => Stance::Waits,
            None => Stance::Candidate {
                rank: self.rank(),
                caretaker,
            },
        }
    }

    /// Whether it leads, or campaigns, for the recorded primary only. Whoever has the only vote has nobody to pass it on to.
    fn is_standing_in(&self) -> bool {
        let waits = self.waits_for().is_some_and(|primary| primary != self.me);
        self.stands_in && waits && !self.facts.is_sole_voter(self.me)
    }

    fn peer(&self, server: ServerId) -> Peer {
        self.peers.get(&server).copied().unwrap_or_default()
    }

    /// How many step forward before this server.
    fn rank(&self) -> u32 {
        let order = self.order();
        let rank = order.iter().take_while(|id| **id != self.me).count();
        u32::try_from(rank).unwrap_or(u32::MAX)
    }

    /// In which order servers step forward, as far as this one knows: those whose clocks are wrong go last. Where no other is
    /// there, a wrong clock is better than no primary: stamps never go back, and expiries wait for a majority that agrees.
    fn order(&self) -> Vec<ServerId> {
        let mut order = self.facts.order(self.timeline.last_leader);
        // A stable sort keeps the order of the others, and of those.
        order.sort_by_key(|id| self.astray.contains(id));
        order
    }

    /// Whether what is known of the others matters at `now`: it leads, or its turn has come.
    pub fn wants_peers(&self, now: Duration) -> bool {
        let waits = self.stance() == Stance::Waits && self.quiet_at() <= now;
        self.leading || waits || self.due().is_some_and(|due| due <= now)
    }

    /// The recorded primary, where only it may lead. A list of backups that is empty says so, and failover that is off or paused.
    ///
    /// Where the list is empty and the recorded primary does not count any more (it lost its log), the others may lead, so
    /// that it can be made to count again; as caretakers, since they are not on the list.
    fn waits_for(&self) -> Option<ServerId> {
        let primary = self.facts.primary?;
        let counts = self.facts.voters.contains_key(&primary);
        let only = !self.facts.fails_over() || (self.facts.backups.is_empty() && counts);
        only.then_some(primary)
    }

    /// Whether this server leads only to pass the role on: it takes no address, starts no service and accepts no changes.
    pub fn is_caretaker(&self) -> bool {
        self.stance() == Stance::Leads { caretaker: true }
    }

    /// Whether the group changes its primary by itself.
    pub fn is_automatic(&self) -> bool {
        self.facts.fails_over()
    }

    /// When each step towards the present leader, or the next, was taken.
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// Why this server leads, or last campaigned since a leader was heard.
    pub fn why(&self) -> &[Reason] {
        &self.why
    }

    fn hand_over(&mut self, now: Duration) -> Option<Action> {
        let server = self.heir()?;
        if self
            .last_handover
            .is_some_and(|last| last.saturating_add(HANDOVER_RETRY) > now)
        {
            return None;
        }
        self.last_handover = Some(now);
        let why = self.why_caretaker(self.me);
        let name = self.facts.name(server);
        let counts = self.facts.voters.contains_key(&self.me);
        let listed = self.facts.backups.contains(&server) && !self.is_standing_in();
        let heir = match listed {
            _ if !counts => format!("{name} has the only vote, is reachable and has every change"),
            true => format!(
                "{name} is the first of the backup list that is reachable and has every change"
            ),
            false => format!("{name} was primary before, is reachable and has every change"),
        };
        Some(Action::TransferTo {
            server,
            reasons: vec![
                reason("caretaker", true, why),
                reason("caught-up", true, heir),
            ],
        })
    }

    /// To whom a caretaker hands over: the best backup that is there and has every change; where it alone may lead, the recorded
    /// primary. One that no longer counts has passed the only vote on, and the role did not follow: it goes where the vote is.
    fn heir(&self) -> Option<ServerId> {
        if !self.is_caretaker() {
            return None;
        }
        let counts = self.facts.voters.contains_key(&self.me);
        let listed = match (self.facts.backups.is_empty(), self.facts.primary) {
            _ if !counts => self.facts.voters.keys().copied().collect(),
            (empty, Some(primary)) if empty || self.is_standing_in() => vec![primary],
            _ => self.facts.backups.clone(),
        };
        listed.into_iter().find(|id| {
            let fit = self
                .facts
                .voters
                .get(id)
                .is_some_and(|voter| voter.may_lead);
            let peer = self.peer(*id);
            fit && *id != self.me
                && !self.astray.contains(id)
                && peer.reachable
                && peer.lag == Some(0)
        })
    }
}
