//! `stead demo`: a group of three on this machine, two sessions in use, three failures, and what their users felt.
//!
//! Everything is real: the servers, the administrator's commands and the keepers are processes of this program, the sessions are a
//! shell on a terminal and a busy stream of bytes, and their client is the engine of `stead connect`. Only the network is this
//! machine's own: each server has an address of its own in 127.77.0.0/16.
//!
//! Always true: whatever happens, Ctrl-C included, nothing is left behind but with `--keep`; the exit code is 0 only if every promise was
//! kept. Start at [`Demo::run`]; the story is told in [`failures`].

mod bytes;
mod failures;
mod group;
mod machine;
mod processes;
mod seat;
mod shell;
mod stage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Context;
use crate::errors::Failure;
use failures::Verdict;
use group::Group;
use stage::Stage;

/// The exit code of a demo that was interrupted, as shells have it.
const INTERRUPTED: u8 = 130;

/// Shows on this machine what Stead does: a group of three, sessions in use, three failures, and what their users felt
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead demo
  stead demo --keep                 leave the group running, and say how to use it
  stead demo --json | tail -n 1     the result, for scripts")]
pub(crate) struct Demo {
    /// Leave the group running and say how to use it.
    #[arg(long)]
    keep: bool,
    /// Send back on this socket whatever comes; the backend of the demo's busy session.
    #[arg(long, hide = true, value_name = "SOCKET")]
    echo: Option<PathBuf>,
}

impl Demo {
    /// Runs the demo.
    pub(crate) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| failed("the demo was not started", error))?;
        match &self.echo {
            Some(socket) => runtime.block_on(echo(socket)),
            None => runtime.block_on(self.show(context)),
        }
    }

    async fn show(&self, context: &Context) -> Result<ExitCode, Failure> {
        let stage = Stage::new(context.output);
        let mut group = Group::prepare()?;
        let outcome = tokio::select! {
            outcome = play(&mut group, &stage) => outcome,
            told = interrupted() => {
                told?;
                stage.line("interrupted", "interrupted: cleaning up");
                return Ok(INTERRUPTED.into());
            }
        };
        let verdicts = match outcome {
            Ok(verdicts) => verdicts,
            Err(failure) => {
                group.tell_logs(&stage);
                return Err(failure);
            }
        };
        let kept = stage.summary(&verdicts);
        if self.keep {
            group.keep(&stage).await?;
        }
        Ok(if kept {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// The whole story.
async fn play(group: &mut Group, stage: &Stage) -> Result<Vec<Verdict>, Failure> {
    group.found(stage).await?;
    let mut seats = group.seats(stage).await?;
    let mut verdicts = Vec::new();
    verdicts.push(failures::host_process(group, &mut seats, stage).await?);
    verdicts.push(failures::primary(group, &mut seats, stage).await?);
    verdicts.push(failures::host(group, &mut seats, stage).await?);
    Ok(verdicts)
}

/// Waits for Ctrl-C or a request to end.
async fn interrupted() -> Result<(), Failure> {
    let what = "signals cannot be received";
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| failed(what, error))?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.map_err(|error| failed(what, error)),
        _ = terminate.recv() => Ok(()),
    }
}

/// The backend of the busy session: sends back what comes, until it is killed.
async fn echo(socket: &Path) -> Result<ExitCode, Failure> {
    let what = "the demo's backend was not started";
    let listener = tokio::net::UnixListener::bind(socket).map_err(|error| failed(what, error))?;
    loop {
        let (mut stream, _) = listener
            .accept()
            .await
            .map_err(|error| failed(what, error))?;
        tokio::spawn(async move {
            let (mut reading, mut writing) = stream.split();
            // A client that goes away ends its connection only.
            let _ = tokio::io::copy(&mut reading, &mut writing).await;
        });
    }
}

fn failed(what: &str, why: impl std::fmt::Display) -> Failure {
    Failure::failed(what, why)
}

/// Waits until `look` has found something.
async fn eventually<T>(
    limit: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> Result<T, Failure> {
    let search = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let late = |_| {
        failed(
            &format!("the demo waited in vain for {what}"),
            format!("it did not come within {} s", limit.as_secs()),
        )
    };
    tokio::time::timeout(limit, search).await.map_err(late)
}
