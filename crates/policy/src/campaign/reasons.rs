//! Why a server steps forward, waits, or passes the role on, in words with figures.

use super::{Campaign, Stance};
use crate::clocks::CLOCK_LIMIT_MS;
use crate::explanation::{Candidate, Explanation, reason};
use crate::words;
use model::{Reason, ServerId, UnixMillis};
use std::time::Duration;

impl Campaign {
    pub(super) fn why_caretaker(&self, server: ServerId) -> String {
        let name = self.facts.name(server);
        let stands_in = server == self.me && self.is_standing_in();
        match self.facts.voters.get(&server) {
            _ if stands_in => {
                let primary = self.waits_for().unwrap_or(server);
                format!(
                    "{}; {name} only passes the role on",
                    self.why_waits(primary)
                )
            }
            Some(voter) if !voter.may_lead => {
                format!("{name} is a witness and only passes the role on")
            }
            _ => format!("{name} is not on the backup list and only passes the role on"),
        }
    }

    pub(super) fn campaign_reasons(&self, now: Duration) -> Vec<Reason> {
        let mut reasons = vec![match self.timeline.passed_on {
            true => self.handed_over(),
            false => self.silence(now),
        }];
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
            Stance::Waits => {
                let since = self.there_since.unwrap_or(now).max(self.quiet_at());
                let waited = words::span(now.saturating_sub(since));
                let primary = self.waits_for().unwrap_or(self.me);
                let primary = self.facts.name(primary);
                let detail = format!("{primary} is reachable and has not won for {waited}");
                reasons.push(reason("stands-in", true, detail));
                reasons.push(reason("caretaker", true, self.why_caretaker(self.me)));
            }
            Stance::NoVoter | Stance::Leads { .. } => {}
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

    pub(super) fn handed_over(&self) -> Reason {
        let detail = match self.timeline().last_leader {
            Some(leader) => format!("{} handed the role over", self.facts.name(leader)),
            None => "the role was handed over to it".to_owned(),
        };
        reason("handed-over", true, detail)
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
        let order = self.order();
        let candidates = order.iter().enumerate().map(|(place, id)| {
            let rank = u32::try_from(place).unwrap_or(u32::MAX);
            if *id == self.me && matches!(self.stance(), Stance::Leads { .. }) {
                return Candidate::judged(*id, self.facts.name(*id), self.why().to_vec());
            }
            let mut reasons = match self.waits_for() {
                Some(primary) if primary == *id => vec![self.rank_reason(*id, 0)],
                Some(primary) => vec![reason("failover", false, self.why_waits(primary))],
                None => vec![self.rank_reason(*id, rank)],
            };
            let stands_in = *id == self.me && self.is_standing_in();
            if !self.facts.may_stay(*id) || stands_in {
                reasons.push(reason("on-backup-list", false, self.why_caretaker(*id)));
            } else if self.astray.contains(id) {
                reasons.push(self.clock_differs(*id));
            }
            Candidate::judged(*id, self.facts.name(*id), reasons)
        });
        Explanation {
            decision: self.decision(now),
            at,
            candidates: candidates.collect(),
        }
    }

    fn clock_differs(&self, server: ServerId) -> Reason {
        let name = self.facts.name(server);
        let limit = words::span(Duration::from_millis(CLOCK_LIMIT_MS));
        let detail = format!("{name}'s clock differs by more than {limit} from most");
        reason("clock", false, detail)
    }

    fn why_waits(&self, primary: ServerId) -> String {
        let name = self.facts.name(primary);
        match &self.facts.paused {
            _ if !self.facts.failover => format!(
                "resilience.failover is off: only {name} may lead until an administrator promotes another"
            ),
            Some(pause) => format!(
                "{pause}; only {name} may lead until then, or until an administrator promotes another"
            ),
            None => format!("the backup list is empty: only {name} may lead"),
        }
    }

    fn decision(&self, now: Duration) -> String {
        let me = self.facts.name(self.me);
        let silence = self.silence(now).detail;
        match self.stance() {
            Stance::Leads { caretaker: false } => match self.why().first() {
                Some(why) => format!("{me} leads: {}", why.detail),
                None => format!("{me} leads"),
            },
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
