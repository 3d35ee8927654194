//! `failover`: the leader's host vanishes (its cable is pulled, then it is switched off); how long until the first
//! change is accepted again?
//!
//! The sides take turns. Each trial waits until all three servers take part, then pulls the cable; from then on a new
//! change is attempted at both survivors every few milliseconds, on connections that stood before, until one is
//! acknowledged. Attempts that were lost are not waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use testkit::Machine;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::cluster::{Cluster, SERVERS, VIEWER};
use crate::load::Service;
use crate::peers::etcd::{DEFAULT, Etcd, Protection, TUNED, Timing};
use crate::peers::stead::{Access, Settings, Stead};
use crate::report::{Table, millis};
use crate::samples::Samples;
use crate::switchover::Switchovers;
use crate::{Options, on_nodes};

/// Between two attempts at one survivor.
const ATTEMPT_EVERY: Duration = Duration::from_millis(5);
/// A trial that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(30);
/// What etcd stores with each put.
const VALUE: usize = 64;

/// Runs the trials and returns the section.
///
/// # Errors
/// When a side cannot be started or never recovers.
pub(crate) fn run(machine: &Machine, options: &Options) -> Result<String> {
    let mut steads = Vec::new();
    for start in [Stead::start, Stead::start_fast] {
        let stead = start(machine, &options.binary);
        let viewer = stead.network().node(VIEWER);
        let access = on_nodes(viewer, async { stead.access(0).await })??;
        steads.push((stead, access, Vec::new()));
    }
    let mut etcds = Vec::new();
    if Etcd::version().is_some() {
        for timing in [DEFAULT, TUNED] {
            etcds.push((Etcd::start(machine, timing, Protection::None)?, Vec::new()));
        }
    }
    for trial in 1..=options.trials {
        for (stead, access, measured) in &mut steads {
            measured.push(stead_trial(stead, access)?);
        }
        for (etcd, measured) in &mut etcds {
            measured.push(etcd_trial(etcd)?);
        }
        options.progress(&format!(
            "failover: trial {trial} of {}, {} ms",
            options.trials,
            millis(
                steads
                    .first()
                    .map_or(Duration::ZERO, |(_, _, ours)| last(ours))
            )
        ));
    }
    let planned = switchovers(&mut steads, &etcds, options)?;
    let mut table = Table::new(&[
        "first change accepted after, ms",
        "best",
        "median",
        "p90",
        "worst",
        "ratio of medians",
    ]);
    let named = steads.into_iter();
    let named: Vec<_> = named
        .map(|(stead, _, measured)| (stead.name(), Samples::of(measured)))
        .collect();
    let (_, ours) = named.first().context("a group was measured")?;
    let mut row = |name: &str, samples: &Samples| {
        let ratio = samples.median().as_secs_f64() / ours.median().as_secs_f64();
        let quantiles = [0.0, 0.5, 0.9, 1.0].map(|part| millis(samples.quantile(part)));
        let [best, median, p90, worst] = quantiles;
        table.row(&[
            name.to_owned(),
            best,
            median,
            p90,
            worst,
            format!("{ratio:.2}"),
        ]);
    };
    for (name, samples) in &named {
        row(name, samples);
    }
    for (etcd, measured) in etcds {
        row(&etcd.name(), &Samples::of(measured));
    }
    if Etcd::version().is_none() {
        table.row(&["etcd: not installed", "", "", "", "", ""]);
    }
    Ok(format!("{}\n{}\n{planned}", table.finish(), words(options)))
}

/// As many planned changes of primary as there are trials, the sides in turn.
fn switchovers(
    steads: &mut [(Stead, Access, Vec<Duration>)],
    etcds: &[(Etcd, Vec<Duration>)],
    options: &Options,
) -> Result<String> {
    let mut ours: Vec<_> = steads.iter().map(|_| Switchovers::default()).collect();
    let mut theirs: Vec<_> = etcds.iter().map(|_| Switchovers::default()).collect();
    for trial in 1..=options.trials {
        for ((stead, access, _), switchovers) in steads.iter().zip(&mut ours) {
            let leader = stead.wait_for_leader();
            let all = (0..SERVERS.len()).map(|index| Settings {
                access: access.at(stead.address(index)),
            });
            switchovers.measure(stead, all.collect(), || stead.promote(next(leader)))?;
        }
        for ((etcd, _), switchovers) in etcds.iter().zip(&mut theirs) {
            let leader = etcd.wait_for_leader();
            let all = (0..SERVERS.len()).map(|index| etcd.puts(index, VALUE));
            switchovers.measure(etcd, all.collect(), || etcd.move_leader(leader))?;
        }
        options.progress(&format!("switchover: trial {trial} of {}", options.trials));
    }
    let mut table = Switchovers::table();
    for ((stead, ..), switchovers) in steads.iter().zip(ours) {
        table.row(&switchovers.row(stead.name()));
    }
    for ((etcd, _), switchovers) in etcds.iter().zip(theirs) {
        table.row(&switchovers.row(etcd.name()));
    }
    Ok(format!(
        "{}\n{} planned changes of primary for each, the sides in turn. A client at each of the three servers makes one \
         change after the other, on connections that stood before, from 300 ms before to 300 ms after; the longest that any of \
         these changes took, and those that were not made. Stead: `group promote`; etcd: `etcdctl move-leader`.\n",
        table.finish(),
        options.trials,
    ))
}

fn next(leader: usize) -> usize {
    (leader + 1) % SERVERS.len()
}

fn last(measured: &[Duration]) -> Duration {
    measured.last().copied().unwrap_or_default()
}

fn words(options: &Options) -> String {
    let Timing { options: tuned, .. } = TUNED;
    format!(
        "{} trials each, the sides in turn. Three servers and a client in namespaces on one switch. The leader's cable is \
         pulled and its process killed; every {} ms a new change is attempted at each survivor, on connections that stood \
         before; measured from the pull to the first acknowledgement. Stead: `PUT /v1/settings/...` over TLS; etcd: `Put` \
         over gRPC without TLS; tuned: `{}`. Data on disk on both sides.\n",
        options.trials,
        ATTEMPT_EVERY.as_millis(),
        tuned.join(" "),
    )
}

fn stead_trial(stead: &mut Stead, access: &Access) -> Result<Duration> {
    let leader = stead.wait_for_leader();
    let service = |index| Settings {
        access: access.at(stead.address(index)),
    };
    let services = survivors(leader).map(service).collect();
    trial(stead, leader, services)
}

fn etcd_trial(etcd: &mut Etcd) -> Result<Duration> {
    let leader = etcd.wait_for_leader();
    let services = survivors(leader).map(|index| etcd.puts(index, VALUE));
    let services = services.collect();
    trial(etcd, leader, services)
}

fn survivors(leader: usize) -> impl Iterator<Item = usize> {
    (0..SERVERS.len()).filter(move |index| *index != leader)
}

/// One trial: `services` are the survivors.
fn trial<C: Cluster, S: Service>(
    cluster: &mut C,
    leader: usize,
    services: Vec<S>,
) -> Result<Duration> {
    let node = cluster
        .network()
        .node(SERVERS.get(leader).copied().unwrap_or_default())
        .clone();
    let viewer = cluster.network().node(VIEWER).clone();
    let outage = on_nodes(&viewer, async {
        let lines = open(services).await?;
        let pulled = Instant::now();
        node.unplug();
        let name = cluster.name();
        cluster.kill(leader);
        let accepted = first_accepted(lines)
            .await
            .with_context(|| format!("{name} never accepted a change again"))?;
        anyhow::Ok(accepted.duration_since(pulled))
    })??;
    node.plug();
    cluster.restart(leader)?;
    cluster.wait_for_leader();
    Ok(outage)
}

type Lines<S> = Vec<(Arc<S>, <S as Service>::Line)>;

/// Opens a connection to each survivor, and sees that a change goes through on it.
async fn open<S: Service>(services: Vec<S>) -> Result<Lines<S>> {
    let mut lines = Vec::new();
    for service in services {
        let line = service.open().await?;
        service
            .ask(&line, 0)
            .await
            .context("a change before the failure")?;
        lines.push((Arc::new(service), line));
    }
    Ok(lines)
}

/// Attempts changes until one is acknowledged; when that was.
async fn first_accepted<S: Service>(lines: Lines<S>) -> Result<Instant> {
    let (accepted, mut first) = mpsc::unbounded_channel();
    let start = Instant::now();
    let mut ticks = interval(ATTEMPT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut number = 1;
    let mut refusal = String::new();
    while start.elapsed() < LIMIT {
        tokio::select! {
            Some(outcome) = first.recv() => match outcome {
                Ok(at) => return Ok(at),
                Err(error) => refusal = error,
            },
            _ = ticks.tick() => {
                for (service, line) in &lines {
                    let (service, line, accepted) = (Arc::clone(service), line.clone(), accepted.clone());
                    tokio::spawn(async move {
                        let outcome = service.ask(&line, number).await;
                        // Nobody listens any more once one was accepted.
                        let _late = accepted.send(outcome.map(|()| Instant::now()).map_err(|error| error.to_string()));
                    });
                    number += 1;
                }
            }
        }
    }
    bail!("not within {LIMIT:?}; the last refusal: {refusal}")
}
