//! Without a server: help, usage errors, and what is said when nothing is there.

use crate::running::{run, stead};
use tempfile::TempDir;

/// The commands that a help text lists, in its order.
fn listed(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn help_of_every_command() {
    let mut whole = String::new();
    let mut ahead = vec![Vec::new()];
    while let Some(command) = ahead.pop() {
        let (code, out, err) = run(stead().args(&command).arg("--help"));
        assert_eq!(code, 0, "stead {command:?} --help: {err}");
        whole.push_str(&format!(
            "$ stead {}\n{out}\n",
            [command.join(" "), "--help".to_owned()].join(" ").trim()
        ));
        for name in listed(&out).into_iter().rev() {
            ahead.push(command.iter().cloned().chain([name]).collect());
        }
    }
    assert!(whole.contains("$ stead trust rotate-ca --help"), "{whole}");
    insta::assert_snapshot!("help", whole);
}

#[test]
fn usage_errors_exit_with_2() {
    for arguments in [
        &["nonsense"][..],
        &["group"],
        &["user", "add"],
        &["user", "add", "not a name"],
        &["session", "end"],
        &["session", "show", "xyz"],
        &["app", "add", "a", "--backend", "udp:x:1"],
        &["app", "add", "a", "--max-per-user", "many"],
        &["server", "offline", "s1", "--for", "soon"],
        &["group", "invite", "--voter", "--witness"],
        &["group", "divergence", "apply", "2"],
        &[
            "group",
            "divergence",
            "discard",
            "2",
            "--all",
            "--record",
            "pause",
        ],
        &["explain", "--placement", "--why-not", "s1"],
        &["explain", "--app", "a"],
        &["join", "no-code", "--name", "s2"],
        &["status", "--ca", "sha256:zz"],
        &[
            "status",
            "--server",
            "a b:1",
            "--ca",
            &format!("sha256:{}", "0".repeat(64)),
        ],
        &["status", "--data", "/tmp/x", "--server", "boston"],
        &["status", "--server", "boston"],
        &["token", "add", "card.1"],
        &["token", "set", "card.1", "--enable", "--disable"],
        &["event", "list", "--last", "0"],
        &["event", "list", "--severity", "bad"],
    ] {
        let (code, out, err) = run(stead().args(arguments));
        assert_eq!(code, 2, "stead {arguments:?}: {err}");
        assert_eq!(out, "", "stead {arguments:?}");
        assert!(!err.is_empty(), "stead {arguments:?} said nothing");
    }
}

#[test]
fn a_slip_gets_the_nearest_valid_word() {
    let (_, _, err) = run(stead().args(["statsu"]));
    assert!(err.contains("status"), "{err}");
    let (_, _, err) = run(stead().args(["app", "add", "a", "--resumable", "alway"]));
    assert!(err.contains("always"), "{err}");
    let (_, _, err) = run(stead().args(["session", "list", "--sate", "active"]));
    assert!(err.contains("--state"), "{err}");
}

#[test]
fn nothing_there_exits_with_3_and_says_what_to_do() {
    let folder = TempDir::new().unwrap();
    let ca = format!("sha256:{}", "0".repeat(64));
    let data = folder.path().display().to_string();
    for arguments in [
        &["status", "--data", &data][..],
        &["--server", "127.0.0.1:1", "--ca", &ca, "status", "--json"],
    ] {
        let (code, out, err) = run(stead().env("HOME", folder.path()).args(arguments));
        assert_eq!(code, 3, "{err}");
        assert_eq!(out, "");
        for part in ["error: ", "why: ", "do: "] {
            assert!(err.contains(part), "{err}");
        }
    }
}

#[test]
fn init_says_what_is_missing() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let (code, _, err) = run(stead()
        .args(["init", "--group", "acme", "--name", "s1", "--data"])
        .arg(&data));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("--peer"), "{err}");
    let missing = folder.path().join("missing");
    let (code, _, err) = run(stead()
        .args([
            "init",
            "--group",
            "acme",
            "--name",
            "s1",
            "--peer",
            "127.0.0.1:0",
            "--client",
            "127.0.0.1:0",
            "--data",
        ])
        .arg(&data)
        .arg("--admin-password-file")
        .arg(&missing));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("missing"), "{err}");
    assert!(!data.exists(), "nothing is made before everything is known");
}

#[test]
fn completions_are_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = run(stead().args(["completions", shell]));
        assert_eq!(code, 0);
        assert!(out.contains("stead") && out.len() > 1000);
    }
}
