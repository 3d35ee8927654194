//! What scripts rely on, checked at a running group of three: fields, times and units of every `--json`, exit codes, the
//! ways to say which group is meant; and the commands that change the group's shape, each seen from every server.
//!
//! One group lives through all of it, so that the parts are in the order of what they do to it: first those that look,
//! at the end those that take servers away. Start at [`what_scripts_rely_on`].

#![expect(
    clippy::indexing_slicing,
    reason = "a field that is absent is null, and fails the comparison with what was expected"
)]

mod choosing;
mod draining;

use client::{Api, Call, Target};
use hyper::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::TcpStream;
use testkit::{Group, Machine, PASSWORD, Process, eventually, seconds, text};

/// What `status --json` has at least.
const STATUS: [&str; 15] = [
    "group",
    "formation",
    "primary",
    "role",
    "mode",
    "acting",
    "quorum",
    "can_lose",
    "servers",
    "addresses",
    "last_failover",
    "paused",
    "peer_address",
    "client_address",
    "nbd_address",
];
/// What each of its servers has.
const STATUS_SERVER: [&str; 13] = [
    "name",
    "id",
    "role",
    "voter",
    "reachable",
    "mode",
    "lag_changes",
    "sessions",
    "load",
    "version",
    "clock_offset_ms",
    "certificate_expires",
    "last_seen_ms",
];
/// Fields that are times.
const TIMES: [&str; 18] = [
    "at",
    "since",
    "created",
    "expires",
    "last_attached",
    "certificate_expires",
    "ca_expires",
    "joined",
    "made",
    "started",
    "until",
    "ended",
    "password_set",
    "last_success",
    "last_seen",
    "primary_since",
    "deadline",
    "finished",
];
/// Words in names of fields that are durations.
const SPANS: [&str; 8] = [
    "outage", "timeout", "lag_", "age", "offset", "delay", "lifetime", "retain",
];

#[test]
fn what_scripts_rely_on() {
    let _machine = Machine::alone();
    let home = tempfile::tempdir().expect("a folder");
    let mut group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(4)
        .environment("HOME", &home.path().to_string_lossy())
        .start_first();
    group.join(1);
    group.join(2);
    group.wait_for_voters();
    group.add_user(0, "ann");
    group.add_app(0, "bulk", &["--backend", "tcp:127.0.0.1:9"]);
    group.add_app(0, "shell", &["--launch", "@pty /bin/cat"]);

    founding(&group);
    exit_codes(&group);
    let token = which_group_is_meant(&group);
    sessions_through_the_api(&group, &token);
    sessions_end(&group);
    choosing::sessions_are_selected(&group);
    choosing::sessions_are_moved(&group);
    choosing::sessions_are_picked(&group);
    choosing::servers_are_described(&group);
    every_list(&group);
    status_at_every_server(&group);
    explanations_and_trust(&group);
    servers_offline_and_online(&group);
    draining::servers_are_drained(&group);
    failover_paused_and_resumed(&group);
    each_server_is_promoted(&group);
    a_fourth_joins_and_leaves(&mut group);
    the_primary_dies_and_is_removed(&mut group);
}

/// Says where in a value a time is none, or a span has no unit.
#[track_caller]
fn assert_times_and_units(value: &Value, of: &str) {
    match value {
        Value::Array(all) => all.iter().for_each(|one| assert_times_and_units(one, of)),
        Value::Object(fields) => {
            for (name, field) in fields {
                if TIMES.contains(&name.as_str()) && !field.is_null() {
                    let time = field.as_str().unwrap_or_default();
                    let is_time = time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok();
                    assert!(is_time, "{of}: {name} is {field}");
                }
                if field.is_number() && SPANS.iter().any(|span| name.contains(span)) {
                    let has_unit = ["_ms", "_s", "_changes"]
                        .iter()
                        .any(|unit| name.ends_with(unit));
                    assert!(has_unit, "{of}: {name} has no unit");
                }
                assert_times_and_units(field, of);
            }
        }
        _ => {}
    }
}

#[track_caller]
fn assert_has(object: &Value, fields: &[&str]) {
    for field in fields {
        assert!(object.get(field).is_some(), "no {field} in {object:#}");
    }
}

#[track_caller]
fn list(value: &Value) -> &[Value] {
    value
        .as_array()
        .unwrap_or_else(|| panic!("no list: {value}"))
}

/// A group of one elsewhere: what `init` says, and what it says the second time.
fn founding(group: &Group) {
    let password = group.password_file().to_string_lossy().into_owned();
    let init = |folder: &str| {
        let mut command = group.command(0);
        command.args([
            "init",
            "--name",
            "alone",
            "--group",
            "elsewhere",
            "--json",
            "--data",
        ]);
        command.arg(group.folder().join(folder));
        command.args(["--peer", "127.0.0.1:0", "--client", "127.0.0.1:0"]);
        command.args(["--admin-password-file", &password]);
        let mut process = Process::start("init", &mut command);
        let code = process.wait(seconds(30)).code();
        (
            code,
            process.output().join("\n"),
            process.errors().join("\n"),
        )
    };
    let (code, said, _) = init("elsewhere");
    assert_eq!(code, Some(0));
    let made: Value = serde_json::from_str(&said).expect("JSON");
    let fields = [
        "group",
        "group_id",
        "server",
        "server_id",
        "administrator",
        "ca_fingerprint",
        "data",
        "peer_address",
        "client_address",
    ];
    assert_has(&made, &fields);
    assert_eq!(
        (made["server"].as_str(), made["administrator"].as_str()),
        (Some("alone"), Some("admin"))
    );
    assert!(
        text(&made, "ca_fingerprint").starts_with("sha256:")
            && made["ca_fingerprint"] != *group.ca()
    );
    let (code, said, errors) = init("elsewhere");
    assert_eq!((code, said.as_str()), (Some(4), ""), "{errors}");
}

fn exit_codes(group: &Group) {
    assert_eq!(group.run(0, &["status"]).code, Some(0));
    let missing = group.folder().join("missing").display().to_string();
    let failed = ["user", "add", "bob", "--password-file", &missing];
    group.fails(0, 1, &failed);
    let slip = group.run(0, &["app", "ad"]);
    assert_eq!(slip.code, Some(2));
    assert!(slip.errors.contains("'add'"), "{slip:?}");
    // The fourth server does not exist yet.
    assert!(group.fails(3, 3, &["status"]).contains("stead serve"));
    let refused = group.fails(0, 4, &["app", "show", "bulc"]);
    assert!(refused.contains("bulk"), "{refused}");
    for arguments in [
        &["status"][..],
        &["app", "show", "bulc"],
        &["explain", "--why-not", "s9"],
    ] {
        let at_each: BTreeSet<_> = (0..3)
            .map(|index| group.run(index, arguments).code)
            .collect();
        assert_eq!(at_each.len(), 1, "{arguments:?} differs between servers");
    }
}

/// `--data`, `--server` and `--ca`, before and after the command and in the environment. Returns a bearer token.
fn which_group_is_meant(group: &Group) -> String {
    let data = group.server(1).data().display().to_string();
    let remote = group.remote_arguments();
    let [_, servers, _, ca] = &remote;
    let run = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = group.command(0);
        command
            .args(arguments)
            .envs(environment.iter().copied())
            .arg("--json");
        let mut process = Process::start(&arguments.join(" "), &mut command);
        let code = process.wait(seconds(30)).code();
        let said = process.output().join("\n");
        let status: Value = serde_json::from_str(&said).unwrap_or(Value::Null);
        (code, status["group"].as_str().map(str::to_owned))
    };
    let ours = (Some(0), Some("testers".to_owned()));
    assert_eq!(run(&["--data", &data, "status"], &[]), ours);
    assert_eq!(run(&["status", "--data", &data], &[]), ours);
    assert_eq!(run(&["status"], &[("STEAD_DATA", &data)]), ours);
    let api = api(group, None);
    let refused = [("STEAD_SERVER", servers.as_str()), ("STEAD_CA", ca)];
    assert_eq!(
        run(&["status"], &refused),
        (Some(4), None),
        "without a login"
    );

    let login = Call {
        method: Method::POST,
        path: "/v1/login",
        body: Some(json!({ "user": "admin", "password": PASSWORD })),
        headers: Vec::new(),
    };
    let (status, login) = call(&api, login);
    assert_eq!(status, 200, "{login}");
    assert_times_and_units(&login, "login");
    let token = text(&login, "token");
    let environment = [
        ("STEAD_SERVER", servers.as_str()),
        ("STEAD_CA", ca),
        ("STEAD_API_TOKEN", &token),
    ];
    assert_eq!(run(&["status"], &environment), ours);
    let only_token = [("STEAD_API_TOKEN", token.as_str())];
    assert_eq!(
        run(&["--server", servers, "--ca", ca, "status"], &only_token),
        ours
    );
    assert_eq!(
        run(&["status", "--server", servers, "--ca", ca], &only_token),
        ours
    );
    assert_eq!(
        run(&["status", "--data", &data], &environment),
        ours,
        "what is said outdoes the environment"
    );
    // Any server will do, also when the first of them is none.
    let some = format!("127.0.0.1:1,{servers}");
    assert_eq!(
        run(&["status", "--server", &some, "--ca", ca], &only_token),
        ours
    );
    token
}

fn api(group: &Group, bearer: Option<&str>) -> Api {
    Api::new(Target::Remote {
        servers: group
            .client_addresses()
            .split(',')
            .map(str::to_owned)
            .collect(),
        ca: group.ca().parse().expect("a fingerprint"),
        bearer: bearer.map(str::to_owned),
    })
    .with_answer_time(seconds(30))
}

/// The status and the body of an answer.
fn call(api: &Api, call: Call<'_>) -> (u16, Value) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let reply = runtime.block_on(api.call(call)).expect("an answer");
    let body = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
    (reply.status, body)
}

fn sessions_through_the_api(group: &Group, token: &str) {
    let admin = api(group, Some(token));
    let open = |api: &Api, token: &str, host: Option<&str>, key: Option<&str>| {
        let body = json!({ "token": token, "user": "ann", "app": "bulk", "host": host });
        let headers = key.map(|key| ("idempotency-key".to_owned(), key.to_owned()));
        call(
            api,
            Call {
                method: Method::POST,
                path: "/v1/sessions",
                body: Some(body),
                headers: headers.into_iter().collect(),
            },
        )
    };
    let (status, made) = open(&admin, "card.api", Some("s3"), Some("one"));
    assert_eq!(status, 201, "{made}");
    assert_eq!(
        (made["host"].as_str(), made["current"].as_bool()),
        (Some("s3"), Some(true))
    );
    assert_times_and_units(&made, "a session");
    // The same request again, and another one for what is there.
    let again = open(&admin, "card.api", Some("s3"), Some("one"));
    assert_eq!(again.1["id"], made["id"], "{again:?}");
    let found = open(&admin, "card.api", None, None);
    assert_eq!((found.0, &found.1["id"]), (200, &made["id"]), "{found:?}");
    let (status, refused) = open(&admin, "card.api2", Some("s9"), None);
    assert_eq!((status, &refused["exit"]), (404, &json!(4)), "{refused}");

    let login = |user: &str| {
        let body = json!({ "user": user, "password": PASSWORD });
        let (status, login) = call(
            &api(group, None),
            Call {
                method: Method::POST,
                path: "/v1/login",
                body: Some(body),
                headers: Vec::new(),
            },
        );
        assert_eq!(status, 200, "{login}");
        text(&login, "token")
    };
    let (status, refused) = open(&api(group, Some(&login("ann"))), "card.ann", None, None);
    assert_eq!((status, &refused["exit"]), (403, &json!(4)), "{refused}");
    let (status, refused) = open(&api(group, None), "card.nobody", None, None);
    assert_eq!((status, &refused["exit"]), (401, &json!(4)), "{refused}");
    let tokens: BTreeSet<String> = list(&group.json(2, &["session", "list"]))
        .iter()
        .map(|session| text(session, "token"))
        .collect();
    assert_eq!(tokens, BTreeSet::from(["card.api".to_owned()]));
}

/// A session that runs is ended from another server than its host; its client is told, and its keeper goes.
fn sessions_end(group: &Group) {
    let mut connect = group.connect(None, "ann", "card.shell", "shell");
    let ready = testkit::event(&connect, "ready", seconds(30));
    let (id, host) = (text(&ready, "session"), text(&ready, "host"));
    let port = testkit::listening(&connect, seconds(1));
    let _viewer = TcpStream::connect(port).expect("the local port");
    let elsewhere = (0..3)
        .find(|index| group.server(*index).name() != host)
        .expect("another server");
    eventually(seconds(20), "the session to be active", || {
        let shown = group.json(elsewhere, &["session", "show", &id]);
        shown["state"] == "active" && shown["client"].is_string()
    });
    group.json(elsewhere, &["session", "end", &id]);
    let ended = testkit::event(&connect, "ended", seconds(20));
    assert!(text(&ended, "reason").contains("ended it"), "{ended}");
    connect.wait(seconds(20));
    let shown = group.json(elsewhere, &["session", "show", &id]);
    assert_eq!(text(&shown, "state"), "ended");
    assert_has(&shown, &["ended", "reason"]);
    assert_times_and_units(&shown, "an ended session");
    let listed = group.json(0, &["session", "list"]);
    assert!(
        list(&listed).iter().all(|session| session["id"] != *id),
        "{listed}"
    );
    group.fails(0, 4, &["session", "end", "00000000000000000000"]);
}

fn every_list(group: &Group) {
    let session = [
        "id",
        "token",
        "user",
        "app",
        "host",
        "state",
        "created",
        "client",
        "last_attached",
    ];
    let event = [
        "seq", "at", "server", "kind", "severity", "subject", "fields", "reasons",
    ];
    let audited = [
        "id", "at", "who", "from", "action", "subject", "before", "after", "details",
    ];
    let setting = [
        "name", "value", "source", "default", "range", "unit", "help",
    ];
    let lists: [(&[&str], &[&str]); 10] = [
        (&["session", "list"], &session),
        (&["session", "list", "--all"], &session),
        (&["event", "list"], &event),
        (&["audit", "list"], &audited),
        (&["event", "kinds"], &["name", "help"]),
        (&["server", "list"], &STATUS_SERVER),
        (&["user", "list"], &["name", "role", "groups", "disabled"]),
        (
            &["app", "list"],
            &[
                "name",
                "launch",
                "backends",
                "ready_timeout_ms",
                "resumable",
            ],
        ),
        (&["config", "list"], &setting),
        (
            &["group", "list"],
            &["name", "id", "role", "voter", "reachable"],
        ),
    ];
    for (arguments, fields) in lists {
        let of = arguments.join(" ");
        let mut names = BTreeSet::new();
        for index in 0..3 {
            let listed = group.json(index, arguments);
            let entries = list(&listed);
            assert!(!entries.is_empty(), "{of} lists nothing");
            for entry in entries {
                assert_has(entry, fields);
                assert_times_and_units(entry, &of);
                if let Some(server) = entry.get("host").or(entry.get("server")) {
                    let known = ["s1", "s2", "s3"].map(|name| json!(name));
                    assert!(server.is_null() || known.contains(server), "{of}: {server}");
                }
            }
            let name = |entry: &Value| {
                let name = entry.get("name").or(entry.get("id")).or(entry.get("seq"));
                name.unwrap_or_else(|| panic!("{of}: no name in {entry}"))
                    .to_string()
            };
            names.insert(entries.iter().map(name).collect::<Vec<_>>());
        }
        assert_eq!(names.len(), 1, "{of} differs between servers: {names:?}");
    }
}

fn status_at_every_server(group: &Group) {
    let mut ids = BTreeSet::new();
    for index in 0..3 {
        let status = group.json(index, &["status"]);
        assert_has(&status, &STATUS);
        assert_has(&status["formation"], &["number", "id", "original"]);
        assert_has(&status["primary"], &["name", "since"]);
        assert_has(&status["quorum"], &["voters", "reachable", "needed"]);
        assert_times_and_units(&status, "status");
        assert_eq!(status["group"], "testers");
        assert_eq!(status["mode"], "quorum");
        assert_eq!(status["can_lose"], 1, "{status:#}");
        let quorum = &status["quorum"];
        assert_eq!(
            (&quorum["voters"], &quorum["needed"]),
            (&json!(3), &json!(2))
        );
        let me = group.server(index);
        assert_eq!(text(&status, "peer_address"), me.peer_address().to_string());
        assert_eq!(
            text(&status, "client_address"),
            me.client_address().to_string()
        );
        let is_primary = status["primary"]["name"] == *me.name();
        assert_eq!(status["acting"], is_primary);
        assert_eq!(
            status["role"],
            if is_primary { "primary" } else { "secondary" }
        );
        let servers = list(&status["servers"]);
        assert_eq!(servers.len(), 3);
        for server in servers {
            assert_has(server, &STATUS_SERVER);
            assert_eq!(
                (&server["mode"], &server["voter"], &server["reachable"]),
                (&json!("online"), &json!(true), &json!(true)),
                "{server:#}"
            );
            assert!(
                server["sessions"].is_u64() && server["version"].is_string(),
                "{server:#}"
            );
        }
        assert_eq!(
            servers_sessions(&status),
            list(&group.json(index, &["session", "list"])).len() as u64
        );
        ids.insert(text(&status["formation"], "id"));
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
}

/// Sessions of all servers together.
fn servers_sessions(status: &Value) -> u64 {
    let servers = list(&status["servers"]).iter();
    servers
        .map(|server| server["sessions"].as_u64().unwrap_or_default())
        .sum()
}

fn explanations_and_trust(group: &Group) {
    let primary = group.wait_for_acting(seconds(10));
    let other = group.server((primary + 1) % 3).name().to_owned();
    for arguments in [
        &["explain"][..],
        &["explain", "--why-not", &other],
        &["explain", "--placement"],
        &["explain", "--placement", "--app", "bulk"],
    ] {
        let explained = group.json(primary, arguments);
        assert!(explained["decision"].is_string(), "{explained}");
        assert_times_and_units(&explained, "explain");
        let candidates = list(&explained["candidates"]);
        assert!(!candidates.is_empty(), "{arguments:?}: {explained}");
        for candidate in candidates {
            assert!(
                candidate["name"].is_string() && candidate["eligible"].is_boolean(),
                "{candidate}"
            );
            for reason in list(&candidate["reasons"]) {
                assert!(
                    reason["rule"].is_string()
                        && reason["pass"].is_boolean()
                        && reason["detail"].is_string(),
                    "{reason}"
                );
            }
        }
    }
    for index in 0..3 {
        let trust = group.json(index, &["trust", "show"]);
        assert_eq!(text(&trust, "ca_fingerprint"), group.ca());
        assert_times_and_units(&trust, "trust show");
    }
}

fn servers_offline_and_online(group: &Group) {
    let placed = |name: &str| {
        let explained = group.json(0, &["explain", "--placement", "--app", "bulk"]);
        list(&explained["candidates"])
            .iter()
            .find(|candidate| candidate["name"] == *name)
            .map(|candidate| candidate["eligible"] == true)
    };
    let off = group.json(
        0,
        &[
            "server",
            "offline",
            "s2",
            "--reason",
            "new disks",
            "--for",
            "4h",
        ],
    );
    assert_times_and_units(&off, "server offline");
    assert_eq!(
        (&off["mode"], &off["offline"]["reason"]),
        (&json!("offline"), &json!("new disks"))
    );
    assert!(off["offline"]["until"].is_string() && off["offline"]["by"].is_string());
    assert_eq!(placed("s2"), Some(false));
    for index in 0..3 {
        let shown = group.json(index, &["server", "show", "s2"]);
        assert_eq!(shown["mode"], "offline");
        let status = group.json(index, &["status"]);
        assert!(
            status["attention"].to_string().contains("new disks"),
            "{status:#}"
        );
    }
    group.json(2, &["server", "online", "s2"]);
    assert_eq!(placed("s2"), Some(true));
    for index in 0..3 {
        let shown = group.json(index, &["server", "show", "s2"]);
        assert_eq!(
            (&shown["mode"], &shown["offline"]),
            (&json!("online"), &Value::Null)
        );
    }
}

fn failover_paused_and_resumed(group: &Group) {
    let fields = ["paused", "by", "reason", "since", "until"];
    let paused = |index: usize| group.json(index, &["status"])["paused"].clone();
    let resume = ["group", "resume", "--reason", "done early"];
    let refused = group.fails(1, 4, &resume);
    assert!(
        refused.contains("automatic failover is not paused"),
        "{refused}"
    );
    assert_eq!(paused(0), Value::Null);
    let pause = ["group", "pause", "--reason", "new switches"];
    let with = |more: &[&'static str]| [&pause[..], more].concat();
    let plan = group.json(1, &with(&["--for", "2h", "--dry-run"]));
    assert_eq!(plan["allowed"], true, "{plan:#}");
    assert!(
        plan["warnings"]
            .to_string()
            .contains("does not fail over by itself until"),
        "{plan:#}"
    );
    assert_eq!(paused(1), Value::Null, "a dry run changed something");
    for (span, nearest) in [("59s", "1m"), ("8d", "7d")] {
        let refused = group.fails(0, 4, &with(&["--for", span]));
        let near = format!("the nearest is {nearest}");
        assert!(refused.contains(&near), "{refused}");
    }
    assert_eq!(group.run(0, &["group", "pause"]).code, Some(2));
    group.fails(0, 4, &["group", "pause", "--reason", " "]);

    group.json(2, &["group", "pause", "--reason", "cleaning"]);
    let told = group.json(1, &with(&["--for", "2h"]));
    assert_has(&told, &fields);
    assert_times_and_units(&told, "group pause");
    assert_eq!(
        (&told["paused"], &told["reason"]),
        (&json!(true), &json!("new switches"))
    );
    let lasts = |pause: &Value| {
        let at = |field| text(pause, field).parse::<jiff::Timestamp>();
        let (since, until) = (at("since").expect("a time"), at("until").expect("a time"));
        until.duration_since(since).as_secs()
    };
    assert_eq!(lasts(&told), 7_200);
    for index in 0..3 {
        eventually(seconds(10), "all to know of the pause", || {
            paused(index)["reason"] == "new switches"
        });
        let status = group.json(index, &["status"]);
        for field in &fields[1..] {
            assert_eq!(status["paused"][field], told[field], "{status:#}");
        }
        let words = format!(
            "automatic failover is paused by {} until {}: new switches",
            text(&told, "by"),
            text(&told, "until")
        );
        assert!(
            list(&status["warnings"]).contains(&json!(words)),
            "{status:#}"
        );
        let shown = group.run(index, &["status"]).output;
        assert!(shown.contains("paused by"), "{shown}");
    }
    let plan = group.json(0, &["group", "resume", "--dry-run"]);
    assert_eq!(plan["allowed"], true, "{plan:#}");
    let ended = group.json(2, &resume);
    assert_has(&ended, &fields);
    assert_times_and_units(&ended, "group resume");
    assert_eq!(
        (&ended["paused"], &ended["until"]),
        (&json!(false), &told["until"])
    );
    let again = group.fails(2, 4, &resume);
    assert!(
        again.contains("automatic failover is not paused"),
        "{again}"
    );
    let plan = group.json(2, &["group", "resume", "--dry-run"]);
    assert_eq!(plan["allowed"], false, "{plan:#}");
    assert_eq!(paused(2), Value::Null);
    let events = |kind| list(&group.json(2, &["event", "list", "--kind", kind])).to_vec();
    assert_eq!(events("group-paused").len(), 2);
    let resumed = events("group-resumed");
    assert_eq!(resumed.len(), 1);
    let fields = &resumed[0]["fields"];
    assert_eq!(
        (&fields["by_itself"], &fields["reason"]),
        (&json!("false"), &json!("done early"))
    );
}

fn each_server_is_promoted(group: &Group) {
    let first = group.wait_for_acting(seconds(10));
    for step in 1..=3 {
        let (from, to) = ((first + step - 1) % 3, (first + step) % 3);
        let name = group.server(to).name();
        let change = |index: usize| text(&group.json(index, &["status"]), "change");
        let before = change(from);
        let plan = group.json(from, &["group", "promote", name, "--dry-run"]);
        assert_eq!(plan["allowed"], true, "{plan:#}");
        assert_has(
            &plan,
            &["steps", "checks", "refusals", "outage_ms", "can_lose"],
        );
        assert_times_and_units(&plan, "promote --dry-run");
        assert_eq!(
            (change(from), group.acting()),
            (before, Some(from)),
            "a dry run changed something"
        );
        // Asked at a server that is neither.
        let asked = (first + step + 1) % 3;
        let done = group.json(asked, &["group", "promote", name, "--reason", "by turns"]);
        assert_eq!(
            (text(&done, "from"), text(&done, "to")),
            (group.server(from).name().to_owned(), name.to_owned())
        );
        assert!(done["outage_ms"].is_u64(), "{done}");
        eventually(seconds(10), "all to see the new primary", || {
            (0..3).all(|index| group.primary_seen_by(index) == Some(to))
                && group.acting() == Some(to)
        });
        group.json(asked, &["app", "set", "bulk", "--max-per-user", "any"]);
    }
    let events = group.json(0, &["event", "list", "--kind", "switchover"]);
    assert_eq!(list(&events).len(), 3, "{events:#}");
    for event in list(&events) {
        assert_has(&event["fields"], &["from", "to", "outage_ms"]);
    }
}

fn a_fourth_joins_and_leaves(group: &mut Group) {
    let invitation = group.json(1, &["group", "invite", "--non-voter"]);
    assert_has(&invitation, &["code", "expires", "standing"]);
    assert_times_and_units(&invitation, "group invite");
    let place = group.server(3);
    let (peer, client) = (
        place.peer_address().to_string(),
        place.client_address().to_string(),
    );
    let code = text(&invitation, "code");
    let joined = group.json(
        3,
        &[
            "join", &code, "--name", "s4", "--peer", &peer, "--client", &client,
        ],
    );
    assert_has(
        &joined,
        &[
            "group",
            "server",
            "server_id",
            "peer_address",
            "client_address",
        ],
    );
    assert_eq!(
        (text(&joined, "group"), text(&joined, "server")),
        ("testers".to_owned(), "s4".to_owned())
    );
    group.serve(3);
    let members = |group: &Group, index: usize| list(&group.json(index, &["group", "list"])).len();
    eventually(seconds(30), "all to reach the fourth", || {
        (0..4).all(|index| {
            let listed = group.run(index, &["server", "show", "s4", "--json"]);
            listed.code == Some(0) && listed.json()["reachable"] == true
        })
    });
    let member = group.json(0, &["server", "show", "s4"]);
    assert_eq!(
        (&member["voter"], &member["standing"]),
        (&json!(false), &json!("non-voter"))
    );
    let plan = group.json(2, &["group", "remove", "s4", "--dry-run"]);
    assert_eq!(plan["allowed"], true, "{plan:#}");
    assert_eq!(members(group, 0), 4, "a dry run changed something");
    group.json(2, &["group", "remove", "s4", "--reason", "sold"]);
    eventually(seconds(20), "all to know three", || {
        (0..3).all(|index| members(group, index) == 3)
    });
    let events = group.json(1, &["event", "list", "--kind", "server-removed"]);
    assert!(events.to_string().contains("s4"), "{events}");
    it_stands_alone(group, 3);
    group.kill(3);
}

fn the_primary_dies_and_is_removed(group: &mut Group) {
    let dead = group.wait_for_acting(seconds(10));
    let name = group.server(dead).name().to_owned();
    let others: Vec<usize> = (0..3).filter(|index| *index != dead).collect();
    group.kill(dead);
    let next = group.wait_for_acting(seconds(20));
    let failover = |index: usize| group.json(index, &["status"])["last_failover"].clone();
    eventually(seconds(20), "all to know of the failover", || {
        others.iter().all(|index| failover(*index)["from"] == *name)
    });
    let told = failover(next);
    assert_has(&told, &["at", "from", "to", "outage_ms", "reason"]);
    assert_times_and_units(&told, "last_failover");
    assert_eq!(text(&told, "to"), group.server(next).name());
    for index in &others {
        // One of them may have heard it last a little later than the one that was elected.
        eventually(seconds(5), "the dead server to be missed", || {
            let status = group.json(*index, &["status"]);
            let server = list(&status["servers"])
                .iter()
                .find(|server| server["name"] == *name);
            server.map(|server| &server["reachable"]) == Some(&json!(false))
                && status["can_lose"] == 0
        });
    }
    let plan = group.json(next, &["group", "remove", &name, "--dry-run"]);
    assert_eq!(plan["allowed"], false, "two that need each other: {plan:#}");
    let quorum = ["group", "remove", &name, "--mode", "quorum"];
    let plan = group.json(next, &[&quorum[..], &["--dry-run"]].concat());
    assert_eq!(plan["allowed"], true, "{plan:#}");
    // What it hosted is named as lost.
    let sessions = group.json(next, &["session", "list"]);
    let hosted: Vec<&Value> = list(&sessions)
        .iter()
        .filter(|session| session["host"] == *name)
        .map(|session| &session["id"])
        .collect();
    let lost = list(&plan["lost"]).iter().map(|lost| &lost["id"]);
    assert_eq!(lost.collect::<Vec<_>>(), hosted, "{plan:#}");
    group.json(next, &quorum);
    eventually(seconds(30), "two voters", || {
        others.iter().all(|index| {
            let status = group.json(*index, &["status"]);
            status["quorum"]["voters"] == 2 && list(&status["servers"]).len() == 2
        })
    });
    // What was removed while it was away is not let in again.
    group.serve(dead);
    assert_told_that_it_was_removed(group, dead);
    for index in others {
        assert_eq!(list(&group.json(index, &["group", "list"])).len(), 2);
    }
}

/// Whoever leaves is a group of its own, with what people made and an authority that nobody else has.
fn it_stands_alone(group: &Group, left: usize) {
    let trust = |index: usize| group.json(index, &["trust", "show"]);
    let before = text(&trust(0), "ca_fingerprint");
    eventually(seconds(30), "it to stand alone", || {
        let listed = group.run(left, &["group", "list", "--json"]);
        listed.code == Some(0) && list(&listed.json()).len() == 1
    });
    assert_ne!(text(&trust(left), "ca_fingerprint"), before);
    let users = |index: usize| -> Vec<String> {
        let users = group.json(index, &["user", "list"]);
        list(&users).iter().map(|user| text(user, "name")).collect()
    };
    assert_eq!(users(left), users(0));
    let reset = group.json(left, &["event", "list", "--kind", "group-reset"]);
    assert!(reset.to_string().contains("sold"), "{reset}");
}

#[track_caller]
fn assert_told_that_it_was_removed(group: &mut Group, index: usize) {
    eventually(seconds(30), "the removed server to be told", || {
        let said = group.process(index).errors();
        said.iter()
            .any(|line| line.contains("this server was removed from the group"))
    });
}
