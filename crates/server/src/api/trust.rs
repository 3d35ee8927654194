//! `/v1/trust`: the group's authority, certificates and open invitations. No key and no secret is shown.

use super::bodies::{Certificate, OpenInvitation, SecretRotation, SecretState, Trust, rfc3339};
use super::caller::Caller;
use super::extract::{Asked, Body};
use super::group::DryRun;
use super::problem::Problem;
use super::servers::checked_reason;
use super::show::{by_name, standing};
use crate::node::Node;
use axum::Json;
use axum::extract::State;

/// Shows the group's authority, certificates and open invitations.
#[utoipa::path(get, path = "/v1/trust", tag = "trust", responses((status = 200, body = Trust)))]
pub(super) async fn show(State(node): State<Node>) -> Json<Trust> {
    Json(shown(&node))
}

/// Has the group prove another secret; the one before is accepted too until all members have confirmed it. Or ends that.
#[utoipa::path(post, path = "/v1/trust/secret", tag = "trust", params(DryRun), request_body = SecretRotation,
    responses((status = 200, body = Trust, description = "Begun, or ended; with dry_run as it is"), (status = 409, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn rotate_secret(
    State(node): State<Node>,
    caller: Caller,
    Asked(asked): Asked<DryRun>,
    Body(request): Body<SecretRotation>,
) -> Result<Json<Trust>, Problem> {
    let reason = checked_reason(request.reason)?;
    if asked.dry_run {
        return Ok(Json(shown(&node)));
    }
    let author = caller.author.clone();
    let done = match request.finish {
        true => node.force_secret(author).await,
        false => node.rotate_secret(author, reason).await,
    };
    done?;
    Ok(Json(shown(&node)))
}

fn shown(node: &Node) -> Trust {
    let (directory, now) = (node.directory(), node.now());
    let group = directory.group();
    let reports = node.reports();
    let certificate = |server: &model::Server| {
        let expires = reports
            .get(&server.id)
            .map_or(server.certificate_expires, |report| {
                report.certificate_expires
            });
        Certificate {
            name: server.name.to_string(),
            expires: rfc3339(expires),
        }
    };
    let open = directory
        .invitations()
        .filter(|open| open.used_by.is_none() && open.expires > now);
    let secret = &group.secret;
    Trust {
        group: group.name.to_string(),
        group_id: group.id.to_string(),
        ca_fingerprint: group.authority.fingerprint.clone(),
        ca_expires: rfc3339(group.authority.expires),
        secret: SecretState {
            since: rfc3339(secret.since),
            rotating: secret.rotating,
            unconfirmed: match secret.rotating {
                true => node
                    .unconfirmed()
                    .into_iter()
                    .map(|id| directory.name_of(id))
                    .collect(),
                false => Vec::new(),
            },
        },
        certificates: by_name(&directory).into_iter().map(certificate).collect(),
        invitations: open
            .map(|open| OpenInvitation {
                id: open.id.to_string(),
                standing: standing(open.standing).to_owned(),
                by: open.by.clone(),
                expires: rfc3339(open.expires),
            })
            .collect(),
    }
}
