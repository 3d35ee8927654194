//! Failed logins of the whole group: each server reports what failed at it lately, and the primary locks accounts.
//!
//! Always true: what strangers do is soft state; only a lock is a change, one for each time that an account is locked. Every
//! server adds up the reports by itself, so an account waits everywhere before the lock is in the directory, and a name that no
//! account has waits just as long. A primary that takes over finds the lock there.

use crate::clock;
use crate::login::{Attempt, LoginError};
use crate::node::{Consistency, Node};
use model::{Command, Directory, Origin, UnixMillis, User, UserName};
use policy::logins::{Known, Limits, Lock, Place};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wire::client::Hidden;
use wire::control::FailedLogins;

/// The most names in one report; those of accounts come first, then those that failed most often.
const REPORTED: usize = 64;
/// How long a server that may be behind tries to catch up before it refuses what it does not know.
const CATCH_UP: Duration = Duration::from_secs(3);
const CATCH_UP_PAUSE: Duration = Duration::from_millis(50);
/// The most sessions of a user that are looked at for where their clients are.
const SESSIONS: usize = 256;
/// The most characters that are counted of a name that no account can have.
const NAME_LIMIT: usize = 128;

/// Proposes the locks that are due.
#[derive(Debug, Default)]
pub(crate) struct Lockouts {
    proposed: Arc<Mutex<BTreeSet<UserName>>>,
}

impl Lockouts {
    /// Looks whether an account is to be locked; only an acting primary does something.
    pub(crate) fn look(&mut self, node: &Node) {
        if !node.acting() {
            return;
        }
        let directory = node.directory();
        for (name, failures) in due(node, &directory) {
            let mut proposed = self.proposed.lock().unwrap_or_else(PoisonError::into_inner);
            if !proposed.insert(name.clone()) {
                continue;
            }
            let (node, proposed) = (node.clone(), self.proposed.clone());
            tokio::spawn(async move {
                let command = Command::LockUser {
                    name: name.clone(),
                    failures,
                };
                if let Err(error) = node.submit(None, node.author(), command).await {
                    tracing::warn!(%error, account = %name, "an account is not locked in the directory; it is tried again");
                }
                proposed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&name);
            });
        }
    }
}

/// Accounts of which too many logins failed and that are not locked, and how many did.
fn due(node: &Node, directory: &Directory) -> Vec<(UserName, u32)> {
    let limits = limits(directory);
    let (now, calendar) = (clock::steady(), clock::calendar());
    let here = node.logins().lately(limits, now);
    let here = here.into_iter().filter_map(|(name, ..)| name.parse().ok());
    let reports = node.0.reports.all();
    let elsewhere = reports.values().flat_map(|known| {
        let failed = known.report.failed_logins.iter();
        failed.map(|failed| failed.name.clone())
    });
    let names: BTreeSet<UserName> = here.chain(elsewhere).collect();
    let due = names.into_iter().filter_map(|name| {
        let user = directory.user(&name)?;
        if user.locked_until(calendar).is_some() {
            return None;
        }
        let known = node.known(name.as_str(), Some(user));
        let failures = node.logins().failures_of(name.as_str(), &known, limits);
        (failures >= limits.attempts).then_some((name, failures))
    });
    due.collect()
}

/// What failed here lately, for a report.
pub(crate) fn reported(node: &Node, directory: &Directory) -> Vec<FailedLogins> {
    let now = clock::steady();
    let failed = node.logins().lately(limits(directory), now);
    let named = failed.into_iter().filter_map(|(name, failures, last)| {
        Some(FailedLogins {
            name: name.parse().ok()?,
            failures,
            ago_ms: millis(now.saturating_sub(last)),
        })
    });
    let mut failed: Vec<FailedLogins> = named.collect();
    failed.sort_by_cached_key(|one| {
        let is_account = directory.user(&one.name).is_some();
        (!is_account, std::cmp::Reverse(one.failures))
    });
    failed.truncate(REPORTED);
    failed
}

fn limits(directory: &Directory) -> Limits {
    let settings = directory.settings();
    Limits {
        attempts: settings.lockout_attempts(),
        from_place: settings.address_attempts(),
        time: settings.lockout_time(),
    }
}

/// A time of the calendar on the steady clock; those before it began are its beginning.
fn steady_at(at: UnixMillis, now: Duration, calendar: UnixMillis) -> Duration {
    match at < calendar {
        true => now.saturating_sub(calendar.since(at)),
        false => now.saturating_add(at.since(calendar)),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Node {
    /// Checks a password against this server's replica, in the pool; `who` says whose it is to be, as the directory then is,
    /// and `said` what was said of him. What is wrong is looked at again once this server has caught up: the account or its new
    /// password may be younger than its replica.
    ///
    /// # Errors
    /// Wrong, locked or busy; or this server is behind.
    pub(crate) async fn check_password(
        &self,
        who: impl Fn(&Directory) -> Option<UserName> + Sync,
        said: &str,
        password: &Hidden,
        from: SocketAddr,
    ) -> Result<Arc<User>, LoginError> {
        let before = self.directory();
        let found = who(&before).and_then(|name| before.user(&name).cloned());
        let checked = self.try_password(&who, said, password, from).await;
        if !matches!(checked, Err(LoginError::Wrong)) || self.acting() {
            return checked;
        }
        let caught_up = async {
            while self.catch_up(Consistency::Linearizable).await.is_err() {
                tokio::time::sleep(CATCH_UP_PAUSE).await;
            }
        };
        if tokio::time::timeout(CATCH_UP, caught_up).await.is_err() {
            let name = counted_as(who(&before).as_ref(), said);
            let attempt = attempt(&name, found.as_ref(), password, from.ip(), &before);
            self.logins().answered_behind(&attempt);
            let detail = self.missing();
            return Err(LoginError::Behind { detail });
        }
        let now = self.directory();
        let same = |one: &User, other: &User| {
            one.password == other.password && one.disabled == other.disabled
        };
        let is_news = match (&found, who(&now).and_then(|name| now.user(&name).cloned())) {
            (Some(before), Some(now)) => before.name != now.name || !same(before, &now),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        match is_news {
            true => self.try_password(&who, said, password, from).await,
            false => checked,
        }
    }

    async fn try_password(
        &self,
        who: &(impl Fn(&Directory) -> Option<UserName> + Sync),
        said: &str,
        password: &Hidden,
        from: SocketAddr,
    ) -> Result<Arc<User>, LoginError> {
        let directory = self.directory();
        let named = who(&directory);
        let user = named.as_ref().and_then(|name| directory.user(name));
        let name = counted_as(named.as_ref(), said);
        let is_here = || {
            let place = from.ip().into();
            user.is_some_and(|user| has_client_at(&directory, &user.name, place))
        };
        let attempt = Attempt {
            is_here: &is_here,
            ..attempt(&name, user, password, from.ip(), &directory)
        };
        let known = || {
            let directory = self.directory();
            let user = named.as_ref().and_then(|name| directory.user(name));
            self.known(&name, user)
        };
        let users = directory.settings().authenticate().origin();
        let by = user.map_or(users, |user| directory.authenticated_by(user));
        if by != Origin::Directory {
            let named = named.as_ref();
            return Box::pin(self.check_elsewhere(&attempt, named, known, from)).await;
        }
        let checked = self.logins().check(attempt, known).await;
        if users != Origin::Directory && checked == Err(LoginError::Wrong) {
            self.ask_for_nobody(&attempt, from).await?;
        }
        checked
    }

    /// What is known of a name besides the logins that failed here.
    fn known(&self, name: &str, user: Option<&Arc<User>>) -> Known {
        let (now, calendar) = (clock::steady(), clock::calendar());
        let lock = user.and_then(|user| user.lock).map(|lock| Lock {
            since: steady_at(lock.since, now, calendar),
            until: steady_at(lock.until, now, calendar),
            lifted: lock.lifted,
        });
        let reports = self.0.reports.all();
        let others = reports.iter().filter(|(server, _)| **server != self.me());
        let elsewhere = others.flat_map(|(_, known)| {
            let failed = known.report.failed_logins.iter();
            let its = failed.filter(|failed| failed.name.as_str() == name);
            its.map(|failed| {
                let ago = Duration::from_millis(failed.ago_ms);
                (failed.failures, known.learnt.saturating_sub(ago))
            })
        });
        Known {
            lock,
            elsewhere: elsewhere.collect(),
            is_here: false,
        }
    }
}

/// What failures are counted under: a name that an account can have, or something that none can.
fn counted_as(named: Option<&UserName>, said: &str) -> String {
    let unnamed = || format!("?{}", said.chars().take(NAME_LIMIT).collect::<String>());
    named.map_or_else(unnamed, ToString::to_string)
}

fn attempt<'a>(
    name: &'a str,
    user: Option<&'a Arc<User>>,
    password: &'a Hidden,
    from: IpAddr,
    directory: &Directory,
) -> Attempt<'a> {
    Attempt {
        name,
        user,
        password,
        place: from.into(),
        limits: limits(directory),
        is_here: &|| false,
    }
}

/// Whether a client of the user's sessions is there, or was last. Gateways' clients do not count: they have not logged in.
fn has_client_at(directory: &Directory, user: &UserName, place: Place) -> bool {
    let sessions = directory.sessions_of_user(user).take(SESSIONS);
    let logged_in = sessions.filter(|session| {
        let mut gateways = directory.gateways();
        !gateways.any(|gateway| gateway.app == session.app)
    });
    logged_in
        .filter_map(|session| session.client_address())
        .any(|client| Place::from(client) == place)
}
