//! Many clients of the tunnel on one host: it is drained, and another one vanishes; every one of them is served again by the others.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use client::connect::{Connect, Event, Local};
use testkit::{Group, Machine, Network, Node, PASSWORD, eventually, seconds, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use wire::client::{Credential, Hidden};

const SERVERS: [&str; 3] = ["boston", "newyork", "detroit"];
/// Where all clients are at first; it is drained.
const DRAINED: &str = "detroit";
/// It vanishes.
const LOST: usize = 1;
const BACKEND: u16 = 7200;
const CLIENTS: usize = 200;
const QUESTION: [u8; 64] = [7; 64];

/// What happened to a client.
enum Told {
    /// Its viewer has an answer; the session's host.
    Served(usize, String),
    /// It is no client any more.
    GaveUp(String),
}

/// Sends back what it gets, at a node.
fn echo(node: &Node) {
    let listener = node.within(|| std::net::TcpListener::bind(("127.0.0.1", BACKEND)));
    let listener = listener.expect("the backend's port");
    listener.set_nonblocking(true).expect("a listener");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await.ok();
                });
            }
        });
    });
}

/// One client and its viewer, which asks, stays, and comes again when its connection is closed.
async fn live(number: usize, connect: Connect, tell: mpsc::UnboundedSender<Told>) {
    let (events, mut happened) = mpsc::unbounded_channel();
    let viewer = async {
        let Some(Event::Ready {
            listen, mut host, ..
        }) = happened.recv().await
        else {
            return std::future::pending::<()>().await;
        };
        loop {
            let asked = async {
                let mut viewer = TcpStream::connect(&listen).await?;
                viewer.write_all(&QUESTION).await?;
                viewer.read_exact(&mut [0; QUESTION.len()]).await?;
                std::io::Result::Ok(viewer)
            };
            let Ok(mut viewer) = asked.await else {
                tokio::time::sleep(Duration::from_millis(20)).await; // tidy: polls: a viewer that was not let in
                continue;
            };
            while let Ok(event) = happened.try_recv() {
                if let Event::Moved { to, .. } = event {
                    host = to;
                }
            }
            tell.send(Told::Served(number, host.clone())).ok();
            // Nothing comes but the end.
            viewer.read_u8().await.ok();
        }
    };
    let why = tokio::select! {
        end = connect.run(events) => format!("client {number}: {end:?}"),
        () = viewer => String::new(),
    };
    tell.send(Told::GaveUp(why)).ok();
}

/// All clients at once, on a thread of their own at the viewer's node.
fn crowd(group: &Group, viewer: &Node) -> mpsc::UnboundedReceiver<Told> {
    let (tell, told) = mpsc::unbounded_channel();
    let servers: Vec<String> = group
        .servers()
        .iter()
        .map(|server| server.client_address().to_string())
        .collect();
    let ca = group.ca().parse().expect("a fingerprint");
    let viewer = viewer.clone();
    std::thread::spawn(move || {
        viewer.within(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                for number in 0..CLIENTS {
                    let connect = Connect {
                        servers: servers.clone(),
                        ca,
                        token: format!("card.{number:03}").parse().expect("a token"),
                        app: Some("desk".parse().expect("an application")),
                        credential: Credential::Password {
                            user: Some("ann".parse().expect("a user name")),
                            password: Hidden(PASSWORD.to_owned()),
                        },
                        local: Local::Listen(SocketAddr::from(([127, 0, 0, 1], 0))),
                        patience: Duration::MAX,
                    };
                    tokio::spawn(live(number, connect, tell.clone()));
                }
                tell.closed().await;
            });
        });
    });
    told
}

/// Where each client is served.
struct Board {
    told: mpsc::UnboundedReceiver<Told>,
    hosts: BTreeMap<usize, String>,
}

impl Board {
    fn take(&mut self) {
        while let Ok(news) = self.told.try_recv() {
            match news {
                Told::Served(number, host) => {
                    self.hosts.insert(number, host);
                }
                Told::GaveUp(why) => panic!("a client gave up: {why}"),
            }
        }
    }

    fn on(&self, name: &str) -> usize {
        self.hosts.values().filter(|host| *host == name).count()
    }

    /// Waits until all are served, nobody by this host.
    fn all_elsewhere(&mut self, than: &str) {
        eventually(seconds(120), "all to be served elsewhere", || {
            self.take();
            self.hosts.len() == CLIENTS && self.on(than) == 0
        });
    }
}

/// Processes that keep sessions at a node.
fn keepers(node: &Node) -> usize {
    let is_keeper = |pid: &&u32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).nth(1) == Some(b"keeper")
    };
    node.processes().iter().filter(is_keeper).count()
}

#[test]
fn a_crowd_is_drained_from_one_host_and_loses_another() {
    let machine = Machine::alone();
    let network = Network::with_viewer(&machine, &SERVERS);
    for name in SERVERS {
        echo(network.node(name));
    }
    let plan = Group::of(env!("CARGO_BIN_EXE_stead"));
    let mut group = plan.in_network(&network, &SERVERS).start();
    group.wait_for_voters();
    group.add_user(0, "ann");
    let backend = format!("tcp:127.0.0.1:{BACKEND}");
    group.add_app(0, "desk", &["--backend", &backend]);
    group.json(0, &["server", "offline", "boston", "newyork"]);
    let mut board = Board {
        told: crowd(&group, network.node("viewer")),
        hosts: BTreeMap::new(),
    };
    eventually(seconds(120), "all to be served by one host", || {
        board.take();
        board.on(DRAINED) == CLIENTS
    });
    let shared = keepers(network.node(DRAINED));
    assert_eq!(shared, 1, "sessions of a running backend share a process");
    group.json(0, &["server", "online", "boston", "newyork"]);

    // The plan names them all; then all are moved, and it is said how long that took.
    let drain = ["server", "offline", DRAINED, "--drain", "--deadline", "2s"];
    let plan = group.json(0, &[&drain[..], &["--dry-run"]].concat());
    let plan = plan.to_string();
    let listed = group.json(0, &["session", "list"]);
    let listed = listed.as_array().expect("a list of sessions");
    assert_eq!(listed.len(), CLIENTS);
    for session in listed {
        let id = text(session, "id");
        assert!(plan.contains(&id), "{id} is not in the plan");
    }
    let done = group.run(0, &[&drain[..], &["--wait"]].concat());
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.output.contains("drained after") && done.output.contains("0 sessions stay"),
        "{done:?}"
    );
    board.all_elsewhere(DRAINED);
    group.json(0, &["server", "online", DRAINED]);

    // Another host vanishes with its share.
    let lost = SERVERS[LOST];
    assert!(board.on(lost) >= CLIENTS / 4, "{:?}", board.on(lost));
    network.node(lost).unplug();
    group.kill_host(LOST);
    board.all_elsewhere(lost);
    let shares = (board.on("boston"), board.on(DRAINED));
    assert_eq!(shares.0 + shares.1, CLIENTS);
    assert!(
        shares.0 > 0 && shares.1 > 0,
        "the survivors do not share: {shares:?}"
    );
}
