//! `/v1/status`: who is primary, who is reached, what the group can lose, and what needs somebody.
//!
//! Always true: whatever is not as it should be has a line in `attention` with its reason; nothing degraded looks healthy.

use super::attention::attention;
use super::bodies::{
    Attention, Failover, FormationSummary, Primary, Quorum, Returning, Status, View, rfc3339,
};
use super::guard::change_text;
use super::show::{Moment, by_name, count};
use crate::clock;
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use model::{Directory, ServerId};
use policy::Protection;
use policy::failback::Outlook;
use std::time::Duration;

/// How long members may take to say how they see the group.
const VIEW_LIMIT: Duration = Duration::from_millis(700);

/// Shows the state of the group as the answering server sees it.
#[utoipa::path(get, path = "/v1/status", tag = "status", responses((status = 200, body = Status)))]
pub(super) async fn status(State(node): State<Node>) -> Json<Status> {
    let views = node.views(VIEW_LIMIT).await;
    let moment = Moment::new(&node);
    let protection = node.protection();
    let views = disagreement(&moment.directory, views);
    let attention = attention(&node, &moment, &protection, &views);
    let (group, bound) = (moment.directory.group(), node.bound());
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
        mode: group.mode.as_str().to_owned(),
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
        returning: returning(&node, &moment.directory),
        paused: moment.paused().map(Into::into),
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
        peer_address: bound.peer_address,
        client_address: bound.client_address,
        nbd_address: None,
        change: change_text(moment.directory.newest()),
        version: crate::found::VERSION.to_owned(),
        started: rfc3339(node.started()),
    })
}

fn formation(directory: &Directory) -> FormationSummary {
    let group = directory.group();
    let formation = &group.formation;
    let original = formation.original_members.iter();
    FormationSummary {
        number: formation.this.number,
        id: formation.this.id.to_string(),
        original: group.is_original(),
        original_members: original.map(|server| directory.name_of(*server)).collect(),
        made: rfc3339(formation.made),
    }
}

fn returning(node: &Node, directory: &Directory) -> Option<Returning> {
    let Outlook::Waits { server, until } = node.outlook() else {
        return None;
    };
    let in_ms = until.saturating_sub(clock::steady()).as_millis();
    Some(Returning {
        name: directory.name_of(server),
        in_ms: u64::try_from(in_ms).unwrap_or(u64::MAX),
    })
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
    // What can be lost says it too, where that makes the difference.
    let paused = match moment.paused() {
        Some(pause) if !lost.contains(&pause.to_string()) => "; automatic failover is paused",
        _ => "",
    };
    let errors = attention.iter().any(|item| item.severity == "error");
    let tail = if errors {
        "; something needs attention"
    } else {
        ""
    };
    format!("Group {group}: {who}, {servers}; {lost}{paused}{tail}.")
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
