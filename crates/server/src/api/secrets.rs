//! `/v1/secrets`: stored credentials. They are set here, and read by nobody.

use super::bodies::{SecretChange, StoredSecret};
use super::caller::Caller;
use super::extract::{Body, IfMatch, Named, tagged};
use super::problem::Problem;
use super::retry::edit;
use super::show;
use crate::node::{Consistency, Node};
use crate::submit::SubmitError;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use data_encoding::BASE64;
use model::settings::value::nearest;
use model::trust::Sealed;
use model::{
    Application, Command, Directory, Refusal, SecretName, StoredSecret as Record,
    StoredSecretChange, UnixMillis,
};
use std::sync::Arc;
use wire::credentials::SecretBytes;

/// The step of a request that keeps a secret, beside those that change one.
const KEEPING: u32 = u32::MAX;

/// Lists the stored credentials, without their values.
#[utoipa::path(get, path = "/v1/secrets", tag = "secrets", responses((status = 200, body = Vec<StoredSecret>)))]
pub(super) async fn list(State(node): State<Node>) -> Json<Vec<StoredSecret>> {
    let directory = node.directory();
    let all = directory.secrets();
    Json(all.map(|one| show::secret(&directory, one)).collect())
}

/// Shows what is known of a stored credential; never its value.
#[utoipa::path(get, path = "/v1/secrets/{name}", tag = "secrets", params(("name" = String, Path, description = "Which secret")),
    responses((status = 200, body = StoredSecret), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(node): State<Node>,
    Named(name): Named<SecretName>,
) -> Result<Response, Problem> {
    shown(&node, StatusCode::OK, &name)
}

fn shown(node: &Node, status: StatusCode, name: &SecretName) -> Result<Response, Problem> {
    let directory = node.directory();
    let secret = known(&directory, name)?;
    let body = show::secret(&directory, secret);
    Ok(tagged(status, secret.version_number, &body))
}

fn known<'a>(directory: &'a Directory, name: &SecretName) -> Result<&'a Arc<Record>, Problem> {
    directory.secret(name).ok_or_else(|| {
        let names = directory.secrets();
        let near = nearest(name.as_str(), names.map(|secret| secret.name.as_str()));
        Problem::not_found("secret", name.as_str(), near)
    })
}

/// Keeps a stored credential, or changes its value or description. The value is sealed before it is sent to other servers' directories.
#[utoipa::path(put, path = "/v1/secrets/{name}", tag = "secrets", params(("name" = String, Path, description = "Its name")),
    request_body = SecretChange,
    responses((status = 200, body = StoredSecret, description = "It was changed"), (status = 201, body = StoredSecret, description = "It is kept"), (status = 404, body = Problem), (status = 412, body = Problem), (status = 413, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn set(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<SecretName>,
    version: IfMatch,
    Body(request): Body<SecretChange>,
) -> Result<Response, Problem> {
    if request == SecretChange::default() {
        return Err(Problem::invalid(
            "neither a value nor a description was said",
        ));
    }
    let sealed = match &request.value {
        Some(value) => Some(node.seal_value(&name, decoded(&value.0)?).await?),
        None => None,
    };
    if let (None, Some(sealed)) = (version.0, &sealed)
        && keep(&node, &caller, record(&name, &request, sealed.clone())).await?
    {
        return shown(&node, StatusCode::CREATED, &name);
    }
    edit(&node, &caller, version, |directory| {
        let old = known(directory, &name)?;
        let expect = old.version_number;
        let description = request.description.clone();
        let secret = Record {
            description: description.unwrap_or_else(|| old.description.clone()),
            sealed: sealed.clone().unwrap_or_else(|| old.sealed.clone()),
            ..(**old).clone()
        };
        Ok((expect, put(secret, Some(expect))))
    })
    .await?;
    shown(&node, StatusCode::OK, &name)
}

/// Keeps a new secret, unless there is one of that name: then it says no.
async fn keep(node: &Node, caller: &Caller, secret: Record) -> Result<bool, Problem> {
    let (id, author) = (caller.change_id(KEEPING), caller.author.clone());
    match node.submit(id, author, put(secret, None)).await {
        Ok(_) => Ok(true),
        Err(SubmitError::Refused(Refusal::Exists { .. })) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn put(secret: Record, expect: Option<u64>) -> Command {
    Command::ChangeStoredSecret {
        change: StoredSecretChange::Put {
            secret: Box::new(secret),
            expect,
        },
    }
}

/// A record as `apply` completes it.
fn record(name: &SecretName, request: &SecretChange, sealed: Sealed) -> Record {
    Record {
        name: name.clone(),
        description: request.description.clone().flatten(),
        sealed,
        created: UnixMillis(0),
        set: UnixMillis(0),
        by: String::new(),
        exposed: None,
        version_number: 0,
    }
}

fn decoded(text: &str) -> Result<SecretBytes, Problem> {
    let limit = Record::VALUE_LIMIT;
    let bytes = BASE64.decode(text.as_bytes());
    // What the library says of a bad place is left out: it would tell of the value.
    let bytes = bytes.map_err(|_| Problem::invalid("the value is not base64"))?;
    let bytes = SecretBytes(bytes);
    match bytes.0.len() {
        0 => Err(Problem::invalid("the value is empty")),
        length if length > limit => Err(Problem::from(Refusal::TooLarge {
            what: "the secret's value".to_owned(),
            size: length as u64,
            limit: limit as u64,
        })),
        _ => Ok(bytes),
    }
}

/// Removes a stored credential that no application is given.
#[utoipa::path(delete, path = "/v1/secrets/{name}", tag = "secrets", params(("name" = String, Path, description = "Which secret")),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn remove(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<SecretName>,
    version: IfMatch,
) -> Result<StatusCode, Problem> {
    if node.directory().secret(&name).is_none() {
        // Others may have been told of it before this server was.
        node.catch_up(Consistency::Linearizable).await?;
    }
    let directory = node.directory();
    version.check("the secret", known(&directory, &name)?.version_number)?;
    let change = StoredSecretChange::Remove { name };
    caller
        .change(&node, Command::ChangeStoredSecret { change })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses an application that names a secret which is not there, with the nearest that is.
pub(super) fn check(directory: &Directory, app: &Application) -> Result<(), Problem> {
    let given = app.secrets().unwrap_or_default();
    given.iter().try_for_each(|name| {
        known(directory, name)
            .map(|_| ())
            .map_err(|problem| match problem.remedy {
                Some(_) => problem,
                None => problem.remedy("`stead secret set NAME` keeps one"),
            })
    })
}
