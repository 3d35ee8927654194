//! The office of primary as one server deals with it: when it steps forward, says that it is primary, gives the office back,
//! and what it does about who counts while it holds it.
//!
//! Composes [`Campaign`], [`Failback`] and [`Voting`]; whoever carries their actions out asks here only, so that a simulation
//! drives the very decisions that ship. Always true: nothing is said or arranged by a server that does not act as primary; a
//! caretaker says nothing; who counts is looked at only once this server's first change of its term is through, or for a
//! caretaker the first entry of its term, because before that its directory may be of the past. Start at [`Office::stand`],
//! which comes first at every look.

use crate::campaign::{self, Campaign, Timeline};
use crate::explanation::Explanation;
use crate::failback::{self, Failback, Outlook, Return};
use crate::view::{Peer, View, counted};
use crate::voting::{self, Membership, Progress, Step, Voting};
use model::{Command, Directory, ServerId, UnixMillis};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a server sees of its group at one moment, apart from how far the others are.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// This server.
    pub me: ServerId,
    /// The newest directory that it has.
    pub directory: &'a Directory,
    /// The time on its calendar.
    pub calendar: UnixMillis,
    /// The term of consensus.
    pub term: u64,
    /// Whether it leads.
    pub leads: bool,
    /// Whether it acts as primary.
    pub acting: bool,
    /// Who leads, as consensus knows it; none: nobody was heard within the grace period.
    pub leader: Option<ServerId>,
    /// The leader that it follows, and when it last heard from it, on the steady clock.
    pub heard: Option<(ServerId, Duration)>,
    /// Who takes part in consensus.
    pub consensus: &'a Membership,
    /// Whether the directory has every change that was committed before the present leader was elected.
    pub current: bool,
}

/// This server is to say that it is primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taking {
    /// For which term.
    pub term: u64,
    /// When each step towards it was taken.
    pub timeline: Timeline,
    /// Why it is this server.
    pub explanation: Explanation,
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Office {
    campaign: Campaign,
    failback: Failback,
    voting: Voting,
    leading: bool,
    taking: bool,
    /// The term in which this server said that it is primary.
    taken: Option<u64>,
    changing_members: bool,
}

impl Office {
    /// A server that starts now and has heard nobody yet.
    pub fn new(look: &Look<'_>, now: Duration) -> Self {
        Self {
            campaign: Campaign::new(look.me, facts(look), now),
            failback: Failback::default(),
            voting: Voting::new(),
            leading: false,
            taking: false,
            taken: None,
            changing_members: false,
        }
    }

    /// Whether to step forward as primary, or, as a caretaker, to hand over. `seen` tells what is known of the others, and
    /// is asked only where that matters; `ordered` until when an administrator told this server to become primary, once.
    pub fn stand(
        &mut self,
        look: &Look<'_>,
        seen: impl FnOnce() -> BTreeMap<ServerId, Peer>,
        ordered: Option<Duration>,
        now: Duration,
    ) -> Vec<campaign::Action> {
        let mut events = Vec::new();
        if let Some((leader, at)) = look.heard {
            events.push(campaign::Event::Heard { leader, at });
        }
        // Each look tells them anew, so that a pause ends here on time whether or not a primary is there to record it.
        events.push(campaign::Event::Facts(Box::new(facts(look))));
        if look.leads != self.leading {
            self.leading = look.leads;
            events.push(match look.leads {
                true => campaign::Event::Leading,
                false => campaign::Event::Following,
            });
        }
        if let Some(until) = ordered {
            events.push(campaign::Event::Ordered { until });
        }
        let mut actions = Vec::new();
        for event in events {
            actions.extend(self.campaign.handle(event, now));
        }
        // A look at every member costs too much for each wake-up.
        if self.campaign.wants_peers(now) {
            let peers = campaign::Event::Peers(seen());
            actions.extend(self.campaign.handle(peers, now));
        }
        actions.extend(self.campaign.handle_timeout(now));
        actions
    }

    /// Whether to say now that this server is primary: a new primary's first change, which proves that changes are accepted.
    /// Say with [`Self::took`] or [`Self::not_taken`] what came of it.
    pub fn take(&mut self, look: &Look<'_>, now: Duration) -> Option<Taking> {
        let said = self.taking || self.taken == Some(look.term);
        if !look.acting || said || self.campaign.is_caretaker() {
            return None;
        }
        self.taking = true;
        Some(Taking {
            term: look.term,
            timeline: self.campaign.timeline(),
            explanation: self.campaign.explain(now, look.calendar),
        })
    }

    /// It was said.
    pub fn took(&mut self, term: u64) {
        self.taking = false;
        self.taken = Some(term);
    }

    /// It could not be said, or it is not known whether it was; it is tried again.
    pub fn not_taken(&mut self) {
        self.taking = false;
    }

    /// Whether this server acts and said so in this term: it holds address and services from then on.
    pub fn holds(&self, look: &Look<'_>) -> bool {
        look.acting && self.taken == Some(look.term) && !self.campaign.is_caretaker()
    }

    /// Whether the office goes back to the original primary.
    pub fn give_back(
        &mut self,
        look: &Look<'_>,
        seen: impl FnOnce() -> BTreeMap<ServerId, Peer>,
        now: Duration,
    ) -> Option<Return> {
        let automatic = self.taken == Some(look.term) && self.campaign.is_automatic();
        if failback::awaited(look.directory, look.me, look.acting, automatic).is_none() {
            // The rest costs a look at every member, at every wake-up of every server.
            self.failback = Failback::default();
            return None;
        }
        let peers = seen();
        let counted = counted(look.directory, &look.consensus.voters);
        let view = View {
            directory: look.directory,
            me: look.me,
            calendar: look.calendar,
            leader: look.leader,
            acting: look.acting,
            voters: &counted,
            joint: &[],
            peers: &peers,
        };
        self.failback.handle(&view, automatic, now)
    }

    /// What becomes of the original primary, as it was seen last.
    pub fn outlook(&self) -> &Outlook {
        self.failback.outlook()
    }

    /// The next step towards the members of consensus that the directory names, one at a time; say with
    /// [`Self::members_done`] that it was carried out, or not.
    pub fn arrange(
        &mut self,
        look: &Look<'_>,
        progress: impl FnOnce() -> BTreeMap<ServerId, Progress>,
        leaving: Option<ServerId>,
        now: Duration,
    ) -> Option<Step> {
        if !look.acting || !self.may_arrange(look) {
            self.voting = Voting::new();
            return None;
        }
        if self.changing_members {
            return None;
        }
        let facts = voting::Facts {
            me: look.me,
            members: voting::Facts::members_of(look.directory),
            consensus: look.consensus.clone(),
            progress: progress(),
            leaving,
            mode: look.directory.group().mode,
            caretaker: self.campaign.is_caretaker(),
        };
        let step = self.voting.handle(&facts, now).step?;
        self.changing_members = true;
        Some(step)
    }

    /// A caretaker that counts says nothing, and arranges: whom it is to pass the role on to may have lost its log and have to
    /// count again first.
    fn may_arrange(&self, look: &Look<'_>) -> bool {
        let counts = look.consensus.voters.contains(&look.me);
        match self.campaign.is_caretaker() {
            true => counts && look.current,
            false => self.taken == Some(look.term),
        }
    }

    /// A step came to its end.
    pub fn members_done(&mut self) {
        self.changing_members = false;
    }

    /// When something comes due; none while only an event can change anything.
    pub fn poll_timeout(&self) -> Option<Duration> {
        // What comes due while a step is under way is looked at when that has come to its end.
        let voting = self.voting.poll_timeout();
        let due = [
            self.campaign.poll_timeout(),
            voting.filter(|_| !self.changing_members),
            self.failback.poll_timeout(),
        ];
        due.into_iter().flatten().min()
    }

    /// Whether this server leads only to pass the role on.
    pub fn is_caretaker(&self) -> bool {
        self.campaign.is_caretaker()
    }
}

/// Whether a server that leads only to pass the role on makes this change nevertheless: who is there with which log, who counts
/// and who may be primary, so that there is somebody to pass it on to.
pub fn caretaker_makes(command: &Command) -> bool {
    matches!(
        command,
        Command::ReportServer { .. }
            | Command::SetVoting { .. }
            | Command::SetBackups { .. }
            | Command::EditBackups { .. }
    )
}

fn facts(look: &Look<'_>) -> campaign::Facts {
    campaign::Facts::of(look.directory, &look.consensus.voters, look.calendar)
}
