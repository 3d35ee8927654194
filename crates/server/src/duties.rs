//! What a server does by itself: one loop that turns everything that can happen into an event, asks the policies, and
//! carries their actions out.
//!
//! The loop never waits for an action: each runs in a task of its own and comes back as a wake-up. Decisions are made in
//! `policy`; nothing here decides.

use crate::clock;
use crate::node::Node;
use crate::office::{self, NotTaken, Won};
use crate::peers::Contact;
use model::{Command, EventKind, Reason, ServerId, Severity};
use policy::campaign::{self, Campaign};
use policy::failback::{self, Failback, Outlook, Return};
use policy::liveness::{self, Allowance, Liveness};
use policy::voting::{self, Step, Voting};
use replica::Status;
use std::collections::BTreeMap;
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
    campaign: Campaign,
    liveness: Liveness,
    voting: Voting,
    failback: Failback,
    leading: bool,
    taking_office: bool,
    /// The term in which this server said that it is primary.
    office: Option<u64>,
    /// When the log last said why it cannot.
    complained: Option<Duration>,
    changing_members: bool,
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
        let facts = campaign::Facts::of(&directory, &status.voters, clock::calendar());
        Self {
            campaign: Campaign::new(node.me(), facts, clock::steady()),
            liveness: Liveness::new(Allowance::of(directory.settings())),
            voting: Voting::new(),
            failback: Failback::default(),
            leading: false,
            taking_office: false,
            office: None,
            complained: None,
            changing_members: false,
            reachable: BTreeMap::new(),
            reported: BTreeMap::new(),
            done,
            node,
        }
    }

    fn due(&self) -> Duration {
        let due = [
            self.campaign.poll_timeout(),
            self.liveness.poll_timeout(),
            self.voting.poll_timeout(),
            self.failback.poll_timeout(),
        ];
        due.into_iter().flatten().min().unwrap_or(Duration::MAX)
    }

    fn handle(&mut self, wakeup: Wakeup, now: Duration) {
        match wakeup {
            Wakeup::MembersDone => self.changing_members = false,
            Wakeup::TookOffice(won) => {
                self.taking_office = false;
                self.office = Some(won.term);
            }
            Wakeup::NoOffice(why) => {
                self.taking_office = false;
                self.complain(&why, now);
            }
            _ => {}
        }
        let status = self.node.replica().status();
        self.stand(&status, now);
        self.take_office(&status);
        self.give_back(&status, now);
        self.watch_hosts(&status, now);
        self.tell_who_is_reached(&status);
        self.arrange_members(&status, now);
    }

    /// Whether to step forward as primary, or to hand over.
    fn stand(&mut self, status: &Status, now: Duration) {
        let directory = self.node.directory();
        let me = self.node.me();
        let leading = status.leader == Some(me) && status.role == replica::Role::Leader;
        let mut actions = Vec::new();
        if let (Some(leader), Some(heard)) = (
            status.leader.filter(|leader| *leader != me),
            status.last_heard,
        ) {
            let at = now.saturating_sub(heard.ago());
            actions.extend(
                self.campaign
                    .handle(campaign::Event::Heard { leader, at }, now),
            );
        }
        // Each look tells them anew, so that a pause ends here on time whether or not a primary is there to record it.
        let facts = campaign::Facts::of(&directory, &status.voters, clock::calendar());
        actions.extend(
            self.campaign
                .handle(campaign::Event::Facts(Box::new(facts)), now),
        );
        if leading != self.leading {
            self.leading = leading;
            let event = if leading {
                campaign::Event::Leading
            } else {
                campaign::Event::Following
            };
            actions.extend(self.campaign.handle(event, now));
        }
        if leading {
            let peers = campaign::Event::Peers(self.node.seen());
            actions.extend(self.campaign.handle(peers, now));
        }
        if let Some(until) = self.node.take_order() {
            let ordered = campaign::Event::Ordered { until };
            actions.extend(self.campaign.handle(ordered, now));
        }
        actions.extend(self.campaign.handle_timeout(now));
        for action in actions {
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

    /// A new primary's first change says that it is: it proves that changes are accepted.
    fn take_office(&mut self, status: &Status) {
        let acting = status.acting.is_yes();
        if !acting
            || self.taking_office
            || self.campaign.is_caretaker()
            || self.office == Some(status.term)
        {
            return;
        }
        self.taking_office = true;
        let (node, done, term) = (self.node.clone(), self.done.clone(), status.term);
        let timeline = self.campaign.timeline();
        let explanation = self.campaign.explain(clock::steady(), clock::calendar());
        tokio::spawn(async move {
            let taken = office::take(&node, term, timeline, explanation).await;
            if taken.is_err() {
                sleep(OFFICE_PAUSE).await;
            }
            let _ = done.send(taken.map_or_else(Wakeup::NoOffice, Wakeup::TookOffice));
        });
    }

    /// Whether the office goes back to the original primary.
    fn give_back(&mut self, status: &Status, now: Duration) {
        // Before its first change of this term is through, this server's directory may be of the past.
        let automatic = self.office == Some(status.term) && self.campaign.is_automatic();
        let (directory, me) = (self.node.directory(), self.node.me());
        let leads = status.acting.is_yes();
        if failback::awaited(&directory, me, leads, automatic).is_none() {
            // The rest costs a look at every member, at every wake-up of every server.
            self.failback = Failback::default();
            self.node.set_outlook(Outlook::Nothing);
            return;
        }
        let back = self.node.with_view(|view| {
            self.failback
                .handle(view, automatic, now, clock::calendar())
        });
        self.node.set_outlook(self.failback.outlook().clone());
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
    fn arrange_members(&mut self, status: &Status, now: Duration) {
        // Before its first change of this term is through, this server's directory may be of the past.
        if !status.acting.is_yes() || self.office != Some(status.term) {
            self.voting = Voting::new();
            return;
        }
        if self.changing_members {
            return;
        }
        let directory = self.node.directory();
        let facts = voting::Facts {
            me: self.node.me(),
            members: voting::Facts::members_of(&directory),
            consensus: voting::Membership {
                voters: status.voters.clone(),
                learners: status.learners.clone(),
                changing: status.members_changing,
            },
            progress: self.node.progress(status),
            leaving: self.node.leaving(),
        };
        let Some(step) = self.voting.handle(&facts, now).step else {
            return;
        };
        tracing::info!(?step, "a step towards the members that the directory names");
        self.changing_members = true;
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
