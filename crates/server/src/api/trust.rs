//! `/v1/trust`: the group's authority, certificates and open invitations. No key and no secret is shown.

use super::bodies::{Certificate, OpenInvitation, Trust, rfc3339};
use super::show::{by_name, standing};
use crate::node::Node;
use axum::Json;
use axum::extract::State;

/// Shows the group's authority, certificates and open invitations.
#[utoipa::path(get, path = "/v1/trust", tag = "trust", responses((status = 200, body = Trust)))]
pub(super) async fn show(State(node): State<Node>) -> Json<Trust> {
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
    Json(Trust {
        group: group.name.to_string(),
        group_id: group.id.to_string(),
        ca_fingerprint: group.authority.fingerprint.clone(),
        ca_expires: rfc3339(group.authority.expires),
        certificates: by_name(&directory).into_iter().map(certificate).collect(),
        invitations: open
            .map(|open| OpenInvitation {
                id: open.id.to_string(),
                standing: standing(open.standing).to_owned(),
                by: open.by.clone(),
                expires: rfc3339(open.expires),
            })
            .collect(),
    })
}
