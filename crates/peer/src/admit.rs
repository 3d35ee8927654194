//! Letting a server join: the member's side. What is allowed is decided above, by [`Admission`].
//!
//! The conversation, over TLS on which only the member has shown a certificate: the new server proves the
//! one-time secret; the member proves it too and names everybody who must be reachable; the new server says
//! whom it could not reach; the member grants or refuses.

use crate::dial::{DialError, dial_joining};
use crate::fingerprint::Fingerprint;
use crate::hello::exporter;
use crate::in_full::InFull;
use crate::key::REQUEST_LIMIT;
use crate::listener::Place;
use crate::message::{ReceiveError, receive, send};
use crate::secret::{prove, proved};
use crate::tls::TlsBasis;
use model::{InvitationId, ServerId};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsStream;
use wire::hello::PROTOCOL;
use wire::join::{
    EXPORTER_LABEL, JoinAnswer, JoinGrant, JoinRefusal, JoinRequest, Member, ReachReport, Unreached,
};
use zeroize::Zeroizing;

/// The most bytes of a request to join.
pub const JOIN_REQUEST_LIMIT: usize = 32 * 1024;

/// The most bytes of an answer to it, and of the report of who was reached.
pub const JOIN_ANSWER_LIMIT: usize = 256 * 1024;

/// How long a new server may take to try whom it can reach.
pub const REACH_TIME: Duration = Duration::from_secs(30);

/// How long a member may take to examine or to grant.
pub const DECISION_TIME: Duration = Duration::from_secs(60);

/// Decides who may join. The methods are called in this order, each after the one before it agreed.
pub trait Admission: Send + Sync + 'static {
    /// The one-time secret of an open invitation.
    fn invitation(
        &self,
        invitation: InvitationId,
    ) -> impl Future<Output = Result<Zeroizing<[u8; 16]>, JoinRefusal>> + Send;

    /// Checks everything that can be checked before a member is made, whether members reach the new server
    /// included; gives the members that it must reach. The request has proved the one-time secret.
    fn examine(
        &self,
        request: &JoinRequest,
        from: SocketAddr,
    ) -> impl Future<Output = Result<Vec<Member>, JoinRefusal>> + Send;

    /// Makes it a member, unless it could not reach somebody. The `proof` of what is granted is filled in
    /// afterwards.
    fn admit(
        &self,
        request: JoinRequest,
        unreached: Vec<Unreached>,
    ) -> impl Future<Output = Result<JoinGrant, JoinRefusal>> + Send;
}

/// Who proves the one-time secret.
#[derive(Clone, Copy)]
pub(crate) enum JoinRole {
    Joining,
    Admitting,
}

/// What a proof of the one-time secret says. Every part has a fixed length.
pub(crate) struct JoinStatement {
    pub(crate) exporter: [u8; 32],
    pub(crate) invitation: InvitationId,
    pub(crate) server: ServerId,
}

impl JoinStatement {
    fn with<R>(&self, role: JoinRole, use_parts: impl FnOnce(&[&[u8]]) -> R) -> R {
        let role: &[u8] = match role {
            JoinRole::Joining => b"joining  ",
            JoinRole::Admitting => b"admitting",
        };
        use_parts(&[
            b"stead join 1 ",
            role,
            &self.exporter,
            self.invitation.as_bytes(),
            self.server.as_bytes(),
        ])
    }

    pub(crate) fn prove(&self, secret: &[u8; 16], role: JoinRole) -> [u8; 32] {
        self.with(role, |parts| prove(secret, parts))
    }

    pub(crate) fn holds(&self, secret: &[u8; 16], role: JoinRole, proof: &[u8; 32]) -> bool {
        self.with(role, |parts| proved(secret, parts, proof))
    }
}

/// Why a conversation about joining ended without an answer.
#[derive(Debug, thiserror::Error)]
enum Abandoned {
    #[error("the connection cannot be bound to a proof")]
    Exporter(#[source] rustls::Error),
    #[error("the new server's message cannot be read")]
    Receive(#[from] ReceiveError),
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    #[error("the new server was too slow")]
    TooSlow,
}

/// Answers a server that wants to join. `place` is given up once it has proved the one-time secret, which it
/// must do before `deadline`.
pub(crate) async fn answer_joining<S, A>(
    mut stream: TlsStream<S>,
    admission: &A,
    from: SocketAddr,
    deadline: Instant,
    place: Place,
    joining: &Semaphore,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    A: Admission,
{
    let outcome = converse(&mut stream, admission, from, deadline, place, joining).await;
    match outcome {
        Ok(Ok(server)) => tracing::info!(%from, %server, "a server joined"),
        Ok(Err(refusal)) => {
            tracing::info!(%from, %refusal, "a server was not allowed to join");
            let answer = JoinAnswer::Refused(refusal);
            let _ = timeout(DECISION_TIME, send(&mut stream, &answer)).await;
        }
        // Whoever only tries whether this server can be reached closes without a word.
        Err(Abandoned::Receive(ReceiveError::Broken(error)))
            if error.kind() == io::ErrorKind::UnexpectedEof => {}
        Err(error) => tracing::info!(%from, error = %InFull(&error), "a server gave up joining"),
    }
    let _ = timeout(Duration::from_secs(1), stream.shutdown()).await;
}

async fn converse<S, A>(
    stream: &mut TlsStream<S>,
    admission: &A,
    from: SocketAddr,
    deadline: Instant,
    place: Place,
    joining: &Semaphore,
) -> Result<Result<ServerId, JoinRefusal>, Abandoned>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    A: Admission,
{
    let exporter = exporter(stream, EXPORTER_LABEL).map_err(Abandoned::Exporter)?;
    let request: JoinRequest = timeout_at(deadline, receive(stream, JOIN_REQUEST_LIMIT))
        .await
        .map_err(|_| Abandoned::TooSlow)??;
    let (server, invitation) = (request.server, request.invitation);
    let statement = JoinStatement {
        exporter,
        invitation,
        server,
    };
    let proving = timeout_at(deadline, proven(&request, admission, &statement));
    let secret = match proving.await.map_err(|_| Abandoned::TooSlow)? {
        Ok(secret) => secret,
        Err(refusal) => return Ok(Err(refusal)),
    };
    // Only whoever proved the secret takes a turn, so that strangers cannot keep others waiting.
    let Ok(_turn) = joining.try_acquire() else {
        let server = "another server".to_owned();
        return Ok(Err(JoinRefusal::Busy { server }));
    };
    drop(place);
    let members = match in_time(admission.examine(&request, from)).await {
        Ok(members) => members,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let proof = statement.prove(&secret, JoinRole::Admitting);
    send(stream, &JoinAnswer::Reach { proof, members }).await?;
    let report: ReachReport = timeout(REACH_TIME, receive(stream, JOIN_ANSWER_LIMIT))
        .await
        .map_err(|_| Abandoned::TooSlow)??;
    let mut grant = match in_time(admission.admit(request, report.unreached)).await {
        Ok(grant) => grant,
        Err(refusal) => return Ok(Err(refusal)),
    };
    grant.proof = proof;
    send(stream, &JoinAnswer::Granted(Box::new(grant))).await?;
    Ok(Ok(server))
}

/// Checks the form of a request and that it proves the one-time secret; gives the secret.
async fn proven<A: Admission>(
    request: &JoinRequest,
    admission: &A,
    statement: &JoinStatement,
) -> Result<Zeroizing<[u8; 16]>, JoinRefusal> {
    if request.protocol == 0 {
        return Err(JoinRefusal::Protocol {
            spoken: PROTOCOL,
            offered: request.protocol,
        });
    }
    if request.peer_request.len() > REQUEST_LIMIT || request.client_request.len() > REQUEST_LIMIT {
        return Err(JoinRefusal::Invalid {
            why: "a certificate request is too long".to_owned(),
        });
    }
    let secret = admission.invitation(request.invitation).await?;
    if statement.holds(&secret, JoinRole::Joining, &request.proof) {
        Ok(secret)
    } else {
        Err(JoinRefusal::Proof)
    }
}

async fn in_time<T>(
    decision: impl Future<Output = Result<T, JoinRefusal>>,
) -> Result<T, JoinRefusal> {
    let late = || JoinRefusal::NoPrimary {
        why: format!("no decision within {} s", DECISION_TIME.as_secs()),
    };
    timeout(DECISION_TIME, decision)
        .await
        .unwrap_or_else(|_| Err(late()))
}

/// Tries whether a server that wants to join can be reached at its peer address and is the one that asked.
///
/// # Errors
/// What went wrong.
pub async fn probe(
    basis: &TlsBasis,
    address: &str,
    key: Fingerprint,
    limit: Duration,
) -> Result<(), DialError> {
    let mut stream = dial_joining(basis.probing_client(key)?, address, limit).await?;
    // It has shown the right certificate and proved its key; how the connection ends does not matter.
    let _ = timeout(limit, stream.shutdown()).await;
    Ok(())
}
