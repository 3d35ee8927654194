//! The HTTP API and backups: what anybody who reaches the client port may say over HTTP, what he may show as a credential, which JSON
//! he may send, and which file somebody may be given to restore.
//!
//! What holds for any bytes: a connection ends, and what came back is HTTP; nobody is let in but with what was given out; what is
//! decoded means the same when it is sent again; a backup claims no memory that its bytes do not fill.

use crate::memory::at_most;
use serde::Serialize;
use serde::de::DeserializeOwned;
use server::api::bodies;
use server::api::hostile::{Door, http};
use server::backup::{inspect, records};
use std::time::Duration;

/// How HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Of a clock that runs as soon as nothing else does.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// A connection to the API: HTTP/1.1 with as many requests as there are, or HTTP/2.
pub fn api_connection(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let answer = runtime.block_on(async { tokio::time::timeout(ENDS_WITHIN, http(bytes)).await });
    let answer = answer.expect("a connection that ends");
    let begun = PREFACE.get(..bytes.len()).unwrap_or(PREFACE);
    if !bytes.starts_with(begun) && !answer.is_empty() {
        assert!(
            answer.starts_with(b"HTTP/1."),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
}

/// Requests as they come from browsers, programs and the command line.
pub fn api_connection_seeds() -> Vec<Vec<u8>> {
    let door = Door::default();
    let [token, ticket] = door.keys();
    let body = r#"{"password":"correct horse"}"#;
    let length = body.len();
    let texts = [
        "GET /v1/status HTTP/1.1\r\nHost: stead\r\n\r\n".to_owned(),
        format!(
            "GET /v1/users?limit=10&consistency=linearizable HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\nstead-change: {}/7\r\n\r\n",
            "0".repeat(32)
        ),
        format!(
            "PUT /v1/users/ann/password HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {ticket}\r\nidempotency-key: k1\r\nif-match: \"7\"\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}GET / HTTP/1.1\r\nconnection: close\r\n\r\n"
        ),
        "POST /v1/logins HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n4\r\nabcd\r\n0\r\n\r\n".to_owned(),
        "GET /v1/events HTTP/1.0\r\n\r\n".to_owned(),
    ];
    let mut seeds: Vec<Vec<u8>> = texts.map(String::into_bytes).into();
    // Settings; then a request for / by its indexed fields.
    let frames: [&[u8]; 3] = [
        PREFACE,
        &[0, 0, 0, 4, 0, 0, 0, 0, 0],
        &[0, 0, 4, 1, 5, 0, 0, 0, 1, 0x82, 0x84, 0x86, 0x41],
    ];
    seeds.push(frames.concat());
    seeds
}

/// What somebody shows instead of a password: a token for programs, or a ticket.
pub fn api_credential(bytes: &[u8]) {
    let door = Door::default();
    let shown = String::from_utf8_lossy(bytes);
    let allowed = door.lets_in(&shown);
    let [token, ticket] = door.keys();
    // The other way round too: what was given out lets in.
    assert_eq!(
        allowed.is_some(),
        shown == token || shown == ticket,
        "{shown}"
    );
}

/// The two that let in, and such as look like them.
pub fn api_credential_seeds() -> Vec<Vec<u8>> {
    let door = Door::default();
    let given = door.keys().map(|key| key.as_bytes().to_vec());
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJ1c2UiOiJhcGkifQ.";
    given.into_iter().chain([none.into()]).collect()
}

/// JSON of requests, as each of their kinds.
pub fn api_body(bytes: &[u8]) {
    // A power rating is a number with a fraction, which text need not give back to the last bit.
    let _ = serde_json::from_slice::<bodies::ServerChange>(bytes);
    body::<bodies::AppChange>(bytes);
    body::<bodies::ApiTokenRequest>(bytes);
    body::<bodies::BackupMove>(bytes);
    body::<bodies::DivergenceRequest>(bytes);
    body::<bodies::GatewayCreation>(bytes);
    body::<bodies::InvitationRequest>(bytes);
    body::<bodies::LoginRequest>(bytes);
    body::<bodies::OfflineRequest>(bytes);
    body::<bodies::PauseRequest>(bytes);
    body::<bodies::SecretChange>(bytes);
    body::<bodies::SessionRequest>(bytes);
    body::<bodies::SettingValue>(bytes);
    body::<bodies::UserChange>(bytes);
    body::<bodies::UserCreation>(bytes);
}

fn body<T: Serialize + DeserializeOwned + PartialEq>(bytes: &[u8]) {
    let room = 4 * 1024 + 64 * bytes.len();
    let Ok(body) = at_most(room, || serde_json::from_slice::<T>(bytes)) else {
        return;
    };
    let again = serde_json::to_vec(&body).expect("what was read can be written");
    let read = serde_json::from_slice::<T>(&again);
    let shown = String::from_utf8_lossy(&again);
    assert!(read.is_ok_and(|read| read == body), "it changed: {shown}");
}

/// Bodies of which some fit several kinds.
pub fn api_body_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"name":"ann","password":"correct horse"}"#,
        r#"{"user":"ann","password":"x","token":"card.1","app":"desk"}"#,
        r#"{"value":"20m"}"#,
        r#"{"records":["user:ann"],"all":false,"reason":"the better one"}"#,
        r#"{"launch":"@pty /bin/sh","backends":["10.0.0.1:3389*2"],"env":{"A":"b"},"max_per_user":3,"run_as":null,"on_drain":"move"}"#,
        r#"{"power":1.5,"labels":{"rack":"a","old":null},"external":[{"network":"10.0.0.0/8","address":"a:1"}]}"#,
        r#"{"listen":"0.0.0.0:3389","app":"desk","token_from":"rdp-cookie"}"#,
        r#"{"reason":"new disks","drain":true,"deadline_s":60,"for_s":3600,"also":["newyork"]}"#,
        r#"{"standing":"voter","value":"YQ==","description":null,"role":"admin","groups":["x"],"disabled":true,"unlock":true}"#,
        "{}",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

/// A file that somebody is to restore: what it says of itself, and, as if the passphrase had opened it, its records.
pub fn backup(bytes: &[u8]) {
    // The header and one piece are held, whatever lengths they claim.
    let room = 1024 * 1024 + 4 * bytes.len();
    if let Ok(header) = at_most(room, || inspect(bytes)) {
        let shown = format!("{header:?}");
        assert!(!shown.is_empty(), "a header that shows nothing");
    }
    let _ = records(bytes);
}

/// A file that is whole to whoever has no passphrase, and records.
pub fn backup_seeds() -> Vec<Vec<u8>> {
    server::backup::examples()
}
