//! A server that starts: the others may have gone on in another formation while it slept.
//!
//! Always true: it takes no part in its own before it has asked them, and not because they fell silent since.

use super::{ASK_OFTEN, SILENCE, locked};
use crate::clock;
use crate::node::Node;
use crate::peers::Contact;
use model::ServerId;
use policy::formations::{Part, may_follow, part};
use std::time::Duration;
use tokio::time::sleep;

/// A server on its way back into its formation.
#[derive(Debug)]
pub(super) struct Returning {
    /// Since when it has been there.
    since: Duration,
    /// Whether it takes part.
    speaks: bool,
}

impl Returning {
    /// Asks the others, for a bounded time, and takes part if nothing stands against that.
    pub(super) async fn begin(node: &Node) -> Self {
        let since = clock::steady();
        ask(node, since + SILENCE).await;
        let mut returning = Self {
            since,
            speaks: false,
        };
        match part(&node.side(), &node.sides()) {
            Part::Takes => returning.speak(node),
            Part::Later => tracing::info!(
                "the others have gone on in another formation; this server's stands, and goes on when it has been healthy for resilience.return-delay"
            ),
            Part::None => tracing::info!(
                "the others have gone on in another formation: this server takes no part in its old one"
            ),
        }
        returning
    }

    fn speak(&mut self, node: &Node) {
        self.speaks = true;
        node.replica().speak();
    }

    /// Takes part after all, when its formation stands and it has been healthy for long enough.
    pub(super) fn look(&mut self, node: &Node) {
        if self.speaks {
            return;
        }
        let until = self.since + node.directory().settings().return_delay();
        let now = clock::steady();
        // Those that went on may have fallen silent: then nothing is known of them, and it waits.
        let sides = node.sides();
        let others = policy::formations::acting(&sides).next().is_some();
        let stands = others && part(&node.side(), &sides) == Part::Later;
        *locked(&node.0.formations.returns) = stands.then_some(until);
        // Those that went on may have given way to its formation meanwhile.
        let again = may_follow(&node.side(), &sides);
        if again || (stands && now >= until) {
            *locked(&node.0.formations.returns) = None;
            self.speak(node);
        }
    }
}

/// Asks the others which formation they are in, until all have answered, its own primary has, or there is no more time.
async fn ask(node: &Node, until: Duration) {
    let led = async {
        while !may_follow(&node.side(), &node.sides()) {
            sleep(ASK_OFTEN / 8).await;
        }
    };
    tokio::select! {
        () = all_answer(node, until) => {}
        () = led => {}
    }
}

async fn all_answer(node: &Node, until: Duration) {
    loop {
        node.ask_sides().await;
        let sides = node.sides();
        let silent = |server: &ServerId| {
            !sides.contains_key(server) && node.0.peers.contact(*server) != Contact::Refuses
        };
        let all = !node.others().iter().any(silent);
        if all || clock::steady() >= until {
            break;
        }
        sleep(ASK_OFTEN / 4).await;
    }
}
