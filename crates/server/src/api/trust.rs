//! `/v1/trust`: the group's authority, certificates and open invitations. No key and no secret is shown.

use super::bodies::{
    AuthorityRotation, Certificate, OpenInvitation, PinnedClient, Revocation, RotationState,
    SealRotation, SealState, SecretRotation, SecretState, Trust, rfc3339,
};
use super::caller::Caller;
use super::extract::{Asked, Body};
use super::group::{DryRun, id_of};
use super::problem::Problem;
use super::servers::checked_reason;
use super::show::{by_name, server_named, standing};
use crate::node::Node;
use axum::Json;
use axum::extract::{Path, State};
use model::Command;
use std::time::Duration;

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
        false => node.rotate_secret(author, reason, false).await,
    };
    done?;
    Ok(Json(shown(&node)))
}

/// Has another key seal, once all who may lead have it, and another one sign tickets. Or puts it in force without those who have not.
#[utoipa::path(post, path = "/v1/trust/seal", tag = "trust", params(DryRun), request_body = SealRotation,
    responses((status = 200, body = Trust, description = "Begun, or gone on; with dry_run as it is"), (status = 409, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn rotate_seal(
    State(node): State<Node>,
    caller: Caller,
    Asked(asked): Asked<DryRun>,
    Body(request): Body<SealRotation>,
) -> Result<Json<Trust>, Problem> {
    let reason = checked_reason(request.reason)?;
    if asked.dry_run {
        return Ok(Json(shown(&node)));
    }
    let author = caller.author.clone();
    let done = match request.finish {
        true => node.force_seal(author).await,
        false => node.rotate_seal(author, reason, true).await,
    };
    done?;
    Ok(Json(shown(&node)))
}

/// Introduces another authority, goes on with that, or takes it back. Old and new are both accepted until all members have confirmed.
#[utoipa::path(post, path = "/v1/trust/authority", tag = "trust", params(DryRun), request_body = AuthorityRotation,
    responses((status = 200, body = Trust, description = "Begun, gone on, or taken back; with dry_run as it is"), (status = 409, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn rotate_authority(
    State(node): State<Node>,
    caller: Caller,
    Asked(asked): Asked<DryRun>,
    Body(request): Body<AuthorityRotation>,
) -> Result<Json<Trust>, Problem> {
    let reason = checked_reason(request.reason)?;
    if asked.dry_run {
        return Ok(Json(shown(&node)));
    }
    let author = caller.author.clone();
    let clients = request.clients_s.map(Duration::from_secs);
    let done = match (request.finish, request.back) {
        (true, true) => return Err(Problem::invalid("finish and back contradict each other")),
        (true, false) => node.force_authority(author).await,
        (false, true) => node.withdraw_authority(author, reason).await,
        (false, false) => node.rotate_authority(author, reason, clients, true).await,
    };
    done?;
    Ok(Json(shown(&node)))
}

/// Refuses the certificates that a server has from now on; it gets itself others at once.
#[utoipa::path(post, path = "/v1/servers/{name}/revoke", tag = "trust", params(("name" = String, Path,), DryRun), request_body = Revocation,
    responses((status = 200, body = Trust), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn revoke(
    State(node): State<Node>,
    caller: Caller,
    Path(name): Path<String>,
    Asked(asked): Asked<DryRun>,
    Body(request): Body<Revocation>,
) -> Result<Json<Trust>, Problem> {
    let reason = checked_reason(request.reason)?;
    let id = id_of(&node, &name).await?;
    let directory = node.directory();
    let server = server_named(&directory, &name)?;
    debug_assert_eq!(server.id, id, "a name is one server's");
    if !asked.dry_run {
        let command = Command::RevokeCertificates {
            server: server.id,
            key: server.peer_key,
            reason,
        };
        node.submit(None, caller.author.clone(), command).await?;
    }
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
            revoked: server.revoked.contains(&server.peer_key),
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
        rotation: rotation(node),
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
        external_certificates: super::certificates::all(&directory),
        seal: seal(node),
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

fn seal(node: &Node) -> SealState {
    let directory = node.directory();
    let seal = &directory.group().seal;
    let former = seal.former_tickets(node.now());
    SealState {
        key: seal.mark.to_string(),
        since: rfc3339(seal.since),
        phase: seal
            .rotation
            .as_ref()
            .map(|it| it.phase.as_str().to_owned()),
        unconfirmed: node
            .seal_unconfirmed()
            .into_iter()
            .map(|id| directory.name_of(id))
            .collect(),
        former_tickets_until: former.map(|former| rfc3339(former.until)),
    }
}

fn rotation(node: &Node) -> Option<RotationState> {
    let directory = node.directory();
    let rotation = directory.group().succession.rotation.as_ref()?;
    let unconfirmed = node.authority_unconfirmed().into_iter();
    Some(RotationState {
        phase: rotation.phase.as_str().to_owned(),
        since: rfc3339(rotation.since),
        other_fingerprint: rotation.other.fingerprint.clone(),
        unconfirmed: unconfirmed.map(|id| directory.name_of(id)).collect(),
        clients_until: rotation.clients_until.map(rfc3339),
        reason: rotation.reason.clone(),
        pinned: pinned(node),
    })
}

/// Who came to any server with the fingerprint of an authority of before, the latest first.
fn pinned(node: &Node) -> Vec<PinnedClient> {
    let directory = node.directory();
    let mut seen: Vec<_> = node
        .pins()
        .into_iter()
        .map(|(server, pin)| PinnedClient {
            name: pin.name,
            from: pin.from,
            server: directory.name_of(server),
            at: rfc3339(pin.at),
            fingerprint: pin.authority.to_string(),
        })
        .collect();
    seen.sort_by(|one, other| other.at.cmp(&one.at));
    seen
}
