//! When this server steps forward as primary, and when it passes the role on.
//!
//! Always true: a server that is no voter never campaigns; nobody campaigns before the lease on the leader that it heard
//! last, and one lease since its own start, have run out (a sole voter has no lease); with `resilience.failover` off, or an
//! empty list of backups, only the recorded primary does, or whom an administrator told to.
//! The order in which servers step forward is [`Facts::order`]; start at [`Campaign::handle`].

use crate::explanation::{Candidate, Explanation, reason};
use crate::view::Peer;
use crate::words;
use model::settings::Settings;
use model::{Directory, Reason, ServerId, UnixMillis};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Without it the own lease refuses: consensus counts from when it handled the message, a little later than it came.
pub const SLACK: Duration = Duration::from_millis(2);
/// How long after a campaign that won nothing the next one starts.
pub const RETRY: Duration = Duration::from_millis(30);
/// How long after an attempt to hand over the next one starts.
pub const HANDOVER_RETRY: Duration = Duration::from_secs(1);
/// Two that campaign in step drift apart by this much a round, times their place by id.
const STAGGER: Duration = Duration::from_millis(1);

/// The spans that campaigning keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The grace period, which is the lease of the consensus core that runs now.
    pub grace: Duration,
    /// How much later each next candidate steps forward.
    pub rank_delay: Duration,
    /// How long after a campaign that won nothing the next one starts: [`RETRY`], or longer than the slowest answer takes.
    pub retry: Duration,
}

impl Timing {
    /// The spans that the settings ask for.
    pub fn of(settings: &Settings) -> Self {
        Self {
            grace: settings.grace_period(),
            rank_delay: settings.rank_delay(),
            retry: RETRY,
        }
    }
}

/// A voter, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// Its name.
    pub name: String,
    /// Whether its standing lets it be primary: a witness never is.
    pub may_lead: bool,
}

/// What the order of candidates hangs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Who counts, as consensus has it.
    pub voters: BTreeMap<ServerId, Voter>,
    /// The backup primaries, highest first.
    pub backups: Vec<ServerId>,
    /// The server that last said that it acts as primary.
    pub primary: Option<ServerId>,
    /// `resilience.failover`.
    pub failover: bool,
    /// The spans to keep to.
    pub timing: Timing,
}

impl Facts {
    /// What a directory says, and who counts as consensus has it.
    pub fn of(directory: &Directory, voters: &BTreeSet<ServerId>) -> Self {
        let voter = |id: &ServerId| {
            let may_lead = directory
                .server(*id)
                .is_some_and(|server| server.standing.may_lead());
            (
                *id,
                Voter {
                    name: directory.name_of(*id),
                    may_lead,
                },
            )
        };
        Self {
            voters: voters.iter().map(voter).collect(),
            backups: directory.group().backups.clone(),
            primary: directory.group().primary,
            failover: directory.settings().failover(),
            timing: Timing::of(directory.settings()),
        }
    }

    /// The voters in the order in which they step forward after `lost` was heard no more, or after a start in which no
    /// leader was heard; and how many of them step forward to stay, the rest only to pass the role on.
    ///
    /// A leader that was lost goes last of its kind; in a cold start the recorded primary goes first.
    pub fn order(&self, lost: Option<ServerId>) -> (Vec<ServerId>, usize) {
        let fit = |id: &ServerId| self.voters.get(id).is_some_and(|voter| voter.may_lead);
        let mut listed: Vec<_> = self.backups.iter().copied().filter(fit).collect();
        match lost {
            Some(lost) => last(&mut listed, lost),
            None => {
                if let Some(primary) = self.primary.filter(fit) {
                    listed.retain(|id| *id != primary);
                    listed.insert(0, primary);
                }
            }
        }
        let stay = listed.len();
        let mut others: Vec<_> = self
            .voters
            .keys()
            .copied()
            .filter(|id| !listed.contains(id))
            .collect();
        if let Some(lost) = lost {
            last(&mut others, lost);
        }
        listed.extend(others);
        (listed, stay)
    }

    /// Whether a server that leads may stay primary, instead of only passing the role on.
    pub fn may_stay(&self, server: ServerId) -> bool {
        let fit = self.voters.get(&server).is_some_and(|voter| voter.may_lead);
        fit && (self.primary == Some(server) || self.backups.contains(&server))
    }

    fn name(&self, server: ServerId) -> String {
        self.voters
            .get(&server)
            .map_or_else(|| server.to_string(), |voter| voter.name.clone())
    }

    fn is_sole_voter(&self, server: ServerId) -> bool {
        self.voters.len() == 1 && self.voters.contains_key(&server)
    }
}

fn last(ids: &mut Vec<ServerId>, lost: ServerId) {
    if let Some(place) = ids.iter().position(|id| *id == lost) {
        let lost = ids.remove(place);
        ids.push(lost);
    }
}

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
    /// What is known of the others changed; a caretaker waits for one that has caught up.
    Peers(BTreeMap<ServerId, Peer>),
    /// An administrator told this server to become primary, without a primary that could hand over.
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
}

impl Timeline {
    /// Whether this server leads because the role was handed to it.
    pub fn was_handed_over(&self) -> bool {
        self.elected.is_some() && self.campaigned.is_none()
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
    ordered_until: Option<Duration>,
    last_attempt: Option<Duration>,
    attempts: u32,
    last_handover: Option<Duration>,
    timeline: Timeline,
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
            ordered_until: None,
            last_attempt: None,
            attempts: 0,
            last_handover: None,
            timeline: Timeline::default(),
        }
    }

    /// Takes in what happened; what is to be done now, if anything is.
    pub fn handle(&mut self, event: Event, now: Duration) -> Option<Action> {
        match event {
            Event::Heard { leader, at } => self.heard(leader, at.min(now)),
            Event::Leading => self.leads(now),
            Event::Following => self.follows(now),
            Event::Refused => self.last_attempt = self.last_attempt.map(|_| now),
            Event::Facts(facts) => self.facts = *facts,
            Event::Peers(peers) => self.peers = peers,
            Event::Ordered { until } => self.ordered_until = Some(until),
        }
        self.handle_timeout(now)
    }

    fn heard(&mut self, leader: ServerId, at: Duration) {
        if leader == self.me || self.timeline.last_heard.is_some_and(|known| known > at) {
            return;
        }
        self.forget_attempts();
        self.timeline = Timeline {
            last_leader: Some(leader),
            last_heard: Some(at),
            ..Timeline::default()
        };
    }

    fn forget_attempts(&mut self) {
        self.last_attempt = None;
        self.attempts = 0;
    }

    fn leads(&mut self, now: Duration) {
        if !self.leading {
            self.leading = true;
            self.ordered_until = None;
            self.last_handover = None;
            self.timeline.elected = Some(now);
            self.forget_attempts();
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
        self.timeline.suspected.get_or_insert(now);
        self.timeline.campaigned.get_or_insert(now);
        Some(Action::Campaign {
            attempt: self.attempts,
            reasons: self.campaign_reasons(now),
        })
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
        let Stance::Candidate { rank, .. } = self.stance() else {
            return None;
        };
        let timing = self.facts.timing;
        let first = self
            .quiet_at()
            .saturating_add(timing.rank_delay.saturating_mul(rank));
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
        let caretaker = !self.facts.may_stay(self.me);
        if self.leading {
            return Stance::Leads { caretaker };
        }
        if !self.facts.voters.contains_key(&self.me) {
            return Stance::NoVoter;
        }
        if self.facts.is_sole_voter(self.me) || self.ordered_until.is_some() {
            return Stance::Candidate { rank: 0, caretaker };
        }
        if let Some(primary) = self.waits_for() {
            if primary == self.me {
                return Stance::Candidate { rank: 0, caretaker };
            }
            return Stance::Waits;
        }
        let (order, _) = self.facts.order(self.timeline.last_leader);
        let rank = order.iter().take_while(|id| **id != self.me).count();
        Stance::Candidate {
            rank: u32::try_from(rank).unwrap_or(u32::MAX),
            caretaker,
        }
    }

    /// The recorded primary, where only it may lead. A list of backups that is empty says so, and failover that is off.
    ///
    /// Where the list is empty and the recorded primary does not count any more (it lost its log), the others may lead, so
    /// that it can be made to count again; as caretakers, since they are not on the list.
    fn waits_for(&self) -> Option<ServerId> {
        let primary = self.facts.primary?;
        let counts = self.facts.voters.contains_key(&primary);
        let only = !self.facts.failover || (self.facts.backups.is_empty() && counts);
        only.then_some(primary)
    }

    /// Whether this server leads only to pass the role on: it takes no address, starts no service and accepts no changes.
    pub fn is_caretaker(&self) -> bool {
        self.stance() == Stance::Leads { caretaker: true }
    }

    /// When each step towards the present leader, or the next, was taken.
    pub fn timeline(&self) -> Timeline {
        self.timeline
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
        let heir = format!(
            "{} is the first of the backup list that is reachable and has every change",
            self.facts.name(server)
        );
        Some(Action::TransferTo {
            server,
            reasons: vec![
                reason("caretaker", true, why),
                reason("caught-up", true, heir),
            ],
        })
    }

    /// To whom a caretaker hands over: the best backup that is there and has every change; with an empty list, the recorded primary.
    fn heir(&self) -> Option<ServerId> {
        if !self.is_caretaker() {
            return None;
        }
        let listed = match (self.facts.backups.is_empty(), self.facts.primary) {
            (true, Some(primary)) => vec![primary],
            _ => self.facts.backups.clone(),
        };
        listed.into_iter().find(|id| {
            let fit = self
                .facts
                .voters
                .get(id)
                .is_some_and(|voter| voter.may_lead);
            let peer = self.peers.get(id).copied().unwrap_or_default();
            fit && *id != self.me && peer.reachable && peer.lag == Some(0)
        })
    }

    fn why_caretaker(&self, server: ServerId) -> String {
        let name = self.facts.name(server);
        match self.facts.voters.get(&server) {
            Some(voter) if !voter.may_lead => {
                format!("{name} is a witness and only passes the role on")
            }
            _ => format!("{name} is not on the backup list and only passes the role on"),
        }
    }

    fn campaign_reasons(&self, now: Duration) -> Vec<Reason> {
        let mut reasons = vec![self.silence(now)];
        match self.stance() {
            _ if self.facts.is_sole_voter(self.me) => {
                reasons.push(reason(
                    "rank",
                    true,
                    format!("{} is the only voter", self.facts.name(self.me)),
                ));
            }
            _ if self.ordered_until.is_some() => {
                reasons.push(reason(
                    "ordered",
                    true,
                    "an administrator told it to become primary",
                ));
            }
            Stance::Candidate { rank, caretaker } => {
                reasons.push(self.rank_reason(self.me, rank));
                if caretaker {
                    reasons.push(reason("caretaker", true, self.why_caretaker(self.me)));
                }
            }
            Stance::NoVoter | Stance::Waits | Stance::Leads { .. } => {}
        }
        if self.attempts > 1 {
            let before = words::count(u64::from(self.attempts - 1), "campaign");
            reasons.push(reason(
                "attempt",
                true,
                format!("{before} before this won no majority"),
            ));
        }
        reasons
    }

    fn silence(&self, now: Duration) -> Reason {
        let grace = words::span(self.facts.timing.grace);
        let (pass, detail) = match (self.timeline.last_leader, self.timeline.last_heard) {
            (Some(leader), Some(heard)) if leader != self.me => {
                let silent = now.saturating_sub(heard);
                let name = self.facts.name(leader);
                let pass = silent >= self.facts.timing.grace;
                (
                    pass,
                    format!(
                        "{name} was last heard {} ago, the grace period is {grace}",
                        words::span(silent)
                    ),
                )
            }
            (Some(_), Some(heard)) => {
                let since = words::span(now.saturating_sub(heard));
                (
                    true,
                    format!(
                        "it stopped leading {since} ago and has heard nobody since, the grace period is {grace}"
                    ),
                )
            }
            _ => {
                let since = words::span(now.saturating_sub(self.started));
                (
                    true,
                    format!(
                        "no primary was heard since it started {since} ago, the grace period is {grace}"
                    ),
                )
            }
        };
        reason("primary-silent", pass, detail)
    }

    fn rank_reason(&self, server: ServerId, rank: u32) -> Reason {
        let delay = self.facts.timing.rank_delay.saturating_mul(rank);
        let place = match rank {
            0 => "it steps forward first".to_owned(),
            _ => format!(
                "it steps forward {} after the first: place {}",
                words::span(delay),
                u64::from(rank) + 1
            ),
        };
        let list = self.facts.backups.iter().position(|id| *id == server);
        let detail = match list {
            Some(on_list) => format!("{place}; number {} on the backup list", on_list + 1),
            None if self.facts.primary == Some(server) => format!("{place}; it was primary before"),
            None => format!("{place}; it is not on the backup list"),
        };
        reason("rank", true, detail)
    }

    /// Who steps forward when, as this server sees it; for the journal and `stead explain`.
    pub fn explain(&self, now: Duration, at: UnixMillis) -> Explanation {
        let (order, stay) = self.facts.order(self.timeline.last_leader);
        let candidates = order.iter().enumerate().map(|(place, id)| {
            let rank = u32::try_from(place).unwrap_or(u32::MAX);
            let mut reasons = vec![self.rank_reason(*id, rank)];
            if place >= stay {
                reasons.push(reason("on-backup-list", false, self.why_caretaker(*id)));
            }
            if let Some(primary) = self.waits_for().filter(|primary| primary != id) {
                reasons.push(reason("failover", false, self.why_waits(primary)));
            }
            Candidate::judged(*id, self.facts.name(*id), reasons)
        });
        Explanation {
            decision: self.decision(now),
            at,
            candidates: candidates.collect(),
        }
    }

    fn why_waits(&self, primary: ServerId) -> String {
        let name = self.facts.name(primary);
        if self.facts.failover {
            return format!("the backup list is empty: only {name} may lead");
        }
        format!(
            "resilience.failover is off: only {name} may lead until an administrator promotes another"
        )
    }

    fn decision(&self, now: Duration) -> String {
        let me = self.facts.name(self.me);
        let silence = self.silence(now).detail;
        match self.stance() {
            Stance::Leads { caretaker: false } => format!("{me} leads"),
            Stance::Leads { caretaker: true } => format!(
                "{me} leads until a backup can: {}",
                self.why_caretaker(self.me)
            ),
            Stance::NoVoter => format!("{me} does not vote and waits for a primary: {silence}"),
            Stance::Waits => {
                let primary = self.waits_for().unwrap_or(self.me);
                format!("{me} waits: {}", self.why_waits(primary))
            }
            Stance::Candidate { .. } => match self.due() {
                Some(due) if due > now => {
                    format!(
                        "{me} would step forward in {}: {silence}",
                        words::span(due.saturating_sub(now))
                    )
                }
                _ => format!("{me} steps forward: {silence}"),
            },
        }
    }
}
