//! `stead group add ADDRESS`: whether a standalone server may become a member, and what is lost there by it. Asked twice: by the
//! member that adds it ([`addition`]), and by the server itself before it agrees ([`objections`]).

use crate::explanation::reason;
use crate::losses::{Assumed, Protection, assuming, of_votes};
use crate::plan::{Check, Impact, Plan};
use crate::view::{Peer, View};
use crate::words;
use model::settings::ModeChoice;
use model::{Directory, Record, ResilienceMode, Role, ServerId, ServerName, Standing, UnixMillis};
use std::collections::BTreeMap;
use std::time::Duration;

/// How far the clocks of two members may differ.
pub const CLOCK_LIMIT: Duration = Duration::from_secs(60);

/// A standalone server that is to be added, as it speaks of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The id that it has now. As a member it has another one.
    pub server: ServerId,
    /// The name that it is to have.
    pub name: ServerName,
    /// Where other servers reach it, `host:port`.
    pub peer_address: String,
    /// Where clients reach it, `host:port`.
    pub client_address: String,
    /// The newest feature level that it can work at.
    pub feature_level: u32,
    /// Its clock.
    pub clock: UnixMillis,
    /// The name of the group that it is in.
    pub group: String,
    /// The other servers of that group, by name.
    pub others: Vec<String>,
    /// How many sessions it hosts.
    pub live_sessions: u64,
    /// What people made there.
    pub holds: Vec<Held>,
}

/// So much of one kind that people made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What, as one: `user`.
    pub kind: String,
    /// How many.
    pub count: u64,
}

/// What people made in a group, kind by kind; nothing right after `stead init`: one administrator has to be there.
pub fn holds(directory: &Directory) -> Vec<Held> {
    let mut counts: BTreeMap<(u8, &str), u64> = BTreeMap::new();
    for kind in directory.records().filter_map(|record| kind_of(&record)) {
        *counts.entry(kind).or_default() += 1;
    }
    if directory.users().any(|user| user.role == Role::Admin)
        && let Some(users) = counts.get_mut(&USER)
    {
        *users -= 1;
    }
    let held = counts.into_iter().filter(|(_, count)| *count > 0);
    held.map(|((_, kind), count)| Held {
        kind: kind.to_owned(),
        count,
    })
    .collect()
}

const USER: (u8, &str) = (0, "user");

/// What a record that people made is called, and its place among the others.
fn kind_of(record: &Record) -> Option<(u8, &'static str)> {
    Some(match record {
        Record::User(_) => USER,
        Record::Application(_) => (1, "application"),
        Record::Setting(..) => (2, "setting"),
        Record::Token(_) => (3, "token"),
        Record::Gateway(_) => (4, "gateway"),
        Record::Secret(_) => (5, "stored secret"),
        Record::Profile(_) => (6, "profile"),
        Record::Preferences(_) => (7, "user's preferences"),
        Record::Certificate(_) => (8, "certificate"),
        Record::Divergence(_) => (9, "divergence"),
        _ => return None,
    })
}

/// What is lost, in words: `2 users and 1 application`.
pub fn in_words(holds: &[Held]) -> String {
    let parts: Vec<String> = holds
        .iter()
        .map(|held| match held.kind.strip_prefix("user's ") {
            Some(what) => format!("the {what} of {}", words::count(held.count, "user")),
            None => words::count(held.count, &held.kind),
        })
        .collect();
    words::list(&parts)
}

/// Plans that a standalone server becomes a member. `discard`: whoever asks agreed that what people made there is lost.
pub fn addition(view: &View<'_>, candidate: &Candidate, standing: Standing, discard: bool) -> Plan {
    let impact = Impact {
        kept: words::len(view.directory.live_sessions()),
        ..Impact::default()
    };
    let mut checks = about_it(candidate, discard);
    checks.extend(fitting(view, candidate));
    checks.extend(taken(view, candidate));
    Plan::new(
        format!("add {} as a {}", candidate.name, standing.as_str()),
        checks,
        steps(view, candidate, standing),
        impact,
        afterwards(view, candidate.server, standing),
    )
}

/// What speaks against a server becoming a member elsewhere, as it sees itself. `acting`: it acts as primary.
pub fn objections(directory: &Directory, me: ServerId, acting: bool, discard: bool) -> Vec<String> {
    let mut objections: Vec<String> = about(
        &directory.name_of(me),
        &others(directory, me),
        words::len(directory.live_sessions()),
        &holds(directory),
        discard,
    )
    .into_iter()
    .filter(|check| !check.reason.pass)
    .map(|check| format!("{}: {}", check.reason.detail, check.remedy))
    .collect();
    if !acting && objections.is_empty() {
        objections.push(format!(
            "{} does not accept changes now: try again when it does",
            directory.name_of(me)
        ));
    }
    objections
}

/// The servers of a group but one, by name.
pub fn others(directory: &Directory, me: ServerId) -> Vec<String> {
    let others = directory.servers().filter(|server| server.id != me);
    let mut names: Vec<String> = others.map(|server| server.name.to_string()).collect();
    names.sort();
    names
}

fn about_it(candidate: &Candidate, discard: bool) -> Vec<Check> {
    about(
        candidate.name.as_str(),
        &candidate.others,
        candidate.live_sessions,
        &candidate.holds,
        discard,
    )
}

fn about(
    name: &str,
    others: &[String],
    live_sessions: u64,
    holds: &[Held],
    discard: bool,
) -> Vec<Check> {
    let alone = match others {
        [] => format!("{name} stands alone"),
        _ => format!(
            "{name} is not standalone: it is in a group with {}",
            words::list(others)
        ),
    };
    let sessions = match live_sessions {
        0 => format!("{name} has no live sessions"),
        count => format!("{name} has {}", words::count(count, "live session")),
    };
    let lost = match holds {
        [] => format!("{name} has nothing that people made but its administrator"),
        _ => format!("{} on {name} would be lost", in_words(holds)),
    };
    vec![
        Check {
            reason: reason("standalone", others.is_empty(), alone),
            remedy: "remove it there, and run `stead group reset` on it first",
        },
        Check {
            reason: reason("no-live-sessions", live_sessions == 0, sessions),
            remedy: "end them first, they would be lost",
        },
        Check {
            reason: reason("nothing-lost", holds.is_empty() || discard, lost),
            remedy: "keep a backup with `stead backup` there, and say --discard",
        },
    ]
}

/// Whether it fits this group.
fn fitting(view: &View<'_>, candidate: &Candidate) -> Vec<Check> {
    let (directory, name) = (view.directory, &candidate.name);
    let offset = Duration::from_millis(candidate.clock.0.abs_diff(view.calendar.0));
    let needed = directory.group().feature_level;
    let unsettled = directory.servers().find(|server| !server.started);
    vec![
        Check {
            reason: reason(
                "clock",
                offset <= CLOCK_LIMIT,
                format!("the clocks differ by {}", words::span(offset)),
            ),
            remedy: "at most 60 s are allowed; set both by NTP",
        },
        Check {
            reason: reason(
                "version",
                candidate.feature_level >= needed,
                format!(
                    "{name} can work at feature level {}, and the group works at {needed}",
                    candidate.feature_level
                ),
            ),
            remedy: "install the group's version there",
        },
        Check {
            reason: reason(
                "settled",
                unsettled.is_none(),
                match unsettled {
                    Some(member) => format!("{} has not finished joining", member.name),
                    None => "no other join is under way".to_owned(),
                },
            ),
            remedy: "wait until it has, or remove it with `stead group remove`",
        },
        Check {
            reason: reason(
                "primary-there",
                view.leader.is_some(),
                match view.leader {
                    Some(leader) => format!("{} is the primary now", view.name(leader)),
                    None => "nobody is primary now".to_owned(),
                },
            ),
            remedy: "only a primary can add a server; wait for one",
        },
    ]
}

/// Whether a member has something already that is to be its own.
fn taken(view: &View<'_>, candidate: &Candidate) -> Vec<Check> {
    let (directory, name) = (view.directory, &candidate.name);
    let addresses = [&candidate.peer_address, &candidate.client_address];
    let at_address = directory.servers().find(|server| {
        let taken = [&server.peer_address, &server.client_address];
        addresses.iter().any(|address| taken.contains(address))
    });
    let same_id = directory.server(candidate.server);
    let same_name = directory.server_named(name.as_str());
    vec![
        Check {
            reason: reason(
                "id",
                same_id.is_none(),
                match same_id {
                    Some(member) => format!(
                        "{} has the same server id: one data folder is a copy of the other",
                        member.name
                    ),
                    None => "no member has its server id".to_owned(),
                },
            ),
            remedy: "begin in an empty data folder there, with `stead join`",
        },
        Check {
            reason: reason(
                "name",
                same_name.is_none(),
                match same_name {
                    Some(_) => format!("there is already a server named {name}"),
                    None => format!("no member is named {name}"),
                },
            ),
            remedy: "give it another one with --name",
        },
        Check {
            reason: reason(
                "address",
                at_address.is_none(),
                match at_address {
                    Some(member) => format!("{} is reached at the same address", member.name),
                    None => "no member is reached at its addresses".to_owned(),
                },
            ),
            remedy: "correct the addresses with `stead server set` there",
        },
    ]
}

fn steps(view: &View<'_>, candidate: &Candidate, standing: Standing) -> Vec<String> {
    let (name, group) = (&candidate.name, &view.directory.group().name);
    let mut steps = vec![
        format!(
            "every member and {name} try whether they reach each other, at {} and at the members' addresses",
            candidate.peer_address
        ),
        format!("{name} joins {group} by an invitation that only it gets"),
        format!(
            "it forgets its group {}: with its authority, certificates, secrets, journal and audit log",
            candidate.group
        ),
        match candidate.holds.is_empty() {
            true => "nobody made anything else there; its administrator is lost".to_owned(),
            false => format!(
                "what people made there is not taken over and is lost, with its administrator: {}",
                in_words(&candidate.holds)
            ),
        },
        format!(
            "{name} begins anew as a member by itself: whoever uses it logs in again, as a user of {group} and with its fingerprint"
        ),
    ];
    if standing.votes() {
        steps.push(format!(
            "{name} counts when it has caught up and been healthy for 10 s"
        ));
    }
    steps
}

/// What the group can lose once the new server counts.
fn afterwards(view: &View<'_>, new: ServerId, standing: Standing) -> Protection {
    let mut voters = view.voters.clone();
    let mut backups = view.directory.group().backups.clone();
    let mut peers = view.peers.clone();
    let there = Peer {
        reachable: true,
        ..Peer::default()
    };
    peers.insert(new, there);
    if standing.votes() {
        voters.insert(new);
    }
    if standing.may_lead() {
        backups.push(new);
    }
    let with_it = View {
        peers: &peers,
        ..*view
    };
    let assumed = Assumed {
        voters: &voters,
        backups: &backups,
        ..Assumed::now(view)
    };
    let group = view.directory.group();
    // The third voter makes it quorum mode.
    let grows = voters.len() > 2 && view.directory.settings().mode_choice() == ModeChoice::Auto;
    match grows && group.mode == ResilienceMode::Availability {
        true => of_votes(&with_it, &assumed),
        false => assuming(&with_it, &assumed),
    }
}
