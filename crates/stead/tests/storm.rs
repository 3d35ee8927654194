//! A storm: the host of many clients of the tunnel vanishes, and every one of them is served again by the others.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use client::connect::{Connect, Event, Local};
use testkit::{Group, Machine, Network, Node, PASSWORD, eventually, seconds};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use wire::client::{Credential, Hidden};

const SERVERS: [&str; 3] = ["boston", "newyork", "detroit"];
/// Where all clients are at first.
const HOST: usize = 2;
const BACKEND: u16 = 7200;
const CLIENTS: usize = 60;
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

#[test]
fn a_host_with_many_clients_vanishes_and_all_are_served_again() {
    let machine = Machine::alone();
    let names: Vec<&str> = SERVERS.into_iter().chain(["viewer"]).collect();
    let network = Network::new(&machine, &names);
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

    let mut told = crowd(&group, network.node("viewer"));
    let mut hosts = BTreeMap::new();
    let mut take = |hosts: &mut BTreeMap<usize, String>| {
        while let Ok(news) = told.try_recv() {
            match news {
                Told::Served(number, host) => {
                    hosts.insert(number, host);
                }
                Told::GaveUp(why) => panic!("a client gave up: {why}"),
            }
        }
    };
    eventually(seconds(60), "all to be served by one host", || {
        take(&mut hosts);
        hosts.values().filter(|host| *host == SERVERS[HOST]).count() == CLIENTS
    });
    let keepers = || {
        let all = network.node(SERVERS[HOST]).processes();
        let is_keeper = |pid: &&u32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).nth(1) == Some(b"keeper")
        };
        all.iter().filter(is_keeper).count()
    };
    assert_eq!(
        keepers(),
        1,
        "sessions of a running backend share a process"
    );

    group.json(0, &["server", "online", "boston", "newyork"]);
    network.node(SERVERS[HOST]).unplug();
    group.kill_host(HOST);
    eventually(seconds(60), "all to be served by the others", || {
        take(&mut hosts);
        hosts.values().all(|host| host != SERVERS[HOST])
    });
    let on = |name: &str| hosts.values().filter(|host| *host == name).count();
    let shares = (on("boston"), on("newyork"));
    assert_eq!(shares.0 + shares.1, CLIENTS);
    assert!(
        shares.0 >= CLIENTS / 4 && shares.1 >= CLIENTS / 4,
        "the survivors do not share: {shares:?}"
    );
}
