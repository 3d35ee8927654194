//! Many clients at once: one token never has two current sessions, and a crowd is served whole.

use client::{AskError, Conversation, DialError, Trust};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use testkit::{Group, Machine, PASSWORD, eventually, number, seconds};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use wire::client::{Answer, Credential, Hidden, Opened, Refused, Request};

const QUESTION: Duration = Duration::from_secs(30);

/// What a client does: asks until it is served, coming back when it is told to.
async fn open(
    number: u128,
    address: String,
    trust: Arc<Trust>,
    token: String,
    start: Arc<Barrier>,
) -> Opened {
    let attempt = number.to_be_bytes();
    let user = "ann".parse().expect("a user name");
    let request = Request::Open {
        token: token.parse().expect("a token"),
        app: Some("bulk".parse().expect("an application")),
        credential: Credential::Password {
            user: Some(user),
            password: Hidden(PASSWORD.to_owned()),
        },
        attempt,
    };
    start.wait().await;
    loop {
        let wait = match Conversation::dial(&address, &trust).await {
            Ok(mut conversation) => match conversation.ask(&request, QUESTION).await {
                Ok(Answer::Opened(opened)) => return *opened,
                // An election on a busy machine: what a real client does is to ask again.
                Ok(Answer::Refused(Refused::NoPrimary { .. })) => Duration::from_millis(200),
                Ok(other) => panic!("{token} at {address}: {other:?}"),
                Err(AskError::ComeBack { after_ms }) => Duration::from_millis(after_ms),
                Err(error) => panic!("{token} at {address}: {error}"),
            },
            Err(DialError::Hello { source, .. }) => match *source {
                AskError::ComeBack { after_ms } => Duration::from_millis(after_ms),
                // Shut out of a full server: what a real client does is to come back.
                _ => Duration::from_millis(200),
            },
            Err(DialError::Tls { .. } | DialError::TimedOut { .. }) => Duration::from_millis(200),
            Err(error) => panic!("{token} at {address}: {error}"),
        };
        tokio::time::sleep(wait).await; // tidy: polls: it was told when to come back
    }
}

/// All at the same moment; `first` makes their requests different from those of other crowds.
fn everybody(group: &Group, first: u128, tokens: Vec<String>) -> Vec<Opened> {
    let trust = Arc::new(Trust::new(group.ca().parse().expect("a fingerprint")));
    let addresses: Vec<String> = group
        .servers()
        .iter()
        .map(|server| server.client_address().to_string())
        .collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let start = Arc::new(Barrier::new(tokens.len()));
        let mut clients = JoinSet::new();
        for ((number, token), address) in
            (1 + first..).zip(tokens).zip(addresses.into_iter().cycle())
        {
            clients.spawn(open(number, address, trust.clone(), token, start.clone()));
        }
        clients.join_all().await
    })
}

#[test]
fn crowds_are_served_and_a_token_has_one_session() {
    let _machine = Machine::alone();
    let group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(3)
        .start();
    group.wait_for_voters();
    group.add_user(0, "ann");
    group.add_app(0, "bulk", &["--backend", "tcp:127.0.0.1:9"]);

    // 200 clients with one token at the same moment on three servers.
    let opened = everybody(&group, 0, vec!["card.one".to_owned(); 200]);
    let sessions: BTreeSet<_> = opened.iter().map(|opened| opened.session).collect();
    assert_eq!(
        (opened.len(), sessions.len()),
        (200, 1),
        "one token has several sessions: {sessions:?}"
    );
    assert_eq!(opened.iter().filter(|opened| opened.created).count(), 1);

    // 2,000 tokens at once.
    let tokens: Vec<String> = (0..2000)
        .map(|number| format!("card.{number:04}"))
        .collect();
    let opened = everybody(&group, 1_000, tokens);
    let sessions: BTreeSet<_> = opened.iter().map(|opened| opened.session).collect();
    assert_eq!(sessions.len(), 2000);
    let hosts: BTreeSet<_> = opened.iter().map(|opened| opened.host).collect();
    assert_eq!(hosts.len(), 3, "the crowd was not spread");

    // Every server counts them all, and counts them once.
    for server in 0..3 {
        let listed = group.json(server, &["session", "list"]);
        let listed = listed.as_array().map_or(0, Vec::len);
        assert_eq!(listed, 2001, "listed by server {server}");
        eventually(seconds(20), "the counts of all servers together", || {
            let status = group.json(server, &["status"]);
            let servers = status["servers"].as_array().cloned().unwrap_or_default();
            let counts = servers.iter().map(|server| number(server, "sessions"));
            (status["sessions"].as_u64(), counts.sum()) == (Some(2001), 2001_u64)
        });
    }
}
