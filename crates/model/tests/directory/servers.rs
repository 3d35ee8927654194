//! What people do with servers, told as transcripts: described, taken offline, drained.

use crate::common::*;
use crate::stories::Transcript;
use model::server::Offline;
use model::*;

#[test]
fn what_people_say_of_a_server_is_changed() {
    let mut story = Transcript::of(Told::four_servers());
    let edit = |power, labels: &[(&str, Option<&str>)], external| Command::EditServer {
        server: NEWYORK,
        power,
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)))
            .collect(),
        external,
    };
    let at = |network: &str, address: &str| ExternalAddress {
        network: network.parse().unwrap(),
        address: address.to_owned(),
    };
    story.tell("twice the power", edit(Some(2_000), &[], None));
    story.tell("the same again", edit(Some(2_000), &[], None));
    story.tell("too much", edit(Some(2_000_000), &[], None));
    let labels = [("rack", Some("a")), ("gpu", Some("yes"))];
    story.tell("two labels", edit(None, &labels, None));
    let labels = [("rack", Some("b")), ("gpu", None), ("disk", None)];
    story.tell("one is changed, one goes", edit(None, &labels, None));
    let external = vec![
        at("10.0.0.0/8", "10.1.0.4:5443"),
        at("0.0.0.0/0", "out.example.org:443"),
    ];
    story.tell("two addresses", edit(None, &[], Some(external)));
    let wrong = vec![at("10.0.0.0/8", "nowhere")];
    story.tell("without a port", edit(None, &[], Some(wrong)));
    let server = story.told.directory.server(NEWYORK).unwrap();
    let told = |client: &str| server.address_for(client.parse().unwrap());
    assert_eq!(told("10.2.3.4"), "10.1.0.4:5443");
    assert_eq!(told("::ffff:10.2.3.4"), "10.1.0.4:5443");
    assert_eq!(told("192.0.2.7"), "out.example.org:443");
    assert_eq!(told("2001:db8::1"), server.client_address);
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_server_is_reached_elsewhere() {
    let mut story = Transcript::of(Told::four_servers());
    let set = |server, peer: Option<&str>, client: Option<&str>| Command::SetAddresses {
        server,
        peer_address: peer.map(str::to_owned),
        client_address: client.map(str::to_owned),
    };
    let name = Some("newyork.example.net:5427");
    story.tell("under a name", set(NEWYORK, name, None));
    story.tell("the same again", set(NEWYORK, name, None));
    let life = NEWYORK.as_bytes()[0];
    let told = report(NEWYORK, life);
    story.tell("what it says itself does not count", told);
    let (peer, client) = (Some("10.9.0.1:5427"), Some("10.9.0.1:5443"));
    story.tell("both elsewhere", set(NEWYORK, peer, client));
    story.tell("boston cannot have that too", set(BOSTON, None, client));
    let both = Some("10.9.0.1:6000");
    story.tell("two ports at one", set(NEWYORK, both, both));
    story.tell("no port", set(NEWYORK, Some("10.9.0.1:0"), None));
    story.tell("no address", set(NEWYORK, Some("10.9.0.1"), None));
    let server = story.told.directory.server(NEWYORK).unwrap();
    assert_eq!(Some(&*server.peer_address), peer);
    assert_eq!(Some(&*server.client_address), client);
    insta::assert_snapshot!(story.text);
}

/// Two servers are drained together; one application's sessions stay.
#[test]
fn servers_are_drained() {
    let mut story = Transcript::of(Told::four_servers());
    let kept = Application {
        on_drain: OnDrain::Keep,
        ..shell("editor")
    };
    story.tell("an editor's sessions stay", put_app(kept, None));
    let offline = |servers: &[ServerId], until, drain| Command::SetMode {
        servers: servers.to_vec(),
        mode: Mode::Offline(Offline {
            by: "ann".to_owned(),
            reason: Some("new disks".to_owned()),
            since: UnixMillis(0),
            until,
            drain,
        }),
    };
    let until = |story: &Transcript, ms| UnixMillis(story.told.now().0 + ms);
    let drain = |deadline| {
        let finished = None;
        Some(Drain { deadline, finished })
    };
    let shells = create(1, "card.7", "bob", "shell", NEWYORK);
    story.tell("bob starts a shell", shells);
    let editor = create(2, "card.7", "bob", "editor", NEWYORK);
    story.tell("and an editor", editor);
    let (soon, later) = (until(&story, 60_000), until(&story, 90_000));
    let unknown = ServerId::from_bytes([0x77; 16]);
    story.tell(
        "one of the two is no member: neither goes",
        offline(&[NEWYORK, unknown], None, drain(later)),
    );
    story.tell(
        "it would be online again before the deadline",
        offline(&[NEWYORK], Some(soon), drain(later)),
    );
    story.tell(
        "two servers are drained",
        offline(&[NEWYORK, BOSTON], None, drain(later)),
    );
    let finish = |server| Command::FinishDrain { server };
    story.tell("boston has nothing to move", finish(BOSTON));
    story.tell("told twice, it is said once", finish(BOSTON));
    story.tell("newyork has a shell yet", finish(NEWYORK));
    story.told.wait(1_000);
    story.tell(
        "eve asks for newyork by name",
        create(3, "card.8", "eve", "shell", NEWYORK),
    );
    story.tell(
        "the shell goes on in seattle",
        Command::MoveSession {
            session: session_id(1),
            new: session_id(4),
            to: SEATTLE,
            by: "a drain".to_owned(),
        },
    );
    story.tell("whoever came later stays", finish(NEWYORK));
    let online = |server| Command::SetMode {
        servers: vec![server],
        mode: Mode::Online,
    };
    story.tell("newyork is back", online(NEWYORK));
    story.tell("and has nothing to finish", finish(NEWYORK));
    story.sessions();
    insta::assert_snapshot!(story.text);
}
