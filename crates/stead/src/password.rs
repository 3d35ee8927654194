//! Passwords from a file, from stdin, or typed without echo. Never from the command line, where everybody can read them.

use crate::errors::Failure;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use wire::client::Hidden;
use zeroize::Zeroizing;

/// The longest password that is read, in bytes.
const LIMIT: u64 = 1024;

/// Where a password comes from.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PasswordSource {
    /// The file that holds the password on its first line; `-` reads it from stdin. Without it the password is asked for.
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

impl PasswordSource {
    /// A new password; typed twice when it is typed.
    ///
    /// # Errors
    /// The file cannot be read, holds none, or there is neither file nor terminal.
    pub(crate) fn new_password(&self, whose: &str) -> Result<Hidden, Failure> {
        match &self.password_file {
            Some(file) => read_file(file, whose),
            None => {
                let first = ask(whose, &format!("New password for {whose}: "))?;
                let second = ask(whose, "The same again: ")?;
                if *first != *second {
                    return Err(Failure::failed(not_read(whose), "the two are not the same"));
                }
                Ok(Hidden(first.to_string()))
            }
        }
    }

    /// A password that exists.
    ///
    /// # Errors
    /// The file cannot be read, holds none, or there is neither file nor terminal.
    pub(crate) fn password(&self, whose: &str) -> Result<Hidden, Failure> {
        match &self.password_file {
            Some(file) => read_file(file, whose),
            None => Ok(Hidden(
                ask(whose, &format!("Password for {whose}: "))?.to_string(),
            )),
        }
    }
}

/// The password on the first line of a file; `-` is stdin.
///
/// # Errors
/// The file cannot be read, or holds none.
pub(crate) fn read_file(file: &Path, whose: &str) -> Result<Hidden, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = if file == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(LIMIT + 2)
            .read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|opened| opened.take(LIMIT + 2).read_to_end(&mut bytes))
    };
    let shown = shown(file);
    read.map_err(|error| Failure::failed(not_read(whose), format!("{shown}: {error}")))?;
    let line = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line)
        .map_err(|_| Failure::failed(not_read(whose), format!("{shown} is not UTF-8 text")))?;
    if text.is_empty() {
        return Err(Failure::failed(
            not_read(whose),
            format!("the first line of {shown} is empty"),
        ));
    }
    if text.len() as u64 > LIMIT {
        return Err(Failure::failed(
            not_read(whose),
            format!("the first line of {shown} is longer than {LIMIT} bytes"),
        ));
    }
    Ok(Hidden(text.to_owned()))
}

/// A passphrase that is typed without being shown.
///
/// # Errors
/// There is no terminal, or nothing was typed.
pub(crate) fn typed(of: &str, prompt: &str) -> Result<Hidden, Failure> {
    if !std::io::stdin().is_terminal() {
        let what = format!("the passphrase of {of} was not read");
        let failure = Failure::usage(what, "there is no terminal to ask on");
        return Err(failure.remedy(
            "give --passphrase-file FILE, or `--passphrase-file -` to read it from stdin",
        ));
    }
    Ok(Hidden(ask(of, prompt)?.to_string()))
}

/// All that a file holds, at most `limit` bytes and at least one; `-` is stdin.
///
/// # Errors
/// In words: the file cannot be read, is empty, or holds more.
pub(crate) fn read_bytes(file: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    let shown = shown(file);
    // Made as long as it may be, so that no copy is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
    let most = limit as u64 + 1;
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|opened| opened.take(most).read_to_end(&mut bytes))
    };
    match read {
        Err(error) => Err(format!("{shown}: {error}")),
        Ok(0) => Err(format!("{shown} is empty")),
        Ok(length) if length > limit => Err(format!("{shown} has more than {limit} bytes")),
        Ok(_) => Ok(bytes),
    }
}

/// A value that is typed twice without being shown.
///
/// # Errors
/// There is no terminal, nothing was typed, or the two differ.
pub(crate) fn new_value(of: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let what = format!("the value of {of} was not read");
    if !std::io::stdin().is_terminal() {
        let failure = Failure::usage(what, "there is no terminal to ask on");
        return Err(failure.remedy("give --file FILE, or `--file -` to read it from stdin"));
    }
    let first = ask(of, &format!("Value of {of}: "))?;
    let second = ask(of, "The same again: ")?;
    match *first == *second {
        true => Ok(Zeroizing::new(first.as_bytes().to_vec())),
        false => Err(Failure::failed(what, "the two are not the same")),
    }
}

fn shown(file: &Path) -> String {
    match file == Path::new("-") {
        true => "stdin".to_owned(),
        false => file.display().to_string(),
    }
}

fn not_read(whose: &str) -> String {
    format!("the password for {whose} was not read")
}

fn ask(whose: &str, prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let failure = Failure::usage(not_read(whose), "there is no terminal to ask on");
        return Err(failure
            .remedy("give --password-file FILE, or `--password-file -` to read it from stdin"));
    }
    let failed = |error: std::io::Error| Failure::failed(not_read(whose), error);
    let mut terminal = std::io::stderr().lock();
    terminal
        .write_all(prompt.as_bytes())
        .and_then(|()| terminal.flush())
        .map_err(failed)?;
    let _quiet = NoEcho::begin().map_err(failed)?;
    let mut line = Zeroizing::new(String::new());
    let read = stdin.lock().take(LIMIT + 2).read_line(&mut line);
    terminal.write_all(b"\n").map_err(failed)?;
    read.map_err(failed)?;
    while line.ends_with(['\n', '\r']) {
        line.pop();
    }
    if line.is_empty() {
        return Err(Failure::failed(not_read(whose), "nothing was typed"));
    }
    Ok(line)
}

/// Typed characters are not shown while this lives.
struct NoEcho {
    before: rustix::termios::Termios,
}

impl NoEcho {
    fn begin() -> std::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self { before })
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        // The terminal went away: there is nobody left to show anything to.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> Result<Hidden, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, content).unwrap();
        read_file(&path, "ann")
    }

    #[test]
    fn first_line_without_its_end() {
        for content in [
            &b"correct horse"[..],
            b"correct horse\n",
            b"correct horse\r\n",
            b"correct horse\nmore",
        ] {
            assert_eq!(file(content).unwrap().0, "correct horse");
        }
        assert_eq!(
            file(" spaces stay \n".as_bytes()).unwrap().0,
            " spaces stay "
        );
    }

    #[test]
    fn refuses_what_is_no_password() {
        assert!(file(b"").unwrap_err().why.contains("is empty"));
        assert!(file(b"\nsecond").unwrap_err().why.contains("is empty"));
        assert!(file(&[0xff, 0xfe]).unwrap_err().why.contains("UTF-8"));
        assert!(file(&[b'x'; 5000]).unwrap_err().why.contains("longer"));
        assert!(
            read_file(Path::new("/nowhere/at/all"), "ann")
                .unwrap_err()
                .why
                .contains("/nowhere/at/all")
        );
    }
}
