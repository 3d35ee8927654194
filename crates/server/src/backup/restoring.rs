//! Making a new group of one of a backup.
//!
//! Always true: the group has an id, a formation and an authority of its own, so that nobody takes it for the one that the backup is of,
//! and its server is a new one; what is in the way is found before anything is written, and who the server is is written last, so that an
//! attempt that ended half-way is made again.

use super::{BackupError, Header, reading};
use crate::clock;
use crate::endpoint::{self, Listen};
use crate::found::{self, InitError};
use crate::identity::Identity;
use crate::keys;
use crate::reset::kept::{self, Told};
use model::{
    EventKind, GroupId, GroupName, IncarnationId, ServerId, ServerName, Standing, directory,
};
use peer::seal::SealKeys;
use peer::trust_store::TrustStore;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use wire::client::Hidden;

/// What to restore, and as what.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The backup.
    pub file: PathBuf,
    /// What it was sealed with.
    pub passphrase: Hidden,
    /// The data folder; no server has it yet.
    pub data: PathBuf,
    /// The server's name.
    pub name: ServerName,
    /// The group's name; as it was when absent.
    pub group: Option<GroupName>,
    /// Where other servers reach it, `host:port`.
    pub peer: String,
    /// Where clients reach it, `host:port`.
    pub client: String,
    /// Where it listens, if not where it is reached.
    pub listen: Listen,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What the backup says of itself.
    pub from: Header,
    /// The new group's name.
    pub group_name: GroupName,
    /// Its id.
    pub group: GroupId,
    /// The server's id.
    pub server: ServerId,
    /// `sha256:HEX` of the group's authority.
    pub ca_fingerprint: String,
    /// Where other servers reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// How many accounts there are.
    pub users: usize,
    /// How many applications.
    pub apps: usize,
    /// The stored secrets whose values are lost, by name.
    pub lost_secrets: Vec<String>,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup.
    #[error("{} cannot be restored", file.display())]
    Backup {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: Box<BackupError>,
    },
    /// The new group.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The records.
    #[error("what the backup holds makes no directory")]
    Directory(#[from] directory::LoadError),
}

/// Restores; the server can be started then.
///
/// # Errors
/// What stands in the way; the data folder can then be used for another attempt.
pub fn restore(options: RestoreOptions) -> Result<Restored, RestoreError> {
    let failed = |source: BackupError| RestoreError::Backup {
        file: options.file.clone(),
        source: Box::new(source),
    };
    let file = File::open(&options.file).map_err(|error| failed(error.into()))?;
    let passphrase = options.passphrase.0.as_bytes();
    let (from, directory, keys) =
        reading::read(BufReader::new(file), passphrase).map_err(failed)?;
    let data = options.data.as_path();
    found::prepare_folder(data)?;
    let now = clock::calendar();
    let identity = Identity {
        format: Identity::FORMAT,
        name: options.name,
        server: keys::fresh(ServerId::from_bytes).map_err(InitError::from)?,
        group: keys::fresh(GroupId::from_bytes).map_err(InitError::from)?,
        group_name: options
            .group
            .unwrap_or_else(|| directory.group().name.clone()),
        standing: Standing::Voter,
        incarnation: keys::fresh(IncarnationId::from_bytes).map_err(InitError::from)?,
        peer: endpoint::choose(&options.peer, options.listen.peer.as_deref())
            .map_err(InitError::from)?,
        client: endpoint::choose(&options.client, options.listen.client.as_deref())
            .map_err(InitError::from)?,
        members: Vec::new(),
    };
    let made = found::found_trust(&identity, now)?;
    let new = made.trust.seals.get(made.seal.mark);
    let new = new.expect("invariant: the founder of a group makes its seal key");
    let old = SealKeys::only(keys.seal.clone());
    let kept =
        keys::seal_again(&directory, &old, (identity.group, new)).map_err(InitError::from)?;
    let founder = found::first_server(&identity, made.certificate_expires, now);
    let formation = found::first_formation(identity.server, now).map_err(InitError::from)?;
    let told = Told {
        kind: EventKind::GroupRestored,
        name: Some(identity.group_name.clone()),
        by: format!("stead restore on {}", identity.name),
        reason: Some(format!("a backup of {}", from.made)),
        certificates_lost: kept::certificates_lost(&directory, &kept),
    };
    let ca_fingerprint = made.authority.fingerprint.clone();
    let next = kept::alone(
        &kept,
        (founder, identity.group),
        (made.authority, made.secret, made.seal),
        formation,
        told,
    )?;
    TrustStore::of(data)
        .replace(&made.trust)
        .map_err(InitError::from)?;
    found::found_directory(data, &identity, &next).map_err(InitError::from)?;
    identity.save(data).map_err(InitError::from)?;
    let lost = next.secrets().filter(|secret| secret.is_lost());
    Ok(Restored {
        from,
        group: identity.group,
        server: identity.server,
        ca_fingerprint,
        peer_address: identity.peer.advertise,
        client_address: identity.client.advertise,
        users: next.users().count(),
        apps: next.apps().count(),
        lost_secrets: lost.map(|secret| secret.name.to_string()).collect(),
        group_name: identity.group_name,
    })
}
