//! `stead trust`: the group's authority, certificates and secret.

mod revoke;
mod rotate_ca;
mod rotate_seal;
mod rotating;
mod set_certificate;

use super::Context;
use crate::door::Door;
use crate::errors::Failure;
use clap::Subcommand;
use rotating::Rotating;
use server::api::bodies::{RotationState, SecretRotation, Trust as TrustView};
use set_certificate::SetCertificate;
use std::time::Duration;

/// How long the members may take to confirm before the command says how far they are.
const PATIENCE: Duration = Duration::from_secs(15);

/// Shows and rotates what servers and clients trust
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Trust {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Show(Show),
    RotateCa(rotate_ca::RotateCa),
    RotateSecret(RotateSecret),
    RotateSeal(rotate_seal::RotateSeal),
    Revoke(revoke::Revoke),
    SetCertificate(SetCertificate),
}

/// Shows the authority's fingerprint, which clients are given, and what expires when
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead trust show
  stead trust show --json               ca_fingerprint is what --ca takes")]
struct Show {}

/// Has the servers prove another secret to each other, without a connection refused meanwhile
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The secret before is accepted too until every member has confirmed the new one. A member that is away \
gets it when it comes back; --finish ends the rotation without waiting for it, and it fetches the secret then, with the \
one before, which is good for nothing else. Users, clients and scripts notice nothing. A server that is removed makes \
the group rotate by itself.

Examples:
  stead trust rotate-secret --reason \"a disk was sold\"
  stead trust rotate-secret --dry-run
  stead trust rotate-secret --finish"
)]
struct RotateSecret {
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// End the rotation that is under way, whoever has not confirmed.
    #[arg(long, conflicts_with = "reason")]
    finish: bool,
    /// Show how it stands, and who would have to confirm.
    #[arg(long)]
    dry_run: bool,
}

impl Trust {
    /// Does what the verb says.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let door = Door::open(context)?;
        let trust = match self.verb {
            Verb::Show(_) => {
                let what = "the group's trust was not shown";
                door.get(what, "/v1/trust").await?
            }
            Verb::RotateCa(verb) => verb.run(context, &door).await?,
            Verb::RotateSecret(verb) => verb.run(context, &door).await?,
            Verb::RotateSeal(verb) => verb.run(context, &door).await?,
            Verb::Revoke(verb) => verb.run(&door).await?,
            Verb::SetCertificate(verb) => return verb.run(context, &door).await,
        };
        context.output.show(&trust, text);
        Ok(())
    }
}

impl RotateSecret {
    /// Begins or ends it, and waits a while for it to be over; shows how it stands then.
    async fn run(self, context: &Context, door: &Door) -> Result<TrustView, Failure> {
        let request = SecretRotation {
            reason: self.reason,
            finish: self.finish,
        };
        let rotating = Rotating {
            what: "the group secret was not rotated",
            path: "/v1/trust/secret",
            waiting: "the members confirm the new secret",
            patience: PATIENCE,
            under_way: |trust| trust.secret.rotating,
        };
        rotating.ask(context, door, &request, self.dry_run).await
    }
}

fn rotation_facts(rotation: &RotationState, facts: &mut Vec<(&'static str, String)>) {
    let other = match rotation.phase.as_str() {
        "introduced" => "the next one is",
        "withdrawn" => "taken back was",
        _ => "before it was",
    };
    facts.push((
        "rotation",
        format!("{}, since {}", rotation.phase, rotation.since),
    ));
    facts.push(("", format!("{other} {}", rotation.other_fingerprint)));
    if !rotation.unconfirmed.is_empty() {
        let left = rotation.unconfirmed.join(", ");
        facts.push(("", format!("not confirmed yet by {left}")));
    }
    if let Some(until) = &rotation.clients_until {
        facts.push((
            "",
            format!("clients that know only the one before get in until {until}"),
        ));
    }
    for pinned in &rotation.pinned {
        facts.push((
            "",
            format!(
                "known only by the one before to {} at {}, last {}",
                pinned.name, pinned.from, pinned.at
            ),
        ));
    }
}

fn text(trust: &TrustView) -> String {
    let mut facts = vec![
        ("group", format!("{} ({})", trust.group, trust.group_id)),
        ("authority", trust.ca_fingerprint.clone()),
        ("", format!("until {}", trust.ca_expires)),
    ];
    if let Some(rotation) = &trust.rotation {
        rotation_facts(rotation, &mut facts);
    }
    facts.push(("secret", format!("since {}", trust.secret.since)));
    if trust.secret.rotating {
        let left = trust.secret.unconfirmed.join(", ");
        facts.push(("", format!("rotates: not confirmed yet by {left}")));
    }
    facts.push(("seal key", format!("since {}", trust.seal.since)));
    if let Some(phase) = &trust.seal.phase {
        let left = match trust.seal.unconfirmed.as_slice() {
            [] => String::new(),
            names => format!(": not fetched yet by {}", names.join(", ")),
        };
        facts.push(("", format!("changes, {phase}{left}")));
    }
    if let Some(until) = &trust.seal.former_tickets_until {
        let line = format!("tickets of the ticket key before hold until {until}");
        facts.push(("", line));
    }
    for certificate in &trust.certificates {
        facts.push((
            "certificate",
            format!(
                "{} until {}{}",
                certificate.name,
                certificate.expires,
                if certificate.revoked { ", revoked" } else { "" }
            ),
        ));
    }
    for external in &trust.external_certificates {
        let name = &external.name;
        let line = format!("{name} until {}, by {}", external.expires, external.issuer);
        facts.push(("for", line));
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
}
