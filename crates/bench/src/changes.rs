//! `changes`: committed session creations a second, and what each takes, at 1, 64 and 1024 clients; beside etcd's puts of
//! a value of the same size. Three voters, all data synced to disk on both sides, all clients at the leader.

use std::sync::Arc;

use anyhow::Result;
use testkit::{Machine, Network};

use crate::cluster::{Cluster, SERVERS, VIEWER, processor};
use crate::load::{Load, Plan, Service, run as load};
use crate::peers::etcd::{DEFAULT, Etcd, Puts};
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

/// Runs the loads and returns the section.
///
/// # Errors
/// When a side cannot be started or refuses work.
pub(crate) fn run(machine: &Machine, options: &Options) -> Result<String> {
    let stead = Stead::start(machine, &options.binary);
    let etcd = Etcd::version()
        .map(|_| Etcd::start(machine, DEFAULT))
        .transpose()?;
    let primary = stead.wait_for_leader();
    stead.make_ready_for_sessions();
    let ours = Arc::new(Opens::at(Port::of(&stead, primary)?));
    let mut columns = vec![
        "clients",
        "Stead, changes/s",
        "median, ms",
        "p99, ms",
        "CPU, µs",
    ];
    columns.extend(["etcd, puts/s", "median, ms", "p99, ms", "CPU, µs", "ratio"]);
    let mut table = Table::new(&columns);
    let mut first = 0;
    for clients in CLIENTS {
        let (mut our_turns, mut their_turns) = (Vec::new(), Vec::new());
        for _ in 0..options.turns {
            let plan = plan(options, clients, first);
            our_turns.push(turn(stead.network(), &SERVERS, &ours, plan)?);
            if let Some(etcd) = &etcd {
                let address = etcd.address(etcd.wait_for_leader());
                let puts = Arc::new(Puts {
                    address,
                    value: vec![b'x'; VALUE],
                });
                their_turns.push(turn(etcd.network(), &SERVERS, &puts, plan)?);
            }
            first += 1_000_000;
        }
        let (ours, theirs) = (merged(our_turns), merged(their_turns));
        options.progress(&format!(
            "changes: {clients} clients, {} and {} a second, {} and {} µs of processor time each",
            rate(ours.per_second),
            rate(theirs.per_second),
            ours.each().as_micros(),
            theirs.each().as_micros(),
        ));
        table.row(&row(clients, &ours, &theirs));
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

fn row(clients: usize, ours: &Load, theirs: &Load) -> Vec<String> {
    let figures = |load: &Load| {
        let latency = [load.latency.median(), load.latency.quantile(0.99)].map(millis);
        let each = load.each().as_micros().to_string();
        std::iter::once(rate(load.per_second))
            .chain(latency)
            .chain([each])
    };
    let mut cells = vec![clients.to_string()];
    cells.extend(figures(ours));
    if theirs.per_second > 0.0 {
        cells.extend(figures(theirs));
        cells.push(format!("{:.1}", ours.per_second / theirs.per_second));
    } else {
        cells.extend(["not installed", "", "", "", ""].map(str::to_owned));
    }
    cells
}

fn words(options: &Options) -> String {
    format!(
        "{} turns of {} s for each side after a third of that for warming up; rates are medians of the turns, latencies \
         are of all. CPU: processor time of all three servers for one answer. Each client has one request in flight; up to {LINES} connections. Stead: {}; \
         etcd: `Put` of {VALUE} bytes over gRPC without TLS, at its defaults. All at the leader.\n",
        options.turns,
        options.seconds,
        Opens::WORDS,
    )
}
