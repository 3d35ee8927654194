//! The API client against servers that answer with what they are told to, or do not answer at all.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use client::{Api, ApiError, Call, Fingerprint, Target};
use hyper::Method;
use model::ServerId;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use crate::fake::{Authority, Role};

/// What a server has been asked: everything up to the end of each request's head and, where it says so, body.
type Asked = Arc<Mutex<Vec<String>>>;

async fn answer<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO, asked: &Asked, with: &str) {
    let mut request = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                asked.lock().unwrap().push(text);
                break;
            }
        }
        match io.read(&mut bytes).await {
            Ok(count) if count > 0 => request.extend_from_slice(&bytes[..count]),
            _ => return,
        }
    }
    // A client that does not listen any more is the test's own.
    let _ = io.write_all(with.as_bytes()).await;
    let _ = io.shutdown().await;
}

/// A server of the group whose every connection gets this answer; its address.
async fn remote(authority: &Authority, with: &'static str, asked: Asked) -> String {
    let acceptor = TlsAcceptor::from(authority.port(ServerId::from_bytes([1; 16]), Role::Client));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            if let Ok(tls) = acceptor.accept(tcp).await {
                answer(tls, &asked, with).await;
            }
        }
    });
    address
}

fn api(servers: Vec<String>, ca: Fingerprint) -> Api {
    Api::new(Target::Remote {
        servers,
        ca,
        bearer: Some("secret-token".to_owned()),
    })
}

const OK: &str = "HTTP/1.1 200 OK\r\nx-age: 7\r\ncontent-length: 11\r\n\r\n{\"a\":[1,2]}";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
const REFUSED: &str = "HTTP/1.1 409 Conflict\r\ncontent-type: application/problem+json\r\ncontent-length: 79\r\n\r\n\
    {\"type\":\"x\",\"title\":\"no\",\"status\":409,\"detail\":\"because\",\"exit\":4,\"rest\":\"aaa\"}\n";
/// The connection breaks without an answer.
const NOTHING: &str = "";

fn change() -> Call<'static> {
    let body = Some(json!({ "name": "ann" }));
    Call {
        method: Method::POST,
        path: "/v1/things?x=1",
        body,
        headers: Vec::new(),
    }
}

fn keyed() -> Call<'static> {
    let headers = vec![("Idempotency-Key".to_owned(), "k1".to_owned())];
    Call {
        headers,
        ..change()
    }
}

#[tokio::test]
async fn a_request_carries_its_token_and_body_and_gets_its_answer() {
    let (authority, asked) = (Authority::new(), Asked::default());
    let server = remote(&authority, OK, asked.clone()).await;
    let api = api(vec![server.clone()], authority.fingerprint());
    let reply = api.call(keyed()).await.unwrap();
    assert_eq!(
        (reply.status, reply.header("x-age"), &reply.server),
        (200, Some("7"), &server)
    );
    assert_eq!(reply.json().unwrap(), json!({ "a": [1, 2] }));
    assert!(reply.problem().is_none());
    let request = asked.lock().unwrap().pop().unwrap();
    for part in [
        "POST /v1/things?x=1 HTTP/1.1\r\n",
        "authorization: Bearer secret-token\r\n",
        "idempotency-key: k1\r\n",
        "\r\n\r\n{\"name\":\"ann\"}",
    ] {
        assert!(request.contains(part), "{part:?} is not in {request:?}");
    }
    assert!(!format!("{api:?}").contains("secret-token"));
}

#[tokio::test]
async fn a_problem_is_an_error_that_keeps_what_the_server_said() {
    let authority = Authority::new();
    let server = remote(&authority, REFUSED, Asked::default()).await;
    let api = api(vec![server], authority.fingerprint());
    match api.request(Call::reading("/v1/things")).await {
        Err(ApiError::Problem(problem)) => {
            assert_eq!(
                (problem.status, problem.to_string().as_str()),
                (409, "no: because")
            );
            assert_eq!(problem.more.get("exit"), Some(&json!(4)));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_is_away_or_busy() {
    let (authority, busy_asked, asked) = (Authority::new(), Asked::default(), Asked::default());
    let busy = remote(&authority, BUSY, busy_asked.clone()).await;
    let well = remote(&authority, OK, asked.clone()).await;
    let servers = vec!["127.0.0.1:1".to_owned(), busy.clone(), well];
    let api = api(servers, authority.fingerprint());
    assert_eq!(api.call(change()).await.unwrap().status, 200);
    assert_eq!(busy_asked.lock().unwrap().len(), 1);
    // The one that answered is asked first from now on.
    assert_eq!(api.call(change()).await.unwrap().status, 200);
    assert_eq!(
        (
            busy_asked.lock().unwrap().len(),
            asked.lock().unwrap().len()
        ),
        (1, 2)
    );
}

#[tokio::test]
async fn when_all_are_busy_their_answer_is_given() {
    let authority = Authority::new();
    let busy = remote(&authority, BUSY, Asked::default()).await;
    let api = api(
        vec!["127.0.0.1:1".to_owned(), busy],
        authority.fingerprint(),
    );
    assert_eq!(api.call(change()).await.unwrap().status, 503);
}

#[tokio::test]
async fn a_change_is_repeated_elsewhere_only_with_a_key() {
    let (authority, asked) = (Authority::new(), Asked::default());
    let breaks = remote(&authority, NOTHING, Asked::default()).await;
    let well = remote(&authority, OK, asked.clone()).await;
    let servers = vec![breaks, well];
    let api = |servers: &[String]| api(servers.to_vec(), authority.fingerprint());
    assert!(matches!(
        api(&servers).call(change()).await,
        Err(ApiError::Broken { .. })
    ));
    assert!(
        asked.lock().unwrap().is_empty(),
        "the change may have been made twice"
    );
    assert_eq!(api(&servers).call(keyed()).await.unwrap().status, 200);
    assert_eq!(
        api(&servers)
            .call(Call::reading("/v1/x"))
            .await
            .unwrap()
            .status,
        200
    );
    assert!(matches!(
        api(&servers[..1]).call(keyed()).await,
        Err(ApiError::Broken { .. })
    ));
}

#[tokio::test]
async fn another_group_is_not_spoken_to() {
    let (authority, asked) = (Authority::new(), Asked::default());
    let server = remote(&authority, OK, asked.clone()).await;
    let api = api(vec![server], Authority::new().fingerprint());
    assert!(matches!(
        api.call(change()).await,
        Err(ApiError::Distrusted { .. })
    ));
    assert!(
        asked.lock().unwrap().is_empty(),
        "the token was sent to a stranger"
    );
}

#[tokio::test]
async fn who_cannot_be_reached_is_named_with_the_reason() {
    let authority = Authority::new();
    let api = api(vec!["127.0.0.1:1".to_owned()], authority.fingerprint());
    let error = api.call(Call::reading("/v1/status")).await.unwrap_err();
    assert!(matches!(error, ApiError::NotReachable { .. }));
    let words = error.to_string();
    assert!(
        words.contains("127.0.0.1:1") && words.contains("refused"),
        "{words}"
    );
}

#[tokio::test]
async fn the_local_socket_is_reached_however_long_its_path_is() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["short".to_owned(), "long".repeat(50)] {
        let data = folder.path().join(part);
        let run = data.join("run");
        std::fs::create_dir_all(&run).unwrap();
        let listener = bind(&run);
        let asked = Asked::default();
        tokio::spawn(async move {
            let (io, _) = listener.accept().await.unwrap();
            answer(io, &asked, OK).await;
        });
        let api = Api::new(Target::Local { data });
        assert_eq!(
            api.request(Call::reading("/v1/x")).await.unwrap(),
            json!({ "a": [1, 2] })
        );
    }
    let api = Api::new(Target::Local {
        data: PathBuf::from("/nowhere"),
    });
    assert!(matches!(
        api.call(Call::reading("/v1/x")).await,
        Err(ApiError::NotReachable { .. })
    ));
}

/// Binds `admin.sock` there, also where the path is longer than an address may be.
fn bind(run: &std::path::Path) -> UnixListener {
    use std::os::fd::AsRawFd;
    let folder = std::fs::File::open(run).unwrap();
    UnixListener::bind(format!("/proc/self/fd/{}/admin.sock", folder.as_raw_fd())).unwrap()
}

#[tokio::test]
async fn events_are_followed_from_where_they_were_left() {
    const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n\
        : hello\n\nid: 8\nevent: joined\ndata: {\"seq\":8}\n\nid: 9\ndata: {\"seq\":9}\n\n";
    let (authority, asked) = (Authority::new(), Asked::default());
    let server = remote(&authority, EVENTS, asked.clone()).await;
    let api = api(vec![server], authority.fingerprint());
    let mut events = api
        .stream("/v1/events", Some("7".to_owned()))
        .await
        .unwrap();
    let first = events.next().await.unwrap().unwrap();
    assert_eq!(
        (first.id.as_deref(), first.event.as_deref()),
        (Some("8"), Some("joined"))
    );
    assert_eq!(events.next().await.unwrap().unwrap().data, "{\"seq\":9}");
    assert!(events.next().await.unwrap().is_none());
    assert!(asked.lock().unwrap()[0].contains("last-event-id: 7\r\n"));
    let refused = remote(&authority, REFUSED, Asked::default()).await;
    let api = Api::new(Target::Remote {
        servers: vec![refused],
        ca: authority.fingerprint(),
        bearer: None,
    });
    assert!(matches!(
        api.stream("/v1/events", None).await,
        Err(ApiError::Problem(_))
    ));
}
