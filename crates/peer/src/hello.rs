//! The hello: after TLS both ends prove the group secret and say who they are.
//!
//! Each proof is HMAC-SHA256 under the group secret over the TLS exporter of this very connection, the
//! prover's role, both ids and the group: it is worth nothing on another connection, in the other role or
//! between other servers. A certificate alone opens nothing, and neither does the secret alone.
//!
//! Before the hello is over at most [`HELLO_LIMIT`] bytes are read, within [`HELLO_TIME`]. Start at
//! [`dial_hello`] and [`answer_hello`].

use crate::identity::{CertificateFacts, CertificateFactsError};
use crate::message::{ReceiveError, receive, send};
use crate::secret::{GroupSecrets, Secret};
use crate::tls::PeerTls;
use model::{GroupId, KeyMark, ServerId};
use rustls::pki_types::CertificateDer;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use wire::hello::{
    EXPORTER_LABEL, Hello, HelloAnswer, HelloRefusal, Introduction, PROTOCOL, Purpose,
};

/// How long the hello may take.
pub const HELLO_TIME: Duration = Duration::from_secs(5);

/// The most bytes of a hello or its answer.
pub const HELLO_LIMIT: usize = 16 * 1024;

/// The most formations that an introduction may name.
pub const LINEAGE_LIMIT: usize = 64;

/// The oldest protocol that is still spoken.
const OLDEST_PROTOCOL: u16 = 1;

/// What this server knows of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Acquaintance {
    /// It is a member.
    Member,
    /// Its id is in no record: it may have joined while this server was away.
    Unknown,
    /// It was removed.
    Removed,
    /// It was removed as far as this server knows, which has been away and may be wrong.
    Doubtful,
}

/// What connections ask of the server above, anew for each: it must answer at once.
pub trait Outlook: Send + Sync + 'static {
    /// What this server says of itself now.
    fn introduction(&self) -> Introduction;

    /// What it knows of that server.
    fn acquaintance(&self, server: ServerId) -> Acquaintance;

    /// The feature level that the group works at.
    fn feature_level(&self) -> u32;

    /// What it knows of a key of that server's peer certificates.
    fn key(&self, server: ServerId, key: KeyMark) -> KeyStanding;
}

/// What is known of a key that a server shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyStanding {
    /// It is the newest that the server said it has.
    Newest,
    /// It is refused: its certificates were revoked.
    Revoked,
    /// Nothing is known of it.
    Unknown,
}

/// Which secret was proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proved {
    /// The one in force.
    Current,
    /// The one before, while it rotates: that server has to fetch the current one.
    Previous,
    /// One that is not in force any more: that server may fetch the current one, and nothing else.
    Old,
}

/// Who is at the other end, once both proofs held.
#[derive(Debug, Clone)]
pub struct Met {
    /// What it says of itself; its ids are those of its certificate.
    pub introduction: Introduction,
    /// What this server knows of it.
    pub acquaintance: Acquaintance,
    /// What the connection is for. From a server that is unknown here it is always consensus.
    pub purpose: Purpose,
    /// Which secret was proved.
    pub proved: Proved,
    /// The protocol that both speak.
    pub protocol: u16,
    /// Whether it showed what is out of date: a certificate that has expired, is revoked or of a former authority, or a secret of before.
    /// Such a server may bring itself up to date, and have nothing else.
    pub out_of_date: bool,
    /// Whether the key of its certificate is the one that the directory has of it: whoever knows the authority's key could make
    /// himself a certificate with any other.
    pub known_key: bool,
}

/// Why a hello failed.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// It took longer than [`HELLO_TIME`].
    #[error("the other server did not finish its hello within {} s", HELLO_TIME.as_secs())]
    TooSlow,
    /// Its message could not be read.
    #[error("the other server's hello cannot be read")]
    Receive(#[from] ReceiveError),
    /// The message could not be sent.
    #[error("the connection broke during the hello")]
    Send(#[source] io::Error),
    /// TLS could not give what the proofs are bound to.
    #[error("the connection cannot be bound to a proof")]
    Exporter(#[source] rustls::Error),
    /// TLS showed no certificate of a server.
    #[error("the other server showed no certificate that names it")]
    Certificate(#[from] CertificateFactsError),
    /// The other server refused.
    #[error("the other server refused: {0}")]
    RefusedThere(HelloRefusal),
    /// This server refused.
    #[error("refused: {0}")]
    RefusedHere(HelloRefusal),
}

/// 32 bytes that both ends of this TLS connection have, and nobody else.
pub(crate) fn exporter<S>(
    stream: &tokio_rustls::TlsStream<S>,
    label: &[u8],
) -> Result<[u8; 32], rustls::Error> {
    match stream {
        tokio_rustls::TlsStream::Client(inner) => inner
            .get_ref()
            .1
            .export_keying_material([0; 32], label, None),
        tokio_rustls::TlsStream::Server(inner) => inner
            .get_ref()
            .1
            .export_keying_material([0; 32], label, None),
    }
}

/// What a hello is bound to: this TLS connection, and the certificate that its other end showed.
pub(crate) struct Binding {
    exporter: [u8; 32],
    certificate: CertificateFacts,
    /// Whether that certificate was valid until some time ago.
    expired: bool,
    /// Whether an authority issued it that is not accepted any more.
    former: bool,
}

impl Binding {
    /// The binding of an established TLS connection whose other end showed a certificate.
    pub(crate) fn of<S>(
        stream: &tokio_rustls::TlsStream<S>,
        tls: &PeerTls,
    ) -> Result<Self, HelloError> {
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let end_entity = chain.first().map_or(&[][..], CertificateDer::as_ref);
        let certificate = CertificateFacts::read(end_entity)?;
        let intermediates = chain.get(1..).unwrap_or_default();
        Ok(Self {
            former: tls.is_former(
                &CertificateDer::from(end_entity),
                intermediates,
                &certificate,
            ),
            exporter: exporter(stream, EXPORTER_LABEL).map_err(HelloError::Exporter)?,
            expired: tls.has_expired(&certificate),
            certificate,
        })
    }
}

#[derive(Clone, Copy)]
enum Role {
    Dialler,
    Answerer,
}

/// What a proof says besides the secret. Every part has a fixed length.
struct Statement<'a> {
    binding: &'a Binding,
    dialler: ServerId,
    answerer: ServerId,
    group: GroupId,
}

impl Statement<'_> {
    fn with<R>(&self, role: Role, use_parts: impl FnOnce(&[&[u8]]) -> R) -> R {
        let role: &[u8] = match role {
            Role::Dialler => b"dialler ",
            Role::Answerer => b"answerer",
        };
        use_parts(&[
            b"stead hello 1 ",
            role,
            &self.binding.exporter,
            self.dialler.as_bytes(),
            self.answerer.as_bytes(),
            self.group.as_bytes(),
        ])
    }

    fn prove(&self, secret: &Secret, role: Role) -> [u8; 32] {
        self.with(role, |parts| secret.prove(parts))
    }

    fn holds(&self, secret: &Secret, role: Role, proof: &[u8; 32]) -> bool {
        self.with(role, |parts| secret.proved(parts, proof))
    }
}

/// Opens a connection as the server that dialled.
///
/// # Errors
/// When either end refuses, or the connection breaks.
pub(crate) async fn dial_hello<S>(
    stream: &mut S,
    binding: &Binding,
    outlook: &dyn Outlook,
    secret: (&Secret, Proved),
    to: ServerId,
    purpose: Purpose,
) -> Result<Met, HelloError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let conversation = async {
        let from = outlook.introduction();
        let group = from.group;
        let statement = Statement {
            binding,
            dialler: from.server,
            answerer: to,
            group,
        };
        let proof = statement.prove(secret.0, Role::Dialler);
        send(
            stream,
            &Hello {
                from,
                to,
                purpose,
                proof,
            },
        )
        .await
        .map_err(HelloError::Send)?;
        let (introduction, proof) = match receive(stream, HELLO_LIMIT).await? {
            HelloAnswer::Welcome { from, proof } => (from, proof),
            HelloAnswer::Refused(refusal) => return Err(HelloError::RefusedThere(refusal)),
        };
        let refuse = |refusal| Err(HelloError::RefusedHere(refusal));
        if outlook.key(to, binding.certificate.key) == KeyStanding::Revoked {
            return refuse(HelloRefusal::Revoked);
        }
        if let Some(refusal) = unfit(&introduction, binding, group, outlook) {
            return refuse(refusal);
        }
        if introduction.server != to {
            return refuse(HelloRefusal::OtherServer {
                meant: to,
                here: introduction.server,
            });
        }
        if !statement.holds(secret.0, Role::Answerer, &proof) {
            return refuse(HelloRefusal::Proof);
        }
        Ok(Met {
            acquaintance: outlook.acquaintance(to),
            protocol: introduction.protocol.min(PROTOCOL),
            introduction,
            purpose,
            proved: secret.1,
            out_of_date: false,
            known_key: outlook.key(to, binding.certificate.key) == KeyStanding::Newest,
        })
    };
    timeout(HELLO_TIME, conversation)
        .await
        .map_err(|_| HelloError::TooSlow)?
}

/// Opens a connection as the server that was dialled.
///
/// # Errors
/// When either end refuses, or the connection breaks. A refusal was sent.
pub(crate) async fn answer_hello<S>(
    stream: &mut S,
    binding: &Binding,
    outlook: &dyn Outlook,
    secrets: &GroupSecrets,
) -> Result<Met, HelloError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let conversation = async {
        let hello: Hello = receive(stream, HELLO_LIMIT).await?;
        let own = outlook.introduction();
        match examine(hello, binding, &own, outlook, secrets) {
            Ok((met, proof)) => {
                let welcome = HelloAnswer::Welcome { from: own, proof };
                send(stream, &welcome).await.map_err(HelloError::Send)?;
                Ok(met)
            }
            Err(refusal) => {
                let answer = HelloAnswer::Refused(refusal.clone());
                send(stream, &answer).await.map_err(HelloError::Send)?;
                Err(HelloError::RefusedHere(refusal))
            }
        }
    };
    timeout(HELLO_TIME, conversation)
        .await
        .map_err(|_| HelloError::TooSlow)?
}

/// Decides about a hello; gives who was met and the proof to answer with.
fn examine(
    hello: Hello,
    binding: &Binding,
    own: &Introduction,
    outlook: &dyn Outlook,
    secrets: &GroupSecrets,
) -> Result<(Met, [u8; 32]), HelloRefusal> {
    let Hello {
        from,
        to,
        purpose,
        proof,
    } = hello;
    if let Some(refusal) = unfit(&from, binding, own.group, outlook) {
        return Err(refusal);
    }
    if to != own.server {
        return Err(HelloRefusal::OtherServer {
            meant: to,
            here: own.server,
        });
    }
    let statement = Statement {
        binding,
        dialler: from.server,
        answerer: own.server,
        group: own.group,
    };
    let known = [
        (Some(&secrets.current), Proved::Current),
        (secrets.previous.as_ref(), Proved::Previous),
    ];
    let old = secrets.old.iter().map(|secret| (Some(secret), Proved::Old));
    let (secret, proved) = known
        .into_iter()
        .chain(old)
        .filter_map(|(secret, which)| Some((secret?, which)))
        .find(|(secret, _)| statement.holds(secret, Role::Dialler, &proof))
        .ok_or(HelloRefusal::Proof)?;
    if proved == Proved::Old && purpose != Purpose::Credentials {
        return Err(HelloRefusal::OldSecret);
    }
    if binding.expired && purpose != Purpose::Credentials {
        return Err(HelloRefusal::Expired);
    }
    if let Some(refusal) = unfit_key(from.server, binding, purpose, outlook) {
        return Err(refusal);
    }
    let acquaintance = outlook.acquaintance(from.server);
    if acquaintance == Acquaintance::Unknown && purpose != Purpose::Consensus {
        return Err(HelloRefusal::Unknown);
    }
    let answer = statement.prove(secret, Role::Answerer);
    let standing = outlook.key(from.server, binding.certificate.key);
    let protocol = from.protocol.min(PROTOCOL);
    Ok((
        Met {
            introduction: from,
            acquaintance,
            purpose,
            proved,
            protocol,
            out_of_date: is_out_of_date(proved, binding, standing),
            known_key: standing == KeyStanding::Newest,
        },
        answer,
    ))
}

/// Whether something that was shown holds no more.
fn is_out_of_date(proved: Proved, binding: &Binding, standing: KeyStanding) -> bool {
    let revoked = standing == KeyStanding::Revoked;
    proved == Proved::Old || binding.expired || binding.former || revoked
}

/// What is refused because of the key that was shown, or of who issued its certificate.
fn unfit_key(
    from: ServerId,
    binding: &Binding,
    purpose: Purpose,
    outlook: &dyn Outlook,
) -> Option<HelloRefusal> {
    let standing = outlook.key(from, binding.certificate.key);
    let other = purpose != Purpose::Credentials;
    match standing {
        KeyStanding::Revoked if other => Some(HelloRefusal::Revoked),
        // Somebody who left may know that authority's key, but not the member's own.
        KeyStanding::Unknown | KeyStanding::Revoked if binding.former => {
            Some(HelloRefusal::UnknownKey)
        }
        _ if binding.former && other => Some(HelloRefusal::FormerAuthority),
        _ => None,
    }
}

/// What either end refuses before it looks at the proof: none of it tells a stranger anything, since only a
/// certificate of the group leads here.
fn unfit(
    other: &Introduction,
    binding: &Binding,
    group: GroupId,
    outlook: &dyn Outlook,
) -> Option<HelloRefusal> {
    if other.protocol < OLDEST_PROTOCOL {
        return Some(HelloRefusal::Protocol {
            offered: other.protocol,
            spoken: PROTOCOL,
        });
    }
    if other.group != group || binding.certificate.name.group != group {
        return Some(HelloRefusal::OtherGroup);
    }
    if other.server != binding.certificate.name.server {
        return Some(HelloRefusal::Certificate);
    }
    if other.lineage.len() > LINEAGE_LIMIT {
        return Some(HelloRefusal::Malformed);
    }
    match outlook.acquaintance(other.server) {
        Acquaintance::Removed => return Some(HelloRefusal::Removed),
        Acquaintance::Doubtful => return Some(HelloRefusal::Unknown),
        Acquaintance::Member | Acquaintance::Unknown => {}
    }
    let needed = outlook.feature_level();
    if other.feature_level < needed {
        return Some(HelloRefusal::FeatureLevel {
            offered: other.feature_level,
            needed,
        });
    }
    None
}

/// What a server needs to open connections to others and to answer theirs.
#[derive(Clone)]
pub struct Endpoint {
    /// Certificates, keys and the group secret.
    pub tls: Arc<PeerTls>,
    /// What the server above knows.
    pub outlook: Arc<dyn Outlook>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
