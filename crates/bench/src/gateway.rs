//! `gateway`: ordinary clients through a gateway to a backend on the same server, beside HAProxy in TCP mode: bytes, connections,
//! and what either adds to an answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::{Group, Machine, Network, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Options;
use crate::backend;
use crate::bulk::{QUESTION, Questions, bulk, median};
use crate::changes::{merged, turn};
use crate::cluster::{VIEWER, processor};
use crate::load::{Load, Plan, Service};
use crate::peers::haproxy::Haproxy;
use crate::report::{Table, millis, rate};

const SERVER: &str = "server";
const BACKEND: &str = "127.0.0.1:7200";
/// Where the backend is reached without anybody in between.
const DIRECT: u16 = 7200;
const PORT: u16 = 7300;
/// Connections that carry bytes at once.
const STREAMS: usize = 4;
/// Connections that are opened at once.
const OPENERS: usize = 32;
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// A server with a backend, and who relays to it.
struct Side {
    name: &'static str,
    port: u16,
    network: Network,
    _relay: Box<dyn std::any::Any>,
    measured: Measured,
}

#[derive(Default)]
struct Measured {
    bytes_per_second: Vec<f64>,
    /// Seconds of processor time for each 10⁹ bytes.
    per_gigabyte: Vec<f64>,
    connections: Vec<Load>,
    answers: Vec<Load>,
}

/// Runs the loads and returns the section.
///
/// # Errors
/// When a side cannot be started or refuses work.
pub(crate) fn run(machine: &Machine, options: &Options) -> Result<String> {
    let mut sides = vec![direct(machine)?, stead(machine, options)?];
    if Haproxy::version().is_some() {
        sides.push(haproxy(machine)?);
    }
    for _ in 0..options.turns {
        for side in &mut sides {
            side.take_turn(options)?;
        }
    }
    Ok(format!("{}\n{}", table(&sides), words(options)))
}

fn direct(machine: &Machine) -> Result<Side> {
    side(machine, "no relay", DIRECT, |_| Ok(Box::new(())))
}

fn stead(machine: &Machine, options: &Options) -> Result<Side> {
    side(machine, "Stead", PORT, |network| {
        let group = Group::of(&options.binary)
            .in_network(network, &[SERVER])
            .start();
        group.add_app(0, "relayed", &["--backend", &format!("tcp:{BACKEND}")]);
        let listen = format!("0.0.0.0:{PORT}");
        let words = [
            "gateway",
            "add",
            "relay",
            "--listen",
            &listen,
            "--app",
            "relayed",
            "--token-from",
            "source-address",
        ];
        group.json(0, &words);
        Ok(Box::new(group))
    })
}

fn haproxy(machine: &Machine) -> Result<Side> {
    side(machine, "HAProxy", PORT, |network| {
        let relay = Haproxy::start(network.node(SERVER), PORT, BACKEND)?;
        Ok(Box::new(relay))
    })
}

fn side(
    machine: &Machine,
    name: &'static str,
    port: u16,
    start: impl FnOnce(&Network) -> Result<Box<dyn std::any::Any>>,
) -> Result<Side> {
    let network = Network::new(machine, &[SERVER, VIEWER]);
    backend::serve(network.node(SERVER), DIRECT)?;
    let relay = start(&network)?;
    let side = Side {
        name,
        port,
        network,
        _relay: relay,
        measured: Measured::default(),
    };
    let (viewer, address) = (side.network.node(VIEWER), side.address());
    eventually(STARTS_WITHIN, "the relay to listen", || {
        viewer.connect(address, Duration::from_millis(200)).is_ok()
    });
    Ok(side)
}

impl Side {
    fn address(&self) -> SocketAddr {
        (self.network.node(SERVER).address(), self.port).into()
    }

    fn take_turn(&mut self, options: &Options) -> Result<()> {
        let measured = options.measured();
        let relay = || processor(&self.network, &[SERVER]);
        let viewer = self.network.node(VIEWER);
        let (per_second, per_gigabyte) = bulk(viewer, self.address(), STREAMS, measured, relay)?;
        self.measured.bytes_per_second.push(per_second);
        self.measured.per_gigabyte.push(per_gigabyte);
        let plan = |clients| Plan {
            clients,
            lines: clients,
            warm: measured / 3,
            measured,
            first: 0,
        };
        let address = self.address();
        let opens = Arc::new(Connections { address });
        let opens = turn(&self.network, &[SERVER], &opens, plan(OPENERS))?;
        let answers = Arc::new(Questions { address });
        let answers = turn(&self.network, &[SERVER], &answers, plan(1))?;
        options.progress(&format!(
            "gateway: {}, {:.2} GB/s, {:.3} s of processor time for each GB, {} connections a second, an answer after {} ms",
            self.name,
            per_second / 1e9,
            per_gigabyte,
            rate(opens.per_second),
            millis(answers.latency.median()),
        ));
        self.measured.connections.push(opens);
        self.measured.answers.push(answers);
        Ok(())
    }
}

/// A connection, one byte each way, and its end.
struct Connections {
    address: SocketAddr,
}

impl Service for Connections {
    type Line = ();

    async fn open(&self) -> Result<()> {
        Ok(())
    }

    async fn ask(&self, _line: &(), _number: u64) -> Result<()> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(b"C").await?;
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await?;
        ensure!(got == b"x", "the relay lost an answer");
        Ok(())
    }
}

fn table(sides: &[Side]) -> String {
    let mut table = Table::new(&[
        "side",
        "GB/s",
        "slowest",
        "CPU s/GB",
        "connections/s",
        "slowest",
        "CPU, µs",
        "answer: median, ms",
        "p99, ms",
    ]);
    for side in sides {
        let Measured {
            bytes_per_second,
            per_gigabyte,
            connections,
            answers,
        } = &side.measured;
        let slowest = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::INFINITY, f64::min);
        let slow_bytes = slowest(&mut bytes_per_second.iter().copied());
        let slow_opens = slowest(&mut connections.iter().map(|load| load.per_second));
        let (opens, answers) = (merged(connections.clone()), merged(answers.clone()));
        let is_relay = side.port == PORT;
        let of_relay = |text: String| if is_relay { text } else { String::new() };
        table.row(&[
            side.name.to_owned(),
            format!("{:.2}", median(bytes_per_second) / 1e9),
            format!("{:.2}", slow_bytes / 1e9),
            of_relay(format!("{:.3}", median(per_gigabyte))),
            rate(opens.per_second),
            rate(slow_opens),
            of_relay(format!("{:.0}", opens.each().as_secs_f64() * 1e6)),
            format!("{:.3}", answers.latency.median().as_secs_f64() * 1e3),
            format!("{:.3}", answers.latency.quantile(0.99).as_secs_f64() * 1e3),
        ]);
    }
    if sides.iter().all(|side| side.name != "HAProxy") {
        let missing = ["HAProxy: not installed", "", "", "", "", "", "", "", ""];
        table.row(&missing);
    }
    table.finish()
}

fn words(options: &Options) -> String {
    format!(
        "A server and a client in namespaces; the backend is on the server. {} turns of {} s for each load and side after a third of that for warming up, the sides in \
         turn; medians of the turns. Bytes: {STREAMS} connections read what the backend sends. Connections: {OPENERS} at once, each one byte each way. Answers: {QUESTION} bytes there \
         and back on one connection. CPU: processor time of the relay's processes alone. Stead: tokens by `source-address`; HAProxy: `mode tcp`, `balance source`, `option splice-request` and \
         `splice-response`.\n",
        options.turns, options.seconds,
    )
}
