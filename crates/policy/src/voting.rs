//! Who counts: brings the members of consensus to what the directory says, one step at a time.
//!
//! Always true: every step changes at most one voter, and is proposed only if a quorum of the voters before it and of the
//! voters after it can be reached; a server counts only after it has caught up and been healthy for [`HEALTHY_FOR`].
//!
//! The directory goes first when a server becomes a voter (`RecordVoting`, then `SetVoters`) and last when it leaves. So a
//! server that consensus counts and the directory does not is one that lost its log: it is taken out, and begins anew as a
//! learner. In availability mode the directory alone says who is caught up; consensus counts the primary. So look only at a directory that has every change committed before this server became primary: an older one
//! would show new voters as such. Start at [`Voting::handle`].

use crate::CAUGHT_UP_LAG;
use crate::explanation::reason;
use crate::losses::{is_quorum, needed};
use crate::words;
use model::{Directory, IncarnationId, Reason, ResilienceMode, ServerId, Standing};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a server must have been healthy before it counts.
pub const HEALTHY_FOR: Duration = Duration::from_secs(10);

/// How long a change of the voters that was left in the middle may take to come to its end by itself.
pub const UNFINISHED: Duration = Duration::from_secs(1);

/// A member as the directory has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// What it was asked to be.
    pub standing: Standing,
    /// Whether it is recorded as counting.
    pub voting: bool,
    /// Whether it has reported itself since it joined.
    pub started: bool,
    /// The life of its log, as recorded.
    pub incarnation: IncarnationId,
}

/// What is known of a member now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Whether it was heard within the grace period and nothing is wrong with it (its disk, its storage).
    pub healthy: bool,
    /// How many entries of the log it lacks; none: not known.
    pub lag: Option<u64>,
    /// The life of its log, as it says itself; none: not known.
    pub incarnation: Option<IncarnationId>,
}

/// Who takes part in consensus now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    /// Who counts.
    pub voters: BTreeSet<ServerId>,
    /// Who only replicates.
    pub learners: BTreeSet<ServerId>,
    /// Whether a change of it is under way: committed by both the old and the new voters, not yet finished.
    pub changing: bool,
}

/// Everything that the next step hangs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// This server, which acts as primary.
    pub me: ServerId,
    /// The members.
    pub members: BTreeMap<ServerId, Member>,
    /// Who takes part in consensus.
    pub consensus: Membership,
    /// What is known of each member but this one.
    pub progress: BTreeMap<ServerId, Progress>,
    /// A server that an administrator is removing.
    pub leaving: Option<ServerId>,
    /// How the group stays able to act: in availability mode the primary alone counts in consensus.
    pub mode: ResilienceMode,
    /// Whether this server leads only to pass the role on: to whom it may go has to count until then.
    pub caretaker: bool,
}

impl Facts {
    /// The members of a directory.
    pub fn members_of(directory: &Directory) -> BTreeMap<ServerId, Member> {
        let member = |server: &model::Server| Member {
            name: server.name.to_string(),
            standing: server.standing,
            voting: server.voting,
            started: server.started,
            incarnation: server.incarnation,
        };
        directory
            .servers()
            .map(|server| (server.id, member(server)))
            .collect()
    }

    fn name(&self, server: ServerId) -> String {
        self.members
            .get(&server)
            .map_or_else(|| server.to_string(), |member| member.name.clone())
    }

    fn progress(&self, server: ServerId) -> Progress {
        self.progress.get(&server).copied().unwrap_or_default()
    }

    /// Whether a server answers, so that it can confirm a change of the voters.
    fn answers(&self, server: ServerId) -> bool {
        server == self.me || self.progress(server).healthy
    }

    /// Whether a member's log is another than the recorded one.
    fn is_reborn(&self, server: ServerId, member: &Member) -> bool {
        let seen = self.progress(server).incarnation;
        server != self.me && member.started && seen.is_some_and(|seen| seen != member.incarnation)
    }

    /// Whether consensus should count a server, if it is fit to.
    fn wants(&self, server: ServerId) -> bool {
        let member = self.members.get(&server);
        self.leaving != Some(server) && member.is_some_and(|member| member.standing.votes())
    }
}

/// A step towards what the directory says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Let it replicate, without counting.
    AddLearner(ServerId),
    /// It takes no part any more; it is no voter.
    RemoveMember(ServerId),
    /// From now on these count, who differ from those before by one.
    SetVoters(BTreeSet<ServerId>),
    /// Say in the directory whether it counts.
    RecordVoting {
        /// Which.
        server: ServerId,
        /// Whether it does.
        voting: bool,
    },
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// The step, if one can be taken now.
    pub step: Option<Step>,
    /// Why that step; or, where there is none, for whom something is left to do and why it waits. Empty: nothing is left.
    pub reasons: Vec<(ServerId, Reason)>,
}

/// The state machine: it remembers since when each member has been healthy.
#[derive(Debug, Clone, Default)]
pub struct Voting {
    healthy_since: BTreeMap<ServerId, (IncarnationId, Duration)>,
    /// Since when a change of the voters has been under way that is none of this server's steps.
    unfinished_since: Option<Duration>,
    wake: Option<Duration>,
}

impl Voting {
    /// Nobody was seen healthy yet. A new primary begins anew.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the facts; call it when any of them changed, when a step has come to its end, and at [`Self::poll_timeout`].
    /// While this server does not act as primary, do not call it, and begin with [`Self::new`] afterwards.
    pub fn handle(&mut self, facts: &Facts, now: Duration) -> Next {
        self.note_health(facts, now);
        self.wake = None;
        if facts.consensus.changing {
            return self.unfinished(facts, now);
        }
        self.unfinished_since = None;
        let mut waits = Vec::new();
        for look in [Self::outgoing, Self::incoming, Self::growing, Self::parting] {
            match look(self, facts, now, &mut waits) {
                Some(next) => return next,
                None => continue,
            }
        }
        Next::waiting(waits)
    }

    /// A change of the voters is under way that this server did not begin as a step of its own. A primary before it may have
    /// fallen in the middle: then it is finished here.
    fn unfinished(&mut self, facts: &Facts, now: Duration) -> Next {
        let since = *self.unfinished_since.get_or_insert(now);
        let due = since.saturating_add(UNFINISHED);
        if now < due {
            self.wake = Some(due);
            let detail = "a change of the voters is under way";
            return Next::waiting(vec![(facts.me, reason("one-at-a-time", false, detail))]);
        }
        self.unfinished_since = None;
        let why = "a change of the voters was left unfinished by a primary before";
        let voters = facts.consensus.voters.clone();
        Next::step(
            Step::SetVoters(voters),
            facts.me,
            reason("one-at-a-time", true, why),
        )
    }

    /// When to look again, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.wake
    }

    /// Whether a server that an administrator is removing takes no part any more, so that its record can go.
    pub fn is_gone(facts: &Facts, server: ServerId) -> bool {
        !facts.consensus.changing
            && !facts.consensus.voters.contains(&server)
            && !facts.consensus.learners.contains(&server)
    }

    fn note_health(&mut self, facts: &Facts, now: Duration) {
        let fit = |id: &ServerId| {
            let progress = facts.progress(*id);
            let member = facts.members.get(id)?;
            let caught_up = progress.lag.is_some_and(|lag| lag <= CAUGHT_UP_LAG);
            let healthy =
                progress.healthy && caught_up && member.started && !facts.is_reborn(*id, member);
            healthy.then_some(member.incarnation)
        };
        let before = std::mem::take(&mut self.healthy_since);
        for id in facts.members.keys().filter(|id| **id != facts.me) {
            if let Some(incarnation) = fit(id) {
                let known = before.get(id).filter(|(of, _)| *of == incarnation);
                self.healthy_since
                    .insert(*id, known.copied().unwrap_or((incarnation, now)));
            }
        }
    }

    /// Voters that should not count: removed, leaving, or with another log than the one they promised by.
    fn outgoing(
        &mut self,
        facts: &Facts,
        _now: Duration,
        waits: &mut Vec<(ServerId, Reason)>,
    ) -> Option<Next> {
        for voter in facts
            .consensus
            .voters
            .iter()
            .filter(|voter| **voter != facts.me)
        {
            let member = facts.members.get(voter);
            let reborn = member.is_some_and(|member| facts.is_reborn(*voter, member));
            if reborn && member.is_some_and(|member| member.voting) {
                let why = reborn_words(facts, *voter);
                return Some(Next::step(
                    Step::RecordVoting {
                        server: *voter,
                        voting: false,
                    },
                    *voter,
                    reason("same-log", false, why),
                ));
            }
            let why = match member {
                None => reason(
                    "member",
                    false,
                    format!("{} is no member any more", facts.name(*voter)),
                ),
                Some(_) if !facts.wants(*voter) => reason(
                    "member",
                    false,
                    format!("{} is leaving", facts.name(*voter)),
                ),
                Some(member) if !member.voting => {
                    reason("same-log", false, reborn_words(facts, *voter))
                }
                Some(member) if facts.caretaker && member.standing.may_lead() => continue,
                Some(_) if facts.mode == ResilienceMode::Availability => {
                    let detail = "in availability mode the primary alone counts";
                    reason("mode", true, detail)
                }
                Some(_) => continue,
            };
            let mut voters = facts.consensus.voters.clone();
            voters.remove(voter);
            match check_quorum(facts, &voters) {
                Ok(()) => return Some(Next::step(Step::SetVoters(voters), *voter, why)),
                Err(short) => waits.push((*voter, short)),
            }
        }
        None
    }

    /// Members that do not replicate yet.
    fn incoming(
        &mut self,
        facts: &Facts,
        _now: Duration,
        _: &mut Vec<(ServerId, Reason)>,
    ) -> Option<Next> {
        let taking_part = |id: &ServerId| {
            facts.consensus.voters.contains(id) || facts.consensus.learners.contains(id)
        };
        let mut absent = facts
            .members
            .keys()
            .filter(|id| !taking_part(id) && facts.leaving != Some(**id));
        let server = *absent.next()?;
        let why = reason(
            "member",
            true,
            format!(
                "{} is a member and does not replicate yet",
                facts.name(server)
            ),
        );
        Some(Next::step(Step::AddLearner(server), server, why))
    }

    /// Members that should count and do not yet.
    fn growing(
        &mut self,
        facts: &Facts,
        now: Duration,
        waits: &mut Vec<(ServerId, Reason)>,
    ) -> Option<Next> {
        for (id, member) in &facts.members {
            let counts = facts.consensus.voters.contains(id);
            if !facts.wants(*id) || (counts && member.voting) {
                continue;
            }
            if counts && *id == facts.me {
                let why = reason(
                    "caught-up",
                    true,
                    format!("{} counts and the directory does not say so", member.name),
                );
                return Some(Next::step(record(*id), *id, why));
            }
            let recorded = facts.mode == ResilienceMode::Availability && member.voting;
            if counts || recorded || !facts.consensus.learners.contains(id) {
                continue;
            }
            let why = match self.is_ready(facts, *id, member, now) {
                Ok(why) => why,
                Err(why) => {
                    waits.push((*id, why));
                    continue;
                }
            };
            if facts.mode == ResilienceMode::Availability {
                return Some(Next::step(record(*id), *id, why));
            }
            let mut voters = facts.consensus.voters.clone();
            voters.insert(*id);
            if let Err(short) = check_quorum(facts, &voters) {
                waits.push((*id, short));
                continue;
            }
            let step = match member.voting {
                true => Step::SetVoters(voters),
                false => record(*id),
            };
            return Some(Next::step(step, *id, why));
        }
        None
    }

    fn is_ready(
        &mut self,
        facts: &Facts,
        id: ServerId,
        member: &Member,
        now: Duration,
    ) -> Result<Reason, Reason> {
        if let Some((_, since)) = self.healthy_since.get(&id) {
            let healthy = now.saturating_sub(*since);
            if healthy >= HEALTHY_FOR {
                let detail = format!(
                    "{} has caught up and been healthy for {}",
                    member.name,
                    words::span(healthy)
                );
                return Ok(reason("healthy", true, detail));
            }
            let due = since.saturating_add(HEALTHY_FOR);
            self.wake = Some(self.wake.map_or(due, |wake| wake.min(due)));
            let (so_far, in_all) = (words::span(healthy), words::span(HEALTHY_FOR));
            let detail = format!("{} has been healthy for {so_far} of {in_all}", member.name);
            return Err(reason("healthy", false, detail));
        }
        let progress = facts.progress(id);
        Err(match progress.lag {
            _ if !member.started => reason(
                "started",
                false,
                format!("{} has not started since it joined", member.name),
            ),
            _ if facts.is_reborn(id, member) => reason("same-log", false, reborn_words(facts, id)),
            _ if !progress.healthy => reason(
                "reachable",
                false,
                format!("{} is not heard, or not well", member.name),
            ),
            None => reason(
                "caught-up",
                false,
                format!("it is not known yet how far {} is", member.name),
            ),
            Some(lag) => {
                let behind = words::count(lag, "entry").replace("entrys", "entries");
                let most = words::number(CAUGHT_UP_LAG);
                reason(
                    "caught-up",
                    false,
                    format!(
                        "{} is {behind} behind, at most {most} are allowed",
                        member.name
                    ),
                )
            }
        })
    }

    /// Those that replicate and should take no part any more.
    fn parting(
        &mut self,
        facts: &Facts,
        _now: Duration,
        _: &mut Vec<(ServerId, Reason)>,
    ) -> Option<Next> {
        let gone = |id: &&ServerId| !facts.members.contains_key(id) || facts.leaving == Some(**id);
        let server = *facts.consensus.learners.iter().find(gone)?;
        let why = reason(
            "member",
            false,
            format!("{} is leaving, or no member any more", facts.name(server)),
        );
        Some(Next::step(Step::RemoveMember(server), server, why))
    }
}

impl Next {
    fn step(step: Step, server: ServerId, why: Reason) -> Self {
        Self {
            step: Some(step),
            reasons: vec![(server, why)],
        }
    }

    fn waiting(reasons: Vec<(ServerId, Reason)>) -> Self {
        Self {
            step: None,
            reasons,
        }
    }
}

/// Say that it counts.
fn record(server: ServerId) -> Step {
    Step::RecordVoting {
        server,
        voting: true,
    }
}

fn reborn_words(facts: &Facts, server: ServerId) -> String {
    format!(
        "{} lost its log and must catch up before it counts again",
        facts.name(server)
    )
}

/// Whether a quorum of the voters now and of `after` answers: both have to confirm the change.
fn check_quorum(facts: &Facts, after: &BTreeSet<ServerId>) -> Result<(), Reason> {
    for (word, voters) in [("present", &facts.consensus.voters), ("new", after)] {
        if !is_quorum(voters, |id| facts.answers(id)) {
            let silent = voters.iter().filter(|id| !facts.answers(**id));
            let silent: Vec<_> = silent.map(|id| facts.name(*id)).collect();
            let detail = format!(
                "{} of the {} {word} voters must answer, and {} would be missing",
                needed(voters.len()),
                voters.len(),
                words::list(&silent)
            );
            return Err(reason("quorum", false, detail));
        }
    }
    Ok(())
}
