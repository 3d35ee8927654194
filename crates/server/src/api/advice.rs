//! `/v1/advice`: what settings lead to here, and which values would suit the servers and the network between them.

use super::bodies::{AdvisedSettings, MeasuredTrip, ResilienceAdvice};
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use model::Directory;
use policy::advice::{Alternative, Outage, Trip, Values, resilience};
use std::time::Duration;

/// Says what the settings of resilience lead to, from what was measured between the servers, and suggests values.
#[utoipa::path(get, path = "/v1/advice/resilience", tag = "settings", responses((status = 200, body = ResilienceAdvice)))]
pub(super) async fn of_resilience(State(node): State<Node>) -> Json<ResilienceAdvice> {
    let directory = node.directory();
    let trips = measured(&node, &directory);
    let advice = resilience(&directory, node.now(), &trips);
    let round_trips = trips.iter().map(|trip| MeasuredTrip {
        name: format!("{} to {}", trip.from, trip.to),
        from: trip.from.clone(),
        to: trip.to.clone(),
        median_ms: fraction(trip.median),
        worst_ms: fraction(trip.worst),
        samples: trip.samples,
    });
    Json(ResilienceAdvice {
        in_force: shown("in force", "", advice.values, advice.outage),
        alternatives: advice.alternatives.iter().map(alternative).collect(),
        round_trips: round_trips.collect(),
        warnings: advice.warnings,
    })
}

/// What all voters have measured, as they reported it last.
fn measured(node: &Node, directory: &Directory) -> Vec<Trip> {
    let reports = node.reports();
    let voters = directory.voters().map(|server| server.id);
    let mut trips = Vec::new();
    for from in voters {
        let report = reports.get(&from);
        for trip in report.iter().flat_map(|report| &report.round_trips) {
            if directory.server(trip.to).is_some_and(|to| to.voting) {
                trips.push(Trip {
                    from: directory.name_of(from),
                    to: directory.name_of(trip.to),
                    median: Duration::from_micros(trip.median_us),
                    worst: Duration::from_micros(trip.worst_us),
                    samples: trip.samples,
                });
            }
        }
    }
    trips.sort_by(|one, other| (&one.from, &one.to).cmp(&(&other.from, &other.to)));
    trips
}

fn alternative(of: &Alternative) -> AdvisedSettings {
    shown(of.name, of.why, of.values, Some(of.outage))
}

fn shown(name: &str, why: &str, values: Values, outage: Option<Outage>) -> AdvisedSettings {
    AdvisedSettings {
        name: name.to_owned(),
        why: why.to_owned(),
        monitor_interval_ms: whole(values.monitor_interval),
        monitor_attempts: values.monitor_attempts,
        grace_period_ms: whole(values.grace()),
        rank_delay_ms: whole(values.rank_delay),
        expected_outage_ms: outage.map(|outage| whole(outage.expected)),
        worst_outage_ms: outage.map(|outage| whole(outage.worst)),
    }
}

fn whole(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds with three places.
fn fraction(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}
