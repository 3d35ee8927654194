//! Servers that are being drained: which of their sessions go elsewhere now, and when nothing is left to go.
//!
//! Suspended sessions go at once. Those in use go when their users move them, and all that are left at the deadline. Always true: no
//! session goes before its drain began, none of an application that keeps its sessions goes at all, and nothing that failed is tried
//! again within [`AGAIN`]. Start at [`Draining::handle`]; [`drain`] plans one.

use crate::plan::{Affected, Check, Impact, Plan};
use crate::view::View;
use crate::words;
use model::{
    Application, Directory, OnDrain, ServerId, Session, SessionId, SessionState, UnixMillis,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The pause before something that was asked for and is not so yet is asked for again.
pub const AGAIN: Duration = Duration::from_secs(5);
/// The most sessions that are moved at one look: another server has to start each.
pub const TOGETHER: usize = 64;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Have a session go on elsewhere, on a server that is online.
    Move {
        /// Which.
        session: SessionId,
        /// Its host, which is being drained.
        from: ServerId,
    },
    /// Record that nothing is left to be moved.
    Finish(ServerId),
}

/// The state machine of an acting primary.
#[derive(Debug, Clone, Default)]
pub struct Draining {
    moving: BTreeMap<SessionId, Duration>,
    finishing: BTreeMap<ServerId, Duration>,
}

impl Draining {
    /// What is to be done now; `calendar` tells whether a deadline has come, `now` when something was asked for last.
    pub fn handle(
        &mut self,
        directory: &Directory,
        calendar: UnixMillis,
        now: Duration,
    ) -> Vec<Action> {
        let waits = |since: &Duration| now.saturating_sub(*since) < AGAIN;
        self.moving.retain(|_, since| waits(since));
        self.finishing.retain(|_, since| waits(since));
        let mut actions = Vec::new();
        for server in directory.servers() {
            let Some((drain, _)) = server.mode.drain() else {
                continue;
            };
            let is_due = calendar >= drain.deadline;
            let mut left = false;
            for session in directory.to_drain(server) {
                left = true;
                if actions.len() < TOGETHER
                    && goes(session, is_due)
                    && !self.moving.contains_key(&session.id)
                {
                    self.moving.insert(session.id, now);
                    actions.push(Action::Move {
                        session: session.id,
                        from: server.id,
                    });
                }
            }
            let finished = !left && drain.finished.is_none();
            if finished && !self.finishing.contains_key(&server.id) {
                self.finishing.insert(server.id, now);
                actions.push(Action::Finish(server.id));
            }
        }
        actions
    }
}

/// Whether a session goes now; one that is just starting is waited for.
fn goes(session: &Session, is_due: bool) -> bool {
    match session.state {
        SessionState::Suspended => true,
        SessionState::Active => is_due,
        _ => false,
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The servers, each a member.
    pub servers: &'a BTreeSet<ServerId>,
    /// How long sessions in use may stay; none: the servers only get no new sessions.
    pub within: Option<Duration>,
}

/// Plans to take servers offline, and to drain them where that is wished. `elsewhere` says why no other server takes a session of an
/// application; none: one does.
pub fn drain(
    view: &View<'_>,
    wish: Wish<'_>,
    elsewhere: impl Fn(&Application) -> Option<String>,
) -> Plan {
    let mut names: Vec<String> = wish.servers.iter().map(|id| view.name(*id)).collect();
    names.sort();
    let names = words::list(&names);
    let on = |id: &ServerId| view.directory.sessions_on(*id);
    let all: Vec<&Session> = wish.servers.iter().flat_map(on).map(|it| &**it).collect();
    let sorted = match wish.within {
        Some(_) => Sorted::of(view.directory, &all, elsewhere),
        None => Sorted::default(),
    };
    let mut steps = vec![format!("{names} get no new sessions from load balancing")];
    if wish.servers.len() == 1 {
        steps = vec![format!("{names} gets no new sessions from load balancing")];
    }
    match wish.within {
        Some(within) => sorted.steps(within, &mut steps),
        None => steps.push(match words::len(all.len()) {
            0 => "no session is there".to_owned(),
            1 => "the session there goes on".to_owned(),
            count => format!("the {} there go on", words::count(count, "session")),
        }),
    }
    let moved = Affected::from_sessions(sorted.now.iter().chain(&sorted.later).copied());
    let impact = Impact {
        kept: words::len(view.directory.live_sessions()).saturating_sub(moved.count),
        moved,
        lost: Affected::default(),
    };
    let what = match wish.within {
        Some(_) => format!("drain {names}"),
        None => format!("take {names} offline"),
    };
    let checks: Vec<Check> = Vec::new();
    Plan::new(what, checks, steps, impact, crate::losses::protection(view))
}

/// Sessions by what becomes of them.
#[derive(Debug, Default)]
struct Sorted<'a> {
    /// They go at once.
    now: Vec<&'a Session>,
    /// Their users are asked.
    later: Vec<&'a Session>,
    /// How many stay, by why.
    stay: BTreeMap<String, u64>,
}

impl<'a> Sorted<'a> {
    fn of(
        directory: &Directory,
        sessions: &[&'a Session],
        elsewhere: impl Fn(&Application) -> Option<String>,
    ) -> Self {
        let mut sorted = Self::default();
        let mut known = BTreeMap::new();
        for session in sessions {
            let why = known.entry(&session.app).or_insert_with(|| {
                let app = directory.app(&session.app)?;
                match app.on_drain {
                    OnDrain::Keep => Some(format!("{} keeps its sessions", app.name)),
                    OnDrain::Move => elsewhere(app)
                        .map(|why| format!("no other server takes {} now: {why}", app.name)),
                }
            });
            let stays = match (why, session.is_reachable()) {
                (_, false) => Some("the host cannot be reached".to_owned()),
                (why, true) => why.clone(),
            };
            match (stays, session.state) {
                (Some(why), _) => *sorted.stay.entry(why).or_insert(0) += 1,
                (None, SessionState::Suspended) => sorted.now.push(session),
                (None, _) => sorted.later.push(session),
            }
        }
        sorted
    }

    fn steps(&self, within: Duration, steps: &mut Vec<String>) {
        let sessions = |count: usize| words::count(words::len(count), "session");
        if !self.now.is_empty() {
            let now = sessions(self.now.len());
            steps.push(format!(
                "{now} without a client: ended, and started elsewhere, at once"
            ));
        }
        if !self.later.is_empty() {
            let (later, within) = (sessions(self.later.len()), words::span(within));
            steps.push(format!(
                "{later} in use: the users are asked to move; what is left after {within} is ended, and started elsewhere"
            ));
        }
        for (why, count) in &self.stay {
            let stay = words::count(*count, "session");
            steps.push(format!("{stay} not moved: {why}"));
        }
        if self.now.is_empty() && self.later.is_empty() {
            steps.push("nothing is to be moved".to_owned());
        }
    }
}
