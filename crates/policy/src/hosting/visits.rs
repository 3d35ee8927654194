//! Clients of gateways at sessions that are only bindings of a token to a running server: when such a session is used, and when it
//! ends because nobody came again or nothing passed. No keeper watches over it.
//!
//! Always true: a session whose visitors come and go all the time is told of at most once in [`LINGER`].

use super::{Hosting, Keeper};
use model::{Application, Directory, EndReason, Resumable, Session, SessionId, UnixMillis};
use std::borrow::Cow;
use std::time::Duration;

/// A session counts as used for so long after its last visitor has gone.
pub const LINGER: Duration = Duration::from_secs(5);
/// A visitor that stayed for so long may well be whom it claims to be.
pub const STAY: Duration = Duration::from_secs(30);
/// How long a session is kept for somebody whom nobody knows and who did not stay.
pub const FLEETING: Duration = Duration::from_secs(2 * 60);

/// The visitors of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Visits {
    here: u32,
    client: String,
    last: UnixMillis,
    /// When the first of those who are here came.
    since: Duration,
    /// When the last one went.
    left: Option<Duration>,
    stayed: bool,
    /// When bytes last passed; coming counts.
    passed: Duration,
}

impl Hosting {
    pub(super) fn visit(
        &mut self,
        session: SessionId,
        client: String,
        at: UnixMillis,
        now: Duration,
    ) {
        let visits = self.visits.entry(session).or_insert_with(|| Visits {
            here: 0,
            client: String::new(),
            last: at,
            since: now,
            left: None,
            stayed: false,
            passed: now,
        });
        if visits.here == 0 {
            visits.since = now;
        }
        visits.here += 1;
        visits.passed = visits.passed.max(now);
        visits.left = None;
        visits.client = client;
        visits.last = at;
        self.unsettled.insert(session);
    }

    /// Nothing is to be looked at again before its time: only then it matters.
    pub(super) fn pass(&mut self, session: SessionId, at: Duration) {
        if let Some(visits) = self.visits.get_mut(&session) {
            visits.passed = visits.passed.max(at);
        }
    }

    pub(super) fn leave(&mut self, session: SessionId, at: UnixMillis, now: Duration) {
        if let Some(visits) = self.visits.get_mut(&session) {
            visits.here = visits.here.saturating_sub(1);
            visits.last = at;
            if visits.here == 0 {
                visits.stayed |= now.saturating_sub(visits.since) >= STAY;
                visits.left = Some(now);
            }
            self.unsettled.insert(session);
        }
    }

    /// Whether a gateway's client is at a session.
    pub fn has_visitors(&self, session: SessionId) -> bool {
        self.visits
            .get(&session)
            .is_some_and(|visits| visits.here > 0)
    }

    /// The keeper as it is with the session's visitors.
    pub(super) fn with_visitors<'k>(
        &mut self,
        session: SessionId,
        keeper: &'k Keeper,
        now: Duration,
    ) -> Cow<'k, Keeper> {
        let Some(visits) = self.visits.get(&session) else {
            return Cow::Borrowed(keeper);
        };
        let until = visits.left.map(|left| left.saturating_add(LINGER));
        let used = until.is_none_or(|until| now < until);
        let mut seen = keeper.clone();
        seen.last_attached = seen.last_attached.max(Some(visits.last));
        if used && seen.client.is_none() {
            seen.client = Some(visits.client.clone());
        }
        if let Some(until) = until.filter(|_| used) {
            self.timers.set(session, until);
        }
        Cow::Owned(seen)
    }

    /// Why a session without a keeper is over now: nobody has come for longer than may be, or nothing has passed.
    pub(super) fn overdue(
        &mut self,
        directory: &Directory,
        record: &Session,
        now: Duration,
    ) -> Option<EndReason> {
        let session = record.id;
        let bound = *self.bare.get(&session)?;
        let app = directory.app(&record.app)?;
        let passed = self.visits.get(&session).map(|visits| visits.passed);
        let idle = app.idle_timeout_ms.map(Duration::from_millis);
        let idle_at = idle.map(|span| passed.unwrap_or(bound).saturating_add(span));
        if idle_at.is_some_and(|at| at <= now) {
            return Some(EndReason::Idle);
        }
        let alone_at = self.alone_until(directory, app, record, bound);
        if alone_at.is_some_and(|at| at <= now) {
            return Some(EndReason::TimedOut);
        }
        let lingers = self.visits.get(&session).and_then(|visits| visits.left);
        let lingers = lingers.map(|left| left.saturating_add(LINGER));
        let lingers = lingers.filter(|lingers| now < *lingers);
        if let Some(next) = [idle_at, alone_at].into_iter().flatten().min() {
            let next = lingers.map_or(next, |lingers| lingers.min(next));
            self.timers.set(session, next);
        }
        None
    }

    /// Until when a session may be without a visitor; none: one is here, or for ever.
    fn alone_until(
        &self,
        directory: &Directory,
        app: &Application,
        record: &Session,
        bound: Duration,
    ) -> Option<Duration> {
        let visits = self.visits.get(&record.id);
        if visits.is_some_and(|visits| visits.here > 0) {
            return None;
        }
        let free = visits.and_then(|visits| visits.left).unwrap_or(bound);
        let stayed = visits.is_none_or(|visits| visits.stayed);
        let after_visit = match app.resumable {
            Resumable::Always => None,
            Resumable::Attached => Some(Duration::from_millis(app.detach_timeout_ms)),
            Resumable::Never => Some(Duration::ZERO),
        };
        let retain = match stayed {
            true => directory.settings().gateway_retain(Some(self.me)),
            false => FLEETING,
        };
        let limits = [
            app.suspended_timeout_ms.map(Duration::from_millis),
            after_visit.filter(|_| visits.is_some()),
            record.user.is_nobody().then_some(retain),
        ];
        Some(free.saturating_add(limits.into_iter().flatten().min()?))
    }
}
