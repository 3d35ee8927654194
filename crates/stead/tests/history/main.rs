//! The history checker: clients in namespaces create, end and look up sessions of the same few tokens at a group of
//! three while its servers are killed, frozen and cut off. What they were told must be linearizable for each token, and
//! nothing that was acknowledged may be missing afterwards, on any server.
//!
//! `STEAD_HISTORY_SECONDS` says how long the failures go on, `STEAD_HISTORY_SEED` repeats their order (what happens within is up
//! to the machine). A history that is refused is written to a file, whose name the failure says.
//!
//! Start at the test at the end; then [`checker`], which says what is looked for.

#![expect(
    clippy::indexing_slicing,
    reason = "servers, sites and tokens are counted here, and a field that is absent is null"
)]

mod checker;
mod checker_tests;
mod clients;
mod failures;
mod record;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use client::Fingerprint;
use clients::{APP, Crowd, Line, USER, UntilDropped};
use failures::{SITES, Storm, VOTERS};
use hyper::Method;
use model::SessionId;
use rand::SeedableRng;
use rand::rngs::StdRng;
use record::{Effect, Operation};
use serde_json::json;
use testkit::{Group, Machine, Network, PASSWORD, eventually, seconds, text};

/// The server that hosts all sessions; it has no vote, and nothing happens to it.
const HOST: &str = "chicago";
/// How long failures go on when nobody says.
const USUAL_SECONDS: u64 = 12;
/// Few, so that clients get into each other's way.
const TOKENS: usize = 6;
/// In each site.
const CLIENTS: u64 = 5;

/// What a server says about a session at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Left {
    token: String,
    is_ended: bool,
}

type Listing = BTreeMap<SessionId, Left>;

fn number_from(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Three voters, and the host of all sessions; quick to give the office back, so that it moves often.
fn group_in(network: &Network) -> Group {
    let places = [VOTERS[0], VOTERS[1], VOTERS[2], HOST];
    let mut group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .in_network(network, &places)
        .start_first();
    group.join(1);
    group.join(2);
    group.join_without_vote(3);
    group.add_user(0, USER);
    group.add_app(0, APP, &["--backend", "tcp:127.0.0.1:9"]);
    for (key, value) in [
        ("sessions.history", "1000000"),
        ("resilience.return-delay", "2s"),
        ("resilience.max-moves", "100 in 10m"),
    ] {
        group.json(0, &["config", "set", key, value]);
    }
    group.wait_for_voters();
    eventually(seconds(20), "quorum mode", || {
        let status = group.status(0).unwrap_or_default();
        status["mode"] == "quorum" && status["can_lose"] == json!(1)
    });
    group
}

fn lines(group: &Group, bearer: Option<&str>) -> Vec<Line> {
    let ca: Fingerprint = group.ca().parse().expect("a fingerprint");
    let line = |server: &testkit::Server| {
        let address = server.client_address().to_string();
        Line::new(server.name(), address, ca, bearer.map(str::to_owned))
    };
    group.servers().iter().map(line).collect()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(work)
}

fn login(group: &Group, network: &Network) -> String {
    let line = &lines(group, None)[0];
    let body = json!({ "user": "admin", "password": PASSWORD });
    let ask = || block_on(line.must(Method::POST, "/v1/login", Some(body)));
    let reply = network.node(SITES[0]).within(ask);
    text(&reply.json().expect("a login"), "token")
}

/// The clients of one site, until the storm is over.
async fn crowd_of(crowd: &Crowd, site: usize, lines: &[Line]) {
    let numbers = (0..CLIENTS).map(|number| site as u64 * CLIENTS + number);
    let mut clients: Vec<_> = numbers
        .map(|number| Box::pin(crowd.client(SITES[site], number, lines)))
        .collect();
    // All of them in one task: whoever can go on does.
    std::future::poll_fn(|context| {
        clients.retain_mut(|client| client.as_mut().poll(context).is_pending());
        if clients.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

/// Every session that a server knows, ended ones too; what it says about each token is a lookup of the history.
async fn listing(crowd: &Crowd, line: &Line) -> Listing {
    let called = Instant::now();
    let mut all = Listing::new();
    let mut path = "/v1/sessions?ended=true&consistency=linearizable".to_owned();
    loop {
        let reply = line.must(Method::GET, &path, None).await;
        let page = reply.json().expect("JSON");
        for session in page.as_array().expect("an array") {
            let left = Left {
                token: text(session, "token"),
                is_ended: session["state"] == "ended",
            };
            all.insert(text(session, "id").parse().expect("an id"), left);
        }
        match reply.header("link").and_then(|link| link.split_once('>')) {
            Some((next, _)) => path = next.trim_start_matches('<').to_owned(),
            None => break,
        }
    }
    for (token, credential) in crowd.tokens.iter().enumerate() {
        let here = |left: &Left| left.token == *credential && !left.is_ended;
        let mut current = all.iter().filter(|(_, left)| here(left)).map(|(id, _)| *id);
        let effect = Effect::Saw(current.next());
        assert_eq!(
            current.next(),
            None,
            "two for {credential} at {}",
            line.name
        );
        let story = format!("at the end {}", line.name);
        crowd.history().add(token, effect, called, story);
    }
    all
}

/// What was acknowledged, and is not so.
fn missing(operations: &[Operation], tokens: &[String], listing: &Listing) -> Vec<String> {
    let is_missing = |operation: &&Operation| {
        let Some(id) = operation.effect.session() else {
            return false;
        };
        let must_be_over = matches!(operation.effect, Effect::Ended(_));
        listing.get(&id).is_none_or(|left| {
            left.token != tokens[operation.token] || (must_be_over && !left.is_ended)
        })
    };
    let missing = operations.iter().filter(is_missing);
    missing.map(ToString::to_string).collect()
}

fn counted(operations: &[Operation]) -> BTreeMap<&'static str, u32> {
    let mut counts = BTreeMap::new();
    for operation in operations {
        let kind = match operation.effect {
            Effect::Made(_) => "creates that made one",
            Effect::Found(_) => "creates that found one",
            Effect::Ended(_) => "ends",
            Effect::Saw(_) => "lookups",
            Effect::MaybeMade => "creates unknown",
            Effect::MaybeEnded(_) => "ends unknown",
        };
        *counts.entry(kind).or_default() += 1;
    }
    counts
}

/// The history with a lookup at its end that sees a session which was acknowledged to have ended.
fn with_a_planted_error(operations: &[Operation]) -> Vec<Operation> {
    let is_end = |operation: &&Operation| matches!(operation.effect, Effect::Ended(_));
    let over = operations.iter().find(is_end).expect("some end");
    let last = operations.iter().filter_map(|other| other.answered).max();
    let stale = Operation {
        effect: Effect::Saw(over.effect.session()),
        called: last.unwrap_or_default() + seconds(1),
        answered: last.map(|last| last + seconds(2)),
        ..over.clone()
    };
    operations.iter().cloned().chain([stale]).collect()
}

/// Writes the whole history down, for people to read.
fn evidence(seed: u64, operations: &[Operation]) -> String {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("history-{seed}.txt"));
    let lines: Vec<String> = operations.iter().map(ToString::to_string).collect();
    match std::fs::write(&file, lines.join("\n")) {
        Ok(()) => format!("the whole history is in {}", file.display()),
        Err(error) => format!("{} could not be written: {error}", file.display()),
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "figures for whoever runs it by hand")]
fn what_clients_were_told_is_linearizable_and_nothing_is_missing() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let drawn = now.map_or(1, |now| now.as_micros() as u64 % 1_000_000);
    let seed = number_from("STEAD_HISTORY_SEED").unwrap_or(drawn);
    let span = number_from("STEAD_HISTORY_SECONDS").unwrap_or(USUAL_SECONDS);
    println!("STEAD_HISTORY_SEED={seed} STEAD_HISTORY_SECONDS={span}");

    let machine = Machine::alone();
    let places: Vec<&str> = VOTERS.into_iter().chain([HOST]).chain(SITES).collect();
    let network = Network::new(&machine, &places);
    let mut group = group_in(&network);
    let bearer = login(&group, &network);
    let tokens = (0..TOKENS).map(|number| format!("card.{number}")).collect();
    let crowd = Crowd::new(tokens, HOST, seed);

    let made = std::thread::scope(|scope| {
        let _end = UntilDropped(&crowd);
        for (site, name) in SITES.into_iter().enumerate() {
            let (node, lines) = (network.node(name), lines(&group, Some(&bearer)));
            let crowd = &crowd;
            scope.spawn(move || node.within(|| block_on(crowd_of(crowd, site, &lines))));
        }
        let mut storm = Storm {
            group: &mut group,
            network: &network,
            chance: StdRng::seed_from_u64(seed),
        };
        storm.rage(Duration::from_secs(span))
    });

    let read = || {
        let every = lines(&group, Some(&bearer));
        every
            .iter()
            .map(|line| block_on(listing(&crowd, line)))
            .collect()
    };
    let listings: Vec<Listing> = network.node(SITES[0]).within(read);
    let history = crowd.history();
    let operations = history.operations();
    println!("failures: {made:?}");
    println!(
        "operations: {}: {:?}",
        operations.len(),
        counted(operations)
    );
    println!("had no effect: {}", crowd.failed());

    let verdict = checker::check(operations);
    if let Err(violation) = verdict {
        panic!("seed {seed}: {violation}{}", evidence(seed, operations));
    }
    let planted = checker::check(&with_a_planted_error(operations));
    assert!(
        planted.is_err(),
        "a stale lookup in this very history is not found"
    );
    for (line, listing) in VOTERS.into_iter().chain([HOST]).zip(&listings) {
        let missing = missing(operations, &crowd.tokens, listing);
        let told = || evidence(seed, operations);
        assert!(
            missing.is_empty(),
            "missing at {line}: {missing:#?} {}",
            told()
        );
    }
    let surprises = crowd.surprises();
    assert!(surprises.is_empty(), "seed {seed}: {surprises:#?}");
}
