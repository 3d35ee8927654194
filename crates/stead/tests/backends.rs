//! Application servers behind a host: how sessions are shared among them, and what becomes of sessions when they go and come back.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use testkit::{Group, Machine, Network, Node, Process, event, eventually, number, seconds, text};

/// Where the application servers listen.
const PORT: u16 = 7100;

/// A host, two servers of an application behind it, and a client.
struct Stage {
    group: Group,
    network: Network,
}

#[test]
fn sessions_are_shared_among_what_is_up() {
    let machine = Machine::alone();
    let network = Network::new(&machine, &["boston", "east", "west", "viewer"]);
    for name in ["east", "west"] {
        serve(network.node(name), name);
    }
    let plan = Group::of(env!("CARGO_BIN_EXE_stead"));
    let group = plan.in_network(&network, &["boston"]).start();
    group.add_user(0, "ann");
    group.json(0, &["config", "set", "backends.check-interval", "200ms"]);
    let mut stage = Stage { group, network };
    let backend = |name: &str, weight: u8| {
        let address = stage.network.node(name).address();
        format!("tcp:{address}:{PORT},weight={weight}")
    };
    let (east, west) = (backend("east", 3), backend("west", 1));
    let app = ["--backend", &east, "--backend", &west];
    stage
        .group
        .add_app(0, "web", &[&app[..], &["--ready-timeout", "5s"]].concat());
    stage.wait_for("east", "up");
    stage.wait_for("west", "up");

    let sessions = they_are_shared_by_weight(&stage);
    they_are_known_after_a_restart(&mut stage);
    one_that_is_gone_is_passed_over(&stage, &sessions);
    when_none_is_left_it_is_said(&stage);
    a_user_has_only_so_many_tunnels(&stage, &sessions);
}

/// Says its name, then sends back what it is sent.
fn serve(node: &Node, name: &'static str) {
    let listener = node.within(|| TcpListener::bind(("0.0.0.0", PORT)).expect("bound"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                stream.write_all(format!("{name}\n").as_bytes())?;
                let mut back = stream.try_clone()?;
                std::io::copy(&mut stream, &mut back)
            });
        }
    });
}

impl Stage {
    /// How an application server is, as the host says.
    fn here(&self, name: &str) -> Value {
        let shown = self.group.json(0, &["app", "show", "web"]);
        let address = self.network.node(name).address().to_string();
        let here = shown.get("here").and_then(Value::as_array).cloned();
        let mut all = here.unwrap_or_default().into_iter();
        all.find(|one| text(one, "backend").contains(&address))
            .unwrap_or_else(|| panic!("no {name} in {shown}"))
    }

    fn wait_for(&self, name: &str, state: &str) {
        eventually(seconds(30), &format!("{name} is {state}"), || {
            text(&self.here(name), "state") == state
        });
    }

    fn connect(&self, token: &str) -> Process {
        let viewer = self.network.node("viewer");
        self.group.connect(Some(viewer), "ann", token, "web")
    }

    /// Which application server answers a new viewer.
    fn answers(&self, connect: &Process) -> (String, TcpStream) {
        let listen = testkit::listening(connect, seconds(30));
        let stream = self.network.node("viewer").connect(listen, seconds(5));
        let mut stream = stream.expect("the viewer connects");
        stream
            .set_read_timeout(Some(seconds(30)))
            .expect("a timeout");
        let (mut name, mut byte) = (String::new(), [0]);
        while stream.read_exact(&mut byte).is_ok() && byte != *b"\n" {
            name.extend(byte.map(char::from));
        }
        (name, stream)
    }
}

/// Three of four are the stronger one's, and all viewers of a session reach the same.
fn they_are_shared_by_weight(stage: &Stage) -> Vec<(Process, String)> {
    let sessions: Vec<(Process, String)> = (0..4)
        .map(|number| {
            let connect = stage.connect(&format!("card.{number}"));
            let (name, _first) = stage.answers(&connect);
            let (again, _second) = stage.answers(&connect);
            assert_eq!(name, again, "one session, two of them");
            (connect, name)
        })
        .collect();
    let of = |name: &str| sessions.iter().filter(|(_, found)| found == name).count();
    assert_eq!((of("east"), of("west")), (3, 1));
    let shown = ["east", "west"].map(|name| number(&stage.here(name), "sessions"));
    assert_eq!(shown, [3, 1]);
    sessions
}

fn they_are_known_after_a_restart(stage: &mut Stage) {
    stage.group.kill(0);
    stage.group.serve(0);
    stage.group.wait_until_answering(0);
    eventually(seconds(30), "who has which is known again", || {
        let shown = ["east", "west"].map(|name| number(&stage.here(name), "sessions"));
        shown == [3, 1]
    });
    stage.wait_for("east", "up");
}

fn one_that_is_gone_is_passed_over(stage: &Stage, sessions: &[(Process, String)]) {
    stage.network.node("east").unplug();
    stage.wait_for("east", "down");
    let status = stage.group.json(0, &["status"]).to_string();
    assert!(status.contains("is down since"), "{status}");
    it_is_shown_and_told(stage, &["down"]);
    // New sessions go to the other one, and so does a session whose own is gone.
    let fresh = stage.connect("card.fresh");
    assert_eq!(stage.answers(&fresh).0, "west");
    let (moved, _) = sessions
        .iter()
        .find(|(_, name)| name == "east")
        .expect("one of east's");
    assert_eq!(stage.answers(moved).0, "west");
    stage.network.node("east").plug();
    stage.wait_for("east", "up");
    assert_eq!(stage.answers(&fresh).0, "west", "it stays with what it has");
    let next = stage.connect("card.next");
    assert_eq!(stage.answers(&next).0, "east");
    it_is_shown_and_told(stage, &["down", "up"]);
}

/// The server says how its backends are, and the journal what became of one, from a moment on.
fn it_is_shown_and_told(stage: &Stage, turns: &[&str]) {
    let address = stage.network.node("east").address().to_string();
    let shown = stage.group.json(0, &["server", "show", "boston"]);
    let backends = shown.get("backends").and_then(Value::as_array);
    let east = backends.into_iter().flatten();
    let east: Vec<&Value> = east
        .filter(|one| text(one, "backend").contains(&address))
        .collect();
    let [east] = east[..] else {
        panic!("no east in {shown}");
    };
    assert_eq!(Some(&text(east, "state").as_str()), turns.last());
    let words = ["event", "list", "--kind", "backend-reachability"];
    eventually(seconds(30), "the journal has it", || {
        let listed = stage.group.json(0, &words);
        let events = listed.as_array().into_iter().flatten();
        let events = events.filter(|event| text(event, "subject").contains(&address));
        let told: Vec<String> = events
            .map(|event| text(&event["fields"], "state"))
            .collect();
        told == turns
    });
}

fn a_user_has_only_so_many_tunnels(stage: &Stage, sessions: &[(Process, String)]) {
    let (connect, _) = sessions.first().expect("there are four");
    let (name, _viewer) = stage.answers(connect);
    assert_ne!(name, "", "a tunnel");
    let limit = ["config", "set", "tunnel.max-per-user", "1"];
    stage.group.json(0, &limit);
    let refused = stage.connect("card.more");
    assert_eq!(stage.answers(&refused).0, "");
    stage
        .group
        .json(0, &["config", "unset", "tunnel.max-per-user"]);
    let allowed = stage.connect("card.allowed");
    assert_ne!(stage.answers(&allowed).0, "");
}

fn when_none_is_left_it_is_said(stage: &Stage) {
    for name in ["east", "west"] {
        stage.network.node(name).unplug();
    }
    for name in ["east", "west"] {
        stage.wait_for(name, "down");
    }
    let refused = stage.connect("card.late");
    assert_eq!(stage.answers(&refused).0, "");
    let why = text(&event(&refused, "ended", seconds(20)), "reason");
    assert!(
        why.contains("no backend of web is up on server boston"),
        "{why}"
    );
    for name in ["east", "west"] {
        stage.network.node(name).plug();
        stage.wait_for(name, "up");
    }
    let back = stage.connect("card.late");
    event(&back, "ready", seconds(30));
    assert_ne!(stage.answers(&back).0, "");
}
