//! Which hosts are gone, as the acting primary sees it, so that their sessions can be given up.
//!
//! Always true: nothing is proposed while this server does not act as primary, nor before it has listened for one whole span
//! itself; a host that is heard in time, by this server or by one that it hears, is never given up: clients reach it through
//! that one. Every server observes, so that a new primary knows already who refuses connections since when.

use crate::explanation::reason;
use crate::words;
use model::settings::Settings;
use model::{Directory, Reason, ServerId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a host that refuses connections may take to come back: its server is restarting.
pub const RESTART_ALLOWANCE: Duration = Duration::from_secs(10);
/// How often a proposal is repeated while the host stays away.
pub const REPEAT: Duration = Duration::from_secs(1);

/// How long a report that another server hears a host stands, unless its next one says otherwise: reports come every second.
pub const REPORTED_FOR: Duration = Duration::from_millis(1500);

/// The spans that a host may be away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// The grace period.
    pub grace: Duration,
    /// `tunnel.dead-after`.
    pub dead_after: Duration,
}

impl Allowance {
    /// The spans that the settings ask for.
    pub fn of(settings: &Settings) -> Self {
        Self {
            grace: settings.grace_period(),
            dead_after: settings.dead_after(),
        }
    }

    /// How long a host may be silent.
    pub fn silence(&self) -> Duration {
        self.grace.saturating_add(self.dead_after)
    }
}

/// What can happen to hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something came from a host.
    Heard {
        /// Which.
        host: ServerId,
        /// When; earlier than what is known changes nothing.
        at: Duration,
    },
    /// A host's machine answered that nobody listens there.
    Refused {
        /// Which.
        host: ServerId,
        /// When.
        at: Duration,
    },
    /// A report says whom its sender hears.
    Report {
        /// The sender.
        from: ServerId,
        /// Whom it has heard within the grace period.
        hears: BTreeSet<ServerId>,
    },
    /// This server acts as primary from now on, or no longer.
    Acting(bool),
    /// The members but this server, by name; others are forgotten. Witnesses host nothing, and hear others.
    Hosts(BTreeMap<ServerId, String>),
    /// The settings changed.
    Allowance(Allowance),
}

/// A host that is to be given up: propose that its sessions are orphaned, where [`has_reachable_sessions`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GiveUp {
    /// Which.
    pub host: ServerId,
    /// Why, with figures.
    pub reasons: Vec<Reason>,
}

/// How a host looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It was heard within the grace period.
    Heard,
    /// Its machine is up and its server is not: it has been refusing for this long.
    Refusing(Duration),
    /// Nothing came from it for this long; none: never.
    Silent(Option<Duration>),
}

/// Whether a directory has sessions of a host that are not orphaned yet.
pub fn has_reachable_sessions(directory: &Directory, host: ServerId) -> bool {
    directory
        .sessions_on(host)
        .any(|session| session.is_reachable())
}

#[derive(Debug, Clone, Default)]
struct Host {
    name: String,
    heard: Option<Duration>,
    /// The first refusal since it was last heard.
    refused_since: Option<Duration>,
    refused_last: Option<Duration>,
    proposed: Option<Duration>,
    /// Servers whose last report said that they hear it, and when that came.
    heard_by: BTreeMap<ServerId, Duration>,
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Liveness {
    allowance: Allowance,
    hosts: BTreeMap<ServerId, Host>,
    acting_since: Option<Duration>,
}

impl Liveness {
    /// Nobody is watched yet.
    pub fn new(allowance: Allowance) -> Self {
        Self {
            allowance,
            hosts: BTreeMap::new(),
            acting_since: None,
        }
    }

    /// Takes in what happened. What is known together is taken in together, before [`Self::handle_timeout`] judges: a host is
    /// never judged by half of it.
    pub fn handle(&mut self, event: Event, now: Duration) {
        match event {
            Event::Heard { host, at } => self.heard(host, at.min(now)),
            Event::Refused { host, at } => self.refused(host, at.min(now)),
            Event::Report { from, hears } => self.report(from, &hears, now),
            Event::Acting(true) => {
                self.acting_since.get_or_insert(now);
            }
            Event::Acting(false) => self.stop_acting(),
            Event::Hosts(names) => self.watch(names),
            Event::Allowance(allowance) => self.allowance = allowance,
        }
    }

    fn heard(&mut self, host: ServerId, at: Duration) {
        if let Some(host) = self.hosts.get_mut(&host)
            && host.heard.is_none_or(|known| known < at)
        {
            host.heard = Some(at);
            host.refused_since = None;
            host.refused_last = None;
            host.proposed = None;
        }
    }

    fn refused(&mut self, host: ServerId, at: Duration) {
        if let Some(host) = self.hosts.get_mut(&host)
            && host.heard.is_none_or(|heard| heard < at)
        {
            host.refused_since.get_or_insert(at);
            host.refused_last = host.refused_last.max(Some(at));
        }
    }

    fn report(&mut self, from: ServerId, hears: &BTreeSet<ServerId>, now: Duration) {
        let known = self.hosts.contains_key(&from);
        for (id, host) in self.hosts.iter_mut().filter(|(id, _)| **id != from) {
            if known && hears.contains(id) {
                host.heard_by.insert(from, now);
            } else {
                host.heard_by.remove(&from);
            }
        }
    }

    fn stop_acting(&mut self) {
        self.acting_since = None;
        for host in self.hosts.values_mut() {
            host.proposed = None;
        }
    }

    fn watch(&mut self, names: BTreeMap<ServerId, String>) {
        self.hosts.retain(|id, _| names.contains_key(id));
        for host in self.hosts.values_mut() {
            host.heard_by.retain(|id, _| names.contains_key(id));
        }
        for (id, name) in names {
            self.hosts.entry(id).or_default().name = name;
        }
    }

    /// The hosts that are to be given up by now.
    pub fn handle_timeout(&mut self, now: Duration) -> Vec<GiveUp> {
        let Some(acting_since) = self.acting_since else {
            return Vec::new();
        };
        let allowance = self.allowance;
        let mut gone = Vec::new();
        for (id, host) in &mut self.hosts {
            if host.due(allowance, acting_since) <= now {
                host.proposed = Some(now);
                let reasons = host.reasons(allowance, acting_since, now);
                gone.push(GiveUp { host: *id, reasons });
            }
        }
        gone
    }

    /// When something comes due; none while only an event can change anything.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let acting_since = self.acting_since?;
        self.hosts
            .values()
            .map(|host| host.due(self.allowance, acting_since))
            .min()
    }

    /// How a host looks now; none: it is not watched.
    pub fn condition(&self, host: ServerId, now: Duration) -> Option<Condition> {
        let host = self.hosts.get(&host)?;
        let silence = host.heard.map(|heard| now.saturating_sub(heard));
        Some(match (silence, host.refused_since, host.refused_last) {
            (Some(silence), _, _) if silence < self.allowance.grace => Condition::Heard,
            (_, Some(since), Some(last)) if now.saturating_sub(last) < self.allowance.silence() => {
                Condition::Refusing(now.saturating_sub(since))
            }
            _ => Condition::Silent(silence),
        })
    }
}

impl Host {
    /// When it is to be given up, if nothing is heard until then, here or by another server.
    fn due(&self, allowance: Allowance, acting_since: Duration) -> Duration {
        let alone = self.due_unheard(allowance, acting_since);
        let heard_by = self.heard_by.values().max();
        heard_by.map_or(alone, |at| alone.max(at.saturating_add(REPORTED_FOR)))
    }

    fn due_unheard(&self, allowance: Allowance, acting_since: Duration) -> Duration {
        if let Some(proposed) = self.proposed {
            return proposed.saturating_add(REPEAT);
        }
        let seen = self.heard.max(self.refused_last).unwrap_or_default();
        let silent = seen.max(acting_since).saturating_add(allowance.silence());
        let Some(refused_since) = self.refused_since else {
            return silent;
        };
        let listened = acting_since.saturating_add(allowance.silence());
        let refused = refused_since.saturating_add(RESTART_ALLOWANCE);
        silent.min(refused.max(listened))
    }

    fn reasons(&self, allowance: Allowance, acting_since: Duration, now: Duration) -> Vec<Reason> {
        let name = &self.name;
        let span = |since: Duration| words::span(now.saturating_sub(since));
        let mut reasons = Vec::new();
        let refusing = self
            .refused_last
            .is_some_and(|last| now.saturating_sub(last) < allowance.silence());
        match (self.heard, self.refused_since) {
            (_, Some(since)) if refusing => reasons.push(reason(
                "refusing",
                false,
                format!(
                    "{name} has refused connections for {}, it may for {}",
                    span(since),
                    words::span(RESTART_ALLOWANCE)
                ),
            )),
            (heard, _) => {
                let seen = heard.max(self.refused_last);
                let since = seen.map_or_else(
                    || {
                        format!(
                            "was not heard since this server became primary {} ago",
                            span(acting_since)
                        )
                    },
                    |seen| format!("has been silent for {}", span(seen)),
                );
                let (grace, dead) = (
                    words::span(allowance.grace),
                    words::span(allowance.dead_after),
                );
                let detail = format!(
                    "{name} {since}, it may be for {} ({grace} + {dead})",
                    words::span(allowance.silence())
                );
                reasons.push(reason("reachable", false, detail));
            }
        }
        reasons.push(reason(
            "listened",
            true,
            format!(
                "this server has been primary and listening for {}",
                span(acting_since)
            ),
        ));
        reasons
    }
}
