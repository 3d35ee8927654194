//! The way to a server: every administrative command goes through the HTTP API, and nothing else.
//!
//! Always true: a change carries an idempotency key, so that it can be repeated at another server when an answer is
//! lost; a refusal keeps the server's own words and exit code. Start at [`Door::open`].

use crate::cli::{Context, Place};
use crate::errors::{Exit, Failure, chain};
use client::api::{Download, EventStream};
use client::{Api, ApiError, Call, Fingerprint, Logins, Reply, Target};
use hyper::Method as HttpMethod;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How something is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Do something.
    Post,
    /// Make or set something.
    Put,
    /// Change something.
    Patch,
    /// Remove something.
    Delete,
}

/// An open way to a group.
#[derive(Debug)]
pub(crate) struct Door {
    api: Api,
}

impl Door {
    /// Finds out how to reach the group. Nothing is sent yet.
    ///
    /// # Errors
    /// The group's authority is not known, or logins cannot be read.
    pub(crate) fn open(context: &Context) -> Result<Self, Failure> {
        Self::with_token(context, true)
    }

    /// A way that nobody is logged in on.
    ///
    /// # Errors
    /// The group's authority is not known.
    pub(crate) fn anonymous(context: &Context) -> Result<Self, Failure> {
        Self::with_token(context, false)
    }

    fn with_token(context: &Context, wanted: bool) -> Result<Self, Failure> {
        let target = match &context.place {
            Place::Local { data } => Target::Local { data: data.clone() },
            Place::Remote { servers, ca } => {
                let ca = authority(*ca)?;
                let bearer = if wanted { token(ca)? } else { None };
                Target::Remote {
                    servers: servers.clone(),
                    ca,
                    bearer,
                }
            }
        };
        Ok(Self {
            api: Api::new(target),
        })
    }

    /// Reads something.
    ///
    /// # Errors
    /// `what` failed, why, and what would help.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        what: &str,
        path: &str,
    ) -> Result<T, Failure> {
        let reply = self.call(what, reading(path)).await?;
        decode(what, &reply)
    }

    /// Reads something that may not be there.
    ///
    /// # Errors
    /// `what` failed, why, and what would help.
    pub(crate) async fn find<T: DeserializeOwned>(
        &self,
        what: &str,
        path: &str,
    ) -> Result<Option<T>, Failure> {
        let reply = self.ask(what, reading(path)).await?;
        match reply.status {
            404 => Ok(None),
            _ => decode(what, &taken(what, reply)?).map(Some),
        }
    }

    /// Reads a long list, page by page.
    ///
    /// # Errors
    /// `what` failed, why, and what would help.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        what: &str,
        path: &str,
    ) -> Result<Vec<T>, Failure> {
        let mut all = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next {
            let reply = self.call(what, reading(&path)).await?;
            all.extend(decode::<Vec<T>>(what, &reply)?);
            next = reply.header("link").and_then(next_page);
        }
        Ok(all)
    }

    /// Changes something and reads what came of it.
    ///
    /// # Errors
    /// `what` failed, why, and what would help.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let reply = self.change(what, method, path, body).await?;
        decode(what, &reply)
    }

    /// Changes something that answers with nothing.
    ///
    /// # Errors
    /// `what` failed, why, and what would help.
    pub(crate) async fn tell(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(), Failure> {
        self.change(what, method, path, body).await.map(|_| ())
    }

    async fn change(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Reply, Failure> {
        let body = serde_json::to_value(body).map_err(|error| Failure::failed(what, error))?;
        let body = (!body.is_null()).then_some(body);
        let key = fresh_key()
            .map_err(|_| Failure::failed(what, "the operating system has no randomness to give"))?;
        let method = match method {
            Method::Post => HttpMethod::POST,
            Method::Put => HttpMethod::PUT,
            Method::Patch => HttpMethod::PATCH,
            Method::Delete => HttpMethod::DELETE,
        };
        let call = Call {
            method,
            path,
            body,
            headers: vec![(client::api::IDEMPOTENCY_KEY.to_owned(), key)],
        };
        self.call(what, call).await
    }

    async fn call(&self, what: &str, call: Call<'_>) -> Result<Reply, Failure> {
        let reply = self.ask(what, call).await?;
        taken(what, reply)
    }

    async fn ask(&self, what: &str, call: Call<'_>) -> Result<Reply, Failure> {
        let reply = self.api.call(call).await;
        reply.map_err(|error| unreached(what, &error))
    }

    /// Asks for something that is taken piece by piece.
    ///
    /// # Errors
    /// `what` failed, why, and what would help.
    pub(crate) async fn download(
        &self,
        what: &str,
        path: &str,
        body: serde_json::Value,
    ) -> Result<Download, Failure> {
        let call = Call {
            method: HttpMethod::POST,
            path,
            body: Some(body),
            headers: Vec::new(),
        };
        let begun = self.api.download(&call).await;
        begun.map_err(|error| unreached(what, &error))
    }

    /// Follows the journal.
    ///
    /// # Errors
    /// `what` failed, why, and what would help.
    pub(crate) async fn events(
        &self,
        what: &str,
        path: &str,
        last: Option<u64>,
    ) -> Result<EventStream, Failure> {
        self.api
            .stream(path, last.map(|seq| seq.to_string()))
            .await
            .map_err(|error| unreached(what, &error))
    }
}

fn reading(path: &str) -> Call<'_> {
    Call {
        method: HttpMethod::GET,
        path,
        body: None,
        headers: Vec::new(),
    }
}

/// The authority that must have been named for a group elsewhere.
///
/// # Errors
/// It was not.
pub(crate) fn authority(named: Option<Fingerprint>) -> Result<Fingerprint, Failure> {
    let why =
        "the fingerprint of its authority was not given, so nobody could tell it from an impostor";
    named.ok_or_else(|| {
        Failure::usage("the group was not contacted", why).remedy("give --ca sha256:HEX (or STEAD_CA); `stead trust show` on one of its servers prints it")
    })
}

fn token(ca: Fingerprint) -> Result<Option<String>, Failure> {
    let given = std::env::var("STEAD_API_TOKEN")
        .ok()
        .filter(|token| !token.is_empty());
    if given.is_some() {
        return Ok(given);
    }
    let failed =
        |error: &dyn std::error::Error| Failure::failed("the login was not found", chain(error));
    let Ok(logins) = Logins::of_user() else {
        return Ok(None);
    };
    let kept = logins
        .load(ca)
        .map_err(|error| failed(&error).remedy("log in again: stead login"))?;
    Ok(kept.map(|login| login.token))
}

fn unreached(what: &str, error: &ApiError) -> Failure {
    let why = chain(error);
    match error {
        ApiError::NotReachable { .. } => Failure::later(what, why)
            .remedy("check that `stead serve` runs there and that --data or --server is right, then try again"),
        ApiError::Broken { .. } | ApiError::Timeout { .. } => {
            Failure::later(what, why).remedy("look whether it was done, then try again")
        }
        ApiError::Distrusted { .. } => Failure::failed(what, why)
            .remedy("compare --ca with what `stead trust show` prints on a server of the group"),
        ApiError::Problem(problem) => of_problem(what, problem),
        _ => Failure::failed(what, why),
    }
}

fn refusal(what: &str, reply: &Reply) -> Failure {
    match reply.problem() {
        Some(problem) => of_problem(what, &problem),
        None => Failure::failed(
            what,
            format!("{} answered with status {}", reply.server, reply.status),
        ),
    }
}

fn of_problem(what: &str, problem: &client::api::Problem) -> Failure {
    let why = if problem.detail.is_empty() {
        problem.title.clone()
    } else {
        problem.detail.clone()
    };
    let remedy = problem
        .more
        .get("remedy")
        .and_then(|remedy| remedy.as_str())
        .map(str::to_owned);
    let exit = problem
        .more
        .get("exit")
        .and_then(serde_json::Value::as_u64)
        .map_or_else(|| exit_of(problem.status), Exit::named);
    Failure {
        what: what.to_owned(),
        why,
        remedy,
        exit,
    }
}

/// A reply that says that it was done.
fn taken(what: &str, reply: Reply) -> Result<Reply, Failure> {
    match (200..300).contains(&reply.status) {
        true => Ok(reply),
        false => Err(refusal(what, &reply)),
    }
}

fn exit_of(status: u16) -> Exit {
    match status {
        401 | 403 | 404 | 409 | 412 | 422 => Exit::Refused,
        429 | 502..=504 => Exit::Later,
        _ => Exit::Failed,
    }
}

fn decode<T: DeserializeOwned>(what: &str, reply: &Reply) -> Result<T, Failure> {
    serde_json::from_slice(&reply.body).map_err(|error| {
        Failure::failed(
            what,
            format!("the answer of {} was not understood: {error}", reply.server),
        )
        .remedy("use the version of stead that the server runs")
    })
}

/// The address of the next page in a `Link` header (RFC 8288).
fn next_page(link: &str) -> Option<String> {
    let part = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    let (_, rest) = part.split_once('<')?;
    let (address, _) = rest.split_once('>')?;
    address.starts_with('/').then(|| address.to_owned())
}

fn fresh_key() -> Result<String, aws_lc_rs::error::Unspecified> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A piece of a path or query, with everything escaped that could mean something there.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// A path with a query of those values that are there.
pub(crate) fn with_query(path: &str, values: &[(&str, Option<String>)]) -> String {
    let given: Vec<String> = values
        .iter()
        .filter_map(|(name, value)| {
            value
                .as_ref()
                .map(|value| format!("{name}={}", escape(value)))
        })
        .collect();
    if given.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", given.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        assert_eq!(with_query("/v1/sessions", &[]), "/v1/sessions");
        assert_eq!(
            with_query(
                "/v1/sessions",
                &[
                    ("token", Some("card.1&2 ä".into())),
                    ("app", None),
                    ("state", Some("active".into()))
                ]
            ),
            "/v1/sessions?token=card.1%262%20%C3%A4&state=active"
        );
    }

    #[test]
    fn next_pages() {
        assert_eq!(
            next_page("</v1/sessions?cursor=ab>; rel=\"next\""),
            Some("/v1/sessions?cursor=ab".to_owned())
        );
        assert_eq!(next_page("<https://elsewhere/>; rel=\"next\""), None);
        assert_eq!(next_page("</v1/x>; rel=\"prev\""), None);
    }

    #[test]
    fn refusals_keep_the_servers_words() {
        let reply = |status: u16, body: &'static str| Reply {
            status,
            headers: hyper::HeaderMap::new(),
            body: body.into(),
            server: "s1".into(),
        };
        let told = reply(
            409,
            r#"{"type":"urn:x","title":"Conflict","status":409,"detail":"there is already a user \"ann\"","remedy":"choose another name","exit":4}"#,
        );
        let failure = refusal("user ann was not added", &told);
        assert_eq!(failure.why, "there is already a user \"ann\"");
        assert_eq!(failure.remedy.as_deref(), Some("choose another name"));
        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(refusal("x", &reply(503, "<html>")).exit, Exit::Later);
    }
}
