//! `/metrics`: figures for Prometheus, in its text format (version 0.0.4).
//!
//! Always true: names start with `stead_`, end with their unit, and stay; labels are escaped.

use super::bodies::ServerStatus;
use super::show::Moment;
use crate::backends::BackendState;
use crate::node::Node;
use axum::extract::State;
use axum::http::{HeaderName, header};
use model::{SessionState, UnixMillis};
use std::fmt::Write;

/// The media type of the text format.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const STATES: [SessionState; 4] = [
    SessionState::Starting,
    SessionState::Active,
    SessionState::Suspended,
    SessionState::Orphaned,
];

/// Metrics in the making.
#[derive(Default)]
struct Text(String);

impl Text {
    /// A metric with all its values: labels, figure.
    fn metric(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        values: impl IntoIterator<Item = (Vec<(&'static str, String)>, f64)>,
    ) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let labels: Vec<String> = labels
                .iter()
                .map(|(label, text)| format!("{label}=\"{}\"", escape(text)))
                .collect();
            let labels = if labels.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", labels.join(","))
            };
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.metric(name, "gauge", help, [(Vec::new(), value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.metric(name, "counter", help, [(Vec::new(), figure(value))]);
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn flag(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "figures beyond 2^53 lose their last digits in every Prometheus"
)]
fn figure(number: u64) -> f64 {
    number as f64
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(node): State<Node>) -> ([(HeaderName, &'static str); 1], String) {
    let moment = Moment::new(&node);
    let mut text = Text::default();
    of_server(&mut text, &node);
    of_backends(&mut text, &node);
    of_group(&mut text, &node, &moment);
    of_members(&mut text, &moment);
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], text.0)
}

fn of_server(text: &mut Text, node: &Node) {
    let labels = vec![
        ("version", crate::found::VERSION.to_owned()),
        ("server", node.name().to_string()),
    ];
    text.metric(
        "stead_build_info",
        "gauge",
        "The server that answers and its version.",
        [(labels, 1.0)],
    );
    text.counter(
        "stead_password_checks_total",
        "Passwords that this server has checked since it started.",
        node.logins().hashed(),
    );
    text.gauge(
        "stead_start_time_seconds",
        "When the server started, in seconds since 1970.",
        figure(node.started().0) / 1000.0,
    );
    text.gauge(
        "stead_acting_primary",
        "1 while this server acts as primary.",
        flag(node.acting()),
    );
    text.gauge(
        "stead_leader_known",
        "1 while this server knows a leader.",
        flag(node.leader().is_some()),
    );
    let age = node.age_ms();
    if age != u64::MAX {
        text.gauge(
            "stead_data_age_seconds",
            "How old what this server has may be.",
            figure(age) / 1000.0,
        );
    }
}

fn of_backends(text: &mut Text, node: &Node) {
    let directory = node.directory();
    let states: Vec<(String, BackendState)> = directory
        .apps()
        .flat_map(|app| {
            let name = app.name.to_string();
            let states = node.0.backends.states(app).into_iter();
            states.map(move |state| (name.clone(), state))
        })
        .collect();
    let labels = |name: &String, state: &BackendState| {
        let backend = state.backend.backend.to_string();
        vec![("app", name.clone()), ("backend", backend)]
    };
    let up = states.iter().filter_map(|(name, state)| {
        let (up, _) = state.up?;
        Some((labels(name, state), flag(up)))
    });
    text.metric(
        "stead_backend_up",
        "gauge",
        "1 while a backend, one of several of an application, accepts connections of this server.",
        up,
    );
    let sessions = states
        .iter()
        .map(|(name, state)| (labels(name, state), f64::from(state.sessions)));
    text.metric(
        "stead_backend_sessions",
        "gauge",
        "Sessions of this server that have the backend.",
        sessions,
    );
}

fn of_group(text: &mut Text, node: &Node, moment: &Moment) {
    let group = moment.directory.group();
    let protection = node.protection();
    let formation = &group.formation;
    let seconds = |time: UnixMillis| figure(time.0) / 1000.0;
    #[rustfmt::skip]
    let gauges = [
        ("stead_group_can_lose_servers", "How many more servers the group can lose.", f64::from(protection.can_lose)),
        ("stead_group_voters", "Servers that count towards the quorum.", f64::from(protection.voters)),
        ("stead_group_voters_reachable", "Voters that this server hears, itself included.", f64::from(protection.reachable)),
        ("stead_group_formation_number", "The number of the formation in force.", figure(formation.this.number)),
        ("stead_group_original", "1 while the formation is the one that an administrator made, or the original primary is back in one that failover made.", flag(group.is_original())),
        ("stead_group_failover_paused", "1 while automatic failover is paused.", flag(moment.paused().is_some())),
        ("stead_authority_expires_timestamp_seconds", "When the group's authority expires.", seconds(group.authority.expires)),
    ];
    for (name, help, value) in gauges {
        text.gauge(name, help, value);
    }
    text.counter(
        "stead_changes_total",
        "Changes that this server has applied since the group was founded.",
        group.number,
    );
    text.counter(
        "stead_events_total",
        "Entries of the journal since the group was founded.",
        group.last_event,
    );
    if let Some(failover) = &group.last_failover {
        let at = seconds(failover.at);
        text.gauge(
            "stead_last_failover_timestamp_seconds",
            "When the newest failover was.",
            at,
        );
        let outage = figure(failover.outage_ms) / 1000.0;
        text.gauge(
            "stead_last_failover_outage_seconds",
            "How long changes were not accepted then.",
            outage,
        );
    }
    let external = moment.directory.certificates();
    let external = external.map(|one| (vec![("name", one.name.to_string())], seconds(one.expires)));
    text.metric(
        "stead_external_certificate_expires_timestamp_seconds",
        "gauge",
        "When the operator's certificate for a name expires.",
        external,
    );
    let counts = count_by_state(moment);
    let values = STATES
        .iter()
        .zip(counts)
        .map(|(state, count)| (vec![("state", state.as_str().to_owned())], figure(count)));
    text.metric(
        "stead_sessions",
        "gauge",
        "Sessions that are not ended, by state.",
        values,
    );
}

fn count_by_state(moment: &Moment) -> [u64; STATES.len()] {
    let mut counts = [0_u64; STATES.len()];
    let directory = &moment.directory;
    for session in directory
        .servers()
        .flat_map(|server| directory.sessions_on(server.id))
    {
        let place = STATES.iter().position(|state| *state == session.state);
        if let Some(count) = place.and_then(|place| counts.get_mut(place)) {
            *count += 1;
        }
    }
    counts
}

/// A figure of one member; none while it is not known.
type OfMember = fn(&ServerStatus) -> Option<f64>;

#[rustfmt::skip]
const OF_MEMBERS: [(&str, &str, OfMember); 6] = [
    ("stead_server_reachable", "1 while this server hears the member.", |server| Some(flag(server.reachable))),
    ("stead_server_online", "1 while load balancing gives the member new sessions.", |server| Some(flag(server.mode == "online"))),
    ("stead_server_sessions", "Sessions of the member that are not ended.", |server| Some(figure(server.sessions))),
    ("stead_server_lag_changes", "How many changes the member is behind.", |server| server.lag_changes.map(figure)),
    ("stead_server_load_ratio", "Load of the member's processors, from 0 to 1.", |server| server.load),
    ("stead_server_memory_ratio", "Memory of the member in use, from 0 to 1.", |server| server.memory),
];

fn of_members(text: &mut Text, moment: &Moment) {
    let label = |name: &str| vec![("server", name.to_owned())];
    let members = moment
        .directory
        .servers()
        .map(|server| (moment.server(server), server));
    let members: Vec<_> = members.collect();
    for (name, help, value) in OF_MEMBERS {
        let values = members
            .iter()
            .filter_map(|(shown, _)| Some((label(&shown.name), value(shown)?)));
        text.metric(name, "gauge", help, values);
    }
    let clocks = members.iter().filter_map(|(shown, _)| {
        let offset = shown.clock_offset_ms?;
        let size = figure(offset.unsigned_abs()) / 1000.0;
        Some((label(&shown.name), if offset < 0 { -size } else { size }))
    });
    text.metric(
        "stead_server_clock_offset_seconds",
        "gauge",
        "How far the member's clock is ahead.",
        clocks,
    );
    let expiries = members.iter().map(|(shown, server)| {
        (
            label(&shown.name),
            figure(server.certificate_expires.0) / 1000.0,
        )
    });
    text.metric(
        "stead_certificate_expires_timestamp_seconds",
        "gauge",
        "When the member's certificate expires.",
        expiries,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_format() {
        let mut text = Text::default();
        text.gauge("stead_x", "A figure.", 1.5);
        text.metric(
            "stead_y_total",
            "counter",
            "By name.",
            [(vec![("server", "a\"b\\c\nd".to_owned())], 7.0)],
        );
        let expected = "# HELP stead_x A figure.\n# TYPE stead_x gauge\nstead_x 1.5\n\
            # HELP stead_y_total By name.\n# TYPE stead_y_total counter\nstead_y_total{server=\"a\\\"b\\\\c\\nd\"} 7\n";
        assert_eq!(text.0, expected);
    }
}
