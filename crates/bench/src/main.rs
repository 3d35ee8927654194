//! `cargo xtask bench`: what a user feels, measured beside what they would otherwise use.
//!
//! What must always be true: both sides of a comparison run in the same run on the same machine, in turn, under the same
//! load generator; a side that is not installed is reported as missing; a side that refuses work ends the run instead of
//! counting. Start at the module of a bench: [`failover`], [`changes`], [`lookups`], [`gateway`],
//! [`tunnel`], [`reconnect`].

mod backend;
mod bulk;
mod changes;
mod cluster;
mod crowd;
mod failover;
mod gateway;
mod http2;
mod load;
mod lookups;
mod peers;
mod reconnect;
mod report;
mod samples;
mod switchover;
mod tunnel;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use testkit::{Machine, Node, SshKeys};

use peers::etcd::Etcd;
use peers::haproxy::Haproxy;
use peers::redis::Redis;
use peers::stead::Stead;

/// Measures Stead beside what it is compared with, and writes docs/BENCHMARKS.md.
#[derive(Debug, Parser)]
struct Options {
    /// Which benches; all when none is named.
    names: Vec<Name>,
    /// The binary that is measured, built for release.
    #[arg(long)]
    binary: PathBuf,
    /// The root of the workspace, whose page is written.
    #[arg(long)]
    root: PathBuf,
    /// Failures of each side.
    #[arg(long, default_value_t = 20)]
    trials: usize,
    /// Seconds that each load is measured for; a third of it is spent warming up.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Turns of each side.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Clients of `reconnect`, instead of several crowds.
    #[arg(long)]
    clients: Option<usize>,
    /// Print the sections and leave the page as it is.
    #[arg(long)]
    dry_run: bool,
}

/// A bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    Failover,
    Changes,
    Lookups,
    Gateway,
    Tunnel,
    Reconnect,
}

impl Options {
    #[expect(
        clippy::print_stderr,
        reason = "a run takes minutes and says where it is"
    )]
    fn progress(&self, words: &str) {
        eprintln!("{words}");
    }

    fn measured(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some(crowd::WORD) {
        return crowd::run();
    }
    let options = Options::parse();
    let machine = Machine::alone();
    for name in Name::value_variants()
        .iter()
        .filter(|name| options.names.is_empty() || options.names.contains(name))
    {
        let (key, title, section) = match name {
            Name::Failover => (
                "failover",
                "failover: a leader's host vanishes",
                failover::run(&machine, &options)?,
            ),
            Name::Changes => (
                "changes",
                "changes: committed on a majority's disks",
                changes::run(&machine, &options)?,
            ),
            Name::Lookups => (
                "lookups",
                "lookups: from a server's own copy",
                lookups::run(&machine, &options)?,
            ),
            Name::Gateway => (
                "gateway",
                "gateway: ordinary clients, relayed",
                gateway::run(&machine, &options)?,
            ),
            Name::Tunnel => (
                "tunnel",
                "tunnel: a viewer's bytes",
                tunnel::run(&machine, &options)?,
            ),
            Name::Reconnect => (
                "reconnect",
                "reconnect: a storm of clients",
                reconnect::run(&machine, &options)?,
            ),
        };
        let section = format!("{section}\n{}\n{}\n", versions(&options), report::set_up()?);
        println!("{title}\n\n{section}");
        if !options.dry_run {
            report::write(&options.root, key, title, &section)?;
        }
    }
    Ok(())
}

fn versions(options: &Options) -> String {
    let named = |name: &str, version: Option<String>| match version {
        Some(version) => format!("{name} {version}"),
        None => format!("{name} missing"),
    };
    let versions = [
        named("Stead", Stead::version(&options.binary)),
        named("etcd", Etcd::version()),
        named("Redis", Redis::version()),
        named("HAProxy", Haproxy::version()),
        named("OpenSSH", SshKeys::version()),
    ];
    versions.join(", ") + "."
}

/// Runs a future on a runtime inside a namespace: its sockets belong to that node. It has one thread, so that clients take no
/// more than one processor from the servers that are measured.
///
/// # Errors
/// When the runtime cannot be made.
fn on_nodes<T: Send>(node: &Node, work: impl Future<Output = T> + Send) -> Result<T> {
    node.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("a runtime")?;
        let done = runtime.block_on(work);
        // Requests that nobody waits for any more.
        runtime.shutdown_background();
        Ok(done)
    })
}
