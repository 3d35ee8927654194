//! A host's side of its sessions: what the directory wants here, what keepers there are, and what to do about the
//! difference.
//!
//! Always true: doing an action twice does no harm, and what the directory does not show yet is said again; so it works while
//! there is no primary. No keeper is started before the replica was up to date once since the start, and a session that was
//! seen to be over is not registered again in this life. A look costs what has changed and what is under way, not what is
//! here: whatever waits for something is looked at each time, everything else when it or its record changes. Start at
//! [`Hosting::reconcile`].

use model::session::{Observation, Registration, Seen};
use model::{Directory, EndReason, ServerId, Session, SessionId, SessionState};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

mod keeper;
mod messages;
mod timers;
mod todo;
mod visits;

pub use keeper::{Keeper, Phase};
pub use messages::{Action, Event};
pub use visits::{FLEETING, LINGER, STAY};

use timers::Timers;
use todo::{Todo, difference, is_same, registration};
use visits::Visits;

/// How often something that the directory does not show yet is said again.
pub const REPEAT: Duration = Duration::from_secs(1);
/// How often a keeper that does not end is told again.
pub const END_REPEAT: Duration = Duration::from_secs(5);

/// The state machine.
#[derive(Debug, Clone)]
pub struct Hosting {
    me: ServerId,
    /// How far the host's view went when it looked for its keepers; none until it has.
    view: Option<u64>,
    up_to_date: bool,
    registered: bool,
    keepers: BTreeMap<SessionId, Keeper>,
    /// Sessions that are over without a keeper that could say so.
    gone: BTreeMap<SessionId, EndReason>,
    starting: BTreeSet<SessionId>,
    /// Keepers that were told to end, for good.
    over: BTreeSet<SessionId>,
    said: BTreeMap<SessionId, (Seen, Duration)>,
    registering: BTreeMap<SessionId, Duration>,
    registration_sent: Option<Duration>,
    told: BTreeMap<SessionId, Duration>,
    wake: Option<Duration>,
    /// The directory at the last look; none when everything is to be looked at.
    looked_at: Option<Directory>,
    /// Sessions to look at whether their records change or not.
    unsettled: BTreeSet<SessionId>,
    /// Sessions without a keeper, and since when they are known.
    bare: BTreeMap<SessionId, Duration>,
    /// Who came to sessions through gateways.
    visits: BTreeMap<SessionId, Visits>,
    timers: Timers,
}

impl Hosting {
    /// A server that has just started and has not looked for its keepers yet.
    pub fn new(me: ServerId) -> Self {
        Self {
            me,
            view: None,
            up_to_date: false,
            registered: false,
            keepers: BTreeMap::new(),
            gone: BTreeMap::new(),
            starting: BTreeSet::new(),
            over: BTreeSet::new(),
            said: BTreeMap::new(),
            registering: BTreeMap::new(),
            registration_sent: None,
            told: BTreeMap::new(),
            wake: None,
            looked_at: None,
            unsettled: BTreeSet::new(),
            bare: BTreeMap::new(),
            visits: BTreeMap::new(),
            timers: Timers::default(),
        }
    }

    /// Takes in what happened; [`Self::reconcile`] afterwards says what to do.
    pub fn handle(&mut self, event: Event) {
        match event {
            Event::Found { keepers, view } => {
                self.view = Some(view);
                for (session, keeper) in keepers {
                    self.keepers.entry(session).or_insert(keeper);
                }
                self.looked_at = None;
            }
            Event::Keeper(session, keeper) => {
                self.bare.remove(&session);
                self.spoke(session, *keeper);
            }
            Event::Bound {
                session,
                keeper,
                since,
            } => {
                self.bare.insert(session, since);
                self.spoke(session, *keeper);
            }
            Event::Visited {
                session,
                client,
                at,
                now,
            } => self.visit(session, client, at, now),
            Event::Passed { session, at } => self.pass(session, at),
            Event::Left { session, at, now } => self.leave(session, at, now),
            Event::NotStarted { session, detail } => {
                self.went(session, EndReason::FailedToStart { detail });
            }
            Event::Lost { session, reason } => self.went(session, reason),
            Event::Forgotten(session) => {
                self.keepers.remove(&session);
                self.visits.remove(&session);
                self.timers.clear(session);
                self.gone.remove(&session);
                self.over.remove(&session);
                self.told.remove(&session);
                self.registering.remove(&session);
                self.unsettled.insert(session);
            }
            Event::UpToDate if !self.up_to_date => {
                self.up_to_date = true;
                self.looked_at = None;
            }
            Event::UpToDate => {}
            Event::Registered => {
                self.registered = true;
                self.looked_at = None;
            }
            Event::NewPrimary => {
                self.said.clear();
                self.registering.clear();
                self.registration_sent = None;
                self.looked_at = None;
            }
        }
    }

    fn spoke(&mut self, session: SessionId, keeper: Keeper) {
        self.unsettled.insert(session);
        self.starting.remove(&session);
        self.gone.remove(&session);
        let is_over = matches!(keeper.phase, Phase::Ended(_));
        let before = self.keepers.insert(session, keeper);
        let was_over = before.is_some_and(|keeper| matches!(keeper.phase, Phase::Ended(_)));
        if is_over && !was_over {
            self.told.remove(&session);
        }
    }

    fn went(&mut self, session: SessionId, reason: EndReason) {
        self.bare.remove(&session);
        self.timers.clear(session);
        self.unsettled.insert(session);
        self.registering.remove(&session);
        self.starting.remove(&session);
        self.told.remove(&session);
        let reason = match self.keepers.remove(&session).map(|keeper| keeper.phase) {
            Some(Phase::Ended(reason)) => reason,
            _ => reason,
        };
        self.gone.insert(session, reason);
    }

    /// The keepers that are known, by session.
    pub fn keepers(&self) -> &BTreeMap<SessionId, Keeper> {
        &self.keepers
    }

    /// Whether anything is known of a session here: its keeper, or how it ended.
    pub fn knows(&self, session: SessionId) -> bool {
        self.keepers.contains_key(&session) || self.gone.contains_key(&session)
    }

    /// Whether the sessions that outlived the last run are registered.
    pub fn is_registered(&self) -> bool {
        self.registered
    }

    /// When to look again, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let waits = [self.wake, self.timers.first()];
        waits.into_iter().flatten().min()
    }

    /// What is to be done now, in this order: call it after events, when sessions of this host changed in the directory, and
    /// at [`Self::poll_timeout`]. Gather what happens within some 20 ms first.
    pub fn reconcile(&mut self, directory: &Directory, now: Duration) -> Vec<Action> {
        self.wake = None;
        let mut todo = Todo::default();
        if self.view.is_none() {
            return Vec::new();
        }
        self.unsettled.extend(self.timers.take_due(now));
        let sessions = self.may_need_something(directory);
        for session in sessions.iter().filter_map(|id| directory.session(*id)) {
            if session.host == self.me && session.is_live() && !self.knows(session.id) {
                self.without_keeper(session, now, &mut todo);
            }
        }
        let gone = std::mem::take(&mut self.gone);
        for (id, reason) in sessions.iter().filter_map(|id| gone.get_key_value(id)) {
            self.ended(directory, *id, reason, now, &mut todo);
        }
        self.gone = gone;
        let keepers = std::mem::take(&mut self.keepers);
        for (id, keeper) in sessions.iter().filter_map(|id| keepers.get_key_value(id)) {
            match &keeper.phase {
                Phase::Ended(reason) => self.ended(directory, *id, reason, now, &mut todo),
                Phase::Starting | Phase::Running => {
                    self.running(directory, *id, keeper, now, &mut todo)
                }
            }
        }
        self.keepers = keepers;
        self.forget_what_passed(directory);
        let complete = match todo.ends_unrecorded {
            false => self.registration_after_start(directory, now),
            // It would record these sessions as lost, whatever their keepers said.
            true => None,
        };
        // Until then each look decides about all of them together.
        self.looked_at = self.registered.then(|| directory.clone());
        todo.into_actions(complete, self.view)
    }

    /// The sessions that may have something to do: all, or those whose records or keepers changed since the last look and those
    /// that waited for something then.
    fn may_need_something(&mut self, directory: &Directory) -> BTreeSet<SessionId> {
        let mut sessions = std::mem::take(&mut self.unsettled);
        match &self.looked_at {
            Some(before) => {
                let changed = directory.sessions_changed_since(before);
                let here =
                    changed.filter(|session| session.host == self.me || self.knows(session.id));
                sessions.extend(here.map(|session| session.id));
            }
            None => {
                sessions.extend(directory.sessions_on(self.me).map(|session| session.id));
                sessions.extend(self.keepers.keys());
                sessions.extend(self.gone.keys());
            }
        }
        sessions
    }

    /// A session that the directory has here, and there is nothing of it.
    fn without_keeper(&mut self, session: &Session, now: Duration, todo: &mut Todo) {
        match session.state {
            SessionState::Starting => {
                if self.up_to_date && self.starting.insert(session.id) {
                    todo.keepers.push(Action::StartKeeper(session.id));
                }
            }
            SessionState::Active | SessionState::Suspended | SessionState::Orphaned => {
                // Until the registration after the start is through, it settles this.
                if self.registered && !self.starting.contains(&session.id) {
                    let reason = EndReason::LostWithHost;
                    self.say(session.id, Seen::Ended { reason }, now, todo);
                }
            }
            SessionState::Ended => {}
        }
    }

    /// A session that is over as far as this host can see.
    fn ended(
        &mut self,
        directory: &Directory,
        id: SessionId,
        reason: &EndReason,
        now: Duration,
        todo: &mut Todo,
    ) {
        match directory.session(id) {
            Some(session) if session.host == self.me && session.is_live() => {
                todo.ends_unrecorded = true;
                self.say(
                    id,
                    Seen::Ended {
                        reason: reason.clone(),
                    },
                    now,
                    todo,
                );
            }
            // The replica may not have it yet; what it has not when it is up to date, the group has forgotten.
            None if !self.up_to_date => {}
            _ => {
                if self.is_due(id, now) {
                    todo.keepers.push(Action::ForgetKeeper(id));
                }
            }
        }
    }

    /// A keeper whose session is not over.
    fn running(
        &mut self,
        directory: &Directory,
        id: SessionId,
        keeper: &Keeper,
        now: Duration,
        todo: &mut Todo,
    ) {
        let keeper = &*self.with_visitors(id, keeper, now);
        match directory.session(id) {
            Some(session) if session.host != self.me => {
                if self.up_to_date {
                    self.end(id, EndReason::LostWithHost, now, todo);
                }
            }
            Some(session) if session.is_live() => {
                if session.state == SessionState::Orphaned {
                    self.register(id, keeper, now, todo);
                } else if let Some(reason) = self.overdue(directory, session, now) {
                    self.end(id, reason, now, todo);
                } else if let Some(seen) = difference(session, keeper) {
                    self.say(id, seen, now, todo);
                } else {
                    self.said.remove(&id);
                }
            }
            Some(session) => match session.reason.as_deref() {
                // It was given up for missing, and is here: the host knows best.
                Some(EndReason::LostWithHost) if !self.over.contains(&id) => {
                    self.register(id, keeper, now, todo)
                }
                // Keepers of older versions know nothing of moves.
                Some(EndReason::Moved { by, .. }) => {
                    let by = by.clone();
                    self.end(id, EndReason::ByHand { by }, now, todo);
                }
                reason => {
                    let reason = reason.cloned().unwrap_or(EndReason::LostWithHost);
                    self.end(id, reason, now, todo);
                }
            },
            None if self.over.contains(&id) => self.end(id, EndReason::LostWithHost, now, todo),
            None => self.register(id, keeper, now, todo),
        }
    }

    fn end(&mut self, session: SessionId, reason: EndReason, now: Duration, todo: &mut Todo) {
        self.over.insert(session);
        if self.is_due(session, now) {
            todo.keepers.push(Action::EndKeeper { session, reason });
        }
    }

    /// Whether a keeper is to be told something now, for the first time or again.
    fn is_due(&mut self, session: SessionId, now: Duration) -> bool {
        let due = self
            .told
            .get(&session)
            .is_none_or(|last| last.saturating_add(END_REPEAT) <= now);
        if due {
            self.told.insert(session, now);
        }
        let last = self.told.get(&session).copied().unwrap_or(now);
        self.unsettled.insert(session);
        self.wake_at(last.saturating_add(END_REPEAT));
        due
    }

    fn say(&mut self, session: SessionId, seen: Seen, now: Duration, todo: &mut Todo) {
        let known = self
            .said
            .get(&session)
            .filter(|(before, _)| is_same(before, &seen));
        let since = known
            .map(|(_, since)| *since)
            .filter(|since| since.saturating_add(REPEAT) > now);
        if since.is_none() {
            self.said.insert(session, (seen.clone(), now));
            todo.observations.push(Observation { session, seen });
        }
        self.unsettled.insert(session);
        self.wake_at(since.unwrap_or(now).saturating_add(REPEAT));
    }

    /// Registers one session that turned up, or came back. The registration after the start does it for all before.
    fn register(&mut self, id: SessionId, keeper: &Keeper, now: Duration, todo: &mut Todo) {
        if !self.registered || !self.up_to_date {
            return;
        }
        let since = self.registering.get(&id).copied();
        let since = since.filter(|since| since.saturating_add(REPEAT) > now);
        if since.is_none() {
            self.registering.insert(id, now);
            todo.registrations.push(registration(id, keeper));
        }
        self.unsettled.insert(id);
        self.wake_at(since.unwrap_or(now).saturating_add(REPEAT));
    }

    /// Every session that outlived the last run, when it is time to say so.
    fn registration_after_start(
        &mut self,
        directory: &Directory,
        now: Duration,
    ) -> Option<Vec<Registration>> {
        if self.registered || !self.up_to_date {
            return None;
        }
        let sent = self
            .registration_sent
            .filter(|sent| sent.saturating_add(REPEAT) > now);
        self.wake_at(sent.unwrap_or(now).saturating_add(REPEAT));
        if sent.is_some() {
            return None;
        }
        self.registration_sent = Some(now);
        let is_starting = |id: &SessionId| {
            let session = directory
                .session(*id)
                .filter(|session| session.host == self.me);
            session.is_some_and(|session| session.state == SessionState::Starting)
        };
        let found = self
            .keepers
            .iter()
            .filter(|(id, keeper)| match keeper.phase {
                Phase::Ended(_) => false,
                Phase::Starting => !self.over.contains(id) && !is_starting(id),
                Phase::Running => !self.over.contains(id),
            });
        let found: Vec<_> = found
            .map(|(id, keeper)| registration(*id, keeper))
            .collect();
        // Accepted, it shows in the directory a little later: not a reason to register one of them again.
        self.registering
            .extend(found.iter().map(|one| (one.session, now)));
        Some(found)
    }

    /// What was said of sessions that are over, or no longer here, need not be kept.
    fn forget_what_passed(&mut self, directory: &Directory) {
        let me = self.me;
        let here = |id: &SessionId| {
            let session = directory.session(*id);
            session.is_some_and(|session| session.host == me && session.is_live())
        };
        self.said.retain(|id, _| here(id));
    }

    fn wake_at(&mut self, at: Duration) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}
