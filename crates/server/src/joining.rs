//! `stead join`: this machine becomes a member of the group that made the code.
//!
//! Nothing is stored before the group has agreed, and the identity is written last: an attempt that was refused or
//! interrupted leaves a folder with which another can be made.

use crate::clock;
use crate::endpoint::{self, EndpointError, Listen};
use crate::found::{InitError, VERSION, prepare_folder};
use crate::identity::{Endpoint, Identity, IdentityError, KnownMember};
use crate::keys;
use crate::random::NoRandomness;
use model::{FEATURE_LEVEL, GroupName, IncarnationId, ServerId, ServerName, Standing};
use peer::join::{Applicant, JoinError, Joined};
use peer::tls::TlsBasis;
use peer::trust_store::TrustStore;
use replica::disk::{RealDisk, SharedDisk};
use replica::formation::{self, FormationError};
use replica::{LogOptions, LogOwner};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use wire::join::{JoinCode, JoinGrant, JoinRefusal};

/// The pause before the group is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// What `stead join` was asked for.
#[derive(Debug)]
pub struct JoinOptions {
    /// The data folder.
    pub data: PathBuf,
    /// The join code.
    pub code: JoinCode,
    /// The server's name.
    pub name: ServerName,
    /// Where other servers reach it; port 0 for any.
    pub peer: String,
    /// Where clients reach it; port 0 for any.
    pub client: String,
    /// Where it listens, if not where it is reached.
    pub listen: Listen,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinDone {
    /// The group.
    pub group_name: GroupName,
    /// This server.
    pub server: ServerId,
    /// The other members, by name.
    pub members: Vec<String>,
    /// What this server is.
    pub standing: Standing,
    /// Where other servers reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub client_address: String,
}

/// Why joining failed.
#[derive(Debug, thiserror::Error)]
pub enum JoiningError {
    /// The data folder belongs to a server or cannot be made.
    #[error(transparent)]
    Folder(#[from] InitError),
    /// The identity cannot be stored.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// An address.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The peer port cannot be used.
    #[error("the peer port cannot be used")]
    Port(#[source] io::Error),
    /// Randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The group refused, or was not reached.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The keys cannot be stored.
    #[error("the keys cannot be stored")]
    Trust(#[from] peer::files::WriteError),
    /// The place for the directory cannot be made.
    #[error("the place for the directory cannot be made")]
    Replica(#[from] FormationError),
}

/// Asks to be admitted, and again while what stands in the way is passing.
async fn ask(
    code: &JoinCode,
    applicant: &mut Applicant,
    ports: &[TcpListener],
) -> Result<Joined, JoinError> {
    let began = Instant::now();
    loop {
        applicant.clock = clock::calendar();
        let refused = match peer::join::join(code, applicant, ports, &TlsBasis::default()).await {
            Err(JoinError::Refused(refused)) => refused,
            settled => return settled,
        };
        if began.elapsed() >= patience(&refused) {
            return Err(JoinError::Refused(refused));
        }
        tracing::info!(%refused, "the group does not admit this server yet; it is asked again");
        sleep(AGAIN).await;
    }
}

/// How long what stands in the way of joining may take to pass by itself.
fn patience(refused: &JoinRefusal) -> Duration {
    match refused {
        // Servers join one after the other; a new primary is found.
        JoinRefusal::Busy { .. } | JoinRefusal::NoPrimary { .. } => Duration::from_secs(20),
        // A member that has just been started opens its port in a moment.
        JoinRefusal::Unreachable { .. } | JoinRefusal::CannotReach { .. } => Duration::from_secs(5),
        _ => Duration::ZERO,
    }
}

/// Who a server is once the group has granted that it is a member.
pub(crate) fn identity_of(
    applicant: Applicant,
    grant: &JoinGrant,
    (peer, client): (Endpoint, Endpoint),
) -> Identity {
    let known = grant.members.iter().map(|member| KnownMember {
        server: member.server,
        peer_address: member.peer_address.clone(),
    });
    Identity {
        format: Identity::FORMAT,
        name: applicant.name,
        server: applicant.server,
        group: grant.group,
        group_name: grant.group_name.clone(),
        standing: grant.standing,
        incarnation: applicant.incarnation,
        peer,
        client,
        members: known.collect(),
    }
}

/// Joins a group.
///
/// # Errors
/// What stands in the way; the data folder can then be used for another attempt.
pub async fn join(options: JoinOptions) -> Result<JoinDone, JoiningError> {
    let data = options.data.as_path();
    prepare_folder(data)?;
    let client = endpoint::choose(&options.client, options.listen.client.as_deref())?;
    let peer = endpoint::choose(&options.peer, options.listen.peer.as_deref())?;
    let mut ports = Vec::new();
    for port in endpoint::bind_all(&peer.listen)? {
        ports.push(TcpListener::from_std(port).map_err(JoiningError::Port)?);
    }
    let mut applicant = Applicant {
        server: keys::fresh(ServerId::from_bytes)?,
        incarnation: keys::fresh(IncarnationId::from_bytes)?,
        name: options.name,
        peer_address: peer.advertise.clone(),
        client_address: client.advertise.clone(),
        version: VERSION.to_owned(),
        feature_level: FEATURE_LEVEL,
        clock: clock::calendar(),
        standalone: true,
        live_sessions: 0,
    };
    let Joined { grant, trust } = ask(&options.code, &mut applicant, &ports).await?;
    TrustStore::of(data).replace(&trust)?;
    let disk: SharedDisk = Arc::new(RealDisk);
    let owner = LogOwner {
        formation: grant.formation.id,
        incarnation: applicant.incarnation,
    };
    let size = LogOptions::default().segment_size;
    formation::join(&disk, data, owner, size, None)?;
    formation::select(&disk, data, grant.formation.id)?;
    let identity = identity_of(applicant, &grant, (peer, client));
    identity.save(data)?;
    Ok(JoinDone {
        group_name: grant.group_name,
        server: identity.server,
        members: grant
            .members
            .into_iter()
            .map(|member| member.name.to_string())
            .collect(),
        standing: grant.standing,
        peer_address: identity.peer.advertise,
        client_address: identity.client.advertise,
    })
}
