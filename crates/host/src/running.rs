//! Backends that run already, reached without a keeper: for clients of gateways, whose connections end with the server anyway.

use std::path::Path;
use std::time::Duration;

use model::{Application, Session};

use crate::keeper::backend::{self, NoBackend, Socket};
use crate::keeper::places::Places;

/// Connects to the first backend of the application that accepts within `limit`. `folder` is the session's, which there need
/// not be.
///
/// # Errors
/// None accepts; with what each said.
pub async fn connect_running(
    app: &Application,
    session: &Session,
    folder: &Path,
    limit: Duration,
) -> Result<Socket, NoBackend> {
    let places = Places::of_running(folder, session);
    backend::await_one(&app.backends, &places, None, limit).await
}
