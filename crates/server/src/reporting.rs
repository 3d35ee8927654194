//! Tells the primary every second how this server is, and learns how all are.

use crate::clock;
use crate::node::Node;
use crate::reports::INTERVAL;
use crate::tally::{Counts, Tally};
use host::LoadMeter;
use model::Directory;
use std::time::Duration;
use wire::control::{Answer, Report, Request, RoundTrip};

/// How long the primary may take to answer a report.
const LIMIT: Duration = Duration::from_secs(1);

/// Reports as long as the server runs.
pub async fn run(node: Node) {
    let mut meter = LoadMeter::new();
    let mut tally = Tally::default();
    let mut offline_ends = crate::expiry::OfflineEnds::default();
    let mut pause_ends = crate::expiry::PauseEnds::default();
    let mut lockouts = crate::lockouts::Lockouts::default();
    let mut notices = crate::expiring::Notices::default();
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        let report = report(&node, &mut meter, &mut tally);
        let (me, now) = (node.me(), clock::steady());
        node.0.reports.take(report.clone(), now);
        node.0.placing.reported(me);
        let directory = node.directory();
        node.0
            .reports
            .keep(|server| directory.server(server).is_some());
        offline_ends.look(&node);
        pause_ends.look(&node);
        notices.look(&node);
        lockouts.look(&node);
        node.keep_timing(&directory).await;
        let Some(leader) = node.leader().filter(|leader| *leader != me) else {
            continue;
        };
        let request = Request::Report(Box::new(report));
        match node.call(leader, &request, LIMIT).await {
            Ok(Answer::Reports(reports)) => {
                let (calendar, now) = (clock::calendar(), clock::steady());
                node.0.reports.take_relayed(reports, me, calendar, now);
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the primary did not take this server's report"),
        }
    }
}

fn report(node: &Node, meter: &mut LoadMeter, tally: &mut Tally) -> Report {
    let load = meter.sample();
    let directory = node.directory();
    let Counts { sessions, clients } = tally.count(node.me(), &directory);
    Report {
        server: node.me(),
        at: clock::calendar(),
        cpu_permille: load.cpu_permille,
        memory_permille: load.memory_permille,
        sessions,
        clients,
        applied: directory.newest(),
        hears: node.hears(),
        failed_starts: node.0.hosting.failed_starts(),
        lacking_accounts: node.0.hosting.lacking_accounts(),
        backends: node.0.backends.reported(),
        failed_logins: crate::lockouts::reported(node, &directory),
        supported_suites: peer::tls::supported_suites(),
        suites: node.suites().to_vec(),
        disk_free: host::load::disk_free(node.data()),
        warnings: node.warnings(),
        certificate_expires: node.certificate_expires(),
        in_sync: node.replica().status().in_sync.into_iter().collect(),
        round_trips: round_trips(node, &directory),
        secret: node.trust().secrets.current.mark(),
        accepts: node.authorities_accepted(),
        shows: node.authority_shown(),
        pins: node.own_pins(),
        seals: node.trust().seals.marks(),
        lease_ms: node.replica().timing().map_or(0, |timing| {
            timing.lease().as_millis().try_into().unwrap_or(u64::MAX)
        }),
    }
}

/// How long messages take to the other members and back.
fn round_trips(node: &Node, directory: &Directory) -> Vec<RoundTrip> {
    let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let others = directory.servers().filter(|server| server.id != node.me());
    let measured = others.filter_map(|server| {
        let summary = node.0.peers.heard(server.id).trips().summary()?;
        Some(RoundTrip {
            to: server.id,
            median_us: micros(summary.median),
            worst_us: micros(summary.worst),
            samples: summary.samples,
        })
    });
    measured.collect()
}
