//! Answers of the API: what came back, the problem that it describes, or why nothing came.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

use crate::trust::TrustError;

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The address that answered; `local` for the local socket.
    pub server: String,
}

impl Reply {
    /// A header's value, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON; `null` when it is empty.
    ///
    /// # Errors
    /// It is something else.
    pub fn json(&self) -> Result<Value, ApiError> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).map_err(|source| ApiError::Json {
            server: self.server.clone(),
            source,
        })
    }

    /// The problem that the server describes, when the status is an error.
    pub fn problem(&self) -> Option<Problem> {
        (self.status >= 400).then(|| {
            serde_json::from_slice(&self.body).unwrap_or_else(|_| Problem::bare(self.status))
        })
    }
}

/// A problem document (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// What kind of problem, as a URI.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// The kind in words.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// What happened here.
    #[serde(default)]
    pub detail: String,
    /// All else that the server said.
    #[serde(flatten)]
    pub more: serde_json::Map<String, Value>,
}

impl Problem {
    pub(super) fn bare(status: u16) -> Self {
        let reason = StatusCode::from_u16(status)
            .ok()
            .and_then(|code| code.canonical_reason());
        Self {
            kind: "about:blank".to_owned(),
            title: reason.unwrap_or("error").to_owned(),
            status,
            detail: String::new(),
            more: serde_json::Map::new(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.title.as_str(), self.detail.as_str()) {
            ("", detail) => f.write_str(detail),
            (title, "") => f.write_str(title),
            (title, detail) => write!(f, "{title}: {detail}"),
        }
    }
}

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No server could be reached.
    #[error("no server could be reached: {}", list(.attempts))]
    NotReachable {
        /// Each address and what was seen there.
        attempts: Vec<(String, String)>,
    },
    /// The server is not the pinned group's.
    #[error("{server} is not believed: {source}")]
    Distrusted {
        /// Its address.
        server: String,
        /// Why not.
        #[source]
        source: TrustError,
    },
    /// The request was sent, but the connection broke before the answer was whole.
    #[error(
        "the connection to {server} broke before it answered: whether the request was carried out is not known"
    )]
    Broken {
        /// Its address.
        server: String,
        /// What happened.
        #[source]
        source: hyper::Error,
    },
    /// The request was sent, but there was no answer in time.
    #[error("{server} did not answer within {} s: whether the request was carried out is not known", .limit.as_secs())]
    Timeout {
        /// Its address.
        server: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The answer is too long.
    #[error("the answer of {server} is longer than {limit} bytes")]
    TooLarge {
        /// Its address.
        server: String,
        /// What is allowed.
        limit: usize,
    },
    /// The server refused or failed, and said why.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The body is not JSON.
    #[error("the answer of {server} is not JSON")]
    Json {
        /// Its address.
        server: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The request cannot be put into HTTP.
    #[error("the request is not valid HTTP")]
    Request(#[source] hyper::http::Error),
}

fn list(attempts: &[(String, String)]) -> String {
    if attempts.is_empty() {
        return "none is known".to_owned();
    }
    let each: Vec<String> = attempts
        .iter()
        .map(|(at, why)| format!("{at}: {why}"))
        .collect();
    each.join("; ")
}
