//! What a simulated server does by itself: one loop that asks the decisions that ship and carries them out, as the daemon does.
//!
//! Nothing here decides. Every action is judged by the rules at the moment at which it is taken, from the directory alone.
//! Start at [`run`].

use crate::checks;
use crate::planted::Planted;
use crate::scene::Scene;
use crate::server::{ATTEMPT, Server};
use model::{Command, Directory, FormationId, Record, ServerId};
use policy::campaign::Action;
use policy::formations::own::followers;
use policy::liveness::{self, Allowance, Liveness};
use policy::office::{Look, Office, Taking};
use policy::voting::{Membership, Step};
use replica::{Role, Status};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// As in the daemon.
const LOOK: Duration = Duration::from_millis(50);
const GATHER: Duration = Duration::from_millis(20);
const OFFICE_PAUSE: Duration = Duration::from_millis(250);
const MEMBERS_LIMIT: Duration = Duration::from_secs(5);
const TRANSFER_LIMIT: Duration = Duration::from_secs(2);

/// What came of what was started.
#[derive(Debug)]
enum Outcome {
    Took(u64),
    NotTaken,
    MembersDone,
}

/// The directory as planted bugs show it.
fn twisted(scene: &Scene, directory: &Directory) -> Option<Directory> {
    let twist = [
        Planted::ListIgnored,
        Planted::PauseIgnored,
        Planted::ReturnIgnored,
    ];
    if !twist.iter().any(|bug| scene.has(*bug)) {
        return None;
    }
    let all: Vec<ServerId> = directory.servers().map(|server| server.id).collect();
    let head = directory.group().backups.clone();
    let records = directory.records().filter_map(|record| match record {
        Record::Group(mut group) => {
            let changed = Arc::make_mut(&mut group);
            if scene.has(Planted::ListIgnored) {
                let others = all.iter().filter(|id| !head.contains(id));
                changed.backups.extend(others);
            }
            if scene.has(Planted::PauseIgnored) {
                changed.pause = None;
            }
            Some(Record::Group(group))
        }
        Record::Setting(key, ..)
            if key == "resilience.primary-return" && scene.has(Planted::ReturnIgnored) =>
        {
            None
        }
        other => Some(other),
    });
    Directory::from_records(records).ok()
}

/// The loop and what it was last told.
struct Duties {
    server: Arc<Server>,
    office: Option<Office>,
    liveness: Liveness,
    /// The formation that the policies are about.
    formation: FormationId,
    /// Whether consensus did not run at the last look: then nothing is asked of the office.
    stopped: bool,
    done: mpsc::UnboundedSender<Outcome>,
}

/// Runs as long as its machine does.
pub(crate) async fn run(server: Arc<Server>) {
    let (done, mut outcomes) = mpsc::unbounded_channel();
    let mut consensus = server.replica.role_changed();
    let mut directory = server.replica.applied();
    let mut duties = Duties {
        office: None,
        liveness: Liveness::new(Allowance::of(server.before.settings())),
        formation: server.replica.formation(),
        stopped: false,
        done,
        server: server.clone(),
    };
    let mut gathered = Duration::ZERO;
    loop {
        let now = server.now();
        let gathering = gathered.saturating_sub(now);
        let mut due = duties.due().saturating_sub(now).min(LOOK);
        if !gathering.is_zero() {
            due = due.min(gathering);
        }
        let mut outcome = None;
        tokio::select! {
            biased;
            Ok(()) = consensus.changed() => server.role_changed.notify_one(),
            Some(came) = outcomes.recv() => outcome = Some(came),
            Ok(()) = directory.changed(), if gathering.is_zero() => gathered = server.now() + GATHER,
            () = sleep(due) => {}
        }
        duties.handle(outcome);
    }
}

impl Duties {
    fn due(&self) -> Duration {
        // Seeds that were kept are told with the times at which servers looked then.
        let asked = !self.stopped || !self.server.scene.is_whole();
        let office = self.office.as_ref().filter(|_| asked);
        let office = office.and_then(Office::poll_timeout);
        let due = [office, self.liveness.poll_timeout()];
        due.into_iter().flatten().min().unwrap_or(Duration::MAX)
    }

    fn handle(&mut self, outcome: Option<Outcome>) {
        let server = self.server.clone();
        let (state, status, now) = (
            server.replica.state(),
            server.replica.status(),
            server.now(),
        );
        let truth = server.directory(&state);
        let twisted = twisted(&server.scene, truth);
        let consensus = Membership {
            voters: status.voters.clone(),
            learners: status.learners.clone(),
            changing: status.members_changing,
        };
        let look = look(
            &server,
            twisted.as_ref().unwrap_or(truth),
            &status,
            &consensus,
        );
        let formation = server.replica.formation();
        let mut office = match self.office.take() {
            Some(office) if formation == self.formation => office,
            // Terms of one formation mean nothing in another.
            _ => Office::new(&look, now),
        };
        self.formation = formation;
        match outcome {
            Some(Outcome::Took(term)) => office.took(term),
            Some(Outcome::NotTaken) => office.not_taken(),
            Some(Outcome::MembersDone) => office.members_done(),
            None => {}
        }
        let followers = followers(truth, &status.voters, server.me);
        server.replica.set_followers(followers);
        // While the formation changes, consensus does not run.
        self.stopped = status.role == Role::Stopped;
        if !self.stopped {
            self.decide(&mut office, &look, truth, &status, now);
        }
        self.watch_hosts(truth, &status, now);
        self.arrange(&mut office, &look, truth, &status, now);
        let mut inside = server.inside();
        inside.office = office.holds(&look).then_some(status.term);
        inside.caretaker = office.is_caretaker();
        inside.outlook = office.outlook().clone();
        drop(inside);
        self.office = Some(office);
    }

    fn decide(
        &self,
        office: &mut Office,
        look: &Look<'_>,
        truth: &Directory,
        status: &Status,
        now: Duration,
    ) {
        let server = &self.server;
        let real = Look {
            directory: truth,
            ..*look
        };
        let ordered = server.inside().ordered.take();
        for action in office.stand(look, || server.seen(truth, status), ordered, now) {
            let verdict = checks::action(&real, &action, now);
            server.scene.judge(verdict);
            self.execute(action);
        }
        if let Some(taking) = office.take(look, now) {
            server.scene.judge(checks::taking(&real, &taking));
            self.take(taking);
        }
        if let Some(back) = office.give_back(look, || server.seen(truth, status), now) {
            server.scene.judge(checks::return_of(&real, &back));
            self.transfer(back.server);
        }
    }

    /// Brings the members of consensus to what the directory says, one step at a time.
    fn arrange(
        &self,
        office: &mut Office,
        look: &Look<'_>,
        truth: &Directory,
        status: &Status,
        now: Duration,
    ) {
        let server = &self.server;
        let grace = truth.settings().grace_period();
        let progress = || server.progress(grace, status);
        if let Some(step) = office.arrange(look, progress, server.leaving(), now) {
            let (server, done) = (server.clone(), self.done.clone());
            tokio::spawn(async move {
                if !carry_out(&server, step).await {
                    sleep(LOOK * 4).await;
                }
                // The loop goes on as long as this machine does.
                drop(done.send(Outcome::MembersDone));
            });
        }
    }

    fn execute(&self, action: Action) {
        match action {
            Action::Campaign { .. } => {
                let replica = self.server.replica.clone();
                tokio::spawn(async move {
                    // Refused or begun: the next look tells.
                    let _begun = replica.campaign().await;
                });
            }
            Action::TransferTo { server, .. } => self.transfer(server),
        }
    }

    fn transfer(&self, to: ServerId) {
        let replica = self.server.replica.clone();
        tokio::spawn(async move {
            // The next look tells who leads.
            let _moved = replica.transfer_to(to, TRANSFER_LIMIT).await;
        });
    }

    fn take(&self, taking: Taking) {
        let (server, done) = (self.server.clone(), self.done.clone());
        let reasons = taking.explanation.of(server.me);
        let command = Command::TakePrimary {
            server: server.me,
            planned: taking.timeline.was_handed_over(),
            outage_ms: 0,
            steps: Vec::new(),
            reasons: reasons.map(|it| it.reasons.clone()).unwrap_or_default(),
        };
        let change = server.change(command);
        tokio::spawn(async move {
            let taken = server.propose(&change, ATTEMPT).await;
            let outcome = match taken {
                Ok(applied) if applied.outcome.is_ok() => Outcome::Took(taking.term),
                _ => {
                    sleep(OFFICE_PAUSE).await;
                    Outcome::NotTaken
                }
            };
            drop(done.send(outcome));
        });
    }

    fn watch_hosts(&mut self, directory: &Directory, status: &Status, now: Duration) {
        let server = &self.server;
        let others = directory.servers().filter(|other| other.id != server.me);
        let hosts: BTreeMap<ServerId, String> = others
            .map(|other| (other.id, other.name.to_string()))
            .collect();
        let mut events = vec![
            liveness::Event::Allowance(Allowance::of(directory.settings())),
            liveness::Event::Hosts(hosts),
        ];
        for (host, contact) in &mut server.inside().contacts {
            let (host, at) = (*host, contact.heard);
            events.push(liveness::Event::Heard { host, at });
            if let (Some((report, _)), false) = (&contact.report, contact.told) {
                let hears = report.hears.clone();
                events.push(liveness::Event::Report { from: host, hears });
                contact.told = true;
            }
        }
        events.push(liveness::Event::Acting(server.acts(&status.acting)));
        for event in events {
            self.liveness.handle(event, now);
        }
        for give_up in self.liveness.handle_timeout(now) {
            if liveness::has_reachable_sessions(directory, give_up.host) {
                server.wish(Command::OrphanSessions {
                    host: give_up.host,
                    reasons: give_up.reasons,
                });
            }
        }
    }
}

fn look<'a>(
    server: &Server,
    directory: &'a Directory,
    status: &Status,
    consensus: &'a Membership,
) -> Look<'a> {
    let me = server.me;
    let now = server.now();
    let other = status.leader.filter(|leader| *leader != me);
    let heard = other.zip(status.last_heard);
    Look {
        me,
        directory,
        calendar: server.scene.calendar(me),
        term: status.term,
        leads: status.leader == Some(me) && status.role == Role::Leader,
        acting: server.acts(&status.acting),
        leader: server.leader(directory.settings().grace_period(), status),
        heard: heard.map(|(leader, heard)| (leader, now.saturating_sub(heard.ago()))),
        consensus,
        current: status.applied_term == status.term,
    }
}

async fn carry_out(server: &Arc<Server>, step: Step) -> bool {
    let replica = &server.replica;
    match step {
        Step::AddLearner(id) => replica.add_learner(id, MEMBERS_LIMIT).await.is_ok(),
        Step::RemoveMember(id) => replica.remove(id, MEMBERS_LIMIT).await.is_ok(),
        Step::SetVoters(voters) => replica.set_voters(voters, MEMBERS_LIMIT).await.is_ok(),
        Step::RecordVoting { server: id, voting } => {
            let change = server.change(Command::SetVoting { server: id, voting });
            let made = server.propose(&change, ATTEMPT).await;
            made.is_ok_and(|applied| applied.outcome.is_ok())
        }
    }
}
