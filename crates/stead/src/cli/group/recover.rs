//! `stead group recover`: a group that cannot go on by itself goes on by hand.

use super::show_plan;
use crate::cli::Context;
use crate::door::{Door, Method};
use crate::errors::Failure;
use server::api::bodies::{Plan, Recovered, RecoveryRequest};

/// Makes a formation of the servers that answer, or lets one of several stand
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Where the quorum is lost for good, the newest copy among the servers that answer becomes a new formation.
Where two sides of a split hear each other again and nobody decided, --formation says which one stands; what only
the other one has is kept: see `stead group divergence`.

Examples:
  stead group recover --dry-run
  stead group recover --reason 'two of three burnt'
  stead group recover --formation 2 --reason 'the customers were on that side'"
)]
pub(super) struct Recover {
    /// The formation that is to stand, by number or the beginning of its id, where several act.
    #[arg(long, value_name = "FORMATION")]
    formation: Option<String>,
    /// Why; kept in the history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print what the servers hold and what would happen, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Recover {
    pub(super) async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let what = "the group was not recovered";
        let request = RecoveryRequest {
            formation: self.formation,
            reason: self.reason,
        };
        if self.dry_run {
            let path = "/v1/group/recover?dry_run=true";
            let plan: Plan = door.send(what, Method::Post, path, &request).await?;
            return show_plan(context.output, &plan);
        }
        let waiting = context
            .output
            .progress("the servers are asked what they hold");
        let done: Recovered = door
            .send(what, Method::Post, "/v1/group/recover", &request)
            .await?;
        drop(waiting);
        context.output.show(&done, |done| {
            format!(
                "{} is primary of formation {} ({}).",
                done.primary, done.number, done.id
            )
        });
        Ok(())
    }
}
