//! What an acting primary does for servers that are being drained: it moves their sessions, and records when none is left.
//!
//! Always true: a session goes to a server that is online or stays, so that nothing is moved to and fro; deadlines are kept by a
//! clock that agrees with most.

use crate::clock;
use crate::moving::Move;
use crate::node::Node;
use crate::submit::{Attempt, SubmitError};
use futures_util::StreamExt;
use futures_util::stream;
use model::{ChangeId, Command, ServerId, SessionId};
use policy::draining::{Action, Draining};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How often it is looked what is to be moved.
const LOOK: Duration = Duration::from_millis(500);
/// How many sessions are moved at a time: each is placed by what the ones before it left.
const AT_A_TIME: usize = 8;

/// Drains as long as the server runs; only an acting primary does something.
pub(crate) async fn run(node: Node) {
    let mut draining = Draining::default();
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if !node.acting() || !policy::clocks::agrees(node.me(), &node.seen()) {
            draining = Draining::default();
            continue;
        }
        let directory = node.directory();
        let actions = draining.handle(&directory, clock::calendar(), clock::steady());
        drop(directory);
        let (moves, ends): (Vec<_>, Vec<_>) = actions
            .into_iter()
            .partition(|action| matches!(action, Action::Move { .. }));
        stream::iter(moves)
            .for_each_concurrent(AT_A_TIME, |action| execute(&node, action))
            .await;
        for action in ends {
            execute(&node, action).await;
        }
    }
}

async fn execute(node: &Node, action: Action) {
    match action {
        Action::Move { session, from } => {
            if let Err(error) = move_away(node, session, from).await {
                tracing::warn!(%session, %error, "a session stays on a server that is being drained; it is tried again");
            }
        }
        Action::Finish(server) => {
            let command = Command::FinishDrain { server };
            if let Err(error) = node.submit(None, node.author(), command).await {
                tracing::debug!(%error, "the end of a drain waits to be recorded");
            }
        }
    }
}

async fn move_away(node: &Node, session: SessionId, from: ServerId) -> Result<(), SubmitError> {
    let wish = Move {
        id: ChangeId::from_bytes(crate::random::bytes()?),
        author: node.author(),
        session,
        to: None,
        by: format!("the drain of {}", node.directory().name_of(from)),
        online_only: true,
    };
    match node.move_session_here(&wish).await {
        Attempt::Settled(settled) => match settled?.outcome {
            Ok(_) => Ok(()),
            Err(refusal) => Err(SubmitError::Refused(refusal)),
        },
        // Whoever is primary then looks again.
        Attempt::Again { .. } => Ok(()),
    }
}
