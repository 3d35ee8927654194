//! Formations that a server was in before: what was changed there is brought into the one in force, then they go, as in the
//! daemon.

use super::ANSWER_LIMIT;
use crate::calls::NotMade;
use crate::planted::Planted;
use crate::server::Server;
use model::divergence::three_way;
use model::{Command, Directory, Diverged, Divergence, FormationId, Record};
use policy::formations::left::{diverged_after, is_edited, is_fork, kept_there};
use replica::{LeftBehind, SwitchError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use wire::control::{Answer, Request};

/// As in the daemon.
const LOOK: Duration = Duration::from_secs(1);
const PAGE: usize = 500;
/// Small, so that there is more than one piece.
const BATCH: usize = 20;

#[derive(Debug, thiserror::Error)]
enum SettleError {
    #[error(transparent)]
    Switch(#[from] SwitchError),
    #[error(transparent)]
    Formation(#[from] replica::formation::FormationError),
    #[error("the group does not keep it")]
    NotKept,
    #[error("this server has not caught up")]
    Behind,
}

impl From<NotMade> for SettleError {
    fn from(_: NotMade) -> Self {
        Self::NotKept
    }
}

/// Settles what was left behind, as long as its machine runs.
pub(super) async fn keep_settling(server: Arc<Server>) {
    loop {
        // What is not settled yet is tried again.
        drop(settle(&server).await);
        sleep(LOOK).await;
    }
}

async fn settle(server: &Server) -> Result<(), SettleError> {
    let replica = &server.replica;
    for left in replica.left_behind()? {
        let caught_up = server.catch_up().await;
        let state = replica.state();
        let directory = server.directory(&state);
        let present = directory.group().formation.clone();
        if !caught_up || present.this.id != replica.formation() {
            return Err(SettleError::Behind);
        }
        let kept = replica.read_left_behind(left).await?;
        let came_to = kept.directory.clone();
        let fork = came_to.as_ref().and_then(|it| diverged_after(it, &present));
        if let (Some(fork), false) = (fork, server.scene.has(Planted::DifferenceDropped)) {
            bring(server, kept, fork, directory).await?;
        }
        for (divergence, records) in came_to.map_or_else(Vec::new, |it| kept_there(&it, directory))
        {
            let number = divergence.formation.number;
            server.say(format!("takes the divergence of formation {number} along"));
            upload(server, present.this.id, divergence, records).await?;
        }
        replica.forget_left_behind(left).await?;
    }
    Ok(())
}

async fn bring(
    server: &Server,
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
            let asked = ask_for_base(server, winner.group().formation.this.id).await;
            asked.filter(|base| is_fork(base, fork_point))
        }
    };
    let records = three_way(fork.as_ref(), &loser, Some(winner));
    if records.is_empty() {
        return Ok(());
    }
    let (number, count) = (formation.number, records.len());
    server.say(format!("brings {count} records of formation {number}"));
    let divergence = Divergence::of(&loser, fork_point, fork.is_some());
    let within = winner.group().formation.this.id;
    upload(server, within, divergence, records).await
}

async fn upload(
    server: &Server,
    within: FormationId,
    divergence: Divergence,
    mut records: Vec<Diverged>,
) -> Result<(), SettleError> {
    while !records.is_empty() {
        let rest = records.split_off(records.len().min(BATCH));
        let command = Command::KeepDivergence {
            within,
            divergence: Box::new(divergence.clone()),
            records: std::mem::replace(&mut records, rest),
            last: records.is_empty(),
        };
        server.submit(command).await?;
    }
    Ok(())
}

/// What the present formation began with, as one of its members kept it.
async fn ask_for_base(server: &Server, formation: FormationId) -> Option<Directory> {
    for other in server.others() {
        let mut records = Vec::new();
        loop {
            let offset = u32::try_from(records.len()).unwrap_or(u32::MAX);
            let request = Request::Base { formation, offset };
            match server.call(other, request, ANSWER_LIMIT * 4).await {
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
pub(crate) async fn base_records(
    server: &Server,
    formation: FormationId,
    offset: u32,
) -> Vec<Record> {
    let state = server.replica.state();
    let this = server.directory(&state).group().formation.this;
    if server.replica.formation() != formation || this.id != formation {
        return Vec::new();
    }
    let Ok(Some(base)) = server.replica.base().await else {
        return Vec::new();
    };
    if !is_fork(&base, this.fork_point) {
        return Vec::new();
    }
    let edited = base.records().filter(is_edited);
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    edited.skip(offset).take(PAGE).collect()
}
