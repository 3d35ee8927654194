//! `stead trust rotate-seal`.

use super::{LOOK, PATIENCE, TrustView};
use crate::cli::Context;
use crate::door::{Door, Method};
use crate::errors::Failure;
use server::api::bodies::SealRotation;
use std::time::Instant;

/// Seals what the directory must not show under another key, and signs tickets with another one
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The key lies on every server that may become primary. Those fetch the next one from each other; once all have \
it, it is in force, and everything that the one before sealed is sealed anew. --finish does not wait for those that are \
away; they fetch it when they come back. Clients that are connected get themselves tickets of the new ticket key; those of \
the one before hold for trust.ticket-overlap, and not for the API: log in again there. When a server is removed that had \
the key, the group does this by itself. Follow it with rotate-ca and rotate-secret where somebody copied a server's disk.

Examples:
  stead trust rotate-seal --reason \"a disk was sold\"
  stead trust rotate-seal --dry-run
  stead trust rotate-seal --finish"
)]
pub(super) struct RotateSeal {
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Put the next key in force, whoever has not fetched it.
    #[arg(long, conflicts_with = "reason")]
    finish: bool,
    /// Show how it stands, and who would have to fetch it.
    #[arg(long)]
    dry_run: bool,
}

impl RotateSeal {
    /// Begins it, or has it go on, and waits a while for it to be over; shows how it stands then.
    pub(super) async fn run(self, context: &Context, door: &Door) -> Result<TrustView, Failure> {
        let what = "the seal key was not changed";
        let request = SealRotation {
            reason: self.reason,
            finish: self.finish,
        };
        let path = match self.dry_run {
            true => "/v1/trust/seal?dry_run=true",
            false => "/v1/trust/seal",
        };
        let mut trust: TrustView = door.send(what, Method::Post, path, &request).await?;
        if self.dry_run {
            return Ok(trust);
        }
        let waiting = context.output.progress("another key seals");
        let patience = Instant::now() + PATIENCE;
        while trust.seal.phase.is_some() && Instant::now() < patience {
            tokio::time::sleep(LOOK).await;
            trust = door.get(what, "/v1/trust").await?;
        }
        drop(waiting);
        Ok(trust)
    }
}
