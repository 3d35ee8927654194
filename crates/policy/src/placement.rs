//! On which server a new session starts.
//!
//! Always true: a witness, an unreachable server, and one that lacks what the application asks for are never chosen; whoever
//! is not eligible has a reason. Servers are looked at in the order of their names, and chance comes in as a number, so that
//! the same question has the same answer. Start at [`place`].

use crate::explanation::{Candidate, Explanation, reason};
use crate::words;
use model::settings::BalanceMethod;
use model::{Application, Mode, Reason, Server, ServerId, UnixMillis, UserName};
use std::time::Duration;

mod choices;
mod methods;

pub use choices::Choices;
use methods::choose;

/// A report that is missing for less makes no server ineligible.
pub const REPORT_ALLOWANCE: Duration = Duration::from_secs(3);
/// What one session adds to a server of ordinary power, in thousandths of its load.
pub const SESSION_LOAD: u64 = 10;
/// `least-load` draws among those whose load is at most this much above the least, in thousandths.
pub const NEAR_BEST: u64 = 100;
/// The load of which nothing is known is taken for this, in thousandths.
const UNKNOWN: u32 = 500;

/// What a server last reported of its load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Load of the processors, in thousandths of all of them.
    pub cpu_permille: u32,
    /// Memory in use, in thousandths.
    pub memory_permille: u32,
    /// Sessions that it hosts, of any application.
    pub sessions: u32,
}

/// A server that might host, and what is known of it now.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    /// Its record.
    pub server: &'a Server,
    /// Whether it can be reached.
    pub reachable: bool,
    /// Its newest report; none: it never sent one.
    pub load: Option<Load>,
    /// How old that report is; where there is none, how long one has been waited for.
    pub report_age: Duration,
    /// Sessions placed there since that report: [`Choices::count`].
    pub chosen_since: u32,
    /// Sessions of the application there, as the directory has them.
    pub app_sessions: u32,
    /// How long ago a session of the application failed to start there; none: not that is remembered.
    pub failed_ago: Option<Duration>,
    /// `sessions.start-retry`, as it holds there.
    pub start_retry: Duration,
}

/// What is to be placed.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is to run.
    pub app: &'a Application,
    /// For whom; none in a question without a user.
    pub user: Option<&'a UserName>,
    /// How many reachable sessions of the application the user has.
    pub user_sessions: u32,
    /// A server that was asked for by name: it alone is looked at, offline or not.
    pub asked: Option<ServerId>,
    /// `balance.method`.
    pub method: BalanceMethod,
    /// The group's feature level.
    pub feature_level: u32,
    /// The server that was chosen last, for `round-robin`.
    pub last: Option<ServerId>,
    /// A random number.
    pub draw: u64,
}

/// Where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The server; none: no server is fit.
    pub chosen: Option<ServerId>,
    /// Why, server by server.
    pub explanation: Explanation,
}

/// How willingly a server is used; the first kind of which there is one is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Nothing speaks against it.
    Ready,
    /// It is offline, or its start failed lately: only when there is nothing better.
    LastResort(LastResort),
    /// It cannot be used.
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum LastResort {
    Offline,
    FailedLately,
}

struct Judged<'a> {
    host: Host<'a>,
    rank: Rank,
    reasons: Vec<Reason>,
}

/// Chooses the server of a new session.
pub fn place(request: &Request<'_>, hosts: &[Host<'_>], at: UnixMillis) -> Placement {
    let mut judged: Vec<_> = hosts.iter().map(|host| judge(request, host)).collect();
    judged.sort_by(|one, other| one.host.server.name.cmp(&other.host.server.name));
    let best = judged
        .iter()
        .map(|one| one.rank)
        .min()
        .filter(|best| *best != Rank::Never);
    let fit: Vec<Host<'_>> = judged
        .iter()
        .filter(|one| Some(one.rank) == best)
        .map(|one| one.host)
        .collect();
    let chosen = choose(request, &fit);
    let decision = decision(request, &judged, best, chosen);
    let candidates = judged.into_iter().map(|one| {
        let name = one.host.server.name.to_string();
        Candidate {
            server: one.host.server.id,
            name,
            eligible: Some(one.rank) == best,
            reasons: one.reasons,
        }
    });
    let explanation = Explanation {
        decision,
        at,
        candidates: candidates.collect(),
    };
    Placement {
        chosen,
        explanation,
    }
}

fn judge<'a>(request: &Request<'_>, host: &Host<'a>) -> Judged<'a> {
    let by_name = request.asked == Some(host.server.id);
    let mut reasons = necessities(request, host);
    let mut rank = Rank::Ready;
    if reasons.iter().any(|reason| !reason.pass) {
        rank = Rank::Never;
    }
    if let Some(failed) = failed_lately(host) {
        reasons.push(reason("start-retry", by_name, failed));
        rank = rank.max(if by_name {
            Rank::Ready
        } else {
            Rank::LastResort(LastResort::FailedLately)
        });
    }
    let (online, mode) = mode_words(&host.server.mode);
    reasons.push(reason("online", online || by_name, mode));
    if !online && !by_name {
        rank = rank.max(Rank::LastResort(LastResort::Offline));
    }
    reasons.push(reason("load", true, load_words(host)));
    Judged {
        host: *host,
        rank,
        reasons,
    }
}

/// What a server must be, whatever else there is.
fn necessities(request: &Request<'_>, host: &Host<'_>) -> Vec<Reason> {
    let Host { server, .. } = host;
    let app = &request.app.name;
    let mut reasons = Vec::new();
    if request.asked.is_some_and(|asked| asked != server.id) {
        reasons.push(reason(
            "asked-for",
            false,
            "another server was asked for by name",
        ));
    }
    let standing = if server.standing.hosts() {
        "it hosts sessions"
    } else {
        "it is a witness"
    };
    reasons.push(reason("hosts-sessions", server.standing.hosts(), standing));
    let reach = if host.reachable {
        "it can be reached"
    } else {
        "it cannot be reached"
    };
    reasons.push(reason("reachable", host.reachable, reach));
    if host.report_age >= REPORT_ALLOWANCE {
        let age = words::span(host.report_age);
        let detail = match host.load {
            Some(_) => format!("its last report is {age} old"),
            None => format!("it has sent no report in {age}"),
        };
        reasons.push(reason("reports", request.asked == Some(server.id), detail));
    }
    let label = match server.lacks_label(&request.app.hosts) {
        Some((key, value)) => reason(
            "labels",
            false,
            format!("{app} asks for {key}={value}, which it lacks"),
        ),
        None if request.app.hosts.is_empty() => {
            reason("labels", true, format!("{app} runs on any server"))
        }
        None => reason(
            "labels",
            true,
            format!("it has the labels that {app} asks for"),
        ),
    };
    reasons.push(label);
    if server.feature_level < request.feature_level {
        let detail = format!(
            "it works at feature level {}, the group at {}",
            server.feature_level, request.feature_level
        );
        reasons.push(reason("feature-level", false, detail));
    }
    reasons.extend(limits(request, host));
    reasons
}

fn limits(request: &Request<'_>, host: &Host<'_>) -> Vec<Reason> {
    let app = &request.app.name;
    let mut reasons = Vec::new();
    if let Some(most) = request.app.max_per_server {
        let has = words::count(u64::from(host.app_sessions), "session");
        let detail = format!("it has {has} of {app}, max-per-server is {most}");
        reasons.push(reason("max-per-server", host.app_sessions < most, detail));
    }
    if let (Some(most), Some(user)) = (request.app.max_per_user, request.user)
        && request.user_sessions >= most
    {
        let has = words::count(u64::from(request.user_sessions), "session");
        let detail = format!("{user} has {has} of {app}, max-per-user is {most}");
        reasons.push(reason("max-per-user", false, detail));
    }
    reasons
}

fn failed_lately(host: &Host<'_>) -> Option<String> {
    let ago = host.failed_ago.filter(|ago| *ago < host.start_retry)?;
    let left = words::span(host.start_retry.saturating_sub(ago));
    Some(format!(
        "it failed to start one {} ago and is passed over for {left} more",
        words::span(ago)
    ))
}

fn mode_words(mode: &Mode) -> (bool, String) {
    match mode {
        Mode::Online => (true, "it is online".to_owned()),
        Mode::Offline(offline) => {
            let reason = offline
                .reason
                .as_deref()
                .map_or_else(String::new, |reason| format!(": {reason}"));
            (false, format!("{} took it offline{reason}", offline.by))
        }
    }
}

impl Host<'_> {
    fn power(&self) -> u64 {
        u64::from(
            self.server
                .power
                .clamp(*Server::POWER_RANGE.start(), *Server::POWER_RANGE.end()),
        )
    }

    fn sessions(&self) -> u64 {
        let reported = self.load.map_or(0, |load| load.sessions);
        u64::from(reported) + u64::from(self.chosen_since)
    }

    /// Its load in thousandths of a server: the mean of processors and memory, and its sessions relative to its power.
    pub fn load_figure(&self) -> u64 {
        let permille = |share: Option<u32>| u64::from(share.unwrap_or(UNKNOWN).min(1000));
        let cpu = permille(self.load.map(|load| load.cpu_permille));
        let memory = permille(self.load.map(|load| load.memory_permille));
        let ordinary = u64::from(Server::POWER_DEFAULT);
        u64::midpoint(cpu, memory) + self.sessions() * SESSION_LOAD * ordinary / self.power()
    }
}

fn load_words(host: &Host<'_>) -> String {
    let power = host.power();
    let figure = host.load_figure();
    let sessions = words::count(
        u64::from(host.load.map_or(0, |load| load.sessions)),
        "session",
    );
    let since = match host.chosen_since {
        0 => String::new(),
        since => format!(", {since} placed since its last report"),
    };
    let measured = match host.load {
        Some(load) => format!(
            "cpu {} %, memory {} %, {sessions}{since}",
            load.cpu_permille / 10,
            load.memory_permille / 10
        ),
        None => format!("no report yet{since}"),
    };
    format!(
        "load {}.{:03}: {measured}, power {}.{:03}",
        figure / 1000,
        figure % 1000,
        power / 1000,
        power % 1000
    )
}

fn decision(
    request: &Request<'_>,
    judged: &[Judged<'_>],
    best: Option<Rank>,
    chosen: Option<ServerId>,
) -> String {
    let app = &request.app.name;
    let whose = request
        .user
        .map_or_else(String::new, |user| format!(" for {user}"));
    let Some(chosen) = chosen.and_then(|id| judged.iter().find(|one| one.host.server.id == id))
    else {
        return format!("no server can host {app}{whose}: {}", objections(judged));
    };
    let name = &chosen.host.server.name;
    let fit = judged.iter().filter(|one| Some(one.rank) == best).count();
    let of = words::count(words::len(fit), "eligible server");
    let how = match request.method {
        _ if request.asked.is_some() => "it was asked for by name".to_owned(),
        _ if fit == 1 => "the only eligible server".to_owned(),
        BalanceMethod::LeastLoad => format!("drawn among the least loaded of {of}"),
        BalanceMethod::LeastSessions => format!("the fewest sessions of {of}"),
        BalanceMethod::RoundRobin => format!("the next of {of}"),
        BalanceMethod::RandomTwo => format!("the less loaded of two drawn from {of}"),
    };
    let last_resort = match chosen.rank {
        Rank::LastResort(LastResort::Offline) => {
            "; it is offline, and no server that is online can"
        }
        Rank::LastResort(LastResort::FailedLately) => {
            "; it failed to start one lately, and no other server can"
        }
        Rank::Ready | Rank::Never => "",
    };
    format!("{app}{whose} goes to {name}: {how}{last_resort}")
}

fn objections(judged: &[Judged<'_>]) -> String {
    if judged.is_empty() {
        return "there is no server".to_owned();
    }
    let first = |one: &Judged<'_>| {
        let objection = one.reasons.iter().find(|reason| !reason.pass)?;
        Some(format!("{}: {}", one.host.server.name, objection.detail))
    };
    judged
        .iter()
        .filter_map(first)
        .collect::<Vec<_>>()
        .join("; ")
}
