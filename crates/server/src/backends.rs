//! Backends that run already behind this host, several for an application: each is connected to every now and then, and each session is
//! given one.
//!
//! What is up and who gets what `policy::backends` decides; here it is checked and remembered. Nothing of it is in the directory: another
//! host may reach what this one cannot. Which backend a session has, its keeper's spec tells again after a restart ([`Backends::hold`]).
//!
//! Always true: addresses with placeholders are not checked, because they are another one for each session, and count as up; checks
//! under way are at most [`AT_ONCE`]. Start at [`run`].

use crate::clock;
use crate::node::{Current, Node};
use model::{AppName, Application, Backend, EventKind, SessionId, Severity, UnixMillis, Weighted};
use policy::backends::{Candidate, Health, order};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use wire::control::BackendReport;

/// Checks that may be under way.
const AT_ONCE: usize = 64;
/// How long a check may take: as long as the time between two, within these limits.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// Backends of which others are told.
const REPORTED: usize = 128;
/// Changes are gathered this long before they are looked at.
const GATHER: Duration = Duration::from_millis(100);

/// How long a session that the directory does not have keeps its backend. After a restart its keeper is found before all of the log
/// is applied, and in another formation it is registered anew.
const UNKNOWN: Duration = Duration::from_mins(1);

/// How a session that has a backend stands in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It goes on here.
    Live,
    /// It has ended, or is elsewhere.
    Over,
    /// The directory does not have it, or not yet.
    Unknown,
}

/// What is known of backends here.
#[derive(Debug, Default)]
pub(crate) struct Backends(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// What is checked, by address.
    checked: BTreeMap<String, Checked>,
    /// Which address a session has.
    has: HashMap<SessionId, String>,
    /// How many sessions an address has.
    held: HashMap<String, u32>,
    /// Since when the directory does not have a session.
    unknown: HashMap<SessionId, Instant>,
}

#[derive(Debug)]
struct Checked {
    health: Health,
    /// Since when it is as it is.
    since: UnixMillis,
    /// What the last failure was, while there was no success since.
    trouble: Option<String>,
}

/// How a backend is on this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BackendState {
    /// Which, with its weight.
    pub(crate) backend: Weighted,
    /// Whether it is up, and since when; none: it is not checked here.
    pub(crate) up: Option<(bool, UnixMillis)>,
    /// What the last check met, if it failed.
    pub(crate) trouble: Option<String>,
    /// Sessions of this host that have it.
    pub(crate) sessions: u32,
}

/// A backend is as it was not before.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Turn {
    /// It is up again.
    Up,
    /// It is down, for this reason.
    Down(String),
}

/// No backend of an application is up here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no backend of {app} is up on server {server}: {detail}")]
pub(crate) struct AllDown {
    app: AppName,
    server: String,
    /// Each of them, since when it is down and why.
    detail: String,
}

impl Backends {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The backends of an application in the order in which a session is to try them; it is given the first.
    pub(crate) fn ordered(
        &self,
        session: SessionId,
        app: &Application,
        server: &str,
    ) -> Result<Vec<Backend>, AllDown> {
        if !app.is_balanced() {
            return Ok(app.backends.clone());
        }
        let mut table = self.table();
        let has = table.has.get(&session).and_then(|has| {
            let mut places = app.backends.iter();
            places.position(|backend| backend.to_string() == *has)
        });
        let candidates: Vec<Candidate> = app.weighted().map(|one| table.candidate(&one)).collect();
        let order = order(session, has, &candidates);
        let chosen: Vec<Backend> = order
            .into_iter()
            .filter_map(|place| app.backends.get(place).cloned())
            .collect();
        match chosen.first() {
            Some(first) => table.hold(session, first.to_string()),
            None => return Err(table.all_down(app, server)),
        }
        Ok(chosen)
    }

    /// A session has that backend.
    pub(crate) fn hold(&self, session: SessionId, backend: &Backend) {
        self.table().hold(session, backend.to_string());
    }

    /// Takes in what connecting to a backend met, by a check or for a client; what has changed by it.
    fn met(
        &self,
        backend: &Backend,
        met: Result<(), String>,
        rise: u32,
        fall: u32,
    ) -> Option<Turn> {
        let mut table = self.table();
        let checked = table.checked.get_mut(&backend.to_string())?;
        let changed = checked.health.observe(met.is_ok(), rise, fall);
        checked.trouble = met.err();
        if !changed {
            return None;
        }
        checked.since = clock::calendar();
        Some(match &checked.trouble {
            None => Turn::Up,
            Some(why) => Turn::Down(why.clone()),
        })
    }

    /// The backends that are checked here, for the others: those that are down first, as many as fit.
    pub(crate) fn reported(&self) -> Vec<BackendReport> {
        let table = self.table();
        let mut all: Vec<_> = table.checked.iter().collect();
        all.sort_by_key(|(_, checked)| checked.health.is_up());
        let report = |(address, checked): (&String, &Checked)| BackendReport {
            backend: address.clone(),
            up: checked.health.is_up(),
            since: checked.since,
            trouble: checked.trouble.clone(),
            sessions: table.held.get(address).copied().unwrap_or(0),
        };
        all.into_iter().take(REPORTED).map(report).collect()
    }

    /// How the backends of an application are here; empty where there is only one, or the command of a session.
    pub(crate) fn states(&self, app: &Application) -> Vec<BackendState> {
        if !app.is_balanced() {
            return Vec::new();
        }
        let table = self.table();
        let state = |backend: Weighted| {
            let address = backend.backend.to_string();
            let checked = table.checked.get(&address);
            BackendState {
                backend,
                up: checked.map(|checked| (checked.health.is_up(), checked.since)),
                trouble: checked.and_then(|checked| checked.trouble.clone()),
                sessions: table.held.get(&address).copied().unwrap_or(0),
            }
        };
        app.weighted().map(state).collect()
    }

    /// What is down here, in words.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let table = self.table();
        let down = table.checked.iter().filter(|(_, one)| !one.health.is_up());
        down.map(|(address, one)| format!("backend {}", one.words(address)))
            .collect()
    }

    /// Forgets addresses that are not wanted and sessions that are over, and knows what is new.
    fn keep(
        &self,
        wanted: &BTreeMap<String, Backend>,
        now: Instant,
        standing: impl Fn(SessionId) -> Standing,
    ) {
        let mut table = self.table();
        table
            .checked
            .retain(|address, _| wanted.contains_key(address));
        for address in wanted.keys() {
            let fresh = || Checked {
                health: Health::default(),
                since: clock::calendar(),
                trouble: None,
            };
            table.checked.entry(address.clone()).or_insert_with(fresh);
        }
        let all: Vec<SessionId> = table.has.keys().copied().collect();
        for session in all {
            let is_over = match standing(session) {
                Standing::Live => {
                    table.unknown.remove(&session);
                    false
                }
                Standing::Over => true,
                Standing::Unknown => {
                    let since = *table.unknown.entry(session).or_insert(now);
                    now.duration_since(since) >= UNKNOWN
                }
            };
            if is_over {
                table.release(session);
            }
        }
    }
}

impl Table {
    fn candidate(&self, backend: &Weighted) -> Candidate {
        let address = backend.backend.to_string();
        let checked = self.checked.get(&address);
        Candidate {
            weight: backend.weight,
            held: self.held.get(&address).copied().unwrap_or(0),
            up: checked.is_none_or(|checked| checked.health.is_up()),
        }
    }

    fn hold(&mut self, session: SessionId, address: String) {
        if self.has.get(&session) == Some(&address) {
            return;
        }
        self.release(session);
        *self.held.entry(address.clone()).or_default() += 1;
        self.has.insert(session, address);
    }

    fn release(&mut self, session: SessionId) {
        self.unknown.remove(&session);
        let Some(address) = self.has.remove(&session) else {
            return;
        };
        if let Some(held) = self.held.get_mut(&address) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&address);
            }
        }
    }

    fn all_down(&self, app: &Application, server: &str) -> AllDown {
        let words = app.weighted().map(|one| {
            let address = one.backend.to_string();
            match self.checked.get(&address) {
                Some(checked) if !checked.health.is_up() => checked.words(&address),
                _ => format!("{one} takes no new sessions"),
            }
        });
        AllDown {
            app: app.name.clone(),
            server: server.to_owned(),
            detail: words.collect::<Vec<_>>().join("; "),
        }
    }
}

impl Checked {
    fn words(&self, address: &str) -> String {
        let since = crate::api::bodies::rfc3339(self.since);
        let why = self.trouble.as_deref().unwrap_or("it accepts again");
        format!("{address} is down since {since}: {why}")
    }
}

/// Checks backends for as long as the server runs.
pub(crate) async fn run(node: Node) {
    let mut stop = node.stop();
    let mut changed = node.directory_changed();
    loop {
        changed.borrow_and_update();
        let directory = node.directory();
        let settings = directory.settings();
        let interval = settings.backend_check_interval();
        let next = Instant::now() + interval;
        let wanted = wanted(&node, &directory);
        let standing = |session| match directory.session(session) {
            Some(known) if known.is_live() && known.host == node.me() => Standing::Live,
            Some(_) => Standing::Over,
            None => Standing::Unknown,
        };
        node.0.backends.keep(&wanted, Instant::now(), standing);
        let idle = wanted.is_empty();
        let work = async {
            check(&node, wanted, interval).await;
            if idle {
                // A server that stops ends this otherwise.
                let _ = changed.changed().await;
                tokio::time::sleep(GATHER).await;
            } else {
                sleep_until(next).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.given() => return,
        }
    }
}

/// What is to be checked here, by address.
fn wanted(node: &Node, directory: &Current) -> BTreeMap<String, Backend> {
    let me = directory.server(node.me());
    let is_here =
        |app: &Application| me.is_some_and(|server| server.lacks_label(&app.hosts).is_none());
    let apps = directory
        .apps()
        .filter(|app| app.is_balanced() && is_here(app));
    apps.flat_map(|app| app.backends.iter())
        .map(|backend| (backend.to_string(), backend.clone()))
        .filter(|(address, _)| !address.contains('{'))
        .collect()
}

/// Connects to each once.
async fn check(node: &Node, wanted: BTreeMap<String, Backend>, interval: Duration) {
    let (least, most) = PATIENCE;
    let patience = interval.clamp(least, most);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut checks = JoinSet::new();
    for backend in wanted.into_values() {
        let (node, places) = (node.clone(), places.clone());
        checks.spawn(async move {
            // Nobody closes it.
            let _place = places.acquire().await;
            let met = host::accepts(&backend, patience).await;
            node.note_backend(&backend, met.map_err(|error| error.to_string()));
        });
    }
    while checks.join_next().await.is_some() {}
}

impl Node {
    /// Takes in what connecting to a backend met.
    pub(crate) fn note_backend(&self, backend: &Backend, met: Result<(), String>) {
        let directory = self.directory();
        let settings = directory.settings();
        let (rise, fall) = (settings.backend_rise(), settings.backend_fall());
        let turned = self.0.backends.met(backend, met, rise, fall);
        let (severity, mut fields) = match &turned {
            None => return,
            Some(Turn::Up) => {
                tracing::info!(%backend, "a backend is up again");
                (Severity::Info, vec![("state", "up".to_owned())])
            }
            Some(Turn::Down(why)) => {
                tracing::warn!(%backend, why, "a backend is down");
                let fields = vec![("state", "down".to_owned()), ("error", why.clone())];
                (Severity::Warning, fields)
            }
        };
        let apps = directory.apps().filter(|app| app.is_balanced());
        let apps = apps.filter(|app| app.backends.contains(backend));
        let apps: Vec<String> = apps.map(|app| app.name.to_string()).collect();
        fields.push(("apps", apps.join(" ")));
        let (kind, subject) = (EventKind::BackendReachability, backend.to_string());
        self.record(
            kind,
            severity,
            subject,
            fields.into_iter().collect(),
            Vec::new(),
        );
    }

    /// The application as a session is to have it: its backends in the order in which they are tried.
    pub(crate) fn balanced(
        &self,
        session: SessionId,
        app: &Application,
    ) -> Result<Application, AllDown> {
        let server = self.name().to_string();
        let backends = self.0.backends.ordered(session, app, &server)?;
        Ok(Application {
            backends,
            weights: Vec::new(),
            ..app.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(backends: &[&str]) -> Application {
        let mut app = Application::named("web".parse().unwrap());
        let read = |text: &&str| text.parse().unwrap();
        app.set_backends(backends.iter().map(read).collect());
        app
    }

    fn table(app: &Application) -> Backends {
        let backends = Backends::default();
        let wanted = app.backends.iter();
        let wanted = wanted.map(|backend| (backend.to_string(), backend.clone()));
        backends.keep(&wanted.collect(), Instant::now(), |_| Standing::Live);
        backends
    }

    fn session(number: u8) -> SessionId {
        SessionId::from_bytes([number; 10])
    }

    fn first(backends: &Backends, number: u8, app: &Application) -> String {
        let ordered = backends.ordered(session(number), app, "alpha").unwrap();
        ordered.first().unwrap().to_string()
    }

    fn shares(backends: &Backends, app: &Application) -> Vec<u32> {
        let states = backends.states(app);
        states.iter().map(|state| state.sessions).collect()
    }

    #[test]
    fn sessions_are_shared_kept_and_released() {
        let app = app(&["tcp:a:1,weight=3", "tcp:b:1"]);
        let backends = table(&app);
        let before: Vec<String> = (0..8)
            .map(|number| first(&backends, number, &app))
            .collect();
        assert_eq!(shares(&backends, &app), [6, 2]);
        let after: Vec<String> = (0..8)
            .map(|number| first(&backends, number, &app))
            .collect();
        assert_eq!(before, after, "each keeps what it has");
        assert_eq!(shares(&backends, &app), [6, 2]);
        let wanted = BTreeMap::from([("tcp:a:1".to_owned(), "tcp:a:1".parse().unwrap())]);
        backends.keep(&wanted, Instant::now(), |id| match id == session(0) {
            true => Standing::Live,
            false => Standing::Over,
        });
        assert_eq!(shares(&backends, &app).iter().sum::<u32>(), 1);
        assert_eq!(
            backends.states(&app)[1].up,
            None,
            "it is not checked any more"
        );
    }

    #[test]
    fn a_session_that_the_directory_does_not_have_yet_keeps_its_backend() {
        let app = app(&["tcp:a:1", "tcp:b:1"]);
        let backends = table(&app);
        let _first = first(&backends, 0, &app);
        let (wanted, now) = (BTreeMap::new(), Instant::now());
        let sum = || shares(&backends, &app).iter().sum::<u32>();
        let look = |at, standing| backends.keep(&wanted, now + at, |_| standing);
        look(Duration::ZERO, Standing::Unknown);
        look(UNKNOWN / 2, Standing::Live);
        // It was there in between.
        look(UNKNOWN, Standing::Unknown);
        assert_eq!(sum(), 1);
        look(UNKNOWN * 2, Standing::Unknown);
        assert_eq!(sum(), 0);
    }

    #[test]
    fn what_is_down_is_passed_over_and_said() {
        let app = app(&["tcp:a:1", "tcp:b:1"]);
        let backends = table(&app);
        let had = first(&backends, 1, &app);
        let refused = || Err("connection refused".to_owned());
        let met = |met| backends.met(&had.parse().unwrap(), met, 2, 3);
        let down = Turn::Down("connection refused".to_owned());
        assert_eq!(met(refused()), Some(down), "it was never up before");
        let other = first(&backends, 1, &app);
        assert_ne!(had, other);
        assert_eq!(backends.troubles().len(), 1);
        let reported = backends.reported();
        let ups: Vec<(&str, bool, u32)> = reported
            .iter()
            .map(|one| (one.backend.as_str(), one.up, one.sessions))
            .collect();
        assert_eq!(ups, [(had.as_str(), false, 0), (other.as_str(), true, 1)]);
        assert_eq!([met(Ok(())), met(Ok(()))], [None, Some(Turn::Up)]);
        assert_eq!(first(&backends, 1, &app), other, "it stays where it went");
        for address in ["tcp:a:1", "tcp:b:1"] {
            for _ in 0..3 {
                backends.met(&address.parse().unwrap(), refused(), 2, 3);
            }
        }
        let error = backends.ordered(session(1), &app, "alpha").unwrap_err();
        let told = error.to_string();
        for part in [
            "web",
            "alpha",
            "tcp:a:1 is down",
            "tcp:b:1 is down",
            "refused",
        ] {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn one_backend_and_launched_commands_are_as_they_were() {
        let one = app(&["tcp:a:1"]);
        let backends = Backends::default();
        assert_eq!(first(&backends, 1, &one), "tcp:a:1");
        let launched = Application {
            launch: Some("x".to_owned()),
            ..app(&["unix:{socket}", "tcp:a:{port}"])
        };
        let ordered = backends.ordered(session(1), &launched, "alpha");
        assert_eq!(ordered.unwrap(), launched.backends);
        assert!(backends.states(&launched).is_empty());
        // An address of each session's own is not known here, and tried.
        let own = app(&["unix:/run/{user}", "tcp:a:1,weight=0"]);
        assert_eq!(first(&backends, 2, &own), "unix:/run/{user}");
    }
}
