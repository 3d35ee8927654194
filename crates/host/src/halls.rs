//! The keepers of many sessions, as the server starts and uses them: for sessions that launch nothing.
//!
//! Always true: a server uses only those that it started itself, so that after an upgrade new sessions get new keepers; each is given a
//! limited number, so that not everything hangs on one process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use model::SessionId;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use wire::keeper::{HALL_SOCKET, HallAnswer, HallOrder, Spec};

use crate::launch::{APPEAR, LaunchError, Launched, begin, folder, prepare, private_folder};
use crate::link::{self, LinkError};
use crate::scope::{self, Group};
use crate::socket::{self, read_message, write_message};

/// The most sessions that one of them is given.
const MOST: usize = 1_000;
/// The most bytes of an answer.
const LIMIT: usize = wire::frame::CLIENT_LIMIT;

/// Starts keepers of many sessions, one after the other, and has them keep sessions.
#[derive(Debug)]
pub struct Halls {
    program: PathBuf,
    halls: PathBuf,
    sessions: PathBuf,
    newest: Mutex<Option<Hall>>,
    /// How many were started.
    opened: AtomicU64,
}

/// One of them.
#[derive(Debug)]
struct Hall {
    stream: UnixStream,
    given: usize,
    warning: Option<String>,
}

impl Halls {
    /// None is started yet: `program` is the `stead` binary, `halls` the folder for theirs, `sessions` the folder of all sessions.
    pub fn new(program: PathBuf, halls: PathBuf, sessions: PathBuf) -> Self {
        Self {
            program,
            halls,
            sessions,
            newest: Mutex::new(None),
            opened: AtomicU64::new(0),
        }
    }

    /// Has a session kept that launches nothing.
    ///
    /// # Errors
    /// What failed; the session's folder is removed then.
    pub async fn keep(&self, spec: &Spec) -> Result<Launched, LaunchError> {
        let sessions = &std::path::absolute(&self.sessions).map_err(|source| {
            let path = self.sessions.clone();
            LaunchError::Folder { path, source }
        })?;
        let dir = folder(sessions, spec.session);
        prepare(sessions, &dir, spec)?;
        let kept = async {
            let warning = self.give(spec.session).await?;
            let linked = link::connect(&dir).await;
            let (status, commands, notices) = match linked {
                Ok(linked) => linked,
                Err(source) => {
                    self.take_back(spec.session).await;
                    let within = APPEAR;
                    return Err(LaunchError::Silent { within, source });
                }
            };
            Ok(Launched {
                dir: dir.clone(),
                status,
                commands,
                notices,
                warning,
            })
        };
        match kept.await {
            Ok(launched) => Ok(launched),
            Err(error) => {
                // One that is given the session later finds no spec.
                if let Err(error) = fs::remove_dir_all(&dir) {
                    tracing::warn!(dir = %dir.display(), %error, "the folder of a session that did not start stays");
                }
                Err(error)
            }
        }
    }

    /// Gives a session to the newest one, or to a new one where that is full or gone.
    async fn give(&self, session: SessionId) -> Result<Option<String>, LaunchError> {
        let mut newest = self.newest.lock().await;
        let failed = |detail: String| LaunchError::Failed { detail };
        // Taken out meanwhile: one whose answer is still to come cannot be asked anything else.
        let known = newest.take().filter(|hall| hall.given < MOST);
        let is_new = known.is_none();
        let mut hall = match known {
            Some(hall) => hall,
            None => self.open(session).await?,
        };
        let keep = HallOrder::Keep { session };
        let answer = match hall.ask(keep.clone()).await {
            // It has gone since the last session.
            Err(_) if !is_new => {
                hall = self.open(session).await?;
                hall.ask(keep).await
            }
            answer => answer,
        };
        match answer.map_err(|error| failed(error.to_string()))? {
            HallAnswer::Kept => {}
            HallAnswer::Left => return Err(failed("it answered something else".to_owned())),
            HallAnswer::Refused { why } => {
                *newest = Some(hall);
                return Err(failed(why));
            }
        }
        hall.given += 1;
        let warning = hall.warning.clone();
        *newest = Some(hall);
        Ok(warning)
    }

    /// Has a session kept no longer that was given to the newest one and did not come up: nobody would find it.
    async fn take_back(&self, session: SessionId) {
        let mut newest = self.newest.lock().await;
        let Some(mut hall) = newest.take() else {
            return;
        };
        // One that does not answer is not asked again.
        if let Ok(HallAnswer::Left) = hall.ask(HallOrder::Leave { session }).await {
            *newest = Some(hall);
        }
    }

    /// Starts another one; it is called after the first session that it is given.
    async fn open(&self, first: SessionId) -> Result<Hall, LaunchError> {
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|source| LaunchError::Folder {
                path: path.to_owned(),
                source,
            })
        };
        let (halls, sessions) = (absolute(&self.halls)?, absolute(&self.sessions)?);
        private_folder(&halls)?;
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let dir = halls.join(format!("{first}-{number}"));
        private_folder(&dir)?;
        let words = [
            "--dir".as_ref(),
            dir.as_os_str(),
            "--sessions".as_ref(),
            sessions.as_os_str(),
        ];
        let opened = async {
            begin(&self.program, &words, Stdio::null()).await?;
            crate::launch::appeared(|| async {
                socket::connect(&dir, HALL_SOCKET)
                    .await
                    .map_err(LinkError::Connect)
            })
            .await
        };
        match opened.await {
            Ok(stream) => Ok(Hall {
                stream,
                given: 0,
                warning: scope::warning(&dir),
            }),
            Err(error) => {
                remove(&dir);
                Err(error)
            }
        }
    }

    /// Removes what keepers that were killed have left; for the start of a server.
    pub async fn sweep(&self) {
        let entries = fs::read_dir(&self.halls).into_iter().flatten().flatten();
        for dir in entries.map(|entry| entry.path()) {
            if socket::connect(&dir, HALL_SOCKET).await.is_err() {
                remove(&dir);
            }
        }
    }
}

/// Removes the folder of one that is gone, and its control group.
fn remove(dir: &Path) {
    let name = scope::hall_group(dir);
    let noted = scope::group_in(dir);
    if let Some(path) = noted.filter(|path| path.file_name().is_some_and(|found| *found == *name)) {
        Group::noted(path).clear();
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(dir = %dir.display(), %error, "the folder of a keeper stays");
        }
        _ => {}
    }
}

impl Hall {
    async fn ask(&mut self, order: HallOrder) -> Result<HallAnswer, LinkError> {
        let asked = async {
            write_message(&mut self.stream, &order).await?;
            Ok(read_message(&mut self.stream, LIMIT).await?)
        };
        let silent = Err(LinkError::Silent { within: APPEAR });
        timeout(APPEAR, asked).await.unwrap_or(silent)
    }
}
