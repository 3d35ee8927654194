//! What every request passes before its handler: who asks and whether that is enough, how fresh the answer must be, and
//! how long it may take. Roles are checked here and nowhere else.
//!
//! Always true: a handler runs only for a caller who has the role that its route declares in [`super::table`].

use super::caller::{self, Caller, Origin};
use super::problem::Problem;
use crate::node::{Consistency, Node};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use model::{ChangeName, FormationId, Role};
use peer::fingerprint::Fingerprint;
use peer::identity::mark_of;
use std::time::Duration;
use tokio::time::timeout;

/// Names the newest change that an answer contains, and asks for an answer that contains one: `formation/number`.
pub(crate) const CHANGE_HEADER: HeaderName = HeaderName::from_static("stead-change");
/// Says by which authority the caller knows the group: `sha256:HEX`.
const AUTHORITY_HEADER: HeaderName = HeaderName::from_static("stead-authority");
/// How old an answer may be, in milliseconds.
pub(crate) const AGE_HEADER: HeaderName = HeaderName::from_static("stead-age-ms");
/// How long a request may take, reading it included. Streams go on after their head was answered.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Anybody who reaches the server.
    Nothing,
    /// Whoever has at least this role.
    Role(Role),
}

impl Need {
    /// The least role, or `nobody`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nobody",
            Self::Role(role) => role.as_str(),
        }
    }
}

/// What the guard of one route knows.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    /// The server.
    pub(crate) node: Node,
    /// Who may pass.
    pub(crate) need: Need,
}

/// Lets a request through to its handler, or answers why not.
pub(crate) async fn guard(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    match timeout(TIME_LIMIT, admit(&gate, request, next)).await {
        Ok(Ok(response)) => response,
        Ok(Err(problem)) => problem.into_response(),
        Err(_) => Problem::too_slow().into_response(),
    }
}

async fn admit(gate: &Gate, mut request: Request, next: Next) -> Result<Response, Problem> {
    let node = &gate.node;
    if let Need::Role(least) = gate.need {
        let origin = request.extensions().get::<Origin>().copied();
        let origin = origin.ok_or_else(|| {
            Problem::not_logged_in("it is not known where the request comes from")
        })?;
        let path = request.uri().path();
        let caller = caller::identify(node, origin, request.method(), path, request.headers())?;
        let caller = caller.ok_or_else(|| Problem::not_logged_in("no bearer token was sent"))?;
        enough(&caller, least)?;
        note_authority(node, origin, &caller, request.headers());
        request.extensions_mut().insert(caller);
    }
    let mut age = None;
    for consistency in asked(request.uri().query(), request.headers())? {
        age = Some(node.catch_up(consistency).await?);
    }
    let mut response = next.run(request).await;
    let newest = change_text(node.directory().newest());
    let headers = response.headers_mut();
    if !headers.contains_key(CHANGE_HEADER)
        && let Ok(value) = HeaderValue::from_str(&newest)
    {
        headers.insert(CHANGE_HEADER, value);
    }
    let age = age.unwrap_or_else(|| node.age_ms());
    if age != u64::MAX {
        headers.insert(AGE_HEADER, HeaderValue::from(age));
    }
    Ok(response)
}

/// Whoever knows the group by an authority of before should be told of before it is too late.
fn note_authority(node: &Node, origin: Origin, caller: &Caller, headers: &HeaderMap) {
    let Some(said) = headers.get(&AUTHORITY_HEADER) else {
        return;
    };
    let fingerprint = said.to_str().ok().and_then(|text| text.parse().ok());
    if let (Some(fingerprint), Origin::Remote(from)) = (fingerprint, origin) {
        let fingerprint: Fingerprint = fingerprint;
        let name = caller.words(node);
        node.came_with(mark_of(&fingerprint), &name, from.ip());
    }
}

fn enough(caller: &Caller, least: Role) -> Result<(), Problem> {
    if caller.role >= least {
        return Ok(());
    }
    let (has, needs) = (caller.role.as_str(), least.as_str());
    Err(Problem::not_allowed(format!(
        "this needs the role {needs}, and the account has the role {has}"
    ))
    .remedy("ask an administrator for it: stead user set NAME --role ROLE"))
}

/// How fresh the answer must be, as the request says.
pub(super) fn asked(query: Option<&str>, headers: &HeaderMap) -> Result<Vec<Consistency>, Problem> {
    let mut asked = Vec::new();
    if let Some(value) = headers.get(CHANGE_HEADER) {
        let name = value.to_str().ok().and_then(parse_change);
        let name = name.ok_or_else(|| {
            Problem::invalid("Stead-Change is FORMATION/NUMBER, as an earlier answer named it")
        })?;
        asked.push(Consistency::Change(name));
    }
    let values = query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.strip_prefix("consistency="));
    for value in values {
        asked.push(match value {
            "local" => Consistency::Local,
            "linearizable" => Consistency::Linearizable,
            _ => return Err(Problem::invalid("consistency is `local` or `linearizable`")),
        });
    }
    Ok(asked)
}

/// The name of a change as text.
pub(crate) fn change_text(name: ChangeName) -> String {
    format!("{}/{}", name.formation, name.number)
}

fn parse_change(text: &str) -> Option<ChangeName> {
    let (formation, number) = text.split_once('/')?;
    Some(ChangeName {
        formation: formation.parse::<FormationId>().ok()?,
        number: number.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Author;

    #[test]
    fn roles_are_ordered() {
        let caller = |role| Caller {
            author: Author::User {
                name: "ann".parse().unwrap(),
                from: String::new(),
            },
            role,
            key: None,
        };
        for (place, least) in Role::ALL.into_iter().enumerate() {
            for (other, has) in Role::ALL.into_iter().enumerate() {
                assert_eq!(
                    enough(&caller(has), least).is_ok(),
                    other >= place,
                    "{has:?} for {least:?}"
                );
            }
        }
        assert_eq!(
            enough(&caller(Role::User), Role::Admin).unwrap_err().exit,
            4
        );
    }

    #[test]
    fn freshness_is_understood() {
        let name = ChangeName {
            formation: FormationId::from_bytes([3; 16]),
            number: 1005,
        };
        assert_eq!(parse_change(&change_text(name)), Some(name));
        for text in [
            "",
            "1005",
            "x/1",
            "/",
            "03030303030303030303030303030303/-1",
        ] {
            assert_eq!(parse_change(text), None, "{text:?}");
        }
        let none = HeaderMap::new();
        assert_eq!(asked(None, &none).unwrap(), []);
        assert_eq!(
            asked(Some("a=b&consistency=linearizable"), &none).unwrap(),
            [Consistency::Linearizable]
        );
        assert!(asked(Some("consistency=strong"), &none).is_err());
        let mut headers = HeaderMap::new();
        headers.insert(CHANGE_HEADER, HeaderValue::from_static("nonsense"));
        assert_eq!(asked(None, &headers).unwrap_err().status, 422);
    }
}
