//! Formations that this server was in before and keeps until what was changed there is safe elsewhere.
//!
//! Always true: nothing of them changes any more; they are removed together, when nobody needs them. Start at
//! [`Replica::left_behind`].

use crate::disk::SharedDisk;
use crate::formation::{self, FormationError, folder};
use crate::log::recover::read_log;
use crate::replica::{OpenError, Replica};
use crate::snapshot_store::SnapshotStore;
use crate::state_machine::{State, apply_entry};
use crate::switch::SwitchError;
use model::{Directory, FormationId};
use std::path::Path;

/// A formation that this server left.
#[derive(Debug)]
pub struct LeftBehind {
    /// What it came to on this server, its log to the end; none where nothing had come yet.
    pub directory: Option<Directory>,
    /// What it began with on this server; none where it began with nothing.
    pub base: Option<Directory>,
}

impl Replica {
    /// The formations that this server was in before.
    ///
    /// # Errors
    /// The disk's.
    pub fn left_behind(&self) -> Result<Vec<FormationId>, FormationError> {
        formation::others(&self.inner.disk, &self.inner.data)
    }

    /// What a formation that this server left came to.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn read_left_behind(&self, left: FormationId) -> Result<LeftBehind, SwitchError> {
        let (disk, data) = (self.inner.disk.clone(), self.inner.data.clone());
        let reading = move || -> Result<LeftBehind, SwitchError> {
            let base = formation::base(&disk, &data, left).map_err(OpenError::from)?;
            let directory = read_state(&disk, &data, left)?.directory;
            Ok(LeftBehind { directory, base })
        };
        let done = crate::core::blocking(self.ground().threads, reading).await;
        done.map_err(|error| OpenError::Start(crate::core::StartError::Thread(error)))?
    }
}

/// What a formation came to that no consensus runs in, its log to the end.
fn read_state(disk: &SharedDisk, data: &Path, left: FormationId) -> Result<State, SwitchError> {
    let dir = folder(data, left);
    let (_, loaded) = SnapshotStore::open(disk, &dir).map_err(OpenError::from)?;
    let mut state = loaded.map_or_else(State::empty, crate::replica::stored_state);
    let content = read_log(&**disk, &dir).map_err(OpenError::from)?;
    for entry in content.entries {
        if entry.log_id.index == state.applied + 1 {
            apply_entry(&mut state, entry)?;
        }
    }
    Ok(state)
}

/// What the data folder of a server that does not run holds of the formation in force, its log to the end; none where it is in none,
/// or nothing has come.
///
/// # Errors
/// It cannot be read.
pub fn on_disk(disk: &SharedDisk, data: &Path) -> Result<Option<Directory>, SwitchError> {
    let state = match formation::current(disk, data)? {
        Some(current) => read_state(disk, data, current)?,
        None => return Ok(None),
    };
    Ok(state.directory)
}

/// What readers get after a restart while nothing of the formation in force has come: what was left for it.
pub(crate) fn shown_meanwhile(disk: &SharedDisk, data: &Path) -> Option<State> {
    let left = formation::left(disk, data).map_err(SwitchError::from);
    let state = left.and_then(|left| left.map(|left| read_state(disk, data, left)).transpose());
    // It stays where it is, and this server waits for what comes.
    let warned = state.inspect_err(|error| {
        tracing::warn!(%error, "the formation that this server left cannot be read");
    });
    warned.ok().flatten()
}
