//! Formations of this server's group: what it says of its own, what the others say of theirs, and going from one into another.
//!
//! What is to be done `policy::formations` decides; here it is carried out, one thing at a time. Always true: a server answers
//! nobody in consensus before it has asked the others which formation is in force, or they had [`SILENCE`] to answer; it
//! leaves a formation only after the primary of the other has made room for it. Start at [`run`]; `leaving` goes from one
//! into another, `making` makes one, `tie_breakers` asks what a side must reach to act alone.

mod going_back;
mod leaving;
mod left_behind;
mod making;
mod returning;
mod tie_breakers;

pub(crate) use leaving::{give_way, let_in};
pub(crate) use left_behind::base_records;
pub(crate) use making::make_by_hand;

use crate::clock;
use crate::node::Node;
use crate::office::TRANSFER_LIMIT;
use model::{
    Author, Change, EventKind, FormationId, FormationRef, Reason, ServerId, Severity, Side,
};
use policy::formations::{Action, Formations, Look, own, room};
use returning::Returning;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::sleep;
use wire::control::{Answer, Request};

/// How long a server that starts waits for the others to say which formation is in force.
const SILENCE: Duration = Duration::from_millis(1_500);
/// How often a server without a primary asks the others.
const ASK_OFTEN: Duration = Duration::from_millis(200);
/// How often a primary does.
const ASK_SELDOM: Duration = Duration::from_secs(1);
/// How long another server may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
/// How long an answer counts.
const FRESH: Duration = Duration::from_secs(3);

/// What is known of formations here.
#[derive(Debug, Default)]
pub(crate) struct Known {
    sides: Mutex<BTreeMap<ServerId, (Side, Duration)>>,
    /// Whether this server may not go on without its primary: a tie-breaker did not answer, or the fence command failed.
    held: Mutex<Option<String>>,
    /// Until when an administrator wants this server to go on without the primary.
    ordered: Mutex<Option<Duration>>,
    /// A primary whose formation gave way to this one, where it is to lead.
    successor: Mutex<Option<ServerId>>,
    /// Whether this server is leaving its formation.
    leaving: AtomicBool,
    /// When this server, whose formation stands while others have gone on in another, takes part in it again.
    returns: Mutex<Option<Duration>>,
    /// The last one of its own that it heard to have given way.
    given_up: Mutex<Option<FormationId>>,
    /// Which formations wait for an administrator's word.
    waiting: Mutex<Vec<FormationRef>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    fn note(&self, server: ServerId, side: Side, now: Duration) {
        locked(&self.sides).insert(server, (side, now));
    }

    fn forget(&self, server: ServerId) {
        locked(&self.sides).remove(&server);
    }

    /// What the others said within the last seconds.
    fn fresh(&self, now: Duration) -> BTreeMap<ServerId, Side> {
        let sides = locked(&self.sides);
        let fresh = sides.iter().filter(|(_, (_, at))| *at + FRESH >= now);
        fresh.map(|(id, (side, _))| (*id, side.clone())).collect()
    }

    /// Whether this server is on its way into another formation.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// An administrator wants this server to go on without the primary.
    pub(crate) fn order(&self, until: Duration) {
        *locked(&self.ordered) = Some(until);
    }

    fn is_ordered(&self, now: Duration) -> bool {
        locked(&self.ordered).is_some_and(|until| until > now)
    }
}

impl Node {
    /// What this server says of its formation.
    pub(crate) fn side(&self) -> Side {
        let (directory, status) = (self.directory(), self.replica().status());
        let (acting, leader) = (status.acting.is_yes(), self.leader());
        let last_user_change = match acting || leader.is_some() {
            true => directory.group().last_user_change,
            false => self.replica().last_user_change(),
        };
        own::side(&own::Stand {
            me: self.me(),
            directory: &directory,
            formation: self.replica().formation(),
            incarnation: self.replica().incarnation(),
            acting,
            leader,
            voters: &status.voters,
            joint: &status.joint,
            last_user_change,
            log_end: self.replica().log_end(),
            held: self.held_because().is_some(),
            left: self.replica().left(),
        })
    }

    /// Why a change of the group's structure has to wait, where it has: another formation is being taken in.
    pub(crate) fn structure_waits(&self, change: &Change) -> Option<String> {
        let asked = !matches!(change.author, Author::Server(_));
        if !asked || !change.command.is_structural() {
            return None;
        }
        if self.0.formations.is_leaving() {
            return Some("this formation is giving way to another: wait until it has".to_owned());
        }
        let (id, formation) = room::taken_in(&self.side(), &self.sides())?;
        Some(format!(
            "formation {} with {} is heard again, and the two become one: wait until `stead status` shows it here",
            formation.number,
            self.directory().name_of(id)
        ))
    }

    /// What the other members said of theirs within the last seconds.
    pub(crate) fn sides(&self) -> BTreeMap<ServerId, Side> {
        self.0.formations.fresh(clock::steady())
    }

    /// When this server takes part in its formation again, where that stands and others have gone on in another meanwhile.
    pub(crate) fn returns_at(&self) -> Option<Duration> {
        *locked(&self.0.formations.returns)
    }

    /// Why this server may not go on without its primary, where it was asked whether it may.
    pub(crate) fn held_because(&self) -> Option<String> {
        locked(&self.0.formations.held).clone()
    }

    /// The formations that are heard and wait for an administrator's word.
    pub(crate) fn formations_waiting(&self) -> Vec<FormationRef> {
        locked(&self.0.formations.waiting).clone()
    }

    /// Whether a member said that this server was removed from the group.
    pub(crate) fn was_removed(&self) -> bool {
        let peers = &self.0.peers;
        !peers.nobody_refuses()
            && own::is_removed(&self.directory(), &peers.told(), clock::steady())
    }

    /// Whom a formation that gave way has removed is not told so: it may be a member where the others are.
    fn be_sure(&self, own: &Side, sides: &BTreeMap<ServerId, Side>) {
        let this = self.replica().formation();
        let mut given_up = locked(&self.0.formations.given_up);
        if own::is_given_up(own, sides) {
            *given_up = Some(this);
        }
        let sure = *given_up != Some(this);
        self.0.sight.be_sure_of(sure.then_some(this));
    }

    fn others(&self) -> Vec<ServerId> {
        let directory = self.directory();
        let known = self.0.identity.members.iter().map(|known| known.server);
        let mut all: Vec<ServerId> = directory.servers().map(|server| server.id).collect();
        if all.is_empty() {
            all.extend(known);
        }
        all.retain(|id| *id != self.me());
        all
    }

    /// Whether there is a member of which the primary of this formation has not heard for a while: it may be in another one.
    fn misses_somebody(&self, now: Duration) -> bool {
        let reports = self.0.reports.all();
        let is_fresh = |id: ServerId| {
            let known = reports.get(&id);
            known.is_some_and(|known| known.learnt + FRESH >= now)
        };
        self.others().into_iter().any(|id| !is_fresh(id))
    }

    /// Asks every other member which formation it is in.
    pub(crate) async fn ask_sides(&self) {
        let asked = self.others().into_iter().map(|server| async move {
            let answer = self.call(server, &Request::Side, ANSWER_LIMIT).await;
            let known = &self.0.formations;
            match answer {
                Ok(Answer::Side(side)) => {
                    self.0.peers.note_incarnation(server, side.incarnation);
                    known.note(server, *side, clock::steady());
                }
                _ => known.forget(server),
            }
        });
        futures_util::future::join_all(asked).await;
    }
}

/// Watches over formations as long as the server runs.
pub(crate) async fn run(node: Node) {
    tokio::spawn(tie_breakers::keep_guard(node.clone()));
    tokio::spawn(left_behind::keep_settling(node.clone()));
    let mut returns = Returning::begin(&node).await;
    let mut policy = Formations::default();
    let mut roles = node.replica().role_changed();
    let mut asked = Duration::ZERO;
    loop {
        let now = clock::steady();
        // Whoever leads and does not act may have been left behind by the others.
        let follows = node.leader().is_some_and(|leader| leader != node.me());
        let calm = follows || node.acting();
        let often = if calm { ASK_SELDOM } else { ASK_OFTEN };
        // Whoever follows a primary leaves the asking to it.
        if !follows && now >= asked + often {
            node.ask_sides().await;
            asked = clock::steady();
        } else if follows && now >= asked + often && node.misses_somebody(now) {
            // What came of it is shown here too; nothing waits for it.
            asked = now;
            let node = node.clone();
            tokio::spawn(async move { node.ask_sides().await });
        }
        returns.look(&node);
        if let Some(action) = look(&node, &mut policy) {
            carry_out(&node, &mut policy, action).await;
        }
        tokio::select! {
            _ = roles.changed() => {}
            () = sleep(often) => {}
        }
    }
}

fn look(node: &Node, policy: &mut Formations) -> Option<Action> {
    let (now, directory, own) = (clock::steady(), node.directory(), node.side());
    let known = &node.0.formations;
    if own.primary.is_some() {
        *locked(&known.held) = None;
        *locked(&known.ordered) = None;
    }
    if let Some(server) = locked(&known.successor).take() {
        policy.note_successor(server);
    }
    let sides = known.fresh(now);
    node.be_sure(&own, &sides);
    let heard = node.replica().last_heard();
    let recorded = directory.group().primary;
    let reports = node.reports();
    let look = Look {
        me: node.me(),
        directory: &directory,
        calendar: clock::calendar(),
        own: &own,
        acting: node.acting(),
        heard: heard.map(|heard| now.saturating_sub(heard.ago())),
        in_sync: recorded
            .and_then(|primary| reports.get(&primary))
            .map(|report| report.in_sync.contains(&node.me())),
        sides: &sides,
        formation: node.replica().formation(),
        ordered: known.is_ordered(now),
        removed: node.was_removed(),
    };
    let action = policy.handle(&look, now);
    *locked(&known.waiting) = policy.waiting().collect();
    action
}

async fn carry_out(node: &Node, policy: &mut Formations, action: Action) {
    match action {
        Action::Make { candidates, lost } => making::go_on_alone(node, candidates, lost).await,
        Action::Enter {
            formation,
            primary,
            gives_way,
            reasons,
        } => {
            let entering = leaving::Entering {
                formation: formation.id,
                primary,
                gives_way,
                by_hand: false,
                reasons,
            };
            if let Err(error) = leaving::enter(node, entering).await {
                tracing::info!(%error, formation = formation.number, "this server does not get into another formation yet");
            }
        }
        Action::GoBack {
            formation,
            lost,
            reasons,
        } => going_back::go_back_alone(node, formation, lost, reasons).await,
        Action::GoOn => {
            tracing::warn!(
                "the primary of the formation that was entered is lost before it has sent all"
            );
            node.replica().show_what_came();
        }
        Action::HandOver { server, reasons } => {
            tracing::info!(%server, ?reasons, "the office goes to the primary of the formation that gave way");
            if let Err(error) = node.replica().transfer_to(server, TRANSFER_LIMIT).await {
                tracing::warn!(%server, %error, "the role of primary was not passed on");
                policy.note_successor(server);
            }
        }
        Action::Wait { formation, reasons } => {
            tracing::warn!(
                formation = formation.number,
                ?reasons,
                "another formation is heard: an administrator decides"
            );
            held(
                node,
                Severity::Warning,
                &formation.number.to_string(),
                reasons,
            );
        }
    }
}

/// Says in the journal that something waits.
fn held(node: &Node, severity: Severity, formation: &str, reasons: Vec<Reason>) {
    let fields = [("formation", formation.to_owned())];
    let subject = node.directory().group().name.to_string();
    let fields = fields.into_iter().collect();
    node.record(EventKind::FormationHeld, severity, subject, fields, reasons);
}
