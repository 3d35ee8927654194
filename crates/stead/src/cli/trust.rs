//! `stead trust`: the group's authority and certificates.

use super::Context;
use crate::door::Door;
use crate::errors::Failure;
use clap::Subcommand;
use server::api::bodies::Trust as TrustView;

/// Shows the group's authority, certificates and open invitations
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Trust {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Show(Show),
}

/// Shows the authority's fingerprint, which clients are given, and what expires when
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead trust show
  stead trust show --json               ca_fingerprint is what --ca takes")]
struct Show {}

impl Trust {
    /// Does what the verb says.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Verb::Show(_) = self.verb;
        let trust: TrustView = Door::open(context)?
            .get("the group's trust was not shown", "/v1/trust")
            .await?;
        context.output.show(&trust, |trust| {
            let mut facts = vec![
                ("group", format!("{} ({})", trust.group, trust.group_id)),
                ("authority", trust.ca_fingerprint.clone()),
                ("", format!("until {}", trust.ca_expires)),
            ];
            for certificate in &trust.certificates {
                facts.push((
                    "certificate",
                    format!("{} until {}", certificate.name, certificate.expires),
                ));
            }
            for open in &trust.invitations {
                facts.push((
                    "invitation",
                    format!(
                        "{} for a {}, by {}, until {}",
                        open.id, open.standing, open.by, open.expires
                    ),
                ));
            }
            super::facts(&facts)
        });
        Ok(())
    }
}
