//! The HTTP API as a program that is not the command line sees it: raw requests on the local socket.

use crate::running::Running;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// An answer: status, headers in lower case, body.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The problem document, with what every one has.
    fn problem(&self) -> Value {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        assert!(
            problem["type"]
                .as_str()
                .unwrap()
                .starts_with("urn:stead:problem:"),
            "{problem}"
        );
        for key in ["title", "detail"] {
            assert!(!problem[key].as_str().unwrap().is_empty(), "{problem}");
        }
        assert!(problem["exit"].is_u64(), "{problem}");
        problem
    }
}

fn connect(server: &Running) -> UnixStream {
    let stream = UnixStream::connect(server.data().join("run/admin.sock")).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
}

/// Sends these bytes and reads one answer.
fn raw(server: &Running, request: &[u8]) -> Answer {
    let mut stream = connect(server);
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request);
    read_answer(&mut BufReader::new(stream))
}

fn read_answer(reader: &mut BufReader<UnixStream>) -> Answer {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line
        .split(' ')
        .nth(1)
        .unwrap_or_else(|| panic!("no status in {line:?}"))
        .parse()
        .unwrap();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let mut answer = Answer {
        status,
        headers,
        body: Vec::new(),
    };
    if let Some(length) = answer
        .header("content-length")
        .map(|length| length.parse::<usize>().unwrap())
    {
        answer.body.resize(length, 0);
        reader.read_exact(&mut answer.body).unwrap();
    }
    answer
}

fn call(
    server: &Running,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: local\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    if !body.is_empty() {
        request.push_str("content-type: application/json\r\n");
    }
    request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    raw(server, request.as_bytes())
}

fn get(server: &Running, path: &str) -> Answer {
    call(server, "GET", path, &[], None)
}

#[test]
fn health_and_metrics() {
    let server = Running::start();
    for (path, status) in [
        ("/healthy", 200),
        ("/ready", 200),
        ("/primary", 200),
        ("/secondary", 503),
    ] {
        assert_eq!(get(&server, path).status, status, "{path}");
    }
    let metrics = get(&server, "/metrics");
    let text = String::from_utf8(metrics.body).unwrap();
    for line in [
        "stead_acting_primary 1",
        "stead_group_voters 1",
        "stead_server_reachable{server=\"s1\"} 1",
        "# TYPE stead_changes_total counter",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "no {line:?} in\n{text}"
        );
    }
}

#[test]
fn the_description_of_the_api() {
    let server = Running::start();
    let document = get(&server, "/v1/openapi.json").json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.contains_key("/v1/status") && paths.contains_key("/v1/sessions/{id}"));
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(
                operation["summary"].is_string(),
                "{method} {path} is not described"
            );
        }
    }
}

/// Method, path, headers, body, and the status that it is answered with.
type Case = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    Option<Value>,
    u16,
);

#[test]
fn what_makes_no_sense_is_answered_with_a_problem() {
    let server = Running::start();
    let cases: &[Case] = &[
        ("GET", "/v1/nothing", &[], None, 404),
        ("POST", "/v1/status", &[], None, 405),
        ("GET", "/v1/servers/nobody", &[], None, 404),
        ("GET", "/v1/users/a%20b", &[], None, 422),
        ("GET", "/v1/users/%ff", &[], None, 400),
        ("GET", "/v1/sessions?limit=0", &[], None, 422),
        ("GET", "/v1/sessions?limit=x", &[], None, 422),
        ("GET", "/v1/sessions?state=gone", &[], None, 422),
        ("GET", "/v1/sessions?token=a%20b", &[], None, 422),
        ("GET", "/v1/status?consistency=strong", &[], None, 422),
        ("GET", "/v1/status", &[("stead-change", "1/1")], None, 422),
        ("GET", "/v1/events?from=x", &[], None, 422),
        ("PUT", "/v1/apps/a", &[], Some(json!({"lunch": "x"})), 422),
        ("PUT", "/v1/apps/a", &[], Some(json!([])), 422),
        ("PUT", "/v1/users/ann", &[], None, 415),
        (
            "PUT",
            "/v1/users/ann",
            &[],
            Some(json!({"password": "long enough", "role": "king"})),
            422,
        ),
        (
            "POST",
            "/v1/servers/s1/offline",
            &[],
            Some(json!({"for_s": 0})),
            422,
        ),
        (
            "POST",
            "/v1/servers/s1/offline",
            &[],
            Some(json!({"reason": "x".repeat(501)})),
            422,
        ),
        (
            "PUT",
            "/v1/settings/balance.method",
            &[("idempotency-key", "a b")],
            Some(json!({"value": "random-two"})),
            422,
        ),
        (
            "PATCH",
            "/v1/users/admin",
            &[("if-match", "seven")],
            Some(json!({"groups": []})),
            422,
        ),
        (
            "PATCH",
            "/v1/users/admin",
            &[("if-match", "\"999999\"")],
            Some(json!({"groups": []})),
            412,
        ),
        (
            "POST",
            "/v1/login",
            &[],
            Some(json!({"user": "admin", "password": "wrong"})),
            401,
        ),
        (
            "POST",
            "/v1/login",
            &[],
            Some(json!({"user": "no such name", "password": "wrong"})),
            401,
        ),
    ];
    for (method, path, headers, body, status) in cases {
        let answer = call(&server, method, path, headers, body.as_ref());
        assert_eq!(
            answer.status,
            *status,
            "{method} {path}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        answer.problem();
    }
    let large = json!({"launch": "x".repeat(300 * 1024)});
    assert_eq!(
        call(&server, "PUT", "/v1/apps/a", &[], Some(&large)).status,
        413
    );
    let half = b"PUT /v1/apps/a HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1\r\nconnection: close\r\n\r\n{";
    assert_eq!(raw(&server, half).status, 400);
    assert_eq!(raw(&server, b"nonsense\r\n\r\n").status, 400);
    let head = format!(
        "GET /v1/status HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "y".repeat(100 * 1024)
    );
    assert_eq!(raw(&server, head.as_bytes()).status, 431);
    assert_eq!(get(&server, "/healthy").status, 200, "it still serves");
}

#[test]
fn a_repeated_request_is_done_once() {
    let server = Running::start();
    let key = [("idempotency-key", "once-and-only-once")];
    let first = call(
        &server,
        "PUT",
        "/v1/apps/rdp",
        &key,
        Some(&json!({"backends": ["tcp:127.0.0.1:3389"]})),
    );
    assert_eq!(first.status, 201);
    let again = call(
        &server,
        "PUT",
        "/v1/apps/rdp",
        &key,
        Some(&json!({"backends": ["tcp:127.0.0.1:3389"]})),
    );
    assert_eq!((again.status, again.json()), (201, first.json()));
    let other = call(
        &server,
        "PUT",
        "/v1/apps/rdp",
        &[("idempotency-key", "another")],
        Some(&json!({"backends": ["tcp:127.0.0.1:3389"]})),
    );
    assert_eq!(
        (other.status, other.problem()["exit"].clone()),
        (409, json!(4))
    );
    // A repeat whose answer was lost, after the record has moved on.
    let tag = first.header("etag").unwrap();
    let change = [("idempotency-key", "change"), ("if-match", tag)];
    let changed = call(
        &server,
        "PATCH",
        "/v1/apps/rdp",
        &change,
        Some(&json!({"max_per_user": 3})),
    );
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), Some(tag));
    assert_eq!(
        call(
            &server,
            "PATCH",
            "/v1/apps/rdp",
            &change,
            Some(&json!({"max_per_user": 3}))
        )
        .status,
        200
    );
    let stale = call(
        &server,
        "PATCH",
        "/v1/apps/rdp",
        &[("if-match", tag)],
        Some(&json!({"max_per_user": 4})),
    );
    assert_eq!(stale.status, 412);
    assert_eq!(
        call(
            &server,
            "DELETE",
            "/v1/apps/rdp",
            &[("if-match", tag)],
            None
        )
        .status,
        412
    );
    assert_eq!(get(&server, "/v1/apps/rdp").json()["max_per_user"], 3);
}

#[test]
fn answers_name_their_change_and_age() {
    let server = Running::start();
    let set = call(
        &server,
        "PUT",
        "/v1/settings/balance.method",
        &[],
        Some(&json!({"value": "random-two"})),
    );
    let change = set.header("stead-change").unwrap().to_owned();
    let read = call(
        &server,
        "GET",
        "/v1/settings/balance.method",
        &[("stead-change", &change)],
        None,
    );
    assert_eq!(
        (read.status, read.json()["value"].clone()),
        (200, json!("random-two"))
    );
    let number = |text: &str| text.split_once('/').unwrap().1.parse::<u64>().unwrap();
    assert!(number(read.header("stead-change").unwrap()) >= number(&change));
    let fresh = get(&server, "/v1/status?consistency=linearizable");
    assert_eq!(
        (fresh.status, fresh.header("stead-age-ms")),
        (200, Some("0"))
    );
    assert!(
        get(&server, "/v1/status?consistency=local")
            .header("stead-age-ms")
            .is_some()
    );
}

#[test]
fn events_are_followed_from_where_one_was() {
    let server = Running::start();
    let mode = |word: &str| {
        assert_eq!(
            call(
                &server,
                "POST",
                &format!("/v1/servers/s1/{word}"),
                &[],
                None
            )
            .status,
            200
        )
    };
    mode("offline");
    mode("online");
    let all = get(&server, "/v1/events?from=1&kind=server-mode").json();
    let first = all[0]["seq"].as_u64().unwrap();
    let page = get(&server, "/v1/events?from=1&limit=1&kind=server-mode");
    let link = page.header("link").unwrap();
    let next = link.trim_start_matches('<').split('>').next().unwrap();
    assert_eq!(get(&server, next).json()[0]["seq"], all[1]["seq"]);

    let mut stream = connect(&server);
    let request = format!(
        "GET /v1/events?kind=server-mode HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\nlast-event-id: {first}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let head = read_answer(&mut reader);
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, Some("text/event-stream"))
    );
    mode("offline");
    let mut ids = Vec::new();
    while ids.len() < 2 {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the stream ended");
        ids.extend(
            line.trim_end()
                .strip_prefix("id: ")
                .map(|id| id.parse::<u64>().unwrap()),
        );
    }
    assert_eq!(
        ids[0],
        all[1]["seq"].as_u64().unwrap(),
        "behind the one that was named, and none left out"
    );
    assert!(ids[1] > ids[0]);
}

#[test]
fn half_a_request_costs_the_others_nothing() {
    let server = Running::start();
    let silent: Vec<UnixStream> = (0..50).map(|_| connect(&server)).collect();
    for mut stream in &silent {
        stream
            .write_all(b"GET /v1/status HTTP/1.1\r\nhost:")
            .unwrap();
    }
    assert_eq!(get(&server, "/v1/status").status, 200);
    let mut first = &silent[0];
    let mut rest = Vec::new();
    let _ = first.read_to_end(&mut rest);
    let text = String::from_utf8_lossy(&rest);
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 408"),
        "{text}"
    );
}
