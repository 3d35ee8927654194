//! `stead server set NAME --peer|--client`: whether a server would still be reached, and the plan.
//!
//! Members have tried the addresses before; what they met is given. A server whose peer address leads elsewhere is cut off as
//! soon as a connection is opened anew, so every member that can say must reach it there. Its clients are elsewhere, and may see
//! another network: of its client address one member is enough.

use crate::explanation::reason;
use crate::losses::protection_after;
use crate::plan::{Check, Impact, Plan};
use crate::view::View;
use crate::words;
use model::{Reason, Server, ServerId};

/// Which of a server's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// Where other servers reach it.
    Peer,
    /// Where clients and administrators reach it.
    Client,
}

/// Where a server is to be reached; what is absent stays.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// Which server.
    pub server: ServerId,
    /// Where other servers are to reach it.
    pub peer: Option<&'a str>,
    /// Where clients are to reach it.
    pub client: Option<&'a str>,
    /// Whether it is done although nobody reaches it there.
    pub force: bool,
}

/// What a member met that tried an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Who tried.
    pub member: ServerId,
    /// Which address.
    pub port: Port,
    /// What was met.
    pub met: Met,
}

/// What was met at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Met {
    /// The server that was meant.
    It,
    /// Something else, or nothing; in words.
    NotIt(String),
    /// The member itself could not be asked to try; why, in words.
    NotAsked(String),
}

/// Plans that a server is reached elsewhere.
pub fn addresses(view: &View<'_>, wish: Wish<'_>, tried: &[Tried]) -> Plan {
    let name = view.name(wish.server);
    let checks = match view.directory.server(wish.server) {
        Some(server) => checks(view, server, wish, tried),
        None => vec![Check {
            reason: reason(
                "member",
                false,
                format!("{} is no member of the group", wish.server),
            ),
            remedy: "see `stead server list`",
        }],
    };
    let impact = Impact {
        kept: words::len(view.directory.live_sessions()),
        ..Impact::default()
    };
    let reached = [("other servers", wish.peer), ("clients", wish.client)];
    let reached = reached
        .into_iter()
        .filter_map(|(who, at)| Some(format!("{who} reach {name} at {}", at?)));
    let more = [
        format!("{name} gets certificates that say so"),
        "connections that stand are kept; new ones go there".to_owned(),
    ];
    Plan::new(
        format!("change where {name} is reached"),
        checks,
        reached.chain(more).collect(),
        impact,
        protection_after(view, view.voters, None),
    )
}

fn checks(view: &View<'_>, server: &Server, wish: Wish<'_>, tried: &[Tried]) -> Vec<Check> {
    let leader = match view.leader {
        Some(leader) => format!("{} is the primary now", view.name(leader)),
        None => "nobody is primary now".to_owned(),
    };
    let mut checks = vec![
        Check {
            reason: reason("primary-there", view.leader.is_some(), leader),
            remedy: "only a primary can change it; wait for one",
        },
        Check {
            reason: own(view, server, wish),
            remedy: "give an address that leads to this port of this server alone",
        },
    ];
    let given = [(Port::Peer, wish.peer), (Port::Client, wish.client)];
    for (port, address) in given {
        let Some(address) = address else { continue };
        let tried: Vec<&Tried> = tried.iter().filter(|one| one.port == port).collect();
        let outcome = Outcome::of(view, port, &tried);
        let rule = match port {
            Port::Peer => "servers-reach-it",
            Port::Client => "clients-reach-it",
        };
        let mut detail = format!("at {address} {}", outcome.words);
        if !outcome.reached && wish.force {
            detail.push_str("; it is forced");
        }
        checks.push(Check {
            reason: reason(rule, outcome.reached || wish.force, detail),
            remedy: "see that the server listens there (`stead serve --listen-peer` and `--listen-client` say where, if not at its address) and that the way to it is open; --force does it nevertheless",
        });
    }
    checks
}

/// Whether the addresses would be this server's alone.
fn own(view: &View<'_>, server: &Server, wish: Wish<'_>) -> Reason {
    let peer = wish.peer.unwrap_or(&server.peer_address);
    let client = wish.client.unwrap_or(&server.client_address);
    let others = view
        .directory
        .servers()
        .filter(|other| other.id != server.id);
    let mut known = others.flat_map(|other| {
        let both = [&other.peer_address, &other.client_address];
        both.map(|address| (other, address))
    });
    let taken = known.find(|(_, known)| {
        [peer, client]
            .iter()
            .any(|wanted| known.eq_ignore_ascii_case(wanted))
    });
    let problem = match taken {
        Some((other, address)) => Some(format!("{} is reached at {address}", other.name)),
        None if peer.eq_ignore_ascii_case(client) => {
            Some(format!("both ports would be reached at {peer}"))
        }
        None => None,
    };
    let free = problem.is_none();
    let detail = problem.unwrap_or_else(|| "no other server is reached there".to_owned());
    reason("its-own", free, detail)
}

/// What became of trying one address.
struct Outcome {
    reached: bool,
    words: String,
}

impl Outcome {
    fn of(view: &View<'_>, port: Port, tried: &[&Tried]) -> Self {
        let names = |fits: fn(&Met) -> bool| -> Vec<String> {
            let fitting = tried.iter().filter(|one| fits(&one.met));
            fitting.map(|one| view.name(one.member)).collect()
        };
        let reach_it = names(|met| *met == Met::It);
        let failed: Vec<String> = tried
            .iter()
            .filter_map(|one| match &one.met {
                Met::NotIt(why) => Some(format!(
                    "{} does not reach it ({why})",
                    view.name(one.member)
                )),
                _ => None,
            })
            .collect();
        let absent = names(|met| matches!(met, Met::NotAsked(_)));
        let mut parts = Vec::new();
        match reach_it.as_slice() {
            [] => parts.push("no member reaches it".to_owned()),
            [one] => parts.push(format!("{one} reaches it")),
            several => parts.push(format!("{} reach it", words::list(several))),
        }
        parts.extend(failed.iter().cloned());
        if !absent.is_empty() {
            parts.push(format!("{} cannot be asked", words::list(&absent)));
        }
        Self {
            reached: !reach_it.is_empty() && (port == Port::Client || failed.is_empty()),
            words: parts.join(", "),
        }
    }
}
