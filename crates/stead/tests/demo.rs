//! `stead demo` as a newcomer runs it: everything goes as promised, and nothing is left behind, not even when it is interrupted.

use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::{Machine, Process, eventually, seconds};

fn demo(arguments: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stead"));
    Process::start("demo", command.args(["demo", "--json"]).args(arguments))
}

/// The folder of the demo, once it has said where it is.
fn folder(demo: &Process) -> String {
    let line = demo.line(seconds(10), "where it is", |line| {
        line.contains("\"folder\"")
    });
    let line: Value = serde_json::from_str(&line).expect("a JSON object a line");
    let text = line
        .get("text")
        .and_then(Value::as_str)
        .expect("a text")
        .to_owned();
    text.rsplit(' ')
        .next()
        .expect("a path at the end")
        .to_owned()
}

/// Whether a process names this folder.
fn is_named(folder: &str) -> bool {
    let lines = std::fs::read_dir("/proc").expect("processes").flatten();
    lines.into_iter().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.windows(folder.len())
            .any(|part| part == folder.as_bytes())
    })
}

#[track_caller]
fn assert_nothing_is_left(folder: &str) {
    assert!(!Path::new(folder).exists(), "{folder} was left behind");
    eventually(seconds(5), "the end of its processes", || !is_named(folder));
}

#[test]
fn everything_goes_as_promised_and_nothing_is_left_behind() {
    let _machine = Machine::alone();
    let mut demo = demo(&[]);
    let folder = folder(&demo);
    let status = demo.wait(seconds(120));
    let last = demo.line(seconds(5), "its summary", |line| {
        line.contains("\"summary\"")
    });
    let summary: Value = serde_json::from_str(&last).expect("a JSON object a line");
    assert!(status.success(), "{last}\n{}", demo.story());
    assert_eq!(summary["ok"], true);
    let failures = summary["failures"].as_array().expect("the failures");
    assert_eq!(failures.len(), 3);
    assert_eq!(failures[0]["bytes_lost"], "0");
    assert_eq!(failures[1]["bytes_lost"], "0");
    assert_nothing_is_left(&folder);
}

#[test]
fn an_interrupted_demo_cleans_up_after_itself() {
    let _machine = Machine::alone();
    let mut demo = demo(&[]);
    let folder = folder(&demo);
    demo.line(seconds(30), "its first server", |line| {
        line.contains("\"founded\"")
    });
    assert!(is_named(&folder));
    let pid = i32::try_from(demo.id())
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    kill_process(pid, Signal::INT).expect("the demo runs");
    assert_eq!(demo.wait(seconds(20)).code(), Some(130), "{}", demo.story());
    assert_nothing_is_left(&folder);
}
