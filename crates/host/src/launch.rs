//! Starting a keeper, as the server does it.
//!
//! [`launch`] makes the session's folder and starts `PROGRAM keeper --dir DIR` with [`DETACH`] set. That process (its part is
//! [`detach`]) makes a process session of its own, finds the keeper's place, starts itself again there and exits: so the keeper is no child
//! of the server, and nothing that is done to the server's process group or service reaches it.
//!
//! What its application is given in secret the keeper finds on its standard input, which is memory without a name ([`Handed`]).
//!
//! Always true: no secret is in the folder, in an argument or in a variable; the folder is 0700 and the spec 0600 before anything is written to them; when `launch` fails, no keeper is left.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use model::SessionId;
use tokio::time::{Instant, sleep};
use wire::keeper::{Handed, SPEC, Spec, Status};
use zeroize::Zeroizing;

use crate::keeper::handed::in_memory;
use crate::link::{Commands, LinkError, Notices, connect};
use crate::scope::{self, Place};
use crate::{core_dumps, descriptors};

/// In the environment of a keeper that is to detach itself first.
pub(crate) const DETACH: &str = "STEAD_KEEPER_DETACH";
/// The keeper's own messages, in the session's folder.
pub(crate) const LOG: &str = "keeper.log";
/// How long a keeper may take to accept on its socket.
pub(crate) const APPEAR: Duration = Duration::from_secs(10);

/// A keeper that was started.
#[derive(Debug)]
pub struct Launched {
    /// The session's folder.
    pub dir: PathBuf,
    /// The keeper's first word of itself.
    pub status: Status,
    /// For commands to it.
    pub commands: Commands,
    /// What it says from now on.
    pub notices: Notices,
    /// Why it has no place of its own, if it has none: to be shown in `status`.
    pub warning: Option<String>,
}

/// Why no keeper was started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The session's folder could not be made.
    #[error("{path} could not be made")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The session's spec could not be written.
    #[error("{path} could not be written")]
    Spec {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What the application is given in secret could not be handed over.
    #[error("the secrets that the application is given could not be handed to its keeper")]
    Secrets(#[source] io::Error),
    /// The program could not be run.
    #[error("{program} could not be run")]
    Run {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program failed before the keeper was there.
    #[error("the keeper could not be started: {detail}")]
    Failed {
        /// What it said.
        detail: String,
    },
    /// The keeper did not appear.
    #[error("the keeper did not accept within {within:?}")]
    Silent {
        /// How long it had.
        within: Duration,
        /// What the last attempt met.
        source: LinkError,
    },
}

/// The folder of a session below the folder of all sessions.
pub fn folder(sessions: &Path, session: SessionId) -> PathBuf {
    sessions.join(session.to_string())
}

/// Starts the keeper of a session: `program` is the `stead` binary, `sessions` the folder of all sessions, `handed` what its
/// application is given in secret.
///
/// # Errors
/// What failed; the session's folder is removed then.
pub async fn launch(
    program: &Path,
    sessions: &Path,
    spec: &Spec,
    handed: &Handed,
) -> Result<Launched, LaunchError> {
    // The keeper works in its own folder, where a relative path would lead elsewhere.
    let sessions = &std::path::absolute(sessions).map_err(|source| LaunchError::Folder {
        path: sessions.to_owned(),
        source,
    })?;
    let dir = folder(sessions, spec.session);
    let stdin = standard_input(handed).map_err(LaunchError::Secrets)?;
    prepare(sessions, &dir, spec)?;
    match start(program, &dir, stdin).await {
        Ok(launched) => Ok(launched),
        Err(error) => {
            // Nothing of it must come up later: a keeper that finds no spec exits.
            crate::keeper::sweep(&dir);
            if let Err(error) = fs::remove_dir_all(&dir) {
                tracing::warn!(dir = %dir.display(), %error, "the folder of a session that did not start stays");
            }
            Err(error)
        }
    }
}

/// Makes the folder of a session and writes what it is.
pub(crate) fn prepare(sessions: &Path, dir: &Path, spec: &Spec) -> Result<(), LaunchError> {
    private_folder(sessions)?;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(dir)
        .map_err(|source| LaunchError::Folder {
            path: dir.to_owned(),
            source,
        })?;
    let path = dir.join(SPEC);
    let json = serde_json::to_vec_pretty(spec).expect("invariant: a spec is plain data");
    write_private(&path, &json).map_err(|source| LaunchError::Spec { path, source })
}

/// Makes a folder of mode 0700 and those above it, as far as they are missing.
pub(crate) fn private_folder(path: &Path) -> Result<(), LaunchError> {
    let mut folder = fs::DirBuilder::new();
    let made = folder.recursive(true).mode(0o700).create(path);
    made.map_err(|source| LaunchError::Folder {
        path: path.to_owned(),
        source,
    })
}

/// Writes a file of mode 0600 whole or not at all, and syncs it and its folder.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// What a keeper finds on its standard input.
fn standard_input(handed: &Handed) -> io::Result<Stdio> {
    if handed.0.is_empty() {
        return Ok(Stdio::null());
    }
    let bytes = Zeroizing::new(wire::encode(handed));
    Ok(in_memory(&bytes)?.into())
}

async fn start(program: &Path, dir: &Path, stdin: Stdio) -> Result<Launched, LaunchError> {
    begin(program, &["--dir".as_ref(), dir.as_os_str()], stdin).await?;
    let (status, commands, notices) = appeared(|| connect(dir)).await?;
    Ok(Launched {
        dir: dir.to_owned(),
        status,
        commands,
        notices,
        warning: scope::warning(dir),
    })
}

/// Runs the first step of a keeper with these arguments.
pub(crate) async fn begin(
    program: &Path,
    arguments: &[&OsStr],
    stdin: Stdio,
) -> Result<(), LaunchError> {
    let output = tokio::process::Command::new(program)
        .arg("keeper")
        .args(arguments)
        .env(DETACH, "1")
        .envs(descriptors::given().map(|given| (descriptors::GIVEN, given)))
        .envs(core_dumps::given().map(|given| (core_dumps::GIVEN, given)))
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let run = |source| LaunchError::Run {
        program: program.to_owned(),
        source,
    };
    let output = match tokio::time::timeout(APPEAR, output).await {
        Ok(output) => output.map_err(run)?,
        Err(_) => {
            return Err(LaunchError::Failed {
                detail: format!("no end of its first step within {APPEAR:?}"),
            });
        }
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr)
            .trim()
            .chars()
            .take(2000)
            .collect::<String>();
        return Err(LaunchError::Failed {
            detail: format!("{}: {said}", output.status),
        });
    }
    Ok(())
}

/// Tries until a keeper that was just started is there.
pub(crate) async fn appeared<T, F: Future<Output = Result<T, LinkError>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T, LaunchError> {
    let until = Instant::now() + APPEAR;
    let mut pause = Duration::from_millis(2);
    loop {
        match attempt().await {
            Ok(found) => return Ok(found),
            Err(source) if Instant::now() >= until => {
                return Err(LaunchError::Silent {
                    within: APPEAR,
                    source,
                });
            }
            Err(_) => sleep(pause).await,
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// The first step of a keeper: starts this program again, with the same arguments, in a place of its own with this name.
pub(crate) fn detach(dir: &Path, name: &str) -> io::Result<()> {
    close_inherited();
    // Fails only for the leader of a process group, which then has what is wanted already.
    let _ = rustix::process::setsid();
    let mut place = scope::place(name);
    if let Place::Group(group) = &place
        && let Err(error) = group.enter()
    {
        place = Place::Session(format!(
            "{} cannot be entered: {error}",
            group.path().display()
        ));
    }
    write_private(&dir.join(scope::FILE), scope::describe(&place).as_bytes())?;
    let own = std::env::current_exe()?;
    let words: Vec<OsString> = match place {
        Place::Systemd(words) => words.into_iter().chain([own.into_os_string()]).collect(),
        Place::Group(_) | Place::Session(_) => vec![own.into_os_string()],
    };
    let Some((program, before)) = words.split_first() else {
        return Ok(());
    };
    let log = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(dir.join(LOG))?;
    std::process::Command::new(program)
        .args(before)
        .args(std::env::args_os().skip(1))
        .env_remove(DETACH)
        .current_dir(dir)
        // What the server handed over, or nothing.
        .stdin(Stdio::inherit())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    Ok(())
}

/// Descriptors that somebody above the server left open are not for the keeper: it would hold their other ends open for as long as it
/// lives.
#[expect(
    unsafe_code,
    reason = "descriptors that are known by their numbers only cannot be borrowed safely"
)]
fn close_inherited() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number > 2) {
        // SAFETY: the descriptor is borrowed for one system call that sets a flag. One that was closed meanwhile makes it fail, and one
        // that was opened meanwhile is close-on-exec anyway.
        let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        let _ = rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC);
    }
}
