//! `/v1/trust/certificates`: the operator's certificates for names under which clients reach the group. No key is shown.

use super::bodies::{CertificateUpload, ExternalCertificate};
use super::caller::Caller;
use super::extract::{Body, IfMatch, Named, tagged};
use super::problem::Problem;
use super::show;
use crate::external_certificates::PutError;
use crate::node::{Consistency, Node};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use model::settings::value::nearest;
use model::{Command, Directory, ExternalName};
use std::sync::Arc;

/// Lists the operator's certificates.
#[utoipa::path(get, path = "/v1/trust/certificates", tag = "trust", responses((status = 200, body = Vec<ExternalCertificate>)))]
pub(super) async fn list(State(node): State<Node>) -> Json<Vec<ExternalCertificate>> {
    let directory = node.directory();
    Json(all(&directory))
}

/// All of them, by name.
pub(super) fn all(directory: &Directory) -> Vec<ExternalCertificate> {
    let all = directory.certificates();
    all.map(|one| show::certificate(one)).collect()
}

/// Shows the operator's certificate for a name.
#[utoipa::path(get, path = "/v1/trust/certificates/{name}", tag = "trust", params(("name" = String, Path, description = "Which name")),
    responses((status = 200, body = ExternalCertificate), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(node): State<Node>,
    Named(name): Named<ExternalName>,
) -> Result<Response, Problem> {
    shown(&node, &lower(&name)?)
}

fn shown(node: &Node, name: &ExternalName) -> Result<Response, Problem> {
    let directory = node.directory();
    let certificate = known(&directory, name)?;
    let version = certificate.version_number;
    Ok(tagged(
        StatusCode::OK,
        version,
        &show::certificate(certificate),
    ))
}

fn known<'a>(
    directory: &'a Directory,
    name: &ExternalName,
) -> Result<&'a Arc<model::ExternalCertificate>, Problem> {
    directory.certificate(name).ok_or_else(|| {
        let names = directory.certificates();
        let near = nearest(name.as_str(), names.map(|one| one.name.as_str()));
        Problem::not_found("certificate", name.as_str(), near)
    })
}

/// Names are kept in lower case, whatever somebody types.
fn lower(name: &ExternalName) -> Result<ExternalName, Problem> {
    let lower = ExternalName::new(&name.as_str().to_ascii_lowercase());
    lower.map_err(|error| Problem::invalid(error.to_string()))
}

/// Puts in the operator's certificate for a name, in place of the one that it had. Its key is kept sealed.
#[utoipa::path(put, path = "/v1/trust/certificates/{name}", tag = "trust", params(("name" = String, Path, description = "Which name")),
    request_body = CertificateUpload,
    responses((status = 200, body = ExternalCertificate), (status = 409, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn put(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<ExternalName>,
    Body(upload): Body<CertificateUpload>,
) -> Result<Response, Problem> {
    let name = lower(&name)?;
    let CertificateUpload { certificate, key } = &upload;
    node.put_certificate(caller.author, name.clone(), certificate, &key.0)
        .await
        .map_err(unfit)?;
    shown(&node, &name)
}

/// What stands against a certificate.
pub(super) fn unfit(error: PutError) -> Problem {
    match error {
        PutError::Unfit(error) => Problem::invalid(error.in_full()),
        PutError::Submit(error) => error.into(),
    }
}

/// Takes the operator's certificate for a name out: the group's own is shown again.
#[utoipa::path(delete, path = "/v1/trust/certificates/{name}", tag = "trust", params(("name" = String, Path, description = "Which name")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn remove(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<ExternalName>,
    version: IfMatch,
) -> Result<StatusCode, Problem> {
    let name = lower(&name)?;
    if node.directory().certificate(&name).is_none() {
        // Others may have been told of it before this server was.
        node.catch_up(Consistency::Linearizable).await?;
    }
    let directory = node.directory();
    version.check("the certificate", known(&directory, &name)?.version_number)?;
    let command = Command::RemoveCertificate { name };
    caller.change(&node, command).await?;
    Ok(StatusCode::NO_CONTENT)
}
