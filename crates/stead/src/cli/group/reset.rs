//! `stead group reset`: a server forgets the group and stands alone.

use super::show_plan;
use crate::cli::{Context, Place};
use crate::door::{Door, Method};
use crate::errors::Failure;
use server::api::bodies::{GroupReset, Plan, ResetRequest};

const PATH: &str = "/v1/group/reset";

/// Makes this server forget the group: it stands alone from then on
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead group reset --data /var/lib/stead --dry-run
  stead group reset --data /var/lib/stead --reason 'the site is given up'

It is the server that is asked that forgets, not one that is named; it needs neither a primary nor the others.
It keeps users, applications, settings and its own sessions, which run on; values of secrets and operators' \
certificates too, if it may lead, else they have to be put in again. The others and their sessions are forgotten.
Its group is new, with a new fingerprint: everybody who uses it logs in again. The others list it as unreachable until
it is removed there: stead group remove NAME. A server that was removed stands alone by this too.")]
pub(super) struct Reset {
    /// Why; kept in the history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print what would happen, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Reset {
    /// Resets the server, or prints the plan.
    pub(super) async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let what = "the server was not reset";
        if let Place::Remote { servers, .. } = &context.place
            && servers.len() != 1
        {
            let why =
                "more than one server was named, and whichever answered would forget the group";
            return Err(
                Failure::usage(what, why).remedy("give --server with that one server alone")
            );
        }
        let request = ResetRequest {
            reason: self.reason,
        };
        if self.dry_run {
            let path = format!("{PATH}?dry_run=true");
            let plan: Plan = door.send(what, Method::Post, &path, &request).await?;
            return show_plan(context.output, &plan);
        }
        let done: GroupReset = door.send(what, Method::Post, PATH, &request).await?;
        let sentence = format!(
            "{} stands alone: it has forgotten {}.\nEverybody who uses it logs in again, with --ca {}",
            done.name,
            done.servers_forgotten.join(", "),
            done.ca_fingerprint
        );
        context.output.done(&done, sentence);
        Ok(())
    }
}
