//! What sessions this machine holds, as a server finds out when it starts.
//!
//! Always true: a keeper that lives is never taken for a dead one because it is slow: it holds a lock on its spec for as long as it
//! lives, and the lock ends with the process, whatever ended it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use wire::keeper::{ENDED, EndRecord, FILE_FORMAT, SPEC, Spec, Status};

use crate::link::{Commands, LinkError, Notices, connect};
use crate::scope;

/// A session's folder and what is behind it.
#[derive(Debug)]
pub enum Found {
    /// Its keeper lives and answers.
    Live(Box<Live>),
    /// Its keeper lives and does not answer: it hangs, or speaks another protocol. Ask again.
    Silent {
        /// The session's folder.
        dir: PathBuf,
        /// What it was started with.
        spec: Box<Spec>,
        /// What asking met.
        error: LinkError,
    },
    /// It is over, and its keeper said why.
    Ended {
        /// The session's folder.
        dir: PathBuf,
        /// What it was started with.
        spec: Box<Spec>,
        /// When and why it ended.
        record: EndRecord,
    },
    /// Its keeper died without a word: the machine stopped, or somebody killed it.
    Lost {
        /// The session's folder.
        dir: PathBuf,
        /// What it was started with.
        spec: Box<Spec>,
    },
    /// A folder that is no session's, or whose spec cannot be read.
    Unreadable {
        /// The folder.
        dir: PathBuf,
        /// What is wrong with it.
        error: SpecError,
    },
}

/// A keeper that answers.
#[derive(Debug)]
pub struct Live {
    /// The session's folder.
    pub dir: PathBuf,
    /// What it was started with.
    pub spec: Spec,
    /// What it says of itself.
    pub status: Status,
    /// For commands to it.
    pub commands: Commands,
    /// What it says from now on.
    pub notices: Notices,
    /// Why it has no place of its own, if it has none: to be shown in `status`.
    pub warning: Option<String>,
}

/// Why a spec cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// It cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what this version or an older one writes.
    #[error("{path} is no session's spec")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A newer version wrote it.
    #[error("{path} has format {format}, which is newer than {FILE_FORMAT}")]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its format.
        format: u16,
    },
}

/// Looks at every session's folder below `sessions`. Asks all keepers at once, each for at most 5 s.
///
/// # Errors
/// The folder itself cannot be read; that it does not exist is no error.
pub async fn discover(sessions: &Path) -> io::Result<Vec<Found>> {
    let entries = match fs::read_dir(sessions) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut asked = tokio::task::JoinSet::new();
    for entry in entries {
        asked.spawn(look(entry?.path()));
    }
    Ok(asked.join_all().await)
}

/// Looks at one session's folder.
pub async fn look(dir: PathBuf) -> Found {
    let spec = match read_spec(&dir) {
        Ok(spec) => spec,
        Err(error) => return Found::Unreadable { dir, error },
    };
    match connect(&dir).await {
        Ok((status, commands, notices)) => {
            let warning = scope::warning(&dir);
            Found::Live(Box::new(Live {
                dir,
                spec,
                status,
                commands,
                notices,
                warning,
            }))
        }
        Err(error) if is_kept(&dir) => Found::Silent {
            dir,
            spec: Box::new(spec),
            error,
        },
        Err(_) => match read_end(&dir) {
            Some(record) => Found::Ended {
                dir,
                spec: Box::new(spec),
                record,
            },
            None => Found::Lost {
                dir,
                spec: Box::new(spec),
            },
        },
    }
}

/// Removes the folder of a session that is over, and what a keeper that was killed left behind: processes in the session's control
/// group.
///
/// # Errors
/// The folder cannot be removed, or its keeper lives ([`io::ErrorKind::ResourceBusy`]).
pub fn remove(dir: &Path) -> io::Result<()> {
    if is_kept(dir) {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    crate::keeper::sweep(dir);
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Reads what a keeper was started with.
pub(crate) fn read_spec(dir: &Path) -> Result<Spec, SpecError> {
    let path = dir.join(SPEC);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(source) => return Err(SpecError::Read { path, source }),
    };
    match serde_json::from_slice::<Spec>(&bytes) {
        Ok(spec) if spec.format > FILE_FORMAT => Err(SpecError::Newer {
            path,
            format: spec.format,
        }),
        Ok(spec) => Ok(spec),
        Err(source) => Err(SpecError::Parse { path, source }),
    }
}

fn read_end(dir: &Path) -> Option<EndRecord> {
    let bytes = fs::read(dir.join(ENDED)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Locks the spec for as long as the returned file is open; `None` when another process holds it.
pub(crate) fn keep(dir: &Path) -> io::Result<Option<fs::File>> {
    let file = fs::File::open(dir.join(SPEC))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a keeper lives in the folder.
fn is_kept(dir: &Path) -> bool {
    matches!(keep(dir), Ok(None))
}
