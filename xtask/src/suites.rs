//! `cargo xtask test`: all tests, with what ran, how long it took, and one sum at the end; `cargo xtask sim`.
//!
//! The output of `cargo test` is passed through as it comes, that of the suites that need nothing but processors afterwards;
//! [`Tally`] reads along. What must always be true: a run that
//! failed, could not be built, or ran nothing is never reported as passed.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::num::NonZero;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{programs, setup};

/// How many tests of a suite run at once.
const THREADS: &str = "RUST_TEST_THREADS";

/// Crates whose tests need processors and nothing else: no clock, no network, no disk that is waited for. They run beside the
/// others, which wait most of the time, with what these leave them.
const PURE: &str = " model policy tunnel wire sim fuzz xtask ";
/// Has cargo run a suite, or leave it to the other run. Both runs select the whole workspace, so that they build the same things.
const RUNNER: &str = r#"target."cfg(all())".runner = ["sh", "-c", '''
case "$XTASK_PURE" in *" $CARGO_PKG_NAME "*) lane=pure ;; *) lane=others ;; esac
[ "$lane" = "$XTASK_LANE" ] && exec "$@"
echo "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s"
''', "lane"]"#;

/// Runs all tests, or those whose name contains `filter`; says whether all passed.
///
/// # Errors
/// When system packages are missing and cannot be installed, or cargo cannot be started.
#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(crate) fn all(root: &Path, filter: Option<&str>) -> Result<bool> {
    setup::run(setup::For::Tests)?;
    let start = Instant::now();
    let mut build = programs::cargo(root);
    build.args(["test", "--workspace", "--no-run"]);
    if !build.status().context("starting cargo test")?.success() {
        return Ok(false);
    }
    // The longest suites wait most of the time: one test more than there are processors keeps these busy.
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let others = lane(programs::cargo(root), "others", filter, processors + 1);
    let pure = lane(behind(programs::cargo(root)), "pure", filter, processors);
    let beside = std::thread::spawn(move || {
        let mut printed = String::new();
        let read = read_along(&pure, |text| printed.push_str(text));
        (read, printed)
    });
    let (ran, mut tally) = read_along(&others, |text| print!("{text}"))?;
    let (beside, printed) = beside
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    print!("{printed}");
    let (beside, pure) = beside?;
    tally.suites.extend(pure.suites);
    print!("\n{tally}");
    println!(
        "cargo test: {ran}, {beside}; {:.0} s",
        start.elapsed().as_secs_f64()
    );
    println!("{} passed, {} failed", tally.passed(), tally.failed());
    Ok(ran.success() && beside.success() && tally.failed() == 0 && tally.passed() > 0)
}

/// The same command, with what others leave of the processors.
fn behind(command: Command) -> Command {
    let mut behind = Command::new("nice");
    behind.args(["-n", "19"]).arg(command.get_program());
    behind.args(command.get_args());
    behind.current_dir(command.get_current_dir().unwrap_or(Path::new(".")));
    behind
}

/// A run of cargo for the suites of one lane.
fn lane(mut cargo: Command, lane: &str, filter: Option<&str>, threads: usize) -> Command {
    cargo.args(["--config", RUNNER, "test", "--workspace", "--no-fail-fast"]);
    cargo.env("XTASK_LANE", lane).env("XTASK_PURE", PURE);
    if lane == "pure" {
        // Examples in the documentation are the other one's.
        cargo.args(["--lib", "--bins", "--tests"]);
    }
    if std::env::var_os(THREADS).is_none() {
        cargo.env(THREADS, threads.to_string());
    }
    if let Some(filter) = filter {
        cargo.args(["--", filter]);
    }
    cargo
}

/// Runs the simulation, optimized, with these options; says whether no rule was broken.
///
/// # Errors
/// When cargo cannot be started.
pub(crate) fn simulation(root: &Path, options: &[String]) -> Result<bool> {
    let mut cargo = programs::cargo(root);
    cargo.args(["run", "--quiet", "--release", "--package", "sim"]);
    cargo.args(["--bin", "sim", "--"]).args(options);
    let status = cargo.status().context("starting the simulation")?;
    Ok(status.success())
}

/// Runs a `cargo test`, hands its output on as it comes, and reads along.
fn read_along(cargo: &Command, mut hand_on: impl FnMut(&str)) -> Result<(ExitStatus, Tally)> {
    // Both streams in one pipe, so that the names of suites and their results keep their order.
    let mut together = Command::new("sh");
    together
        .args(["-c", "exec \"$@\" 2>&1", "sh"])
        .arg(cargo.get_program())
        .args(cargo.get_args());
    together.envs(
        cargo
            .get_envs()
            .filter_map(|(name, value)| value.map(|value| (name, value))),
    );
    together
        .current_dir(cargo.get_current_dir().unwrap_or(Path::new(".")))
        .stdout(Stdio::piped());
    let mut child = together.spawn().context("starting cargo test")?;
    let mut output = BufReader::new(child.stdout.take().context("the output of cargo test")?);
    let mut tally = Tally::default();
    let mut line = Vec::new();
    while output
        .read_until(b'\n', &mut line)
        .context("reading the output of cargo test")?
        > 0
    {
        let text = String::from_utf8_lossy(&line);
        hand_on(&text);
        tally.read(text.trim_end());
        line.clear();
    }
    tally.crashed();
    let status = child.wait().context("waiting for cargo test")?;
    Ok((status, tally))
}

/// What was read out of the output of `cargo test`.
#[derive(Debug, Default)]
struct Tally {
    /// The suite that is running.
    running: Option<String>,
    suites: Vec<Suite>,
}

#[derive(Debug, PartialEq)]
struct Suite {
    name: String,
    passed: u64,
    failed: u64,
    took: Duration,
}

impl Tally {
    fn read(&mut self, line: &str) {
        if let Some(suite) = suite_started(line) {
            // A suite that ended without a result crashed: it counts as one failure.
            self.crashed();
            self.running = Some(suite);
        } else if line.starts_with("test result: ") {
            let name = self.running.take().unwrap_or_else(|| "?".to_owned());
            let number = |label| number_before(line, label).unwrap_or(0);
            let took = line
                .rsplit("finished in ")
                .next()
                .and_then(|rest| rest.strip_suffix('s')?.parse().ok());
            let took = Duration::try_from_secs_f64(took.unwrap_or_default()).unwrap_or_default();
            self.suites.push(Suite {
                name,
                passed: number(" passed"),
                failed: number(" failed"),
                took,
            });
        } else if line.starts_with("error: ") {
            self.crashed();
        }
    }

    fn crashed(&mut self) {
        if let Some(name) = self.running.take() {
            self.suites.push(Suite {
                name,
                passed: 0,
                failed: 1,
                took: Duration::ZERO,
            });
        }
    }

    fn passed(&self) -> u64 {
        self.suites.iter().map(|suite| suite.passed).sum()
    }

    fn failed(&self) -> u64 {
        self.suites.iter().map(|suite| suite.failed).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ran = self
            .suites
            .iter()
            .filter(|suite| suite.passed + suite.failed > 0);
        let width = ran
            .clone()
            .map(|suite| suite.name.chars().count())
            .max()
            .unwrap_or(0);
        for Suite {
            name,
            passed,
            failed,
            took,
        } in ran
        {
            writeln!(
                f,
                "{name:width$}  {passed:5} passed {failed:3} failed {:8.2} s",
                took.as_secs_f64()
            )?;
        }
        Ok(())
    }
}

/// `     Running unittests src/lib.rs (target/debug/deps/model-0123456789abcdef)` is `model src/lib.rs`.
fn suite_started(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{name} (documentation)"));
    }
    let (path, binary) = line
        .strip_prefix("Running ")?
        .strip_suffix(')')?
        .split_once(" (")?;
    let (name, _hash) = binary.rsplit('/').next()?.rsplit_once('-')?;
    Some(match path.strip_prefix("unittests ") {
        Some(path) => format!("{name} {path}"),
        None => path.to_owned(),
    })
}

fn number_before(line: &str, label: &str) -> Option<u64> {
    line.split(label)
        .next()?
        .rsplit(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
        text.lines().for_each(|line| tally.read(line));
        tally
    }

    #[test]
    fn suites_are_named_and_summed() {
        let tally = tally(
            "   Compiling model v0.1.0\n     Running unittests src/lib.rs (target/debug/deps/model-0123abcd)\n\nrunning 2 tests\n\
             test a ... ok\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.25s\n\
             \x20    Running tests/cuts.rs (target/debug/deps/cuts-89ef)\ntest result: FAILED. 1 passed; 10 failed; 0 ignored; 0 \
             measured; 0 filtered out; finished in 0.00s\n   Doc-tests model\ntest result: ok. 0 passed; 0 failed; 0 \
             ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        );
        assert_eq!((tally.passed(), tally.failed()), (3, 10));
        let printed = tally.to_string();
        assert!(
            printed.contains("model src/lib.rs      2 passed   0 failed     1.25 s"),
            "{printed}"
        );
        assert!(
            printed.contains("tests/cuts.rs         1 passed  10 failed"),
            "{printed}"
        );
        assert!(!printed.contains("documentation"), "nothing ran there");
    }

    #[test]
    fn a_suite_without_a_result_has_failed() {
        let crashed = "     Running tests/a.rs (target/debug/deps/a-1)\ntest x ... error: test failed\n\
                       error: test failed, to rerun pass `--test a`\n     Running tests/b.rs (target/debug/deps/b-1)\n";
        let mut tally = tally(crashed);
        assert_eq!(tally.failed(), 1);
        tally.crashed();
        assert_eq!(tally.failed(), 2);
    }

    #[test]
    fn other_output_is_not_misread() {
        let tally =
            tally("Running (x)\n     Running out of words\n1 passed\nerror: could not compile\n");
        assert_eq!((tally.passed(), tally.failed()), (0, 0));
    }
}
