//! Servers that are drained: what goes elsewhere, when, and who is told.

use crate::list;
use std::io::Write;
use std::net::TcpStream;
use testkit::{Group, Process, eventually, seconds, text};

/// A token's session of an application, on a server that is chosen by hand; nobody uses it.
fn put(group: &Group, token: &str, app: &str, on: &str) -> String {
    let words = [
        "select", "--token", token, "--app", app, "--user", "ann", "--to", on,
    ];
    let session = group.json(0, &words);
    let id = text(&session, "id");
    eventually(seconds(20), "it is ready", || {
        let shown = group.json(0, &["session", "show", &id]);
        text(&shown, "state") == "suspended"
    });
    id
}

fn host_of(group: &Group, token: &str) -> String {
    let found = group.json(0, &["session", "list", "--token", token]);
    let [session] = list(&found) else {
        panic!("one session of {token}: {found}");
    };
    text(session, "host")
}

/// A session that somebody uses.
struct Used {
    connect: Process,
    id: String,
    _viewer: TcpStream,
}

fn use_it(group: &Group, token: &str) -> Used {
    let connect = group.connect(None, "ann", token, "shell");
    let ready = testkit::event(&connect, "ready", seconds(30));
    let mut viewer = TcpStream::connect(text(&ready, "listen")).expect("connected");
    viewer.write_all(b"here\n").expect("written");
    let id = text(&ready, "session");
    eventually(seconds(20), "it is in use", || {
        let shown = group.json(0, &["session", "show", &id]);
        text(&shown, "state") == "active"
    });
    Used {
        connect,
        id,
        _viewer: viewer,
    }
}

/// Sessions without a client go at once, one in use when its time has come; an application's sessions stay where it says so.
pub(super) fn servers_are_drained(group: &Group) {
    let third = group.server(2).name();
    let launch = ["--launch", "@pty /bin/cat", "--on-drain", "keep"];
    group.json(0, &[&["app", "add", "kept"][..], &launch].concat());
    put(group, "card.left", "shell", third);
    put(group, "card.kept", "kept", third);
    put(group, "card.used", "shell", third);
    let used = use_it(group, "card.used");
    a_plan_names_them(group, third);
    whoever_uses_one_is_asked(group, third, &used);
    what_is_left_goes_at_the_deadline(group, third, &used);
    drop(used);
    several_are_drained_together(group);
    for token in ["card.left", "card.used", "card.wanted", "card.kept"] {
        let found = group.json(0, &["session", "list", "--token", token]);
        for session in list(&found) {
            group.json(0, &["session", "end", &text(session, "id")]);
        }
    }
}

fn drain<'a>(server: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let words = [
        "server",
        "offline",
        server,
        "--drain",
        "--reason",
        "new disks",
    ];
    [&words[..], more].concat()
}

/// It says by name what would move, and nothing has happened.
fn a_plan_names_them(group: &Group, third: &str) {
    let plan = group.json(0, &drain(third, &["--dry-run"]));
    let tokens = list(&plan["moved"]).iter().map(|it| text(it, "token"));
    let moved: Vec<String> = tokens.collect();
    assert!(moved.contains(&"card.left".to_owned()), "{plan}");
    assert!(moved.contains(&"card.used".to_owned()), "{plan}");
    assert!(!moved.contains(&"card.kept".to_owned()), "{plan}");
    let steps = plan["steps"].to_string();
    assert!(steps.contains("kept keeps its sessions"), "{plan}");
    let shown = group.json(0, &["server", "show", third]);
    assert_eq!(text(&shown, "mode"), "online");
}

/// Whoever uses a session is told who wants it gone, why and by when; and that nobody does any more.
fn whoever_uses_one_is_asked(group: &Group, third: &str, used: &Used) {
    let begun = group.json(0, &drain(third, &["--deadline", "10m"]));
    assert_eq!(text(&begun["offline"], "reason"), "new disks");
    let asked = testkit::event(&used.connect, "move-due", seconds(20));
    let said = ["session", "host", "reason"].map(|field| text(&asked, field));
    assert_eq!(said, [&used.id, third, "new disks"]);
    let within = asked["within_ms"].as_u64().expect("a number");
    assert!((500_000..=600_000).contains(&within), "{asked}");
    eventually(seconds(20), "the unused one has gone", || {
        host_of(group, "card.left") != third
    });
    assert_eq!(host_of(group, "card.used"), third, "its user is asked");
    let attention = group.json(0, &["status"])["attention"].to_string();
    assert!(attention.contains("it is being drained"), "{attention}");
    let shown = group.json(0, &["server", "show", third]);
    assert!(shown["offline"]["drain"]["finished"].is_null(), "{shown}");
    group.json(0, &["server", "online", third]);
    testkit::event(&used.connect, "move-cancelled", seconds(20));
}

/// It goes, with whoever uses it; the kept one stays, and so does who asks for the server by name afterwards.
fn what_is_left_goes_at_the_deadline(group: &Group, third: &str, used: &Used) {
    let done = group.json(0, &drain(third, &["--deadline", "1s", "--wait"]));
    assert_eq!(done["offline"]["drain"]["left"], 0, "{done}");
    assert!(done["offline"]["drain"]["finished"].is_string(), "{done}");
    let told = testkit::event(&used.connect, "moved", seconds(20));
    assert_eq!(text(&told, "from"), third);
    let why = format!("the drain of {third}");
    assert!(text(&told, "reason").contains(&why), "{told}");
    assert_eq!(host_of(group, "card.kept"), third);
    assert_ne!(host_of(group, "card.used"), third);
    let events = group.json(0, &["event", "list", "--kind", "server-drained"]);
    let last = list(&events).last().cloned().expect("an event");
    let counts = (&last["fields"]["moved"], &last["fields"]["kept"]);
    assert_eq!(counts, (&"1".into(), &"1".into()));
    put(group, "card.wanted", "shell", third);
    assert_eq!(host_of(group, "card.wanted"), third);
}

/// Nothing goes from one to the other.
fn several_are_drained_together(group: &Group) {
    let (second, third) = (group.server(1).name(), group.server(2).name());
    let left = host_of(group, "card.left");
    if left != second {
        let found = group.json(0, &["session", "list", "--token", "card.left"]);
        let id = text(&list(&found)[0], "id");
        group.json(0, &["session", "move", &id, "--to", second]);
    }
    let words = [third, "--deadline", "0s", "--wait"];
    let both = group.json(0, &drain(second, &words));
    assert_eq!(list(&both).len(), 2, "{both}");
    for token in ["card.left", "card.used", "card.wanted"] {
        assert_eq!(host_of(group, token), group.server(0).name(), "{token}");
    }
    for server in [second, third] {
        group.json(0, &["server", "online", server]);
    }
    group.fails(0, 4, &drain(second, &["nowhere"]));
    let shown = group.json(0, &["server", "show", second]);
    assert_eq!(text(&shown, "mode"), "online", "all or none");
}
