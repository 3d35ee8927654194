//! Programs started by a test: their output is collected for failure messages, and none outlives its guard.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{eventually_some, seconds};

/// Lines kept of each stream; older ones are dropped.
const KEPT_LINES: usize = 20_000;
/// Lines of each stream shown when a test fails.
const SHOWN_LINES: usize = 60;

/// A running program. Dropping it kills it; if the test is panicking, the last lines it printed are shown.
#[derive(Debug)]
pub struct Process {
    label: String,
    child: Child,
    input: Option<ChildStdin>,
    output: Lines,
    errors: Lines,
    readers: Vec<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

/// What a stream has printed so far, shared with the thread that reads it.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<VecDeque<String>>>);

impl Lines {
    fn snapshot(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    fn read_from(&self, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let lines = self.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut bytes = Vec::new();
            while matches!(reader.read_until(b'\n', &mut bytes), Ok(1..)) {
                let line = String::from_utf8_lossy(&bytes)
                    .trim_end_matches(['\r', '\n'])
                    .to_owned();
                let mut kept = lines.0.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == KEPT_LINES {
                    kept.pop_front();
                }
                kept.push_back(line);
                bytes.clear();
            }
        })
    }
}

impl Process {
    /// Starts a program with its three standard streams taken; `label` names it in failure messages.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(label: &str, command: &mut Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("starting {label} ({command:?}): {error}"));
        let output = Lines::default();
        let errors = Lines::default();
        let mut readers = Vec::new();
        readers.extend(child.stdout.take().map(|stream| output.read_from(stream)));
        readers.extend(child.stderr.take().map(|stream| errors.read_from(stream)));
        let input = child.stdin.take();
        Self {
            label: label.to_owned(),
            child,
            input,
            output,
            errors,
            readers,
            ended: None,
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What names it in messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.try_wait().is_none()
    }

    /// Its exit status, if it has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self
                .child
                .try_wait()
                .unwrap_or_else(|error| panic!("waiting for {}: {error}", self.label));
        }
        self.ended
    }

    /// Waits for its end, and until all that it printed is read.
    ///
    /// # Panics
    /// When it has not ended within `limit`, or a process that it left behind still holds its output after as long
    /// again.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.label);
        let ended = eventually_some(limit, &what, || self.try_wait());
        let what = format!("the end of what {} prints", self.label);
        eventually_some(limit, &what, || {
            self.readers
                .iter()
                .all(JoinHandle::is_finished)
                .then_some(ended)
        })
    }

    /// Lines of its standard output so far.
    pub fn output(&self) -> Vec<String> {
        self.output.snapshot()
    }

    /// Lines of its standard error so far.
    pub fn errors(&self) -> Vec<String> {
        self.errors.snapshot()
    }

    /// Waits for a line of its standard output that `wanted` accepts, and returns it.
    ///
    /// # Panics
    /// When none came within `limit`.
    #[track_caller]
    pub fn line(
        &self,
        limit: Duration,
        what: &str,
        mut wanted: impl FnMut(&str) -> bool,
    ) -> String {
        let what = format!("{what}, printed by {}", self.label);
        eventually_some(limit, &what, || {
            self.output.snapshot().into_iter().find(|line| wanted(line))
        })
    }

    /// Writes to its standard input.
    ///
    /// # Panics
    /// When it has ended or closed its input.
    #[track_caller]
    pub fn write(&mut self, bytes: &[u8]) {
        let input = self
            .input
            .as_mut()
            .unwrap_or_else(|| panic!("the input of {} is closed", self.label));
        let written = input.write_all(bytes).and_then(|()| input.flush());
        written.unwrap_or_else(|error| panic!("writing to {}: {error}", self.label));
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Kills it at once (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.reap();
    }

    /// Asks it to stop (SIGTERM); [`Process::wait`] waits for it.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Stops its clock (SIGSTOP), as a machine does that hangs.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    fn signal(&mut self, signal: Signal) {
        if self.try_wait().is_none() {
            kill(self.child.id(), signal);
        }
    }

    fn reap(&mut self) {
        if self.ended.is_none() {
            self.ended = self.child.wait().ok();
        }
    }

    /// What it printed last, for a failure message.
    pub fn story(&self) -> String {
        let ended = match self.ended {
            None => "running".to_owned(),
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, signal) => format!("signal {}", signal.unwrap_or_default()),
            },
        };
        let mut story = format!("--- {} ({ended})\n", self.label);
        for (name, lines) in [("out", self.output()), ("err", self.errors())] {
            let skipped = lines.len().saturating_sub(SHOWN_LINES);
            if skipped > 0 {
                story.push_str(&format!("{name}: ({skipped} earlier lines)\n"));
            }
            for line in lines.iter().skip(skipped) {
                story.push_str(&format!("{name}: {line}\n"));
            }
        }
        story
    }
}

impl Drop for Process {
    #[expect(
        clippy::print_stderr,
        reason = "the test harness shows it with the failure"
    )]
    fn drop(&mut self) {
        let ended_by_itself = self.try_wait().is_some();
        if !ended_by_itself {
            kill(self.child.id(), Signal::KILL);
            self.ended = self.child.wait().ok();
        }
        if std::thread::panicking() {
            // A grandchild may hold the pipes open, so that the readers are not waited for.
            eprint!(
                "{}{}",
                self.story(),
                if ended_by_itself {
                    ""
                } else {
                    "(killed by the test's end)\n"
                }
            );
        }
        self.readers.clear();
    }
}

/// Sends a signal to a process; one that is gone already is no failure.
pub(crate) fn kill(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _gone = kill_process(pid, signal);
    }
}

/// Runs a command without input to its end, and returns all that it printed.
///
/// # Panics
/// When it cannot be started. When it has not ended within `limit`: it is killed, and what it printed is shown.
#[track_caller]
pub(crate) fn run_to_end(command: &mut Command, limit: Duration) -> Output {
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn();
    let child = child.unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
    let pid = child.id();
    let (done, ended) = std::sync::mpsc::channel();
    // Nobody waits any more for one that cannot even be killed.
    std::thread::spawn(move || done.send(child.wait_with_output()));
    let in_time = ended.recv_timeout(limit);
    let is_late = in_time.is_err();
    let output = in_time.or_else(|_| {
        kill(pid, Signal::KILL);
        // What it started may hold its output open.
        ended.recv_timeout(seconds(5))
    });
    assert!(
        !is_late,
        "not within {limit:?}: the end of {command:?}: {output:?}"
    );
    match output {
        Ok(Ok(output)) => output,
        failed => panic!("waiting for {command:?}: {failed:?}"),
    }
}

/// Runs a short command to its end and returns what it printed.
///
/// # Panics
/// When it cannot be started or fails.
#[track_caller]
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    match try_run(program, arguments) {
        Ok(printed) => printed,
        Err(story) => panic!("{story}"),
    }
}

/// Runs a short command to its end; what it printed, or what went wrong.
pub(crate) fn try_run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let line = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("`{}` could not be started: {error}", line()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "`{}` failed ({}): {}",
        line(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::seconds;

    fn shell(script: &str) -> Process {
        Process::start("sh", Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn output_is_collected_and_the_end_is_seen() {
        let mut process = shell("echo one; echo two >&2; read line; echo got $line; exit 3");
        assert_eq!(
            process.line(seconds(5), "a first line", |line| line == "one"),
            "one"
        );
        process.write(b"it\n");
        assert_eq!(process.wait(seconds(5)).code(), Some(3));
        process.line(seconds(5), "the answer", |line| line == "got it");
        assert!(
            process.story().contains("exit code 3"),
            "{}",
            process.story()
        );
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let process = shell("while :; do read line || sleep 1; done");
        let pid = process.id();
        drop(process);
        assert!(!crate::machine::process_exists(pid));
    }

    #[test]
    fn a_killed_process_says_so() {
        let mut process = shell("read line");
        process.pause();
        process.kill();
        assert!(!process.is_running());
        assert!(process.story().contains("signal 9"));
    }

    #[test]
    fn a_command_is_run_to_its_end() {
        let output = run_to_end(
            Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"]),
            seconds(10),
        );
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(
            (output.stdout.as_slice(), output.stderr.as_slice()),
            (&b"one\n"[..], &b"two\n"[..])
        );
    }

    #[test]
    #[should_panic(expected = "last words")]
    fn one_that_hangs_is_killed_and_shown() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo last words; exec sleep 60"]);
        run_to_end(&mut command, seconds(1));
    }

    #[test]
    fn commands_that_fail_say_why() {
        let story = try_run("sh", &["-c", "echo broken >&2; exit 7"]).expect_err("it fails");
        assert!(story.contains("broken") && story.contains('7'), "{story}");
        assert!(try_run("no-such-program", &[]).is_err());
        assert_eq!(run("echo", &["fine"]), "fine\n");
    }
}
