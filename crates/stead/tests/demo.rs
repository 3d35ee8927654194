//! `stead demo` as a newcomer runs it: everything goes as promised, and nothing is left behind, not even when it is
//! interrupted: no process, no file, no control group.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use testkit::{Machine, Process, has_control_group, seconds};

/// A demo in a folder of its own.
struct Demo {
    folder: TempDir,
    process: Process,
}

impl Demo {
    fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_stead"));
        command
            .args(["demo", "--json"])
            .env("TMPDIR", folder.path())
            .env("HOME", folder.path());
        let process = Process::start("demo", &mut command);
        Self { folder, process }
    }

    /// What it has told so far.
    fn told(&self) -> Vec<Value> {
        let lines = self.process.output();
        let object = |line: &String| serde_json::from_str(line).expect("a JSON object a line");
        lines.iter().map(object).collect()
    }

    fn wait_for(&self, event: &str, limit: u64) -> Value {
        let mark = format!("\"event\":\"{event}\"");
        let line = self
            .process
            .line(seconds(limit), event, |line| line.contains(&mark));
        serde_json::from_str(&line).expect("a JSON object a line")
    }

    /// Ids of the sessions that it told of.
    fn sessions(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for told in self.told() {
            // The summary has none.
            let words = told.get("text").and_then(Value::as_str);
            let words = words.unwrap_or_default();
            let opened = words.split_once("session ").map(|(_, rest)| rest);
            let opened = opened.and_then(|rest| rest.split(' ').next());
            let named = told.get("session").and_then(Value::as_str);
            let ids = opened.into_iter().chain(named);
            found.extend(
                ids.filter(|id| id.len() == 20 && id.chars().all(|c| c.is_ascii_hexdigit()))
                    .map(str::to_owned),
            );
        }
        found
    }

    #[track_caller]
    fn assert_nothing_is_left(self) {
        let ids = self.sessions();
        assert!(!ids.is_empty(), "{}", self.process.story());
        let path = self.folder.path();
        let left: Vec<_> = std::fs::read_dir(path).expect("a folder").collect();
        assert!(left.is_empty(), "{left:?}\n{}", self.process.story());
        assert!(!is_named(path), "processes were left behind");
        let left = ids.iter().filter(|id| has_control_group(id));
        assert_eq!(left.count(), 0, "control groups were left behind");
    }
}

/// Whether a process names this folder.
fn is_named(folder: &Path) -> bool {
    let folder = folder.as_os_str().as_encoded_bytes();
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    processes.into_iter().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.windows(folder.len()).any(|part| part == folder)
    })
}

#[test]
fn everything_goes_as_promised_and_nothing_is_left_behind() {
    let _machine = Machine::alone();
    let mut demo = Demo::start();
    let status = demo.process.wait(seconds(150));
    assert!(status.success(), "{}", demo.process.story());
    let summary = demo.wait_for("summary", 1);
    assert_eq!(summary["ok"], true);
    let failures = summary["failures"].as_array().expect("the failures");
    let lost: Vec<&Value> = failures
        .iter()
        .map(|failure| &failure["bytes_lost"])
        .collect();
    assert_eq!(lost, ["0", "0", "with the host"]);
    assert!(failures.iter().all(|failure| failure["kept"] == true));
    // Two sessions, and the two that took their place.
    assert_eq!(demo.sessions().len(), 4, "{}", demo.process.story());
    demo.assert_nothing_is_left();
}

#[test]
fn an_interrupted_demo_cleans_up_after_itself() {
    let _machine = Machine::alone();
    let mut demo = Demo::start();
    demo.wait_for("opened", 90);
    assert!(is_named(demo.folder.path()));
    let pid = i32::try_from(demo.process.id())
        .ok()
        .and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), Signal::INT).expect("the demo runs");
    let status = demo.process.wait(seconds(20));
    assert_eq!(status.code(), Some(130), "{}", demo.process.story());
    demo.assert_nothing_is_left();
}
