//! When the office of primary goes back to the original primary, the head of the backup list.
//!
//! Always true: it goes back only from a primary that acts, to a server that passes every check of a planned promotion and
//! did so without a break for `resilience.return-delay`; not oftener than `resilience.max-moves` allows; and never with
//! `resilience.primary-return` other than `accept`, or with failover off or paused. Start at [`Failback::handle`].

use crate::explanation::reason;
use crate::promotion::promotion_checks;
use crate::view::View;
use crate::words;
use model::settings::PrimaryReturn;
use model::{Directory, EventKind, Reason, ServerId, UnixMillis};
use std::time::Duration;

/// How long after an attempt the next one starts.
pub const RETRY: Duration = Duration::from_secs(5);

/// What becomes of the original primary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Outlook {
    /// It is primary, there is none, it is not to come back by itself, or this server is not the one to say.
    #[default]
    Nothing,
    /// It is not fit, and why.
    Unfit {
        /// Which server.
        server: ServerId,
        /// What is against it.
        reasons: Vec<Reason>,
    },
    /// It is fit, and takes over when it has been for long enough.
    Waits {
        /// Which server.
        server: ServerId,
        /// When, on the steady clock.
        until: Duration,
    },
    /// It would take over, but the office has moved too often.
    HeldBack {
        /// Which server.
        server: ServerId,
        /// How often it moved, within how long.
        moves: usize,
        /// Within how long.
        within: Duration,
    },
}

/// The office is to be handed to the original primary now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Return {
    /// To whom.
    pub server: ServerId,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// The state machine.
#[derive(Debug, Clone, Default)]
pub struct Failback {
    /// The original primary, and since when it has been fit without a break.
    fit_since: Option<(ServerId, Duration)>,
    last_attempt: Option<Duration>,
    outlook: Outlook,
}

impl Failback {
    /// Looks at the group; `automatic` is whether the group changes its primary by itself.
    pub fn handle(&mut self, view: &View<'_>, automatic: bool, now: Duration) -> Option<Return> {
        let leads = view.acting && view.leader == Some(view.me);
        let Some(server) = awaited(view.directory, view.me, leads, automatic) else {
            self.fit_since = None;
            self.outlook = Outlook::Nothing;
            return None;
        };
        let against: Vec<Reason> = promotion_checks(view, server)
            .into_iter()
            .map(|check| check.reason)
            .filter(|reason| !reason.pass)
            .collect();
        if !against.is_empty() {
            self.fit_since = None;
            self.outlook = Outlook::Unfit {
                server,
                reasons: against,
            };
            return None;
        }
        let known = self.fit_since.filter(|(fit, _)| *fit == server);
        let (_, since) = *self.fit_since.insert(known.unwrap_or((server, now)));
        let delay = view.directory.settings().return_delay();
        let again = self
            .last_attempt
            .map_or(Duration::ZERO, |last| last.saturating_add(RETRY));
        let until = since.saturating_add(delay).max(again);
        if now < until {
            // What held it back is looked at again when its time comes, and is so until then.
            if !matches!(self.outlook, Outlook::HeldBack { server: held, .. } if held == server) {
                self.outlook = Outlook::Waits { server, until };
            }
            return None;
        }
        let (most, within) = view.directory.settings().max_moves();
        let moves = moves(view, within, most);
        if moves >= most {
            // It is looked at again by and by: counting costs a look at the journal.
            self.last_attempt = Some(now);
            self.outlook = Outlook::HeldBack {
                server,
                moves,
                within,
            };
            return None;
        }
        self.last_attempt = Some(now);
        let fit_for = now.saturating_sub(since);
        Some(Return {
            server,
            reasons: why(view, server, fit_for, (moves, most, within)),
        })
    }

    /// When to look again, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.outlook {
            Outlook::Waits { until, .. } => Some(until),
            Outlook::HeldBack { .. } => self.last_attempt.map(|last| last.saturating_add(RETRY)),
            _ => None,
        }
    }

    /// What becomes of the original primary, as it was seen last.
    pub fn outlook(&self) -> &Outlook {
        &self.outlook
    }
}

/// The original primary, where the one that leads and acts waits for it: what can be told without a look at the others.
pub fn awaited(
    directory: &Directory,
    me: ServerId,
    leads: bool,
    automatic: bool,
) -> Option<ServerId> {
    let group = directory.group();
    let head = *group.backups.first()?;
    let accepts = directory.settings().primary_return() == PrimaryReturn::Accept;
    let here = leads && group.primary == Some(me);
    (automatic && accepts && here && head != me).then_some(head)
}

/// Why the office goes back, with the figures.
fn why(
    view: &View<'_>,
    server: ServerId,
    fit_for: Duration,
    (moves, most, within): (usize, usize, Duration),
) -> Vec<Reason> {
    let fit = format!(
        "{} is the original primary, and has been fit for {}",
        view.name(server),
        words::span(fit_for)
    );
    let room = format!(
        "the office moved {} in the last {}, and may {most}",
        words::count(words::len(moves), "time"),
        words::span(within)
    );
    vec![
        reason("original-primary", true, fit),
        reason("max-moves", true, room),
    ]
}

/// How many planned changes of primary there were within a time, at most `most`.
fn moves(view: &View<'_>, within: Duration, most: usize) -> usize {
    let span = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    let from = UnixMillis(view.calendar.0.saturating_sub(span));
    let recent = view.directory.events_back();
    recent
        .take_while(|event| event.at >= from)
        .filter(|event| event.kind == EventKind::Switchover)
        .take(most)
        .count()
}
