//! What needs somebody: everything that is not as it should be, with its reason and what would help.
//!
//! Always true: nothing degraded is left out; errors come before warnings. Start at [`attention`].

use super::bodies::{Attention, View, rfc3339};
use super::show::{Moment, by_name};
use crate::node::{Heard, Node};
use model::{Directory, Divergence, FormationRef, Left, Mode, Pause, Server, UnixMillis};
use policy::Protection;
use policy::failback::Outlook;
use policy::renewal::{Notice, notice};
use std::time::Duration;

/// A clock that is further off is pointed out.
const CLOCK_LIMIT_MS: u64 = 5_000;
const RENEWAL: &str = "it renews itself while that server and one that holds the seal key reach each other: its log says what is in the way";
/// A server that is further behind is pointed out.
const LAG_LIMIT: u64 = 1_000;

fn warning(what: impl Into<String>) -> Attention {
    Attention {
        severity: "warning".to_owned(),
        server: None,
        what: what.into(),
        remedy: None,
    }
}

fn error(what: impl Into<String>) -> Attention {
    Attention {
        severity: "error".to_owned(),
        ..warning(what)
    }
}

impl Attention {
    fn of(self, server: &Server) -> Self {
        Self {
            server: Some(server.name.to_string()),
            ..self
        }
    }

    fn remedy(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }
}

/// What needs somebody, the most urgent first.
pub(super) fn attention(
    node: &Node,
    moment: &Moment,
    protection: &Protection,
    views: &[View],
) -> Vec<Attention> {
    let mut items = about_group(node, moment, protection, views);
    let lifetime = Some(moment.directory.settings().certificate_lifetime());
    for server in by_name(&moment.directory) {
        let heard = moment.heard.get(&server.id);
        let found = [
            reached(node, moment, server, heard),
            voting(server),
            mode(&moment.directory, server),
            clock(node, server, heard),
            expiry(
                notice(server.certificate_expires, lifetime, node.now()),
                server.certificate_expires,
                &format!("the certificate of {}", server.name),
            )
            .map(|item| item.remedy(RENEWAL)),
        ];
        items.extend(found.into_iter().flatten().map(|item| item.of(server)));
        items.extend(told(node, server));
    }
    // The sort is stable: within one severity the order above stays.
    items.sort_by_key(|item| item.severity != "error");
    items
}

fn about_group(
    node: &Node,
    moment: &Moment,
    protection: &Protection,
    views: &[View],
) -> Vec<Attention> {
    let group = moment.directory.group();
    let mut items = Vec::new();
    if node.was_removed() {
        let what = "this server was removed from the group: the others refuse it";
        items.push(error(what).remedy(
            "`stead group reset` makes it stand alone; it can join again with an empty data folder",
        ));
    }
    if moment.primary.is_none() {
        items.push(no_primary(node, moment));
    }
    if !views.is_empty() {
        items.push(
            error("the servers do not agree on who is a voter or who leads")
                .remedy("each one's view is shown; look at it again in a moment"),
        );
    }
    let judge: fn(String) -> Attention = if protection.has_quorum() {
        warning
    } else {
        error
    };
    items.extend(protection.warnings.iter().cloned().map(judge));
    if !moment.directory.settings().failover() {
        items.push(
            warning("failover is off: no server is promoted without an administrator")
                .remedy("stead config unset resilience.failover"),
        );
    }
    items.extend(node.held_because().map(|why| {
        error(format!(
            "this side may not go on without its primary: {why}"
        ))
        .remedy("it goes on by itself when that passes, or when the primary is heard again")
    }));
    items.extend(node.returns_at().map(|until| {
        let left = until.saturating_sub(crate::clock::steady()).as_secs();
        warning(format!(
            "the others have gone on in another formation; this server's stands, and goes on in {left} s if it stays healthy (resilience.return-delay)"
        ))
    }));
    items.extend(node.replica().left().map(arriving));
    items.extend(held_back(node, moment));
    items.extend(moment.paused().map(paused));
    items.extend(node.formations_waiting().into_iter().map(waits));
    items.extend(moment.directory.divergences().map(|one| diverged(one)));
    items.extend(secrets_to_change(&moment.directory));
    items.extend(expiry(
        notice(group.authority.expires, None, node.now()),
        group.authority.expires,
        "the group's authority",
    ));
    let external = moment.directory.certificates().filter_map(|one| {
        let name = &one.name;
        let near = notice(one.expires, None, node.now());
        let item = expiry(near, one.expires, &format!("the certificate for {name}"))?;
        let remedy = format!("stead trust set-certificate --name {name} --cert FILE --key FILE");
        Some(item.remedy(remedy))
    });
    items.extend(external);
    items
}

/// The original primary would take over again, but the office moved too often.
fn held_back(node: &Node, moment: &Moment) -> Option<Attention> {
    let Outlook::HeldBack {
        server,
        moves,
        within,
    } = node.outlook()
    else {
        return None;
    };
    let name = moment.directory.name_of(server);
    let minutes = within.as_secs().div_ceil(60);
    let what = format!(
        "{name} does not take over again yet: the office of primary moved {moves} times within {minutes} min (resilience.max-moves)"
    );
    Some(warning(what).remedy(format!(
        "see `stead event list --kind switchover`; `stead group promote {name}` moves it at once"
    )))
}

/// It entered a formation, and its primary has sent nothing.
fn arriving(left: Left) -> Attention {
    warning(format!(
        "nothing has come yet of the formation that this server has entered: what is shown is formation {}, which it left",
        left.formation.number
    ))
    .remedy("in availability mode it goes back after resilience.island-after; `stead group recover` goes on from it at once")
}

fn paused(pause: &Pause) -> Attention {
    warning(pause.to_string()).remedy("it ends by itself, or at once by `stead group resume`")
}

fn waits(formation: FormationRef) -> Attention {
    error(format!(
        "formation {} ({:.8}) is heard and acts too: an administrator decides which one stands",
        formation.number,
        formation.id.to_string()
    ))
    .remedy("stead group recover --formation FORMATION; --dry-run says what would happen")
}

fn diverged(divergence: &Divergence) -> Attention {
    let (records, number) = (divergence.records, divergence.formation.number);
    let what = match records {
        1 => format!("1 record of formation {number} diverged"),
        _ => format!("{records} records of formation {number} diverged"),
    };
    warning(what).remedy("look with `stead group divergence list`; apply or discard each")
}

/// Values that should be set again.
fn secrets_to_change(directory: &Directory) -> Option<Attention> {
    /// So many are called by their names.
    const NAMED: usize = 5;
    let to_change: Vec<_> = (directory.secrets())
        .filter(|secret| secret.is_to_change())
        .map(|secret| secret.name.as_str())
        .collect();
    let more = to_change.len().saturating_sub(NAMED);
    let mut names = to_change.get(..NAMED).unwrap_or(&to_change).join(", ");
    if more > 0 {
        names = format!("{names} and {more} more");
    }
    let what = match to_change.len() {
        0 => return None,
        1 => format!("stored secret {names} is to be changed"),
        _ => format!("stored secrets are to be changed: {names}"),
    };
    Some(
        warning(what)
            .remedy("`stead secret list` says why; `stead secret set NAME` sets a new value"),
    )
}

fn no_primary(node: &Node, moment: &Moment) -> Attention {
    let what = match node.leader() {
        Some(leader) => {
            let name = moment.directory.name_of(leader);
            format!("{name} was elected and does not accept changes yet")
        }
        None => {
            "no server acts as primary: changes are not accepted; live sessions go on".to_owned()
        }
    };
    error(what).remedy("see `stead explain`; start servers that are down")
}

fn reached(
    node: &Node,
    moment: &Moment,
    server: &Server,
    heard: Option<&Heard>,
) -> Option<Attention> {
    let name = &server.name;
    if moment.reaches(server.id) {
        if let Some(elsewhere) = heard.and_then(|heard| heard.elsewhere) {
            let what = format!(
                "{name} is in another formation, {:.8}",
                elsewhere.to_string()
            );
            return Some(warning(what));
        }
        let lag = heard?.lag_changes.filter(|lag| *lag > LAG_LIMIT)?;
        return Some(warning(format!("{name} is {lag} changes behind")));
    }
    let since = match heard.and_then(|heard| heard.last_seen_ms) {
        Some(ago) => format!("was last heard {} ago", words(Duration::from_millis(ago))),
        None => format!("was never heard since {} started", node.name()),
    };
    Some(
        error(format!("{name} is not reached: it {since}"))
            .remedy("check that it runs and that the network between the servers works"),
    )
}

fn voting(server: &Server) -> Option<Attention> {
    let waits = server.standing.votes() && !server.voting;
    waits.then(|| {
        let when = "it becomes a voter when it has caught up and was healthy for 10 s";
        warning(format!("{} does not count yet: {when}", server.name))
    })
}

fn mode(directory: &Directory, server: &Server) -> Option<Attention> {
    let Mode::Offline(offline) = &server.mode else {
        return None;
    };
    let reason = offline.reason.as_deref().unwrap_or("no reason given");
    let until = offline
        .until
        .map_or_else(|| "somebody takes it online".to_owned(), rfc3339);
    let (name, since, by) = (&server.name, rfc3339(offline.since), &offline.by);
    let drain = offline.drain.as_ref().map_or_else(String::new, |drain| {
        let left = directory.to_drain(server).count();
        match drain.finished {
            Some(at) => format!("; it was drained at {}", rfc3339(at)),
            None => format!(
                "; it is being drained, {left} sessions are to be moved yet, at the latest at {}",
                rfc3339(drain.deadline)
            ),
        }
    });
    let what = format!("{name} is offline since {since} by {by} until {until}: {reason}{drain}");
    Some(warning(what).remedy(format!("stead server online {name}")))
}

fn clock(node: &Node, server: &Server, heard: Option<&Heard>) -> Option<Attention> {
    let offset = heard?
        .clock_offset_ms
        .filter(|offset| offset.unsigned_abs() > CLOCK_LIMIT_MS)?;
    let side = if offset < 0 { "behind" } else { "ahead of" };
    let off = words(Duration::from_millis(offset.unsigned_abs()));
    let what = format!(
        "the clock of {} is {off} {side} that of {}",
        server.name,
        node.name()
    );
    Some(warning(what).remedy("set both by NTP"))
}

/// What a server says of itself.
fn told(node: &Node, server: &Server) -> Vec<Attention> {
    let warnings = if server.id == node.me() {
        node.warnings()
    } else {
        node.reports()
            .remove(&server.id)
            .map(|report| report.warnings)
            .unwrap_or_default()
    };
    warnings
        .into_iter()
        .map(|what| warning(what).of(server))
        .collect()
}

fn expiry(notice: Option<Notice>, expires: UnixMillis, what: &str) -> Option<Attention> {
    match notice? {
        Notice::Over => Some(error(format!("{what} expired at {}", rfc3339(expires)))),
        _ => Some(warning(format!("{what} expires at {}", rfc3339(expires)))),
    }
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
    fn what_has_expired_is_an_error() {
        let severity = |notice| expiry(notice, UnixMillis(0), "it").map(|item| item.severity);
        assert_eq!(severity(None), None);
        for near in [Notice::Month, Notice::Week, Notice::Day] {
            assert_eq!(severity(Some(near)).as_deref(), Some("warning"));
        }
        assert_eq!(severity(Some(Notice::Over)).as_deref(), Some("error"));
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
