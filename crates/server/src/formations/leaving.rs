//! From one formation into another: asking for room, going, and making room for others.
//!
//! Always true: of two formations that ask each other for room neither gives it; nobody goes to a primary that its own
//! formation has removed; whoever comes gets in with an empty log under
//! a new incarnation, after what the primary knew of its old log is forgotten.

use super::locked;
use crate::keys;
use crate::node::Node;
use crate::submit::SubmitError;
use model::{Author, EventKind, FormationId, IncarnationId, Reason, ServerId, Severity, Side};
use policy::formations::room;
use replica::{SwitchError, Threshold};
use std::sync::atomic::Ordering;
use std::time::Duration;
use wire::control::{Answer, Failure, Request};

/// How long making room may take.
const ROOM_LIMIT: Duration = Duration::from_secs(5);

/// A formation to enter.
#[derive(Debug, Clone)]
pub(crate) struct Entering {
    /// Which.
    pub(crate) formation: FormationId,
    /// Who acts as its primary.
    pub(crate) primary: ServerId,
    /// Whether this server's whole formation gives way with it.
    pub(crate) gives_way: bool,
    /// Whether an administrator said so, whatever `resilience.primary-return` says.
    pub(crate) by_hand: bool,
    /// Why.
    pub(crate) reasons: Vec<Reason>,
}

/// Why a server did not get into another formation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnterError {
    /// Its primary did not make room.
    #[error("its primary does not let this server in: {0}")]
    Refused(Failure),
    /// It was not reached, or makes no sense.
    #[error("its primary does not answer")]
    NoAnswer,
    /// Those of this formation would refuse it, and could not follow.
    #[error("{}", .0.detail)]
    Removed(Reason),
    /// The disk, or consensus.
    #[error(transparent)]
    Switch(#[from] SwitchError),
    /// Randomness.
    #[error(transparent)]
    Randomness(#[from] crate::random::NoRandomness),
}

/// Holds the mark that this server is leaving, so that it makes no room for others meanwhile.
struct Mark<'a>(&'a Node);

impl<'a> Mark<'a> {
    fn set(node: &'a Node) -> Self {
        node.0.formations.leaving.store(true, Ordering::Release);
        Self(node)
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.0.0.formations.leaving.store(false, Ordering::Release);
    }
}

/// Leaves the present formation for another.
pub(crate) async fn enter(node: &Node, entering: Entering) -> Result<(), EnterError> {
    let Entering {
        formation, primary, ..
    } = entering;
    let _mark = Mark::set(node);
    not_to_a_stranger(node, primary).map_err(EnterError::Removed)?;
    let request = Request::Enter {
        side: Box::new(node.side()),
        formation,
        gives_way: entering.gives_way,
        by_hand: entering.by_hand,
    };
    let threshold = match node.call(primary, &request, ROOM_LIMIT).await {
        Ok(Answer::Room { term, number }) => Threshold {
            term,
            primary,
            number,
        },
        Ok(Answer::Failed(failure)) => return Err(EnterError::Refused(failure)),
        Ok(_) | Err(_) => return Err(EnterError::NoAnswer),
    };
    // It may have been removed meanwhile.
    not_to_a_stranger(node, primary).map_err(EnterError::Removed)?;
    let before = node.directory().group().formation.this;
    let incarnation = keys::fresh(IncarnationId::from_bytes)?;
    tracing::info!(from = before.number, %formation, reasons = ?entering.reasons, "this server leaves its formation for another");
    let replica = node.replica();
    replica.enter(formation, incarnation, threshold).await?;
    node.replica().speak();
    let fields = [
        ("left", before.number.to_string()),
        ("left_id", before.id.to_string()),
        ("entered_id", formation.to_string()),
    ];
    node.record(
        EventKind::FormationEntered,
        Severity::Warning,
        node.name().to_string(),
        fields.into_iter().collect(),
        entering.reasons,
    );
    Ok(())
}

fn not_to_a_stranger(node: &Node, primary: ServerId) -> Result<(), Reason> {
    let stranger = room::stranger(&node.directory(), primary);
    stranger.map_or(Ok(()), Err)
}

/// Makes room for a server that leaves its formation for this one.
pub(crate) async fn let_in(
    node: &Node,
    from: ServerId,
    side: &Side,
    formation: FormationId,
    how: (bool, bool),
) -> Result<Threshold, Failure> {
    let (gives_way, by_hand) = how;
    let refuse = |decision: String| {
        Err(Failure::Unfit {
            decision,
            candidates: Vec::new(),
        })
    };
    if !node.acting() || node.replica().formation() != formation {
        return Err(crate::node::not_primary(node));
    }
    if node.directory().server(from).is_none() {
        return refuse("it is no member of this formation".to_owned());
    }
    if node.0.formations.is_leaving() {
        return refuse("this formation is giving way itself".to_owned());
    }
    let decides = gives_way && !by_hand;
    if decides && let Some(why) = room::refusal(&node.side(), &node.sides(), side) {
        return refuse(why.detail);
    }
    let made = node.replica().make_room(from, ROOM_LIMIT).await;
    let threshold = made.or_else(|error| refuse(error.to_string()))?;
    node.0.peers.note_incarnation(from, side.incarnation);
    let rule = node.directory().settings().primary_return();
    if decides && room::succeeds(formation, side, rule) {
        *locked(&node.0.formations.successor) = Some(from);
    }
    Ok(threshold)
}

/// An administrator wants another formation to stand.
pub(crate) async fn give_way(
    node: &Node,
    to: FormationId,
    primary: ServerId,
    author: &Author,
    reason: Option<&str>,
) -> Result<(), SubmitError> {
    let detail = format!(
        "an administrator decided so: {}",
        reason.unwrap_or("no reason was given")
    );
    tracing::info!(?author, formation = %to, "an administrator wants another formation to stand");
    let why = Reason {
        rule: "by-hand".to_owned(),
        pass: true,
        detail,
    };
    let entering = Entering {
        formation: to,
        primary,
        gives_way: true,
        by_hand: true,
        reasons: vec![why],
    };
    let entered = enter(node, entering).await;
    entered.map_err(|error| SubmitError::Unfit {
        decision: error.to_string(),
        candidates: Vec::new(),
    })
}
