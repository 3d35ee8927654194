//! This server's certificates: looked at every second, made anew when `policy::renewal` says so, and taken into use without a
//! restart. What others ask for is granted here too.
//!
//! A server that holds the seal key grants its own; others ask the primary, then everybody who may lead. Whoever slept until
//! its certificate had expired asks with that.

use crate::clock;
use crate::external_certificates;
use crate::keys::{self, Reached};
use crate::node::Node;
use crate::sealing;
use crate::stored;
use model::{Directory, EventKind, Fields, Server, ServerId, Severity};
use peer::authority::{Validity, client_alternatives, peer_alternatives};
use peer::credentials::AskError;
use peer::granted::{GrantError, NewKeys};
use peer::identity::CertificateFacts;
use peer::key::KeyError;
use peer::tls::TlsBasis;
use policy::renewal::{self, Cause, Held};
use rustls::pki_types::CertificateDer;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, sleep};
use wire::credentials::{CredentialsAnswer, CredentialsRefusal, CredentialsRequest};

const LOOK: Duration = Duration::from_secs(1);
/// How long a member may take to grant something.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// Why there are no new certificates.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewalError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("no server that could grant them was reached")]
    Nobody,
    #[error("{server} refuses: {refusal}")]
    Refused {
        server: String,
        refusal: CredentialsRefusal,
    },
    #[error("{server} cannot be asked")]
    Ask {
        server: String,
        #[source]
        source: AskError,
    },
    #[error("the answer of {server} is none to what it was asked")]
    Nonsense { server: String },
    #[error("what {server} granted cannot be used")]
    Grant {
        server: String,
        #[source]
        source: GrantError,
    },
    #[error(transparent)]
    Taking(#[from] crate::trusting::TakingError),
}

/// Renews as long as the server runs.
pub(crate) async fn run(node: Node) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut failures = 0;
    loop {
        tick.tick().await;
        let Some(cause) = cause(&node) else {
            failures = 0;
            continue;
        };
        match renew(&node, cause).await {
            // One that is due at once again, after a jump of a clock say, is a failure too.
            Ok(()) if self::cause(&node).is_none() => failures = 0,
            Ok(()) => failures += 1,
            Err(error) => {
                failures += 1;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "this server's certificates are not renewed yet"
                );
            }
        }
        sleep(renewal::pause(failures)).await;
    }
}

/// Why this server's certificates are to be made anew.
fn cause(node: &Node) -> Option<Cause> {
    let directory = node.directory();
    // Without a directory nobody knows what they should say.
    let me = directory.server(node.me())?;
    let trust = node.trust();
    let (lifetime, now) = (
        directory.settings().certificate_lifetime(),
        clock::calendar(),
    );
    // What is in force may be newer than what this server's directory says.
    let authority = trust.authorities.first();
    let reached = Reached::of(me);
    let wanted = [
        (
            &trust.peer,
            reached
                .peer_address()
                .map(|address| peer_alternatives(&address)),
        ),
        (
            &trust.client,
            reached
                .client_hosts()
                .map(|hosts| client_alternatives(&hosts)),
        ),
    ];
    wanted.into_iter().find_map(|(credential, wanted)| {
        let facts = CertificateFacts::read(&credential.certificate).ok()?;
        let held = Held {
            begins: facts.not_before,
            renew_at: facts.renew_at(),
            lifetime: facts.lifetime(),
            fits: wanted.is_ok_and(|wanted| wanted == facts.alternatives),
            current: authority.is_some_and(|authority| facts.names_issuer(authority)),
            revoked: me.revoked.contains(&facts.key),
        };
        renewal::cause(&held, lifetime, now)
    })
}

async fn renew(node: &Node, cause: Cause) -> Result<(), RenewalError> {
    let keys = NewKeys::make()?;
    let (peer_request, client_request) = keys.requests()?;
    let request = CredentialsRequest::Certificates {
        peer_request,
        client_request,
    };
    let (server, answer) = ask(node, &request).await?;
    let (peer, client) = match answer {
        CredentialsAnswer::Certificates { peer, client } => (peer, client),
        CredentialsAnswer::Refused(refusal) => {
            return Err(RenewalError::Refused { server, refusal });
        }
        _ => return Err(RenewalError::Nonsense { server }),
    };
    let owner = (node.0.identity.group, node.me());
    let authorities = node.trust().authorities.clone();
    let granted = keys
        .take((&peer, &client), owner, &authorities, &TlsBasis::default())
        .map_err(|source| RenewalError::Grant { server, source })?;
    node.take_certificates(granted).await?;
    let expires = node.certificate_expires();
    tracing::info!(%expires, cause = cause.as_str(), "this server has new certificates");
    let fields: Fields = [
        ("cause", cause.as_str().to_owned()),
        ("expires", expires.to_string()),
    ]
    .into_iter()
    .collect();
    node.record(
        EventKind::CertificateRenewed,
        Severity::Info,
        node.name().to_string(),
        fields,
        Vec::new(),
    );
    node.0.renewed.notify_one();
    Ok(())
}

/// Asks one after the other until somebody grants it, this server first if it can itself; gives who did, or who refused last.
async fn ask(
    node: &Node,
    request: &CredentialsRequest,
) -> Result<(String, CredentialsAnswer), RenewalError> {
    ask_those(node, request, node.seal_key().is_some(), |_| true).await
}

/// The same of the others only, until somebody's answer fits.
pub(crate) async fn ask_others(
    node: &Node,
    request: &CredentialsRequest,
    fits: impl Fn(&CredentialsAnswer) -> bool,
) -> Result<(String, CredentialsAnswer), RenewalError> {
    ask_those(node, request, false, fits).await
}

async fn ask_those(
    node: &Node,
    request: &CredentialsRequest,
    itself: bool,
    fits: impl Fn(&CredentialsAnswer) -> bool,
) -> Result<(String, CredentialsAnswer), RenewalError> {
    let directory = node.directory();
    let mut last = Err(RenewalError::Nobody);
    for server in whom_to_ask(&directory, node.me(), node.leader(), itself) {
        let name = server.name.to_string();
        let answer = if server.id == node.me() {
            Ok(grant(node, node.me(), request).await)
        } else {
            let address = &server.peer_address;
            peer::credentials::ask(&node.0.shown.endpoint, server.id, address, request, LIMIT).await
        };
        last = match answer {
            Ok(CredentialsAnswer::Refused(refusal)) => Err(RenewalError::Refused {
                server: name,
                refusal,
            }),
            Ok(answer) if fits(&answer) => return Ok((name, answer)),
            Ok(_) => Err(RenewalError::Nonsense { server: name }),
            Err(source) => Err(RenewalError::Ask {
                server: name,
                source,
            }),
        };
    }
    last
}

/// Who is asked: this server itself if it holds the seal key, then the primary, then the others that may lead.
fn whom_to_ask(
    directory: &Directory,
    me: ServerId,
    leader: Option<ServerId>,
    sealed: bool,
) -> Vec<&Server> {
    let mut able: Vec<&Server> = directory
        .servers()
        .filter(|server| server.standing.may_lead())
        .filter(|server| server.id != me || sealed)
        .map(AsRef::as_ref)
        .collect();
    // The sort is stable.
    able.sort_by_key(|server| (server.id != me, Some(server.id) != leader));
    able
}

/// Grants what a member asks for, or says why not.
pub(crate) async fn grant(
    node: &Node,
    from: ServerId,
    request: &CredentialsRequest,
) -> CredentialsAnswer {
    let granted = match request {
        CredentialsRequest::Certificates {
            peer_request,
            client_request,
        } => certificates_for(node, from, (peer_request, client_request)),
        CredentialsRequest::Secret => secret_for(node, from),
        CredentialsRequest::Authorities => authorities_for(node, from),
        CredentialsRequest::ExternalKey { name, fingerprint } => {
            external_certificates::key_for(node, from, name, fingerprint)
        }
        CredentialsRequest::Seal { name, value } => stored::seal_for(node, from, name, value),
        CredentialsRequest::StoredSecret { session, name } => {
            stored::open_for(node, from, *session, name).await
        }
        CredentialsRequest::SealKey { mark } => sealing::key_for(node, from, *mark),
        CredentialsRequest::LoginSecret { name } => stored::open_for_logins(node, from, name).await,
    };
    granted.unwrap_or_else(CredentialsAnswer::Refused)
}

/// The secret is given to whoever proved one that was in force, and is a member still.
fn secret_for(node: &Node, from: ServerId) -> Result<CredentialsAnswer, CredentialsRefusal> {
    let member = node.directory().server(from).is_some();
    if !member {
        return Err(CredentialsRefusal::Unknown);
    }
    let secret = **node.trust().secrets.current.as_bytes();
    Ok(CredentialsAnswer::Secret(secret))
}

/// Which authorities are accepted is no secret; they are named to members.
fn authorities_for(node: &Node, from: ServerId) -> Result<CredentialsAnswer, CredentialsRefusal> {
    if node.directory().server(from).is_none() {
        return Err(CredentialsRefusal::Unknown);
    }
    let trust = node.trust();
    let ders = |certificates: &[CertificateDer<'_>]| {
        let ders = certificates.iter().map(|der| der.to_vec());
        ders.collect()
    };
    Ok(CredentialsAnswer::Authorities {
        accepted: ders(&trust.authorities),
        former: ders(&trust.former),
        links: ders(&trust.links),
    })
}

fn certificates_for(
    node: &Node,
    from: ServerId,
    requests: (&[u8], &[u8]),
) -> Result<CredentialsAnswer, CredentialsRefusal> {
    let directory = node.directory();
    let server = directory.server(from).ok_or(CredentialsRefusal::Unknown)?;
    let trust = node.trust();
    node.seal_key().ok_or(CredentialsRefusal::NoSealKey)?;
    if !policy::clocks::agrees(node.me(), &node.seen()) {
        return Err(CredentialsRefusal::Clock);
    }
    let authority = &directory.group().authority.certificate;
    let first = trust.authorities.first();
    if first.is_none_or(|first| first.as_ref() != authority) {
        return Err(CredentialsRefusal::Behind);
    }
    let validity = Validity {
        from: clock::calendar(),
        lifetime: directory.settings().certificate_lifetime(),
    };
    let issued = keys::open_authority(&directory, &trust.seals).and_then(|authority| {
        let whose = (directory.group().id, from);
        keys::issue(&authority, whose, &Reached::of(server), requests, validity)
    });
    match issued {
        Ok(pair) => Ok(CredentialsAnswer::Certificates {
            peer: pair.peer.certificate.to_vec(),
            client: pair.client.certificate.to_vec(),
        }),
        Err(error) => Err(CredentialsRefusal::Invalid {
            why: peer::InFull(&error).to_string(),
        }),
    }
}
