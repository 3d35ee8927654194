//! `lookups`: which session does a token have? Asked of one server, answered from its own copy: through the API and
//! through the client protocol, beside etcd's serializable reads and Redis' GET.

use std::sync::Arc;

use anyhow::Result;
use testkit::Machine;

use crate::changes::{merged, turn};
use crate::cluster::{Cluster, SERVERS, VIEWER};
use crate::load::{Load, Plan, fill};
use crate::peers::etcd::{DEFAULT, Etcd, Gets, Protection};
use crate::peers::native::{Finds, Opens, Port};
use crate::peers::redis::{self, Keys, Redis};
use crate::peers::stead::{Lookups, Stead};
use crate::report::{Table, millis, rate};
use crate::{Options, on_nodes};

/// Requests in flight.
const CLIENTS: usize = 64;
/// Connections that they share where a connection takes several requests: those of a few gateways, or of one program.
const LINES: usize = 4;
/// Tokens with a session.
const TOKENS: u64 = 10_000;
/// Bytes of a value elsewhere: about what a session's record takes.
const VALUE: usize = 200;

/// Runs the loads and returns the section.
///
/// # Errors
/// When a side cannot be started or refuses work.
pub(crate) fn run(machine: &Machine, options: &Options) -> Result<String> {
    let mut sides: Vec<(String, Vec<Load>)> = Vec::new();
    let stead = Stead::start(machine, &options.binary);
    let etcd = Etcd::version()
        .map(|_| Etcd::start(machine, DEFAULT, Protection::None))
        .transpose()?;
    let redis = Redis::version()
        .map(|_| filled_redis(machine))
        .transpose()?;

    let primary = stead.wait_for_leader();
    let viewer = stead.network().node(VIEWER);
    let access = on_nodes(viewer, async { stead.access(primary).await })??;
    stead.make_ready_for_sessions();
    let port = Port::of(&stead, primary)?;
    let opens = Arc::new(Opens::at(port.clone()));
    on_nodes(viewer, fill(&opens, TOKENS))??;
    let ours = Arc::new(Lookups {
        access,
        tokens: TOKENS,
    });
    let finds = Arc::new(on_nodes(viewer, Finds::prepare(port, LINES))??);
    let etcd = etcd.map(filled).transpose()?;
    for _ in 0..options.turns {
        let mut note = |name: &str, measured: Load| {
            options.progress(&format!(
                "lookups: {name}, {} a second, {:.1} µs of processor time each",
                rate(measured.per_second),
                measured.each().as_secs_f64() * 1e6
            ));
            match sides.iter_mut().find(|(side, _)| side == name) {
                Some((_, turns)) => turns.push(measured),
                None => sides.push((name.to_owned(), vec![measured])),
            }
        };
        let network = stead.network();
        let protocol = turn(network, &SERVERS, &finds, plan(options, LINES))?;
        note("Stead, client protocol (TLS 1.3)", protocol);
        note(
            "Stead, API (HTTP/2, TLS 1.3)",
            turn(network, &SERVERS, &ours, plan(options, LINES))?,
        );
        if let Some((etcd, gets)) = &etcd {
            note(
                "etcd, serializable (gRPC)",
                turn(etcd.network(), &SERVERS, gets, plan(options, LINES))?,
            );
        }
        if let Some((redis, keys)) = &redis {
            note(
                "Redis, GET",
                turn(
                    &redis.network,
                    &[redis::SERVER],
                    keys,
                    plan(options, CLIENTS),
                )?,
            );
        }
    }
    Ok(format!("{}\n{}", table(sides), words(options)))
}

/// A Redis with as many keys as there are tokens.
fn filled_redis(machine: &Machine) -> Result<(Redis, Arc<Keys>)> {
    let redis = Redis::start(machine)?;
    let keys = Arc::new(Keys {
        address: redis.address(),
        keys: TOKENS,
        value: vec![b'x'; VALUE],
    });
    on_nodes(redis.network.node(VIEWER), keys.fill())??;
    Ok((redis, keys))
}

/// Stores as many keys as there are tokens.
fn filled(etcd: Etcd) -> Result<(Etcd, Arc<Gets>)> {
    let leader = etcd.wait_for_leader();
    let (address, puts) = (etcd.address(leader), etcd.puts(leader, VALUE));
    on_nodes(etcd.network().node(VIEWER), fill(&Arc::new(puts), TOKENS))??;
    Ok((
        etcd,
        Arc::new(Gets {
            address,
            keys: TOKENS,
        }),
    ))
}

fn plan(options: &Options, lines: usize) -> Plan {
    let measured = options.measured();
    Plan {
        clients: CLIENTS,
        lines,
        warm: measured / 3,
        measured,
        first: 0,
    }
}

fn table(sides: Vec<(String, Vec<Load>)>) -> String {
    let mut table = Table::new(&[
        "side",
        "lookups/s",
        "median, ms",
        "p99, ms",
        "CPU, µs",
        "ratio to etcd",
    ]);
    let sides: Vec<(String, Load)> = sides
        .into_iter()
        .map(|(name, turns)| (name, merged(turns)))
        .collect();
    let etcd = sides
        .iter()
        .find(|(name, _)| name.starts_with("etcd"))
        .map(|(_, load)| load.per_second);
    for (name, load) in &sides {
        let ratio = etcd.map_or_else(
            || "–".to_owned(),
            |etcd| format!("{:.1}", load.per_second / etcd),
        );
        let latency = [load.latency.median(), load.latency.quantile(0.99)].map(millis);
        let [median, p99] = latency;
        let each = format!("{:.1}", load.each().as_secs_f64() * 1e6);
        table.row(&[
            name.clone(),
            rate(load.per_second),
            median,
            p99,
            each,
            ratio,
        ]);
    }
    for missing in ["etcd", "Redis"]
        .iter()
        .filter(|peer| sides.iter().all(|(name, _)| !name.starts_with(**peer)))
    {
        table.row(&[
            format!("{missing}: not installed"),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ]);
    }
    table.finish()
}

fn words(options: &Options) -> String {
    format!(
        "{TOKENS} tokens, {CLIENTS} requests in flight on {LINES} connections, {} turns of {} s for each side after a third of that for warming \
         up; rates are medians of the turns. One server answers; CPU: processor time of all servers of a side for one answer; values elsewhere have {VALUE} bytes. Redis: a connection \
         for each client, no persistence.\n",
        options.turns, options.seconds,
    )
}
