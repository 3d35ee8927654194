//! `stead trust revoke`: a server's certificates are refused, and it gets others.

use crate::door::{Door, Method};
use crate::errors::Failure;
use server::api::bodies::{Revocation, Trust as TrustView};

/// Refuses the certificates that a server has now; it gets itself others at once
#[derive(Debug, clap::Args)]
#[command(
    after_help = "For a key that may have been copied. The members refuse it from now on, for anything but another certificate, which \
the server gets itself as soon as it hears of it; who has the copied key lacks the group's secret for that. If the secret may have been \
copied too, remove the server instead (stead group remove): the secret then rotates, and a server that could \
issue certificates has the whole authority rotate.

Examples:
  stead trust revoke boston --reason \"a backup of its disk was lost\""
)]
pub(super) struct Revoke {
    /// The server.
    #[arg(value_name = "SERVER")]
    name: String,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Show the certificates as they are.
    #[arg(long)]
    dry_run: bool,
}

impl Revoke {
    pub(super) async fn run(self, door: &Door) -> Result<TrustView, Failure> {
        let what = format!("the certificates of {} were not revoked", self.name);
        let query = if self.dry_run { "?dry_run=true" } else { "" };
        let path = format!("/v1/servers/{}/revoke{query}", self.name);
        let request = Revocation {
            reason: self.reason,
        };
        door.send(&what, Method::Post, &path, &request).await
    }
}
