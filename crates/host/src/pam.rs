//! PAM: whether a password is that of an account of this machine, as its administrator has said with a file in `/etc/pam.d`.
//!
//! Modules of PAM may wait for long, crash, leak, or end their process: so each question has a process of its own, this program again,
//! which is told on its standard input and ended when it is late. Always true: only an answer with the word that was drawn for
//! this question counts, so that nothing else that such a process does or prints lets anybody in. Start at [`ask`]; the other process is
//! [`answer`].

mod child;
mod library;

pub use child::answer;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use zeroize::{Zeroize, Zeroizing};

/// The subcommand that [`answer`]s.
pub const SUBCOMMAND: &str = "ask-pam";
/// How long a question may take: modules wait a few seconds after a wrong password.
const LIMIT: Duration = Duration::from_secs(15);
/// The most bytes of a question and of an answer.
const SIZE: u64 = 64 * 1024;
/// How often it is looked for what is left of a question that is late.
const ROUNDS: usize = 100;
/// Where the files of services are.
const FOLDERS: [&str; 3] = ["/etc/pam.d", "/usr/etc/pam.d", "/usr/lib/pam.d"];
/// Where programs are that modules start.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is asked.
#[derive(Clone, Serialize, Deserialize)]
pub struct Question {
    /// The service: the name of a file in `/etc/pam.d`.
    pub service: String,
    /// Another folder for that file, where this PAM can (Linux-PAM 1.4 on).
    pub folder: Option<PathBuf>,
    /// The account.
    pub user: String,
    /// What was given as its password.
    pub password: Zeroizing<String>,
    /// The address that it was given from.
    pub from: String,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question")
            .field("service", &self.service)
            .field("user", &self.user)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// A question as it is told to the other process.
#[derive(Serialize, Deserialize)]
struct Told {
    question: Question,
    /// What the answer begins with.
    word: String,
}

/// What comes back.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    word: String,
    answer: Answer,
}

/// What PAM says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    /// It is the account's password, and the account may log in.
    Accepted,
    /// Not so.
    Refused,
    /// It cannot tell.
    Unable(String),
}

/// Why PAM did not say whether a password is right.
#[derive(Debug, thiserror::Error)]
pub enum PamError {
    /// Nothing says how the service checks passwords; PAM would fall back to what `other` says.
    #[error(
        "there is no file {service:?} in /etc/pam.d on this server: make it, or set users.pam-service"
    )]
    NoService {
        /// The service.
        service: String,
    },
    /// There is no PAM, or it cannot be used.
    #[error("PAM cannot be used on this server: {0}")]
    Unable(String),
    /// The process that asks could not be run.
    #[error("the process that asks PAM could not be run")]
    Run(#[source] io::Error),
    /// It ended without an answer.
    #[error("a module of PAM ended the process that asked it, without an answer")]
    Ended,
    /// It took too long.
    #[error("PAM did not answer within {} s: a module of it waits for something", LIMIT.as_secs())]
    Late,
    /// No randomness.
    #[error("the operating system has no randomness to give")]
    Randomness,
}

/// Whether PAM can be asked for this service here.
///
/// # Errors
/// What is missing.
pub fn is_there(service: &str) -> Result<(), PamError> {
    has_service(service, &FOLDERS.map(PathBuf::from))?;
    library::Library::open().map(drop).map_err(PamError::Unable)
}

fn has_service(service: &str, folders: &[PathBuf]) -> Result<(), PamError> {
    let is_name = !service.is_empty() && !service.contains('/') && !service.starts_with('.');
    match is_name && folders.iter().any(|folder| folder.join(service).is_file()) {
        true => Ok(()),
        false => Err(PamError::NoService {
            service: service.to_owned(),
        }),
    }
}

/// Asks PAM, in a process of its own: `program` is the `stead` binary.
///
/// # Errors
/// Why it did not say; that says nothing about the password.
pub async fn ask(program: &Path, question: &Question) -> Result<bool, PamError> {
    match &question.folder {
        Some(folder) => has_service(&question.service, std::slice::from_ref(folder))?,
        None => has_service(&question.service, &FOLDERS.map(PathBuf::from))?,
    }
    let mut drawn = [0; 16];
    aws_lc_rs::rand::fill(&mut drawn).map_err(|_| PamError::Randomness)?;
    let word = drawn.map(|byte| format!("{byte:02x}")).concat();
    let mut child = start(program).map_err(PamError::Run)?;
    let id = child.id();
    let answered = tokio::time::timeout(LIMIT, talk(&mut child, question, &word)).await;
    // Whatever modules have started goes with it.
    end(id);
    let _ = child.wait().await;
    match answered.unwrap_or(Err(PamError::Late))? {
        Answer::Accepted => Ok(true),
        Answer::Refused => Ok(false),
        Answer::Unable(why) => Err(PamError::Unable(why)),
    }
}

fn start(program: &Path) -> io::Result<Child> {
    Command::new(program)
        .arg(SUBCOMMAND)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

async fn talk(child: &mut Child, question: &Question, word: &str) -> Result<Answer, PamError> {
    let told = Told {
        question: question.clone(),
        word: word.to_owned(),
    };
    let mut bytes = Zeroizing::new(serde_json::to_vec(&told).map_err(|_| PamError::Ended)?);
    let mut stdin = child.stdin.take().ok_or(PamError::Ended)?;
    let stdout = child.stdout.take().ok_or(PamError::Ended)?;
    // Whether it was read shows in the answer.
    let _ = stdin.write_all(&bytes).await;
    bytes.zeroize();
    drop(stdin);
    let mut said = Vec::new();
    let read = stdout.take(SIZE).read_to_end(&mut said).await;
    read.map_err(PamError::Run)?;
    let said: Said = serde_json::from_slice(&said).map_err(|_| PamError::Ended)?;
    match said.word == word {
        true => Ok(said.answer),
        false => Err(PamError::Ended),
    }
}

/// Ends the process that asks, and what modules have started in it, also what has left its process group: while it lives, all of
/// that is below it, because it takes in what is left behind there.
fn end(id: Option<u32>) {
    let id = id.and_then(|id| i32::try_from(id).ok());
    let Some(asking) = id.and_then(Pid::from_raw) else {
        return;
    };
    // It starts nothing more. There may be nobody left, here and below.
    let _ = kill_process(asking, Signal::STOP);
    for _ in 0..ROUNDS {
        let below = below(asking);
        if below.is_empty() {
            break;
        }
        for pid in below {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let _ = kill_process_group(asking, Signal::KILL);
}

/// The living processes below one.
fn below(top: Pid) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let of = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, parent_in(&stat)?))
    };
    let parents: BTreeMap<i32, i32> = pids.filter_map(of).collect();
    let top = top.as_raw_nonzero().get();
    let is_below = |pid: i32| {
        let above = std::iter::successors(Some(pid), |pid| parents.get(pid).copied());
        // Parents that were read at different moments might lead in a circle.
        above.skip(1).take(parents.len()).any(|pid| pid == top)
    };
    let found = parents.keys().copied().filter(|pid| is_below(*pid));
    found.filter_map(Pid::from_raw).collect()
}

/// The parent in a line of `/proc/PID/stat` (proc(5)), unless the process has ended. Its name, in brackets, may contain anything.
fn parent_in(stat: &str) -> Option<i32> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_read_whatever_the_name() {
        assert_eq!(parent_in("42 (a) b) c) S 7 41 40 0 -1"), Some(7));
        assert_eq!(parent_in("42 (sh) Z 7 41 40 0"), None);
        assert_eq!(parent_in("42 (sh) S"), None);
        assert_eq!(parent_in(""), None);
    }

    #[test]
    fn a_service_is_a_file_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("stead"), "").unwrap();
        let folders = [folder.path().to_owned()];
        has_service("stead", &folders).unwrap();
        for service in ["", "other", "../stead", ".stead", "."] {
            assert!(has_service(service, &folders).is_err(), "{service:?}");
        }
    }
}
