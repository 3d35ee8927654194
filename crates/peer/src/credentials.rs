//! A connection on which a server asks a member for credentials: one request, one answer.
//!
//! The hello lets a server as far as here whose certificate has expired; it is answered nothing else.

use crate::dial::{DialError, PeerStream, dial};
use crate::hello::Endpoint;
use crate::message::{ReceiveError, receive, send};
use model::ServerId;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use wire::credentials::{CREDENTIALS_LIMIT, CredentialsAnswer, CredentialsRequest};
use wire::hello::Purpose;

/// Why nothing was given.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The member was not reached, or either end refused the other.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    /// The answer could not be read.
    #[error("the answer cannot be read")]
    Receive(#[from] ReceiveError),
    /// There was no answer in time.
    #[error("there was no answer in time")]
    TooSlow,
}

/// Asks member `to` at `address` (`host:port`).
///
/// # Errors
/// When it is not reached, or gives no answer within `limit`.
pub async fn ask(
    endpoint: &Endpoint,
    to: ServerId,
    address: &str,
    request: &CredentialsRequest,
    limit: Duration,
) -> Result<CredentialsAnswer, AskError> {
    let deadline = Instant::now() + limit;
    let (_, mut stream) = dial(endpoint, to, address, Purpose::Credentials, limit).await?;
    let conversation = async {
        send(&mut stream, request).await?;
        Ok(receive(&mut stream, CREDENTIALS_LIMIT).await?)
    };
    timeout_at(deadline, conversation)
        .await
        .map_err(|_| AskError::TooSlow)?
}

/// Answers on a connection with [`Purpose::Credentials`], within `limit`.
///
/// # Errors
/// When the connection breaks, or there is no request in time.
pub async fn answer(
    mut stream: PeerStream,
    decide: impl AsyncFnOnce(CredentialsRequest) -> CredentialsAnswer,
    limit: Duration,
) -> Result<(), AskError> {
    let conversation = async {
        let request = receive(&mut stream, CREDENTIALS_LIMIT).await?;
        let answer = decide(request).await;
        Ok(send(&mut stream, &answer).await?)
    };
    timeout_at(Instant::now() + limit, conversation)
        .await
        .map_err(|_| AskError::TooSlow)?
}
