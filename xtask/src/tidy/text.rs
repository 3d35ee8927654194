//! What the text of one file has to have, and what it must not: a head comment; no unfinished business without an
//! issue; exceptions that lapse by themselves; tests that all run, and wait for conditions instead of time.

use std::ops::Range;

use crate::house::File;
use crate::tidy::Finding;

/// A comment that starts with this, on the line of a sleep in a test or the one above, says why it is part of polling.
const POLLS: &str = "// tidy: polls";
/// The function that may sleep between two looks at a condition.
const POLLING_FUNCTION: &str = "eventually";
/// A file whose head says so runs on a clock that the test moves, where sleeping costs nothing and is how a scenario is
/// written.
const VIRTUAL_TIME: &str = "virtual time";
/// The attribute of a single test on such a clock.
const PAUSED: &str = "start_paused = true";

/// Checks one file.
pub(crate) fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    head(file, &mut findings);
    unfinished(file, &mut findings);
    attributes(file, &mut findings);
    sleeps(file, &mut findings);
    findings
}

fn head(file: &File, findings: &mut Vec<Finding>) {
    let first = file.text.lines().next().unwrap_or_default();
    if first
        .strip_prefix("//!")
        .is_none_or(|rest| rest.trim().is_empty())
    {
        findings.push(Finding::at(
            &file.path,
            1,
            "opens without `//!`: what is it for, what must always be true here?",
        ));
    }
}

/// `TODO` and its like name an issue: `TODO(#12)`.
fn unfinished(file: &File, findings: &mut Vec<Finding>) {
    for (line, comment) in file.source.comments() {
        for (offset, text) in comment.lines().enumerate() {
            for word in ["TODO", "FIXME", "XXX"] {
                let named = |rest: &str| {
                    rest.strip_prefix("(#")
                        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
                };
                let unnamed = text.match_indices(word).any(|(at, _)| {
                    let before = text.get(..at).unwrap_or_default().chars().next_back();
                    let after = text.get(at + word.len()..).unwrap_or_default();
                    let whole = !before.is_some_and(char::is_alphanumeric)
                        && !after.starts_with(|c: char| c.is_alphanumeric());
                    whole && !quoted(before, after) && !named(after)
                });
                if unnamed {
                    findings.push(Finding::at(
                        &file.path,
                        line + offset,
                        format!("{word} without an issue: finish it, or write `{word}(#number)`"),
                    ));
                }
            }
        }
    }
}

/// Written as `TODO` in a comment, it is spoken of, not used.
fn quoted(before: Option<char>, after: &str) -> bool {
    before == Some('`') && after.contains('`')
}

fn attributes(file: &File, findings: &mut Vec<Finding>) {
    let code = file.source.code();
    for (start, message) in [
        (
            "allow(",
            "`allow` outlives its cause: write `#[expect(lint, reason = \"...\")]`",
        ),
        (
            "ignore",
            "an ignored test is none: make it run everywhere or remove it",
        ),
    ] {
        for opening in ["#[", "#!["] {
            for (at, _) in code.match_indices(&format!("{opening}{start}")) {
                findings.push(Finding::at(&file.path, file.source.line_of(at), message));
            }
        }
    }
}

fn sleeps(file: &File, findings: &mut Vec<Finding>) {
    let head = file.text.lines().take_while(|line| line.starts_with("//!"));
    if head.collect::<String>().contains(VIRTUAL_TIME) {
        return;
    }
    let whole_file = 0..usize::MAX;
    let tests: Vec<Range<usize>> = if file.is_test() {
        vec![whole_file]
    } else {
        file.source.test_spans()
    };
    let functions = file.source.functions().into_iter();
    let may: Vec<Range<usize>> = functions
        .filter(|function| {
            function.name == POLLING_FUNCTION || is_paused(file, function.span.start)
        })
        .map(|function| function.span)
        .collect();
    for call in ["sleep(", "sleep_until(", "sleep_ms("] {
        for at in file.source.find_word(call) {
            let line = file.source.line_of(at);
            let within = |spans: &[Range<usize>]| spans.iter().any(|span| span.contains(&at));
            if within(&tests) && !within(&may) && !is_marked(file, line) {
                let message = "a test waits for a condition, never for time: use `testkit::eventually`; or say above the \
                               line why it polls, `// tidy: polls: ...`; or, if its clock is virtual, say `virtual time` \
                               in the `//!` of the file";
                findings.push(Finding::at(&file.path, line, message));
            }
        }
    }
}

/// Whether the attributes of the function that starts at `start` put it on a clock of its own.
fn is_paused(file: &File, start: usize) -> bool {
    let before = file.source.code().get(..start).unwrap_or_default();
    before
        .rsplit(['}', ';', '{'])
        .next()
        .is_some_and(|attributes| attributes.contains(PAUSED))
}

fn is_marked(file: &File, line: usize) -> bool {
    file.source.comments().iter().any(|(at, comment)| {
        let reason = comment
            .strip_prefix(POLLS)
            .map(|rest| rest.trim_start_matches(':').trim());
        (*at == line || at + 1 == line) && reason.is_some_and(|reason| !reason.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, owner: &str, text: &str) -> Vec<usize> {
        check(&File::new(path, owner, text.to_owned()))
            .into_iter()
            .filter_map(|finding| finding.line)
            .collect()
    }

    fn in_source(text: &str) -> Vec<usize> {
        lines("crates/x/src/a.rs", "x", &format!("//! A.\n{text}"))
    }

    #[test]
    fn a_file_opens_with_what_it_is_for() {
        assert_eq!(lines("crates/x/src/a.rs", "x", "//! For x.\n"), []);
        assert_eq!(lines("crates/x/src/a.rs", "x", "// For x.\n"), [1]);
        assert_eq!(lines("crates/x/src/a.rs", "x", "//!\n"), [1]);
        assert_eq!(lines("crates/x/src/a.rs", "x", ""), [1]);
    }

    #[test]
    fn unfinished_business_names_an_issue() {
        assert_eq!(in_source("// TODO(#12): later\n"), []);
        assert_eq!(in_source("// TODO: later\n"), [2]);
        assert_eq!(in_source("/* a\n FIXME(12) */\n"), [3]);
        assert_eq!(
            in_source("// a `TODO` is spoken of, TODOS too\nlet x = \"TODO\";\n"),
            []
        );
    }

    #[test]
    fn exceptions_lapse_and_tests_run() {
        assert_eq!(
            in_source("#[expect(dead_code, reason = \"x\")]\nfn a() {}\n"),
            []
        );
        assert_eq!(
            in_source("#[allow(dead_code)]\nfn a() {}\n#![allow(x)]\n"),
            [2, 4]
        );
        assert_eq!(in_source("// #[allow(x)]\nlet x = \"#[ignore]\";\n"), []);
        assert_eq!(in_source("#[ignore = \"slow\"]\nfn a() {}\n"), [2]);
    }

    #[test]
    fn tests_do_not_sleep() {
        let sleeping = "fn a() {\n    thread::sleep(x);\n}\n";
        assert_eq!(in_source(sleeping), [], "code that is no test may");
        assert_eq!(
            in_source(&format!("#[cfg(test)]\nmod tests {{\n{sleeping}}}\n")),
            [5]
        );
        let test = |head: &str| lines("crates/x/tests/a.rs", "x", &format!("{head}\n{sleeping}"));
        assert_eq!(test("//! A."), [3]);
        assert_eq!(test("//! In virtual time."), []);
        assert_eq!(test("//! A.\n#[tokio::test(start_paused = true)]"), []);
        assert_eq!(
            test("//! A.\n#[tokio::test(start_paused = true)] fn b() {}"),
            [4]
        );
        assert_eq!(
            lines(
                "crates/x/tests/a.rs",
                "x",
                "//! A.\nfn eventually() {\n    sleep(x);\n}\n"
            ),
            []
        );
    }

    #[test]
    fn a_marker_needs_a_reason() {
        let test = |marker: &str| {
            lines(
                "crates/x/tests/a.rs",
                "x",
                &format!("//! A.\n{marker}\nsleep(x);\n"),
            )
        };
        assert_eq!(test("// tidy: polls: paces the writer"), []);
        assert_eq!(test("// tidy: polls"), [3]);
        assert_eq!(test("// paces the writer"), [3]);
    }
}
