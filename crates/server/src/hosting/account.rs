//! What other parts of the server may know of hosting, and what they may ask of it.

use super::Happened;
use super::arrivals::Arrivals;
use super::passing::{Last, Traffic};
use crate::clock;
use model::{AppName, SessionId, UnixMillis, UserName};
use policy::hosting::Event;
use relay::gateway::Passing;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, OnceLock, PoisonError};
use tokio::sync::mpsc;

/// Hosting as the rest of the server sees it.
#[derive(Debug, Default)]
pub struct Hosting {
    warnings: Mutex<BTreeSet<String>>,
    failed: Mutex<BTreeMap<AppName, UnixMillis>>,
    /// Whose sessions have no account to run as here.
    lacking: Mutex<BTreeMap<(AppName, UserName), UnixMillis>>,
    /// Who waits for a session's keeper.
    pub(crate) arrivals: Arrivals,
    pub(super) wanted: OnceLock<mpsc::UnboundedSender<Happened>>,
    /// What passes at visits of sessions that end when they are idle.
    pub(super) traffic: Traffic,
}

/// Of so many users is remembered that they have no account here.
const LACKING: usize = 256;

/// A gateway's client at a session of this host; it goes when this is dropped.
#[derive(Debug)]
pub struct Visit {
    session: SessionId,
    happened: Option<mpsc::UnboundedSender<Happened>>,
    /// When bytes last passed, where that matters.
    last: Option<Last>,
}

impl Visit {
    /// Is to be told of what passes.
    pub(crate) fn passing(&self) -> Passing {
        self.last.as_ref().map(Last::passing).unwrap_or_default()
    }

    fn tell(&self, event: Event) {
        if let Some(happened) = &self.happened {
            // Nobody listens on a server that stops.
            let _ = happened.send(Happened::Policy(event));
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(last) = &self.last {
            let (session, at) = (self.session, last.at());
            self.tell(Event::Passed { session, at });
        }
        self.tell(Event::Left {
            session: self.session,
            at: clock::calendar(),
            now: clock::steady(),
        });
    }
}

impl Hosting {
    /// What somebody should know: keepers without a control group of their own, and the like.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    /// Applications that failed to start here, and when they last did.
    pub fn failed_starts(&self) -> Vec<(AppName, UnixMillis)> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.iter().map(|(app, at)| (app.clone(), *at)).collect()
    }

    /// Users whose sessions of an application have no account to run as here, and since when.
    pub fn lacking_accounts(&self) -> Vec<(AppName, UserName, UnixMillis)> {
        let lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        let all = lacking.iter();
        all.map(|((app, user), at)| (app.clone(), user.clone(), *at))
            .collect()
    }

    /// A client wants to attach to a session that has no keeper yet.
    pub(crate) fn want(&self, session: SessionId) {
        if let Some(wanted) = self.wanted.get() {
            let _ = wanted.send(Happened::Wanted(session));
        }
    }

    /// A gateway's client is at a session of this host, as long as what is given is kept; `may_idle`: the session ends when nothing passes.
    pub(crate) fn visit(&self, session: SessionId, client: IpAddr, may_idle: bool) -> Visit {
        let visit = Visit {
            session,
            happened: self.wanted.get().cloned(),
            last: may_idle.then(|| self.traffic.of(session)),
        };
        visit.tell(Event::Visited {
            session,
            client: client.to_canonical().to_string(),
            at: clock::calendar(),
            now: clock::steady(),
        });
        visit
    }

    /// No backend of a session without a keeper accepts.
    pub(crate) fn not_accepted(&self, session: SessionId, detail: &str) {
        if let Some(wanted) = self.wanted.get() {
            let _ = wanted.send(Happened::NotAccepted(session, detail.to_owned()));
        }
    }

    pub(super) fn warn(&self, warning: Option<String>) {
        if let Some(warning) = warning {
            let fresh = self
                .warnings
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(warning.clone());
            if fresh {
                tracing::warn!("{warning}");
            }
        }
    }

    pub(super) fn note_start(&self, app: &AppName, failed: bool) {
        let mut table = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed {
            table.insert(app.clone(), clock::calendar());
        } else {
            table.remove(app);
        }
    }

    /// Notes whether a user's sessions of an application have an account to run as here.
    pub(super) fn note_account(&self, app: &AppName, user: &UserName, lacks: bool) {
        let mut table = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        let whose = (app.clone(), user.clone());
        if !lacks {
            table.remove(&whose);
            return;
        }
        table.insert(whose, clock::calendar());
        while table.len() > LACKING {
            let oldest = table.iter().min_by_key(|(_, at)| **at);
            let Some(whose) = oldest.map(|(whose, _)| whose.clone()) else {
                return;
            };
            table.remove(&whose);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lacks_an_account_is_remembered_until_there_is_one_and_not_without_bounds() {
        let hosting = Hosting::default();
        let app: AppName = "shell".parse().unwrap();
        let user = |number: usize| -> UserName { format!("user{number}").parse().unwrap() };
        hosting.note_account(&app, &user(0), true);
        let lacking = hosting.lacking_accounts();
        assert!(matches!(&lacking[..], [(of, who, _)] if *of == app && *who == user(0)));
        assert!(hosting.failed_starts().is_empty(), "others have one");
        hosting.note_account(&app, &user(0), false);
        assert!(hosting.lacking_accounts().is_empty());
        for number in 0..LACKING + 10 {
            hosting.note_account(&app, &user(number), true);
        }
        assert_eq!(hosting.lacking_accounts().len(), LACKING);
    }
}
