//! Choosing among a token's sessions and the servers on a terminal: a numbered list, and a line from the keyboard.
//!
//! Always true: an empty line, and the end of the input, change nothing.

use super::{Context, Elsewhere, Failure, ServerView, SessionView};
use std::io::{BufRead, IsTerminal, Write};

/// The most bytes of a line that is typed.
const LINE: u64 = 64;

/// What can be chosen.
#[derive(Debug, Clone, Copy)]
pub(super) enum Offer<'a> {
    /// The token is to lead there.
    Session(&'a SessionView),
    /// Its session is to be on that server.
    Server(&'a ServerView),
}

/// All that can be chosen, sessions first.
pub(super) fn offers<'a>(sessions: &'a [SessionView], servers: &'a [ServerView]) -> Vec<Offer<'a>> {
    let fit = servers.iter().filter(|server| server.status.reachable);
    let sessions = sessions.iter().map(Offer::Session);
    sessions.chain(fit.map(Offer::Server)).collect()
}

/// Shows what there is and asks which; none: it stays as it is.
///
/// # Errors
/// There is no terminal to ask on.
pub(super) fn pick<'a>(
    context: &Context,
    failed: &str,
    offers: &[Offer<'a>],
) -> Result<Option<Offer<'a>>, Failure> {
    if !std::io::stdin().is_terminal() || context.output.is_json() {
        let why = "there is no terminal to choose on";
        return Err(Failure::usage(failed, why).remedy("say --list, --session ID or --to SERVER"));
    }
    let mut table = context
        .output
        .table(&["NUMBER>", "CHOICE", "APPLICATION", "STATE", "NOW"]);
    for (place, offer) in offers.iter().enumerate() {
        let number = (place + 1).to_string();
        table.plain(match offer {
            Offer::Session(session) => [
                number,
                format!("session {} on {}", session.id, session.host),
                session.app.clone(),
                session.state.clone(),
                if session.current { "it leads here" } else { "" }.to_owned(),
            ],
            Offer::Server(server) => [
                number,
                format!("the next session on {}", server.status.name),
                String::new(),
                String::new(),
                String::new(),
            ],
        });
    }
    context
        .output
        .raw(&table.text("There is nothing to choose."));
    let question = format!("1 to {}, or nothing to leave it as it is: ", offers.len());
    ask(failed, &question, |line| number(line, offers.len()))
        .map(|place| place.and_then(|place| offers.get(place).copied()))
}

/// What becomes of a live session on another server; none: it stays as it is.
///
/// # Errors
/// The terminal failed.
pub(super) fn elsewhere(failed: &str, live: &SessionView) -> Result<Option<Elsewhere>, Failure> {
    let question = format!(
        "Session {} is on {}: m moves it, e ends it, nothing leaves it as it is: ",
        live.id, live.host
    );
    ask(failed, &question, |line| match line {
        "m" => Some(Elsewhere::Moves),
        "e" => Some(Elsewhere::Ends),
        _ => None,
    })
}

/// The place in a list that a number stands for.
fn number(line: &str, count: usize) -> Option<usize> {
    let number: usize = line.parse().ok()?;
    (1..=count).contains(&number).then(|| number - 1)
}

/// Asks until the answer is understood, or there is none.
fn ask<T>(
    failed: &str,
    question: &str,
    understood: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Failure> {
    let broken = |error: std::io::Error| Failure::failed(failed, error);
    let mut stdin = std::io::stdin().lock();
    loop {
        let mut stderr = std::io::stderr();
        let asked = stderr.write_all(question.as_bytes());
        asked.and_then(|()| stderr.flush()).map_err(broken)?;
        let mut line = String::new();
        let read = std::io::Read::take(&mut stdin, LINE).read_line(&mut line);
        if read.map_err(broken)? == 0 || line.trim().is_empty() {
            return Ok(None);
        }
        if let Some(answer) = understood(line.trim()) {
            return Ok(Some(answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_from_one() {
        assert_eq!((number("1", 3), number("3", 3)), (Some(0), Some(2)));
        for wrong in ["0", "4", "-1", "one", "1 2", "99999999999999999999999"] {
            assert_eq!(number(wrong, 3), None, "{wrong}");
        }
    }
}
