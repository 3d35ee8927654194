//! The HTTP API as the command line uses it: on the server itself through its local socket, from elsewhere over TLS with the group's
//! fingerprint and a bearer token.
//!
//! Always true: a change is sent to another server only when it cannot have been made by the first, or carries an `Idempotency-Key`
//! by which the group recognises it; answers are bounded; the token is in no error and no `Debug` output.

mod answer;
mod download;
mod events;
mod socket;

use std::fmt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::conversation::{DialError, HELLO_LIMIT, connect, secure};
use crate::trust::{Fingerprint, Trust};

pub use answer::{ApiError, Problem, Reply};
pub use download::Download;
pub use events::{EventStream, ServerEvent};

/// The most bytes of an answer.
pub const ANSWER_LIMIT: usize = 64 * 1024 * 1024;
/// How long a server may take to begin its answer when nothing else was said: a session may have to start, a switchover to happen.
pub const ANSWER_TIME: Duration = Duration::from_secs(120);
/// The header by which the group recognises a repeated change.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Which servers are spoken to, and how.
#[derive(Clone)]
pub enum Target {
    /// The server of this data folder, through its local socket.
    Local {
        /// The server's data folder.
        data: PathBuf,
    },
    /// Any of these servers.
    Remote {
        /// `host:port` of each.
        servers: Vec<String>,
        /// The fingerprint of the group's authority.
        ca: Fingerprint,
        /// The token of a login, or an API token.
        bearer: Option<String>,
    },
}

/// Says by which authority the caller knows the group.
const AUTHORITY_HEADER: &str = "stead-authority";

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { data } => write!(f, "Local({})", data.display()),
            Self::Remote { servers, ca, .. } => write!(f, "Remote({servers:?}, {ca})"),
        }
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// Its method.
    pub method: Method,
    /// Path and query, from `/`.
    pub path: &'a str,
    /// Its body.
    pub body: Option<Value>,
    /// More headers.
    pub headers: Vec<(String, String)>,
}

impl<'a> Call<'a> {
    /// A request that reads.
    pub fn reading(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            body: None,
            headers: Vec::new(),
        }
    }
}

/// Speaks to the API of a group.
#[derive(Debug)]
pub struct Api {
    target: Target,
    trust: Option<Trust>,
    answer_time: Duration,
    /// The server that answered last is asked first.
    preferred: Mutex<usize>,
}

impl Api {
    /// For these servers; nothing is connected yet.
    pub fn new(target: Target) -> Self {
        let trust = match &target {
            Target::Local { .. } => None,
            Target::Remote { ca, .. } => Some(Trust::new(*ca)),
        };
        Self {
            target,
            trust,
            answer_time: ANSWER_TIME,
            preferred: Mutex::new(0),
        }
    }

    /// How long a server may take to begin its answer.
    #[must_use]
    pub fn with_answer_time(mut self, limit: Duration) -> Self {
        self.answer_time = limit;
        self
    }

    /// Sends a request to the servers in turn until one answers with something else than 503, and gives that answer whatever its status;
    /// when all say 503, the last of those.
    ///
    /// # Errors
    /// No server answered. A request that was sent and could have had an effect is not sent again without an idempotency key.
    pub async fn call(&self, call: Call<'_>) -> Result<Reply, ApiError> {
        let repeatable = is_repeatable(&call);
        let mut attempts = Vec::new();
        let mut unavailable = None;
        let mut broken = None;
        for (index, address) in self.addresses() {
            let error = match self.attempt(&address, &call).await {
                Ok(reply) if reply.status == 503 => {
                    unavailable = Some(reply);
                    continue;
                }
                Ok(reply) => {
                    self.prefer(index);
                    return Ok(reply);
                }
                Err(error) => error,
            };
            match error {
                ApiError::NotReachable { attempts: more } => attempts.extend(more),
                ApiError::Broken { .. } | ApiError::Timeout { .. } if repeatable => {
                    broken = Some(error);
                }
                error => return Err(error),
            }
        }
        match (unavailable, broken) {
            (Some(reply), _) => Ok(reply),
            (None, Some(error)) => Err(error),
            (None, None) => Err(ApiError::NotReachable { attempts }),
        }
    }

    /// As [`call`](Self::call), but takes the body as JSON, and an error status as an error.
    ///
    /// # Errors
    /// As there, and [`ApiError::Problem`].
    pub async fn request(&self, call: Call<'_>) -> Result<Value, ApiError> {
        let reply = self.call(call).await?;
        match reply.problem() {
            Some(problem) => Err(ApiError::Problem(Box::new(problem))),
            None => reply.json(),
        }
    }

    /// Server-sent events from `path`, beginning behind `last_event_id`. The stream ends when its server does; ask again then, at
    /// whichever server answers, with the id of the last event.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn stream(
        &self,
        path: &str,
        last_event_id: Option<String>,
    ) -> Result<EventStream, ApiError> {
        let mut call = Call::reading(path);
        call.headers
            .push(("accept".to_owned(), "text/event-stream".to_owned()));
        call.headers
            .extend(last_event_id.map(|id| ("last-event-id".to_owned(), id)));
        let mut attempts = Vec::new();
        for (index, address) in self.addresses() {
            match self.send(&address, &call).await {
                Ok((response, link)) if response.status() == StatusCode::OK => {
                    self.prefer(index);
                    return Ok(EventStream::new(address, response.into_body(), link));
                }
                Ok((response, link)) => {
                    let reply = take(&address, response, link).await?;
                    let bare = || Problem::bare(reply.status);
                    return Err(ApiError::Problem(Box::new(
                        reply.problem().unwrap_or_else(bare),
                    )));
                }
                Err(ApiError::NotReachable { attempts: more }) => attempts.extend(more),
                Err(error) => return Err(error),
            }
        }
        Err(ApiError::NotReachable { attempts })
    }

    /// The addresses, the one that answered last first.
    fn addresses(&self) -> Vec<(usize, String)> {
        match &self.target {
            Target::Local { .. } => vec![(0, "local".to_owned())],
            Target::Remote { servers, .. } => {
                let first = *self.preferred.lock().unwrap_or_else(|e| e.into_inner());
                let mut all: Vec<(usize, String)> = servers.iter().cloned().enumerate().collect();
                all.sort_by_key(|(index, _)| *index != first);
                all
            }
        }
    }

    fn prefer(&self, index: usize) {
        *self.preferred.lock().unwrap_or_else(|e| e.into_inner()) = index;
    }

    async fn attempt(&self, address: &str, call: &Call<'_>) -> Result<Reply, ApiError> {
        let (response, link) = self.send(address, call).await?;
        take(address, response, link).await
    }

    /// Sends the request and waits for the answer to begin.
    async fn send(
        &self,
        address: &str,
        call: &Call<'_>,
    ) -> Result<(Response<Incoming>, Link), ApiError> {
        let request = self.http(address, call)?;
        let (mut sender, link) = self.link(address).await?;
        let limit = self.answer_time;
        let late = |_| ApiError::Timeout {
            server: address.to_owned(),
            limit,
        };
        let answer = timeout(limit, sender.try_send_request(request))
            .await
            .map_err(late)?;
        let response = answer.map_err(|mut unsent| match unsent.take_message() {
            // It never left this machine.
            Some(_) => unreachable_server(address, &unsent.into_error()),
            None => ApiError::Broken {
                server: address.to_owned(),
                source: unsent.into_error(),
            },
        })?;
        Ok((response, link))
    }

    fn http(&self, address: &str, call: &Call<'_>) -> Result<Request<Full<Bytes>>, ApiError> {
        let mut builder = Request::builder().method(&call.method).uri(call.path);
        builder = builder.header(header::HOST, address);
        builder = builder.header(header::ACCEPT, "application/json");
        if let Target::Remote {
            bearer: Some(bearer),
            ..
        } = &self.target
        {
            let mut value = HeaderValue::try_from(format!("Bearer {bearer}"))
                .map_err(|error| ApiError::Request(error.into()))?;
            value.set_sensitive(true);
            builder = builder.header(header::AUTHORIZATION, value);
        }
        if let Some(trust) = &self.trust {
            builder = builder.header(AUTHORITY_HEADER, trust.pin().to_string());
        }
        let body = match &call.body {
            Some(body) => {
                builder = builder.header(header::CONTENT_TYPE, "application/json");
                Full::from(body.to_string())
            }
            None => Full::default(),
        };
        let mut request = builder.body(body).map_err(ApiError::Request)?;
        for (name, value) in &call.headers {
            let invalid = |error: hyper::http::Error| ApiError::Request(error);
            let name = HeaderName::try_from(name).map_err(|error| invalid(error.into()))?;
            let value = HeaderValue::try_from(value).map_err(|error| invalid(error.into()))?;
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }

    async fn link(&self, address: &str) -> Result<(SendRequest<Full<Bytes>>, Link), ApiError> {
        match (&self.target, &self.trust) {
            (Target::Remote { .. }, Some(trust)) => {
                let tcp = connect(address)
                    .await
                    .map_err(|error| dial_error(address, error))?;
                let secured = timeout(HELLO_LIMIT, secure(address, tcp, trust.for_api())).await;
                let late = |_| {
                    dial_error(
                        address,
                        DialError::TimedOut {
                            address: address.to_owned(),
                        },
                    )
                };
                let (io, _) = secured
                    .map_err(late)?
                    .map_err(|error| dial_error(address, error))?;
                open(address, io).await
            }
            (Target::Local { data }, _) => {
                let io = socket::connect(data).await;
                let io = io.map_err(|error| ApiError::NotReachable {
                    attempts: vec![(data.display().to_string(), error.to_string())],
                })?;
                open(address, io).await
            }
            (Target::Remote { .. }, None) => Err(ApiError::NotReachable {
                attempts: Vec::new(),
            }),
        }
    }
}

/// Whether sending it twice does no harm.
fn is_repeatable(call: &Call<'_>) -> bool {
    let keyed = call
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case(IDEMPOTENCY_KEY));
    keyed || call.method == Method::GET || call.method == Method::HEAD
}

fn unreachable_server(address: &str, why: &dyn std::error::Error) -> ApiError {
    let mut words = why.to_string();
    let mut source = why.source();
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    ApiError::NotReachable {
        attempts: vec![(address.to_owned(), words)],
    }
}

fn dial_error(address: &str, error: DialError) -> ApiError {
    match error {
        DialError::Distrusted { address, source } => ApiError::Distrusted {
            server: address,
            source,
        },
        error => unreachable_server(address, &error),
    }
}

/// The task that moves a connection's bytes; ended when dropped.
#[derive(Debug)]
pub(crate) struct Link(AbortHandle);

impl Drop for Link {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn open<IO>(address: &str, io: IO) -> Result<(SendRequest<Full<Bytes>>, Link), ApiError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let opened = handshake(TokioIo::new(io)).await;
    let (sender, connection) = opened.map_err(|error| unreachable_server(address, &error))?;
    let task = tokio::spawn(async move {
        // A failure is seen by whoever waits for the answer.
        let _ = connection.await;
    });
    Ok((sender, Link(task.abort_handle())))
}

/// Reads an answer to its end.
async fn take(address: &str, response: Response<Incoming>, link: Link) -> Result<Reply, ApiError> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_LIMIT).collect().await;
    drop(link);
    let body = body.map_err(|error| {
        let server = address.to_owned();
        match error.downcast::<hyper::Error>() {
            Ok(source) => ApiError::Broken {
                server,
                source: *source,
            },
            Err(error) if error.is::<LengthLimitError>() => ApiError::TooLarge {
                server,
                limit: ANSWER_LIMIT,
            },
            Err(error) => unreachable_server(address, error.as_ref()),
        }
    })?;
    Ok(Reply {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.to_bytes(),
        server: address.to_owned(),
    })
}
