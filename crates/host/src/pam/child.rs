//! The process that asks PAM: reads one question, answers it, and ends.
//!
//! Always true: what modules print is not part of the answer, and the process goes with the server that started it.

use super::{Answer, SIZE, Said, Told, library::Library};
use rustix::process::Signal;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use zeroize::Zeroizing;

/// Answers the question on standard input on what was standard output.
///
/// # Errors
/// The question cannot be read, or the answer not be written.
pub fn answer() -> io::Result<()> {
    crate::core_dumps::leave_none();
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // What modules leave behind stays below this process, where it is found when it is late.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut bytes = Zeroizing::new(Vec::new());
    io::stdin().lock().take(SIZE).read_to_end(&mut bytes)?;
    let told: Told = serde_json::from_slice(&bytes)?;
    let mut output = take_output()?;
    let question = &told.question;
    let answer = match Library::open() {
        Ok(library) => library.check(question),
        Err(why) => Answer::Unable(why),
    };
    let said = Said {
        word: told.word,
        answer,
    };
    output.write_all(&serde_json::to_vec(&said)?)
}

/// What was standard output, which no program gets that a module starts; what modules print goes nowhere.
fn take_output() -> io::Result<File> {
    let output: OwnedFd = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    let nowhere = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nowhere)?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    rustix::stdio::dup2_stderr(&nowhere)?;
    Ok(File::from(output))
}
