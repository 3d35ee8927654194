//! Who asks: found out once for each request, before anything else is done with it.
//!
//! Always true: the local socket speaks for root and the server's own account only; everybody else shows a bearer token,
//! whose account and role are looked up again for each request, so that a removed or disabled account is out at once.

use super::problem::Problem;
use crate::node::{Bearer, Node};
use aws_lc_rs::digest;
use axum::extract::FromRequestParts;
use axum::http::{HeaderMap, Method, header, request::Parts};
use model::{Applied, Author, ChangeId, Command, Directory, Role, UserName};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The longest `Idempotency-Key`, in characters.
const KEY_LIMIT: usize = 255;
/// What keys are hashed under, so that no other hash is taken for one.
const KEY_LABEL: &[u8] = b"stead idempotency key 1";

/// Where a connection came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The local socket.
    Local {
        /// The operating system's user id.
        uid: u32,
        /// Whether that is root or the server's own account.
        trusted: bool,
    },
    /// The client port.
    Remote(SocketAddr),
}

impl Origin {
    /// The address for logins; that of the loopback for the local socket.
    pub(crate) fn address(self) -> SocketAddr {
        match self {
            Self::Remote(address) => address,
            Self::Local { .. } => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        }
    }
}

/// Who asks for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// For the journal.
    pub(crate) author: Author,
    /// What the caller may do.
    pub(crate) role: Role,
    /// Hash of the request's idempotency key, if it has one.
    pub(crate) key: Option<[u8; 32]>,
}

impl Caller {
    /// The account of a caller who logged in.
    pub(crate) fn account(&self) -> Option<&UserName> {
        match &self.author {
            Author::User { name, .. } => Some(name),
            _ => None,
        }
    }

    /// In words, for records that name who did it.
    pub(crate) fn words(&self, node: &Node) -> String {
        author_in_words(&self.author, &node.directory())
    }

    /// The idempotency key of the request's change number `step`; none when the request has none.
    pub(crate) fn change_id(&self, step: u32) -> Option<ChangeId> {
        let key = self.key?;
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&key);
        context.update(&step.to_be_bytes());
        let hash = context.finish();
        let first = hash
            .as_ref()
            .first_chunk::<16>()
            .expect("invariant: SHA-256 has 32 bytes");
        Some(ChangeId::from_bytes(*first))
    }

    /// Makes a change in the caller's name; the only one of its request.
    ///
    /// # Errors
    /// What the directory or the group says against it.
    pub(crate) async fn change(&self, node: &Node, command: Command) -> Result<Applied, Problem> {
        self.change_next(node, 0, command).await
    }

    /// Makes change number `step` of the caller's request, in his name.
    ///
    /// # Errors
    /// What the directory or the group says against it.
    pub(crate) async fn change_next(
        &self,
        node: &Node,
        step: u32,
        command: Command,
    ) -> Result<Applied, Problem> {
        Ok(node
            .submit(self.change_id(step), self.author.clone(), command)
            .await?)
    }
}

/// An author, for records that name who did something.
pub(crate) fn author_in_words(author: &Author, directory: &Directory) -> String {
    match author {
        Author::User { name, .. } => name.to_string(),
        Author::Local { uid: 0, server } => format!("root on {}", directory.name_of(*server)),
        Author::Local { uid, server } => format!("user id {uid} on {}", directory.name_of(*server)),
        Author::Server(server) => directory.name_of(*server),
    }
}

/// Finds out who asks.
///
/// # Errors
/// The account on this machine may not use the local socket, or the token does not hold.
pub(crate) fn identify(
    node: &Node,
    origin: Origin,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Result<Option<Caller>, Problem> {
    let (author, role) = match origin {
        Origin::Local { uid, trusted: true } => (
            Author::Local {
                server: node.me(),
                uid,
            },
            Role::Admin,
        ),
        Origin::Local {
            uid,
            trusted: false,
        } => {
            return Err(Problem::not_allowed(format!(
                "user id {uid} may not use the local socket of {}",
                node.name()
            ))
            .remedy("use it as root, or log in with --server and --ca"));
        }
        Origin::Remote(address) => {
            let Some(token) = bearer(headers)? else {
                return Ok(None);
            };
            let Bearer { user, role, token } = node.check_bearer(token)?;
            let from = match token {
                None => address.ip().to_string(),
                Some(token) => format!("{} with token {token}", address.ip()),
            };
            (Author::User { name: user, from }, role)
        }
    };
    let key = idempotency_key(headers)?.map(|key| hash_key(&author, method, path, key));
    Ok(Some(Caller { author, role, key }))
}

pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let text = value.to_str().ok().and_then(|text| text.split_once(' '));
    match text {
        Some((scheme, token))
            if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() =>
        {
            Ok(Some(token.trim()))
        }
        _ => Err(Problem::not_logged_in(
            "the Authorization header is not `Bearer TOKEN`",
        )),
    }
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&[u8]>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = value.as_bytes();
    if key.is_empty() || key.len() > KEY_LIMIT || !key.iter().all(u8::is_ascii_graphic) {
        return Err(Problem::invalid(format!(
            "an Idempotency-Key has 1 to {KEY_LIMIT} visible ASCII characters"
        )));
    }
    Ok(Some(key))
}

/// The same for repeats of one request by one author, on any server; different for everything else.
fn hash_key(author: &Author, method: &Method, path: &str, key: &[u8]) -> [u8; 32] {
    let who = match author {
        Author::User { name, .. } => format!("user {name}"),
        Author::Local { server, uid } => format!("local {server} {uid}"),
        Author::Server(server) => format!("server {server}"),
    };
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [
        KEY_LABEL,
        who.as_bytes(),
        method.as_str().as_bytes(),
        path.as_bytes(),
        key,
    ] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let hash = context.finish();
    *hash
        .as_ref()
        .first_chunk::<32>()
        .expect("invariant: SHA-256 has 32 bytes")
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Problem::not_logged_in("no bearer token was sent"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Origin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let origin = parts.extensions.get::<Self>().copied();
        origin.ok_or_else(|| Problem::not_logged_in("it is not known where the request comes from"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use model::ServerId;

    fn user(name: &str, from: &str) -> Author {
        Author::User {
            name: name.parse().unwrap(),
            from: from.into(),
        }
    }

    #[test]
    fn keys_are_the_authors_own() {
        let hash = |author: &Author, method: &Method, path: &str, key: &[u8]| {
            hash_key(author, method, path, key)
        };
        let same = hash(&user("ann", "10.0.0.1"), &Method::PUT, "/v1/x", b"k");
        assert_eq!(
            same,
            hash(&user("ann", "10.9.9.9"), &Method::PUT, "/v1/x", b"k"),
            "an author may come from elsewhere"
        );
        for other in [
            hash(&user("bob", "10.0.0.1"), &Method::PUT, "/v1/x", b"k"),
            hash(&user("ann", "10.0.0.1"), &Method::POST, "/v1/x", b"k"),
            hash(&user("ann", "10.0.0.1"), &Method::PUT, "/v1/y", b"k"),
            hash(&user("ann", "10.0.0.1"), &Method::PUT, "/v1/x", b"l"),
            hash(
                &Author::Local {
                    server: ServerId::default(),
                    uid: 0,
                },
                &Method::PUT,
                "/v1/x",
                b"k",
            ),
        ] {
            assert_ne!(same, other);
        }
    }

    #[test]
    fn steps_of_one_request_differ() {
        let caller = Caller {
            author: user("ann", "x"),
            role: Role::Admin,
            key: Some([7; 32]),
        };
        assert_ne!(caller.change_id(0), caller.change_id(1));
        assert_eq!(caller.change_id(1), caller.change_id(1));
        let without = Caller {
            key: None,
            ..caller
        };
        assert_eq!(without.change_id(0), None);
    }

    #[test]
    fn headers_that_make_no_sense_are_refused() {
        let with = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
            headers
        };
        assert_eq!(bearer(&HeaderMap::new()).unwrap(), None);
        assert_eq!(
            bearer(&with("authorization", "bearer abc")).unwrap(),
            Some("abc")
        );
        for value in ["Basic abc", "Bearer", "Bearer  "] {
            assert_eq!(
                bearer(&with("authorization", value)).unwrap_err().status,
                401,
                "{value:?}"
            );
        }
        assert!(idempotency_key(&with("idempotency-key", &"x".repeat(256))).is_err());
        assert!(idempotency_key(&with("idempotency-key", "a b")).is_err());
        assert_eq!(
            idempotency_key(&with("idempotency-key", "a-b")).unwrap(),
            Some(&b"a-b"[..])
        );
    }
}
