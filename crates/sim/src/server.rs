//! One simulated server: the replica, what it knows of the others, and what it tells them.
//!
//! Always true: it knows of the others only what came over the network. What it decides is in `duties` and `formations`, what
//! it tells is in `reporting`; start at [`Server`].

use crate::fixture::{nobody, number_of};
use crate::formations::{Known, Marks};
use crate::network::{Load, News, NoAnswer, Plug, Report};
use crate::planted::Planted;
use crate::scene::Scene;
use bytes::Bytes;
use model::{
    Author, Change, ChangeId, Command, Directory, IncarnationId, ResilienceMode, ServerId,
};
use policy::failback::Outlook;
use policy::formations::room;
use policy::office::caretaker_makes;
use policy::voting::Progress;
use policy::{Peer, View};
use replica::{Acting, Applied, LinkError, NotActing, ProposeError, Replica, State, Status};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use wire::control::{Answer, Request};

/// As in the daemon.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(3);
const ORDER: Duration = Duration::from_secs(5);

/// What is known of another server.
#[derive(Debug, Clone)]
pub(crate) struct Contact {
    pub(crate) heard: Duration,
    pub(crate) incarnation: IncarnationId,
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
    /// Whether it leads only to pass the role on.
    pub(crate) caretaker: bool,
    /// What becomes of the original primary, as the policy saw it last.
    pub(crate) outlook: Outlook,
    pub(crate) known: Known,
}

impl Inside {
    /// A member said which life of its log this is.
    pub(crate) fn note_incarnation(&mut self, server: ServerId, incarnation: IncarnationId) {
        if let Some(contact) = self.contacts.get_mut(&server) {
            contact.incarnation = incarnation;
        }
    }
}

/// A server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) me: ServerId,
    pub(crate) replica: Replica,
    pub(crate) plug: Arc<Plug>,
    pub(crate) scene: Scene,
    start: Instant,
    inside: Mutex<Inside>,
    pub(crate) marks: Marks,
    /// Told by `duties` when role, leader, term or members changed.
    pub(crate) role_changed: Notify,
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
            marks: Marks::default(),
            role_changed: Notify::new(),
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
        let caretaker = self.inside().caretaker && !caretaker_makes(&change.command);
        let acts = self.acts(&self.replica.acting()) && !caretaker;
        if !acts || self.structure_waits(change) {
            let primary = self.replica.leader();
            return Err(ProposeError::NotPrimary { primary });
        }
        let formation = self.replica.formation();
        let asked = change.command.is_user_change();
        if asked || !matches!(change.author, Author::Server(_)) {
            self.scene.with_seen(|seen| seen.asked_in(formation));
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

    /// Whether a change has to wait, because another formation is being taken in.
    fn structure_waits(&self, change: &Change) -> bool {
        let asked = !matches!(change.author, Author::Server(_));
        let structural = asked && change.command.is_structural();
        structural && (self.is_leaving() || room::taken_in(&self.side(), &self.sides()).is_some())
    }

    /// Asks another member something.
    pub(crate) async fn call(
        &self,
        to: ServerId,
        request: Request,
        limit: Duration,
    ) -> Result<Answer, NoAnswer> {
        self.plug.ask(to, request, limit).await
    }

    /// Answers a member.
    pub(crate) fn reply(
        &self,
        to: ServerId,
        answer: Answer,
        waits: oneshot::Sender<Result<Answer, NoAnswer>>,
    ) {
        self.plug.tell(to, Load::Reply(Box::new(Ok(answer)), waits));
    }

    /// The other members, as it knows them.
    pub(crate) fn others(&self) -> Vec<ServerId> {
        let state = self.replica.state();
        let mut all: Vec<ServerId> = match &state.directory {
            Some(directory) => directory.servers().map(|server| server.id).collect(),
            None => self.known.clone(),
        };
        all.retain(|id| *id != self.me);
        all
    }

    /// Whether a server has told how it is.
    pub(crate) fn has_report_of(&self, of: ServerId) -> bool {
        let inside = self.inside();
        let contact = inside.contacts.get(&of);
        contact.is_some_and(|contact| contact.report.is_some())
    }

    /// Whether a server was heard within the grace period.
    pub(crate) fn hears(&self, of: ServerId) -> bool {
        let state = self.replica.state();
        let grace = self.directory(&state).settings().grace_period();
        self.silence(of).is_some_and(|silent| silent <= grace)
    }

    /// Says for the transcript what it does.
    pub(crate) fn say(&self, words: String) {
        self.scene
            .tell(format!("server {} {words}", number_of(self.me)));
    }

    /// Its formation, for the transcript.
    pub(crate) fn formation_words(&self) -> String {
        let state = self.replica.state();
        let formation = self.directory(&state).group().formation.this;
        format!("formation {}", formation.number)
    }

    /// An id that was not given before, the same in every telling.
    pub(crate) fn fresh_id<T>(&self, make: impl FnOnce([u8; 16]) -> T) -> T {
        let mut bytes = [0xf0; 16];
        for (place, byte) in bytes
            .iter_mut()
            .zip(self.scene.fresh().to_be_bytes().iter().skip(4))
        {
            *place = *byte;
        }
        if let Some(last) = bytes.last_mut() {
            *last = number_of(self.me);
        }
        make(bytes)
    }

    pub(crate) fn silence(&self, of: ServerId) -> Option<Duration> {
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
                elsewhere: false,
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

    /// Who leads, as it hears now.
    pub(crate) fn leader_now(&self) -> Option<ServerId> {
        let leader = self.replica.leader()?;
        if leader == self.me {
            return Some(leader);
        }
        let state = self.replica.state();
        let grace = self.directory(&state).settings().grace_period();
        let heard = self.replica.last_heard()?;
        (heard.ago() <= grace).then_some(leader)
    }

    /// Asks something of the group as this server sees it.
    pub(crate) fn with_view<T>(&self, ask: impl FnOnce(&View<'_>) -> T) -> T {
        let (state, status) = (self.replica.state(), self.replica.status());
        let directory = self.directory(&state);
        let peers = self.seen(directory, &status);
        let counted = policy::view::counted(directory, &status.voters);
        ask(&View {
            directory,
            me: self.me,
            calendar: self.scene.calendar(self.me),
            leader: self.leader(directory.settings().grace_period(), &status),
            acting: self.acts(&status.acting),
            voters: &counted,
            joint: &status.joint,
            peers: &peers,
        })
    }

    /// Tells this server to become primary at once.
    pub(crate) fn order(&self) {
        let until = self.now() + ORDER;
        let state = self.replica.state();
        let mode = self.directory(&state).group().mode;
        let mut inside = self.inside();
        inside.ordered = Some(until);
        // Where the primary alone counts, there is nobody to elect another: this server goes on alone.
        if mode == ResilienceMode::Availability {
            inside.known.ordered = Some(until);
        }
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
