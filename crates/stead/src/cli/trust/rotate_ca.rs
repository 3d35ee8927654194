//! `stead trust rotate-ca`: another authority for the group, phase by phase.

use super::Context;
use crate::door::{Door, Method};
use crate::errors::Failure;
use server::api::bodies::{AuthorityRotation, Trust as TrustView};
use std::time::{Duration, Instant};

/// How long the members may take to confirm before the command says how far they are.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(200);

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
        let what = "the group's authority was not rotated";
        let request = AuthorityRotation {
            reason: self.reason,
            clients_s: self.clients_for.map(|span| span.as_secs()),
            finish: self.finish,
            back: self.back,
        };
        let path = match self.dry_run {
            true => "/v1/trust/authority?dry_run=true",
            false => "/v1/trust/authority",
        };
        let mut trust: TrustView = door.send(what, Method::Post, path, &request).await?;
        if self.dry_run {
            return Ok(trust);
        }
        let waiting = context.output.progress("the members confirm");
        let patience = Instant::now() + PATIENCE;
        let busy = |trust: &TrustView| {
            let rotation = trust.rotation.as_ref();
            rotation.is_some_and(|rotation| rotation.phase != "pinned")
        };
        while busy(&trust) && Instant::now() < patience {
            tokio::time::sleep(LOOK).await;
            trust = door.get(what, "/v1/trust").await?;
        }
        drop(waiting);
        Ok(trust)
    }
}
