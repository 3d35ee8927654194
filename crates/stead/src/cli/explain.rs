//! `stead explain`: why the group decided as it did, or would.

use super::Context;
use crate::door::{Door, with_query};
use crate::errors::Failure;
use crate::output::{Output, Tone, printable};
use model::{AppName, ServerName, UserName};
use server::api::bodies::Explanation;

/// Explains the last decision about the primary, why not another server, or where a session would go
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead explain                        why the primary is primary
  stead explain --why-not chicago      why chicago is not, now
  stead explain --placement --app rdp  where a new session would start, and why")]
pub(crate) struct Explain {
    /// Why this server is not primary now.
    #[arg(long, value_name = "SERVER", conflicts_with = "placement")]
    why_not: Option<ServerName>,
    /// Where a new session would be placed now.
    #[arg(long)]
    placement: bool,
    /// The application of that session.
    #[arg(long, value_name = "APP", requires = "placement")]
    app: Option<AppName>,
    /// Whose session: what holds for one user alone counts then, too.
    #[arg(long, value_name = "NAME", requires = "placement")]
    user: Option<UserName>,
}

impl Explain {
    /// Asks and prints.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let query = [
            ("why_not", self.why_not.map(|name| name.to_string())),
            ("placement", self.placement.then(|| "true".to_owned())),
            ("app", self.app.map(|name| name.to_string())),
            ("user", self.user.map(|name| name.to_string())),
        ];
        let explanation: Explanation = Door::open(context)?
            .get(
                "the decision was not explained",
                &with_query("/v1/explain", &query),
            )
            .await?;
        context.output.show(&explanation, |explanation| {
            text(context.output, explanation)
        });
        Ok(())
    }
}

fn text(output: Output, explanation: &Explanation) -> String {
    let mut text = format!(
        "{}\n{}\n",
        output.heading(&printable(&explanation.decision)),
        explanation.at
    );
    for candidate in &explanation.candidates {
        let (word, tone) = if candidate.eligible {
            ("eligible", Tone::Good)
        } else {
            ("not eligible", Tone::Warning)
        };
        text.push_str(&format!(
            "\n{}: {}\n",
            candidate.name,
            output.tone(word, tone)
        ));
        for reason in &candidate.reasons {
            let (mark, tone) = if reason.pass {
                ("+", Tone::Good)
            } else {
                ("-", Tone::Bad)
            };
            text.push_str(&format!(
                "  {} {}: {}\n",
                output.tone(mark, tone),
                reason.rule,
                printable(&reason.detail)
            ));
        }
    }
    text
}
