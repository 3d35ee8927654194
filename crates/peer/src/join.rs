//! Joining a group: the new server's side.
//!
//! What must always be true: nothing is sent to anybody but a member of the group whose authority's
//! fingerprint is in the join code, and the one-time secret is proved to it, not sent; what is granted is
//! taken only when it is complete, consistent and really from that group.

use crate::admit::{DECISION_TIME, JOIN_ANSWER_LIMIT, JoinRole, JoinStatement, REACH_TIME};
use crate::dial::{DialError, PeerStream, dial_joining};
use crate::fingerprint::Fingerprint;
use crate::granted::{GrantError, NewKeys};
use crate::hello::exporter;
use crate::identity::CertificateFacts;
use crate::in_full::InFull;
use crate::key::{KeyError, PrivateKey};
use crate::listener::Unproved;
use crate::message::{ReceiveError, receive, send};
use crate::seal::{SealKey, SealKeys};
use crate::secret::{GroupSecrets, Secret};
use crate::socket::Socket;
use crate::tls::{TlsBasis, TlsError};
use crate::trust_store::Trust;
use futures_util::future::join_all;
use model::{IncarnationId, ServerId, ServerName, UnixMillis};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use wire::hello::PROTOCOL;
use wire::join::{
    EXPORTER_LABEL, JoinAnswer, JoinCode, JoinGrant, JoinRefusal, JoinRequest, Member, ReachReport,
    Unreached,
};
use zeroize::Zeroizing;

/// How long each member may take to be reached.
const MEMBER_TIME: Duration = Duration::from_secs(5);

/// What a server says of itself when it wants to join.
#[derive(Debug, Clone)]
pub struct Applicant {
    /// The id that it made for itself.
    pub server: ServerId,
    /// The life of its log.
    pub incarnation: IncarnationId,
    /// Its name.
    pub name: ServerName,
    /// Where other servers will reach it, `host:port`.
    pub peer_address: String,
    /// Where clients will reach it, `host:port`.
    pub client_address: String,
    /// The version of its program.
    pub version: String,
    /// The newest feature level that it can work at.
    pub feature_level: u32,
    /// Its clock.
    pub clock: UnixMillis,
    /// Whether it is standalone.
    pub standalone: bool,
    /// How many sessions it hosts.
    pub live_sessions: u64,
}

/// What a server has once it is a member.
#[derive(Debug)]
pub struct Joined {
    /// What was granted.
    pub grant: JoinGrant,
    /// Keys and certificates, to be kept with [`crate::trust_store::TrustStore::replace`].
    pub trust: Trust,
}

/// Why joining failed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// A key could not be made.
    #[error("a key could not be made")]
    Key(#[from] KeyError),
    /// TLS could not be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    /// The join code names no address.
    #[error("the join code names no member; make a new one with `stead group invite`")]
    NoAddress,
    /// No member of the code could be reached.
    #[error("no member of the join code could be reached; what was seen at the last one")]
    Unreachable(#[source] Box<DialError>),
    /// The group refused.
    #[error("{0}")]
    Refused(JoinRefusal),
    /// The connection cannot be bound to a proof.
    #[error("the connection cannot be bound to a proof")]
    Exporter(#[source] rustls::Error),
    /// The connection broke.
    #[error(
        "the connection to the member broke; find out with `stead group list` there whether this server was admitted"
    )]
    Broken(#[source] io::Error),
    /// The member's answer could not be read.
    #[error("the member's answer cannot be read")]
    Receive(#[from] ReceiveError),
    /// The member was too slow.
    #[error(
        "the member did not answer in time; find out with `stead group list` there whether this server was admitted"
    )]
    TooSlow,
    /// The member did not prove that it knows the one-time secret.
    #[error("the member did not prove that it made the join code")]
    Unproved,
    /// What was granted is inconsistent.
    #[error("what the member granted cannot be used")]
    Grant(#[from] GrantError),
}

/// Joins the group that made `code`.
///
/// On `ports`, which are this server's peer ports, it answers members that try to reach it, until joining is over.
///
/// # Errors
/// When no member is reached, the group refuses, or its answer cannot be trusted. Nothing was stored.
pub async fn join(
    code: &JoinCode,
    applicant: &Applicant,
    ports: &[TcpListener],
    basis: &TlsBasis,
) -> Result<Joined, JoinError> {
    let probe = PrivateKey::make()?;
    let config = basis.probed_server(&probe)?;
    let keys = Keys {
        own: NewKeys::make()?,
        probe: Fingerprint::of(&probe.public_key()),
    };
    let probes = ports.iter();
    let probes = probes.map(|port| answer_probes(port, Arc::clone(&config)));
    let answering = async {
        join_all(probes).await;
        std::future::pending::<std::convert::Infallible>().await
    };
    let always = || Ok(());
    tokio::select! {
        outcome = ask_all(code, applicant, &keys, &always, basis) => outcome,
        never = answering => match never {},
    }
}

/// Joins the group that made `code` from a server that runs, and so has its peer port open: members that try to reach it are
/// shown the certificate with `shown` (SHA-256 of its public key). `still` is asked last, right before the group makes a member
/// of it.
///
/// # Errors
/// As [`join`]; what `still` refuses leaves the group as it was.
pub async fn join_running(
    code: &JoinCode,
    applicant: &Applicant,
    shown: Fingerprint,
    still: &(dyn Fn() -> Result<(), JoinRefusal> + Sync),
    basis: &TlsBasis,
) -> Result<Joined, JoinError> {
    let keys = Keys {
        own: NewKeys::make()?,
        probe: shown,
    };
    ask_all(code, applicant, &keys, still, basis).await
}

struct Keys {
    own: NewKeys,
    /// What members that try to reach it are shown.
    probe: Fingerprint,
}

/// Asks one member after the other until one decides.
async fn ask_all(
    code: &JoinCode,
    applicant: &Applicant,
    keys: &Keys,
    still: &(dyn Fn() -> Result<(), JoinRefusal> + Sync),
    basis: &TlsBasis,
) -> Result<Joined, JoinError> {
    let mut last = JoinError::NoAddress;
    for address in &code.addresses {
        match ask(code, applicant, (keys, still), address, basis).await {
            Err(JoinError::Unreachable(error)) => last = JoinError::Unreachable(error),
            Err(JoinError::Refused(refusal @ JoinRefusal::NoPrimary { .. })) => {
                last = JoinError::Refused(refusal);
            }
            decided => return decided,
        }
    }
    Err(last)
}

/// Asks one member.
async fn ask(
    code: &JoinCode,
    applicant: &Applicant,
    (keys, still): (&Keys, &(dyn Fn() -> Result<(), JoinRefusal> + Sync)),
    address: &str,
    basis: &TlsBasis,
) -> Result<Joined, JoinError> {
    let pinned = Fingerprint::from_bytes(code.authority);
    let mut stream = dial_joining(basis.joining_client(pinned)?, address, MEMBER_TIME)
        .await
        .map_err(|error| JoinError::Unreachable(Box::new(error)))?;
    let statement = JoinStatement {
        exporter: exporter(&stream, EXPORTER_LABEL).map_err(JoinError::Exporter)?,
        invitation: code.invitation,
        server: applicant.server,
    };
    let (peer_request, client_request) = keys.own.requests()?;
    let request = JoinRequest {
        protocol: PROTOCOL,
        invitation: code.invitation,
        proof: statement.prove(&code.secret, JoinRole::Joining),
        server: applicant.server,
        incarnation: applicant.incarnation,
        name: applicant.name.clone(),
        peer_address: applicant.peer_address.clone(),
        client_address: applicant.client_address.clone(),
        version: applicant.version.clone(),
        feature_level: applicant.feature_level,
        clock: applicant.clock,
        peer_request,
        client_request,
        standalone: applicant.standalone,
        live_sessions: applicant.live_sessions,
        probe_key: *keys.probe.as_bytes(),
    };
    send(&mut stream, &request)
        .await
        .map_err(JoinError::Broken)?;
    let mut reached = false;
    loop {
        match next_answer(&mut stream).await? {
            JoinAnswer::Refused(refusal) => return Err(JoinError::Refused(refusal)),
            JoinAnswer::Reach { proof, members } => {
                if reached || !statement.holds(&code.secret, JoinRole::Admitting, &proof) {
                    return Err(JoinError::Unproved);
                }
                reached = true;
                let report = ReachReport {
                    unreached: reach(&members, pinned, basis).await,
                };
                still().map_err(JoinError::Refused)?;
                send(&mut stream, &report)
                    .await
                    .map_err(JoinError::Broken)?;
            }
            JoinAnswer::Granted(grant) => {
                if !statement.holds(&code.secret, JoinRole::Admitting, &grant.proof) {
                    return Err(JoinError::Unproved);
                }
                let trust = accept(&grant, applicant.server, keys, pinned, basis)?;
                return Ok(Joined {
                    grant: *grant,
                    trust,
                });
            }
        }
    }
}

async fn next_answer(stream: &mut PeerStream) -> Result<JoinAnswer, JoinError> {
    // The member decides twice at most, and leaves itself a margin.
    timeout(2 * DECISION_TIME, receive(stream, JOIN_ANSWER_LIMIT))
        .await
        .map_err(|_| JoinError::TooSlow)?
        .map_err(JoinError::Receive)
}

/// Tries to reach all members at once; gives those that it could not reach.
async fn reach(members: &[Member], pinned: Fingerprint, basis: &TlsBasis) -> Vec<Unreached> {
    let tries = members.iter().map(async |member| {
        let why = match timeout(REACH_TIME / 2, reach_one(member, pinned, basis)).await {
            Ok(Ok(())) => return None,
            Ok(Err(why)) => why,
            Err(_) => "it did not answer in time".to_owned(),
        };
        Some(Unreached {
            server: member.server,
            why,
        })
    });
    join_all(tries).await.into_iter().flatten().collect()
}

async fn reach_one(member: &Member, pinned: Fingerprint, basis: &TlsBasis) -> Result<(), String> {
    let config = basis
        .joining_client(pinned)
        .map_err(|error| error.to_string())?;
    let mut stream = dial_joining(config, &member.peer_address, MEMBER_TIME)
        .await
        .map_err(|error| InFull(&error).to_string())?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let shown = chain
        .first()
        .and_then(|der| CertificateFacts::read(der).ok());
    let found = shown.is_some_and(|facts| facts.name.server == member.server);
    let _ = timeout(MEMBER_TIME, stream.shutdown()).await;
    if found {
        Ok(())
    } else {
        Err("another server answers there".to_owned())
    }
}

/// Checks what was granted and makes of it what is to be kept.
fn accept(
    grant: &JoinGrant,
    server: ServerId,
    keys: &Keys,
    pinned: Fingerprint,
    basis: &TlsBasis,
) -> Result<Trust, GrantError> {
    let authorities: Vec<_> = grant
        .authorities
        .iter()
        .map(|der| CertificateDer::from(der.clone()))
        .collect();
    if !authorities.iter().any(|it| Fingerprint::of(it) == pinned) {
        return Err(GrantError::Authority);
    }
    let granted = keys.own.take(
        (&grant.peer_certificate, &grant.client_certificate),
        (grant.group, server),
        &authorities,
        basis,
    )?;
    Ok(Trust {
        peer: granted.peer,
        client: granted.client,
        secrets: GroupSecrets::only(Secret::from_bytes(Zeroizing::new(grant.group_secret))),
        seals: SealKeys::from_keys(
            grant
                .seal_key
                .map(|key| SealKey::from_bytes(Zeroizing::new(key))),
        ),
        authorities,
        former: Vec::new(),
        links: Vec::new(),
    })
}

/// Answers members that try whether they reach this server, until it is dropped.
async fn answer_probes(port: &TcpListener, config: Arc<ServerConfig>) -> std::convert::Infallible {
    let acceptor = TlsAcceptor::from(config);
    let unproved = Unproved::new(16);
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = port.accept() => accepted,
            Some(_) = tasks.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let place = unproved.place();
        let number = place.number;
        let acceptor = acceptor.clone();
        let task = tasks.spawn(async move {
            let _place = place;
            let Ok(socket) = Socket::new(stream) else {
                return;
            };
            if let Ok(Ok(mut stream)) = timeout(MEMBER_TIME, acceptor.accept(socket)).await {
                let _ = timeout(MEMBER_TIME, stream.shutdown()).await;
            }
        });
        unproved.seat(number, task);
    }
}

#[cfg(test)]
mod tests;
