//! `stead trust rotate-ca`: another authority for the group, phase by phase.

use super::Context;
use super::rotating::Rotating;
use crate::door::Door;
use crate::errors::Failure;
use server::api::bodies::{AuthorityRotation, Trust as TrustView};
use std::time::Duration;

/// How long the members may take to confirm before the command says how far they are.
const PATIENCE: Duration = Duration::from_secs(20);

/// Gives the group another certificate authority, without a connection refused meanwhile
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Phases, as `stead trust show` names them; each begins by itself when every member has confirmed the one before:
  introduced   the members accept the next authority besides the present one
  issuing      the next one is in force; the members get certificates of it, the one before is still accepted
  pinned       servers do not accept the one before any more; clients that know only its fingerprint (--ca) get in until
               the time that is shown, and those that did lately are listed
  withdrawn    it was taken back (--back): the members get certificates of the one of before again

A member that is away is waited for; --finish ends the phase without it, and it gets what it lacks when it comes back. When a \
server is removed that could open the authority's key, the group rotates by itself, and waits for nobody who is away.

Examples:
  stead trust rotate-ca --reason \"every two years\"
  stead trust rotate-ca --clients-for 90d
  stead trust rotate-ca --finish
  stead trust rotate-ca --back"
)]
pub(super) struct RotateCa {
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// For how long clients that know only the present fingerprint still get in once the next one is in force; `trust.client-overlap`
    /// unless given.
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::values::span, conflicts_with_all = ["finish", "back"])]
    clients_for: Option<Duration>,
    /// End the phase that is under way, whoever has not confirmed it.
    #[arg(long, conflicts_with_all = ["reason", "back"])]
    finish: bool,
    /// Take the rotation back; possible until `pinned`.
    #[arg(long)]
    back: bool,
    /// Show how it stands, and who would have to confirm.
    #[arg(long)]
    dry_run: bool,
}

impl RotateCa {
    /// Begins, ends or takes back, and waits a while for the members; shows how it stands then.
    pub(super) async fn run(self, context: &Context, door: &Door) -> Result<TrustView, Failure> {
        let request = AuthorityRotation {
            reason: self.reason,
            clients_s: self.clients_for.map(|span| span.as_secs()),
            finish: self.finish,
            back: self.back,
        };
        let rotating = Rotating {
            what: "the group's authority was not rotated",
            path: "/v1/trust/authority",
            waiting: "the members confirm",
            patience: PATIENCE,
            under_way: |trust| {
                let rotation = trust.rotation.as_ref();
                rotation.is_some_and(|rotation| rotation.phase != "pinned")
            },
        };
        rotating.ask(context, door, &request, self.dry_run).await
    }
}
