//! Making a formation: by a side that lost its primary, or by hand.

use super::{going_back, held, tie_breakers};
use crate::clock;
use crate::keys;
use crate::node::Node;
use crate::submit::SubmitError;
use model::{Author, Cause, EventKind, FormationId, FormationRef, Reason, ServerId, Severity};
use policy::formations::own;
use policy::{Candidate, Explanation};
use replica::Founding;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// How long the fence command may take.
const FENCE_LIMIT: Duration = Duration::from_secs(30);

/// Goes on without the primary, if nothing forbids it.
pub(super) async fn go_on_alone(
    node: &Node,
    mut candidates: policy::formations::Judged,
    lost: Option<ServerId>,
) {
    let allowed = may_act_alone(node, lost).await;
    let passed = allowed.iter().all(|reason| reason.pass);
    // The way was long: the primary may be back, or another may have been quicker.
    let led = node.side().primary.is_some();
    if let Some((_, reasons)) = candidates.last_mut() {
        reasons.extend(allowed.iter().cloned());
    }
    if !passed || led {
        if !passed {
            stays_still(node, candidates, allowed);
        }
        return;
    }
    let made = make(node, Cause::Island).await;
    let Ok(made) = made
        .inspect_err(|error| tracing::error!(%error, "this side cannot go on without its primary"))
    else {
        return;
    };
    let directory = node.directory();
    let reasons = candidates
        .last()
        .map(|(_, reasons)| reasons.clone())
        .unwrap_or_default();
    let candidates = candidates
        .into_iter()
        .map(|(id, reasons)| Candidate::judged(id, directory.name_of(id), reasons));
    node.decided(Explanation {
        decision: format!(
            "{} went on without {} as primary of formation {}",
            node.name(),
            lost.map_or_else(|| "a primary".to_owned(), |lost| directory.name_of(lost)),
            made.number
        ),
        at: clock::calendar(),
        candidates: candidates.collect(),
    });
    tell(node, made, "island", reasons);
}

/// This side does nothing: it says so once, and why as long as it is so.
pub(super) fn stays_still(
    node: &Node,
    candidates: policy::formations::Judged,
    reasons: Vec<Reason>,
) {
    let against = reasons.iter().filter(|reason| !reason.pass);
    let why: Vec<&str> = against.map(|reason| reason.detail.as_str()).collect();
    let before = super::locked(&node.0.formations.held).replace(why.join("; "));
    if before.is_some() {
        return;
    }
    tracing::warn!(?reasons, "this side may not go on without its primary");
    let directory = node.directory();
    let candidates = candidates
        .into_iter()
        .map(|(id, reasons)| Candidate::judged(id, directory.name_of(id), reasons));
    node.decided(Explanation {
        decision: format!(
            "{} does not go on without a primary: {}",
            node.name(),
            why.join("; ")
        ),
        at: clock::calendar(),
        candidates: candidates.collect(),
    });
    held(node, Severity::Error, "none", reasons);
}

async fn make(node: &Node, cause: Cause) -> Result<FormationRef, SubmitError> {
    let founding = Founding {
        id: keys::fresh(FormationId::from_bytes)?,
        cause,
        made: clock::calendar(),
    };
    let made = node.replica().fork(founding).await;
    let made = made.map_err(|error| SubmitError::Unfit {
        decision: peer::InFull(&error).to_string(),
        candidates: Vec::new(),
    })?;
    // It may have been silent in the formation before, because others had gone on from that.
    node.replica().speak();
    Ok(made)
}

fn tell(node: &Node, made: FormationRef, cause: &str, reasons: Vec<Reason>) {
    tracing::warn!(formation = made.number, id = %made.id, cause, "this server has made a formation");
    let fields = [
        ("formation", made.number.to_string()),
        ("id", made.id.to_string()),
        ("fork_point", made.fork_point.to_string()),
        ("cause", cause.to_owned()),
    ];
    let subject = node.name().to_string();
    let fields = fields.into_iter().collect();
    node.record(
        EventKind::FormationMade,
        Severity::Warning,
        subject,
        fields,
        reasons,
    );
}

/// Makes a formation because an administrator said so.
///
/// # Errors
/// This server is in another formation than the administrator saw, a primary is there, or it cannot be made.
pub(crate) async fn make_by_hand(
    node: &Node,
    from: FormationId,
    author: &Author,
    reason: Option<&str>,
) -> Result<(), SubmitError> {
    let refuse = |decision: &str| {
        Err(SubmitError::Unfit {
            decision: decision.to_owned(),
            candidates: Vec::new(),
        })
    };
    let left = node.replica().left();
    let goes_back = left.is_some_and(|left| left.formation.id == from);
    if node.replica().formation() != from && !goes_back {
        return refuse("this server is in another formation by now: ask again");
    }
    // Whoever follows a leader leaves the asking to it, and that one may not act.
    node.ask_sides().await;
    if own::primary(node.me(), &node.side(), &node.sides()).is_some() {
        return refuse("a primary is there again: there is nothing to recover");
    }
    tracing::warn!(?author, "an administrator has this server make a formation");
    let why = Reason {
        rule: "by-hand".to_owned(),
        pass: true,
        detail: format!(
            "an administrator decided so: {}",
            reason.unwrap_or("no reason was given")
        ),
    };
    if goes_back {
        going_back::go_back(node, vec![why.clone()]).await?;
    }
    let made = make(node, Cause::ByHand).await?;
    tell(node, made, "by-hand", vec![why]);
    Ok(())
}

/// Whether tie-breakers answer and the fence command succeeds, in this order.
pub(super) async fn may_act_alone(node: &Node, lost: Option<ServerId>) -> Vec<Reason> {
    let directory = node.directory();
    let settings = directory.settings();
    let mut reasons = tie_breakers::ask(&settings.tie_breakers()).await;
    if let Some(command) = settings.fence_command()
        && reasons.iter().all(|reason| reason.pass)
    {
        let name = lost.map_or_else(String::new, |lost| directory.name_of(lost));
        reasons.push(fence(&command, &name).await);
    }
    reasons
}

async fn fence(command: &str, lost: &str) -> Reason {
    let running = Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("{command} \"$@\""))
        .arg("fence")
        .arg(lost)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    let (pass, detail) = match timeout(FENCE_LIMIT, running).await {
        Err(_) => (
            false,
            format!(
                "the fence command did not end within {} s",
                FENCE_LIMIT.as_secs()
            ),
        ),
        Ok(Err(error)) => (false, format!("the fence command cannot be run: {error}")),
        Ok(Ok(status)) => (
            status.success(),
            format!("the fence command ended with {status}"),
        ),
    };
    Reason {
        rule: "fence-command".to_owned(),
        pass,
        detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_fence_command_is_told_whom_and_its_status_counts() {
        let passed = fence("test boston =", "boston").await;
        assert!(passed.pass, "{passed:?}");
        let failed = fence("exit 3;", "boston").await;
        assert!(!failed.pass && failed.detail.contains('3'), "{failed:?}");
    }
}
