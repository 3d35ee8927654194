//! `cargo xtask setup`: what tests, benches and fuzzing need beside the Rust toolchain, and nothing else.
//!
//! What must always be true: when all is there it changes nothing and takes a fraction of a second; a service that a
//! package brings is neither running nor enabled afterwards because of it; without root nothing is tried, and the
//! message names what is missing. Start at [`run`].

use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::programs;

/// A package of Debian and its kin.
#[derive(Debug, Clone, Copy)]
struct Package {
    name: &'static str,
    /// What it is needed for.
    purpose: &'static str,
    /// The service that it would start.
    service: Option<&'static str>,
}

const fn package(name: &'static str, purpose: &'static str) -> Package {
    Package {
        name,
        purpose,
        service: None,
    }
}

const fn service(name: &'static str, purpose: &'static str, service: &'static str) -> Package {
    Package {
        name,
        purpose,
        service: Some(service),
    }
}

const FOR_TESTS: [Package; 16] = [
    package("iproute2", "network namespaces, links and cuts (ip)"),
    package(
        "tigervnc-standalone-server",
        "the VNC server that a session launches, and a display for viewers (Xtigervnc)",
    ),
    package(
        "tigervnc-viewer",
        "a VNC viewer as people use it (xtigervncviewer)",
    ),
    package("vncsnapshot", "a VNC viewer that needs no display"),
    package("x11-utils", "looking at what a viewer shows (xwininfo)"),
    package(
        "x11-xserver-utils",
        "giving a session's desktop a colour (xsetroot)",
    ),
    package(
        "libjpeg-turbo-progs",
        "reading the pixels of a viewer's picture (djpeg)",
    ),
    package("freerdp2-x11", "an RDP client as people use it (xfreerdp)"),
    service("xrdp", "what it reaches", "xrdp"),
    package("openssh-client", "ssh as people use it, through a tunnel"),
    service("openssh-server", "what it reaches", "ssh"),
    package("libfaketime", "a server whose clock is ahead"),
    package(
        "openssl",
        "TLS as others speak it, and an operator's certificates",
    ),
    package(
        "nmap",
        "what a scanner finds on the ports (ssl-enum-ciphers)",
    ),
    service("slapd", "an LDAP server that users log in by", "slapd"),
    package("libpam0g", "PAM, which users log in by"),
];

const FOR_BENCHES: [Package; 4] = [
    service("etcd-server", "measured against", "etcd"),
    package("etcd-client", "etcd's own command line"),
    service("redis-server", "measured against", "redis-server"),
    service("haproxy", "measured against", "haproxy"),
];

const FOR_FUZZING: [Package; 1] = [package("g++", "libFuzzer, which is built from its source")];

/// cargo-deny, in the version whose rules `deny.toml` is written for.
pub(crate) const CARGO_DENY: &str = "0.20.2";

/// What to make ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// Tests.
    Tests,
    /// Tests and benches.
    Benches,
    /// Fuzzing alone.
    Fuzzing,
}

/// Installs the packages that are missing.
///
/// # Errors
/// When one is missing and cannot be installed: not root, no apt, no network.
#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(crate) fn run(purpose: For) -> Result<()> {
    let wanted = match purpose {
        For::Tests => FOR_TESTS.to_vec(),
        For::Benches => [&FOR_TESTS[..], &FOR_BENCHES].concat(),
        For::Fuzzing => FOR_FUZZING.to_vec(),
    };
    let missing = missing(&wanted)?;
    if missing.is_empty() {
        println!("setup: all {} system packages are there", wanted.len());
        return Ok(());
    }
    for Package { name, purpose, .. } in &missing {
        println!("setup: {name} is missing: {purpose}");
    }
    install(&missing)
}

/// Those of `wanted` that dpkg does not know as installed.
fn missing(wanted: &[Package]) -> Result<Vec<Package>> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"]);
    query.args(wanted.iter().map(|package| package.name));
    let Some(printed) = programs::printed(&mut query)? else {
        bail!(
            "no dpkg here. On a system that is not Debian's, install what corresponds to: {}",
            names(wanted)
        );
    };
    let installed = |package: &Package| {
        printed
            .lines()
            .any(|line| line == format!("{} installed", package.name))
    };
    Ok(wanted
        .iter()
        .copied()
        .filter(|package| !installed(package))
        .collect())
}

fn names(packages: &[Package]) -> String {
    packages
        .iter()
        .map(|package| package.name)
        .collect::<Vec<_>>()
        .join(" ")
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn install(missing: &[Package]) -> Result<()> {
    let names = names(missing);
    let status =
        std::fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let is_root = status
        .lines()
        .any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"));
    if !is_root {
        bail!(
            "only root can install packages. As root: apt-get install --no-install-recommends {names}"
        );
    }
    let no_starts = NoStarts::begin(Path::new("/usr/sbin/policy-rc.d"))?;
    // One source of many that does not answer need not matter; whether it does shows below.
    if let Err(error) = apt_get(&["update"]) {
        println!("setup: {error:#}");
    }
    let install = ["install", "--yes", "--no-install-recommends"];
    let packages: Vec<&str> = install
        .into_iter()
        .chain(missing.iter().map(|package| package.name))
        .collect();
    apt_get(&packages)?;
    drop(no_starts);
    // Nor shall it start with the machine. Without a running systemd this only removes links.
    for unit in missing.iter().filter_map(|package| package.service) {
        let disable: &[&str] = match Path::new("/run/systemd/system").exists() {
            true => &["disable", "--now", "--quiet", unit],
            false => &["disable", "--quiet", unit],
        };
        programs::printed(Command::new("systemctl").args(disable))?;
    }
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .args([
            "-q",
            "-o",
            "Acquire::Retries=3",
            "-o",
            "DPkg::Lock::Timeout=300",
        ])
        .args(arguments);
    programs::run(command.env("DEBIAN_FRONTEND", "noninteractive"))
}

/// While this lives, installing a package starts no service. A rule that the machine has already is left alone.
struct NoStarts {
    ours: Option<PathBuf>,
}

impl NoStarts {
    fn begin(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        match options.write(true).create_new(true).mode(0o755).open(path) {
            Ok(mut file) => {
                let rule = Self {
                    ours: Some(path.to_owned()),
                };
                file.write_all(b"#!/bin/sh\nexit 101\n")
                    .with_context(|| format!("writing {}", path.display()))?;
                file.set_permissions(Permissions::from_mode(0o755))?;
                Ok(rule)
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Ok(Self { ours: None })
            }
            Err(error) => Err(error).with_context(|| format!("writing {}", path.display())),
        }
    }
}

impl Drop for NoStarts {
    fn drop(&mut self) {
        if let Some(path) = &self.ours {
            let _gone = std::fs::remove_file(path);
        }
    }
}

/// Installs cargo-deny into the tools folder unless that version is there.
///
/// # Errors
/// When cargo cannot build it.
#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(crate) fn tools(root: &Path) -> Result<()> {
    let folder = programs::cache("STEAD_TOOLS", "tools")?;
    let program = folder.join("bin/cargo-deny");
    let version = programs::printed(Command::new(&program).arg("--version"))?.unwrap_or_default();
    if version.trim() == format!("cargo-deny {CARGO_DENY}") {
        println!("setup: cargo-deny {CARGO_DENY} is there");
        return Ok(());
    }
    println!(
        "setup: cargo-deny {CARGO_DENY} is missing; building it into {}",
        folder.display()
    );
    let mut install = programs::cargo(root);
    // It runs for seconds: built quickly is worth more than built well.
    install
        .args([
            "install", "--quiet", "--locked", "--force", "--debug", "--root",
        ])
        .arg(&folder);
    programs::run(install.arg(format!("cargo-deny@{CARGO_DENY}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_of_the_machine_is_left_alone_and_ours_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy-rc.d");
        let ours = NoStarts::begin(&path).expect("a rule");
        assert_eq!(
            std::fs::metadata(&path)
                .expect("a file")
                .permissions()
                .mode()
                & 0o777,
            0o755
        );
        drop(ours);
        assert!(!path.exists());
        std::fs::write(&path, "theirs").expect("a file");
        drop(NoStarts::begin(&path).expect("no rule"));
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "theirs");
    }

    #[test]
    fn a_package_that_nobody_has_is_missing() {
        let unknown = [package("no-such-package-anywhere", "this test")];
        let found = missing(&unknown).map(|missing| missing.len());
        assert!(found.is_err() || found.is_ok_and(|count| count == 1));
    }
}
