//! `cargo xtask fuzz`: the harnesses of the crate `fuzz` under libFuzzer, one after the other.
//!
//! All that it leaves lies in the folder `fuzz` of cargo's target folder: `corpus/NAME` with the seeds and what was found to reach
//! new code, which the next run begins with; `found/NAME` with inputs that a harness fails on; `NAME.log`. What must always be true:
//! a harness that failed, or did not run to its end, is never reported as clean.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{programs, setup};

/// Memory that a run may take, in MiB.
const MEMORY: u32 = 1024;
/// Seconds that one input may take.
const TIME: u32 = 10;
/// Characters of a failing input that are shown.
const SHOWN: usize = 8 * 1024;

/// A harness, as the crate `fuzz` describes it.
#[derive(Debug, PartialEq)]
struct Target {
    name: String,
    longest: usize,
    covers: String,
}

/// Runs harnesses by name, or all, each for so many seconds; says whether all were clean.
///
/// # Errors
/// When there is no harness of a name, a compiler is missing and cannot be installed, or the runner cannot be built or started.
#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(crate) fn run(root: &Path, names: &[String], seconds: u64) -> Result<bool> {
    setup::run(setup::For::Fuzzing)?;
    let folder = programs::target(root).join("fuzz");
    let all = seeds(root, &folder.join("corpus"))?;
    let chosen = choose(&all, names)?;
    let runner = build(root, &folder)?;
    let mut failed = Vec::new();
    for target in &chosen {
        println!("fuzz: {} for {seconds} s: {}", target.name, target.covers);
        let clean = fuzz(&runner, &folder, target, seconds)?;
        if !clean {
            failed.push(target.name.as_str());
        }
    }
    match failed.as_slice() {
        [] => println!("fuzz: {} harnesses, all clean", chosen.len()),
        failed => println!("fuzz: {} failed", failed.join(", ")),
    }
    Ok(failed.is_empty())
}

/// Sees that the runner can be built, without the flags for coverage: so what is built already for other tasks is not built again.
///
/// # Errors
/// When a compiler is missing and cannot be installed, or the runner does not build.
pub(crate) fn check(root: &Path) -> Result<()> {
    setup::run(setup::For::Fuzzing)?;
    copy_versions(root)?;
    // From the root: the flags lie in the runner's own folder.
    let mut cargo = programs::cargo(root);
    programs::run(cargo.args(["check", "--manifest-path", "fuzz/Cargo.toml"]))
}

/// The versions of dependencies are those of the product.
fn copy_versions(root: &Path) -> Result<()> {
    fs::copy(root.join("Cargo.lock"), root.join("fuzz/Cargo.lock"))
        .context("copying Cargo.lock")?;
    Ok(())
}

/// Writes the seeds of all harnesses; says which there are.
fn seeds(root: &Path, corpus: &Path) -> Result<Vec<Target>> {
    let mut cargo = programs::cargo(root);
    cargo.args([
        "run",
        "--quiet",
        "--package",
        "fuzz",
        "--bin",
        "seeds",
        "--",
    ]);
    described(&programs::output(cargo.arg(corpus))?)
}

/// Reads lines of name, longest input and purpose, with tabs between.
fn described(lines: &str) -> Result<Vec<Target>> {
    let target = |line: &str| {
        let mut parts = line.splitn(3, '\t').map(str::to_owned);
        let (name, longest, covers) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Target {
            name,
            longest: longest.parse().ok()?,
            covers,
        })
    };
    let read = |line| target(line).with_context(|| format!("not a harness: {line:?}"));
    lines.lines().map(read).collect()
}

fn choose<'a>(all: &'a [Target], names: &[String]) -> Result<Vec<&'a Target>> {
    for name in names {
        if all.iter().all(|target| target.name != *name) {
            let known: Vec<&str> = all.iter().map(|target| target.name.as_str()).collect();
            bail!("there is no harness {name:?}, but: {}", known.join(", "));
        }
    }
    let is_chosen = |target: &&Target| names.is_empty() || names.contains(&target.name);
    Ok(all.iter().filter(is_chosen).collect())
}

/// Builds the runner with its own flags, which the configuration beside it holds; gives the program.
fn build(root: &Path, folder: &Path) -> Result<PathBuf> {
    let (home, output) = (root.join("fuzz"), folder.join("build"));
    copy_versions(root)?;
    let mut cargo = programs::cargo(&home);
    cargo.env("CARGO_TARGET_DIR", &output);
    // These would take the place of the flags.
    cargo
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo.env_remove("CARGO_BUILD_TARGET");
    programs::run(cargo.args(["build", "--release"]))?;
    let host = host(root)?;
    Ok(output.join(host).join("release/fuzz-runner"))
}

/// The triple of this machine, after which cargo names a folder.
fn host(root: &Path) -> Result<String> {
    let printed = programs::output(Command::new("rustc").arg("-vV").current_dir(root))?;
    let host = printed.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

/// Runs one harness and prints what came of it; says whether it was clean.
#[expect(clippy::print_stdout, reason = "what the command is for")]
fn fuzz(runner: &Path, folder: &Path, target: &Target, seconds: u64) -> Result<bool> {
    let name = &target.name;
    let found = folder.join("found").join(name);
    fs::create_dir_all(&found).with_context(|| format!("making {}", found.display()))?;
    let log = folder.join(format!("{name}.log"));
    let file = File::create(&log).with_context(|| format!("making {}", log.display()))?;
    let mut command = Command::new(runner);
    command.arg(folder.join("corpus").join(name));
    command.args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={}", target.longest),
        format!("-rss_limit_mb={MEMORY}"),
        format!("-timeout={TIME}"),
        format!("-artifact_prefix={}/", found.display()),
        "-print_final_stats=1".to_owned(),
    ]);
    command.env("STEAD_FUZZ_TARGET", name);
    command.stdout(file.try_clone()?).stderr(file);
    let status = command
        .status()
        .with_context(|| format!("starting {}", runner.display()))?;
    let text = fs::read(&log).with_context(|| format!("reading {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let figures = Figures::read(&text);
    println!("fuzz: {name}: {figures}");
    if status.success() {
        ensure!(
            figures.executions > 0,
            "{name} ran nothing: {}",
            log.display()
        );
        return Ok(true);
    }
    println!("fuzz: {name}: {status}; all it said: {}", log.display());
    for line in said(&text) {
        println!("  {line}");
    }
    if let Some(path) = written(&text) {
        println!("  input: {path}");
        println!("  {}", digits(Path::new(path))?);
        println!(
            "  again: STEAD_FUZZ_TARGET={name} {} {path}",
            runner.display()
        );
    }
    Ok(false)
}

/// What libFuzzer says of a run.
#[derive(Debug, Default, PartialEq)]
struct Figures {
    executions: u64,
    per_second: u64,
    /// Edges of the program that were gone along.
    edges: u64,
    /// Inputs that each reach something that the others do not.
    inputs: u64,
}

impl Figures {
    fn read(log: &str) -> Self {
        let last = |label: &str| {
            let behind = log.rsplit(label).next().filter(|_| log.contains(label))?;
            let behind = behind.trim_start();
            let end = behind.find(|c: char| !c.is_ascii_digit());
            behind.get(..end.unwrap_or(behind.len()))?.parse().ok()
        };
        Self {
            executions: last("stat::number_of_executed_units:").unwrap_or(0),
            per_second: last("stat::average_exec_per_sec:").unwrap_or(0),
            edges: last(" cov:").unwrap_or(0),
            inputs: last(" corp:").unwrap_or(0),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            executions,
            per_second,
            edges,
            inputs,
        } = self;
        write!(
            f,
            "{executions} executions, {per_second}/s, {edges} edges, {inputs} inputs"
        )
    }
}

/// The lines with which a harness fails: where, and what did not hold.
fn said(log: &str) -> Vec<&str> {
    let is_start = |line: &&str| line.contains("panicked at") || line.contains("ERROR: libFuzzer");
    let start = log.lines().skip_while(|line| !is_start(line));
    start.take(4).collect()
}

/// Where the input lies that a harness failed on.
fn written(log: &str) -> Option<&str> {
    log.lines()
        .find_map(|line| line.split_once("Test unit written to "))
        .map(|(_, path)| path.trim())
}

fn digits(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let mut digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if digits.len() > SHOWN {
        digits.truncate(SHOWN);
        digits.push_str(" ...");
    }
    Ok(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: &str = "#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 30Mb\n\
        #661048\tDONE   cov: 76 ft: 326 corp: 149/19Kb lim: 4096 exec/s: 50849 rss: 30Mb\n\
        Done 661048 runs in 13 second(s)\nstat::number_of_executed_units: 661048\nstat::average_exec_per_sec:     50849\n";

    #[test]
    fn figures_are_read_out_of_the_log() {
        let figures = Figures::read(CLEAN);
        assert_eq!(
            figures.to_string(),
            "661048 executions, 50849/s, 76 edges, 149 inputs"
        );
        assert_eq!(Figures::read(""), Figures::default());
    }

    #[test]
    fn a_failure_says_what_did_not_hold_and_on_which_input() {
        let log = "#5\tNEW cov: 3\nthread '<unnamed>' panicked at src/x.rs:1:2:\nnot so\n==1== ERROR: libFuzzer: deadly signal\n\
            artifact_prefix='/t/found/x/'; Test unit written to /t/found/x/crash-1\nBase64: AA==\n";
        assert_eq!(written(log), Some("/t/found/x/crash-1"));
        assert_eq!(said(log).get(1), Some(&"not so"));
        assert_eq!(written(CLEAN), None);
    }

    #[test]
    fn harnesses_are_chosen_by_name() {
        let all = described("a\t10\tone thing\nb\t20\tanother\n").expect("two harnesses");
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let chosen = choose(&all, &names);
            chosen.map(|chosen| chosen.iter().map(|target| target.longest).sum::<usize>())
        };
        assert_eq!(names(&[]).expect("all"), 30);
        assert_eq!(names(&["b"]).expect("one"), 20);
        let unknown = names(&["c"]).expect_err("no such harness").to_string();
        assert!(unknown.contains("a, b"), "{unknown}");
        assert!(described("a\tlong\tx").is_err());
    }
}
