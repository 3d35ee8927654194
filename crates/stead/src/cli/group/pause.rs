//! `stead group pause` and `stead group resume`: automatic failover stopped for maintenance, and let go on.

use super::show_plan;
use crate::cli::{Context, values};
use crate::door::{Door, Method, with_query};
use crate::errors::Failure;
use server::api::bodies::{GroupPause, PauseRequest, Plan};
use std::time::Duration;

const PATH: &str = "/v1/group/pause";

/// Stops automatic failover for maintenance, until a time
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead group pause --reason 'new switches'               for an hour
  stead group pause --reason 'new switches' --for 2h
  stead group pause --reason 'new switches' --dry-run
  stead group resume                                      before it is over

While it holds, no server takes the place of a primary that is lost, nor does the original primary take over again;
stead group promote still works.
A pause that is asked for during another takes its place.")]
pub(super) struct Pause {
    /// Why; shown wherever the pause is.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// After what time it ends by itself, from 1m to 7d; 1h when absent.
    #[arg(long = "for", value_name = "TIME", value_parser = values::span)]
    span: Option<Duration>,
    /// Print what would happen, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Ends the pause of automatic failover at once
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead group resume
  stead group resume --reason 'done early'
  stead group resume --dry-run")]
pub(super) struct Resume {
    /// Why; kept in the history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print what would happen, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Pause {
    /// Pauses, or prints the plan.
    pub(super) async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let what = "automatic failover was not paused";
        let request = PauseRequest {
            reason: self.reason,
            for_s: self.span.map(|span| span.as_secs()),
        };
        if self.dry_run {
            let path = format!("{PATH}?dry_run=true");
            let plan: Plan = door.send(what, Method::Post, &path, &request).await?;
            return show_plan(context.output, &plan);
        }
        let pause: GroupPause = door.send(what, Method::Post, PATH, &request).await?;
        let until = match &pause.until {
            Some(until) => format!("until {until}, or until `stead group resume`"),
            None => "until `stead group resume`".to_owned(),
        };
        let sentence = format!(
            "Automatic failover is paused {until}: no server takes the place of a primary that is lost."
        );
        context.output.done(&pause, sentence);
        Ok(())
    }
}

impl Resume {
    /// Ends the pause, or prints the plan.
    pub(super) async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let what = "automatic failover was not resumed";
        let query = [
            ("reason", self.reason),
            ("dry_run", self.dry_run.then(|| "true".to_owned())),
        ];
        let path = with_query(PATH, &query);
        if self.dry_run {
            let plan: Plan = door.send(what, Method::Delete, &path, &()).await?;
            return show_plan(context.output, &plan);
        }
        let ended: GroupPause = door.send(what, Method::Delete, &path, &()).await?;
        context
            .output
            .done(&ended, "The pause of automatic failover is over.");
        Ok(())
    }
}
