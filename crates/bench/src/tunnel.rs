//! `tunnel`: a viewer's bytes through `stead connect`, beside `ssh -L`: bytes, and what either adds to an answer.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use testkit::{Group, Machine, Network, SshKeys, eventually, listening};

use crate::Options;
use crate::backend;
use crate::bulk::{QUESTION, Questions, bulk, median};
use crate::changes::{merged, turn};
use crate::cluster::{VIEWER, processor};
use crate::load::{Load, Plan};
use crate::peers::ssh::Ssh;
use crate::peers::stead::{APP, USER};
use crate::report::Table;

const SERVER: &str = "server";
const BACKEND: u16 = 7200;
/// The local port of `ssh -L`.
const PORT: u16 = 7301;
/// Connections that carry bytes at once.
const STREAMS: [usize; 2] = [1, 4];
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// A server with a backend, and a way to it from a port of the viewer.
struct Side {
    name: &'static str,
    address: SocketAddr,
    /// Its processes go before the network does.
    _way: Box<dyn std::any::Any>,
    network: Network,
    /// For each of [`STREAMS`]: bytes a second, and seconds of processor time for each 10⁹ bytes.
    bytes: [Vec<(f64, f64)>; STREAMS.len()],
    answers: Vec<Load>,
}

/// Runs the loads and returns the section.
///
/// # Errors
/// When a side cannot be started or refuses work.
pub(crate) fn run(machine: &Machine, options: &Options) -> Result<String> {
    let mut sides = vec![stead(machine, options)?];
    if SshKeys::version().is_some() {
        sides.push(ssh(machine)?);
    }
    for _ in 0..options.turns {
        for side in &mut sides {
            side.take_turn(options)?;
        }
    }
    Ok(format!("{}\n{}", table(&sides), words(options)))
}

fn stead(machine: &Machine, options: &Options) -> Result<Side> {
    side(machine, "stead connect", |network| {
        let group = Group::of(&options.binary)
            .in_network(network, &[SERVER])
            .start();
        group.add_user(0, USER);
        let backend = format!("tcp:127.0.0.1:{BACKEND}");
        group.add_app(0, APP, &["--backend", &backend]);
        let connect = group.connect(Some(network.node(VIEWER)), USER, "card.1", APP);
        let address = listening(&connect, STARTS_WITHIN);
        Ok((address, Box::new((connect, group))))
    })
}

fn ssh(machine: &Machine) -> Result<Side> {
    side(machine, "ssh -L", |network| {
        let to = format!("127.0.0.1:{BACKEND}");
        let ssh = Ssh::start(network.node(SERVER), network.node(VIEWER), PORT, &to);
        Ok(((Ipv4Addr::LOCALHOST, PORT).into(), Box::new(ssh)))
    })
}

fn side(
    machine: &Machine,
    name: &'static str,
    start: impl FnOnce(&Network) -> Result<(SocketAddr, Box<dyn std::any::Any>)>,
) -> Result<Side> {
    let network = Network::new(machine, &[SERVER, VIEWER]);
    backend::serve(network.node(SERVER), BACKEND)?;
    let (address, way) = start(&network)?;
    let viewer = network.node(VIEWER);
    eventually(STARTS_WITHIN, "the local port to accept", || {
        viewer.connect(address, Duration::from_millis(200)).is_ok()
    });
    Ok(Side {
        name,
        address,
        _way: way,
        network,
        bytes: Default::default(),
        answers: Vec::new(),
    })
}

impl Side {
    fn take_turn(&mut self, options: &Options) -> Result<()> {
        let measured = options.measured();
        for (streams, bytes) in STREAMS.into_iter().zip(&mut self.bytes) {
            let used = || processor(&self.network, &[SERVER, VIEWER]);
            let viewer = self.network.node(VIEWER);
            let (per_second, per_gigabyte) = bulk(viewer, self.address, streams, measured, used)?;
            options.progress(&format!(
                "tunnel: {}, {streams} connections, {:.0} MB/s, {per_gigabyte:.2} s of processor time for each GB",
                self.name,
                per_second / 1e6,
            ));
            bytes.push((per_second, per_gigabyte));
        }
        let plan = Plan {
            clients: 1,
            lines: 1,
            warm: measured / 3,
            measured,
            first: 0,
        };
        let address = self.address;
        let answers = Arc::new(Questions { address });
        let nodes = [SERVER, VIEWER];
        self.answers
            .push(turn(&self.network, &nodes, &answers, plan)?);
        Ok(())
    }
}

fn table(sides: &[Side]) -> String {
    let mut table = Table::new(&[
        "side",
        "1 connection, MB/s",
        "slowest",
        "CPU s/GB",
        "4 connections, MB/s",
        "slowest",
        "CPU s/GB",
        "answer: median, ms",
        "p99, ms",
    ]);
    for side in sides {
        let answers = merged(side.answers.clone());
        let mut row = vec![side.name.to_owned()];
        for turns in &side.bytes {
            let (rates, costs): (Vec<f64>, Vec<f64>) = turns.iter().copied().unzip();
            let slowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
            row.push(format!("{:.0}", median(&rates) / 1e6));
            row.push(format!("{:.0}", slowest / 1e6));
            row.push(format!("{:.2}", median(&costs)));
        }
        for part in [0.5, 0.99] {
            let took = answers.latency.quantile(part);
            row.push(format!("{:.3}", took.as_secs_f64() * 1e3));
        }
        table.row(&row);
    }
    if SshKeys::version().is_none() {
        table.row(&[
            "ssh -L: no server installed",
            "",
            "",
            "",
            "",
            "",
            "",
            "",
            "",
        ]);
    }
    table.finish()
}

fn words(options: &Options) -> String {
    format!(
        "A server and a client in namespaces; the backend is on the server, the viewer beside the client. {} turns of {} s for each load \
         and side after a third of that for warming up, the sides in turn; medians of the turns. Bytes: what the backend sends, as fast as \
         it is read. Answers: {QUESTION} bytes there and back on one connection. CPU: processor time of everything between viewer and \
         backend, both ends. Both with what they agree on by themselves.\n",
        options.turns, options.seconds,
    )
}
