//! `/v1/group`: adding a server that stands alone, at the member that adds it and at the server itself.

use super::bodies::{
    AddedServer, AdditionRequest, Candidate, EnteredGroup, EnteringRequest, LookRequest,
    SeenAuthority,
};
use super::caller::Caller;
use super::extract::{Asked, Body};
use super::group::{DryRun, read_standing, shown};
use super::problem::Problem;
use super::show::standing;
use crate::adding::remote::RemoteError;
use crate::adding::{AddingError, Addition};
use crate::entering::{EnteringError, Wish};
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use model::{ServerName, Standing};
use peer::InFull;
use peer::address::Address;
use peer::dial::DialError;
use peer::join::JoinError;
use wire::client::Hidden;
use wire::join::JoinCode;

/// Looks whose server answers clients at an address. Nothing is said to it.
#[utoipa::path(post, path = "/v1/group/look", tag = "group", request_body = LookRequest,
    responses((status = 200, body = SeenAuthority), (status = 409, body = Problem), (status = 422, body = Problem), (status = 504, body = Problem)))]
pub(super) async fn look(
    State(node): State<Node>,
    Body(request): Body<LookRequest>,
) -> Result<Json<SeenAuthority>, Problem> {
    check_address(&request.address)?;
    let seen = node.look(&request.address).await?;
    Ok(Json(SeenAuthority {
        address: request.address,
        ca_fingerprint: seen.to_string(),
    }))
}

/// Adds a server that stands alone: it proves to that server that one of its administrators wants it, and has it join.
#[utoipa::path(post, path = "/v1/group/members", tag = "group", params(DryRun), request_body = AdditionRequest,
    responses((status = 201, body = AddedServer, description = "Done; with dry_run the plan instead, with 200"), (status = 409, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem), (status = 504, body = Problem)))]
pub(super) async fn add(
    State(node): State<Node>,
    caller: Caller,
    Asked(asked): Asked<DryRun>,
    Body(request): Body<AdditionRequest>,
) -> Result<Response, Problem> {
    let wish = wished(&request)?;
    if asked.dry_run {
        return Ok(Json(shown(node.addition_plan(&wish).await?)).into_response());
    }
    let added = node.add(wish, caller.author).await?;
    let added = AddedServer {
        name: added.name,
        id: added.server.to_string(),
        standing: standing(added.standing).to_owned(),
        started: added.started,
    };
    Ok((StatusCode::CREATED, Json(added)).into_response())
}

fn wished(request: &AdditionRequest) -> Result<Addition, Problem> {
    check_address(&request.address)?;
    let authority = request.ca_fingerprint.parse();
    Ok(Addition {
        address: request.address.clone(),
        authority: authority.map_err(|error| {
            Problem::invalid(format!("ca_fingerprint: {error}"))
                .remedy("`stead trust show` prints it on that server")
        })?,
        user: request.user.clone(),
        password: Hidden(request.password.0.clone()),
        standing: request
            .standing
            .as_deref()
            .map_or(Ok(Standing::Voter), read_standing)?,
        name: checked_name(request.name.as_deref())?,
        discard: request.discard,
    })
}

fn check_address(address: &str) -> Result<(), Problem> {
    match address.parse::<Address>() {
        Ok(_) => Ok(()),
        Err(error) => Err(Problem::invalid(format!("address: {error}"))),
    }
}

fn checked_name(name: Option<&str>) -> Result<Option<ServerName>, Problem> {
    let name = name.map(str::parse::<ServerName>).transpose();
    name.map_err(|error| Problem::invalid(format!("name: {error}")))
}

/// Shows this server as another group would add it.
#[utoipa::path(get, path = "/v1/group/candidate", tag = "group", responses((status = 200, body = Candidate)))]
pub(super) async fn candidate(State(node): State<Node>) -> Json<Candidate> {
    Json(node.as_candidate())
}

/// Has this server, which stands alone, join the group that made the code: it closes its connections and goes on there by itself.
#[utoipa::path(post, path = "/v1/group/join", tag = "group", request_body = EnteringRequest,
    responses((status = 200, body = EnteredGroup), (status = 409, body = Problem), (status = 422, body = Problem), (status = 500, body = Problem)))]
pub(super) async fn join(
    State(node): State<Node>,
    caller: Caller,
    Body(request): Body<EnteringRequest>,
) -> Result<Json<EnteredGroup>, Problem> {
    let code: JoinCode = request
        .code
        .parse()
        .map_err(|error: wire::join::CodeError| Problem::invalid(format!("code: {error}")))?;
    let wish = Wish {
        code,
        name: checked_name(request.name.as_deref())?,
        discard: request.discard,
        by: caller.words(&node),
    };
    let entered = node.enter(wish).await?;
    Ok(Json(EnteredGroup {
        name: entered.name.to_string(),
        id: entered.server.to_string(),
        group: entered.group.to_string(),
        ca_fingerprint: entered.ca_fingerprint,
        standing: standing(entered.standing).to_owned(),
    }))
}

impl From<EnteringError> for Problem {
    fn from(error: EnteringError) -> Self {
        let detail = InFull(&error).to_string();
        match error {
            EnteringError::Refused { .. } => Self::refused(detail),
            EnteringError::UnderWay => Self::refused(detail).remedy("wait until that is over"),
            EnteringError::Join(JoinError::Refused(_)) => Self::refused(detail),
            EnteringError::Join(JoinError::Unreachable(_) | JoinError::NoAddress) => {
                Self::refused(detail)
                    .remedy("open the way from that server to the members' peer ports")
            }
            EnteringError::Join(
                JoinError::Broken(_) | JoinError::TooSlow | JoinError::Receive(_),
            ) => Self::later(detail),
            EnteringError::Join(_) | EnteringError::Disk(_) | EnteringError::Randomness(_) => {
                Self::internal(detail)
            }
        }
    }
}

impl From<AddingError> for Problem {
    fn from(error: AddingError) -> Self {
        let detail = InFull(&error).to_string();
        match error {
            AddingError::Look(error) => unreached(&error, detail),
            AddingError::Own { .. } => {
                Self::refused(detail).remedy("nothing has to be done; `stead group list` shows the members")
            }
            AddingError::Role { .. } => {
                Self::refused(detail).remedy("name one of its administrators with --user")
            }
            AddingError::Strange { .. } => {
                Self::refused(detail).remedy("install the group's version there")
            }
            AddingError::Refused { .. } => Self::refused(detail),
            AddingError::Submit(error) => error.into(),
            AddingError::Unknown { ref name, .. } => Self::later(detail).remedy(format!(
                "look with `stead group list` when it runs again; if it stands alone then, `stead group remove {name}`"
            )),
            AddingError::Remote(RemoteError::Dial(error)) => unreached(&error, detail),
            AddingError::Remote(RemoteError::Answer { .. }) => {
                Self::refused(detail).remedy("give the address for clients, and install the group's version there")
            }
            AddingError::Remote(RemoteError::Refused { problem, .. }) => of_remote(detail, *problem),
            AddingError::Remote(_) => Self::later(detail)
                .remedy("look with `stead group list` whether it is a member, then try again"),
        }
    }
}

fn unreached(error: &DialError, detail: String) -> Problem {
    match error {
        DialError::Certificate { .. } => Problem::refused(detail)
            .remedy("compare --fingerprint with what `stead trust show` prints on that server"),
        _ => Problem::later(detail).remedy(
            "check that `stead serve` runs there, and that the address is the one for clients (port 5443 unless it was set otherwise)",
        ),
    }
}

/// What the other server refused, which is nothing that this server's own login or address is to blame for.
fn of_remote(detail: String, problem: Problem) -> Problem {
    let mut told = match problem.exit {
        3 => Problem::later(detail),
        _ => Problem::refused(detail),
    };
    told.remedy = match problem.status {
        401 => Some("give the name and password of one of its own administrators".to_owned()),
        404 => Some("install the group's version there".to_owned()),
        _ => problem.remedy,
    };
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_server_refuses_is_no_failed_login_here() {
        let there = Problem::not_logged_in("wrong");
        assert_eq!(there.status, 401);
        let told = of_remote("it refused: wrong".to_owned(), there);
        assert_eq!((told.status, told.exit), (409, 4));
        assert!(told.remedy.unwrap().contains("its own administrators"));
        let late = of_remote("it is late".to_owned(), Problem::too_slow());
        assert_eq!(late.exit, 3);
    }
}
