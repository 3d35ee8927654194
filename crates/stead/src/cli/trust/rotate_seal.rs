//! `stead trust rotate-seal`.

use super::rotating::Rotating;
use super::{PATIENCE, TrustView};
use crate::cli::Context;
use crate::door::Door;
use crate::errors::Failure;
use server::api::bodies::SealRotation;

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
        let request = SealRotation {
            reason: self.reason,
            finish: self.finish,
        };
        let rotating = Rotating {
            what: "the seal key was not changed",
            path: "/v1/trust/seal",
            waiting: "another key seals",
            patience: PATIENCE,
            under_way: |trust| trust.seal.phase.is_some(),
        };
        rotating.ask(context, door, &request, self.dry_run).await
    }
}
