//! What a server does by itself: one loop that turns everything that can happen into an event, asks the policies, and
//! carries their actions out.
//!
//! The loop never waits for an action: each runs in a task of its own and comes back as a wake-up. Decisions are made in
//! `policy`; nothing here decides.

use crate::clock;
use crate::node::Node;
use crate::office::{self, NotTaken, Won};
use crate::peers::Contact;
use model::{Command, Directory, EventKind, FormationId, Reason, ServerId, Severity};
use policy::campaign;
use policy::failback::Return;
use policy::formations::own::followers;
use policy::liveness::{self, Allowance, Liveness};
use policy::office::{Look, Office};
use policy::voting::{Membership, Step};
use replica::{Role, Status};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// How often what was heard of the others is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Changes of the directory are gathered this long before it is looked at: there may be thousands a second.
const GATHER: Duration = Duration::from_millis(20);
/// The pause before an office that could not be taken is tried again.
const OFFICE_PAUSE: Duration = Duration::from_millis(250);
/// How often the log says so.
const COMPLAIN_AGAIN: Duration = Duration::from_secs(60);
/// How long a change of the members may take.
const MEMBERS_LIMIT: Duration = Duration::from_secs(5);

/// Everything that can wake a server up.
#[derive(Debug)]
enum Wakeup {
    /// Something about consensus changed: role, leader, term, members.
    Consensus,
    /// The directory changed.
    Directory,
    /// A member is reached, or no longer.
    Contact,
    /// Something came due, or it is time to look who was heard.
    Time,
    /// A step of the members was carried out, or not.
    MembersDone,
    /// This server said that it is primary.
    TookOffice(Won),
    /// It could not say so.
    NoOffice(NotTaken),
    /// The server stops.
    Stop,
}

/// The policies and what they were last told.
struct Duties {
    node: Node,
    office: Office,
    liveness: Liveness,
    /// When the log last said why this server cannot say that it is primary.
    complained: Option<Duration>,
    /// The formation that the policies are about.
    formation: FormationId,
    /// Whether consensus did not run at the last look: then nothing is asked of the office.
    stopped: bool,
    /// The members that were reachable at the last look.
    reachable: BTreeMap<ServerId, bool>,
    /// When the newest report of each server was learnt that the policies know.
    reported: BTreeMap<ServerId, Duration>,
    done: mpsc::UnboundedSender<Wakeup>,
}

/// Runs until the server stops.
pub async fn run(node: Node) {
    let (done, mut outcomes) = mpsc::unbounded_channel();
    let mut duties = Duties::new(node.clone(), done);
    let mut consensus = node.replica().role_changed();
    let mut directory = node.directory_changed();
    let mut contacts = node.0.peers.changed();
    let mut stop = node.stop();
    let mut gathered = Duration::ZERO;
    loop {
        let now = clock::steady();
        let gathering = gathered.saturating_sub(now);
        let mut due = duties.due().saturating_sub(now).min(LOOK);
        if !gathering.is_zero() {
            due = due.min(gathering);
        }
        let wakeup = tokio::select! {
            biased;
            () = stop.given() => Wakeup::Stop,
            Ok(()) = consensus.changed() => Wakeup::Consensus,
            Some(outcome) = outcomes.recv() => outcome,
            Ok(()) = contacts.changed() => Wakeup::Contact,
            Ok(()) = directory.changed(), if gathering.is_zero() => Wakeup::Directory,
            () = sleep(due) => Wakeup::Time,
        };
        match wakeup {
            Wakeup::Stop => return,
            Wakeup::Directory => gathered = clock::steady() + GATHER,
            _ => {}
        }
        duties.handle(wakeup, clock::steady());
    }
}

impl Duties {
    fn new(node: Node, done: mpsc::UnboundedSender<Wakeup>) -> Self {
        let directory = node.directory();
        let status = node.replica().status();
        let (now, members) = (clock::steady(), members(&status));
        Self {
            office: Office::new(&look(&node, &directory, &status, &members, now), now),
            liveness: Liveness::new(Allowance::of(directory.settings())),
            complained: None,
            formation: node.replica().formation(),
            stopped: false,
            reachable: BTreeMap::new(),
            reported: BTreeMap::new(),
            done,
            node,
        }
    }

    fn due(&self) -> Duration {
        let office = (!self.stopped).then(|| self.office.poll_timeout());
        let due = [office.flatten(), self.liveness.poll_timeout()];
        due.into_iter().flatten().min().unwrap_or(Duration::MAX)
    }

    fn handle(&mut self, wakeup: Wakeup, now: Duration) {
        match wakeup {
            Wakeup::MembersDone => self.office.members_done(),
            Wakeup::TookOffice(won) => self.office.took(won.term),
            Wakeup::NoOffice(why) => {
                self.office.not_taken();
                self.complain(&why, now);
            }
            _ => {}
        }
        let status = self.node.replica().status();
        let directory = self.node.directory();
        let members = members(&status);
        let look = look(&self.node, &directory, &status, &members, now);
        let formation = self.node.replica().formation();
        if formation != self.formation {
            // Terms of one formation mean nothing in another.
            self.formation = formation;
            self.office = Office::new(&look, now);
        }
        self.follow_closely(&directory, &status);
        // While the formation changes, consensus does not run.
        self.stopped = status.role == Role::Stopped;
        if !self.stopped {
            self.stand(&look, now);
            let caretaker = self.office.is_caretaker();
            self.node.0.caretaker.store(caretaker, Ordering::Release);
            self.take_office(&look, now);
            self.give_back(&look, now);
        }
        self.watch_hosts(&status, now);
        self.tell_who_is_reached(&status);
        self.arrange_members(&look, &status, now);
    }

    /// Says who must have a change before it is acknowledged.
    fn follow_closely(&self, directory: &Directory, status: &Status) {
        let followers = followers(directory, &status.voters, self.node.me());
        self.node.replica().set_followers(followers);
    }

    /// Whether to step forward as primary, or to hand over.
    fn stand(&mut self, look: &Look<'_>, now: Duration) {
        let ordered = self.node.take_order();
        let seen = || self.node.seen();
        for action in self.office.stand(look, seen, ordered, now) {
            self.execute(action);
        }
    }

    fn execute(&self, action: campaign::Action) {
        let node = self.node.clone();
        match action {
            campaign::Action::Campaign { attempt, reasons } => {
                tracing::info!(attempt, ?reasons, "this server steps forward as primary");
                tokio::spawn(async move {
                    if let Err(refused) = node.replica().campaign().await {
                        tracing::debug!(%refused, "this server does not campaign");
                    }
                });
            }
            campaign::Action::TransferTo { server, reasons } => {
                tracing::info!(%server, ?reasons, "this server passes the role of primary on");
                tokio::spawn(async move {
                    if let Err(error) = node
                        .replica()
                        .transfer_to(server, office::TRANSFER_LIMIT)
                        .await
                    {
                        tracing::warn!(%server, %error, "the role of primary was not passed on");
                    }
                });
            }
        }
    }

    /// A new primary's first change says that it is.
    fn take_office(&mut self, look: &Look<'_>, now: Duration) {
        let Some(taking) = self.office.take(look, now) else {
            return;
        };
        let (node, done) = (self.node.clone(), self.done.clone());
        tokio::spawn(async move {
            let taken = office::take(&node, taking).await;
            if taken.is_err() {
                sleep(OFFICE_PAUSE).await;
            }
            let _ = done.send(taken.map_or_else(Wakeup::NoOffice, Wakeup::TookOffice));
        });
    }

    /// Whether the office goes back to the original primary.
    fn give_back(&mut self, look: &Look<'_>, now: Duration) {
        let seen = || self.node.seen();
        let back = self.office.give_back(look, seen, now);
        self.node.set_outlook(self.office.outlook().clone());
        if let Some(Return { server, reasons }) = back {
            self.execute(campaign::Action::TransferTo { server, reasons });
        }
    }

    /// Says in the log why this server cannot take its office, but not each time: the disk may be full.
    fn complain(&mut self, why: &NotTaken, now: Duration) {
        let said = self.complained.is_some_and(|at| now < at + COMPLAIN_AGAIN);
        if let (NotTaken::Refused(error), false) = (why, said) {
            tracing::warn!(%error, "this server could not say that it is primary; it is tried again");
            self.complained = Some(now);
        }
    }

    /// Whether hosts are gone.
    fn watch_hosts(&mut self, status: &Status, now: Duration) {
        let directory = self.node.directory();
        let me = self.node.me();
        // All members are watched all the time: whoever gets its first session now was heard long before.
        let hosts: BTreeMap<ServerId, String> = directory
            .servers()
            .filter(|server| server.id != me)
            .map(|server| (server.id, server.name.to_string()))
            .collect();
        let ids: Vec<ServerId> = hosts.keys().copied().collect();
        let mut events = vec![
            liveness::Event::Allowance(Allowance::of(directory.settings())),
            liveness::Event::Hosts(hosts),
        ];
        for host in ids {
            if let Some(silent) = self.node.0.peers.silent_for(host) {
                events.push(liveness::Event::Heard {
                    host,
                    at: now.saturating_sub(silent),
                });
            }
            if self.node.0.peers.contact(host) == Contact::Refuses {
                events.push(liveness::Event::Refused { host, at: now });
            }
        }
        events.extend(self.new_reports());
        events.push(liveness::Event::Acting(status.acting.is_yes()));
        for event in events {
            self.liveness.handle(event, now);
        }
        for give_up in self.liveness.handle_timeout(now) {
            if liveness::has_reachable_sessions(&directory, give_up.host) {
                self.give_up(give_up);
            }
        }
    }

    /// Reports that came since the last look: a host that another server hears is not gone.
    fn new_reports(&mut self) -> Vec<liveness::Event> {
        let mut events = Vec::new();
        for (from, known) in self.node.0.reports.all() {
            if self.reported.insert(from, known.learnt) != Some(known.learnt) {
                let hears = known.report.hears.iter().copied().collect();
                events.push(liveness::Event::Report { from, hears });
            }
        }
        events
    }

    fn give_up(&self, give_up: liveness::GiveUp) {
        let node = self.node.clone();
        let host = node.directory().name_of(give_up.host);
        tracing::warn!(%host, reasons = ?give_up.reasons, "a host is not reached: its sessions are orphaned");
        let command = Command::OrphanSessions {
            host: give_up.host,
            reasons: give_up.reasons,
        };
        tokio::spawn(async move {
            if let Err(error) = node.submit(None, node.author(), command).await {
                tracing::warn!(%host, %error, "its sessions were not declared orphaned");
            }
        });
    }

    /// The primary says in the journal whom it no longer hears, or hears again.
    fn tell_who_is_reached(&mut self, status: &Status) {
        let heard = self.node.heard();
        self.reachable
            .retain(|server, _| heard.contains_key(server));
        for (server, heard) in heard {
            let before = self.reachable.insert(server, heard.reachable);
            if !status.acting.is_yes() || before.is_none_or(|before| before == heard.reachable) {
                continue;
            }
            let name = self.node.directory().name_of(server);
            let severity = if heard.reachable {
                Severity::Info
            } else {
                Severity::Warning
            };
            let silent = heard
                .last_seen_ms
                .map_or_else(|| "ever".to_owned(), |ms| format!("{ms} ms"));
            let detail = if heard.reachable {
                format!("{name} is heard again")
            } else {
                format!("{name} was not heard for {silent}")
            };
            let reason = Reason {
                rule: "reachable".to_owned(),
                pass: heard.reachable,
                detail,
            };
            let fields = [("reachable", heard.reachable.to_string())];
            self.node.record(
                EventKind::ServerReachability,
                severity,
                name,
                fields.into_iter().collect(),
                vec![reason],
            );
        }
    }

    /// Brings the members of consensus to what the directory says, one step at a time.
    fn arrange_members(&mut self, look: &Look<'_>, status: &Status, now: Duration) {
        let progress = || self.node.progress(status);
        let leaving = self.node.leaving();
        let Some(step) = self.office.arrange(look, progress, leaving, now) else {
            return;
        };
        tracing::info!(?step, "a step towards the members that the directory names");
        let (node, done) = (self.node.clone(), self.done.clone());
        tokio::spawn(async move {
            if let Err(error) = carry_out(&node, step).await {
                tracing::warn!(%error, "the members were not changed; it is tried again");
                sleep(LOOK * 4).await;
            }
            let _ = done.send(Wakeup::MembersDone);
        });
    }
}

/// Who takes part in consensus, in the words of the policies.
fn members(status: &Status) -> Membership {
    Membership {
        voters: status.voters.clone(),
        learners: status.learners.clone(),
        changing: status.members_changing,
    }
}

/// What this server sees at this moment, in the words of the policies.
fn look<'a>(
    node: &Node,
    directory: &'a Directory,
    status: &Status,
    consensus: &'a Membership,
    now: Duration,
) -> Look<'a> {
    let me = node.me();
    let heard = status
        .leader
        .filter(|leader| *leader != me)
        .zip(status.last_heard);
    Look {
        me,
        directory,
        calendar: clock::calendar(),
        term: status.term,
        leads: status.leader == Some(me) && status.role == Role::Leader,
        acting: status.acting.is_yes(),
        leader: node.leader(),
        heard: heard.map(|(leader, heard)| (leader, now.saturating_sub(heard.ago()))),
        consensus,
        current: status.applied_term == status.term,
    }
}

/// Why a step of the members was not carried out.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Members(#[from] replica::MembersError),
    #[error(transparent)]
    Submit(#[from] crate::submit::SubmitError),
}

async fn carry_out(node: &Node, step: Step) -> Result<(), StepError> {
    let replica = node.replica();
    match step {
        Step::AddLearner(server) => replica.add_learner(server, MEMBERS_LIMIT).await?,
        Step::RemoveMember(server) => replica.remove(server, MEMBERS_LIMIT).await?,
        Step::SetVoters(voters) => replica.set_voters(voters, MEMBERS_LIMIT).await?,
        Step::RecordVoting { server, voting } => {
            node.submit(None, node.author(), Command::SetVoting { server, voting })
                .await?;
        }
    }
    Ok(())
}
