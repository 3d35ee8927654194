//! `/v1/sessions`: what runs, for whom, where. Long lists come in pages, in the order of ids.

use super::bodies::{Session, SessionMove, SessionRequest};
use super::caller::Caller;
use super::extract::{Asked, Body, Named, tagged};
use super::group::id_of;
use super::pages;
use super::problem::Problem;
use super::show;
use crate::moving::Move;
use crate::node::{Consistency, Node};
use crate::placing::{Whose, Wish};
use crate::submit::SubmitError;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use model::settings::value::nearest;
use model::{
    AppName, Applied, ChangeId, Command, Directory, Outcome, ServerId, SessionId, SessionState,
    Token, UserName,
};
use serde::Deserialize;
use std::sync::Arc;

const STATES: [SessionState; 5] = [
    SessionState::Starting,
    SessionState::Active,
    SessionState::Suspended,
    SessionState::Orphaned,
    SessionState::Ended,
];

/// Which sessions are meant.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only of this token.
    #[param(value_type = Option<String>)]
    token: Option<Token>,
    /// Only of this user.
    #[param(value_type = Option<String>)]
    user: Option<UserName>,
    /// Only of this application.
    #[param(value_type = Option<String>)]
    app: Option<AppName>,
    /// Only on this server.
    host: Option<String>,
    /// Only in this state.
    state: Option<String>,
    /// Ended ones of the history too.
    ended: bool,
    /// How many at most, 1 to 1000.
    limit: Option<u32>,
    /// Where the page before ended; from its `Link` header.
    #[param(value_type = Option<String>)]
    cursor: Option<SessionId>,
}

struct Filter {
    token: Option<Token>,
    user: Option<UserName>,
    app: Option<AppName>,
    host: Option<ServerId>,
    state: Option<SessionState>,
    ended: bool,
}

impl Which {
    fn filter(self, directory: &Directory) -> Result<Filter, Problem> {
        let host = self
            .host
            .as_deref()
            .map(|name| show::server_named(directory, name))
            .transpose()?;
        let state = self.state.as_deref().map(state).transpose()?;
        let ended = self.ended || state == Some(SessionState::Ended);
        Ok(Filter {
            token: self.token.map(|token| directory.canonical(&token).clone()),
            user: self.user,
            app: self.app,
            host: host.map(|host| host.id),
            state,
            ended,
        })
    }
}

fn state(word: &str) -> Result<SessionState, Problem> {
    STATES
        .into_iter()
        .find(|state| state.as_str() == word)
        .ok_or_else(|| {
            let words = STATES.map(SessionState::as_str);
            let problem = Problem::invalid(format!(
                "{word:?} is no state of a session: states are {}",
                words.join(", ")
            ));
            match nearest(word, words) {
                Some(near) => problem.remedy(format!("the nearest is {near}")),
                None => problem,
            }
        })
}

impl Filter {
    fn fits(&self, session: &model::Session) -> bool {
        (self.ended || session.state != SessionState::Ended)
            && self.state.is_none_or(|state| session.state == state)
            && self.host.is_none_or(|host| session.host == host)
            && self
                .token
                .as_ref()
                .is_none_or(|token| session.token == *token)
            && self.user.as_ref().is_none_or(|user| session.user == *user)
            && self.app.as_ref().is_none_or(|app| session.app == *app)
    }

    /// All sessions behind `after` that may fit, in the order of ids. A token's own are found without looking at the others.
    fn candidates<'a>(
        &self,
        directory: &'a Directory,
        after: Option<SessionId>,
    ) -> Box<dyn Iterator<Item = &'a Arc<model::Session>> + 'a> {
        match &self.token {
            Some(token) if !self.ended => {
                let mut own = directory.sessions_of(token);
                own.retain(|session| after.is_none_or(|after| session.id > after));
                own.sort_unstable_by_key(|session| session.id);
                Box::new(own.into_iter())
            }
            _ => Box::new(directory.sessions_from(after)),
        }
    }
}

/// Lists sessions that are not ended.
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", params(Which),
    responses((status = 200, body = Vec<Session>, headers(("Link" = String, description = "The address of the next page, rel=\"next\""))), (status = 422, body = Problem)))]
pub(super) async fn list(
    State(node): State<Node>,
    uri: Uri,
    Asked(which): Asked<Which>,
) -> Result<Response, Problem> {
    let directory = node.directory();
    let size = pages::size("limit", which.limit)?;
    let cursor = which.cursor;
    let filter = which.filter(&directory)?;
    let candidates = filter.candidates(&directory, cursor);
    let (page, more) = pages::take(candidates.filter(|session| filter.fits(session)), size);
    let last = page.last().filter(|_| more.is_some());
    let next = last.map(|last| ("cursor", last.id.to_string()));
    let sessions: Vec<Session> = page
        .into_iter()
        .map(|session| show::session(&directory, session))
        .collect();
    Ok(pages::answer(sessions, &uri, next))
}

fn found(directory: &Directory, id: SessionId) -> Result<&Arc<model::Session>, Problem> {
    directory.session(id).ok_or_else(|| {
        Problem::not_found("session", &id.to_string(), None)
            .remedy("see `stead session list --all`")
    })
}

/// Shows a session.
#[utoipa::path(get, path = "/v1/sessions/{id}", tag = "sessions", params(("id" = String, Path, description = "Its id")),
    responses((status = 200, body = Session), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(node): State<Node>,
    Named(id): Named<SessionId>,
) -> Result<Response, Problem> {
    shown(&node, id)
}

fn shown(node: &Node, id: SessionId) -> Result<Response, Problem> {
    shown_as(node, StatusCode::OK, id)
}

fn shown_as(node: &Node, status: StatusCode, id: SessionId) -> Result<Response, Problem> {
    let directory = node.directory();
    let session = found(&directory, id)?;
    Ok(tagged(
        status,
        session.version_number,
        &show::session(&directory, session),
    ))
}

/// Finds a token's session of an application, or makes one where placement puts it.
#[utoipa::path(post, path = "/v1/sessions", tag = "sessions", request_body = SessionRequest,
    responses((status = 201, body = Session, description = "It was made"), (status = 200, body = Session, description = "The token had it already"),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn open(
    State(node): State<Node>,
    caller: Caller,
    Body(request): Body<SessionRequest>,
) -> Result<Response, Problem> {
    let fits = |error: model::NameError| Problem::invalid(error.to_string());
    let token: Token = request.token.parse().map_err(fits)?;
    let user: UserName = request.user.parse().map_err(fits)?;
    let app: AppName = request.app.parse().map_err(fits)?;
    let host = match request.host.as_deref() {
        Some(name) => Some(id_of(&node, name).await?),
        None => None,
    };
    let key = key(&caller)?;
    let applied = node
        .open_session(Wish {
            id: key,
            author: caller.author,
            token,
            whose: Whose::User(user),
            app,
            host,
            client: None,
        })
        .await?;
    let (session, created) = made(applied)?;
    let status = match created {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    shown_as(&node, status, session)
}

/// Makes a session the current one of its token and application: where the token leads from now on.
#[utoipa::path(post, path = "/v1/sessions/{id}/select", tag = "sessions", params(("id" = String, Path, description = "Its id")),
    responses((status = 200, body = Session), (status = 404, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn select(
    State(node): State<Node>,
    caller: Caller,
    Named(id): Named<SessionId>,
) -> Result<Response, Problem> {
    let by = caller.words(&node);
    caller
        .change(&node, Command::SelectSession { session: id, by })
        .await?;
    shown(&node, id)
}

/// Has a session go on on another server: it ends, and another one starts there in its place. Answers with that one. Clients
/// that are attached go there by themselves.
#[utoipa::path(post, path = "/v1/sessions/{id}/move", tag = "sessions", params(("id" = String, Path, description = "Its id")), request_body = SessionMove,
    responses((status = 201, body = Session), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn move_to(
    State(node): State<Node>,
    caller: Caller,
    Named(id): Named<SessionId>,
    Body(wanted): Body<SessionMove>,
) -> Result<Response, Problem> {
    let to = match wanted.to.as_deref() {
        Some(name) => Some(id_of(&node, name).await?),
        None => None,
    };
    let wish = Move {
        id: key(&caller)?,
        by: caller.words(&node),
        author: caller.author,
        session: id,
        to,
        online_only: false,
    };
    let applied = node.move_session(wish).await?;
    let (session, _) = made(applied)?;
    shown_as(&node, StatusCode::CREATED, session)
}

fn key(caller: &Caller) -> Result<ChangeId, Problem> {
    match caller.change_id(0) {
        Some(key) => Ok(key),
        None => {
            let random = crate::random::bytes().map_err(SubmitError::from)?;
            Ok(ChangeId::from_bytes(random))
        }
    }
}

/// The session that a change made or found, and whether it was made.
fn made(applied: Applied) -> Result<(SessionId, bool), Problem> {
    match applied.outcome {
        Ok(Outcome::Session {
            session, created, ..
        }) => Ok((session, created)),
        _ => Err(Problem::invalid(
            "the primary's answer makes no sense: its version may not fit this server's",
        )),
    }
}

/// Ends a session and everything that runs in it.
#[utoipa::path(delete, path = "/v1/sessions/{id}", tag = "sessions", params(("id" = String, Path, description = "Its id")),
    responses((status = 200, body = Session), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn end(
    State(node): State<Node>,
    caller: Caller,
    Named(id): Named<SessionId>,
) -> Result<Response, Problem> {
    if node.directory().session(id).is_none() {
        // Others may have been told of it before this server was.
        node.catch_up(Consistency::Linearizable).await?;
        found(&node.directory(), id)?;
    }
    let by = caller.words(&node);
    caller
        .change(&node, Command::EndSession { session: id, by })
        .await?;
    shown(&node, id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_by_their_words() {
        assert_eq!(state("orphaned").unwrap(), SessionState::Orphaned);
        assert!(
            state("suspendet")
                .unwrap_err()
                .remedy
                .unwrap()
                .contains("suspended")
        );
    }
}
