//! `/v1/status`: who is primary, who is reached, what the group can lose, and what needs somebody.
//!
//! Always true: whatever is not as it should be has a line in `attention` with its reason; nothing degraded looks healthy.

use super::bodies::{
    Attention, Failover, FormationSummary, Primary, Quorum, Status, View, rfc3339,
};
use super::guard::change_text;
use super::show::{Moment, by_name, count};
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use model::{Directory, Mode, Server, ServerId, UnixMillis};
use policy::Protection;
use std::time::Duration;

/// How long members may take to say how they see the group.
const VIEW_LIMIT: Duration = Duration::from_millis(700);
/// A clock that is further off is pointed out.
const CLOCK_LIMIT_MS: u64 = 5_000;
/// A certificate that expires sooner is pointed out.
const EXPIRY_NEAR: Duration = Duration::from_secs(7 * 86_400);
/// A server that is further behind is pointed out.
const LAG_LIMIT: u64 = 1_000;

/// Shows the state of the group as the answering server sees it.
#[utoipa::path(get, path = "/v1/status", tag = "status", responses((status = 200, body = Status)))]
pub(super) async fn status(State(node): State<Node>) -> Json<Status> {
    let views = node.views(VIEW_LIMIT).await;
    let moment = Moment::new(&node);
    let protection = node.protection();
    let views = disagreement(&moment.directory, views);
    let attention = attention(&node, &moment, &protection, &views);
    let group = moment.directory.group();
    let primary = moment.primary.map(|primary| Primary {
        name: moment.directory.name_of(primary),
        since: rfc3339(group.primary_since),
    });
    Json(Status {
        sentence: sentence(&moment, &protection, primary.as_ref(), &attention),
        group: group.name.to_string(),
        group_id: group.id.to_string(),
        server: node.name().to_string(),
        at: rfc3339(node.now()),
        formation: formation(&moment.directory),
        primary,
        role: moment.role(node.me()),
        mode: "quorum".to_owned(),
        acting: node.acting(),
        quorum: Quorum {
            voters: protection.voters,
            reachable: protection.reachable,
            needed: protection.needed,
        },
        can_lose: protection.can_lose,
        can_lose_words: protection.sentence,
        servers: by_name(&moment.directory)
            .into_iter()
            .map(|server| moment.server(server))
            .collect(),
        backups: group
            .backups
            .iter()
            .map(|backup| moment.directory.name_of(*backup))
            .collect(),
        addresses: Vec::new(),
        last_failover: group.last_failover.as_ref().map(|failover| Failover {
            at: rfc3339(failover.at),
            from: failover.from.map(|from| moment.directory.name_of(from)),
            to: moment.directory.name_of(failover.to),
            outage_ms: failover.outage_ms,
            reason: failover.reason.clone(),
        }),
        sessions: count(moment.directory.live_sessions()),
        warnings: attention.iter().map(|item| item.what.clone()).collect(),
        attention,
        views,
        peer_address: node.bound().peer_address.clone(),
        client_address: node.bound().client_address.clone(),
        nbd_address: None,
        change: change_text(moment.directory.newest()),
        version: crate::found::VERSION.to_owned(),
        started: rfc3339(node.started()),
    })
}

fn formation(directory: &Directory) -> FormationSummary {
    let formation = &directory.group().formation;
    let original = formation.original_members.iter();
    FormationSummary {
        number: formation.this.number,
        id: formation.this.id.to_string(),
        original: formation.is_original(),
        original_members: original.map(|server| directory.name_of(*server)).collect(),
        made: rfc3339(formation.made),
    }
}

/// The whole state in one sentence.
fn sentence(
    moment: &Moment,
    protection: &Protection,
    primary: Option<&Primary>,
    attention: &[Attention],
) -> String {
    let group = &moment.directory.group().name;
    let lost = &protection.sentence;
    let who = match primary {
        Some(primary) => format!("{} is primary", primary.name),
        None => "no server acts as primary".to_owned(),
    };
    let servers = moment.directory.servers().count();
    let reached = moment
        .directory
        .servers()
        .filter(|server| moment.reaches(server.id))
        .count();
    let servers = match (reached, servers) {
        (1, 1) => "its only server".to_owned(),
        (reached, all) if reached == all => format!("all {all} servers are reached"),
        (reached, all) => format!("{reached} of {all} servers are reached"),
    };
    let errors = attention.iter().any(|item| item.severity == "error");
    let tail = if errors {
        "; something needs attention"
    } else {
        ""
    };
    format!("Group {group}: {who}, {servers}; {lost}{tail}.")
}

/// Each server's view, where they do not agree on who is a voter or who leads; nothing where they do.
fn disagreement(
    directory: &Directory,
    views: Vec<(ServerId, Result<wire::control::View, String>)>,
) -> Vec<View> {
    let told = views.iter().filter_map(|(_, view)| view.as_ref().ok());
    let mut opinions: Vec<_> = told
        .map(|view| {
            let mut voters = view.voters.clone();
            voters.sort_unstable();
            (view.formation.id, view.leader, voters)
        })
        .collect();
    opinions.dedup();
    if opinions.len() <= 1 {
        return Vec::new();
    }
    let name = |server: &ServerId| directory.name_of(*server);
    let mut shown: Vec<View> = views
        .iter()
        .map(|(server, view)| match view {
            Ok(view) => View {
                name: name(server),
                primary: view.leader.as_ref().map(name),
                acting: view.acting,
                formation: Some(view.formation.id.to_string()),
                voters: sorted(view.voters.iter().map(name).collect()),
                hears: sorted(view.hears.iter().map(name).collect()),
                error: None,
            },
            Err(error) => View {
                name: name(server),
                primary: None,
                acting: false,
                formation: None,
                voters: Vec::new(),
                hears: Vec::new(),
                error: Some(error.clone()),
            },
        })
        .collect();
    shown.sort_by(|left, right| left.name.cmp(&right.name));
    shown
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

fn item(severity: &str, server: Option<&Server>, what: String, remedy: Option<&str>) -> Attention {
    Attention {
        severity: severity.to_owned(),
        server: server.map(|server| server.name.to_string()),
        what,
        remedy: remedy.map(str::to_owned),
    }
}

/// What needs somebody, the most urgent first.
fn attention(
    node: &Node,
    moment: &Moment,
    protection: &Protection,
    views: &[View],
) -> Vec<Attention> {
    let mut items = Vec::new();
    if moment.primary.is_none() {
        items.push(no_primary(node, moment));
    }
    if !views.is_empty() {
        let what = "the servers do not agree on who is a voter or who leads".to_owned();
        items.push(item(
            "error",
            None,
            what,
            Some("each one's view is shown; look at it again in a moment"),
        ));
    }
    let severity = if protection.has_quorum() {
        "warning"
    } else {
        "error"
    };
    items.extend(
        protection
            .warnings
            .iter()
            .map(|warning| item(severity, None, warning.clone(), None)),
    );
    let directory = &moment.directory;
    if !directory.settings().failover() {
        let remedy = Some("stead config unset resilience.failover");
        items.push(item(
            "warning",
            None,
            "failover is off: no server is promoted without an administrator".to_owned(),
            remedy,
        ));
    }
    for server in by_name(directory) {
        items.extend(about_server(node, moment, server));
    }
    let expires = directory.group().authority.expires;
    items.extend(expiry(node.now(), expires).map(|(severity, when)| {
        item(
            severity,
            None,
            format!("the group's authority {when}"),
            None,
        )
    }));
    let me = directory.server(node.me()).map(|server| &**server);
    items.extend(
        node.warnings()
            .into_iter()
            .map(|warning| item("warning", me, warning, None)),
    );
    let reports = node.reports();
    for (id, report) in reports.iter().filter(|(id, _)| **id != node.me()) {
        let server = directory.server(*id).map(|server| &**server);
        items.extend(
            report
                .warnings
                .iter()
                .map(|warning| item("warning", server, warning.clone(), None)),
        );
    }
    // The sort is stable: within one severity the order above stays.
    items.sort_by_key(|item| item.severity != "error");
    items
}

fn no_primary(node: &Node, moment: &Moment) -> Attention {
    let what = match node.leader() {
        Some(leader) => format!(
            "{} was elected and does not accept changes yet",
            moment.directory.name_of(leader)
        ),
        None => {
            "no server acts as primary: changes are not accepted; live sessions go on".to_owned()
        }
    };
    item(
        "error",
        None,
        what,
        Some("see `stead explain`; start servers that are down"),
    )
}

fn about_server(node: &Node, moment: &Moment, server: &Server) -> Vec<Attention> {
    let mut items = Vec::new();
    let name = &server.name;
    let heard = moment.heard.get(&server.id);
    if !moment.reaches(server.id) {
        let since = match heard.and_then(|heard| heard.last_seen_ms) {
            Some(ago) => format!("was last heard {} ago", words(Duration::from_millis(ago))),
            None => format!("was never heard since {} started", node.name()),
        };
        items.push(item(
            "error",
            Some(server),
            format!("{name} is not reached: it {since}"),
            Some("check that it runs and that the network between the servers works"),
        ));
    } else if let Some(lag) = heard
        .and_then(|heard| heard.lag_changes)
        .filter(|lag| *lag > LAG_LIMIT)
    {
        items.push(item(
            "warning",
            Some(server),
            format!("{name} is {lag} changes behind"),
            None,
        ));
    }
    if server.standing.votes() && !server.voting {
        let what = format!(
            "{name} does not count yet: it becomes a voter when it has caught up and was healthy for 10 s"
        );
        items.push(item("warning", Some(server), what, None));
    }
    if let Mode::Offline(offline) = &server.mode {
        let reason = offline.reason.as_deref().unwrap_or("no reason given");
        let until = offline
            .until
            .map_or("until somebody takes it online".to_owned(), |until| {
                format!("until {}", rfc3339(until))
            });
        let what = format!(
            "{name} is offline since {} by {} {until}: {reason}",
            rfc3339(offline.since),
            offline.by
        );
        items.push(item(
            "warning",
            Some(server),
            what,
            Some(&format!("stead server online {name}")),
        ));
    }
    if let Some(offset) = heard
        .and_then(|heard| heard.clock_offset_ms)
        .filter(|offset| offset.unsigned_abs() > CLOCK_LIMIT_MS)
    {
        let side = if offset < 0 { "behind" } else { "ahead of" };
        let off = words(Duration::from_millis(offset.unsigned_abs()));
        items.push(item(
            "warning",
            Some(server),
            format!(
                "the clock of {name} is {off} {side} that of {}",
                node.name()
            ),
            Some("set both by NTP"),
        ));
    }
    if let Some((severity, when)) = expiry(node.now(), server.certificate_expires) {
        items.push(item(
            severity,
            Some(server),
            format!("the certificate of {name} {when}"),
            Some("it renews itself while a primary is reached"),
        ));
    }
    items
}

fn expiry(now: UnixMillis, expires: UnixMillis) -> Option<(&'static str, String)> {
    if expires <= now {
        return Some(("error", format!("expired at {}", rfc3339(expires))));
    }
    (expires.since(now) < EXPIRY_NEAR)
        .then(|| ("warning", format!("expires at {}", rfc3339(expires))))
}

/// A span in words: `800 ms`, `3.2 s`, `5 min`, `4 h`, `12 d`.
fn words(span: Duration) -> String {
    let (seconds, millis) = (span.as_secs(), span.subsec_millis());
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds}.{} s", millis / 100),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_seen_in_time() {
        let now = UnixMillis(1_000_000_000_000);
        let in_days = |days: u64| now.after(Duration::from_secs(days * 86_400));
        assert_eq!(expiry(now, in_days(8)), None);
        assert_eq!(expiry(now, in_days(6)).unwrap().0, "warning");
        assert_eq!(expiry(now, now).unwrap().0, "error");
    }

    #[test]
    fn spans_in_words() {
        for (millis, expected) in [
            (800, "800 ms"),
            (3_240, "3.2 s"),
            (300_000, "5 min"),
            (14_400_000, "4 h"),
            (1_036_800_000, "12 d"),
        ] {
            assert_eq!(words(Duration::from_millis(millis)), expected);
        }
    }
}
