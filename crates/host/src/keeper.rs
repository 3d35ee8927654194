//! The keeper: the process that owns a session and outlives the server.
//!
//! [`run`] is all of it. A keeper is started with the folder of its session ([`launch`](crate::launch())), reads there what it
//! is to run, runs it, and listens on a socket in that folder: servers come with control connections, and pass clients on to its
//! streams. What happens is in [`session`]; a stream's bytes are carried in [`carrier`]. Sessions that launch nothing share a process
//! ([`hall`]).
//!
//! Always true: one keeper in a folder; no server, client, signal but SIGKILL or full disk ends it before its session has ended; after
//! the end it stays until a server has taken notice, 10 minutes at the most, and the reason stays in the folder.

mod account;
pub mod backend;
mod carrier;
mod command;
mod control;
mod door;
pub mod hall;
pub(crate) mod handed;
mod happening;
mod life;
mod output;
mod patience;
pub(crate) mod places;
mod processes;
mod proof;
mod room;
mod session;
mod streams;
mod terminal;
mod traffic;
mod waiting;

pub use account::lacks_account;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::SessionId;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use wire::keeper::{ENDED, SOCKET, Spec};

use crate::discover::{SpecError, keep, read_spec};
use crate::launch::{DETACH, detach};
use crate::scope::{self, Group};
use crate::socket;
use places::Places;

/// A server that looks whether a keeper lives holds its lock for a moment; this often it is tried again.
const LOCK_ATTEMPTS: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// Why a keeper could not begin.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// It does not know what to run.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Another keeper has the folder.
    #[error("another keeper keeps {dir}")]
    Kept {
        /// The session's folder.
        dir: PathBuf,
    },
    /// The session is over.
    #[error("the session in {dir} is over")]
    Over {
        /// The session's folder.
        dir: PathBuf,
    },
    /// It could not move to a place of its own.
    #[error("the keeper could not be started again in a place of its own")]
    Detach(#[source] io::Error),
    /// The folder cannot be used.
    #[error("{dir} cannot be used")]
    Folder {
        /// The session's folder.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Signals cannot be received.
    #[error("signals cannot be received")]
    Signals(#[source] io::Error),
}

/// Keeps the session in the folder `dir` until it is over and a server has taken notice. Called by `stead keeper --dir DIR`.
///
/// # Errors
/// Why the keeper could not begin. Whatever happens later is the session's end, not an error.
pub async fn run(dir: &Path) -> Result<(), KeeperError> {
    let dir = &std::path::absolute(dir).map_err(|source| KeeperError::Folder {
        dir: dir.to_owned(),
        source,
    })?;
    if std::env::var_os(DETACH).is_some() {
        let group = scope::keeper_group(read_spec(dir)?.session);
        return detach(dir, &group).map_err(KeeperError::Detach);
    }
    let session = keep_session(dir, || ()).await?;
    leave(&scope::keeper_group(session));
    Ok(())
}

/// Keeps the session in a folder until it is over; `kept` is told when servers and clients can come.
async fn keep_session(dir: &Path, kept: impl FnOnce()) -> Result<SessionId, KeeperError> {
    let spec = read_spec(dir)?;
    let folder = |source| KeeperError::Folder {
        dir: dir.to_owned(),
        source,
    };
    let Some(_lock) = lock(dir).await.map_err(folder)? else {
        return Err(KeeperError::Kept {
            dir: dir.to_owned(),
        });
    };
    if dir.join(ENDED).exists() {
        return Err(KeeperError::Over {
            dir: dir.to_owned(),
        });
    }
    let (session, places) = (spec.session, Places::new(dir, &spec).map_err(folder)?);
    // Without them the command does not start, which the session's end says.
    let handed = handed::take(&spec.app).unwrap_or_else(|error| {
        tracing::error!(%error, "the secrets that the application is given did not come");
        handed::Handed::default()
    });
    let places = places.with(handed);
    let listener = socket::bind(dir, SOCKET).map_err(folder)?;
    kept();
    let forgotten = live(dir, spec, places, listener).await?;
    if forgotten && let Err(error) = fs::remove_dir_all(dir) {
        tracing::warn!(dir = %dir.display(), %error, "the session's folder stays");
    }
    Ok(session)
}

async fn live(
    dir: &Path,
    spec: Spec,
    places: Places,
    listener: tokio::net::UnixListener,
) -> Result<bool, KeeperError> {
    // Handled so that they do not end the process; nobody has to do anything.
    let _hangup = signal(SignalKind::hangup()).map_err(KeeperError::Signals)?;
    let terminate = signal(SignalKind::terminate()).map_err(KeeperError::Signals)?;
    Ok(session::live(dir, spec, places, listener, terminate).await)
}

async fn lock(dir: &Path) -> io::Result<Option<fs::File>> {
    for _ in 0..LOCK_ATTEMPTS {
        if let Some(lock) = keep(dir)? {
            return Ok(Some(lock));
        }
        sleep(LOCK_PAUSE).await;
    }
    Ok(None)
}

/// Leaves the control group that was made for this keeper, so that it can be removed.
fn leave(group: &str) {
    if let Some(group) = Group::own_named(group) {
        group.leave();
    }
}

/// Ends what a keeper that was killed left behind in the folder `dir`: processes in the command's control group, and the groups; and the
/// command's own folder.
pub(crate) fn sweep(dir: &Path) {
    let Ok(spec) = read_spec(dir) else { return };
    places::remove_private(&spec.session.to_string());
    let noted = |file: &str| {
        let text = fs::read_to_string(dir.join(file)).ok()?;
        Some(PathBuf::from(text.trim()))
    };
    let (own, command) = (
        scope::keeper_group(spec.session),
        command::group_name(spec.session),
    );
    // One that was killed in its first step has noted nothing.
    let homes = [scope::group_in(dir), Group::place_beside_own(&own).ok()];
    // The command's is made within the keeper's, and noted a moment later.
    let within = |home: &Option<PathBuf>| home.as_ref().map(|home| home.join(&command));
    let inner = homes.each_ref().map(within);
    let places = [noted(command::GROUP_FILE)]
        .into_iter()
        .chain(inner)
        .map(|path| (path, &command))
        .chain(homes.into_iter().map(|path| (path, &own)));
    for (path, name) in places {
        // Only a group that bears the session's name is one that was made for it.
        if let Some(path) =
            path.filter(|path| path.file_name().is_some_and(|found| found == name.as_str()))
        {
            Group::noted(path).clear();
        }
    }
}
