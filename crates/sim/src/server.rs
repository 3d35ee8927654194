//! One simulated server: the replica, what it knows of the others, and what it tells them.
//!
//! Always true: it knows of the others only what came over the network. What it decides is in `duties`; start at [`Server`]
//! and [`report`].

use crate::fixture::nobody;
use crate::network::{Load, News, Plug, Report};
use crate::planted::Planted;
use crate::scene::Scene;
use bytes::Bytes;
use model::{
    Author, Change, ChangeId, Command, Directory, IncarnationId, PauseChange, Registration,
    ServerId, SessionState,
};
use policy::timing::Turn;
use policy::voting::Progress;
use policy::{Peer, View};
use replica::{
    Acting, Applied, LinkError, NotActing, ProposeError, Replica, Role, State, Status, Timing,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// As in the daemon.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(3);
const PING: Duration = Duration::from_millis(100);
/// Every so many pings one carries a report.
const REPORTS: u32 = 10;
const ORDER: Duration = Duration::from_secs(5);

/// What is known of another server.
#[derive(Debug, Clone)]
pub(crate) struct Contact {
    pub(crate) heard: Duration,
    incarnation: IncarnationId,
    pub(crate) report: Option<(Report, i64)>,
    /// Whether the report was told to the policies.
    pub(crate) told: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Inside {
    pub(crate) contacts: BTreeMap<ServerId, Contact>,
    leaving: Option<ServerId>,
    pub(crate) ordered: Option<Duration>,
    /// The term in which it said that it is primary, while it is not a caretaker.
    pub(crate) office: Option<u64>,
}

/// A server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) me: ServerId,
    pub(crate) replica: Replica,
    plug: Arc<Plug>,
    pub(crate) scene: Scene,
    start: Instant,
    inside: Mutex<Inside>,
    pub(crate) before: Directory,
    /// The members as it was told when it joined.
    known: Vec<ServerId>,
}

impl Server {
    pub(crate) fn new(
        me: ServerId,
        replica: Replica,
        plug: Arc<Plug>,
        scene: Scene,
        start: (Instant, Duration),
        known: Vec<ServerId>,
    ) -> Self {
        Self {
            me,
            known,
            replica,
            plug,
            scene,
            start: start.0,
            inside: Mutex::default(),
            before: nobody(),
        }
    }

    pub(crate) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time on its steady clock.
    pub(crate) fn now(&self) -> Duration {
        Instant::now() - self.start + Duration::from_secs(1)
    }

    pub(crate) fn directory<'a>(&'a self, state: &'a State) -> &'a Directory {
        state.directory.as_ref().unwrap_or(&self.before)
    }

    /// Whether it acts as primary.
    pub(crate) fn acts(&self, acting: &Acting) -> bool {
        match acting {
            Acting::Yes { .. } => true,
            Acting::No(NotActing::NoQuorum { .. }) => self.scene.has(Planted::RoleAlone),
            Acting::No(_) => false,
        }
    }

    /// Whether it holds the office, and with it address and services.
    pub(crate) fn holds(&self, acting: &Acting, term: u64) -> bool {
        self.acts(acting) && self.inside().office == Some(term)
    }

    /// Another server's consensus asks something.
    pub(crate) fn asked(
        self: &Arc<Self>,
        from: ServerId,
        question: &Bytes,
        waits: oneshot::Sender<Result<Bytes, LinkError>>,
    ) {
        let state = self.replica.state();
        if self.directory(&state).removed(from).is_some() {
            return self.plug.answer(from, Err(LinkError::Unreachable), waits);
        }
        let answering = self.replica.handle(question);
        let plug = self.plug.clone();
        tokio::spawn(async move {
            if let Ok(bytes) = answering.await {
                plug.answer(from, Ok(bytes), waits);
            }
        });
    }

    /// Another server says something.
    pub(crate) fn heard(&self, from: ServerId, news: News) {
        let (heard, calendar) = (self.now(), self.scene.calendar(self.me));
        let mut inside = self.inside();
        let known = inside.contacts.remove(&from);
        let (report, told) = match news.report {
            Some(report) => {
                let ours = i64::try_from(calendar.0).unwrap_or(0);
                let offset = i64::try_from(report.at).unwrap_or(0) - ours;
                (Some((report, offset)), false)
            }
            None => known.map_or((None, true), |known| (known.report, known.told)),
        };
        let contact = Contact {
            heard,
            incarnation: news.incarnation,
            report,
            told,
        };
        inside.contacts.insert(from, contact);
    }

    /// Another server wants a change.
    pub(crate) fn wished(self: &Arc<Self>, change: Change) {
        let this = self.clone();
        tokio::spawn(async move {
            // Who wished asks again.
            drop(this.propose(&change, ATTEMPT).await);
        });
    }

    /// Proposes a change here, where this is the primary.
    pub(crate) async fn propose(
        &self,
        change: &Change,
        limit: Duration,
    ) -> Result<Applied, ProposeError> {
        if !self.acts(&self.replica.acting()) {
            let primary = self.replica.leader();
            return Err(ProposeError::NotPrimary { primary });
        }
        let change = Change {
            at: self.scene.calendar(self.me),
            ..change.clone()
        };
        self.replica.propose(&change, limit).await
    }

    /// A change that this server asks for by itself.
    pub(crate) fn change(&self, command: Command) -> Change {
        let mut id = [0xee; 16];
        for (place, byte) in id.iter_mut().zip(self.scene.fresh().to_le_bytes()) {
            *place = byte;
        }
        Change {
            id: ChangeId::from_bytes(id),
            at: self.scene.calendar(self.me),
            author: Author::Server(self.me),
            command,
        }
    }

    /// Has a change made, wherever the primary is; it may be lost on the way.
    pub(crate) fn wish(self: &Arc<Self>, command: Command) {
        let change = self.change(command);
        match self.replica.leader() {
            Some(leader) if leader != self.me => {
                self.plug.tell(leader, Load::Wish(Box::new(change)));
            }
            Some(_) => self.wished(change),
            None => {}
        }
    }

    fn silence(&self, of: ServerId) -> Option<Duration> {
        let now = self.now();
        let inside = self.inside();
        let contact = inside.contacts.get(&of)?;
        Some(now.saturating_sub(contact.heard))
    }

    /// What is known of the others.
    pub(crate) fn seen(&self, directory: &Directory, status: &Status) -> BTreeMap<ServerId, Peer> {
        let grace = directory.settings().grace_period();
        let newest = directory.group().number;
        let mut seen = BTreeMap::new();
        for server in directory.servers().filter(|server| server.id != self.me) {
            let silent_for = self.silence(server.id);
            let inside = self.inside();
            let known = inside.contacts.get(&server.id);
            let report = known.and_then(|known| known.report.as_ref());
            let matched = status.progress.get(&server.id).and_then(|it| it.matched);
            let reported = report.map(|(report, _)| newest.saturating_sub(report.applied));
            let peer = Peer {
                reachable: silent_for.is_some_and(|silent| silent <= grace),
                silent_for,
                lag: matched.map_or(reported, |it| Some(status.last_entry.saturating_sub(it))),
                clock_offset_ms: report.map(|(_, offset)| *offset),
            };
            seen.insert(server.id, peer);
        }
        seen
    }

    pub(crate) fn progress(
        &self,
        grace: Duration,
        status: &Status,
    ) -> BTreeMap<ServerId, Progress> {
        let incarnation = |of: &ServerId| {
            let inside = self.inside();
            inside.contacts.get(of).map(|contact| contact.incarnation)
        };
        let progress = |(of, progress): (&ServerId, &replica::Progress)| {
            let matched = progress.matched;
            let progress = Progress {
                healthy: progress.heard.is_some_and(|heard| heard.ago() <= grace),
                lag: matched.map(|it| status.last_entry.saturating_sub(it)),
                incarnation: incarnation(of),
            };
            (*of, progress)
        };
        status.progress.iter().map(progress).collect()
    }

    pub(crate) fn leader(&self, grace: Duration, status: &Status) -> Option<ServerId> {
        let leader = status.leader?;
        let heard = || status.last_heard.is_some_and(|it| it.ago() <= grace);
        (leader == self.me || heard()).then_some(leader)
    }

    /// Asks something of the group as this server sees it.
    pub(crate) fn with_view<T>(&self, ask: impl FnOnce(&View<'_>) -> T) -> T {
        let (state, status) = (self.replica.state(), self.replica.status());
        let directory = self.directory(&state);
        let peers = self.seen(directory, &status);
        ask(&View {
            directory,
            me: self.me,
            leader: self.leader(directory.settings().grace_period(), &status),
            acting: self.acts(&status.acting),
            voters: &status.voters,
            peers: &peers,
        })
    }

    /// Tells this server to become primary at once.
    pub(crate) fn order(&self) {
        self.inside().ordered = Some(self.now() + ORDER);
    }

    /// Says who is being removed.
    pub(crate) fn set_leaving(&self, server: Option<ServerId>) {
        self.inside().leaving = server;
    }

    /// The server that is being removed.
    pub(crate) fn leaving(&self) -> Option<ServerId> {
        self.inside().leaving
    }
}

/// Tells the others every interval that it is there, and every second how it is.
pub(crate) async fn report(server: Arc<Server>) {
    let mut count = 0;
    loop {
        let state = server.replica.state();
        let directory = server.directory(&state);
        let reports = count % REPORTS == 0;
        let report = reports.then(|| server.own_report(directory));
        let members: Vec<ServerId> = match &state.directory {
            Some(directory) => directory.servers().map(|server| server.id).collect(),
            None => server.known.clone(),
        };
        for other in members.into_iter().filter(|other| *other != server.me) {
            let news = News {
                incarnation: server.replica.incarnation(),
                report: report.clone(),
            };
            server.plug.tell(other, Load::News(news));
        }
        if reports {
            server.introduce(directory);
            server.register_sessions(directory, state.applied);
            server.end_pause(directory);
            server.keep_timing(directory).await;
        }
        count += 1;
        sleep(PING).await;
    }
}

impl Server {
    fn own_report(&self, directory: &Directory) -> Report {
        let grace = directory.settings().grace_period();
        let others = directory.servers().map(|server| server.id);
        let hears: BTreeSet<ServerId> = others
            .filter(|id| self.silence(*id).is_some_and(|silent| silent <= grace))
            .collect();
        Report {
            applied: directory.group().number,
            at: self.scene.calendar(self.me).0,
            lease: self
                .replica
                .timing()
                .map_or(Duration::ZERO, |it| it.lease()),
            hears,
        }
    }

    /// Says what it is, where the directory does not say so.
    fn introduce(self: &Arc<Self>, directory: &Directory) {
        let Some(record) = directory.server(self.me) else {
            return;
        };
        let incarnation = self.replica.incarnation();
        if record.started && record.incarnation == incarnation {
            return;
        }
        self.wish(Command::ReportServer {
            server: self.me,
            version: record.version.clone(),
            feature_level: record.feature_level,
            incarnation,
            certificate_expires: record.certificate_expires,
            peer_address: record.peer_address.clone(),
            client_address: record.client_address.clone(),
        });
    }

    /// Its sessions are there, whatever the directory says: they outlive its process.
    fn register_sessions(self: &Arc<Self>, directory: &Directory, applied: u64) {
        let here: Vec<_> = directory
            .sessions_on(self.me)
            .filter(|session| session.is_live())
            .collect();
        let orphaned = |session: &&&Arc<model::Session>| session.state == SessionState::Orphaned;
        if here.iter().filter(orphaned).count() == 0 {
            return;
        }
        let sessions = here.iter().map(|session| Registration {
            session: session.id,
            token: session.token.clone(),
            user: session.user.clone(),
            app: session.app.clone(),
            created: session.created,
            client: None,
            last_attached: session.last_attached,
        });
        self.wish(Command::RegisterSessions {
            host: self.me,
            sessions: sessions.collect(),
            complete_to: Some(applied),
        });
    }

    fn end_pause(self: &Arc<Self>, directory: &Directory) {
        let group = directory.group();
        let over = group.pause.is_some() && group.pause_at(self.scene.calendar(self.me)).is_none();
        if over && self.acts(&self.replica.acting()) {
            self.wish(Command::ChangePause {
                change: PauseChange::RunOut,
            });
        }
    }

    /// Takes up the times that the settings ask for, when it is this server's turn.
    async fn keep_timing(&self, directory: &Directory) {
        let settings = directory.settings();
        let wanted = Timing::new(settings.monitor_interval(), settings.grace_period());
        let (Ok(wanted), Some(now)) = (wanted, self.replica.timing()) else {
            return;
        };
        if directory.server(self.me).is_none() || now == wanted {
            return;
        }
        let status = self.replica.status();
        let turn = Turn {
            me: self.me,
            leads: status.role == Role::Leader,
            leader: status.leader,
            voters: &status.voters,
        };
        let leases: BTreeMap<ServerId, Duration> = {
            let inside = self.inside();
            let reported = |(id, contact): (&ServerId, &Contact)| {
                let (report, _) = contact.report.as_ref()?;
                Some((*id, report.lease))
            };
            inside.contacts.iter().filter_map(reported).collect()
        };
        let lease_of = |id| leases.get(&id).copied();
        if turn.has_come(lease_of, now.lease(), wanted.lease()) {
            // Consensus runs again with either times, or `Alive` finds that it does not.
            drop(self.replica.set_timing(wanted).await);
        }
    }
}
