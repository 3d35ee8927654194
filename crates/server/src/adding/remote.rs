//! The API of a server that is no member, as a member uses it.
//!
//! Always true: the server was believed by the fingerprint of its authority before it is told anything; its answers are bounded in
//! size and time; what it says is shown as its own words, without control characters.

use crate::api::problem::Problem;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Method, Request, header};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use peer::dial::DialError;
use peer::fingerprint::Fingerprint;
use peer::standalone::dial_api;
use peer::tls::TlsBasis;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::timeout;
use wire::client::Hidden;
use zeroize::Zeroizing;

/// How long connecting may take.
const DIAL_TIME: Duration = Duration::from_secs(5);
/// The most bytes of an answer.
const ANSWER_LIMIT: usize = 256 * 1024;
/// The most characters of its words that are passed on.
const WORDS: usize = 600;

/// Why it did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    /// It was not reached, or is not the one that was meant.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection broke.
    #[error("the connection to {address} broke")]
    Broken {
        /// Where.
        address: String,
        /// What was seen.
        #[source]
        source: hyper::Error,
    },
    /// It took too long.
    #[error("{address} did not answer within {} s", limit.as_secs())]
    TooSlow {
        /// Where.
        address: String,
        /// How long was waited.
        limit: Duration,
    },
    /// Its answer is not understood.
    #[error("the answer of {address} is not understood: its version may be another one")]
    Answer {
        /// Where.
        address: String,
    },
    /// It refused.
    #[error("{address} refused: {}", problem.detail)]
    Refused {
        /// Where.
        address: String,
        /// In its own words.
        problem: Box<Problem>,
    },
}

/// A server that is no member.
pub(crate) struct Remote {
    pub(crate) basis: TlsBasis,
    /// Where it answers clients, `host:port`.
    pub(crate) address: String,
    /// The fingerprint of its authority.
    pub(crate) authority: Fingerprint,
    /// What it gave for the name and password of one of its accounts.
    pub(crate) bearer: Option<Hidden>,
}

impl Remote {
    /// Reads something.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        limit: Duration,
    ) -> Result<T, RemoteError> {
        self.ask(Method::GET, path, Bytes::new(), limit).await
    }

    /// Has something done.
    ///
    /// # Errors
    /// Why there is no answer. The server may have done it all the same, unless it refused.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<T, RemoteError> {
        // It may hold a password or a join code.
        let body = Zeroizing::new(serde_json::to_vec(body).map_err(|_| self.not_understood())?);
        self.ask(Method::POST, path, Bytes::from_owner(body), limit)
            .await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<T, RemoteError> {
        let stream = dial_api(&self.basis, self.authority, &self.address, DIAL_TIME).await?;
        let late = |_| RemoteError::TooSlow {
            address: self.address.clone(),
            limit,
        };
        timeout(limit, self.converse(stream, method, path, body))
            .await
            .map_err(late)?
    }

    async fn converse<T: DeserializeOwned>(
        &self,
        stream: peer::dial::PeerStream,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, RemoteError> {
        let broken = |source| RemoteError::Broken {
            address: self.address.clone(),
            source,
        };
        let request = self.request(method, path, body)?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let moving = tokio::spawn(async move {
            // A failure is seen by whoever waits for the answer.
            let _ = connection.await;
        });
        let _moving = Ended(moving.abort_handle());
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = to_bytes(Body::new(answer.into_body()), ANSWER_LIMIT).await;
        let body = body.map_err(|_| self.not_understood())?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|_| self.not_understood());
        }
        let problem = serde_json::from_slice(&body).map_err(|_| self.not_understood())?;
        Err(RemoteError::Refused {
            address: self.address.clone(),
            problem: Box::new(as_words(problem)),
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Body>, RemoteError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.address)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(bearer) = &self.bearer {
            let value = format!("Bearer {}", bearer.0);
            let mut value =
                header::HeaderValue::try_from(value).map_err(|_| self.not_understood())?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        request
            .body(Body::from(body))
            .map_err(|_| self.not_understood())
    }

    fn not_understood(&self) -> RemoteError {
        RemoteError::Answer {
            address: self.address.clone(),
        }
    }
}

/// The task that moves a connection's bytes; ended when dropped.
struct Ended(tokio::task::AbortHandle);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn as_words(problem: Problem) -> Problem {
    let clean = |text: String| -> String {
        let plain = text.chars().filter(|character| !character.is_control());
        plain.take(WORDS).collect()
    };
    Problem {
        detail: clean(problem.detail),
        remedy: problem.remedy.map(clean),
        title: clean(problem.title),
        ..problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_says_is_plain_and_short() {
        let mut said = Problem::invalid(format!("\u{1b}[31m{}", "x".repeat(9_000)));
        said.remedy = Some("do\n\rthis".to_owned());
        let told = as_words(said);
        assert_eq!(told.detail.chars().count(), WORDS);
        assert!(told.detail.starts_with("[31mx"), "{}", told.detail);
        assert_eq!(told.remedy.as_deref(), Some("dothis"));
    }
}
