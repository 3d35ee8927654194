//! An answer that is taken piece by piece, because it may be larger than memory.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use std::time::Duration;
use tokio::time::timeout;

use super::{Api, ApiError, Call, Link, Problem, take};

/// How long the next piece may take.
const PIECE_LIMIT: Duration = Duration::from_secs(60);

/// An answer on its way.
#[derive(Debug)]
pub struct Download {
    server: String,
    body: Incoming,
    /// The connection lives as long as this.
    _link: Link,
}

impl Download {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// The connection broke, or nothing came in time: what came so far is not all.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let frame = timeout(PIECE_LIMIT, self.body.frame()).await;
            let frame = frame.map_err(|_| ApiError::Timeout {
                server: self.server.clone(),
                limit: PIECE_LIMIT,
            })?;
            let Some(frame) = frame else {
                return Ok(None);
            };
            let frame = frame.map_err(|source| ApiError::Broken {
                server: self.server.clone(),
                source,
            })?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
    }
}

impl Api {
    /// Asks for something that is taken piece by piece.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn download(&self, call: &Call<'_>) -> Result<Download, ApiError> {
        let mut attempts = Vec::new();
        for (index, address) in self.addresses() {
            match self.send(&address, call).await {
                Ok((response, link)) if response.status() == StatusCode::OK => {
                    self.prefer(index);
                    return Ok(Download {
                        server: address,
                        body: response.into_body(),
                        _link: link,
                    });
                }
                Ok((response, link)) => {
                    let reply = take(&address, response, link).await?;
                    let bare = || Problem::bare(reply.status);
                    let problem = reply.problem().unwrap_or_else(bare);
                    return Err(ApiError::Problem(Box::new(problem)));
                }
                Err(ApiError::NotReachable { attempts: more }) => attempts.extend(more),
                Err(error) => return Err(error),
            }
        }
        Err(ApiError::NotReachable { attempts })
    }
}
