//! Formations that this server was in before: what was changed there and is not in the one in force is kept as a divergence;
//! then they go.
//!
//! Always true: a formation that was left stays on disk until the group keeps what was changed there, or nothing was. Bringing
//! it twice does no harm. Start at [`settle`].

use super::ANSWER_LIMIT;
use crate::divergence::upload;
use crate::node::{Consistency, Node};
use crate::submit::SubmitError;
use model::divergence::three_way;
use model::{Directory, Divergence, FormationId, Record};
use policy::formations::left::{diverged_after, is_edited, is_fork, kept_there};
use replica::{LeftBehind, SwitchError};
use std::time::Duration;
use tokio::time::sleep;
use wire::control::{Answer, Request};

/// How often what was left behind is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The most records in one answer, and the most bytes.
const PAGE: (usize, usize) = (500, 512 * 1024);

/// Why what was left behind stays on disk.
#[derive(Debug, thiserror::Error)]
enum SettleError {
    /// It cannot be read or removed.
    #[error(transparent)]
    Switch(#[from] SwitchError),
    /// The formations on disk cannot be listed.
    #[error(transparent)]
    Formation(#[from] replica::formation::FormationError),
    /// The group does not keep it.
    #[error("the group does not keep what was changed")]
    Submit(#[from] SubmitError),
    /// This server is not up to date itself.
    #[error("this server has not caught up yet")]
    Behind,
}

/// Settles what was left behind, as long as the server runs.
pub(super) async fn keep_settling(node: Node) {
    loop {
        if let Err(error) = settle(&node).await {
            tracing::debug!(%error, "a formation that was left is not settled yet");
        }
        sleep(LOOK).await;
    }
}

/// Brings what was changed in formations that this server left, and forgets them.
async fn settle(node: &Node) -> Result<(), SettleError> {
    let replica = node.replica();
    for left in replica.left_behind()? {
        // A directory of the present formation, with all that is acknowledged in it.
        let caught_up = node.catch_up(Consistency::Linearizable).await.is_ok();
        let directory = node.directory();
        let present = directory.group().formation.clone();
        if !caught_up || present.this.id != replica.formation() {
            return Err(SettleError::Behind);
        }
        let kept = replica.read_left_behind(left).await?;
        let came_to = kept.directory.clone();
        let fork = came_to.as_ref().and_then(|it| diverged_after(it, &present));
        if let Some(fork) = fork {
            bring(node, kept, fork, &directory).await?;
        }
        for (divergence, records) in came_to.map_or_else(Vec::new, |it| kept_there(&it, &directory))
        {
            tracing::info!(
                formation = divergence.formation.number,
                "a divergence that a formation which gave way kept goes along"
            );
            upload(node, present.this.id, divergence, records).await?;
        }
        tracing::info!(formation = %left, "a formation that this server left is settled and removed");
        replica.forget_left_behind(left).await?;
    }
    Ok(())
}

async fn bring(
    node: &Node,
    kept: LeftBehind,
    fork_point: u64,
    winner: &Directory,
) -> Result<(), SettleError> {
    let Some(loser) = kept.directory else {
        return Ok(());
    };
    let formation = loser.group().formation.this;
    let fork = match kept.base.filter(|base| is_fork(base, fork_point)) {
        Some(base) => Some(base),
        // The side that stayed has what the other began with.
        None => {
            let asked = ask_for_base(node, winner.group().formation.this.id).await;
            asked.filter(|base| is_fork(base, fork_point))
        }
    };
    let records = three_way(fork.as_ref(), &loser, Some(winner));
    if records.is_empty() {
        return Ok(());
    }
    tracing::warn!(
        formation = formation.number,
        records = records.len(),
        "what was changed in a formation that gave way is kept as a divergence"
    );
    let divergence = Divergence::of(&loser, fork_point, fork.is_some());
    let within = winner.group().formation.this.id;
    Ok(upload(node, within, divergence, records).await?)
}

/// What the present formation began with, as one of its members kept it.
async fn ask_for_base(node: &Node, formation: FormationId) -> Option<Directory> {
    for server in node
        .directory()
        .servers()
        .filter(|server| server.id != node.me())
    {
        let mut records = Vec::new();
        loop {
            let offset = u32::try_from(records.len()).unwrap_or(u32::MAX);
            let request = Request::Base { formation, offset };
            match node.call(server.id, &request, ANSWER_LIMIT * 4).await {
                Ok(Answer::Records(page)) if page.is_empty() => break,
                Ok(Answer::Records(page)) => records.extend(page),
                _ => {
                    records.clear();
                    break;
                }
            }
        }
        if !records.is_empty()
            && let Ok(base) = Directory::from_records(records)
        {
            return Some(base);
        }
    }
    None
}

/// A page of what a formation began with on this server, as far as people edit it; empty after the last.
pub(crate) async fn base_records(node: &Node, formation: FormationId, offset: u32) -> Vec<Record> {
    if node.replica().formation() != formation
        || node.directory().group().formation.this.id != formation
    {
        return Vec::new();
    }
    let base = match node.replica().base().await {
        Ok(Some(base)) => base,
        Ok(None) => return Vec::new(),
        Err(error) => {
            tracing::warn!(%error, "what this formation began with cannot be read");
            return Vec::new();
        }
    };
    if !is_fork(&base, node.directory().group().formation.this.fork_point) {
        return Vec::new();
    }
    let mut bytes = 0;
    base.records()
        .filter(is_edited)
        .skip(usize::try_from(offset).unwrap_or(usize::MAX))
        .take(PAGE.0)
        .take_while(|record| {
            let before = bytes;
            bytes += wire::encode(record).len();
            before == 0 || bytes <= PAGE.1
        })
        .collect()
}
