//! Requests taken apart: bodies, queries, names in paths and versions. What does not fit is answered with a problem document.

use super::problem::Problem;
use axum::Json;
use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::str::FromStr;

/// The largest body that is read, in bytes.
pub(crate) const BODY_LIMIT: usize = 256 * 1024;

/// A JSON body.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

/// A JSON body that may be left out.
#[derive(Debug)]
pub(crate) struct MaybeBody<T>(pub(crate) T);

/// The query of an address.
#[derive(Debug)]
pub(crate) struct Asked<T>(pub(crate) T);

/// The name or id at the end of a path.
#[derive(Debug)]
pub(crate) struct Named<T>(pub(crate) T);

/// A record's name in the address, and before it the name of the one that it belongs to.
pub(crate) struct NamedIn<O, T>(pub(crate) O, pub(crate) T);

/// The version that a record must have, from `If-Match`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IfMatch(pub(crate) Option<u64>);

pub(super) async fn read(request: Request) -> Result<Bytes, Problem> {
    let length = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > BODY_LIMIT) {
        return Err(Problem::body_too_large(BODY_LIMIT));
    }
    to_bytes(request.into_body(), BODY_LIMIT)
        .await
        .map_err(|_| Problem::body_too_large(BODY_LIMIT))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        let detail = format!("the body does not fit: {error}");
        match error.classify() {
            serde_json::error::Category::Data => Problem::invalid(detail),
            _ => Problem::malformed(StatusCode::BAD_REQUEST, detail),
        }
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    kind.split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn not_json() -> Problem {
    Problem::malformed(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "the body is not `Content-Type: application/json`",
    )
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(not_json());
        }
        Ok(Self(decode(&read(request).await?)?))
    }
}

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for MaybeBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let json = is_json(request.headers());
        let bytes = read(request).await?;
        match (bytes.is_empty(), json) {
            (true, _) => Ok(Self(T::default())),
            (false, true) => Ok(Self(decode(&bytes)?)),
            (false, false) => Err(not_json()),
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|error| {
            Problem::invalid(format!("the query does not fit: {}", error.body_text()))
        })
    }
}

impl<O, T, S> FromRequestParts<S> for NamedIn<O, T>
where
    O: FromStr,
    O::Err: std::fmt::Display,
    T: FromStr,
    T::Err: std::fmt::Display,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let texts = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((owner, name)) = texts
            .map_err(|error| Problem::malformed(StatusCode::BAD_REQUEST, error.body_text()))?;
        let owner = owner
            .parse()
            .map_err(|error: O::Err| Problem::invalid(error.to_string()))?;
        let name = name
            .parse()
            .map_err(|error: T::Err| Problem::invalid(error.to_string()))?;
        Ok(Self(owner, name))
    }
}

impl<T, S> FromRequestParts<S> for Named<T>
where
    T: FromStr,
    T::Err: std::fmt::Display,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let text =
            text.map_err(|error| Problem::malformed(StatusCode::BAD_REQUEST, error.body_text()))?;
        text.parse()
            .map(Self)
            .map_err(|error: T::Err| Problem::invalid(error.to_string()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else {
            return Ok(Self(None));
        };
        let version = value.to_str().ok().and_then(parse_tag);
        version.map(|version| Self(Some(version))).ok_or_else(|| {
            Problem::invalid("If-Match is the ETag of an earlier answer, as in \"17\"")
        })
    }
}

impl IfMatch {
    /// Whether the record is at the version that was asked for.
    ///
    /// # Errors
    /// It is at another one.
    pub(crate) fn check(self, what: &str, version: u64) -> Result<(), Problem> {
        match self.0 {
            Some(expected) if expected != version => Err(Problem::changed_meanwhile(format!(
                "{what} is at version {version}, and If-Match asks for {expected}"
            ))),
            _ => Ok(()),
        }
    }
}

fn parse_tag(text: &str) -> Option<u64> {
    text.trim()
        .strip_prefix('"')?
        .strip_suffix('"')?
        .parse()
        .ok()
}

/// A record with its version as ETag.
pub(crate) fn tagged<T: Serialize>(status: StatusCode, version: u64, record: &T) -> Response {
    let mut response = (status, Json(record)).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        assert_eq!(parse_tag("\"17\""), Some(17));
        for text in ["17", "W/\"17\"", "\"\"", "\"x\"", "*", "\""] {
            assert_eq!(parse_tag(text), None, "{text}");
        }
        assert!(IfMatch(None).check("x", 3).is_ok());
        assert!(IfMatch(Some(3)).check("x", 3).is_ok());
        assert_eq!(IfMatch(Some(4)).check("x", 3).unwrap_err().status, 412);
    }

    #[test]
    fn only_json_is_read() {
        let with = |kind: &str| {
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())])
        };
        assert!(is_json(&with("application/json; charset=utf-8")));
        assert!(!is_json(&with("text/plain")) && !is_json(&HeaderMap::new()));
        assert_eq!(decode::<Vec<u8>>(b"[1,").unwrap_err().status, 400);
        assert_eq!(decode::<u8>(b"\"x\"").unwrap_err().status, 422);
    }
}
