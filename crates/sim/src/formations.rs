//! Formations of a simulated server's group: what it says of its own, what the others say of theirs, and going from one into
//! another, as in the daemon.
//!
//! What is to be done `policy::formations` decides. Start at [`run`]; `crossing` goes from one into another, `alone` makes
//! one, `left_behind` brings what was changed in one that gave way.

mod alone;
mod crossing;
mod left_behind;
mod returning;

pub(crate) use alone::make_by_hand;
pub(crate) use crossing::{give_way, let_in};
pub(crate) use left_behind::base_records;

use crate::checks;
use crate::network::NoAnswer;
use crate::planted::Planted;
use crate::server::Server;
use model::{Directory, FormationId, ServerId, Side};
use policy::formations::{Action, Formations, Look, own};
use returning::Returning;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;
use wire::control::{Answer, Request};

/// As in the daemon.
const SILENCE: Duration = Duration::from_millis(1_500);
const ASK_OFTEN: Duration = Duration::from_millis(200);
const ASK_SELDOM: Duration = Duration::from_secs(1);
/// The daemon's connections to all members are made anew this often where they are refused.
const ASK_REFUSERS: Duration = Duration::from_secs(5);
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
const FRESH: Duration = Duration::from_secs(3);
/// Who refuses a server that was removed says so whenever that asks.
const LATELY: Duration = Duration::from_millis(1_500);
const TRANSFER_LIMIT: Duration = Duration::from_secs(2);

/// What is known of formations here.
#[derive(Debug, Default)]
pub(crate) struct Known {
    sides: BTreeMap<ServerId, (Side, Duration)>,
    /// Machines that said that nobody listens.
    refuse: BTreeSet<ServerId>,
    /// Who said that this server was removed, and when somebody took it for a member.
    told: own::Told,
    pub(crate) ordered: Option<Duration>,
    successor: Option<ServerId>,
    /// The last one of its own that it heard to have given way.
    given_up: Option<FormationId>,
    /// The formation whose members it is sure of.
    sure_of: Option<FormationId>,
    /// Whether a formation is heard that waits for an administrator, as its own does.
    pub(crate) waiting: bool,
}

/// What is asked from several tasks at once.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    held: AtomicBool,
    leaving: AtomicBool,
}

impl Server {
    /// What this server says of its formation.
    pub(crate) fn side(&self) -> Side {
        let (state, status) = (self.replica.state(), self.replica.status());
        let (acting, leader) = (self.acts(&status.acting), self.leader_now());
        let last_user_change = match acting || leader.is_some() {
            true => self.directory(&state).group().last_user_change,
            false => self.replica.last_user_change(),
        };
        own::side(&own::Stand {
            me: self.me,
            directory: self.directory(&state),
            formation: self.replica.formation(),
            incarnation: self.replica.incarnation(),
            acting,
            leader,
            voters: &status.voters,
            joint: &status.joint,
            last_user_change,
            log_end: self.replica.log_end(),
            held: self.marks.held.load(Ordering::Relaxed),
            left: self.replica.left(),
        })
    }

    /// What the others said of theirs within the last seconds.
    pub(crate) fn sides(&self) -> BTreeMap<ServerId, Side> {
        let now = self.now();
        let inside = self.inside();
        let sides = inside.known.sides.iter();
        let fresh = sides.filter(|(_, (_, at))| *at + FRESH >= now);
        fresh.map(|(id, (side, _))| (*id, side.clone())).collect()
    }

    /// Whether a member said that this server was removed.
    pub(crate) fn was_removed(&self) -> bool {
        let state = self.replica.state();
        let told = self.inside().known.told.clone();
        own::is_removed(self.directory(&state), &told, self.now())
            && !self.scene.has(Planted::RemovalUnheard)
    }

    /// As in the daemon: whom a formation that gave way has removed is not told so.
    fn be_sure(&self, own: &Side, sides: &BTreeMap<ServerId, Side>) {
        let this = self.replica.formation();
        let known = &mut self.inside().known;
        if own::is_given_up(own, sides) {
            known.given_up = Some(this);
        }
        known.sure_of = (known.given_up != Some(this)).then_some(this);
    }

    /// Whether it is sure of the members of a directory.
    pub(crate) fn is_sure_of(&self, directory: &Directory) -> bool {
        self.inside().known.sure_of == Some(directory.group().formation.this.id)
    }

    /// The members of its own directory that said so lately, as the network brought it.
    pub(crate) fn removed_by(&self) -> Vec<ServerId> {
        let (state, now) = (self.replica.state(), self.now());
        let tellers = self.inside().known.told.removed_by.clone();
        let members = self.directory(&state).servers().map(|server| server.id);
        let lately = |id: &ServerId| {
            let said = tellers.get(id);
            said.is_some_and(|said| now.saturating_sub(*said) <= LATELY)
        };
        members.filter(lately).collect()
    }

    /// Whether it is on its way into another formation.
    pub(crate) fn is_leaving(&self) -> bool {
        self.marks.leaving.load(Ordering::Relaxed)
    }

    /// Asks every other member which formation it is in.
    pub(crate) async fn ask_sides(self: &Arc<Self>) {
        let mut asked = Vec::new();
        for server in self.others() {
            let this = self.clone();
            asked.push(tokio::spawn(async move {
                let answer = this.call(server, Request::Side, ANSWER_LIMIT).await;
                let now = this.now();
                let mut inside = this.inside();
                let known = &mut inside.known;
                match answer {
                    Ok(Answer::Side(side)) => {
                        known.refuse.remove(&server);
                        known.told.removed_by.remove(&server);
                        known.told.answered = Some(now);
                        let incarnation = side.incarnation;
                        known.sides.insert(server, (*side, now));
                        inside.note_incarnation(server, incarnation);
                    }
                    refused => {
                        known.sides.remove(&server);
                        match refused {
                            Err(NoAnswer::Refused) => known.refuse.insert(server),
                            Err(NoAnswer::Removed) => {
                                known.told.removed_by.insert(server, now);
                                known.refuse.remove(&server)
                            }
                            _ => known.refuse.remove(&server),
                        };
                    }
                }
            }));
        }
        for one in asked {
            // A task of this runtime ends, or everything here does.
            drop(one.await);
        }
    }
}

/// Watches over formations as long as its machine runs.
pub(crate) async fn run(server: Arc<Server>) {
    tokio::spawn(alone::keep_guard(server.clone()));
    tokio::spawn(left_behind::keep_settling(server.clone()));
    let mut returns = Returning::begin(&server).await;
    let mut policy = Formations::default();
    let mut asked = Duration::ZERO;
    loop {
        let now = server.now();
        // Whoever leads and does not act may have been left behind by the others.
        let follows = server
            .leader_now()
            .is_some_and(|leader| leader != server.me);
        let calm = follows || server.acts(&server.replica.acting());
        let often = if calm { ASK_SELDOM } else { ASK_OFTEN };
        // Whoever follows a primary leaves the asking to it.
        if !follows && now >= asked + often {
            server.ask_sides().await;
            asked = server.now();
        } else if follows && server.scene.is_whole() && now >= asked + ASK_REFUSERS {
            // Whoever has removed it says so meanwhile too; nothing waits for it.
            asked = now;
            let this = server.clone();
            tokio::spawn(async move { this.ask_sides().await });
        }
        returns.look(&server);
        if let Some(action) = look(&server, &mut policy) {
            carry_out(&server, &mut policy, action).await;
        }
        // A channel with several receivers wakes them in random order, and one of this name has its receiver in `duties`.
        tokio::select! {
            biased;
            () = server.role_changed.notified() => {}
            () = sleep(often) => {}
        }
    }
}

fn look(server: &Arc<Server>, policy: &mut Formations) -> Option<Action> {
    let (now, state, own) = (server.now(), server.replica.state(), server.side());
    let directory = server.directory(&state);
    let sides = server.sides();
    server.be_sure(&own, &sides);
    let mut inside = server.inside();
    if own.primary.is_some() {
        server.marks.held.store(false, Ordering::Relaxed);
        inside.known.ordered = None;
    }
    if let Some(successor) = inside.known.successor.take() {
        policy.note_successor(successor);
    }
    let recorded = directory.group().primary;
    let contact = recorded.and_then(|primary| inside.contacts.get(&primary));
    let report = contact.and_then(|contact| contact.report.as_ref());
    let in_sync = report.map(|(report, _)| report.in_sync.contains(&server.me));
    let ordered = inside.known.ordered.is_some_and(|until| until > now);
    drop(inside);
    let heard = server.replica.last_heard();
    let acting = server.acts(&server.replica.acting());
    let look = Look {
        me: server.me,
        directory,
        calendar: server.scene.calendar(server.me),
        own: &own,
        acting,
        heard: heard.map(|heard| now.saturating_sub(heard.ago())),
        in_sync,
        sides: &sides,
        formation: server.replica.formation(),
        ordered,
        removed: server.was_removed(),
    };
    let action = policy.handle(&look, now);
    server.inside().known.waiting = policy.waiting().next().is_some();
    if let Some(action) = &action {
        server.scene.judge(checks::formation(&look, action, now));
    }
    action
}

async fn carry_out(server: &Arc<Server>, policy: &mut Formations, action: Action) {
    match action {
        Action::Make { lost, .. } => alone::go_on_alone(server, lost).await,
        Action::Enter {
            formation,
            primary,
            gives_way,
            reasons,
        } => {
            let entering = crossing::Entering {
                formation: formation.id,
                primary,
                gives_way,
                by_hand: false,
                reasons,
            };
            // Refused or not answered: the next look tells.
            drop(crossing::enter(server, entering).await);
        }
        Action::GoBack { formation, .. } => alone::go_back_alone(server, formation).await,
        Action::GoOn => {
            server.say("takes what has come for all that there is".to_owned());
            server.replica.show_what_came();
        }
        Action::HandOver { server: to, .. } => {
            let moved = server.replica.transfer_to(to, TRANSFER_LIMIT).await;
            if moved.is_err() {
                policy.note_successor(to);
            }
        }
        Action::Wait { formation, reasons } => {
            let why = reasons.first().map_or("", |reason| reason.detail.as_str());
            let number = formation.number;
            server.say(format!("hears formation {number} and waits: {why}"));
        }
    }
}
