//! `/v1/backup`: everything that people made, in a file that a passphrase opens.

use super::bodies::BackupRequest;
use super::caller::Caller;
use super::extract::Body as Asked;
use super::problem::Problem;
use crate::backup::{self, PASSPHRASE_LEAST};
use crate::node::Node;
use crate::submit::SubmitError;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::io::{self, BufWriter, Write};
use tokio::sync::mpsc;

/// Bytes that are sent in one piece.
const PIECE: usize = 64 * 1024;
/// Pieces that wait for a slow reader.
const AHEAD: usize = 8;

/// Makes a backup of what the answering server has: settings, accounts, applications, tokens, gateways, profiles, secrets, journal and
/// audit log. Stored secrets are in it, sealed with the passphrase like all else; sessions, servers and keys of the group are not.
#[utoipa::path(post, path = "/v1/backup", tag = "backup", request_body = BackupRequest,
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream", description = "The file for `stead restore`"), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn make(
    State(node): State<Node>,
    caller: Caller,
    Asked(request): Asked<BackupRequest>,
) -> Result<Response, Problem> {
    if request.passphrase.0.len() < PASSPHRASE_LEAST {
        return Err(Problem::invalid(format!(
            "the passphrase has less than {PASSPHRASE_LEAST} bytes: who finds the file could try them all"
        )));
    }
    node.seal_key().ok_or(SubmitError::NoSealKey)?;
    let seals = node.trust().seals.clone();
    let (sender, receiver) = mpsc::channel(AHEAD);
    tracing::info!(by = caller.words(&node), "a backup is made");
    tokio::task::spawn_blocking(move || {
        let mut out = BufWriter::with_capacity(PIECE, Channel(sender.clone()));
        let (directory, now) = (node.directory(), node.now());
        let passphrase = request.passphrase.0.as_bytes();
        if let Err(error) = backup::write(&mut out, &directory, &seals, passphrase, now) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a backup was not finished"
            );
            // The reader's file has no end then, which it notices.
            let _ = sender.blocking_send(Err(io::ErrorKind::Other.into()));
        }
    });
    let next = async |mut receiver: mpsc::Receiver<io::Result<Bytes>>| {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    };
    let body = Body::from_stream(futures_util::stream::unfold(receiver, next));
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, body).into_response())
}

/// Hands what is written to whoever reads the answer.
struct Channel(mpsc::Sender<io::Result<Bytes>>);

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
