//! The user of the shell: types, reads, and knows whether it is still the same shell.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::failed;
use crate::errors::Failure;

/// How long an answer may take; failures in between included.
const ANSWER: Duration = Duration::from_secs(25);

pub(super) struct Shell {
    viewer: TcpStream,
    asked: u32,
}

/// What a shell says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// Its process.
    pub(super) process: u32,
    /// The word that it remembers; empty in another shell.
    pub(super) word: String,
}

impl Shell {
    pub(super) fn new(viewer: TcpStream) -> Self {
        Self { viewer, asked: 0 }
    }

    /// Has the shell keep a word in a variable.
    pub(super) async fn remember(&mut self, word: &str) -> Result<Said, Failure> {
        self.say(&format!("word={word}\n")).await?;
        self.ask().await
    }

    /// Asks the shell who it is.
    pub(super) async fn ask(&mut self) -> Result<Said, Failure> {
        self.asked += 1;
        // What is typed comes back too, but with the arithmetic not done.
        self.say(&format!("echo \"[$((1000+{}))|$$|$word]\"\n", self.asked))
            .await?;
        let mark = format!("[{}|", 1000 + self.asked);
        let what = "the shell did not answer";
        let mut seen = Vec::new();
        let reading = async {
            loop {
                let mut bytes = [0; 4096];
                let count = self
                    .viewer
                    .read(&mut bytes)
                    .await
                    .map_err(|error| failed(what, error))?;
                if count == 0 {
                    return Err(failed(what, "its connection was closed"));
                }
                seen.extend_from_slice(bytes.get(..count).unwrap_or_default());
                if let Some(said) = answer(&String::from_utf8_lossy(&seen), &mark) {
                    return Ok(said);
                }
            }
        };
        let (process, word) = timeout(ANSWER, reading)
            .await
            .map_err(|_| failed(what, "it took too long"))??;
        Ok(Said { process, word })
    }

    async fn say(&mut self, line: &str) -> Result<(), Failure> {
        self.viewer
            .write_all(line.as_bytes())
            .await
            .map_err(|error| failed("the shell was not reached", error))
    }
}

fn answer(text: &str, mark: &str) -> Option<(u32, String)> {
    let rest = text.rsplit_once(mark)?.1;
    let (process, rest) = rest.split_once('|')?;
    let (word, _) = rest.split_once(']')?;
    Some((process.parse().ok()?, word.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_told_apart_from_what_was_typed() {
        let typed = "$ echo \"[$((1000+7))|$$|$word]\"\r\n";
        assert_eq!(answer(typed, "[1007|"), None);
        let all = format!("{typed}[1007|4242|persistence]\r\n$ ");
        assert_eq!(
            answer(&all, "[1007|"),
            Some((4242, "persistence".to_owned()))
        );
        assert_eq!(answer("[1007|42", "[1007|"), None);
    }
}
