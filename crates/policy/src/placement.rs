//! On which server a new session starts.
//!
//! Always true: a witness, an unreachable server, and one that lacks what the application asks for are never chosen; whoever
//! is not eligible has a reason. Servers are looked at in the order of their names, and chance comes in as a number, so that
//! the same question has the same answer. Start at [`place`].

use crate::explanation::{Candidate, Explanation, reason};
use crate::words;
use model::settings::{BalanceMethod, SubnetAffinity};
use model::{Application, Mode, Reason, Server, ServerId, UnixMillis, UserName};
use std::net::IpAddr;
use std::time::Duration;

mod choices;
mod methods;

pub use choices::Choices;

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
    /// Whether a server that is offline is not even the last resort.
    pub online_only: bool,
    /// Where its client is, where that is known.
    pub client: Option<IpAddr>,
    /// `balance.subnet-affinity`.
    pub affinity: SubnetAffinity,
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
    /// The client is not near: only when nobody is.
    Far,
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

/// What speaks for and against a server; put into words only where somebody reads them.
struct Reasons {
    /// Whether everything speaks for it so far.
    pass: bool,
    told: Option<Vec<Reason>>,
}

impl Reasons {
    fn new(told: bool) -> Self {
        Self {
            pass: true,
            told: told.then(Vec::new),
        }
    }

    fn add<W: Into<String>>(&mut self, rule: &str, pass: bool, words: impl FnOnce() -> W) {
        self.pass &= pass;
        if let Some(told) = &mut self.told {
            told.push(reason(rule, pass, words()));
        }
    }
}

/// The server of a new session, as [`place`] chooses it, without the reasons.
pub fn choose(request: &Request<'_>, hosts: &[Host<'_>]) -> Option<ServerId> {
    let (judged, best) = judge_all(request, hosts, false);
    choose_among(request, &judged, best)
}

/// Chooses the server of a new session.
pub fn place(request: &Request<'_>, hosts: &[Host<'_>], at: UnixMillis) -> Placement {
    let (judged, best) = judge_all(request, hosts, true);
    let chosen = choose_among(request, &judged, best);
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

/// Everybody in the order of their names, and the best rank that can be used.
fn judge_all<'a>(
    request: &Request<'_>,
    hosts: &[Host<'a>],
    told: bool,
) -> (Vec<Judged<'a>>, Option<Rank>) {
    let mut judged: Vec<_> = hosts
        .iter()
        .map(|host| judge(request, host, told))
        .collect();
    judged.sort_by(|one, other| one.host.server.name.cmp(&other.host.server.name));
    let best = judged.iter().map(|one| one.rank).min();
    (judged, best.filter(|best| *best != Rank::Never))
}

fn choose_among(
    request: &Request<'_>,
    judged: &[Judged<'_>],
    best: Option<Rank>,
) -> Option<ServerId> {
    let fit: Vec<Host<'_>> = judged
        .iter()
        .filter(|one| Some(one.rank) == best)
        .map(|one| one.host)
        .collect();
    methods::choose(request, &fit)
}

fn judge<'a>(request: &Request<'_>, host: &Host<'a>, told: bool) -> Judged<'a> {
    let by_name = request.asked == Some(host.server.id);
    let mut reasons = Reasons::new(told);
    necessities(request, host, &mut reasons);
    let mut rank = if reasons.pass {
        Rank::Ready
    } else {
        Rank::Never
    };
    if let Some(client) = request
        .client
        .filter(|_| request.affinity == SubnetAffinity::Prefer)
        && !by_name
    {
        let near = host.server.is_near(client);
        reasons.add("subnet-affinity", near, || near_words(client, near));
        rank = rank.max(if near { Rank::Ready } else { Rank::Far });
    }
    if let Some((ago, left)) = failed_lately(host) {
        reasons.add("start-retry", by_name, || {
            format!(
                "it failed to start one {} ago and is passed over for {} more",
                words::span(ago),
                words::span(left)
            )
        });
        rank = rank.max(if by_name {
            Rank::Ready
        } else {
            Rank::LastResort(LastResort::FailedLately)
        });
    }
    let online = matches!(host.server.mode, Mode::Online);
    reasons.add("online", online || by_name, || {
        mode_words(&host.server.mode)
    });
    if !online && !by_name {
        rank = rank.max(match request.online_only {
            true => Rank::Never,
            false => Rank::LastResort(LastResort::Offline),
        });
    }
    reasons.add("load", true, || load_words(host));
    Judged {
        host: *host,
        rank,
        reasons: reasons.told.unwrap_or_default(),
    }
}

/// What a server must be, whatever else there is.
fn necessities(request: &Request<'_>, host: &Host<'_>, reasons: &mut Reasons) {
    let Host { server, .. } = host;
    let app = &request.app.name;
    if request.asked.is_some_and(|asked| asked != server.id) {
        let words = "another server was asked for by name";
        reasons.add("asked-for", false, || words);
    }
    let hosts = server.standing.hosts();
    reasons.add("hosts-sessions", hosts, || match hosts {
        true => "it hosts sessions",
        false => "it is a witness",
    });
    reasons.add("reachable", host.reachable, || match host.reachable {
        true => "it can be reached",
        false => "it cannot be reached",
    });
    if host.report_age >= REPORT_ALLOWANCE {
        reasons.add("reports", request.asked == Some(server.id), || {
            let age = words::span(host.report_age);
            match host.load {
                Some(_) => format!("its last report is {age} old"),
                None => format!("it has sent no report in {age}"),
            }
        });
    }
    if let Some(client) = request.client
        && request.affinity == SubnetAffinity::Require
    {
        let near = server.is_near(client);
        reasons.add("subnet-affinity", near, || near_words(client, near));
    }
    let lacks = server.lacks_label(&request.app.hosts);
    reasons.add("labels", lacks.is_none(), || match lacks {
        Some((key, value)) => format!("{app} asks for {key}={value}, which it lacks"),
        None if request.app.hosts.is_empty() => format!("{app} runs on any server"),
        None => format!("it has the labels that {app} asks for"),
    });
    if server.feature_level < request.feature_level {
        reasons.add("feature-level", false, || {
            format!(
                "it works at feature level {}, the group at {}",
                server.feature_level, request.feature_level
            )
        });
    }
    limits(request, host, reasons);
}

fn limits(request: &Request<'_>, host: &Host<'_>, reasons: &mut Reasons) {
    let app = &request.app.name;
    if let Some(most) = request.app.max_per_server {
        reasons.add("max-per-server", host.app_sessions < most, || {
            let has = words::count(u64::from(host.app_sessions), "session");
            format!("it has {has} of {app}, max-per-server is {most}")
        });
    }
    if let (Some(most), Some(user)) = (request.app.max_per_user, request.user)
        && request.user_sessions >= most
    {
        reasons.add("max-per-user", false, || {
            let has = words::count(u64::from(request.user_sessions), "session");
            format!("{user} has {has} of {app}, max-per-user is {most}")
        });
    }
}

/// How long ago a session failed to start there, and for how long it is passed over yet.
fn failed_lately(host: &Host<'_>) -> Option<(Duration, Duration)> {
    let ago = host.failed_ago.filter(|ago| *ago < host.start_retry)?;
    Some((ago, host.start_retry.saturating_sub(ago)))
}

fn near_words(client: IpAddr, near: bool) -> String {
    match near {
        true => format!("the client's address {client} is near"),
        false => format!("the client's address {client} is in another network"),
    }
}

fn mode_words(mode: &Mode) -> String {
    match mode {
        Mode::Online => "it is online".to_owned(),
        Mode::Offline(offline) => {
            let reason = offline
                .reason
                .as_deref()
                .map_or_else(String::new, |reason| format!(": {reason}"));
            format!("{} took it offline{reason}", offline.by)
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
        Rank::Far => "; the client is in another network, and no server is near it",
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
