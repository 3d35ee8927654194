//! What an acting primary does for servers that are being drained, as in the daemon.

use crate::planted::Planted;
use crate::server::Server;
use model::{Author, Command};
use policy::draining::{Action, Draining};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use wire::control::Request;

/// As in the daemon.
const LOOK: Duration = Duration::from_millis(500);

/// Drains as long as the server runs; only an acting primary does something.
pub(crate) async fn run(server: Arc<Server>) {
    let mut draining = Draining::default();
    loop {
        sleep(LOOK).await;
        let state = server.replica.state();
        let directory = server.directory(&state);
        let seen = server.seen(directory, &server.replica.status());
        let acts = server.acts(&server.replica.acting());
        if !acts || !policy::clocks::agrees(server.me, &seen) {
            draining = Draining::default();
            continue;
        }
        if server.scene.has(Planted::DrainForgotten) {
            continue;
        }
        let calendar = server.scene.calendar(server.me);
        for action in draining.handle(directory, calendar, server.now()) {
            execute(&server, action).await;
        }
    }
}

async fn execute(server: &Arc<Server>, action: Action) {
    match action {
        Action::Move { session, from } => {
            let state = server.replica.state();
            let name = server.directory(&state).name_of(from);
            let wish = Request::MoveSession {
                id: server.change(Command::FinishDrain { server: from }).id,
                author: Author::Server(server.me),
                session,
                to: None,
                by: format!("the drain of {name}"),
            };
            // Whoever is primary then looks again.
            drop(server.serve(&wish, true).await);
        }
        Action::Finish(id) => {
            // It is tried again.
            let _finished = server.submit(Command::FinishDrain { server: id }).await;
        }
    }
}
