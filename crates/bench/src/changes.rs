//! `changes`: committed session creations a second, and what each takes, at 1, 64 and 1024 clients; beside etcd's puts of
//! a value of the same size. Three voters, all data synced to disk on both sides, all clients at the leader.

use std::sync::Arc;

use anyhow::{Context, Result};
use testkit::{Machine, Network};

use crate::cluster::{Cluster, SERVERS, VIEWER, processor};
use crate::load::{Load, Plan, Service, run as load};
use crate::peers::etcd::{DEFAULT, Etcd, Protection};
use crate::peers::native::{Opens, Port};
use crate::peers::stead::Stead;
use crate::report::{Table, millis, rate};
use crate::{Options, on_nodes};

/// Clients at once.
const CLIENTS: [usize; 3] = [1, 64, 1024];
/// Connections that they share, on both sides.
const LINES: usize = 32;
/// Bytes of etcd's value: about what a session's record takes.
const VALUE: usize = 200;

/// What is measured against, where it is installed.
const OTHERS: [(&str, Protection); 2] = [
    ("etcd, TLS", Protection::Tls),
    ("etcd, without TLS", Protection::None),
];

/// Runs the loads and returns the section.
///
/// # Errors
/// When a side cannot be started or refuses work.
pub(crate) fn run(machine: &Machine, options: &Options) -> Result<String> {
    let stead = Stead::start(machine, &options.binary);
    let mut others = Vec::new();
    if Etcd::version().is_some() {
        for (name, protection) in OTHERS {
            others.push((name, Etcd::start(machine, DEFAULT, protection)?));
        }
    }
    let primary = stead.wait_for_leader();
    stead.make_ready_for_sessions();
    let ours = Arc::new(Opens::at(Port::of(&stead, primary)?));
    let mut table = Table::new(&[
        "clients",
        "side",
        "changes/s",
        "slowest turn",
        "median, ms",
        "p99, ms",
        "CPU, µs",
        "Stead's rate to this",
    ]);
    let mut first = 0;
    for clients in CLIENTS {
        let mut turns = vec![Vec::new(); 1 + others.len()];
        for _ in 0..options.turns {
            let plan = plan(options, clients, first);
            let (own, theirs) = turns.split_first_mut().context("a side")?;
            own.push(turn(stead.network(), &SERVERS, &ours, plan)?);
            for ((_, etcd), turns) in others.iter().zip(theirs) {
                let puts = Arc::new(etcd.puts(etcd.wait_for_leader(), VALUE));
                turns.push(turn(etcd.network(), &SERVERS, &puts, plan)?);
            }
            first += 1_000_000;
        }
        let names = std::iter::once("Stead").chain(others.iter().map(|(name, _)| *name));
        let mut own_rate = None;
        for (name, turns) in names.zip(turns) {
            let slowest = slowest(&turns);
            let load = merged(turns);
            let own_rate = *own_rate.get_or_insert(load.per_second);
            options.progress(&format!(
                "changes: {clients} clients, {name}: {} a second, {} µs of processor time each",
                rate(load.per_second),
                load.each().as_micros(),
            ));
            table.row(&row(clients, name, &load, slowest, own_rate));
        }
    }
    Ok(format!("{}\n{}", table.finish(), words(options)))
}

fn plan(options: &Options, clients: usize, first: u64) -> Plan {
    let measured = options.measured();
    Plan {
        clients,
        lines: LINES,
        warm: measured / 3,
        measured,
        first,
    }
}

/// One side's turn; `nodes` are those of its servers.
///
/// # Errors
/// When it refuses work.
pub(crate) fn turn<S: Service>(
    network: &Network,
    nodes: &[&str],
    service: &Arc<S>,
    plan: Plan,
) -> Result<Load> {
    let before = processor(network, nodes);
    let load = on_nodes(network.node(VIEWER), load(service, plan))??;
    Ok(Load {
        processor: processor(network, nodes).saturating_sub(before),
        ..load
    })
}

/// All turns of a side: the median of the rates, and all latencies.
pub(crate) fn merged(mut turns: Vec<Load>) -> Load {
    turns.sort_by(|one, other| one.per_second.total_cmp(&other.per_second));
    let per_second = turns
        .get(turns.len() / 2)
        .map_or(0.0, |turn| turn.per_second);
    let mut all = Load {
        per_second,
        ..Load::default()
    };
    for turn in turns {
        all.latency.merge(turn.latency);
        all.answers += turn.answers;
        all.processor += turn.processor;
    }
    all
}

fn slowest(turns: &[Load]) -> f64 {
    let rates = turns.iter().map(|turn| turn.per_second);
    rates.fold(f64::INFINITY, f64::min)
}

fn row(clients: usize, name: &str, load: &Load, slowest: f64, own_rate: f64) -> [String; 8] {
    [
        clients.to_string(),
        name.to_owned(),
        rate(load.per_second),
        rate(slowest),
        millis(load.latency.median()),
        millis(load.latency.quantile(0.99)),
        load.each().as_micros().to_string(),
        format!("{:.2}", own_rate / load.per_second),
    ]
}

fn words(options: &Options) -> String {
    format!(
        "{} turns of {} s for each side after a third of that for warming up; rates are medians of the turns, latencies \
         are of all. CPU: processor time of all three servers for one answer. Each client has one request in flight; up to {LINES} connections. Stead: {}; \
         etcd: `Put` of {VALUE} bytes over gRPC, at its defaults; once with TLS for clients and mutual TLS between its members, as Stead always has, and once \
         as it comes. All at the leader.\n",
        options.turns,
        options.seconds,
        Opens::WORDS,
    )
}
