//! Starting an application's command.
//!
//! Always true: no shell sees the command; secrets reach it by descriptors that it alone inherits; it leads a process session of its own, in a control group of its own where one can be made,
//! and dies with the keeper if somebody kills that; it runs as the account that the application names, or as the keeper's own.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use model::SessionId;
use rustix::process::{Pid, Signal};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use wire::keeper::{OUTPUT, Spec};

use super::account::{self, Account, AccountError};
use super::handed::Handed;
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
    /// The system refuses to run it as that account.
    #[error("{program:?} cannot be run as account {account:?} in {folder}: {source}")]
    RunAs {
        /// Which.
        program: String,
        /// As whom.
        account: String,
        /// The working folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no account to run it as.
    #[error("run-as: {0}")]
    Account(#[from] AccountError),
    /// The account could not be given a folder.
    #[error("account {account:?} could not be given a folder of its own: {source}")]
    PrivateFolder {
        /// Which account.
        account: String,
        /// Why.
        source: io::Error,
    },
    /// The account could not be given what the command is given in secret.
    #[error("the secrets could not be given to the account of the command: {0}")]
    Handed(#[source] io::Error),
    /// No terminal could be made.
    #[error("no terminal could be made: {0}")]
    Terminal(#[source] io::Error),
}

/// Finds the account that the command is to run as, and gives it its places.
pub(crate) fn account(spec: &Spec, places: &mut Places) -> Result<Option<Account>, CommandError> {
    let found = account::find(spec)?;
    if let Some(account) = &found {
        places
            .give_to(account)
            .map_err(|source| CommandError::PrivateFolder {
                account: account.name.clone(),
                source,
            })?;
    }
    Ok(found)
}

/// Starts the command of a session as that account, if the application has one.
pub(crate) fn start(
    spec: &Spec,
    places: &Places,
    dir: &Path,
    account: Option<&Account>,
) -> Result<Option<Running>, CommandError> {
    let Some((text, on_terminal)) = spec.app.command() else {
        return Ok(None);
    };
    let handed = places.take_handed();
    if let Some(account) = account.filter(|account| !account.is_own) {
        handed.give_to(account).map_err(CommandError::Handed)?;
    }
    let words = shlex::split(text).ok_or(CommandError::Words)?;
    let words: Vec<String> = words
        .iter()
        .map(|word| places.fill_with(word, &handed))
        .collect::<Result<_, _>>()?;
    let (program, arguments) = words.split_first().ok_or(CommandError::Empty)?;
    let folder = match &spec.app.dir {
        Some(folder) => PathBuf::from(places.fill(folder)?),
        None => places.dir().to_owned(),
    };
    if let Err(source) = fs::read_dir(&folder) {
        return Err(CommandError::Folder { folder, source });
    }
    let mut command = Command::new(program);
    command.args(arguments);
    environment(&mut command, spec, (places, &handed), on_terminal, account)?;
    let group = Group::inside_own(&group_name(spec.session)).ok();
    note_group(dir, group.as_ref());
    let keeper_end = if on_terminal {
        let (keeper_end, command_end) = terminal::open(account).map_err(CommandError::Terminal)?;
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
    before_it_runs(
        &mut command,
        group.as_ref(),
        handed,
        on_terminal,
        (&folder, account),
    );
    let spawned = command.spawn();
    // Its copies of the terminal would keep the terminal open, and secrets are the command's alone from now on.
    drop(command);
    if let (Err(_), Some(group)) = (&spawned, &group) {
        group.clear();
    }
    let mut child = spawned.map_err(|source| not_run(program.clone(), folder, account, source))?;
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

/// What the system says of a command that it does not run.
fn not_run(
    program: String,
    folder: PathBuf,
    account: Option<&Account>,
    source: io::Error,
) -> CommandError {
    match (source.kind(), account) {
        (io::ErrorKind::NotFound, _) => CommandError::NoProgram { program },
        (_, Some(account)) => CommandError::RunAs {
            program,
            account: account.name.clone(),
            folder,
            source,
        },
        _ => CommandError::Run { program, source },
    }
}

/// Begins to take what the command prints.
fn listen(
    child: &mut Child,
    keeper_end: Option<OwnedFd>,
    dir: &Path,
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

/// The keeper's own environment without what was meant for the server, or for its account where the command has another; and what the
/// account, the session and the application add.
fn environment(
    command: &mut Command,
    spec: &Spec,
    (places, handed): (&Places, &Handed),
    on_terminal: bool,
    account: Option<&Account>,
) -> Result<(), UnknownPlaceholder> {
    let is_another = account.is_some_and(|account| !account.is_own);
    for (name, _) in std::env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        if is_of_server(text) || (is_another && !is_of_all(text)) {
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
    for (name, value) in account.iter().flat_map(|account| account.environment()) {
        added.insert(name.to_owned(), value);
    }
    for (name, value) in &spec.app.env {
        added.insert(name.clone(), places.fill_with(value, handed)?);
    }
    command.envs(added);
    Ok(())
}

/// Whether a variable was meant for the server.
fn is_of_server(name: &str) -> bool {
    name.starts_with("STEAD_")
        || name.starts_with("LISTEN_")
        || name.starts_with("WATCHDOG_")
        || matches!(
            name,
            "NOTIFY_SOCKET"
                | "INVOCATION_ID"
                | "JOURNAL_STREAM"
                | "MAINPID"
                | "CREDENTIALS_DIRECTORY"
        )
}

/// Whether a variable is not the keeper's account's alone.
fn is_of_all(name: &str) -> bool {
    matches!(name, "PATH" | "LANG" | "LANGUAGE" | "TERM" | "TZ") || name.starts_with("LC_")
}

/// The name of the control group of a session's command.
pub(crate) fn group_name(session: SessionId) -> String {
    format!("stead-app-{session}")
}

fn note_group(dir: &Path, group: Option<&Group>) {
    let Some(group) = group else { return };
    let line = group.path().to_string_lossy();
    if let Err(error) = crate::launch::write_private(&dir.join(GROUP_FILE), line.as_bytes()) {
        tracing::warn!(%error, "the control group of the command is not noted");
    }
}

/// What the new process does between fork and exec: a process session of its own, into its control group, the terminal as its own, the
/// account, its working folder, an end when the keeper ends.
#[expect(
    unsafe_code,
    reason = "there is no safe way to run code between fork and exec; it makes system calls only and allocates nothing"
)]
fn before_it_runs(
    command: &mut Command,
    group: Option<&Group>,
    handed: Handed,
    on_terminal: bool,
    (folder, account): (&Path, Option<&Account>),
) {
    let procs = group.and_then(|group| fs::OpenOptions::new().write(true).open(group.procs()).ok());
    let descriptors = crate::descriptors::to_give();
    let cores = crate::core_dumps::to_give();
    let account = account.filter(|account| !account.is_own).cloned();
    // The folder is entered as whoever the command is: it may not be for the account.
    let folder = match (&account, CString::new(folder.as_os_str().as_bytes())) {
        (Some(_), Ok(folder)) => Some(folder),
        _ => {
            command.current_dir(folder);
            None
        }
    };
    let work = move || {
        rustix::process::setsid()?;
        handed.leave_open()?;
        if let Some(limit) = descriptors {
            rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)?;
        }
        if let Some(limit) = cores {
            rustix::process::setrlimit(rustix::process::Resource::Core, limit)?;
        }
        if let Some(procs) = &procs {
            // Without it the process session is still known.
            let _ = rustix::io::write(procs.as_fd(), b"0");
        }
        if on_terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        if let Some(account) = &account {
            if !on_terminal {
                account.own_output();
            }
            account.put_on()?;
        }
        if let Some(folder) = &folder {
            rustix::process::chdir(folder.as_c_str())?;
        }
        // Last: it is forgotten when the user id changes.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(())
    };
    // SAFETY: the closure runs in the child of a fork. It makes system calls through rustix, which allocates nothing for these and takes
    // no locks, and touches no memory but its own captures.
    unsafe {
        command.pre_exec(work);
    }
}
