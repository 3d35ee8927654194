//! A server that starts: the others may have gone on in another formation while it slept, as in the daemon.

use super::{ASK_OFTEN, SILENCE};
use crate::server::Server;
use model::ServerId;
use policy::formations::{Part, acting, may_follow, part};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// A server on its way back into its formation.
#[derive(Debug)]
pub(super) struct Returning {
    since: Duration,
    speaks: bool,
}

impl Returning {
    /// Asks the others, for a bounded time, and takes part if nothing stands against that.
    pub(super) async fn begin(server: &Arc<Server>) -> Self {
        let since = server.now();
        ask(server, since + SILENCE).await;
        let mut returning = Self {
            since,
            speaks: false,
        };
        match part(&server.side(), &server.sides()) {
            Part::Takes => returning.speak(server),
            Part::Later => {
                server.say("waits: the others have gone on, and its formation stands".into())
            }
            Part::None => {
                server.say("stays silent: the others have gone on in another formation".into());
            }
        }
        returning
    }

    fn speak(&mut self, server: &Server) {
        self.speaks = true;
        server.replica.speak();
    }

    /// Takes part after all, when its formation stands and it has been healthy for long enough.
    pub(super) fn look(&mut self, server: &Server) {
        if self.speaks {
            return;
        }
        let (state, own, sides) = (server.replica.state(), server.side(), server.sides());
        let until = self.since + server.directory(&state).settings().return_delay();
        let others = acting(&sides).next().is_some();
        let stands = others && part(&own, &sides) == Part::Later;
        let again = may_follow(&own, &sides);
        if again || (stands && server.now() >= until) {
            server.say("takes part again".into());
            self.speak(server);
        }
    }
}

/// Asks the others which formation they are in, until all have answered, its own primary has, or there is no more time.
async fn ask(server: &Arc<Server>, until: Duration) {
    let led = async {
        while !may_follow(&server.side(), &server.sides()) {
            sleep(ASK_OFTEN / 8).await;
        }
    };
    tokio::select! {
        biased;
        () = all_answer(server, until) => {}
        () = led => {}
    }
}

async fn all_answer(server: &Arc<Server>, until: Duration) {
    loop {
        server.ask_sides().await;
        let sides = server.sides();
        let silent = |other: ServerId| {
            !sides.contains_key(&other) && !server.inside().known.refuse.contains(&other)
        };
        if !server.others().into_iter().any(silent) || server.now() >= until {
            break;
        }
        sleep(ASK_OFTEN / 4).await;
    }
}
