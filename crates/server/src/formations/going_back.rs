//! Back to the formation that this server left, when nothing comes of the one that it has entered.
//!
//! Always true: nothing of the formation in force has come, so nothing was promised or acknowledged in it here. Start at
//! [`go_back_alone`].

use super::making::{may_act_alone, stays_still};
use crate::clock;
use crate::node::Node;
use crate::submit::SubmitError;
use model::{EventKind, FormationRef, Reason, ServerId, Severity};
use policy::{Candidate, Explanation};

/// Goes back, if nothing forbids it.
pub(super) async fn go_back_alone(
    node: &Node,
    left: FormationRef,
    lost: Option<ServerId>,
    mut reasons: Vec<Reason>,
) {
    let allowed = may_act_alone(node, lost).await;
    let passed = allowed.iter().all(|reason| reason.pass);
    reasons.extend(allowed.iter().cloned());
    if !passed {
        return stays_still(node, vec![(node.me(), reasons)], allowed);
    }
    // The way was long: its primary may be back.
    if node.side().primary.is_some() {
        return;
    }
    let number = left.number;
    match go_back(node, reasons.clone()).await {
        Ok(()) => {
            let name = node.name().to_string();
            node.decided(Explanation {
                decision: format!("{name} went back to formation {number}, which it had left"),
                at: clock::calendar(),
                candidates: vec![Candidate::judged(node.me(), name, reasons)],
            });
        }
        Err(error) => {
            tracing::error!(%error, number, "this server cannot go back to the formation that it left");
        }
    }
}

/// Goes back, and says so.
pub(super) async fn go_back(node: &Node, reasons: Vec<Reason>) -> Result<(), SubmitError> {
    let empty = node.replica().formation();
    let gone_back = node.replica().go_back().await;
    let formation = gone_back.map_err(|error| SubmitError::Unfit {
        decision: peer::InFull(&error).to_string(),
        candidates: Vec::new(),
    })?;
    // It may have started in the one that it entered, and asked nobody about this one.
    node.replica().speak();
    tracing::warn!(
        formation = formation.number,
        ?reasons,
        "this server goes back to the formation that it left"
    );
    let fields = [
        ("left_id", empty.to_string()),
        ("entered", formation.number.to_string()),
        ("entered_id", formation.id.to_string()),
    ];
    node.record(
        EventKind::FormationEntered,
        Severity::Warning,
        node.name().to_string(),
        fields.into_iter().collect(),
        reasons,
    );
    Ok(())
}
