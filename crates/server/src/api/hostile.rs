//! What strangers send to the API, taken apart as a server does it but without a server: for the harnesses of the crate `fuzz`.
//!
//! Always true: nothing is decoded here a second way; whatever is called is what requests go through.

use super::caller::{Origin, bearer, idempotency_key};
use super::extract::{BODY_LIMIT, IfMatch, read};
use super::guard::asked;
use super::problem::Problem;
use super::serve::converse;
use crate::api_tokens;
use crate::node::nobody_in;
use crate::tickets::Tickets;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use model::trust::Sealed;
use model::user::PasswordHash;
use model::{Authority, Directory, GroupId, Record, Role, UnixMillis, User};
use relay::Stopper;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::timeout;

/// When nothing more comes. Of a clock that waits for nobody, in the harnesses.
const QUIET: Duration = Duration::from_millis(50);
/// More than what a harness sends at once.
const BUFFER: usize = 256 * 1024;
const FROM: ([u8; 4], u16) = ([192, 0, 2, 1], 49_152);
const GROUP: GroupId = GroupId::from_bytes([8; 16]);
/// The secret of the one token that is known, and the seed of the key that signs tickets.
const SECRET: [u8; 32] = [7; 32];
/// Later than any clock on which this runs.
const NOW: UnixMillis = UnixMillis(4_000_000_000_000);
const LIFETIME: Duration = Duration::from_secs(3600);

/// Sends bytes over a connection, and gives all that comes back until the server closes it. Each request that can be read is answered
/// with how long its body is, or with what is wrong with it.
pub async fn http(bytes: &[u8]) -> Vec<u8> {
    let (mut near, far) = duplex(BUFFER);
    let (_stopper, stop) = Stopper::new();
    let app = Router::new().fallback(taken_apart);
    let app = app.layer(DefaultBodyLimit::max(BODY_LIMIT));
    let serving = converse(far, Origin::Remote(SocketAddr::from(FROM)), app, stop);
    let talking = async {
        let mut answer = Vec::new();
        // The server may hang up at any byte; and whoever hangs up himself is not answered any more.
        let _ = near.write_all(bytes).await;
        while let Ok(Ok(1..)) = timeout(QUIET, near.read_buf(&mut answer)).await {}
        let _ = near.shutdown().await;
        let _ = near.read_to_end(&mut answer).await;
        answer
    };
    tokio::join!(serving, talking).1
}

/// What every request passes before its handler, and what handlers do with what is left.
async fn taken_apart(request: Request) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let door = Door::default();
    let allowed = bearer(&parts.headers).map(|shown| shown.map(|shown| door.lets_in(shown)));
    let key = idempotency_key(&parts.headers).map(|key| key.map(<[u8]>::len));
    let fresh = asked(parts.uri.query(), &parts.headers).map(|asked| asked.len());
    let version = IfMatch::from_request_parts(&mut parts, &()).await;
    let length = read(Request::from_parts(parts, body)).await?.len();
    allowed?;
    key?;
    fresh?;
    version?;
    Ok(length.to_string().into_response())
}

/// One account, one token for programs of it, and a key that tickets are signed with.
pub struct Door {
    directory: Directory,
    tickets: Tickets,
    token: String,
    ticket: String,
}

impl Default for Door {
    fn default() -> Self {
        let name = "ann".parse().expect("a literal that is a user name");
        let token = "backup".parse().expect("a literal that is a token's name");
        let made = api_tokens::of(&SECRET, &name, token, Role::Admin, NOW, LIFETIME);
        let pair = Ed25519KeyPair::from_seed_unchecked(&SECRET)
            .expect("invariant: any 32 bytes are a seed");
        let key = pair.to_pkcs8v1().expect("invariant: a key can be written");
        let authority = Authority {
            certificate: Vec::new(),
            fingerprint: String::new(),
            key: Sealed::default(),
            ticket_public: pair.public_key().as_ref().to_vec(),
            ticket_key: Sealed::default(),
            expires: NOW,
        };
        let group = "east".parse().expect("a literal that is a group's name");
        let user = User {
            name: name.clone(),
            password: PasswordHash(String::new()),
            role: Role::Operator,
            groups: Vec::new(),
            disabled: false,
            password_set: UnixMillis(0),
            version_number: 0,
            api_tokens: vec![made.kept],
            lock: None,
            origin: model::Origin::default(),
        };
        let records = [
            Record::Group(Arc::new(nobody_in(GROUP, group, authority))),
            Record::User(Arc::new(user)),
        ];
        let tickets = Tickets::new(GROUP, Some(key.as_ref()));
        let ticket = tickets.for_api(&name, NOW, LIFETIME);
        Self {
            directory: Directory::from_records(records)
                .expect("invariant: a group and an account make a directory"),
            tickets,
            token: made.text.0,
            ticket: ticket.expect("invariant: the key is here").ticket.0,
        }
    }
}

impl Door {
    /// The token and the ticket that are let in; nothing else is.
    pub fn keys(&self) -> [&str; 2] {
        [&self.token, &self.ticket]
    }

    /// What whoever shows this may do; nothing, mostly.
    pub fn lets_in(&self, bearer: &str) -> Option<Role> {
        if api_tokens::is_one(bearer) {
            let allowed = api_tokens::check(bearer, &self.directory, NOW).ok()?;
            return Some(allowed.role);
        }
        let allowed = self.tickets.check_api(bearer, &self.directory).ok()?;
        Some(allowed.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn first_line(request: &str) -> String {
        let answer = String::from_utf8(http(request.as_bytes()).await).unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn requests_reach_what_takes_them_apart() {
        let door = Door::default();
        let [token, ticket] = door.keys();
        for key in [token, ticket] {
            assert_eq!(door.lets_in(key), Some(Role::Operator));
            let request = format!(
                "PUT /v1/a?consistency=local HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\ncontent-length: 2\r\n\r\nok"
            );
            assert_eq!(first_line(&request).await, "HTTP/1.1 200 OK");
        }
        assert_eq!(door.lets_in(&format!("{token}A")), None);
        for (header, answer) in [
            ("authorization: Basic YQ==", "HTTP/1.1 401 Unauthorized"),
            ("if-match: yesterday", "HTTP/1.1 422 Unprocessable Entity"),
            ("content-length: 9999999", "HTTP/1.1 413 Payload Too Large"),
            ("a b", "HTTP/1.1 400 Bad Request"),
        ] {
            let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{header}\r\n\r\n");
            assert_eq!(first_line(&request).await, answer, "{header}");
        }
    }
}
