//! Starting an application's command.
//!
//! Always true: no shell sees the command; it leads a process session of its own, in a control group of its own where one can be made,
//! and dies with the keeper if somebody kills that.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;

use model::SessionId;
use rustix::process::{Pid, Signal};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use wire::keeper::{OUTPUT, Spec};

use super::output::Output;
use super::places::{Places, UnknownPlaceholder};
use super::processes::Processes;
use super::terminal::{self, Terminal};
use crate::scope::Group;

/// In the session's folder: the control group of the command, for whoever has to clean up after a killed keeper.
pub(crate) const GROUP_FILE: &str = "group";

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) processes: Processes,
    pub(crate) terminal: Option<Terminal>,
    pub(crate) output: Output,
    /// Told when everything that was printed has been taken.
    pub(crate) drained: oneshot::Receiver<()>,
}

/// Why a command could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// It cannot be split into words.
    #[error("the command cannot be split into words: a quote is not closed")]
    Words,
    /// It is empty.
    #[error("the command is empty")]
    Empty,
    /// It names something unknown.
    #[error(transparent)]
    Placeholder(#[from] UnknownPlaceholder),
    /// There is no such program.
    #[error("there is no program {program:?}")]
    NoProgram {
        /// Which.
        program: String,
    },
    /// There is no such folder.
    #[error("the working folder {folder} cannot be entered: {source}")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system refuses to run it.
    #[error("{program:?} cannot be run: {source}")]
    Run {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// No terminal could be made.
    #[error("no terminal could be made: {0}")]
    Terminal(#[source] io::Error),
}

/// Starts the command of a session, if the application has one.
pub(crate) fn start(
    spec: &Spec,
    places: &Places,
    dir: &std::path::Path,
) -> Result<Option<Running>, CommandError> {
    let Some((text, on_terminal)) = spec.app.command() else {
        return Ok(None);
    };
    let words = shlex::split(text).ok_or(CommandError::Words)?;
    let words: Vec<String> = words
        .iter()
        .map(|word| places.fill(word))
        .collect::<Result<_, _>>()?;
    let (program, arguments) = words.split_first().ok_or(CommandError::Empty)?;
    let folder = match &spec.app.dir {
        Some(folder) => PathBuf::from(places.fill(folder)?),
        None => dir.to_owned(),
    };
    if let Err(source) = fs::read_dir(&folder) {
        return Err(CommandError::Folder { folder, source });
    }
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    environment(&mut command, spec, places, on_terminal)?;
    let group = Group::inside_own(&group_name(spec.session)).ok();
    note_group(dir, group.as_ref());
    let keeper_end = if on_terminal {
        let (keeper_end, command_end) = terminal::open().map_err(CommandError::Terminal)?;
        let copy = || command_end.try_clone().map_err(CommandError::Terminal);
        command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
        Some(keeper_end)
    } else {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        None
    };
    before_it_runs(&mut command, group.as_ref(), on_terminal);
    let spawned = command.spawn();
    // Its copies of the terminal would keep the terminal open.
    drop(command);
    if let (Err(_), Some(group)) = (&spawned, &group) {
        group.clear();
    }
    let mut child = spawned.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => CommandError::NoProgram {
            program: program.clone(),
        },
        _ => CommandError::Run {
            program: program.clone(),
            source,
        },
    })?;
    let leader = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let leader =
        leader.expect("invariant: a child that was just started and not waited for has a pid");
    let (terminal, output, drained) =
        listen(&mut child, keeper_end, dir).map_err(CommandError::Terminal)?;
    Ok(Some(Running {
        child,
        processes: Processes { leader, group },
        terminal,
        output,
        drained,
    }))
}

/// Begins to take what the command prints.
fn listen(
    child: &mut Child,
    keeper_end: Option<OwnedFd>,
    dir: &std::path::Path,
) -> io::Result<(Option<Terminal>, Output, oneshot::Receiver<()>)> {
    let (done, drained) = oneshot::channel();
    if let Some(keeper_end) = keeper_end {
        let output = Output::in_memory();
        let terminal = Terminal::run(keeper_end, output.clone(), done)?;
        return Ok((Some(terminal), output, drained));
    }
    let output = Output::in_file(dir.join(OUTPUT));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (first, second) = (output.clone(), output.clone());
    tokio::spawn(async move {
        tokio::join!(collect(stdout, first), collect(stderr, second));
        // Nobody waits any more when the session ended otherwise.
        let _ = done.send(());
    });
    Ok((None, output, drained))
}

/// Takes everything that comes from a pipe.
async fn collect(pipe: Option<impl tokio::io::AsyncRead + Unpin>, output: Output) {
    let Some(mut pipe) = pipe else { return };
    let mut piece = vec![0; 8 * 1024];
    while let Ok(count @ 1..) = pipe.read(&mut piece).await {
        output.add(piece.get(..count).unwrap_or_default());
    }
}

/// The keeper's own environment without what was meant for the server, and what the application and the session add.
fn environment(
    command: &mut Command,
    spec: &Spec,
    places: &Places,
    on_terminal: bool,
) -> Result<(), UnknownPlaceholder> {
    for (name, _) in std::env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let of_server = text.starts_with("STEAD_")
            || text.starts_with("LISTEN_")
            || text.starts_with("WATCHDOG_")
            || matches!(
                text,
                "NOTIFY_SOCKET"
                    | "INVOCATION_ID"
                    | "JOURNAL_STREAM"
                    | "MAINPID"
                    | "CREDENTIALS_DIRECTORY"
            );
        if of_server {
            command.env_remove(name);
        }
    }
    let mut added = BTreeMap::from([
        ("STEAD_SESSION".to_owned(), spec.session.to_string()),
        ("STEAD_USER".to_owned(), spec.user.to_string()),
        ("STEAD_TOKEN".to_owned(), spec.token.to_string()),
    ]);
    if on_terminal && std::env::var_os("TERM").is_none() {
        added.insert("TERM".to_owned(), "xterm-256color".to_owned());
    }
    for (name, value) in &spec.app.env {
        added.insert(name.clone(), places.fill(value)?);
    }
    command.envs(added);
    Ok(())
}

/// The name of the control group of a session's command.
pub(crate) fn group_name(session: SessionId) -> String {
    format!("stead-app-{session}")
}

fn note_group(dir: &std::path::Path, group: Option<&Group>) {
    let Some(group) = group else { return };
    let line = group.path().to_string_lossy();
    if let Err(error) = crate::launch::write_private(&dir.join(GROUP_FILE), line.as_bytes()) {
        tracing::warn!(%error, "the control group of the command is not noted");
    }
}

/// What the new process does between fork and exec: a process session of its own, into its control group, the terminal as its own, an
/// end when the keeper ends.
#[expect(
    unsafe_code,
    reason = "there is no safe way to run code between fork and exec; it makes system calls only and allocates nothing"
)]
fn before_it_runs(command: &mut Command, group: Option<&Group>, on_terminal: bool) {
    let procs = group.and_then(|group| fs::OpenOptions::new().write(true).open(group.procs()).ok());
    let descriptors = crate::descriptors::to_give();
    let work = move || {
        rustix::process::setsid()?;
        if let Some(limit) = descriptors {
            rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)?;
        }
        if let Some(procs) = &procs {
            // Without it the process session is still known.
            let _ = rustix::io::write(procs.as_fd(), b"0");
        }
        if on_terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(())
    };
    // SAFETY: the closure runs in the child of a fork. It makes system calls through rustix, which allocates nothing for these and takes
    // no locks, and touches no memory but its own captures.
    unsafe {
        command.pre_exec(work);
    }
}
